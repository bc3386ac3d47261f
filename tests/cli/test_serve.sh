#!/bin/bash
# cohort serve, from outside, with clients of Python's standard library and curl.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$COHORT" init --preset nano --tokenizer bytes --seed 1 --out "$work/nano" > /dev/null
if ! "$COHORT" serve --model "$work/none" --port 0 2> "$work/refused" && grep -q "without libmicrohttpd" "$work/refused"; then
    echo "this build has no server"
    exit 77
fi
export PYTHONDONTWRITEBYTECODE=1 COHORT
python3 "$SOURCE/tests/support/serve_basics.py" "$work/nano"
python3 "$SOURCE/tests/support/serve_fields.py" "$work/nano"
python3 "$SOURCE/tests/support/serve_forms.py" "$work/nano"
python3 "$SOURCE/tests/support/serve_storm.py" "$work/nano" 300 20 1

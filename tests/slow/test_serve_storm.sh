#!/bin/bash
# cohort serve under 10,000 bad requests, 400 cut connections, slow readers and trickling requests; twice, for what it holds on to.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$COHORT" init --preset nano --tokenizer bytes --seed 1 --out "$work/nano" > /dev/null 2>&1
"$COHORT" serve --model "$work/none" --port 0 2> "$work/refused" || ! grep -q "without libmicrohttpd" "$work/refused" || exit 77
export PYTHONDONTWRITEBYTECODE=1 COHORT
python3 "$SOURCE/tests/support/serve_storm.py" "$work/nano" "${BAD:-5000}" "${CUT:-200}" "${SEED:-1}"

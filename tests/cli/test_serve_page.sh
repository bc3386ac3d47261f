#!/bin/bash
# The page of cohort serve, in a headless Chromium where there is one.
set -eu
command -v chromium > /dev/null || command -v chromium-browser > /dev/null || command -v google-chrome > /dev/null || { echo "no Chromium here"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$COHORT" init --preset nano --tokenizer bytes --seed 1 --out "$work/nano" > /dev/null 2>&1
"$COHORT" serve --model "$work/none" --port 0 2> "$work/refused" || ! grep -q "without libmicrohttpd" "$work/refused" || exit 77
export PYTHONDONTWRITEBYTECODE=1 COHORT
python3 "$SOURCE/tests/support/serve_page.py" "$work/nano" ${PICTURES:+"$PICTURES"}

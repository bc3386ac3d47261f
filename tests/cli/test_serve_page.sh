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
echo '{"text": "abcabcabc hello hello"}' > "$work/text.jsonl"
"$COHORT" sft --model "$work/nano" --threads 1 --data "$work/text.jsonl" --dataset-text-field text --use-peft --lora-target-modules all-linear \
    --steps 2 --learning-rate 0.02 --batch-size 1 --out "$work/run" > /dev/null 2>&1
python3 "$SOURCE/tests/support/serve_page.py" "$work/nano" "" "$work/run/final"

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
for k in 1 2 3; do # adapters of three ranks, one of them DoRA
    echo '{"text": "abcabcabc hello hello"}' > "$work/text.jsonl"
    "$COHORT" sft --model "$work/nano" --threads 1 --data "$work/text.jsonl" --dataset-text-field text --use-peft --lora-r $((4 * k)) \
        --lora-target-modules all-linear --use-dora "$([ $k = 2 ] && echo true || echo false)" --steps 3 --learning-rate 0.02 --batch-size 1 \
        --seed $k --out "$work/run$k" > /dev/null 2>&1
done
python3 "$SOURCE/tests/support/serve_adapters.py" "$work/nano" "$work/run3/final" "one=$work/run1/final" "two=$work/run2/final"

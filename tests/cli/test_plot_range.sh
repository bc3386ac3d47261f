#!/bin/bash
# The curve of a run is drawn whatever the numbers are: rewards so large that adding a tick of the axis changes nothing once kept the
# program in a loop that took all memory.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$COHORT" init --preset nano --tokenizer bytes --seed 1 --out model > /dev/null 2>&1
printf '{"prompt": "a"}\n{"prompt": "b"}\n' > rows.jsonl
for value in 5e15 -3e17 1e-300 0; do
    printf 'while read -r row; do echo %s; done\n' "$value" > reward.sh
    rm -rf run
    (
        grep -q __asan_init "$COHORT" || ulimit -v 4000000 # AddressSanitizer reserves far more
        timeout 60 "$COHORT" grpo --model model --data rows.jsonl --reward 'exec:sh reward.sh' --steps 2 --prompts-per-step 2 \
            --num-generations 2 --max-completion-length 4 --out run > log 2>&1
    ) || { echo "reward $value:"; tail -n 3 log; exit 1; }
    if grep -qiE 'nan|inf' run/reward.svg; then
        echo "reward $value: coordinates of run/reward.svg are not numbers"
        exit 1
    fi
    grep -q '</svg>' run/reward.svg
done

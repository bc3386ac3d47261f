#!/usr/bin/env bash
# What the store (run.db) costs a step: runs of the smallest model, whose steps of 256 completions are the shortest there are, in turn with every
# completion kept and with none (steps and metrics are always kept). Prints the processor time of a step with and without, the median of the pairs'
# ratios, and what the store itself says: seconds of the trainer's thread, and of its own, of the seconds of the run.
#
#   bench/bench_store.sh [PAIRS [STEPS]]       $COHORT: the program, build/cohort
set -euo pipefail
export LC_ALL=C
cohort=$(realpath "${COHORT:-build/cohort}") pairs=${1:-5} steps=${2:-4}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$cohort" init --preset nano --tokenizer bytes --seed 1 --out nano > init.log 2>&1
for i in $(seq 64); do printf '{"prompt": "question %d: what is %d + %d?"}\n' "$i" "$i" "$i"; done > data.jsonl

# seconds KEEP OUT: the processor time of a step
seconds() {
    local TIMEFORMAT='%U %S' times
    times=$({ time "$cohort" grpo --model nano --data data.jsonl --reward regex --reward-pattern '[aeiou]' --prompts-per-step 32 \
        --num-generations 8 --max-completion-length 200 --steps "$steps" --save-steps 0 --keep-completions "$1" --out "$2" > "$2.log" 2>&1; } 2>&1)
    awk -v n="$steps" '{ print ($1 + $2) / n }' <<< "$times"
}
# told RUN: what the store says of itself
told() { "$cohort" runs sql "$1" "SELECT json FROM event WHERE kind = 'end'" --format jsonl | grep -oE '(\\"|")[a-z_]*seconds(\\"|"): [0-9.]+' | tr -d '\\"' | tr '\n' ' '; }

: > ratios
for i in $(seq "$pairs"); do
    if [ $((i % 2)) = 1 ]; then on=$(seconds all "on-$i") off=$(seconds none "off-$i"); else off=$(seconds none "off-$i") on=$(seconds all "on-$i"); fi
    awk -v a="$on" -v b="$off" 'BEGIN { print a / b }' >> ratios
    echo "pair $i: $on s a step with completions, $off s without; $(told "on-$i")"
done
sort -n ratios | awk '{ r[NR] = $1 } END { printf "median ratio %.4f of %d pairs\n", NR % 2 ? r[(NR + 1) / 2] : (r[NR / 2] + r[NR / 2 + 1]) / 2, NR }'

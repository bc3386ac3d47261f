#!/bin/bash
# Whether the engine keeps decoding while tools run: tokens/s of a rollout whose environment answers each turn after 0.5 s, as a share of those with
# one that answers at once, in turn, medians of three.
#
#   bench/bench_turns.sh [EPISODES [AT_ONCE [TURNS [TOKENS]]]]      1024 episodes, 256 rows, 4 turns of about 32 tokens
#
# $ROUNDS (3). $MODEL: a checkpoint; unset: one of random weights in the shape nano. $DEVICE, $DELAY. The program is $COHORT, or build/cohort.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
cohort=${COHORT:-$here/../build/cohort}
episodes=${1:-1024} rows=${2:-256} turns=${3:-4} tokens=${4:-32} delay=${DELAY:-0.5}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=${MODEL:-}
if [ -z "$model" ]; then
    model=$work/model
    "$cohort" init --preset nano --tokenizer bytes --seed 1 --out "$model" > /dev/null 2>&1
    # Turns end by one of 8 ids in 264, which random weights draw once in 33 tokens.
    echo '{"eos_token_id": [65, 66, 67, 68, 69, 70, 71]}' > "$model/generation_config.json"
fi
for i in $(seq $((episodes / 8))); do echo "{\"messages\": [{\"role\": \"user\", \"content\": \"task $i\"}]}"; done > "$work/rows.jsonl"
one() { # DELAY: tokens/s and the share of completions that waited
    rm -rf "$work/run"
    "$cohort" grpo --model "$model" --data "$work/rows.jsonl" --environment "exec:exec python3 $here/turns_environment.py $1 $turns" \
        --prompts-per-step $((episodes / 8)) --num-generations 8 --steps 1 --max-completion-length $((turns * tokens * 3)) --save-steps 0 \
        --decode-concurrency "$rows" --device "${DEVICE:-cpu}" --out "$work/run" > /dev/null 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
    for metric in throughput/rollout_tokens_per_second environments/turns rollout/wait_share rollout/rows rollout/single_share rollout/set_back \
        environments/latency_p99; do
        sed -n "s|.*\"$metric\": \([^,}]*\).*|\1|p" "$work/run/metrics.jsonl"
    done | paste -sd ' '
}
for _ in $(seq "${ROUNDS:-3}"); do one 0 >> "$work/now"; one "$delay" >> "$work/late"; done
median() { sort -n "$1" | sed -n "$(((${ROUNDS:-3} + 1) / 2))p"; }
read -r now now_rest <<< "$(median "$work/now")"
read -r late late_rest <<< "$(median "$work/late")"
read -r each waited _ <<< "$late_rest"
echo "turns, share that waits, rows a step, share of single steps, set back, p99 of an answer in seconds: at once $now_rest; late $late_rest"
awk -v now="$now" -v late="$late" -v each="$each" -v waited="$waited" -v n="$episodes" -v rows="$rows" -v delay="$delay" 'BEGIN {
    printf "%d episodes, %d rows, %.1f turns each; answers at once: %.0f tok/s; after %s s: %.0f tok/s, %.0f %% (85); %.0f %% of the completions waited\n",
        n, rows, each, now, delay, late, 100 * late / now, 100 * waited }'

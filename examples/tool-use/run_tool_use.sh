#!/bin/bash
# A model from nothing learns to ask a calculator: it was shown products that somebody guesses at, and now and then one that the calculator
# worked out; the reward is a right answer.
#
#   examples/tool-use/run_tool_use.sh [SEED [DIR]]
#
# Writes DIR (runs/tool-use). The program is $COHORT, or build/cohort. Takes a few minutes on two cores.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
cohort=${COHORT:-$here/../../build/cohort}
seed=${1:-1} out=${2:-runs/tool-use}
[ ! -e "$out" ] || { echo "$out exists: name another folder" >&2; exit 1; }
"$here/make_products.sh" "$seed" "$out"
"$cohort" init --preset nano --tokenizer bytes --seed "$seed" --out "$out/init"
"$cohort" sft --model "$out/init" --data "$out/warmup.jsonl" --chat-template "$here/template.jinja" --assistant-only-loss --steps "${WARMUP_STEPS:-2500}" \
    --batch-size 32 --learning-rate 3e-3 --lr-scheduler-type linear --warmup-steps 20 --save-steps 0 --logging-steps 250 --seed "$seed" --out "$out/sft"
"$cohort" grpo --model "$out/sft/final" --data "$out/train.jsonl" --eval-data "$out/heldout.jsonl" --chat-template "$here/template.jinja" \
    --tools "python:$here/calculator.py" --reward accuracy --max-tool-calling-iterations 2 --max-completion-length 160 --prompts-per-step 16 \
    --num-generations 16 --steps "${STEPS:-60}" --learning-rate 5e-4 --lr-scheduler-type linear --warmup-steps 5 --temperature 1.0 \
    --eval-steps "${STEPS:-60}" --save-steps 0 --logging-steps 10 --seed "$seed" --out "$out/grpo"
grep '"eval_reward"' "$out/grpo/metrics.jsonl" > "$out/evals"
right() { sed -n "$1"'s/.*"eval_reward": \([0-9.e-]*\).*/\1/p' "$out/evals"; }
awk -v before="$(right 1)" -v after="$(right '$')" 'BEGIN { printf "right answers: %.0f%% before, %.0f%% after\n", 100 * before, 100 * after }'

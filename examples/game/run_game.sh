#!/bin/bash
# A game of several turns: a model guesses a digit by what it hears, "+" or "-". Reward comes at the end of a game alone.
#
#   examples/game/run_game.sh [SEED [DIR]]
#
# Writes DIR (runs/game). The program is $COHORT, or build/cohort. Takes a few minutes on two cores.
#
# The warm-up shows games of somebody who says digits at random, and all of them is learned, what is answered too: how digits and answers belong
# together. How to play well is in none of them.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
cohort=${COHORT:-$here/../../build/cohort}
seed=${1:-1} out=${2:-runs/game}
[ ! -e "$out" ] || { echo "$out exists: name another folder" >&2; exit 1; }
mkdir -p "$out"

awk -v seed="$seed" -v dir="$out" '
function draw(n) { state = (16807 * state) % 2147483647; return int(state / 2147483647 * n) }
function message(role, text) { return sprintf("{\"role\": \"%s\", \"content\": \"%s\"}", role, text) }
BEGIN {
    state = (seed * 7919 + 12345) % 2147483646 + 1
    for (i = 0; i < 10; i++) draw(2)
    for (i = 0; i < 4000; i++) {
        secret = 1 + draw(9)
        line = message("user", "?")
        for (turn = 1; turn <= 8; turn++) {
            said = 1 + draw(9)
            line = line ", " message("assistant", said)
            if (said == secret || turn == 8) break
            line = line ", " message("user", said < secret ? "+" : "-")
        }
        printf "{\"messages\": [%s]}\n", line > (dir "/warmup.jsonl")
    }
    for (i = 0; i < 900; i++)
        printf "{\"messages\": [%s], \"secret\": %d}\n", message("user", "?"), 1 + i % 9 > (dir "/train.jsonl")
    for (i = 0; i < 90; i++)
        printf "{\"messages\": [%s], \"secret\": %d}\n", message("user", "?"), 1 + i % 9 > (dir "/heldout.jsonl")
}'

"$cohort" init --preset nano --tokenizer bytes --seed "$seed" --out "$out/init"
"$cohort" sft --model "$out/init" --data "$out/warmup.jsonl" --chat-template "$here/template.jinja" --no-completion-only-loss \
    --steps "${WARMUP_STEPS:-800}" --batch-size 64 --learning-rate 3e-3 --lr-scheduler-type linear --warmup-steps 20 --save-steps 0 \
    --logging-steps 100 --seed "$seed" --out "$out/sft"
# A turn is a digit: what else the model might say is neither drawn nor trained, so that all of the gradient is about the game.
"$cohort" grpo --model "$out/sft/final" --data "$out/train.jsonl" --eval-data "$out/heldout.jsonl" --chat-template "$here/template.jinja" \
    --environment "exec:exec python3 $here/guess.py" --guided-regex '[1-9]' --guided-logprob masked --max-completion-length 64 \
    --prompts-per-step 36 --num-generations 16 --steps "${STEPS:-300}" --learning-rate 1e-3 --lr-scheduler-type linear --warmup-steps 5 \
    --temperature 1.0 --num-generations-eval 4 --eval-steps "${STEPS:-300}" --save-steps 0 --logging-steps 10 --seed "$seed" --out "$out/grpo"
won() { sed -n "$1"'s/.*"eval_environments\/won": \([0-9.e-]*\).*/\1/p' "$out/evals"; }
grep '"eval_environments/won"' "$out/grpo/metrics.jsonl" > "$out/evals"
awk -v before="$(won 1)" -v after="$(won '$')" 'BEGIN { printf "games won within 4 guesses: %.0f%% before, %.0f%% after\n", 100 * before, 100 * after }'

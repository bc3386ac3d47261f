#!/bin/bash
# A game of several turns: a model guesses a digit by what it hears, "higher" or "lower". Reward comes at the end of a game alone. It shows how
# such a run is set up; these settings do not teach it yet (seed 1: 34 % of the games won before, 36 % after).
#
#   examples/game/run_game.sh [SEED [DIR]]
#
# Writes DIR (runs/game). The program is $COHORT, or build/cohort. Takes a minute or two on two cores.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
cohort=${COHORT:-$here/../../build/cohort}
seed=${1:-1} out=${2:-runs/game}
[ ! -e "$out" ] || { echo "$out exists: name another folder" >&2; exit 1; }
mkdir -p "$out"

# Games of somebody who says digits at random, to learn what a game looks like from; and secrets to be guessed.
awk -v seed="$seed" -v dir="$out" '
function draw(n) { state = (16807 * state) % 2147483647; return int(state / 2147483647 * n) }
function message(role, text) { return sprintf("{\"role\": \"%s\", \"content\": \"%s\"}", role, text) }
BEGIN {
    state = (seed * 7919 + 12345) % 2147483646 + 1
    for (i = 0; i < 10; i++) draw(2)
    for (i = 0; i < 2000; i++) {
        secret = 1 + draw(9)
        line = message("user", "guess")
        for (turn = 1; turn <= 4; turn++) {
            said = 1 + draw(9)
            line = line ", " message("assistant", said)
            if (said == secret || turn == 4) break
            line = line ", " message("user", said < secret ? "higher" : "lower")
        }
        printf "{\"messages\": [%s]}\n", line > (dir "/warmup.jsonl")
    }
    for (i = 0; i < 900; i++)
        printf "{\"messages\": [%s], \"secret\": %d}\n", message("user", "guess"), 1 + i % 9 > (dir "/train.jsonl")
    for (i = 0; i < 90; i++)
        printf "{\"messages\": [%s], \"secret\": %d}\n", message("user", "guess"), 1 + i % 9 > (dir "/heldout.jsonl")
}'

"$cohort" init --preset nano --tokenizer bytes --seed "$seed" --out "$out/init"
"$cohort" sft --model "$out/init" --data "$out/warmup.jsonl" --chat-template "$here/template.jinja" --assistant-only-loss --steps 150 --batch-size 32 \
    --learning-rate 3e-3 --lr-scheduler-type linear --warmup-steps 10 --save-steps 0 --logging-steps 50 --seed "$seed" --out "$out/sft"
"$cohort" grpo --model "$out/sft/final" --data "$out/train.jsonl" --eval-data "$out/heldout.jsonl" --chat-template "$here/template.jinja" \
    --environment "exec:exec python3 $here/guess.py" --max-completion-length 160 --prompts-per-step 18 --num-generations 16 --steps "${STEPS:-100}" \
    --learning-rate 1e-3 --lr-scheduler-type linear --warmup-steps 5 --temperature 1.0 --num-generations-eval 4 --eval-steps "${STEPS:-100}" \
    --save-steps 0 --logging-steps 10 --seed "$seed" --out "$out/grpo"
won() { sed -n "$1"'s/.*"eval_environments\/won": \([0-9.e-]*\).*/\1/p' "$out/evals"; }
grep '"eval_environments/won"' "$out/grpo/metrics.jsonl" > "$out/evals"
awk -v before="$(won 1)" -v after="$(won '$')" 'BEGIN { printf "games won within 4 guesses: %.0f%% before, %.0f%% after\n", 100 * before, 100 * after }'

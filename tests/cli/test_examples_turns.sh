#!/bin/bash
# examples/tool-use and examples/game with a few steps: they come to their last line, and what a run is promised to leave is there. Whether they
# learn is for the slow tests.
set -euo pipefail
export LC_ALL=C
: "${COHORT:?the program}" "${SOURCE:?the source tree}"
command -v python3 > /dev/null || { echo "no python3"; exit 77; }
COHORT=$(realpath "$COHORT")
export COHORT WARMUP_STEPS=3 STEPS=2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAIL: $*"; exit 1; }

WARMUP=200 TRAIN=50 HELDOUT=10 "$SOURCE/examples/tool-use/run_tool_use.sh" 1 tools > log 2>&1 || { tail -n 20 log; fail "tool-use ended with an error"; }
[[ $(tail -n 1 log) =~ ^right\ answers:\ [0-9]+%\ before,\ [0-9]+%\ after$ ]] || fail "the last line of tool-use is '$(tail -n 1 log)'"
"$SOURCE/examples/game/run_game.sh" 1 game > log 2>&1 || { tail -n 20 log; fail "game ended with an error"; }
[[ $(tail -n 1 log) =~ ^games\ won\ within\ 4\ guesses:\ [0-9]+%\ before,\ [0-9]+%\ after$ ]] || fail "the last line of game is '$(tail -n 1 log)'"
for out in tools game; do
    [ -s $out/grpo/final/model.safetensors ] || fail "$out: no final/"
    grep -q '"sampling/sampling_logp_difference/max": 0,' $out/grpo/metrics.jsonl || fail "$out: log-probs of draws and of training differ"
done
# A turn is a digit, whatever the model has learned, and a game has four at most.
turns=$(grep -o '"messages": \[[^]]*\]' game/grpo/eval-step-2.jsonl | grep -o '"role": "assistant", "content": "[^"]*"' | sort -u)
[ "$(grep -vc '"content": "[1-9]"$' <<< "$turns")" = 0 ] || fail "turns that are no digit: $turns"
! grep -q '"tokens": \[2, 6, 2, 6, 2, 6, 2, 6' game/grpo/eval-step-2.jsonl || fail "a game of more than four turns"
"$SOURCE/examples/game/run_game.sh" 1 game > log 2>&1 && fail "a folder that is there was taken"
grep -q 'game exists: name another folder' log || fail "no word about the folder that is there: $(cat log)"

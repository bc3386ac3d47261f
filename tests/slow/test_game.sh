#!/bin/bash
# examples/game learns in each of three seeds: at least 20 points more games are won after it than before.
set -euo pipefail
export LC_ALL=C
: "${COHORT:?the program}" "${SOURCE:?the source tree}"
command -v python3 > /dev/null || { echo "no python3"; exit 77; }
COHORT=$(realpath "$COHORT")
export COHORT
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for seed in 1 2 3; do
    "$SOURCE/examples/game/run_game.sh" $seed "$work/$seed" > "$work/log" 2>&1 || { tail -n 20 "$work/log"; exit 1; }
    line=$(tail -n 1 "$work/log")
    echo "seed $seed: $line"
    [[ $line =~ ^games\ won\ within\ 4\ guesses:\ ([0-9]+)%\ before,\ ([0-9]+)%\ after$ ]] || { echo "FAIL: the last line is not what it should be"; exit 1; }
    [ $((BASH_REMATCH[2] - BASH_REMATCH[1])) -ge 20 ] || { echo "FAIL: it does not learn"; exit 1; }
done

#!/bin/bash
# What README.md shows works as it stands there: its shell blocks run one after the other in an empty folder and stop at the first
# failure, the model gets better, its C block compiles, its links lead somewhere.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
readme=$SOURCE/README.md
block() { awk -v kind="$1" '$0 == "```" kind { on = 1; next } /^```/ { on = 0 } on' "$readme"; }

PATH=$(dirname "$COHORT"):$PATH
export PATH
cd "$work"
{ echo 'set -eu'; block sh; } > all.sh
test "$(wc -l < all.sh)" -gt 20
if ! bash all.sh > output 2>&1 < /dev/null; then
    echo "a shell block of README.md failed:"
    tail -n 20 output
    exit 1
fi
# The quick start: rewarded completions at the beginning and at the end, and the answer.
rewards=$(grep -oE '"eval_reward": [0-9.]+' runs/sums/metrics.jsonl | awk '{print $2}')
awk -v first="$(head -n 1 <<<"$rewards")" -v last="$(tail -n 1 <<<"$rewards")" 'BEGIN {
    printf "accuracy of the quick start: %g -> %g\n", first, last
    exit !(last >= first + 0.05) }'
test "$(wc -l < runs/sums/metrics.jsonl)" -ge 210
test "$(wc -l < sampled.jsonl)" = 4

block c > block.c
test -s block.c
# shellcheck disable=SC2086 # flags are words
${CC:-cc} -std=c11 -Wall -Wextra -Werror -I"$SOURCE/include" -fsyntax-only block.c

for target in $(cat "$readme" "$SOURCE/ARCHITECTURE.md" "$SOURCE/CONTRIBUTING.md" | grep -oE '\]\([^)#:]+' | cut -c3- | sort -u); do
    test -e "$SOURCE/$target" || { echo "a link leads to $target, which is not there"; exit 1; }
done

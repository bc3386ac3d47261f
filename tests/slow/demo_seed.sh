# The demo's promises for one seed: it learns, from the reward and not from being trained, and the reward may as well come from a program.
# Sourced by test_demo_seed_N.sh, one for each seed so that each has its own time limit. $1: the seed. $DEVICE, or the CPU, is where it computes.
set -euo pipefail
export LC_ALL=C
: "${COHORT:?the program}" "${SOURCE:?the source tree}"
export COHORT
command -v python3 > /dev/null || { echo "python3 is needed for the exec: rewards of this test"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seed=$1 failures=0

fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

# run NAME REWARD: the demo into $work/NAME; its output in $work/NAME.log
run() {
    local begun=$SECONDS
    "$SOURCE/scripts/demo" --seed "$seed" --device "${DEVICE:-cpu}" --out "$work/$1" --reward "$2" > "$work/$1.log" 2>&1 || { tail -20 "$work/$1.log"; echo "the demo ended with an error"; exit 1; }
    seconds=$((SECONDS - begun))
    line=$(tail -1 "$work/$1.log")
    [[ $line =~ ^held-out\ accuracy:\ ([0-9.]+)%\ -\>\ ([0-9.]+)%$ ]] || { echo "the last line is '$line', expected 'held-out accuracy: A -> B'"; exit 1; }
    before=${BASH_REMATCH[1]} after=${BASH_REMATCH[2]}
    greedy=$(sed -n 's/^greedy accuracy: //p' "$work/$1.log")
    echo "seed $seed, $1: $before% -> $after% sampled, $greedy greedy, $seconds s"
}
# rose POINTS: whether accuracy rose by that many points at least
rose() { awk -v a="$before" -v b="$after" -v by="$1" 'BEGIN { exit !(b - a >= by) }'; }

run builtin accuracy
rose 25 || fail "accuracy rose from $before% to $after%, expected 25 points more at least"
awk -v a="$before" 'BEGIN { exit !(a >= 30 && a <= 60) }' || fail "the warmed-up model is at $before%, expected it to have learned half: 30 to 60 %"
[ "$seconds" -lt 360 ] || fail "the demo took $seconds s, expected less than 360"
builtin_before=$before

# A run that learns has no warnings and no notes of the diagnosis (docs/RUN.md) but of the machine, on which others may work.
! grep -E '^(warning: |note: step [0-9])' "$work/builtin.log" | grep -vE '^(warning|note): step [0-9]+, M[0-9]: ' || fail "the demo was warned"

# What is trained on is never asked, and nothing is in a file twice.
words=$(sed -n 's/^{"prompt": "sort \([a-z]*\) = ".*/\1/p' "$work"/builtin-warmup/task/*.jsonl)
[ "$(wc -l <<< "$words")" -eq 8500 ] || fail "the task has $(wc -l <<< "$words") words, expected 8500"
[ -z "$(sort <<< "$words" | uniq -d)" ] || fail "words that occur twice: $(sort <<< "$words" | uniq -d | head -3)"

# The sampled log-probs are the trained ones, in every step.
[ "$(grep -c '"sampling/sampling_logp_difference/max": 0,' "$work/builtin/metrics.jsonl")" -eq 200 ] ||
    fail "metrics.jsonl: expected 200 steps whose sampling_logp_difference/max is 0"

# The same reward from a program: the same run, byte for byte but for times and the reward's name.
echo "figure: seed $seed: $before% -> $after% ($seconds s)"
run program "exec:python3 $SOURCE/tests/support/reward_by_score.py"
plain() { sed -E 's/, "(time\/[a-z_]*|throughput\/[a-z_]*|step_time)": [^,}]*//g; s/reward_by_score\.py/accuracy/g' "$1"; }
for file in metrics.jsonl $(cd "$work/builtin" && ls eval-step-*.jsonl); do
    cmp <(plain "$work/builtin/$file") <(plain "$work/program/$file") || fail "$file differs between the built-in reward and the program"
done
for file in final/model.safetensors checkpoints/step-200/model.safetensors reward.svg; do
    cmp "$work/builtin/$file" "$work/program/$file" || fail "$file differs between the built-in reward and the program"
done

# Rewards dealt out to the wrong completions teach nothing.
run shuffled "exec:python3 $SOURCE/examples/shuffled_rewards.py"
[ "$before" = "$builtin_before" ] || fail "the control starts from $before%, the demo from $builtin_before%"
! rose 10 || fail "with shuffled rewards accuracy rose from $before% to $after%, expected less than 10 points"
grep -q '"rewards/shuffled_rewards.py/mean": 0\.[1-9]' "$work/shuffled/metrics.jsonl" || fail "the control saw no rewards"

[ "$failures" -eq 0 ]

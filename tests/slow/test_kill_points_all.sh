# 200 kills of runs that go on to the same end; tests/sweep/test_kill_points.sh has a few.
# shellcheck source=../support/kill_points.sh
. "$SOURCE/tests/support/kill_points.sh"
prepare_kills
kill_points "${SEED:-7}" "${POINTS:-200}" sft exec lora grpo-kl
print_points
# Each of these was hit.
for where in 'any moment' 'a step, rollout' 'a step, reward' 'a step, train' 'a step, update' 'a step, evaluate' \
    'a reward program, at a row' 'a line of metrics.jsonl or completions.jsonl' 'run.db, write' 'run.db, sync' 'save, its folder' \
    'save, weights' 'save, state of the trainer' 'save, config, tokenizer, manifest' 'save, sync' 'save, rename' \
    'save, clearing away' 'save, an old checkpoint removed' 'config, lock, curve, samples of evaluations'; do
    [ "${POINTS_OF[$where]:-0}" -gt 0 ] || [ "${POINTS:-200}" -lt 200 ] || fail "no run was killed in: $where"
done

#!/usr/bin/env bash
# Episodes of several turns through the program: the same bytes with one worker or four, with one place or 64 in each, whether
# answers come at once or late; what is sampled is what training computes; a run that stops with a batch in use goes on
# as if it had not; and what an environment loses is left out of mean, deviation and loss.
. "$SOURCE/tests/support/exact.sh"
command -v python3 >/dev/null || { echo "no python3"; exit 0; }
make_model "$work/model"
cd "$work"
for i in 1 2 3 4 5 6; do
    printf '{"messages": [{"role": "user", "content": "count %d"}], "bad": %s}\n' $i "$([ $i = 4 ] && echo true || echo false)"
done >rows.jsonl
script="python3 $SOURCE/tests/support/environment_script.py"
args=(grpo --model model --data rows.jsonl --prompts-per-step 3 --num-generations 4 --max-completion-length 200 --learning-rate 1e-3
    --num-iterations 2 --steps 4 --save-steps 1 --log-completions --turn-timeout 20 --seed 5)
# Turns of some twenty tokens: of the 300 ids of the model 15 end one.
printf '{"eos_token_id": [%s]}\n' "$(seq -s, 100 112)" >model/generation_config.json

same_run() {
    same_checkpoint "$1/final" "$2/final" "$3"
    same "$1/completions.jsonl" "$2/completions.jsonl" "$3"
    diff <(numbers "$1") <(numbers "$2") >&2 || fail "$3: metrics differ"
}

cohort "${args[@]}" --environment "exec:$script ok 64" --threads 1 --out base
grep -q '"environments/end/done": 0\.[0-9]*[1-9]' base/metrics.jsonl || fail "no episode came to its end: $(numbers base | tail -1)"
grep -q '"environments/turns": [23][.,]' base/metrics.jsonl || fail "no episode had several turns"
if grep -o '"sampling/sampling_logp_difference/max": [^,}]*' base/metrics.jsonl | grep -qv ': 0$'; then
    fail "training computes other log-probs than were sampled"
fi
[ "$(python3 -I -S -c 'import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute("select count(*) from turn where role = ?", ("user",)).fetchone()[0] > 5)' base/run.db)" = True ] ||
    fail "run.db has no turns of users"

cohort "${args[@]}" --environment "exec:$script ok 1" --threads 2 --decode-concurrency 3 --out one-place
same_run base one-place "one place"
cohort "${args[@]}" --environment "exec:$script ok 64 0.1" --environment-workers 4 --threads 2 --out late
same_run base late "four workers, late answers"

# Two iterations a batch: checkpoints of odd steps hold the batch in use.
[ -f base/checkpoints/step-1/trainer/batch.json ] || fail "no batch in the checkpoint of step 1"
for step in 1 2 3; do
    cohort "${args[@]}" --environment "exec:$script ok 64" --out base --resume base/checkpoints/step-$step
    same_run base one-place "resumed from step $step"
done

# Rewards of turns at their tokens.
cohort "${args[@]}" --environment "exec:$script ok 64" --turn-rewards per_turn --out per-turn
grep -q '"token_advantages"' per-turn/completions.jsonl || fail "per_turn: no advantages of tokens"
cmp -s base/final/model.safetensors per-turn/final/model.safetensors && fail "per_turn changes nothing"

# One row's episodes fail: their rewards are null, and the weights are those of a run without them.
for mode in error wrong-turn; do
    cohort "${args[@]}" --environment "exec:$script $mode 64" --out "$mode"
    word=$([ $mode = error ] && echo error || echo protocol)
    grep -q "\"environments/end/$word\": 0\.[0-9]" $mode/metrics.jsonl || fail "$mode is not counted"
    grep 'count 4' $mode/completions.jsonl | grep -q '"finish_reason": "lost", "rewards": {"environment": null}' || fail "$mode: rewards of lost episodes"
done
cmp error/final/model.safetensors wrong-turn/final/model.safetensors || fail "what is lost has a say in the loss"

# Turns are limited from outside too.
cohort "${args[@]}" --environment "exec:$script ok 64" --max-turns 1 --out turns
grep -qE '"environments/end/turns": (1|0\.[0-9]+)[,}]' turns/metrics.jsonl || fail "max_turns ends nothing"
grep -q '"environments/turns": 1[,}]' turns/metrics.jsonl || fail "max_turns 1 and more turns"

# What cannot be is said before weights are read.
printf '{"prompt": "count 1"}\n' >text.jsonl
if "$COHORT" "${args[@]}" --data text.jsonl --environment "exec:$script ok" --out text 2>stderr; then fail "text prompts were taken"; fi
grep -q "conversations" stderr || fail "text prompts: $(cat stderr)"
if "$COHORT" "${args[@]}" --environment "exec:exit 3" --out none 2>stderr; then fail "an environment that ends was taken"; fi
grep -q "exit status 3" stderr || fail "exit: $(cat stderr)"
if "$COHORT" "${args[@]}" --environment "guess.py" --out none 2>stderr; then fail "no exec: was taken"; fi
grep -q "expected exec:PROGRAM" stderr || fail "spec: $(cat stderr)"
echo "episodes: all runs agree"

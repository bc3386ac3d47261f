#!/usr/bin/env bash
# cohort generate --batch and cohort eval on several ranks (docs/RANKS.md): rank 0 prints what one process prints, byte for byte.
. "$SOURCE/tests/support/exact.sh"
cd "$work"
. "$SOURCE/tests/support/ranks.sh"
make_model "$work/model"

# More rows than a round of two ranks has: 1024 completions of each.
for i in $(seq 150); do printf '{"prompt": "question %d:%s"}\n' "$i" "$(printf "%$((i % 23))s")"; done >asked.jsonl
printf '{"prompt": "question 1: "}\n' >>asked.jsonl # once more, which is another draw
ASK=(generate --model model --batch asked.jsonl --n 16 --max-completion-length 3 --seed 7 --top-logprobs 2)
"$COHORT" "${ASK[@]}" --device cpu --threads 1 >one.jsonl 2>log || fail "$(cat log)"
[ "$(wc -l <one.jsonl)" = 2416 ] || fail "$(wc -l <one.jsonl) completions"
for n in 2 3; do
    job $n "${ASK[@]}" --rank-timeout 60 >ranks.jsonl 2>log || fail "$(cat log)"
    same one.jsonl ranks.jsonl "$n ranks"
done
# A document says what all ranks counted; a guide says no more.
GUIDED=(generate --model model --batch guided.jsonl --n 2 --max-completion-length 8 --format json --guided-regex '[a-c]{2,4}')
head -n 5 asked.jsonl >guided.jsonl
timeless() { sed 's/"seconds": .*//'; }
"$COHORT" "${GUIDED[@]}" --device cpu --threads 1 2>log | timeless >a || fail "$(cat log)"
job 2 "${GUIDED[@]}" 2>log | timeless >b || fail "$(cat log)"
same a b "a document"

# Evaluations: the rewards of rank 0, two sets, samples for a person, episodes that are answered where they are drawn.
cat >rewards.py <<'PY'
def by_length(completions, log_metric=None, **kwargs):
    log_metric("longest", max(map(len, completions)))
    return [len(c) % 5 for c in completions]
PY
head -n 7 asked.jsonl >first.jsonl
tail -n 4 asked.jsonl >second.jsonl
EVAL=(eval --model model --data "a=first.jsonl,b=second.jsonl" --n 3 --max-completion-length 9 --reward "python:rewards.py:by_length,regex" --reward-pattern '[a-m]')
"$COHORT" "${EVAL[@]}" --device cpu --threads 1 >a 2>log || fail "$(cat log)"
job 3 "${EVAL[@]}" >b 2>log || fail "$(cat log)"
same a b "an evaluation"
cp -r model turning
printf '{"eos_token_id": [%s]}\n' "$(seq -s, 100 112)" >turning/generation_config.json
for i in 1 2 3 4 5; do printf '{"messages": [{"role": "user", "content": "count %d"}]}\n' $i; done >rows.jsonl
TURNS=(eval --model turning --data rows.jsonl --n 2 --max-completion-length 80 --format jsonl --environment "exec:python3 $SOURCE/tests/support/environment_script.py ok 64")
timeless() { sed -E 's/, "eval_(rollout|environments\/latency)[^"]*": [^,}]*//g'; }
"$COHORT" "${TURNS[@]}" --device cpu --threads 1 2>log | timeless >a || fail "$(cat log)"
job 2 "${TURNS[@]}" 2>log | timeless >b || fail "$(cat log)"
same a b "an evaluation of episodes"

for i in $(seq 40); do printf '{"prompt": "question %d", "choices": [" a", " bcd", " %d"], "answer": %d}\n' $i $((i * i)) $((i % 3)); done >choices.jsonl
CHOICES=(eval --model model --data choices.jsonl --choices --format jsonl)
"$COHORT" "${CHOICES[@]}" --device cpu --threads 1 >a 2>log || fail "$(cat log)"
job 2 "${CHOICES[@]}" >b 2>log || fail "$(cat log)"
same a b "questions with choices"

# What is one process's is refused by name.
refused() {
    local pattern=$1
    shift
    ! job 2 "$@" >log 2>&1 || fail "not refused: $*"
    grep -q "^cohort: $pattern" log || { cat log >&2; fail "no '$pattern'"; }
}
refused 'cohort generate --prompt runs as one process' generate --model model --prompt a
refused '-: of several ranks one has this input' generate --model model --batch - --rank-timeout 20
cat >other.sh <<'R'
[ "$OMPI_COMM_WORLD_RANK" = 0 ] || cd other
exec "$@"
R
mkdir other
cp -r model other/model
tail -n 3 asked.jsonl >other/first.jsonl
! "${MPIRUN[@]}" -n 2 sh other.sh "$COHORT" generate --batch first.jsonl --model model --device cpu >log 2>&1 || fail "other data was taken"
grep -q 'rank 1 (.*) and rank 0 (.*) are not of one run' log || { cat log >&2; fail "nothing is said of other data"; }
echo "the same bytes on 1, 2 and 3 ranks"

#!/usr/bin/env bash
# What is drawn and then learned from, on any number of ranks (docs/RANKS.md): a teacher's distributions, and episodes whose turns programs
# of each rank answer; and models with experts. With one number of lanes 1, 2 and 3 ranks write the same bytes.
. "$SOURCE/tests/support/exact.sh"
cd "$work"
. "$SOURCE/tests/support/ranks.sh"
make_model "$work/model"

make_model "$work/teacher" 4
for i in 1 2 3 4 5 6 7; do printf '{"prompt": "question %d:%s"}\n' $i "$(printf "%$((5 * i))s")"; done >prompts.jsonl
head -n 3 prompts.jsonl >held.jsonl
DRAWN=(--steps 3 --save-steps 2 --eval-steps 2 --prompts-per-step 3 --num-generations 2 --learning-rate 3e-3 --gradient-lanes 2)
on_ranks distill 2 distill --model model --teacher-model teacher --data prompts.jsonl --eval-data held.jsonl "${DRAWN[@]}" --max-completion-length 12 \
    --micro-batch-tokens 200
goes_on distill-2 3 distill

# Turns of some twenty tokens: of the 300 ids of the model 15 end one. The episodes of a row fail.
cp -r model turning
printf '{"eos_token_id": [%s]}\n' "$(seq -s, 100 112)" >turning/generation_config.json
for i in 1 2 3 4 5 6; do
    printf '{"messages": [{"role": "user", "content": "count %d"}], "bad": %s}\n' $i "$([ $i = 4 ] && echo true || echo false)"
done >rows.jsonl
head -n 3 rows.jsonl >held-rows.jsonl
TURNS=(grpo --model turning --data rows.jsonl --eval-data held-rows.jsonl "${DRAWN[@]}" --max-completion-length 120 --log-completions
    --turn-rewards per_turn --seed 5)
same_turns() { same "$1/completions.jsonl" "$2/completions.jsonl" "$2"; }
on_ranks turns 2 "${TURNS[@]}" --environment "exec:python3 $SOURCE/tests/support/environment_script.py error 64"
same_turns turns-1 turns-2
grep -q '"environments/turns": [23][.,]' turns-2/metrics.jsonl || fail "no episode had several turns"
goes_on turns-2 3 grpo
# One that observes: prompts are known on the rank that begins the episodes.
cat >observes.py <<'PY'
import json
import sys


def say(**message):
    print(json.dumps(message), flush=True)


for line in sys.stdin:
    m = json.loads(line)
    if m["type"] == "hello":
        say(type="ready", protocol=1, name="observes", version="1", concurrency=6, tools=[], observes=True)
    elif m["type"] == "begin":
        say(type="log", message="begins %d" % m["group"])
        say(type="reply", id=m["id"], turn=0, observation=" from %d" % (m["seed"] % 1000))
    elif m["type"] == "turn":
        say(type="end", id=m["id"], turn=m["turn"], reward=len(m["text"]) % 7 / 3, metrics={"third": m["tokens_used"] / 3})
    elif m["type"] == "finish":
        say(type="end", id=m["id"], reward=0.125)
PY
on_ranks observes 3 "${TURNS[@]}" --environment "exec:python3 observes.py"
same_turns observes-1 observes-3
grep -q '"prompt": "[^"]*count [0-9] from [0-9]' observes-3/completions.jsonl || fail "no prompt was observed"
grep -q '^rank [12] (.*begins [0-2]$' observes-3.log || { cat observes-3.log >&2; fail "what programs of other ranks say is lost"; }
# A program that is another one on another rank.
sed 's/observes=True/observes=__import__("os").environ["OMPI_COMM_WORLD_RANK"] == "0"/' observes.py >two.py
! job 2 "${TURNS[@]}" --environment "exec:python3 two.py" --out two >log 2>&1 || fail "programs of two kinds were taken"
grep -q "on rank 1 (.*) it has other tools" log || { cat log >&2; fail "nothing is said of programs of two kinds"; }

# Models with experts: what routers count is counted over ranks, and completions take their tokens' routes along.
cohort init --preset nano-experts --tokenizer bytes --seed 3 --out experts
EXPERTS=(--model experts --steps 3 --save-steps 2 --learning-rate 3e-3 --router-aux-loss-coef 0.5 --gradient-lanes 2)
sed 's/}$/, "chosen": " it is so, and so it will be", "rejected": " who knows"}/' prompts.jsonl >pairs.jsonl
sed 's/"chosen": \(.*\), "rejected".*/"completion": \1}/' pairs.jsonl >learned.jsonl
on_ranks experts 2 sft "${EXPERTS[@]}" --data learned.jsonl --batch-size 6 --micro-batch-tokens 120
goes_on experts-2 3 sft
on_ranks experts-pairs 3 dpo "${EXPERTS[@]}" --data pairs.jsonl --batch-size 6 --micro-batch-tokens 200 --loss-type aot
on_ranks experts-drawn 3 grpo "${EXPERTS[@]}" --data prompts.jsonl --reward regex --reward-pattern '[a-h]' --prompts-per-step 3 --num-generations 3 \
    --max-completion-length 12 --micro-batch-tokens 200 --num-iterations 2 --router-replay rollout --save-steps 1 --beta 0.1
grep -q '"sampling/experts_differ": 0[,}]' experts-drawn-3/metrics.jsonl || fail "tokens went to other experts than sampled"
echo "the same bits on 1, 2 and 3 ranks"

# python:FILE:FUNCTION: functions with TRL's signature as TRL calls them, their metrics and columns, several programs side by side, scores that are
# kept, and a run that goes on.
. "$(dirname "$0")/shell.sh"
command -v python3 >/dev/null || { echo "no python3"; exit 77; }

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4 5 6; do echo "{\"prompt\": [{\"role\": \"user\", \"content\": \"q$i\"}], \"answer\": \"a #### $i\", \"n\": $i}"; done >chat.jsonl
for i in 1 2 3; do echo "{\"prompt\": \"q$i\", \"completion\": \"it is $i\", \"completion_ids\": [$i, 7], \"answer\": \"$i\", \"n\": $i}"; done >scored.jsonl

# --- what a function gets ---
mkdir lib
echo 'BASE = 10' >lib/beside.py # imports find what lies beside the file
cat >lib/gets.py <<'END'
import functools
from beside import BASE

def texts(prompts, completions, completion_ids, n, answer, trainer_state, log_extra, log_metric, **kwargs):
    print("a line for people")
    assert prompts == ["q1", "q2", "q3"], prompts
    assert completions == ["it is 1", "it is 2", "it is 3"], completions
    assert completion_ids == [[1, 7], [2, 7], [3, 7]], completion_ids
    assert answer == ["1", "2", "3"] and sorted(kwargs) == [], kwargs
    assert (trainer_state.global_step, trainer_state.max_steps, trainer_state.log_history) == (0, 0, [])
    return [BASE + v if v != 2 else None for v in n]

def named(completions, **kwargs):
    return [1.5 for c in completions]
renamed = named

def scaled(completions, factor, **kwargs):
    return [factor for c in completions]
half = functools.partial(scaled, factor=0.5)

class Judge:
    async def __call__(self, completions, **kwargs):
        return [True for c in completions]
judge = Judge()

def chat(prompts, completions, completion_ids, trainer_state, n, **kwargs):
    assert all(p == [{"role": "user", "content": "q%d" % k}] for p, k in zip(prompts, n)), prompts
    assert all(len(c) == 1 and c[0]["role"] == "assistant" and isinstance(c[0]["content"], str) for c in completions)
    assert all(len(ids) == 4 for ids in completion_ids)
    return [trainer_state.global_step + trainer_state.max_steps / 100 for p in prompts]
END
succeeds "$COHORT" score --data scored.jsonl --reward python:lib/gets.py:texts,python:lib/gets.py:renamed,python:lib/gets.py:half \
    --reward python:lib/gets.py:judge,accuracy --reward-weights 1,1,1,1,0
is "$(grep -o '"rewards": {[^}]*}' out | head -n 1)" '"rewards": {"texts": 11, "named": 1.5, "half": 0.5, "judge": 1, "accuracy": 0}' "names and values"
is "$(field reward <out | tr '\n' ' ')" "14 3 16 " "None leaves a reward out"
[ "$(grep -c "a line for people" out)" = 0 ] || wrong "print() came into the output"

# --- a list for a completion: rewards of tokens ---
cat >steps.py <<'END'
class Vector:  # as a tensor or an array has it
    def __init__(self, values): self.values, self.shape, self.ndim = values, (len(values),), 1
    def tolist(self): return self.values
    def __float__(self): return float(self.values[0])
def steps(completions, completion_ids, **kwargs):
    return [[None, 0.5], Vector([1.0, float("nan")]), 3]
def one(completions, **kwargs):
    return [Vector([7.0]) for c in completions]
def wrong(completions, **kwargs):
    return [1, [1, 2, 3], 1]
def infinite(completions, **kwargs):
    return [1, [1, float("inf")], 1]
END
succeeds "$COHORT" score --data scored.jsonl --reward python:steps.py:steps,python:steps.py:one
is "$(grep -o '"rewards": .*}' out | tr '\n' ' ')" '"rewards": {"steps": 0.5, "one": 7}, "reward": 7.5, "token_rewards": {"steps": [null, 0.5]}} "rewards": {"steps": 1, "one": 7}, "reward": 8, "token_rewards": {"steps": [1, null]}} "rewards": {"steps": 3, "one": 7}, "reward": 10} ' "rewards of tokens"
has err "returned nan, which is taken for None"
fails 1 "'wrong' returned a list of 3 numbers for row 2, whose completion has 2 tokens" "$COHORT" score --data scored.jsonl --reward python:steps.py:wrong
fails 1 "'infinite' returned an infinite reward for row 2" "$COHORT" score --data scored.jsonl --reward python:steps.py:infinite
sed 's/"completion_ids": [^]]*], //' scored.jsonl >no_ids.jsonl
fails 1 "'wrong' returned a list of 3 numbers for row 2, .*the column \"completion_ids\"" "$COHORT" score --data no_ids.jsonl --reward python:steps.py:wrong
fails 1 'token ids are not known; give them in the column "completion_ids"' "$COHORT" score --data no_ids.jsonl --reward 'exec:read x; echo [1]; cat >/dev/null'
grpo=("$COHORT" grpo --model m --num-generations 3 --prompts-per-step 2 --max-completion-length 4 --threads 1 --seed 3)
succeeds "${grpo[@]}" --data chat.jsonl --steps 2 --reward python:lib/gets.py:chat --out chat
is "$(grep -o '"rewards/chat/mean": [0-9.]*' chat/metrics.jsonl | tr '\n' ' ')" '"rewards/chat/mean": 0.02 "rewards/chat/mean": 1.02 ' "steps that a function sees"
has chat/checkpoints/step-2/trainer/inputs.json '"path": "lib/gets.py"'

# --- the example; the same with several programs, whatever is ready first; a run that goes on ---
cat >slow.py <<'END'
import os, random, time
def by_ids(completions, completion_ids, log_metric, log_extra, **kwargs):
    time.sleep(random.random() / 50)
    log_metric("mean_id", sum(map(sum, completion_ids)) / len(completions))
    log_extra("first_id", [ids[0] for ids in completion_ids])
    return [ids[0] % 7 for ids in completion_ids]
END
e="python:$SOURCE/examples/reward_functions.py"
rewards=(--reward "$e:think_format_reward,$e:gsm8k_reward,$e:short_reward,python:slow.py:by_ids")
numbers() { sed -E 's/"(time|throughput|memory)[^,]*, |, "(step_time|time|throughput|memory)[^,}]*//g' "$1/metrics.jsonl"; }
for workers in 1 2 5; do
    succeeds "${grpo[@]}" --data chat.jsonl --steps 4 "${rewards[@]}" --reward-workers $workers --log-completions --eval-data chat.jsonl --eval-steps 2 --out "run$workers"
    cmp run1/completions.jsonl "run$workers/completions.jsonl" || wrong "completions with $workers programs"
    cmp <(numbers run1) <(numbers "run$workers") || wrong "metrics with $workers programs"
    cmp run1/final/model.safetensors "run$workers/final/model.safetensors" || wrong "weights with $workers programs"
done
is "$(wc -l <run1/metrics.jsonl)" 5 "lines of metrics"
has run1/metrics.jsonl '"frac_without_number": [0-9.]+'
has run1/metrics.jsonl '"eval_mean_id": [0-9.]+'
has run1/metrics.jsonl '"rewards/short_reward/mean": 0.02,'
has run1/completions.jsonl '"short_reward": null, "by_ids": [0-6]}, "extra": {"extracted_answer": "[^"]*", "first_id": [0-9]+}, "advantage": '
has run1/eval-step-4.jsonl '"extra": {"extracted_answer": '
steady=(--data chat.jsonl --reward "$e:think_format_reward,$e:gsm8k_reward,python:slow.py:by_ids" --reward-workers 2 --log-completions)
succeeds "${grpo[@]}" "${steady[@]}" --steps 4 --out whole
succeeds "${grpo[@]}" "${steady[@]}" --steps 2 --out parts
succeeds "${grpo[@]}" "${steady[@]}" --steps 4 --out parts --resume latest
cmp whole/final/model.safetensors parts/final/model.safetensors || wrong "weights of a run that went on"
cmp whole/completions.jsonl parts/completions.jsonl || wrong "completions of a run that went on"
cmp <(numbers whole) <(numbers parts) || wrong "metrics of a run that went on"
sed -i 's/% 7/% 5/' slow.py
fails 1 'reward: .*slow.py.*--accept-changed reward' "${grpo[@]}" "${steady[@]}" --steps 6 --out parts \
    --resume latest

# --- programs side by side: rewards beside each other, and prompts of one reward ---
cat >meet.py <<'END'
import glob, time

def f(completions, completion_ids, **kwargs):
    meet("f", completion_ids)
    return [1 for c in completions]
async def g(completions, completion_ids, **kwargs):
    meet("g", completion_ids)
    return [1 for c in completions]
def meet(name, ids):
    """Returns when all six calls have begun: none of them before the others."""
    open("met.%s%d" % (name, ids[0][0]), "w").close()
    while len(glob.glob("met.*")) < 6:
        time.sleep(0.01)
END
succeeds "$COHORT" score --data scored.jsonl --reward python:meet.py:f,python:meet.py:g --reward-workers 3

# --- metrics of a program, and scores that are kept ---
cat >asked.sh <<'END'
while read -r row; do
    echo asked >>asked
    echo '{"reward": 3, "metrics": {"tests": 2, "more": [1, 2]}, "extra": {"note": "n"}}'
done
END
succeeds "$COHORT" score --data scored.jsonl --reward 'exec:sh asked.sh'
has err 'metric tests: 2$'
has err 'metric more: 1.5$'
has out '"reward": 3, "extra": \{"note": "n"\}\}'
printf 'import os\nCALLS = []\ndef f(completions, **kwargs):\n    open("calls", "a").write("x" * len(completions))\n    return [len(c) for c in completions]\n' >kept.py
for i in 1 2 3; do cat scored.jsonl; done >thrice.jsonl
for kept in "" "--reward-cache f"; do
    rm -f calls
    succeeds "${grpo[@]}" --data scored.jsonl --steps 3 --temperature 0.01 --reward python:kept.py:f --out "kept${kept%% *}" $kept
    calls[${#kept}]=$(wc -c <calls)
done
cmp kept/final/model.safetensors kept--reward-cache/final/model.safetensors || wrong "kept scores change nothing"
is "${calls[0]}" 18 "rows asked without a cache"
[ "${calls[16]}" -lt 18 ] || wrong "${calls[16]} rows asked with a cache"
fails 2 "names 'g', but there is no reward of this name; .* 'f'" "$COHORT" score --data scored.jsonl --reward python:kept.py:f --reward-cache g
fails 2 "'accuracy', which takes no time" "$COHORT" score --data scored.jsonl --reward accuracy --reward-cache accuracy

# --- completions taken apart ---
cat >apart.py <<'END'
import json
def named(completions, parsed, **kwargs):
    for c, p in zip(completions, parsed):
        assert set(p) == {"thinking", "content", "tool_calls"} and p["tool_calls"] == [], p
        assert p["thinking"] == "<think>" * 3 and p["content"] == "", p
        assert c == [{"role": "assistant", "content": "<think>" * 4}], c
    return [1.0 for c in completions]
def tools(prompts, completions, parsed, **kwargs):
    for c, p in zip(completions, parsed):
        assert c == [{"role": "assistant", "content": "", "reasoning_content": p["thinking"]}], c
    return [1.0 for c in completions]
def exact(prompts, completions, completion_ids, trainer_state, log_extra, log_metric, answer, n):
    return [1.0 for c in completions]
def texts(completions, parsed, **kwargs):
    assert parsed == [None] * len(completions), parsed
    return [1.0 for c in completions]
END
cat >apart.sh <<'END'
while IFS= read -r line; do
    case $line in *'"parsed":{"thinking":"<think><think><think>","content":"","tool_calls":[]}'*) echo 1 ;; *) echo 0 ;; esac
done
END
THINKS=(--logit-bias 259:1000 --log-completions --steps 1)
succeeds "${grpo[@]}" --data chat.jsonl "${THINKS[@]}" --reward python:apart.py:named,python:apart.py:exact --reward 'exec:sh apart.sh' --out apart
has apart/metrics.jsonl '"rewards/apart.sh/mean": 1,'
is "$(grep -c '"parsed": {"thinking": "<think><think><think>", "content": "", "tool_calls": \[\]}' apart/completions.jsonl)" 6 "completions with their parts"
sed 's/^{/{"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], /' chat.jsonl >tools.jsonl
succeeds "${grpo[@]}" --data tools.jsonl "${THINKS[@]}" --reward python:apart.py:tools --out tools
echo '{"prompt": "q"}' >text.jsonl
succeeds "${grpo[@]}" --data text.jsonl "${THINKS[@]}" --reward python:apart.py:texts --out text
lacks text/completions.jsonl '"parsed"'
succeeds "$COHORT" score --data scored.jsonl --reward python:apart.py:texts
# What the worker makes of calls.
{ sed '/^if __name__/,$d' "$SOURCE/src/reward/python_worker.py"; cat <<'END'; } >worker.py
CALL = {"name": "f", "arguments": {"a": 1}}
row = {"completion": "raw", "columns": {"tools": [1]}, "parsed": {"thinking": "t", "content": "c", "tool_calls": [CALL, dict(CALL, id="x")]}}
assert message_of(row) == {"role": "assistant", "content": "c", "reasoning_content": "t", "tool_calls": [
    {"type": "function", "function": CALL}, {"id": "x", "type": "function", "function": CALL}]}, message_of(row)
row["parsed"]["tool_calls"][1] = {"error": "e", "text": "raw"}
assert message_of(row) == {"role": "assistant", "content": "raw"}
assert message_of(dict(row, columns={})) == {"role": "assistant", "content": "raw"}
END
succeeds python3 worker.py

# --- which interpreter ---
printf '#!/bin/sh\necho used >used\nunset VIRTUAL_ENV\nexec python3 "$@"\n' >my-python
chmod +x my-python
succeeds "$COHORT" score --data scored.jsonl --reward python:kept.py:f --python ./my-python
[ -f used ] || wrong "--python was not used"
mkdir -p env/bin && mv my-python env/bin/python3 && rm used
VIRTUAL_ENV=$PWD/env succeeds "$COHORT" score --data scored.jsonl --reward python:kept.py:f
[ -f used ] || wrong "VIRTUAL_ENV was not used"
done_testing

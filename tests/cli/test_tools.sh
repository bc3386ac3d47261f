#!/usr/bin/env bash
# Tools in Python: a small model that was taught to call them calls them, several in a turn; what fails is an answer; TRL's two frequencies; no
# more turns than max_tool_calling_iterations; rewards in Python get the messages, and objects of environments.
. "$SOURCE/tests/support/exact.sh"
command -v python3 >/dev/null || { echo "no python3"; exit 0; }
cd "$work"
cohort init --preset nano --tokenizer bytes --seed 1 --out model
cp "$SOURCE/examples/tool-use/template.jinja" template.jinja
python3 - <<'PYTHON'
import json
def call(name, **arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}
def row(letter, calls, answers):
    messages = [{"role": "user", "content": letter}]
    if calls:
        messages += [{"role": "assistant", "content": "", "tool_calls": calls}]
        messages += [{"role": "tool", "name": "x", "content": a} for a in answers]
    tools = [{"type": "function", "function": {"name": name}} for name in ("bad", "good")]
    return {"messages": messages + [{"role": "assistant", "content": "ok"}], "tools": tools}
rows = [row("a", [call("good", x=1), call("good", x=2)], ["2", "3"]), row("b", [call("bad", x=1)], ["{'error': 'no luck'}"]),
        row("c", [call("gone", x=1)], ["{'error': 'Tool gone not found.'}"]), row("d", [], [])]
with open("sft.jsonl", "w") as file:
    for r in rows:
        file.write(json.dumps(r) + "\n")
with open("rows.jsonl", "w") as file:
    for r in rows:
        file.write(json.dumps({"messages": r["messages"][:1], "letter": r["messages"][0]["content"]}) + "\n")
PYTHON
cat >tools.py <<'PYTHON'
def good(x: int) -> int:
    """Adds one.

    Args:
        x: The number
    """
    return x + 1


def bad(x: int) -> int:
    """Fails.

    Args:
        x: The number
    """
    print("for people, not for the protocol")
    raise ValueError("no luck")


class Counter:
    def reset(self, letter, **row):
        self.letter, self.total = letter, 0
        return "" if letter != "d" else None

    def good(self, x: int) -> int:
        """Adds.

        Args:
            x: The number
        """
        self.total += x
        return x + 1

    def bad(self, x: int) -> int:
        """Fails.

        Args:
            x: The number
        """
        raise ValueError("no luck")

    def get_reward(self):
        return float(self.total)
PYTHON
cat >rewards.py <<'PYTHON'
import json


def seen(prompts, completions, completion_ids, letter, environments=None, **kwargs):
    with open("seen.jsonl", "a") as file:
        for i, (c, l) in enumerate(zip(completions, letter)):
            file.write(json.dumps([l, c, len(completion_ids[i]), None if environments is None else vars(environments[i])]) + "\n")
    return [1.0 if c[-1]["content"] == "ok" else 0.0 for c in completions]
PYTHON
cohort sft --model model --data sft.jsonl --chat-template template.jinja --assistant-only-loss --steps 250 --batch-size 4 --learning-rate 5e-3 \
    --warmup-steps 10 --save-steps 0 --out taught
args=(grpo --model taught/final --data rows.jsonl --chat-template template.jinja --prompts-per-step 4 --num-generations 2 --steps 1
    --temperature 0.02 --learning-rate 1e-9 --max-completion-length 400 --log-completions --reward python:rewards.py:seen --seed 4)
value() { sed -n 's/.*"'"${2//\//\\/}"'": \([^,}]*\).*/\1/p' "$1/metrics.jsonl"; }
expect() { [ "$(value "$1" "$2")" = "$3" ] || fail "$1: $2 is $(value "$1" "$2"), expected $3: $(cat "$1/completions.jsonl")"; }

cohort "${args[@]}" --tools python:tools.py:bad,good --out run
expect run tools/call_frequency 1
expect run tools/failure_frequency 0.5
expect run tools/malformed_frequency 0
expect run environments/end/no_call 1
expect run environments/turns 1.75
expect run reward 1
grep -q "'error': 'no luck'" run/completions.jsonl || fail "the exception is no answer"
grep -q "'error': 'Tool gone not found.'" run/completions.jsonl || fail "an unknown tool is no answer"
python3 - <<'PYTHON' || fail "rewards in Python: $(cat seen.jsonl)"
import json
rows = {l: c for l, c, n, e in map(json.loads, open("seen.jsonl"))}
assert [m["role"] for m in rows["a"]] == ["assistant", "tool", "tool", "assistant"], rows["a"]
assert [m["content"] for m in rows["a"]] == ["", "2", "3", "ok"], rows["a"]
assert rows["a"][0]["tool_calls"][1] == {"type": "function", "function": {"name": "good", "arguments": {"x": 2}}}, rows["a"]
assert set(rows["b"][1]) == {"role", "name", "content"} and len(rows["d"]) == 1
PYTHON

cohort "${args[@]}" --tools python:tools.py:bad,good --max-tool-calling-iterations 0 --out none
expect none tools/call_frequency 0
expect none environments/end/turns 0.75
expect none environments/end/no_call 0.25
cohort "${args[@]}" --tools python:tools.py:bad,good --max-tool-calling-iterations 1 --out one
expect one environments/end/no_call 1

rm seen.jsonl
cohort "${args[@]}" --environment python:tools.py:Counter --out class
grep -q '"rewards": {"seen": 1, "environment": 3}' class/completions.jsonl || fail "get_reward: $(cat class/completions.jsonl)"
grep -q '{"letter": "a", "total": 3}' seen.jsonl || fail "environments: $(cat seen.jsonl)"

# The same episodes without training: the figures of grpo's first rollout at that temperature, and a row for each completion.
args_eval=(eval --model taught/final --data rows.jsonl --chat-template template.jinja --n 2 --temperature 0.02 --max-tokens 400 --seed 4
    --reward python:rewards.py:seen)
cohort "${args_eval[@]}" --tools python:tools.py:bad,good --format jsonl >eval.jsonl
expect_eval() { grep -q "\"$1\": $2[,}]" eval.jsonl || fail "eval: no '$1': $2 in $(cat eval.jsonl)"; }
expect_eval eval_reward 1
expect_eval eval_tools/call_frequency 1
expect_eval eval_environments/end/no_call 1
grep -q "'error': 'Tool gone not found.'" eval.jsonl || fail "eval: an unknown tool is no answer: $(cat eval.jsonl)"
cohort "${args_eval[@]}" --environment python:tools.py:Counter --max-turns 1 --format jsonl >eval.jsonl
expect_eval eval_environments/end/turns 0.75

refused() { # NAME MESSAGE ARGUMENTS...
    local name=$1 message=$2
    shift 2
    if "$COHORT" "${args[@]}" "$@" --out "$name" 2>stderr; then fail "$name: was taken"; fi
    grep -q -- "$message" stderr || fail "$name: $(cat stderr)"
}
printf 'def nothing(x):\n    "No hint."\n' >untyped.py
refused untyped "no type hint" --tools python:untyped.py
printf 'def broken(:\n' >broken.py
refused broken "SyntaxError" --tools python:broken.py
refused absent "no file" --tools python:absent.py
refused unnamed "no function 'other'" --tools python:tools.py:other
refused both "both given" --tools python:tools.py --environment 'exec:true'
refused spec "expected python:FILE.py" --tools tools.py
refused class "no class 'Nobody'" --environment python:tools.py:Nobody
echo "tools in Python: as TRL has them"

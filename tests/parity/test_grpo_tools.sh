#!/usr/bin/env bash
# Episodes with tools against TRL's GRPOTrainer (tests/fixtures/grpo_tools.json, by oracle/grpo_tools_trl.py): a small model that was taught the
# script of turns says them; ids, which of them are trained on, the messages that rewards get, and what is logged are TRL's.
. "$SOURCE/tests/support/exact.sh"
command -v python3 >/dev/null || { echo "no python3"; exit 0; }
cd "$work"
export FIXTURE="$SOURCE/tests/fixtures/grpo_tools.json"
cohort init --preset nano --tokenizer bytes --seed 1 --out model
cp "$SOURCE/examples/tool-use/template.jinja" template.jinja
cat >prepare.py <<'PYTHON'
import json, os
fixture = json.load(open(os.environ["FIXTURE"]))
tools = [{"type": "function", "function": {"name": name}} for name in ("good", "bad")]
with open("sft.jsonl", "w") as sft, open("rows.jsonl", "w") as rows:
    for e in fixture["episodes"]:
        asked = [{"role": "user", "content": e["question"]}]
        rows.write(json.dumps({"messages": asked, "question": e["question"]}) + "\n")
        script = iter(e["script"]) # as it is said, whatever is made of it
        said = [{"role": "assistant", "content": next(script)} if m["role"] == "assistant" else m for m in e["messages"]]
        sft.write(json.dumps({"messages": asked + said, "tools": tools}) + "\n")
PYTHON
python3 prepare.py
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
    raise ValueError("no luck")
PYTHON
cat >rewards.py <<'PYTHON'
import json


def seen(prompts, completions, completion_ids, question, **kwargs):
    with open("seen.jsonl", "a") as file:
        for q, c, ids in zip(question, completions, completion_ids):
            file.write(json.dumps({"question": q, "messages": c, "ids": list(ids)}) + "\n")
    return [1.0 if c[-1].get("content") == "ok" else 0.25 * len(c) for c in completions]
PYTHON
cohort sft --model model --data sft.jsonl --chat-template template.jinja --assistant-only-loss --steps 200 --batch-size 8 --learning-rate 5e-3 \
    --lr-scheduler-type linear --warmup-steps 10 --save-steps 0 --logging-steps 50 --seed 1 --out taught
cohort grpo --model taught/final --data rows.jsonl --chat-template template.jinja --tools python:tools.py:good,bad --reward python:rewards.py:seen \
    --prompts-per-step 8 --num-generations 2 --no-shuffle-dataset --steps 1 --temperature 0.02 --learning-rate 1e-9 --max-completion-length 600 \
    --max-tool-calling-iterations 2 --log-completions --seed 4 --out run
cat >compare.py <<'PYTHON'
import json, math, os, sys
fixture = json.load(open(os.environ["FIXTURE"]))
bad = []
seen, masks = {}, {}
for row in map(json.loads, open("seen.jsonl")):
    seen.setdefault(row["question"], []).append(row)
for row in map(json.loads, open("run/completions.jsonl")):
    parts = zip(row["episode"]["messages"], row["episode"]["tokens"])
    masks.setdefault(fixture["episodes"][row["index"]]["question"], []).append(
        [int(message["role"] == "assistant") for message, n in parts for _ in range(n)])
for e in fixture["episodes"]:
    q = e["question"]
    if len(seen.get(q, [])) != 2:
        bad.append("%s: %d completions, expected 2" % (q, len(seen.get(q, []))))
    for row in seen.get(q, []):
        if row["ids"] != e["ids"]:
            bad.append("%s: ids %s, TRL has %s" % (q, row["ids"], e["ids"]))
        if row["messages"] != e["messages"]:
            bad.append("%s: messages %s, TRL has %s" % (q, row["messages"], e["messages"]))
    for mask in masks[q]:
        if mask != e["mask"]:
            bad.append("%s: trained on %s, TRL on %s" % (q, mask, e["mask"]))
logged = json.loads(open("run/metrics.jsonl").readlines()[-1])
for name, value in fixture["measured"].items():
    if name not in logged:
        bad.append("%s is not logged" % name)
    elif not math.isclose(logged[name], value, rel_tol=1e-5, abs_tol=1e-6):
        bad.append("%s is %s, TRL's %s" % (name, logged[name], value))
absent = [name for name in fixture["logged"] if name not in logged and name not in sys.argv[1:]]
if absent:
    bad.append("what TRL logs and cohort does not: " + " ".join(absent))
print("\n".join(bad))
sys.exit(len(bad) > 0)
PYTHON
python3 compare.py || fail "episodes with tools are not TRL's"

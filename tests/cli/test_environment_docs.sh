#!/usr/bin/env bash
# The programs of docs/ENVIRONMENTS.md run: each ```python NAME``` block is a file, and the commands below it are tried on a small model.
. "$SOURCE/tests/support/exact.sh"
command -v python3 >/dev/null || { echo "no python3"; exit 0; }
make_model "$work/model"
cd "$work"
awk '/^```python / { name = $2; next } /^```/ { name = "" } name != "" { print > name }' "$SOURCE/docs/ENVIRONMENTS.md"
[ -s guess.py ] || fail "docs/ENVIRONMENTS.md has no guess.py"
printf '{"eos_token_id": [%s]}\n' "$(seq -s, 48 59)" >model/generation_config.json # digits, so that a guess is a turn
for i in 1 2 3 4; do
    printf '{"messages": [{"role": "user", "content": "Guess my number, 1 to 20."}], "max": %d}\n' $((4 + i))
done >rows.jsonl
args=(grpo --model model --data rows.jsonl --prompts-per-step 2 --num-generations 4 --steps 2 --max-turns 6 --max-completion-length 256
    --log-completions)

cohort "${args[@]}" --environment 'exec:python3 guess.py' --out guess
grep -q '"role": "user", "content": "\(higher\|lower\|a number, please\)"' guess/completions.jsonl || fail "guess.py gave no hint"
grep -q '"environments/end/turns": ' guess/metrics.jsonl || fail "no metrics of ends"
# An answer that does not fit: dropped, or its words cut at a character, so that the model goes on.
cat >long.py <<'PYTHON'
import json, sys
for line in sys.stdin:
    m = json.loads(line)
    say = {"hello": {"type": "ready", "protocol": 1, "name": "long", "concurrency": 64}, "begin": {"type": "reply", "turn": 0}, "finish": {"type": "end", "reward": 0},
           "turn": {"type": "reply", "turn": m.get("turn"), "messages": [{"role": "user", "content": "é€" * 400}]}}.get(m["type"])
    if say is None:
        break
    print(json.dumps({**say, **({"id": m["id"]} if "id" in m else {})}), flush=True)
PYTHON
cohort "${args[@]}" --environment 'exec:python3 long.py' --max-completion-length 300 --out dropped
grep -q '"environments/end/overlong": 1,' dropped/metrics.jsonl || fail "an answer that does not fit was not dropped"
cohort "${args[@]}" --environment 'exec:python3 long.py' --max-completion-length 300 --overlong cut --out cut
grep -q '"environments/turns": 2,' cut/metrics.jsonl || fail "after an answer that was cut the model does not go on: $(cat cut/metrics.jsonl)"
python3 - <<'PYTHON' || fail "what was cut: $(head -n 2 cut/completions.jsonl)"
import json
for e in (json.loads(line)["episode"] for line in open("cut/completions.jsonl")):
    content = e["messages"][1]["content"]
    assert [m["role"] for m in e["messages"]][:3] == ["assistant", "user", "assistant"] and e["end"] in ("cut_turn", "overlong"), e
    assert 20 < len(content) < 800 and content == ("é€" * 400)[:len(content)], e
    assert 295 <= sum(e["tokens"][:2]) < 300 and sum(e["tokens"]) <= 300, e["tokens"]
PYTHON
# Every end, option and metric that the page names is there.
for word in $(sed -n 's/^#define.*//; s/^    X([A-Z_]*, "\([a-z_]*\)".*/\1/p' "$SOURCE/src/environment/end_list.h"); do
    grep -q "\`$word\`" "$SOURCE/docs/ENVIRONMENTS.md" || fail "docs/ENVIRONMENTS.md does not say what the end $word is"
    grep -q "\"environments/end/$word\": " guess/metrics.jsonl || fail "no metric of the end $word"
done
for metric in environments/turns environments/deaths environments/late environments/latency_p50 environments/latency_p99 rollout/wait_share \
    rollout/rows rollout/single_share rollout/set_back \
    tools/call_frequency tools/failure_frequency tools/malformed_frequency; do
    grep -q "\"$metric\": " guess/metrics.jsonl || fail "no metric $metric"
done
echo "docs/ENVIRONMENTS.md: its programs run"

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
# Every end, option and metric that the page names is there.
for word in $(sed -n 's/^#define.*//; s/^    X([A-Z_]*, "\([a-z_]*\)".*/\1/p' "$SOURCE/src/environment/end_list.h"); do
    grep -q "\`$word\`" "$SOURCE/docs/ENVIRONMENTS.md" || fail "docs/ENVIRONMENTS.md does not say what the end $word is"
    grep -q "\"environments/end/$word\": " guess/metrics.jsonl || fail "no metric of the end $word"
done
for metric in environments/turns environments/deaths environments/late environments/latency_p50 environments/latency_p99 rollout/wait_share \
    tools/call_frequency tools/failure_frequency tools/malformed_frequency; do
    grep -q "\"$metric\": " guess/metrics.jsonl || fail "no metric $metric"
done
echo "docs/ENVIRONMENTS.md: its programs run"

#!/usr/bin/env bash
# guided_tools through the program: an untrained model calls tools by their schemas, in generate and in episodes of grpo, where each
# turn is guided anew; what is drawn is what training computes, on the model's distribution and on the constrained one.
. "$SOURCE/tests/support/exact.sh"
command -v python3 >/dev/null || { echo "no python3"; exit 0; }
cd "$work"
cohort init --preset nano --tokenizer bytes --seed 1 --out model
cp "$SOURCE/examples/tool-use/template.jinja" template.jinja
tool='{"type": "function", "function": {"name": "good", "parameters": {"type": "object", "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 999}}, "required": ["x"], "additionalProperties": false}}}'
for letter in a b c d; do
    echo "{\"messages\": [{\"role\": \"user\", \"content\": \"$letter\"}], \"tools\": [$tool]}"
done >asked.jsonl
sed 's/, "tools": .*/}/' asked.jsonl >rows.jsonl

generate() { cohort generate --model model --chat-template template.jinja --batch asked.jsonl --n 4 --format jsonl --seed 3 "$@"; }
generate --guided-tools required --guided-close 60 --max-tokens 80 >required.jsonl
calls='"completion": "\(<tool_call>\(\\n\)\?{\\"name\\": \\"good\\", \\"arguments\\": {\\"x\\": [0-9]\{1,3\}}}\(\\n\)\?</tool_call>\(\\n\)\?\)\+"'
[ "$(grep -c "$calls" required.jsonl)" = 16 ] || fail "required: $(grep -v "$calls" required.jsonl | head -n 2)"
generate --guided-tools none --max-tokens 40 >none.jsonl
! grep -q '<tool_call>' none.jsonl || fail "none: $(cat none.jsonl)"
generate --guided-tools auto --max-tokens 40 >auto.jsonl
[ "$(wc -l <auto.jsonl)" = 16 ] || fail "auto: $(cat auto.jsonl)"
refused() { # MESSAGE ARGUMENTS...
    local message=$1
    shift
    if "$COHORT" generate --model model "$@" >stdout 2>stderr; then fail "$* was taken"; fi
    grep -q -- "$message" stderr || fail "$*: $(cat stderr)"
}
refused "guided_tools required: there are no tools to call" --chat-template template.jinja --batch rows.jsonl --guided-tools required
refused "does not say how tools are called" --batch asked.jsonl --guided-tools auto --chat-template <(echo '{{ messages[0].content }}')
refused "one option guides completions" --batch asked.jsonl --guided-tools auto --guided-regex a --chat-template template.jinja

# --- episodes: two turns of calls and one more, each guided; the answers between them are no concern of the guide ---
cat >tools.py <<'PYTHON'
def good(x: int) -> int:
    """Adds one.

    Args:
        x: The number
    """
    return x + 1
PYTHON
cat >rewards.py <<'PYTHON'
def spread(completion_ids, **kwargs):
    return [sum(ids) % 5 for ids in completion_ids]
PYTHON
args=(grpo --model model --chat-template template.jinja --data rows.jsonl --prompts-per-step 2 --num-generations 4 --max-completion-length 300
    --learning-rate 1e-3 --steps 3 --save-steps 2 --log-completions --tools python:tools.py --max-tool-calling-iterations 2 --num-iterations 2
    --reward python:rewards.py:spread --seed 5 --guided-tools required --guided-close 60)
for logprob in model masked; do
    cohort "${args[@]}" --guided-logprob $logprob --threads 1 --out $logprob
    cohort "${args[@]}" --guided-logprob $logprob --threads 2 --decode-concurrency 3 --out $logprob-again
    same "$logprob/completions.jsonl" "$logprob-again/completions.jsonl" "$logprob: threads and places"
    if grep -o '"sampling/sampling_logp_difference/max": [^,}]*' $logprob/metrics.jsonl | grep -qv ': 0$'; then
        fail "$logprob: training computes other log-probs than were sampled"
    fi
    grep -q '"tools/call_frequency": [1-9]' $logprob/metrics.jsonl || fail "$logprob: no calls: $(tail -n 1 $logprob/metrics.jsonl)"
    ! grep -q '"tools/failure_frequency": [^0]' $logprob/metrics.jsonl || fail "$logprob: calls that failed"
    # In the middle of a batch, whose guides come back with it.
    cohort "${args[@]}" --guided-logprob $logprob --out $logprob-again --resume $logprob-again/checkpoints/step-2
    same "$logprob/completions.jsonl" "$logprob-again/completions.jsonl" "$logprob: resumed"
done
cmp -s model/final/model.safetensors masked/final/model.safetensors && fail "both distributions train alike"
echo "guided tools: as they should be"

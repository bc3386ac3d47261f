# Rewards through the commands: any number of them, names of any length, programs of the documents, what a pattern without end says, NULs.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4; do echo "{\"prompt\": \"q$i\", \"completion\": \"\\\\boxed{$i}\", \"answer\": \"$i\", \"words\": [\"box\", \"no\"]}"; done >d.jsonl

# --- forty rewards, and two long names that differ in their last character ---
long=$(printf 'r%.0s' $(seq 1 120))
many=()
for i in $(seq 1 38); do
    printf 'while read -r row; do echo %s; done\n' "$i" >"p$i.sh"
    many+=(--reward "exec:sh p$i.sh")
done
for end in a b; do
    printf 'while read -r row; do echo 0.%s; done\n' "$([ $end = a ] && echo 25 || echo 75)" >"$long$end.sh"
    many+=(--reward "exec:sh $long$end.sh")
done
succeeds "$COHORT" score --data d.jsonl "${many[@]}"
cp out scores
is "$(wc -l <scores)" 4 "rows with forty rewards"
has scores "\"${long}a.sh\": 0.25, \"${long}b.sh\": 0.75\\}, \"reward\": 742\\}"
succeeds "$COHORT" grpo --model m --data d.jsonl --num-generations 2 --prompts-per-step 2 --max-completion-length 4 --threads 1 --steps 1 \
    --eval-data d.jsonl --eval-steps 1 "${many[@]}" --out run
for i in $(seq 1 38); do has run/metrics.jsonl "\"rewards/p$i.sh/mean\": $i,"; done
has run/metrics.jsonl "\"rewards/${long}a.sh/mean\": 0.25,"
has run/metrics.jsonl "\"rewards/${long}b.sh/mean\": 0.75,"
has run/metrics.jsonl "\"eval_rewards/${long}b.sh/mean\": 0.75"
is "$(grep -o '"rewards/[^"]*/std"' run/metrics.jsonl | sort -u | wc -l)" 40 "metrics of forty rewards"

# --- a pattern that never ends counts as no match, is told once, and stops nothing ---
for i in 1 2 3; do echo '{"completion": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"}'; done >endless.jsonl
echo '{"completion": "aaa"}' >>endless.jsonl
succeeds "$COHORT" score --data endless.jsonl --reward regex --reward-pattern '^(a+)+$'
is "$(field reward <out | tr '\n' ' ')" "0 0 0 1 " "a pattern that never ends"
is "$(grep -c 'takes too many steps on prompt 0' err)" 1 "told once"

# --- a NUL hides nothing ---
printf '{"completion": "7\\u0000 and more", "answer": "7"}\n{"completion": "7", "answer": "7"}\n' >nul.jsonl
printf 'while read -r row; do case $row in *"7\\\\u0000 and more"*) echo 2 ;; *) echo 1 ;; esac; done\n' >nul.sh
succeeds "$COHORT" score --data nul.jsonl --reward accuracy --reward regex --reward-pattern 'more$' --reward 'exec:sh nul.sh'
has out '"rewards": \{"accuracy": 0, "regex": 1, "nul.sh": 2\}'
has out '"rewards": \{"accuracy": 1, "regex": 0, "nul.sh": 1\}'

# --- rewards of lengths and tokens: ids, what generate prints, a number alone, and rows that have none of them ---
cat >tokens.jsonl <<'END'
{"completion": "\\boxed{7}", "answer": 7, "completion_ids": [5, 5, 5, 5, 5], "completion_tokens": 5}
{"completion": "<think>7</think>8", "answer": 8, "tokens": [1, 2, 3, 4, 5, 6, 7, 8, 9]}
{"completion": "<think>8", "answer": 8, "completion_ids": [], "tokens": [1], "completion_tokens": null}
END
counts=(--reward soft_overlong_punishment --max-completion-len 10 --soft-punish-cache 4)
succeeds "$COHORT" score --data tokens.jsonl "${counts[@]}" --reward repetition_penalty --ngram-size 2 --max-penalty -2 \
    --reward cosine_scaled --max-len 10 --max-value-correct 3 --reward reasoning_accuracy --reward think_format
is "$(field soft_overlong_punishment <out | tr '\n' ' ')" "0 -0.75 0 " "soft overlong punishment"
is "$(field repetition_penalty <out | tr '\n' ' ')" "-1.5 0 0 " "repetition penalty"
is "$(field cosine_scaled <out | cut -c 1-5 | tr '\n' ' ')" "1.75 0.561 -1 " "cosine scaled"
is "$(field reasoning_accuracy <out | tr '\n' ' ')" "0 1 0 " "reasoning accuracy"
is "$(field think_format <out | tr '\n' ' ')" "0 1 0 " "think format"
succeeds "$COHORT" score --data tokens.jsonl --reward length --reward-min-length 4 --reward-max-length 9 --reward xml_format --reward-tags think \
    --reward xml_count
is "$(field length <out | cut -c 1-5 | tr '\n' ' ')" "1 0.555 1 " "length"
is "$(field xml_format <out | tr '\n' ' ')" "0 1 0 " "xml format"
is "$(field xml_count <out | tr '\n' ' ')" "0 0 0 " "xml count"
# --- JSON and calls of tools ---
cat >calls.jsonl <<'END'
{"completion": "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>", "answer": "7", "tools": [{"name": "f"}]}
{"completion": "<reasoning>a</reasoning><answer>7</answer>", "answer": "7", "tools": [{"name": "g"}]}
END
echo '{"required": ["name", "arguments"], "properties": {"arguments": {"minProperties": 1}}}' >schema.json
succeeds "$COHORT" score --data calls.jsonl --reward tool_use,json_schema --reward-schema schema.json --reward correctness,integer \
    --reward strict_format --reward soft_format
is "$(field tool_use <out | tr '\n' ' ')" "1 0 " "tool use"
is "$(field json_schema <out | tr '\n' ' ')" "0.5 0 " "JSON schema"
is "$(field correctness <out | tr '\n' ' ')" "0 2 " "correctness"
is "$(field soft_format <out | tr '\n' ' ')" "0 0.5 " "soft format"
succeeds "$COHORT" score --data calls.jsonl --reward tool_use --reward-tools h --reward-tool-optional
is "$(field tool_use <out | tr '\n' ' ')" "-0.5 0.5 " "tool use with tools of an option"
fails 2 "'json_schema': prompt 0 has no JSON schema in its column 'schema'" "$COHORT" score --data calls.jsonl --reward json_schema
echo '{"properties": {"a": {"contains": {}}}}' >schema.json
fails 1 'schema.json: at #/properties/a/contains: this keyword is not supported' \
    "$COHORT" score --data calls.jsonl --reward json_schema --reward-schema schema.json
fails 2 "reward-min-length 600 is more than --reward-max-length 500" "$COHORT" score --data tokens.jsonl --reward length --reward-min-length 600
echo '{"completion": "a", "completion_tokens": 9}' >number.jsonl
succeeds "$COHORT" score --data number.jsonl "${counts[@]}"
is "$(field reward <out)" "-0.75" "a length without ids"
fails 2 "'repetition_penalty': prompt 0, completion 0: the tokens of the completion are not known; add a column 'completion_ids'" \
    "$COHORT" score --data number.jsonl --reward repetition_penalty
fails 2 "the length of the completion in tokens is not known; .* or 'completion_tokens'" "$COHORT" score --data d.jsonl "${counts[@]}"
fails 2 "needs --max-completion-len" "$COHORT" score --data tokens.jsonl --reward soft_overlong_punishment
for wrong in '"completion_ids": 3' '"completion_ids": [-1]' '"completion_ids": [1], "completion_tokens": 2' '"completion_tokens": 1.5' '"completion_tokens": "2"'; do
    echo "{\"completion\": \"a\", $wrong}" >wrong.jsonl
    fails 1 'wrong.jsonl:1: .*"completion_' "$COHORT" score --data wrong.jsonl "${counts[@]}"
done
# In training they count what was drawn: never more than 4 tokens, and 4 of 4 is half way.
succeeds "$COHORT" grpo --model m --data d.jsonl --num-generations 2 --prompts-per-step 2 --max-completion-length 4 --threads 1 --steps 1 --seed 1 \
    --reward soft_overlong_punishment --max-completion-len 6 --soft-punish-cache 4 --reward repetition_penalty --ngram-size 1 \
    --eval-data d.jsonl --eval-steps 1 --out counted
has counted/metrics.jsonl '"rewards/soft_overlong_punishment/mean": -0.5,'
has counted/metrics.jsonl '"eval_rewards/soft_overlong_punishment/mean": -0.5'
has counted/metrics.jsonl '"rewards/repetition_penalty/mean": '

# --- programs of README.md and examples/ ---
if command -v python3 >/dev/null; then
    printf 'import sys, json\nfor line in sys.stdin:\n    row = json.loads(line)\n    print(len(row["completion"]), flush=True)\n' >natural.py
    succeeds "$COHORT" score --data d.jsonl --reward "exec:python3 $SOURCE/examples/reward_pool.py" --reward 'exec:python3 natural.py'
    is "$(field reward_pool.py <out | tr '\n' ' ')" "0.5 0.5 0.5 0.5 " "the example with a pool"
    is "$(field natural.py <out | tr '\n' ' ')" "9 9 9 9 " "a program that answers line by line"
    succeeds "$COHORT" grpo --model m --data d.jsonl --num-generations 2 --prompts-per-step 2 --max-completion-length 4 --threads 1 --steps 2 \
        --reward "exec:python3 $SOURCE/examples/reward_pool.py" --out pool
    is "$(wc -l <pool/metrics.jsonl)" 2 "steps with the example"
fi

# --- every kind of reward there is, on one file: the list is the program's own ---
cat >kinds.jsonl <<'J'
{"prompt": "p", "completion": "<think>so</think>\n<answer>\\boxed{12}</answer>", "completion_ids": [1, 2, 3, 1, 2, 3, 4], "answer": "12", "solution": "12", "pattern": "box", "schema": {"type": "object"}}
J
fails 2 'there is no reward' "$COHORT" score --data kinds.jsonl --reward no_such_one
kinds=$(sed -n 's/.*there are \(.*\) and python:.*/\1/p' err | sed 's/(or [a-z_]*)//; s/, /\n/g; s/ and /\n/g' | tr -d ' ')
printf 'while read -r row; do echo 0.5; done\n' >half.sh
printf 'def half(completions, **columns):\n    return [0.5 for c in completions]\n' >half.py
n=0
for kind in $kinds python:FILE; do
    case $kind in
    exec:*) kind='exec:sh half.sh' ;;
    python:*) command -v python3 >/dev/null || continue; kind=python:half.py:half ;;
    model:* | judge:*) continue ;; # tests/cli/test_reward_model.sh, test_judge.sh
    esac
    succeeds "$COHORT" score --data kinds.jsonl --reward "$kind" --max-completion-len 20 --soft-punish-cache 4 --max-len 20
    is "$(wc -l <out)" 1 "rows that $kind scores"
    has out '"rewards": \{"[^"]*": (-?[0-9]|null)'
    n=$((n + 1))
done
[ "$n" -ge 17 ] || wrong "$n kinds of rewards were tried: $kinds"
done_testing

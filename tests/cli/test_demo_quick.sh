#!/bin/bash
# The whole pipeline of the demo with a few steps: every promised file, the last line, a second run, and other people's folders left alone.
# Whether it learns is for the slow tests.
set -euo pipefail
export LC_ALL=C
: "${COHORT:?the program}" "${SOURCE:?the source tree}"
export COHORT
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAIL: $*"; exit 1; }

demo() { "$SOURCE/scripts/demo" --steps 3 --warmup-steps 150 --threads 1 "$@" > demo.log 2>&1; }
check() {
    local line
    line=$(tail -1 demo.log)
    [[ $line =~ ^held-out\ accuracy:\ [0-9.]+%\ -\>\ [0-9.]+%$ ]] || { tail -20 demo.log; fail "the last line is '$line', expected 'held-out accuracy: A -> B'"; }
    [ "$(grep -c '^   sort [a-l]\{6\} = ' demo.log)" -eq 6 ] || fail "expected three completions before and three after"
    [ "$(grep '^   sort [a-l]\{6\} = ' demo.log | cut -c1-18 | sort | uniq -c | grep -c '^ *2 ')" -eq 3 ] || fail "the completions after are of other questions"
    [ "$(wc -l < runs/demo/metrics.jsonl)" -eq 4 ] || fail "runs/demo/metrics.jsonl: expected a line for the evaluation before and one for each of 3 steps"
    for file in config.yaml metrics.jsonl reward.svg eval-step-0.jsonl eval-step-3.jsonl; do
        [ -s "runs/demo/$file" ] || fail "runs/demo/$file is missing"
    done
    for file in config.json model.safetensors tokenizer.json tokenizer_config.json; do
        [ -s "runs/demo/final/$file" ] || fail "runs/demo/final/$file is missing"
        [ -s "runs/demo/checkpoints/step-3/$file" ] || fail "runs/demo/checkpoints/step-3/$file is missing"
    done
    cmp -s runs/demo/final/model.safetensors runs/demo-warmup/sft/final/model.safetensors && fail "the model is as it was before"
    return 0
}

demo || { tail -20 demo.log; fail "the demo ended with an error"; }
check
cp runs/demo/final/model.safetensors first.safetensors
demo || { tail -20 demo.log; fail "a second demo ended with an error"; }
check
cmp first.safetensors runs/demo/final/model.safetensors || fail "the second demo made another model"

# Folders that no demo wrote stay.
mkdir -p runs/mine
echo precious > runs/mine/file
demo --out runs/mine && fail "the demo wrote into a folder that is not its own"
[ "$(cat runs/mine/file)" = precious ] || fail "the demo touched a folder that is not its own"
grep -q 'not of an earlier demo' demo.log || fail "no word about the folder: $(cat demo.log)"

# The reward program says of answers what the built-in reward says.
if command -v python3 > /dev/null; then
    cat > answers.jsonl <<'END'
{"prompt": "", "completion": "abc", "answer": "abc"}
{"prompt": "", "completion": "acb", "answer": "abc"}
{"prompt": "", "completion": "", "answer": "abc"}
{"prompt": "", "completion": " abc. ", "answer": "abc"}
{"prompt": "", "completion": "ABC", "answer": "abc"}
{"prompt": "", "completion": "a\u0001bc", "answer": "abc"}
{"prompt": "", "completion": "so \\boxed{1} then \\boxed{\\frac{3}{4}} and \\boxed{", "answer": "0.75"}
{"prompt": "", "completion": "<think>5</think> The answer is: 1,234 cm. Done", "answer": 1234}
{"prompt": "", "completion": "<think>5</think>\n", "answer": "<think>5"}
{"prompt": "", "completion": "work\n#### $5", "answer": "#### 5 dollars"}
{"prompt": "", "completion": "1.5 \\times 10^{3}", "answer": "1500"}
{"prompt": "", "completion": "1,23", "answer": "123"}
{"prompt": "", "completion": "0.333", "answer": "1/3"}
{"prompt": "", "completion": "5 million", "answer": "5"}
{"prompt": "", "completion": "x = 5", "answer": "y = 5"}
{"prompt": "", "completion": "x = 5", "answer": "5"}
{"prompt": "", "completion": "x", "answer": null}
{"prompt": "", "completion": "0.1", "solution": 0.1}
END
    "$COHORT" score --data answers.jsonl --reward "accuracy,exec:python3 $SOURCE/examples/reward_accuracy.py" > scores.jsonl
    sed -E 's/.*"accuracy": ([^,]*), "reward_accuracy.py": ([^}]*)}.*/\1 \2/' scores.jsonl > pairs
    [ "$(awk '$1 == $2' pairs | wc -l)" -eq 18 ] || { paste pairs answers.jsonl | awk '$1 != $2'; fail "examples/reward_accuracy.py and the reward 'accuracy' differ"; }
    [ "$(tr '\n' ' ' < pairs)" = "1 1 0 0 0 0 1 1 1 1 0 0 1 1 1 1 1 1 1 1 1 1 0 0 0 0 0 0 0 0 1 1 null null 1 1 " ] || fail "verdicts: $(tr '\n' ' ' < pairs)"
fi

# init, info, score, eval and the help: what they print and write.
. "$(dirname "$0")/shell.sh"

# --- help: every command has one that begins with how to call it, and names no option twice ---
succeeds "$COHORT" --help
commands=$(sed -n 's/^  \([a-z]*\)  .*/\1/p' out)
is "$(echo $commands)" "generate logprobs tokenize info init sft grpo eval score bench data merge runs fork report plot dpo kto orpo cpo rloo watch reward serve distill chat perplexity" "commands in --help"
for command in $commands; do
    succeeds "$COHORT" $command --help
    has out "^Usage: cohort $command .*\[OPTIONS\]"
    is "$(grep -o '^  --[a-z0-9-]*' out | sort | uniq -d)" "" "options twice in $command --help"
    is "$(awk 'length > 100' out)" "" "lines over 100 columns in $command --help"
    cp out direct
    succeeds "$COHORT" help $command
    same out direct
    succeeds "$COHORT" $command --model nowhere --help
    same out direct
done
succeeds "$COHORT" --version
has out '^cohort [0-9]+\.[0-9]+\.[0-9]+$'
succeeds "$COHORT" --options-docs
has out '^\| `num_generations` \|'

# --- init ---
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
is "$(ls m | tr '\n' ' ')" "SHA256SUMS config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json " "files of a checkpoint"
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out again
same m again
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 2 --out other
differs "$(cksum <m/model.safetensors)" "$(cksum <other/model.safetensors)" "weights of another seed"
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --dtype f32 --out wide
has wide/config.json '"torch_dtype": "float32"'
header=$(head -c 8 m/model.safetensors | od -An -t u8 | tr -d ' ')
wide=$(head -c 8 wide/model.safetensors | od -An -t u8 | tr -d ' ')
is $(($(stat -c %s wide/model.safetensors) - 8 - wide)) $((2 * ($(stat -c %s m/model.safetensors) - 8 - header))) "bytes of f32 weights"
succeeds "$COHORT" init --config m/config.json --tokenizer m --seed 1 --out copy
same copy/model.safetensors m/model.safetensors
same copy/tokenizer.json m/tokenizer.json
succeeds "$COHORT" init --config m/config.json --seed 1 --out bare
has err 'no tokenizer'
absent bare/tokenizer.json
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out deep/er/m
same deep/er/m m

# --- info ---
succeeds "$COHORT" info
has out '^backend +cpu, [0-9]+ threads'
# Affinity is respected, and named.
first=$(sed -n 's/^Cpus_allowed_list:[^0-9]*\([0-9]*\).*/\1/p' /proc/self/status)
if command -v taskset >/dev/null && [ "$(getconf _NPROCESSORS_ONLN)" -gt 1 ]; then
    succeeds taskset -c "$first" "$COHORT" info
    has out '^backend +cpu, 1 threads: this process may run on 1 of [0-9]+ cores'
    succeeds taskset -c "$first" "$COHORT" info --threads 2
    has out '^backend +cpu, 2 threads$'
fi
succeeds "$COHORT" info --model m
has out '^parameters +0\.1 M in 24 tensors, BF16'
has out '^ends at ids +258 256$'
for size in 0.6b:596.0 1.7b:1720.6 4b:4022.5 8b:8190.7 14b:14768.3 32b:32762.1; do # the published counts
    succeeds "$COHORT" info --preset qwen3-${size%:*}
    has out "^parameters +${size#*:} M"
done
succeeds "$COHORT" info --model m --memory --prompts-per-step 2 --num-generations 2
has out '^ +total, recompute layer +[0-9.]+ GB of [0-9.]+ free'

# --- score ---
cat >rows.jsonl <<'R'
{"prompt": "2+2", "completion": "The answer is \\boxed{4}", "answer": "4", "pattern": "[0-9]"}
{"prompt": "2+2", "completion": "\\boxed{5}", "answer": "4", "pattern": "^6"}
{"completion": "<think>\nfour\n</think>\n\\boxed{4.0}", "answer": "4", "pattern": "f(ou)r"}
{"completion": "", "answer": null, "pattern": "^$"}
R
score() { succeeds "$COHORT" score --data rows.jsonl "$@"; }
score --reward accuracy
is "$(field reward <out | tr '\n' ' ')" "1 0 1 null " "accuracy"
has out '^\{"index": 3, "rewards": \{"accuracy": null\}, "reward": null\}$'
score --reward format
is "$(field reward <out | tr '\n' ' ')" "0 0 1 0 " "format"
score --reward regex
is "$(field reward <out | tr '\n' ' ')" "1 0 1 1 " "regex of each row"
score --reward regex --reward-pattern 5
is "$(field reward <out | tr '\n' ' ')" "0 1 0 0 " "one regex for all"
score --reward accuracy,format,regex --reward-weights 1,10,100
is "$(field reward <out | tr '\n' ' ')" "101 0 111 100 " "weighted sum, null left out"
score --reward accuracy,format,regex
is "$(field reward <out | tr '\n' ' ')" "2 0 3 1 " "sum"
cat >half.sh <<'R'
while IFS= read -r line; do
    case $line in
    *'"answer":null'* | *'"answer": null'*) echo null ;;
    *) echo '{"reward": 0.25}' ;;
    esac
done
R
score --reward 'exec:sh half.sh,accuracy' --reward-weights 2,-1
is "$(field reward <out | tr '\n' ' ')" "-0.5 0.5 -0.5 null " "a program's rewards"
has out '"rewards": \{"half.sh": 0.25, "accuracy": 1\}'
cp out file.out
succeeds sh -c '"$0" score --data - --reward "exec:sh half.sh,accuracy" --reward-weights 2,-1 <rows.jsonl' "$COHORT"
same out file.out
printf 'data: rows.jsonl\nreward:\n- exec:sh half.sh\n- accuracy\nreward_weights: [2, 5]\n' >score.yaml
succeeds "$COHORT" score --config score.yaml --reward-weights 2,-1
same out file.out

# --- eval ---
evaluate() { "$COHORT" eval --model m --data prompts.jsonl --threads 1 --max-completion-length 8 "$@"; }
for i in 1 2 3; do echo "{\"prompt\": \"q$i\", \"answer\": \"$i\"}"; done >prompts.jsonl
succeeds evaluate --reward 'exec:sh half.sh,accuracy' --n 2
has out '^eval_reward +0\.25$'
has out '^eval_rewards/half.sh/mean +0\.25$'
has out '^eval_rewards/accuracy/mean +0$'
has out '^eval_completions/mean_length +8$'
has out '^eval_completions/clipped_ratio +1$'
succeeds evaluate --reward 'exec:sh half.sh' --n 2 --format jsonl
is "$(wc -l <out)" 7 "a row for each completion, and the metrics"
is "$(head -n 6 out | field index | tr '\n' ' ')" "0 0 1 1 2 2 " "index of each row"
is "$(tail -n 1 out | field eval_reward)" 0.25 "eval_reward as JSON"
cp out eval.out
succeeds evaluate --reward 'exec:sh half.sh' --n 2 --format jsonl --threads 2
same out eval.out
succeeds evaluate --reward 'exec:sh half.sh' --n 2 --format jsonl --eval-limit 1
is "$(head -n 2 out)" "$(head -n 2 eval.out)" "the first prompt alone"
is "$(wc -l <out)" 3 "rows with --eval-limit 1"
succeeds evaluate --reward regex --reward-pattern A --logit-bias 65:1000
has out '^eval_reward +1$'
succeeds evaluate --reward regex --reward-pattern A --logit-bias 258:1000
has out '^eval_reward +0$'
has out '^eval_completions/mean_length +1$'
has out '^eval_completions/clipped_ratio +0$'
done_testing

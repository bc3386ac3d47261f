# cohort grpo with guided_logprob masked: what is trained is the distribution over what was allowed, with the bits of the draws,
# whatever the micro-batches; a run that was cut in the middle of a generation batch is the same run; what is refused.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
cat >sums.jsonl <<'END'
{"prompt": "1+1=", "answer": "2", "shape": {"enum": ["2", "22", 2]}}
{"prompt": "1+2=", "answer": "3", "shape": {"type": "string", "pattern": "^[0-9]{1,3}$"}}
{"prompt": "1+3=", "answer": "4", "shape": {"type": "integer", "minimum": 1, "maximum": 99}}
END
grpo() { "$COHORT" grpo --model m --data sums.jsonl --reward accuracy --num-generations 4 --prompts-per-step 2 --max-completion-length 8 --learning-rate 1e-3 --seed 3 --threads 2 --log-completions --beta 0.1 --guided-logprob masked "$@"; }
# metric NAME RUN: its values, one for each step
metric() { sed -n "s|.*\"$1\": \([-0-9.e]*\).*|\1|p" "$2/metrics.jsonl"; }

# --- log-probs of the draws are those of training, exactly, and no greater than 0 after division by the kept mass ---
succeeds grpo --guided-regex '[0-9]{1,2}' --max-steps 3 --out run
is "$(metric sampling/sampling_logp_difference/max run | sort -u)" 0 "difference of draws and training"
is "$(metric sampling/importance_sampling_ratio/max run | sort -u)" 1 "ratio of draws and training"
is "$(metric kl run | head -n 1)" 0 "KL to the reference at the start, over what is allowed"
is "$(metric entropy run | awk '$1 > 2.4' | wc -l)" 0 "entropies beyond that of eleven tokens"
succeeds grpo --guided-regex '[0-9]{1,2}' --max-steps 3 --out plain --guided-logprob model
is "$(metric entropy plain | awk '$1 > 2.4' | wc -l)" 3 "entropies of the model's distribution"
is "$(cut -d, -f3 <plain/completions.jsonl | head -n 8)" "$(cut -d, -f3 <run/completions.jsonl | head -n 8)" "completions of the first step"

# --- micro-batches and threads: memory, not results beyond rounding; the draws of the first step are the same ---
succeeds grpo --guided-regex '[0-9]{1,2}' --max-steps 3 --out small --micro-batch-tokens 16 --threads 1
is "$(metric sampling/sampling_logp_difference/max small | sort -u)" 0 "difference in micro-batches"
is "$(metric loss small | cut -c1-8)" "$(metric loss run | cut -c1-8)" "losses of smaller micro-batches"

# --- a schema of each row, closing, thinking first ---
succeeds grpo --guided-json @shape --guided-close 6 --num-iterations 2 --max-steps 4 --out rows
is "$(metric sampling/sampling_logp_difference/max rows | sort -u)" 0 "difference of rows with schemas"
is "$(field completion <rows/completions.jsonl | grep -cvE '^"(\\"[0-9]{1,3}\\"|[1-9][0-9]?)"$')" 0 "completions outside their schemas"

# --- refused ---
fails 2 "guided_logprob masked: nothing guides the completions" grpo --out none --max-steps 1
fails 2 "unknown option|--guided-logprob" "$COHORT" generate --model m --prompt a --guided-regex a --guided-logprob masked
done_testing

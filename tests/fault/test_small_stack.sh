# A small stack is enough: no kernel and no reader keeps anything large on it, and the threads have stacks of their own size.
. "$(dirname "$0")/../cli/shell.sh"
succeeds "$COHORT" init --preset tiny --tokenizer bytes --seed 1 --out m
printf '{"prompt": "one two", "completion": "three"}\n{"prompt": "four", "completion": "five six"}\n' > data.jsonl
for kilobytes in 1024 256; do
    for threads in 1 2; do
        name=$kilobytes.$threads
        limited() { (ulimit -s "$kilobytes" && "$COHORT" "$@" --model m --threads "$threads"); }
        succeeds limited generate --prompt hello --max-tokens 8
        succeeds limited generate --prompt hello --max-tokens 8 --top-k 5 --top-p 0.9 --repetition-penalty 1.1
        succeeds limited sft --data data.jsonl --steps 1 --batch-size 2 --out "sft.$name"
        succeeds limited grpo --data data.jsonl --reward regex --reward-pattern '[a-m]' --num-generations 2 --prompts-per-step 2 \
            --max-completion-length 8 --steps 1 --out "grpo.$name"
    done
done
cmp sft.1024.1/final/model.safetensors sft.256.2/final/model.safetensors || wrong "the stack's size changes the weights"
done_testing

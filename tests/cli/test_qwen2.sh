# A Qwen2 model through the commands: its biases are made, trained, written, read back and part of every log-prob.
. "$(dirname "$0")/shell.sh"

cat >config.json <<'JSON'
{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 96,
 "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
 "rope_theta": 1000000.0, "sliding_window": 512, "use_sliding_window": false, "max_window_layers": 2,
 "tie_word_embeddings": true, "torch_dtype": "bfloat16", "vocab_size": 320, "initializer_range": 0.1}
JSON
for i in 1 2 3 4 5 6 7 8; do
    echo "{\"prompt\": \"$i+1=\", \"completion\": \"$((i + 1)).\"}" >>rows.jsonl
    echo "{\"prompt\": \"$i+1=\", \"answer\": \"$((i + 1))\"}" >>prompts.jsonl
done
here=(--device cpu --threads 2)

succeeds "$COHORT" init --config config.json --tokenizer bytes --seed 3 --out m
succeeds "$COHORT" info --model m
has out 'Qwen2ForCausalLM, 2 layers'
has out 'in 26 tensors'
lacks m/config.json head_dim # transformers computes it

# Biases begin at 0 and train; sft's rate is far above theirs elsewhere, so that they matter.
succeeds "$COHORT" sft --model m --data rows.jsonl --steps 6 --learning-rate 0.01 --out sft "${here[@]}"
bias() # FILE: the bytes of the first bias of a query
{
    python3 - "$1" <<'PYTHON'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
n, = struct.unpack("<Q", data[:8])
at = json.loads(data[8:8 + n])["model.layers.0.self_attn.q_proj.bias"]
assert at["shape"] == [64] and at["dtype"] == "BF16"
first, past = at["data_offsets"]
print(data[8 + n + first:8 + n + past].hex())
PYTHON
}
is "$(bias m/model.safetensors | tr -d 0)" "" "a new bias"
differs "$(bias sft/final/model.safetensors)" "$(bias m/model.safetensors)" "a bias that was trained"

# What was sampled is what is scored, alone and in any batch.
succeeds "$COHORT" generate --model sft/final --batch prompts.jsonl --format jsonl --n 3 --max-tokens 24 --temperature 0.9 "${here[@]}"
cp out sampled.jsonl
succeeds "$COHORT" logprobs --model sft/final --batch sampled.jsonl --temperature 0.9 --device cpu --threads 1
numbers() { grep -o '"logprobs": \[[^]]*\]' "$1"; }
is "$(numbers out)" "$(numbers sampled.jsonl)" "log-probs of what was sampled"
succeeds "$COHORT" logprobs --model m --batch sampled.jsonl --temperature 0.9 "${here[@]}"
differs "$(numbers out)" "$(numbers sampled.jsonl)" "log-probs before training"

# GRPO on it, in two halves or at once: the same weights.
grpo() { succeeds "$COHORT" grpo --model sft/final --data prompts.jsonl --reward regex --reward-pattern '[0-9]' --max-completion-length 12 \
    --prompts-per-step 4 --num-generations 4 --learning-rate 1e-3 "${here[@]}" "$@"; }
grpo --steps 2 --out whole
is "$(grep -c '"sampling/sampling_logp_difference/max": 0[,}]' whole/metrics.jsonl)" 2 "steps whose training log-probs are the sampled ones"
grpo --steps 1 --save-steps 1 --out halves
grpo --steps 2 --out halves --resume
cmp -s whole/final/model.safetensors halves/final/model.safetensors || wrong "a resumed run of a Qwen2 model is not the same run"

# A checkpoint without them is refused by name.
cp -r m bare
sed -i 's/k_proj\.bias/k_proj_bias/g' bare/model.safetensors
fails 1 'bare.*self_attn\.k_proj' "$COHORT" logprobs --model bare --batch sampled.jsonl "${here[@]}"

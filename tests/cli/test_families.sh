# Every family of models through the commands, each as a random checkpoint of a small shape: what it is, supervised
# fine-tuning, sampling with the bits of training, GRPO at once and in two halves, LoRA, evaluation. tests/parity/test_model.c
# has their numbers.
. "$(dirname "$0")/shell.sh"

for i in 1 2 3 4 5 6 7 8; do
    echo "{\"prompt\": \"$i+1=\", \"completion\": \"$((i + 1)).\"}" >>rows.jsonl
    echo "{\"prompt\": \"$i+1=\", \"answer\": \"$((i + 1))\"}" >>prompts.jsonl
done
here=(--device cpu --threads 2)

# family NAME TYPE CLASS MORE: a config.json
config()
{
    cat >"$1.json" <<JSON
{"architectures": ["$3"], "model_type": "$2", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "vocab_size": 272,
 "bos_token_id": null, "eos_token_id": null, "torch_dtype": "bfloat16", "initializer_range": 0.2, $4}
JSON
}
config qwen3 qwen3 Qwen3ForCausalLM '"head_dim": 16, "tie_word_embeddings": true, "attention_bias": true,
 "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10000.0},
 "use_sliding_window": true, "sliding_window": 9, "layer_types": ["full_attention", "sliding_attention"]'
config qwen2 qwen2 Qwen2ForCausalLM '"use_sliding_window": true, "sliding_window": 7, "max_window_layers": 1, "rope_theta": 1000000.0'
config llama llama LlamaForCausalLM '"attention_bias": true, "mlp_bias": true, "rope_theta": 10000.0, "rope_scaling":
 {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}'
config linear llama LlamaForCausalLM '"tie_word_embeddings": true, "head_dim": 16, "rope_scaling": {"type": "linear", "factor": 2.0}'
config mistral mistral MistralForCausalLM '"head_dim": 16, "sliding_window": 8'

numbers() { grep -o '"logprobs": \[[^]]*\]' "$1"; }
for family in qwen3 qwen2 llama linear mistral; do
    mkdir "$family" && cd "$family" || exit 1
    data=(--data ../prompts.jsonl --reward regex --reward-pattern '[0-9]')
    succeeds "$COHORT" init --config "../$family.json" --tokenizer bytes --seed 3 --out m
    succeeds "$COHORT" info --model m
    has out 'supported +yes'
    succeeds "$COHORT" sft --model m --data ../rows.jsonl --steps 4 --learning-rate 0.01 --out sft "${here[@]}"

    # What was sampled is what is scored, alone and in any batch.
    succeeds "$COHORT" generate --model sft/final --batch ../prompts.jsonl --format jsonl --n 2 --max-tokens 24 --temperature 0.9 "${here[@]}"
    cp out sampled.jsonl
    succeeds "$COHORT" logprobs --model sft/final --batch sampled.jsonl --temperature 0.9 --device cpu --threads 1
    is "$(numbers out)" "$(numbers sampled.jsonl)" "$family: log-probs of what was sampled"
    succeeds "$COHORT" logprobs --model m --batch sampled.jsonl --temperature 0.9 "${here[@]}"
    differs "$(numbers out)" "$(numbers sampled.jsonl)" "$family: log-probs before training"

    # GRPO with all weights and with an adapter, in two halves or at once: the same run.
    for way in full lora; do
        adapter=() weights=final/model.safetensors
        [ $way = full ] || { adapter=(--use-peft --lora-r 4 --lora-target-modules all-linear) weights=final/adapter_model.safetensors; }
        grpo() { succeeds "$COHORT" grpo --model sft/final "${data[@]}" --max-completion-length 12 --prompts-per-step 2 \
            --num-generations 4 --learning-rate 1e-3 "${adapter[@]}" "${here[@]}" "$@"; }
        grpo --steps 2 --out "$way"
        is "$(grep -c '"sampling/sampling_logp_difference/max": 0[,}]' "$way/metrics.jsonl")" 2 "$family $way: steps on what was sampled"
        grpo --steps 1 --save-steps 1 --out "$way-halves"
        grpo --steps 2 --out "$way-halves" --resume
        same "$way/$weights" "$way-halves/$weights"
        succeeds "$COHORT" eval --model "$way/final" "${data[@]}" --max-completion-length 12 "${here[@]}"
        has out 'reward'
    done
    # Rotation, windows and biases are part of what is written.
    for key in rope_scaling sliding_window layer_types max_window_layers attention_bias mlp_bias; do
        is "$(grep -A6 "\"$key\"" full/final/config.json)" "$(grep -A6 "\"$key\"" m/config.json)" "$family: $key of what is written"
    done
    cd ..
done

# Beyond its length a dynamic rotation is refused by name.
sed 's/"rope_scaling": {"type": "linear"/"rope_scaling": {"type": "dynamic"/' linear.json >dynamic.json
succeeds "$COHORT" init --config dynamic.json --tokenizer bytes --out dynamic
fails 2 'rope_type "dynamic" is not supported' "$COHORT" grpo --model dynamic "${data[@]/..\/}" --max-completion-length 256 --steps 1 --out none "${here[@]}"

# As many tensors of experts as Qwen3-30B-A3B has, 18,432, are opened and described at once: in 0.14 s of processor time on one core of a Zen 4,
# for which a slower machine or a sanitizer has ten times as long here.
config many qwen3_moe Qwen3MoeForCausalLM '"num_hidden_layers": 48, "head_dim": 8, "moe_intermediate_size": 8, "num_experts": 128, "num_experts_per_tok": 8'
sed -i 's/"hidden_size": 48/"hidden_size": 16/; s/"num_hidden_layers": 2,$//' many.json
succeeds "$COHORT" init --config many.json --tokenizer bytes --out many
TIMEFORMAT='%U %S'
seconds=$({ time "$COHORT" info --model many >out 2>err; } 2>&1 | awk '{ print $1 + $2 }')
has out 'in 18867 tensors'
has out 'supported +yes'
is "$(awk -v s="$seconds" 'BEGIN { print s < 1.4 ? "at once" : s " s" }')" "at once" "18,432 tensors of experts"
done_testing

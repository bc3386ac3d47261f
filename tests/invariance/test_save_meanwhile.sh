# A checkpoint that is written while the next rollout runs is the one that is written while nothing does, to the byte, though the rollout ends
# long before it: the next update waits.
. "$SOURCE/tests/support/exact.sh"
cd "$work"
cat >shape.json <<'JSON'
{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu", "attention_bias": false,
 "rms_norm_eps": 1e-6, "max_position_embeddings": 64, "rope_theta": 10000.0, "vocab_size": 300, "hidden_size": 256,
 "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 2048,
 "tie_word_embeddings": true, "initializer_range": 0.25}
JSON
cohort init --config shape.json --tokenizer bytes --seed 3 --dtype bf16 --out model
printf '{"prompt": "%s"}\n' a b c >rows.jsonl
args=(grpo --model model --data rows.jsonl --reward regex --reward-pattern '[a-m]' --prompts-per-step 1 --num-generations 4
    --max-completion-length 2 --learning-rate 1e-2 --seed 4)
cohort "${args[@]}" --steps 4 --save-steps 1 --out many >/dev/null
for step in 1 2 3; do
    # A run's last checkpoint is written alone.
    cohort "${args[@]}" --steps $step --save-steps 0 --out "until-$step" >/dev/null
    for file in model.safetensors config.json trainer/optimizer.safetensors trainer/state.json; do
        same "many/checkpoints/step-$step/$file" "until-$step/checkpoints/step-$step/$file" "step $step"
    done
    cohort info --verify --model "many/checkpoints/step-$step" >/dev/null
done
cmp -s many/checkpoints/step-1/model.safetensors many/checkpoints/step-2/model.safetensors && fail 'the update changes nothing'
echo "$(du -sm many/checkpoints/step-1 | cut -f 1) MB a checkpoint"

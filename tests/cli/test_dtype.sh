# Types of weights: auto follows the checkpoint, no value is rounded without a word, and what is said is said once.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 3 --dtype bf16 --out bf16
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 3 --dtype f32 --out f32
echo '{"prompt_tokens": [40], "tokens": [41, 42, 43, 44, 45, 46]}' >row.jsonl
probs() { "$COHORT" logprobs --model "$1" --batch row.jsonl --device cpu --threads 1 "${@:2}"; }
# said N PATTERN: N messages that match
said() { is "$(grep -Ec -- "$2" err)" "$1" "messages with '$2'"; }
stated() { sed -i -E "s/(\"torch_dtype\": )\"[a-z0-9]*\"/\\1$2/" "$1/config.json"; }

# F16: bits of BF16 weights, called F16, are finite and no BF16.
length=$(od -An -t u8 -N 8 bf16/model.safetensors | tr -d ' ')
as_f16()
{
    rm -rf "$1"; cp -r bf16 "$1"; stated "$1" "$2"
    { head -c 8 bf16/model.safetensors
      dd if=bf16/model.safetensors bs=1 skip=8 count="$length" status=none | sed 's/"BF16"/"F16" /g'
      tail -c +$((length + 9)) bf16/model.safetensors; } >"$1/model.safetensors"
}
as_f16 f16 '"float16"'
succeeds probs f16 --dtype f32; exact=$(cat out)
said 0 F16
succeeds probs f16 --dtype bf16; differs "$(cat out)" "$exact" "F16 rounded to BF16"
succeeds probs f16; is "$(cat out)" "$exact" "F16 keeps its values"
said 1 'f16: weights are F16: computed in F32, which keeps every value'
succeeds "$COHORT" generate --model f16 --prompt ab --max-tokens 2 --device cpu --threads 1
said 1 'weights are F16: computed in F32'
succeeds "$COHORT" info --model f16
grep -Eq '24 tensors, F16 \(computed in F32\)' out || wrong "info of F16: $(cat out)"
as_f16 f16none null
succeeds probs f16none; is "$(cat out)" "$exact" "F16 without a dtype in the config"

# The config's word counts, as in transformers, and rounding is said.
as_f16 f16bf16 '"bfloat16"'
succeeds probs f16bf16 --dtype bf16; rounded=$(cat out)
succeeds probs f16bf16; is "$(cat out)" "$rounded" "bfloat16 in the config"
said 1 'f16bf16: 24 of 24 tensors are F16, config.json says bfloat16: they are rounded to BF16.*--dtype f32'
cp -r f32 f32bf16; stated f32bf16 '"bfloat16"'
succeeds probs f32bf16
said 1 '24 of 24 tensors are F32, config.json says bfloat16: they are rounded'
succeeds probs f32bf16 --dtype bf16; said 0 rounded

# Without a word of the config the tensors count.
cp -r bf16 none; stated none null
succeeds probs bf16; exact=$(cat out); said 0 .
succeeds probs none; is "$(cat out)" "$exact" "BF16 without a dtype in the config"; said 0 .
succeeds "$COHORT" info --model none
grep -Eq '24 tensors, BF16$' out || wrong "info without a dtype: $(cat out)"
cp -r f32 none32; stated none32 null
succeeds probs f32; exact=$(cat out); said 0 .
succeeds probs none32; is "$(cat out)" "$exact" "F32 without a dtype in the config"; said 0 .
cp -r bf16 wide; stated wide '"float32"'
succeeds probs wide --dtype f32; exact=$(cat out)
succeeds probs wide; is "$(cat out)" "$exact" "BF16 computed in F32 because the config says so"; said 0 .

# Training: F16 is computed in F32, of which checkpoints are, and written as F16 in the end; a resumed run is the same run.
for i in 1 2 3 4; do echo '{"prompt": "ab", "completion": "cd", "answer": "1"}'; done >rows.jsonl
succeeds "$COHORT" sft --model f16 --data rows.jsonl --steps 2 --save-steps 1 --out r --device cpu --threads 1
said 1 'weights are F16: computed in F32, which keeps every value, and written as F16 in the end'
grep -q '"torch_dtype": "float16"' r/final/config.json || wrong "final/ is not F16"
head -c 3000 r/final/model.safetensors | grep -aq '"dtype":"F16"' || wrong "the tensors of final/ are not F16"
head -c 3000 r/checkpoints/step-1/model.safetensors | grep -aq '"dtype":"F32"' || wrong "the tensors of a checkpoint are not F32"
cp r/final/model.safetensors whole
rm -rf r/final r/checkpoints/step-2
succeeds "$COHORT" sft --model f16 --data rows.jsonl --steps 2 --save-steps 1 --out r --device cpu --threads 1 --resume latest
said 1 'written as F16 in the end'
cmp -s whole r/final/model.safetensors || wrong "a resumed run of an F16 model is not the same run"
grpo() { "$COHORT" grpo --model f16 --data rows.jsonl --reward accuracy --beta 0.1 --prompts-per-step 1 --num-generations 2 --max-completion-length 4 --save-steps 1 --out g --device cpu --threads 1 "$@"; }
succeeds grpo --steps 1
said 1 'weights are F16'
succeeds grpo --steps 2 --resume latest
said 1 'f16: weights are F16' # the reference, which is read from the first folder again
sed -E 's/("attention_dropout": )0.0/\10.1/' -i bf16/config.json
succeeds probs bf16; said 0 dropout
succeeds "$COHORT" sft --model bf16 --data rows.jsonl --steps 1 --out d --device cpu --threads 1
said 1 'attention_dropout is 0.1; training here has no dropout'
succeeds "$COHORT" bench --model f16 --quick --kind decode --device cpu --threads 1
said 1 'weights are F16: computed in F32'
done_testing

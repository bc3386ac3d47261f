# What a build of cohort computes, as files whose bytes can be compared: sourced by scripts/same-bits and by tests/house/test_bits.sh.
#
#   bits_make PROGRAM FOLDER [ISA]    into FOLDER: generation, log-probs, evaluation, SFT and GRPO (plain, with a reference and
#                                     iterations) of a small model, in bf16 and f32
#   bits_names                        the files that a comparison looks at, below FOLDER
bits_names() {
    local dtype
    for dtype in bf16 f32; do
        printf '%s\n' model.$dtype/model.safetensors generate.$dtype filtered.$dtype logprobs.$dtype eval.$dtype \
            sft.$dtype/final/model.safetensors grpo.$dtype/final/model.safetensors kl.$dtype/final/model.safetensors
    done
}

bits_make() {
    local cohort=$1 out=$2 isa=(--isa "${3:-auto}") dtype i
    mkdir -p "$out"
    local prompts=$out/prompts.jsonl chat=$out/chat.jsonl ask=$out/ask.jsonl
    for i in $(seq 1 24); do
        printf '{"prompt": "%s = ", "answer": "%d"}\n' "$(head -c $((i * 3)) <<<"one and two and three and four and five and six and seven and eight")" "$i"
    done > "$prompts"
    for i in $(seq 1 24); do
        printf '{"messages": [{"role": "user", "content": "say %d"}, {"role": "assistant", "content": "it is %d"}]}\n' "$i" $((i * i))
    done > "$chat"
    sed 's/, {"role": "assistant".*/]}/' "$chat" > "$ask"
    for dtype in bf16 f32; do
        "$cohort" init --preset nano --tokenizer bytes --seed 7 --dtype "$dtype" --out "$out/model.$dtype"
        local model=(--model "$out/model.$dtype" "${isa[@]}")
        local grpo=("$cohort" grpo "${model[@]}" --data "$prompts" --reward regex --reward-pattern '[aeiou]' --logit-bias 0:-100 --steps 4
            --learning-rate 1e-3 --num-generations 4 --prompts-per-step 4 --max-completion-length 24)
        "$cohort" generate "${model[@]}" --batch "$prompts" --n 3 --max-completion-length 40 --seed 5 > "$out/generate.$dtype"
        "$cohort" generate "${model[@]}" --batch "$ask" --n 2 --max-completion-length 40 --top-p 0.9 --top-k 50 --repetition-penalty 1.1 |
            sed 's/, "parsed": .*/}/' > "$out/filtered.$dtype" # what a completion says follows from its text
        "$cohort" logprobs "${model[@]}" --batch "$out/generate.$dtype" > "$out/logprobs.$dtype"
        "$cohort" eval "${model[@]}" --data "$prompts" --reward accuracy --max-completion-length 20 --format jsonl > "$out/eval.$dtype"
        "$cohort" sft "${model[@]}" --data "$chat" --steps 6 --learning-rate 1e-3 --out "$out/sft.$dtype" 2> "$out/log"
        "${grpo[@]}" --out "$out/grpo.$dtype" 2> "$out/log"
        "${grpo[@]}" --beta 0.1 --num-iterations 2 --micro-batch-tokens 100 --out "$out/kl.$dtype" 2> "$out/log"
    done
}

#!/bin/bash
# Whether families cost the same: the processor time of sampling and of training of Qwen2, Llama and Mistral at one shape, as a share of Qwen3's, in
# turn: the ratio of the least times, which a busy machine can only raise, and the median of the ratios of neighbours.
#
#   bench/bench_families.sh [ROUNDS]      12
#
# $DTYPE (bf16), $THREADS (1). The program is $COHORT, or build/cohort.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
cohort=${COHORT:-$here/../build/cohort}
rounds=${1:-12} threads=${THREADS:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

config() { # TYPE ARCHITECTURE
    echo "{\"model_type\": \"$1\", \"architectures\": [\"$2\"], \"hidden_size\": 512, \"intermediate_size\": 1536, \"num_hidden_layers\": 8,
        \"num_attention_heads\": 8, \"num_key_value_heads\": 4, \"head_dim\": 64, \"vocab_size\": 264, \"max_position_embeddings\": 1024,
        \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000, \"tie_word_embeddings\": false, \"hidden_act\": \"silu\", \"attention_bias\": false,
        \"sliding_window\": null, \"torch_dtype\": \"bfloat16\"}"
}
families=(qwen3 qwen2 llama mistral)
for family in "${families[@]}"; do
    case $family in
    qwen*) name=Qwen${family#qwen} ;;
    *) name=${family^} ;;
    esac
    config "$family" "${name}ForCausalLM" > "$work/config.json"
    "$cohort" init --config "$work/config.json" --tokenizer bytes --dtype "${DTYPE:-bf16}" --out "$work/$family" > /dev/null 2>&1
done
text=$(printf 'a line of some length that is neither long nor short, %.0s' 1 2 3)
for i in 1 2 3 4; do echo "{\"prompt\": \"$i $text\"}"; done > "$work/prompts.jsonl"
for i in 1 2 3 4; do echo "{\"text\": \"$i $text\"}"; done > "$work/rows.jsonl"

sampling() {
    "$cohort" generate --model "$work/$1" --batch "$work/prompts.jsonl" --n 4 --max-completion-length 64 --ignore-eos --temperature 1 \
        --threads "$threads" > /dev/null
}
training() {
    rm -rf "$work/run"
    "$cohort" sft --model "$work/$1" --data "$work/rows.jsonl" --batch-size 2 --steps 2 --save-steps 0 --threads "$threads" --out "$work/run" > /dev/null
}
TIMEFORMAT=%U # the system's part is fresh memory and files, which no family decides about
one() { # KIND FAMILY: seconds of the processor
    { time "$1" "$2" 2> "$work/log" || { cat "$work/log" >&2; exit 1; }; } 2>&1 | tail -n 1
}
for _ in $(seq "$rounds"); do
    for kind in sampling training; do
        line=$kind
        for family in "${families[@]}"; do line+=" $(one "$kind" "$family")"; done
        echo "$line"
    done
done > "$work/times"
for kind in sampling training; do
    for i in 1 2 3; do
        awk -v kind=$kind -v at=$((i + 2)) -v family="${families[i]}" '$1 == kind { n++; ratio[n] = $at / $2
                if (n == 1 || $2 < first) first = $2
                if (n == 1 || $at < own) own = $at }
            END {
                for (i = 2; i <= n; i++)
                    for (j = i; j > 1 && ratio[j - 1] > ratio[j]; j--) { r = ratio[j]; ratio[j] = ratio[j - 1]; ratio[j - 1] = r }
                printf "%s, %s: %.3f of qwen3 by the least times (%.2f and %.2f s), median of the rounds %.3f (%.3f .. %.3f, %d)\n",
                    kind, family, own / first, own, first, (ratio[int((n + 1) / 2)] + ratio[int(n / 2) + 1]) / 2, ratio[1], ratio[n], n }' "$work/times"
    done
done

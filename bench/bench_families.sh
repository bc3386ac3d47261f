#!/bin/bash
# Whether families cost the same: the processor time of sampling and of training of Qwen2, Llama and Mistral at one shape, as a share of Qwen3's, in
# turn, the median of the ratios of neighbours. By processor time a busy machine may be measured too.
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
    "$cohort" generate --model "$work/$1" --batch "$work/prompts.jsonl" --n 8 --max-completion-length 96 --ignore-eos --temperature 1 \
        --threads "$threads" > /dev/null
}
training() {
    rm -rf "$work/run"
    "$cohort" sft --model "$work/$1" --data "$work/rows.jsonl" --batch-size 4 --steps 2 --save-steps 0 --threads "$threads" --out "$work/run" > /dev/null
}
TIMEFORMAT='%U %S'
one() { # KIND FAMILY: seconds of the processor
    { time "$1" "$2" 2> "$work/log" || { cat "$work/log" >&2; exit 1; }; } 2>&1 | tail -n 1 | awk '{ print $1 + $2 }'
}
for _ in $(seq "$rounds"); do
    for kind in sampling training; do
        for family in "${families[@]:1}"; do
            echo "$kind $family $(one "$kind" qwen3) $(one "$kind" "$family")"
        done
    done
done > "$work/times"
for kind in sampling training; do
    for family in "${families[@]:1}"; do
        awk -v kind=$kind -v family="$family" '$1 == kind && $2 == family { print $4 / $3, $3, $4 }' "$work/times" | sort -n > "$work/ratios"
        awk -v kind=$kind -v family="$family" '{ r[NR] = $1; a += $2; b += $3 }
            END { m = int((NR + 1) / 2); printf "%s, %s: %.3f of qwen3 (%.3f .. %.3f, %d; %.2f and %.2f s on average)\n",
                kind, family, NR % 2 ? r[m] : (r[m] + r[m + 1]) / 2, r[1], r[NR], NR, b / NR, a / NR }' "$work/ratios"
    done
done

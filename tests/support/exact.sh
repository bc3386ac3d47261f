# For the exactness tests through the program; sourced. Makes $work, a folder that goes away at the end.
set -euo pipefail
DEVICE=${DEVICE:-cpu}          # where to compute, as --device takes it
work=$(mktemp -d "${TMPDIR:-/tmp}/cohort-exact-XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Runs the program on $DEVICE; what it says is shown only if it fails.
cohort() {
    local device=()
    case $1 in generate | logprobs | sft | grpo | distill | eval) device=(--device "$DEVICE") ;; esac
    "$COHORT" "$@" "${device[@]}" 2>"$work/stderr" || {
        local code=$?
        cat "$work/stderr" >&2
        fail "cohort $* (exit code $code)"
    }
}

# same A B WHAT: two files with equal bytes.
same() {
    cmp -- "$1" "$2" >&2 || fail "$3: $1 and $2 differ"
}

# make_model DIR [SEED [TIED]]: a small random model with a byte tokenizer, far from a flat distribution.
make_model() {
    # A GPU has kernels of their own for head size 64; sizes that divide by nothing are the CPU's.
    local width=48 head=12 middle=80
    [ "$DEVICE" = cpu ] || { width=64 head=64 middle=160; }
    cat >"$work/shape.json" <<JSON
{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu", "attention_bias": false,
 "rms_norm_eps": 1e-6, "max_position_embeddings": 512, "rope_theta": 10000.0, "vocab_size": 300, "hidden_size": $width,
 "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": $head, "intermediate_size": $middle,
 "tie_word_embeddings": ${3:-true}, "initializer_range": 0.25}
JSON
    cohort init --config "$work/shape.json" --tokenizer bytes --seed "${2:-3}" --dtype f32 --out "$1"
}

# Instruction sets this machine has; of a GPU there is one.
isas() {
    local isa
    [ "$DEVICE" = cpu ] || { echo auto; return; }
    for isa in portable avx2 avx512 avx512-bf16 amx-bf16; do
        if "$COHORT" info --model "$1" --isa "$isa" >/dev/null 2>&1; then echo "$isa"; fi
    done
}

# Every file of checkpoint A is in B with the same bytes, and the other way round.
same_checkpoint() {
    [ -f "$1/model.safetensors" ] || [ -f "$1/adapter_model.safetensors" ] || fail "$3: $1 has no model.safetensors"
    diff -r -- "$1" "$2" >&2 || fail "$3: $1 and $2 differ"
}

# What a run recorded, but for what two equal runs do not share.
records() {
    python3 -I -S "$SOURCE/tests/support/store_dump.py" "$1"
}

# The metrics of a run but for times and speeds, which are the machine's, and what follows from when environments answer.
numbers() {
    sed -E 's/, "(eval_)?(time|throughput|rollout)\/[^"]*": [^,}]*//g; s/, "(step_time|memory[^"]*|(eval_)?environments\/latency[^"]*)": [^,}]*//g' \
        "$1/metrics.jsonl"
}

#!/usr/bin/env bash
# Checkpoints in F16: what is computed has the bits of the same values in F32; matrices that do not train stay in F16; what
# is made of them is F16 again, with the values that were read where nothing trained; a run that stopped and went on is the
# run that did not (its checkpoints are F32); what F16 does not hold is refused by name.
. "$SOURCE/tests/support/exact.sh"
. "$SOURCE/tests/support/resume.sh"
make_model "$work/wide"
make_data
cd "$work"
f16() { python3 -I -S "$SOURCE/tests/support/to_f16.py" "$@" || fail "to_f16.py $*"; }
f16 wide narrow
types() { f16 "$1/model.safetensors" | cut -d ' ' -f 2 | sort -u | tr '\n' ' '; }
has_types() { [ "$(types "$1")" = "$2 " ] || fail "$1 has tensors of type $(types "$1"), expected $2"; }

sampling=(--batch grpo.jsonl --n 2 --max-completion-length 20 --temperature 1)
cohort generate --model narrow "${sampling[@]}" >as-it-is.jsonl
cohort generate --model narrow --dtype f32 "${sampling[@]}" >widened.jsonl
same as-it-is.jsonl widened.jsonl "F16 weights and the same values in F32"
cohort generate --model wide "${sampling[@]}" >wide.jsonl
! cmp -s wide.jsonl as-it-is.jsonl || fail "rounding to F16 changed nothing: the test is blind"

# Training: all weights in F32, and F16 in the end.
train() {
    local name=$1
    shift
    arguments sft
    cohort "${args[@]}" --model narrow --out "$name" "$@"
}
train still --learning-rate 0 --steps 1
same <(f16 narrow/model.safetensors) <(f16 still/final/model.safetensors) "an F16 model that was not changed"
grep -q '"torch_dtype": "float16"' still/final/config.json || fail "final/config.json: $(cat still/final/config.json)"
train whole --learning-rate 1e-3 --steps 4 --save-steps 2
train halves --learning-rate 1e-3 --steps 2 --save-steps 2
train halves --learning-rate 1e-3 --steps 4 --save-steps 2 --resume
has_types whole/final F16
has_types whole/checkpoints/step-2 F32
same whole/final/model.safetensors halves/final/model.safetensors "an F16 model trained in two halves"
! cmp -s still/final/model.safetensors whole/final/model.safetensors || fail "training changed nothing"
train asked --learning-rate 1e-3 --steps 4 --dtype f32
has_types asked/final F32

# Adapters beside weights that stay in F16: the bits of those beside the same values in F32.
for dtype in auto f32; do
    arguments grpo
    cohort "${args[@]}" --model narrow --dtype $dtype --use-peft --lora-r 4 --lora-target-modules all-linear --learning-rate 0.01 --steps 3 \
        --beta 0.05 --out "lora-$dtype"
    [ "$(grep -c '"sampling/sampling_logp_difference/max": 0[,}]' "lora-$dtype/metrics.jsonl")" = 3 ] || fail "$dtype: log-probs differ"
done
same lora-auto/final/adapter_model.safetensors lora-f32/final/adapter_model.safetensors "an adapter beside F16 and beside F32"
cohort merge --model narrow --adapter lora-auto/final --out merged
has_types merged F16

# Too large: the last checkpoint has the values.
f16 wide large model.norm.weight=65504
arguments sft
if "$COHORT" "${args[@]}" --model large --learning-rate 10 --weight-decay 0 --steps 3 --save-steps 1 --out too-large --device "$DEVICE" 2>err; then
    fail "values that F16 does not hold were written"
fi
grep -q 'model.norm.weight: element .* F16 does not hold' err || fail "$(cat err)"
[ ! -e too-large/final ] || fail "there is a final/"
has_types too-large/checkpoints/step-3 F32

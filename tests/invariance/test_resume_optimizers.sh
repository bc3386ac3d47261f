#!/usr/bin/env bash
# Every optimizer, with a mean of the weights and groups of tensors: a run that stopped and went on is the run that did not
# stop, to the byte (I6), and another optimizer or another setting of it is refused with the reason.
. "$SOURCE/tests/support/exact.sh"
. "$SOURCE/tests/support/resume.sh"
make_model "$work/model"
make_data
cd "$work"

# refused WORDS ARGUMENTS...: the program fails and says WORDS.
refused() {
    local words=$1
    shift
    if "$COHORT" "$@" --device "$DEVICE" >out.log 2>&1; then fail "not refused: $*"; fi
    grep -qF -- "$words" out.log || { cat out.log >&2; fail "refused without '$words': $*"; }
}

for dtype in bf16 f32; do
    for optim in adamw_torch adamw_8bit muon sgd sgd:momentum=0.9,nesterov=true \
        adafactor:beta1=0.9,scale_parameter=true lion_32bit; do
        what=${optim%%:*}-$dtype
        rm -rf "$what" "$what-parts"
        arguments sft
        args+=(--dtype "$dtype" --save-steps 3 --eval-steps 3 --optim "${optim%%:*}" --ema-decay 0.9 --lr-groups 'q_proj=0.5,*norm*=2')
        args+=(--weight-decay-groups embed_tokens=0 --learning-rate 1e-2)
        [ "$optim" = "${optim%%:*}" ] || args+=(--optim-args "${optim#*:}")
        cohort "${args[@]}" --threads 1 --steps 6 --out "$what"
        cohort "${args[@]}" --threads 2 --steps 3 --out "$what-parts"
        cohort "${args[@]}" --threads 2 --recompute layer --steps 6 --out "$what-parts" --resume latest
        same_end "$what" "$what-parts" "$optim $dtype"
        diff -r "$what/final-ema" "$what-parts/final-ema" >&2 || fail "$optim $dtype: final-ema/ differs"
        cmp -s "$what/final/model.safetensors" "$what/final-ema/model.safetensors" && fail "$optim $dtype: the mean is the weights"
        cmp -s "$what/final/model.safetensors" model/model.safetensors && fail "$optim $dtype: nothing moved"
        echo "$optim $dtype: the same"
    done
done

# A state of one optimizer is none of another.
arguments sft
base=("${args[@]}" --learning-rate 1e-2 --steps 6 --resume latest --out muon-f32) # the rest is in the run's config.yaml
refused "the state is that of the optimizer muon, this run has adamw" "${base[@]}" --optim adamw_torch
refused "the state is that of the optimizer muon, this run has sgd" "${base[@]}" --optim sgd
refused "setting of the optimizer" "${base[@]}" --ema-decay 0
refused "a resumed run must keep its options" "${base[@]}" --optim-args ns_steps=4
refused "a resumed run must keep its options" "${base[@]}" --lr-groups q_proj=0.4
echo "another optimizer is refused"

# What is no optimizer, no argument of it, no name of a tensor.
args+=(--dtype f32 --steps 1 --out none)
refused "whose pages in host memory" "${args[@]}" --optim paged_adamw_8bit
refused "which is called lion_32bit" "${args[@]}" --optim lion
refused "expected one of adamw_torch_fused, adamw_torch, adamw_8bit" "${args[@]}" --optim galore_adamw
refused "the optimizer sgd has no argument 'beta'" "${args[@]}" --optim sgd --optim-args beta=1
refused "lr_groups: 'lm_haed' is the name of nothing that trains" "${args[@]}" --lr-groups lm_haed=0.1
refused "warmup_init=true needs relative_step=true" "${args[@]}" --optim adafactor --optim-args warmup_init=true
[ ! -e none ] || fail "a refused run left a folder"
echo "what cannot be meant is refused"

# The memory plan counts what each keeps: bytes a weight of a 0.6B model in bf16.
for row in adamw_torch:14 adamw_8bit:9 muon:11 sgd:6 adafactor:6 lion_32bit:10; do
    gb=$("$COHORT" info --preset qwen3-0.6b --memory --dtype bf16 --device cpu --memory-limit 200 --optim "${row%:*}" |
        sed -n 's/.*gradient and optimizer \([0-9.]*\) GB.*/\1/p')
    awk -v gb="$gb" -v each="${row#*:}" 'BEGIN { x = gb * 1e9 / 596049920; exit !(x > each - 1 && x < each + 1) }' ||
        fail "the plan of ${row%:*} has $gb GB, expected about ${row#*:} bytes a weight"
done
echo "the plan counts them"

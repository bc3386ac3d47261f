#!/usr/bin/env bash
# --offload moves memory and no bits: a run with optimizer, gradients and reference in the host's memory is the run without,
# in every file but for times; a run goes on with another setting of it; and the plans of known sizes. On a GPU with
# DEVICE=cuda, else on the emulation; on a CPU it does nothing and says so.
. "$SOURCE/tests/support/exact.sh"
. "$SOURCE/tests/support/resume.sh"
PLAIN=$COHORT
if [ "$DEVICE" = cpu ] && [ -x "$BUILD/tests/cohort_emulated" ]; then
    COHORT=$BUILD/tests/cohort_emulated
    DEVICE=cuda
    steps=2 # the emulation is slow
else
    steps=6
fi
make_model "$work/model"
make_data
cd "$work"
head -n 2 grpo.jsonl >few.jsonl

# parts A B: what runs leave, the same to the byte.
ends() {
    diff -r "$1/final" "$2/final" >&2 || fail "$3: final/ differs"
    diff -r -x options.yaml "$1/checkpoints" "$2/checkpoints" >&2 || fail "$3: a checkpoint differs"
    numbers "$1" >a
    numbers "$2" >b
    same a b "$3, metrics"
}

if [ "$DEVICE" != cpu ]; then
    run=(grpo --model model --data few.jsonl --reward regex --reward-pattern '[a-m]' --prompts-per-step 2 --num-generations 2
        --max-completion-length 6 --learning-rate 1e-2 --beta 0.04 --micro-batch-tokens 24 --seed 9 --steps "$steps" --save-steps 1)
    for dtype in bf16 f32; do
        cohort "${run[@]}" --dtype $dtype --out "plain-$dtype"
        [ "$(numbers "plain-$dtype" | grep -c '"grad_norm": 0\.0[,}]')" = 0 ] || fail "nothing was trained"
        cohort "${run[@]}" --dtype $dtype --offload optimizer,gradients,reference --out "all-$dtype"
        ends "plain-$dtype" "all-$dtype" "everything offloaded, $dtype"
    done
    # Beside an adapter, whose gradients other operations make.
    cohort "${run[@]}" --dtype bf16 --use-peft --out plain-lora
    cohort "${run[@]}" --dtype bf16 --use-peft --offload optimizer,gradients,reference --out all-lora
    ends plain-lora all-lora "everything offloaded beside an adapter"
    cohort "${run[@]}" --dtype bf16 --offload optimizer --steps 1 --out parts
    cohort "${run[@]}" --dtype bf16 --offload gradients --out parts --resume latest
    ends plain-bf16 parts "resumed with another part offloaded"
    for optim in muon adamw_8bit adafactor; do
        cohort "${run[@]}" --optim $optim --ema-decay 0.9 --dtype bf16 --steps 1 --out "$optim"
        cohort "${run[@]}" --optim $optim --ema-decay 0.9 --dtype bf16 --steps 1 --offload optimizer,gradients --out "$optim-off"
        ends $optim $optim-off "$optim, offloaded"
    done
    echo "offloaded runs are the same"

    # plan PRESET GB: what a run of that size takes of the device, of which it says that it fits.
    plan() {
        "$COHORT" info --memory --preset "$1" --device cuda --memory-limit "$2" --beta 0.04 --offload optimizer,gradients,reference |
            sed -n 's/.*; in all \([0-9.]*\) GB, .* offloaded .* memory \([0-9.]*\) GB.*/\1 \2/p'
    }
    for row in "qwen3-4b 24" "qwen3-8b 80"; do
        read -r preset limit <<<"$row"
        read -r device host <<<"$(plan "$preset" "$limit")"
        [ -n "$device" ] || fail "$preset does not fit $limit GB"
        awk -v x="$device" -v y="$limit" 'BEGIN { exit !(x < y) }' || fail "$preset: $device GB of $limit"
        echo "$preset: full GRPO with a reference takes $device of $limit GB, and $host GB of the host's memory"
    done
    "$COHORT" info --memory --preset qwen3-4b --device cuda --memory-limit 24 --beta 0.04 | grep -q "even --recompute layer" ||
        fail "4B fits 24 GB without --offload: the test says nothing"
fi

# On a CPU: the same, and a note.
"$PLAIN" sft --model model --data sft.jsonl --batch-size 3 --steps 2 --device cpu --seed 9 --out cpu 2>/dev/null
"$PLAIN" sft --model model --data sft.jsonl --batch-size 3 --steps 2 --device cpu --seed 9 --out cpu-off --offload optimizer,gradients \
    >log 2>&1
grep -q "offload: a CPU's memory is the host's already: nothing is moved" log || fail "no note on a CPU"
diff -r cpu/final cpu-off/final >&2 || fail "a CPU's run differs"
if "$PLAIN" sft --model model --data sft.jsonl --device cpu --out none --offload weights >log 2>&1; then fail "--offload weights"; fi
grep -q "optimizer, gradients, reference" log || fail "a wrong word does not list the right ones"
echo "a CPU says that it has nothing to move"

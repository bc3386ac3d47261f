#!/usr/bin/env bash
# GRPO of models with experts: every token goes where it was sampled, in each of 30 steps, and rewards rise; routes that
# later iterations take again outlive a stop; adapters of experts and routers are as exact; and both layouts of
# checkpoints are written as they were read, with the same values.
. "$SOURCE/tests/support/exact.sh"
cd "$work"

steps=30
[ "$DEVICE" = cpu ] || steps=6
cohort init --preset nano-experts --tokenizer bytes --seed 3 --out model

cat >data.jsonl <<'JSON'
{"prompt": "a"}
{"prompt": "Count: one, two, three, four, five, six, seven, eight, nine, ten"}
{"prompt": "bb"}
{"prompt": "2 + 2 ="}
JSON

# train NAME [options]
train() {
    local name=$1
    shift
    cohort grpo --model model --data data.jsonl --reward regex --reward-pattern '[a-h]' --prompts-per-step 4 \
        --num-generations 16 --max-completion-length 12 --learning-rate 3e-3 --seed 5 --out "$name" "$@"
}

value() { sed -n "s|.*\"$2\": \\([0-9.eE+-]*\\)[,}].*|\\1|p" "$1/metrics.jsonl"; }

train run --steps $steps
[ "$(value run sampling/experts_differ | grep -cx 0)" = $steps ] || fail "tokens went to other experts than when they were sampled"
[ "$(value run sampling/sampling_logp_difference/max | grep -cx 0)" = $steps ] || fail "log-probs differ"
for metric in aux_loss experts/load_max experts/load_min experts/router_entropy; do
    [ "$(value run $metric | wc -l)" = $steps ] || fail "no $metric in every step"
done
if [ "$DEVICE" = cpu ]; then
    # The mean of the first and of the last five steps.
    first=$(value run reward | head -n 5 | awk '{ s += $1 } END { print s / NR }')
    last=$(value run reward | tail -n 5 | awk '{ s += $1 } END { print s / NR }')
    awk "BEGIN { exit !($last > $first + 0.3) }" || fail "the reward is $first at first and $last in the end"
fi

# Later iterations: with the routes of the rollout, or with those of the weights as they are.
for replay in none rollout; do
    train iterations-$replay --steps 4 --num-iterations 4 --router-replay $replay --save-steps 1
    [ "$(value iterations-$replay experts/moved | wc -l)" = 3 ] ||
        fail "no share of tokens whose experts are others now"
done
! cmp -s iterations-none/final/model.safetensors iterations-rollout/final/model.safetensors || fail "routes were not taken again"
cp -r iterations-rollout again
train again --steps 4 --num-iterations 4 --router-replay rollout --save-steps 1 --resume again/checkpoints/step-2
same iterations-rollout/final/model.safetensors again/final/model.safetensors "resumed between iterations"
numbers iterations-rollout >a
numbers again >b
same a b "the metrics of a run that was resumed between iterations"

# Micro-batches change rounding alone: the auxiliary loss spans the step.
train whole --steps 1 --router-aux-loss-coef 0.5
train parts --steps 1 --router-aux-loss-coef 0.5 --micro-batch-tokens 90
awk -v a="$(value whole aux_loss)" -v b="$(value parts aux_loss)" 'BEGIN { exit !((a - b) * (a - b) < 1e-12) }' || fail "aux_loss depends on micro-batches"
awk -v a="$(value whole grad_norm)" -v b="$(value parts grad_norm)" 'BEGIN { exit !((a - b) * (a - b) < 1e-4 * a * a) }' ||
    fail "grad_norm is $(value whole grad_norm) in one micro-batch and $(value parts grad_norm) in several"

# Adapters of experts and routers, of both layouts: a new one changes no bit, and what is sampled is what is trained.
logprobs_of() { sed -E 's/.*"logprobs": \[([^]]*)\].*/\1/' "$1"; }
cohort init --preset nano-experts --tokenizer bytes --seed 3 --dtype f32 --out f32
for layout in each fused; do
    if [ $layout = fused ]; then
        python3 -I "$SOURCE/tests/support/fuse_experts.py" f32 fused-model || fail "cannot fuse the experts"
    else
        cp -r f32 each-model
    fi
    [ "$DEVICE" = cpu ] || [ $layout = fused ] || continue
    sampling=(--dtype f32 --batch data.jsonl --n 2 --max-completion-length 12 --temperature 1)
    lora=(--use-peft --lora-r 4 --lora-target-modules q_proj
        --lora-target-parameters "mlp.experts.gate_up_proj,mlp.experts.down_proj,mlp.gate.weight")
    tune() {
        local name=$1
        shift
        cohort grpo --model $layout-model --dtype f32 --data data.jsonl --reward regex --reward-pattern '[a-h]' --prompts-per-step 4 \
            --num-generations 8 --max-completion-length 12 --seed 5 "${lora[@]}" --out "$name" "$@"
    }
    tune new-$layout --learning-rate 0 --steps 1
    cohort generate --model $layout-model "${sampling[@]}" >base.jsonl
    cohort generate --model new-$layout/final "${sampling[@]}" >new.jsonl
    same base.jsonl new.jsonl "$layout: an adapter of experts that is zero"
    tune tuned-$layout --learning-rate 0.01 --steps 4 --beta 0.05
    [ "$(value tuned-$layout sampling/experts_differ | grep -cx 0)" = 4 ] || fail "$layout: tokens went to other experts with an adapter"
    [ "$(value tuned-$layout sampling/sampling_logp_difference/max | grep -cx 0)" = 4 ] || fail "$layout: log-probs differ with an adapter"
    tune halves-$layout --learning-rate 0.01 --steps 2 --save-steps 2 --beta 0.05
    tune halves-$layout --learning-rate 0.01 --steps 4 --beta 0.05 --resume
    same tuned-$layout/final/adapter_model.safetensors halves-$layout/final/adapter_model.safetensors "$layout: an adapter in two halves"
    cohort generate --model tuned-$layout/final "${sampling[@]}" >drawn.jsonl
    ! cmp -s base.jsonl drawn.jsonl || fail "$layout: training changed nothing"
    sed -n 3p drawn.jsonl >one.jsonl
    cohort logprobs --model tuned-$layout/final --dtype f32 --batch one.jsonl --threads 1 >one-scored.jsonl
    same <(logprobs_of one.jsonl) <(logprobs_of one-scored.jsonl) "$layout: a row alone"

    # Merged: what the file has is what is computed with merged weights, and nearly what is computed beside the base.
    cohort merge --model $layout-model --adapter tuned-$layout/final --out merged-$layout
    cohort generate --model merged-$layout "${sampling[@]}" >in-file.jsonl
    cohort generate --model tuned-$layout/final --lora-merge "${sampling[@]}" >in-memory.jsonl
    same in-file.jsonl in-memory.jsonl "$layout: merged weights in memory and in a file"
    cohort logprobs --model merged-$layout --dtype f32 --batch drawn.jsonl >in.jsonl
    paste <(logprobs_of drawn.jsonl | tr -d ' ' | tr ',' '\n') <(logprobs_of in.jsonl | tr -d ' ' | tr ',' '\n') |
        awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > most) most = d } END { print "merged, largest difference " most; exit !(NR > 30 && most < 2e-4) }' ||
        fail "$layout: merged it is another model"
done
[ "$DEVICE" != cpu ] ||
    same tuned-each/final/adapter_model.safetensors tuned-fused/final/adapter_model.safetensors "adapters of both layouts"

# What PEFT does not take is refused by name.
refuse() {
    local words=$1
    shift
    ! "$COHORT" sft --model f32 --data data.jsonl --use-peft --steps 1 --out no --device "$DEVICE" "$@" 2>err || fail "$* was taken"
    grep -qE "$words" err || fail "$*: $(cat err)"
}
refuse "does not go with adapters of experts" --lora-target-parameters mlp.experts.down_proj --use-dora
refuse "does not go with adapters of experts" --lora-target-parameters mlp.experts.down_proj --lora-dropout 0.1
refuse "names no experts and no router" --lora-target-parameters mlp.experts.up_proj
refuse "'gate_proj' without 'up_proj'" --lora-target-modules gate_proj
refuse "PEFT has no targets of its own for qwen3_moe" --lora-r 4
refuse "list these names" --lora-target-modules '.*q_proj'

# A model without experts has no router.
cohort init --preset nano --tokenizer bytes --seed 3 --out dense
if "$COHORT" grpo --model dense --data data.jsonl --reward regex --reward-pattern a --steps 1 --router-aux-loss-coef 0.1 --out no 2>err; then
    fail "router_aux_loss_coef of a dense model"
fi
grep -q "no experts" err || fail "router_aux_loss_coef of a dense model: $(cat err)"

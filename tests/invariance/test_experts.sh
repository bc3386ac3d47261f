#!/usr/bin/env bash
# GRPO of models with experts: every token goes where it was sampled, in each of 30 steps, and rewards rise; routes that
# later iterations take again outlive a stop; and both layouts of checkpoints are written as they were read, with the same
# values.
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

# A model without experts has no router.
cohort init --preset nano --tokenizer bytes --seed 3 --out dense
if "$COHORT" grpo --model dense --data data.jsonl --reward regex --reward-pattern a --steps 1 --router-aux-loss-coef 0.1 --out no 2>err; then
    fail "router_aux_loss_coef of a dense model"
fi
grep -q "no experts" err || fail "router_aux_loss_coef of a dense model: $(cat err)"

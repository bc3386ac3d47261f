#!/usr/bin/env bash
# GRPO is exactly on-policy and reproducible: in the first iteration the trainer computes the log-probs that the engine sampled
# with, bit for bit (difference 0, ratio 1); and neither a second run nor another number of threads nor recomputation
# changes a byte of the weights, the checkpoints or the metrics.
. "$SOURCE/tests/support/exact.sh"
make_model "$work/model"
cd "$work"

cat >data.jsonl <<'JSON'
{"prompt": "a"}
{"prompt": "Count: one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve"}
{"prompt": "abc"}
{"prompt": "Some prompt of more than one hundred and twenty-eight bytes, so that its keys lie in three chunks: here is the rest of it, and a little more."}
{"prompt": "2 + 2 ="}
JSON

steps=4
# train NAME [options]
train() {
    local name=$1
    shift
    cohort grpo --model model --data data.jsonl --reward regex --reward-pattern '[a-e]' --steps $steps --prompts-per-step 3 --num-generations 4 \
        --max-completion-length 40 --learning-rate 1e-3 --save-steps 2 --seed 5 --log-completions --out "$name" "$@"
}

# on_policy NAME: every step drawn and trained once.
on_policy() {
    local n
    n=$(grep -c '"importance_ratio/min": 1, "importance_ratio/max": 1,.*"sampling/sampling_logp_difference/max": 0[,}]' "$1/metrics.jsonl" || true)
    [ "$n" = $steps ] || { cat "$1/metrics.jsonl" >&2; fail "$1: $n steps of $steps are exactly on-policy"; }
    # It is worth something only if it learns from something.
    grep -q '"grad_norm": [0-9]*\.[0-9]*[1-9]' "$1/metrics.jsonl" || fail "$1: no gradient"
    ! cmp -s model/model.safetensors "$1/final/model.safetensors" || fail "$1: the weights did not change"
}

same_run() { # same_run A B WHAT
    diff -r "$1/final" "$2/final" >&2 || fail "$3: final/ differs"
    for step in 2 4; do same_checkpoint "$1/checkpoints/step-$step" "$2/checkpoints/step-$step" "$3"; done
    numbers "$1" >a
    numbers "$2" >b
    same a b "$3, metrics"
    same "$1/completions.jsonl" "$2/completions.jsonl" "$3, completions"
}

for dtype in bf16 f32; do
    for micro in 230 4096; do # a completion with its prompt needs 183
        name="$dtype-$micro"
        train "$name" --dtype $dtype --micro-batch-tokens $micro --recompute none --threads 1
        on_policy "$name"
        train "$name-layer" --dtype $dtype --micro-batch-tokens $micro --recompute layer --threads 1
        # recompute is recorded in config.yaml only, not among the checkpoint's options
        same_run "$name" "$name-layer" "$name, recompute none and layer"
    done
    train "$dtype-again" --dtype $dtype --micro-batch-tokens 230 --recompute none --threads 1
    same_run "$dtype-230" "$dtype-again" "$dtype, two runs"
    train "$dtype-threads" --dtype $dtype --micro-batch-tokens 230 --recompute none --threads 2
    same_run "$dtype-230" "$dtype-threads" "$dtype, one and two threads"
    # The tokens of the first batch come before any update: the split into micro-batches cannot touch them.
    for micro in 230 4096; do grep '"step": 1[,}]' "$dtype-$micro/completions.jsonl" >"first-$micro"; done
    same first-230 first-4096 "$dtype, first batch under two micro-batch budgets"
done

for isa in $(isas model); do
    for dtype in bf16 f32; do
        train "$isa-$dtype" --isa "$isa" --dtype $dtype --threads 2 --temperature 0.7
        on_policy "$isa-$dtype"
    done
done

# With two iterations the first of each batch is on-policy and says so, the second is not and does not.
train twice --num-iterations 2 --beta 0.04 --steps 4 --threads 2
[ "$(grep -c 'sampling_logp_difference/max": 0[,}]' twice/metrics.jsonl)" = 2 ] || fail "twice: expected 2 compared steps"
for step in 1 3; do
    grep "\"step\": $step," twice/metrics.jsonl | grep -q '"importance_ratio/min": 1, "importance_ratio/max": 1,' || fail "twice: step $step is not on-policy"
done
for step in 2 4; do
    ! grep "\"step\": $step," twice/metrics.jsonl | grep -q '"importance_ratio/min": 1, "importance_ratio/max": 1,' || fail "twice: step $step has ratio 1"
done
# And a seed is a seed.
train other --dtype f32 --micro-batch-tokens 230 --seed 6
! cmp -s other/final/model.safetensors f32-230/final/model.safetensors || fail "two seeds gave the same weights"

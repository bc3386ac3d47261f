#!/usr/bin/env bash
# Random switches of grpo and sft together, and of the trainers of pairs and distillation (f32): a run that stopped and went on is the run that did not stop, to the byte
# (I6), and the numbers of its first step do not depend on how it is cut into micro-batches (I5). What the program refuses
# is drawn again. In `make test` there are a few draws; tests/slow/test_switch_draws_all.sh has 200.
#
#     DRAWS=200 SEED=7 test_switch_draws.sh     (DEVICE=cuda: --offload moves something; COHORT: the program)
. "$SOURCE/tests/support/exact.sh"
. "$SOURCE/tests/support/resume.sh"
DRAWS=${DRAWS:-6} SEED=${SEED:-1}
make_model "$work/model"
make_model "$work/teacher" 5
make_data
cd "$work"
RANDOM=$SEED
echo "seed $SEED, $DRAWS draws"

# Every random number is drawn by this shell itself: $(...) would be another one, whose draws do not count here.
chance() { ((RANDOM % $1 == 0)); }                  # one in N
pick() { word=${*:RANDOM % $# + 1:1}; }              # word: one of the arguments
add() { args+=("$@"); }
maybe() { local n=$1; shift; ! chance "$n" || add "$@"; }

# What any trainer may have.
draw_common() {
    pick adamw_torch adamw_torch adamw_8bit muon sgd adafactor lion_32bit
    add --optim "$word" --seed $((RANDOM % 1000)) --dtype f32 --model model
    [ "$word" != adamw_torch ] || maybe 2 --moments-dtype bf16
    maybe 3 --ema-decay 0.7
    maybe 4 --lr-groups 'q_proj=0.5'
    pick constant linear cosine
    add --lr-scheduler-type "$word"
    maybe 3 --use-peft --lora-r 4 --lora-target-modules all-linear
    if chance 2; then # on a CPU nothing moves, and nothing may change
        pick optimizer gradients optimizer,gradients reference optimizer,gradients,reference
        add --offload "$word"
    fi
}

draw_grpo() {
    args=(grpo --data grpo.jsonl --prompts-per-step 2 --num-generations 4 --max-completion-length 16 --learning-rate 1e-3 --log-completions)
    pick pattern pattern tokens both
    case $word in
    pattern) add --reward regex --reward-pattern '[aeiou]' ;;
    tokens) add --reward 'exec:bash tokens.sh' ;;
    both) add --reward regex --reward-pattern '[aeiou]' --reward 'exec:bash tokens.sh' --reward-weights 1,0.5 ;;
    esac
    pick grpo bnpo dr_grpo dapo luspo cispo sapo vespo gmpo rloo
    add --loss-type "$word"
    [ "$word" = gmpo ] || [ "$word" = rloo ] || { pick token token sequence sequence_token; add --importance-sampling-level "$word"; }
    pick grpo grpo rloo reinforce_plus_plus reinforce_plus_plus_baseline pass_at_k
    add --advantage-estimator "$word"
    [ "$word" != pass_at_k ] || add --advantage-k 2
    maybe 3 --dynamic-sampling --dynamic-sampling-refills 2 --dynamic-sampling-oversample 1.5
    if chance 2; then
        add --beta 0.05
        maybe 2 --sync-ref-model --ref-model-sync-steps 2 --ref-model-mixup-alpha 0.7
        maybe 5 --kl-in-reward
        pick k1 k2 k3
        add --kl-estimator "$word"
    fi
    maybe 3 --use-adaptive-entropy --entropy-coef 0.02 --entropy-target 5.55
    maybe 4 --top-entropy-quantile 0.5
    maybe 4 --off-policy-mask-threshold 0.01
    maybe 4 --mask-truncated-completions
    pick 1 1 2
    add --num-iterations "$word"
    maybe 3 --steps-per-generation 4 --gradient-accumulation-steps 3
    maybe 3 --eval-data grpo-held-out.jsonl --eval-steps 1 --load-best-model-at-end --early-stopping-patience 2
    draw_common
}

draw_sft() {
    args=(sft --data sft.jsonl --eval-data sft-held-out.jsonl --batch-size 3 --learning-rate 1e-3 --eval-steps 1)
    pick none none bfd bfd_split wrapped
    [ "$word" = none ] || add --packing --packing-strategy "$word" --max-length 48
    maybe 3 --early-stopping-patience 2
    maybe 3 --load-best-model-at-end
    pick nll nll dft
    add --loss-type "$word"
    [ "$word" != nll ] || maybe 3 --label-smoothing-factor 0.1
    maybe 4 --neftune-noise-alpha 5
    draw_common
}

# Trainers of pairs: what a loss sees of the other rows of a step, and what the reference is, are the switches that matter here.
draw_pairs() {
    args=("$1" --data pairs.jsonl --eval-data pairs.jsonl --batch-size 3 --learning-rate 1e-3 --eval-steps 1)
    case $1 in
    dpo)
        local losses=(sigmoid hinge ipo exo_pair nca_pair robust bco_pair sppo_hard aot aot_unpaired apo_zero apo_down discopop sft sigmoid_norm)
        pick "${losses[@]}"
        local loss=$word
        pick "${losses[@]}"
        if chance 3; then add --loss-type "$loss,$word" --loss-weights 1,0.3; else add --loss-type "$loss"; fi
        maybe 3 --label-smoothing 0.2
        pick reverse_kl reverse_kl forward_kl js_divergence alpha_divergence
        add --f-divergence-type "$word"
        maybe 3 --ld-alpha 0.5
        maybe 3 --use-weighting
        maybe 6 --reference-free
        ;;
    kto)
        pick kto apo_zero_unpaired
        add --loss-type "$word"
        maybe 2 --desirable-weight 1.5 --undesirable-weight 0.7
        ;;
    cpo)
        pick sigmoid hinge ipo simpo alphapo
        add --loss-type "$word"
        maybe 3 --label-smoothing 0.2
        maybe 3 --cpo-alpha 0
        maybe 3 --alpha 0.3
        ;;
    reward) maybe 2 --center-rewards-coefficient 0.02 ;;
    esac
    if [ "$1" = dpo ] || [ "$1" = kto ]; then
        pick none none ahead sync
        [ "$word" != ahead ] || add --precompute-ref-log-probs
        [ "$word" != sync ] || add --sync-ref-model --ref-model-sync-steps 2 --ref-model-mixup-alpha 0.7
    fi
    [ "$1" = reward ] || maybe 3 --max-length 40
    maybe 3 --load-best-model-at-end --early-stopping-patience 2
    draw_common
}

draw_distill() {
    args=(distill --data grpo.jsonl --eval-data grpo-held-out.jsonl --teacher-model teacher --prompts-per-step 2 --max-completion-length 16
        --learning-rate 1e-3 --eval-steps 1)
    pick 0 0.3 0.5 1
    add --beta "$word"
    maybe 2 --temperature 0.8
    draw_common
}

# close A B: the first steps of two runs, number by number: in f32 sums of another order, of derivatives that may cancel.
close() {
    paste <(first_step "$1") <(first_step "$2") | awk '
        $1 != $3 { print "metric " $1 " is " $3 " there"; bad = 1; next }
        { d = $2 - $4; size = $2 < 0 ? -$2 : $2 } d < 0 { d = -d }
        d > 2e-4 * size + 2e-6 { print $1 ": " $2 " and " $4; bad = 1 }
        END { exit bad + (NR < 5) }'
}
first_step() { numbers "$1" | grep -m 1 '"step": 1[,}]' | tr -d '{}"' | tr ',' '\n' | sed 's/://' | grep -v skipped; }

done_draws=0 refused=0 stopped=0
while [ $done_draws -lt "$DRAWS" ]; do
    [ $refused -le $((2 * DRAWS + 20)) ] || fail "$refused draws were refused"
    pick sft grpo grpo grpo pairs pairs distill
    case $word in
    pairs)
        pick dpo dpo dpo kto orpo cpo reward
        draw_pairs "$word"
        ;;
    *) "draw_$word" ;;
    esac
    rm -rf whole parts small
    code=0
    "$COHORT" "${args[@]}" --device "$DEVICE" --save-steps 2 --threads 1 --steps 4 --out whole 2>whole.log || code=$?
    if [ $code = 2 ]; then
        refused=$((refused + 1))
        continue
    fi
    if [ $code != 0 ] && grep -qE 'gave a list, rewards of tokens' whole.log; then # known once a reward has come
        refused=$((refused + 1))
        continue
    fi
    what="draw $done_draws of seed $SEED: cohort ${args[*]}"
    [ $code = 0 ] || { cat whole.log >&2; fail "$what (exit code $code)"; }
    [ "$(numbers whole | grep -c '"step": [1-4],')" -lt 4 ] && stopped=$((stopped + 1)) # early, by itself
    cp -r whole parts # as it was left after step 2, on other threads
    cohort "${args[@]}" --save-steps 2 --threads 2 --recompute layer --steps 4 --out parts --resume parts/checkpoints/step-2
    same_end whole parts "$what"
    [ ! -d whole/final-ema ] || diff -r whole/final-ema parts/final-ema >&2 || fail "$what: final-ema/ differs"
    cohort "${args[@]}" --micro-batch-tokens 48 --threads 2 --steps 1 --out small
    close whole small >&2 || fail "$what: the first step with smaller micro-batches"
    done_draws=$((done_draws + 1))
done
echo "$done_draws draws are exact, $stopped of them stopped early; $refused were refused"

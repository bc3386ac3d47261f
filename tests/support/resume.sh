# Runs to be stopped and resumed; sourced after exact.sh. Data sets, and the commands under test.
make_data() {
    local i
    for i in 1 2 3 4 5 6 7; do
        printf '{"prompt": "question %d: what is %d + %d?", "completion": " it is %d"}\n' $i $i $i $((2 * i))
    done >"$work/sft.jsonl"
    sed '1~2s/}/, "weight": 2.5}/' "$work/sft.jsonl" >"$work/sft-weights.jsonl"
    for i in 1 2 3 4 5 6; do
        printf '{"messages": [{"role": "user", "content": "%d"}, {"role": "assistant", "content": "one"}, ' $i
        printf '{"role": "user", "content": "more"}, {"role": "assistant", "content": "%d"}]}\n' $((2 * i))
    done >"$work/sft-turns.jsonl"
    sed 's/"completion": \(.*\)}/"chosen": \1, "rejected": "perhaps"}/' "$work/sft.jsonl" >"$work/pairs.jsonl"
    sed 's/, "completion".*/}/' "$work/sft.jsonl" >"$work/grpo.jsonl"
    sed -e '1~3s/}/, "shape": {"type": "string", "maxLength": 9}}/' -e '2~3s/}/, "shape": {"enum": ["a\\"b", "abc", [1, 2]]}}/' \
        -e '3~3s/}/, "shape": {"type": "integer"}}/' "$work/grpo.jsonl" >"$work/guided.jsonl"
    head -n 2 "$work/sft.jsonl" >"$work/sft-held-out.jsonl"
    head -n 2 "$work/grpo.jsonl" >"$work/grpo-held-out.jsonl"
    # Rewards of tokens: by their ids, none at every third; of completions that begin with an even id one number.
    cat >"$work/tokens.sh" <<'END'
while read -r row; do
    ids=${row#*\"tokens\":[} list= at=0
    ids=${ids%%]*}
    for id in ${ids//,/ }; do
        [ $((at++ % 3)) = 0 ] && list+=,null || list+=,$((id % 5)).5
    done
    [ $((${ids%%,*} % 2)) = 1 ] && echo "{\"reward\": [${list#,}]}" || echo 2
done
END
}

# arguments KIND: of a run of that kind, into the array args.
arguments() {
    case $1 in
    sft | sft-packed | sft-split | sft-wrapped)
        args=(sft --data sft.jsonl --eval-data sft-held-out.jsonl --batch-size 3 --learning-rate 1e-3 --weight-decay 0.1)
        # Bins, weights and noise: what a step takes and adds follows from its number.
        case $1 in # pieces of rows, and rows that run on into each other
        sft-split) args+=(--data sft-weights.jsonl --batch-size 2 --packing --packing-strategy bfd_split --max-length 30) ;;
        sft-wrapped) args+=(--packing --packing-strategy wrapped --max-length 50) ;;
        esac
        [ "$1" != sft-packed ] || args+=(--data sft-weights.jsonl --batch-size 2 --packing --max-length 90 --neftune-noise-alpha 5
            --label-smoothing-factor 0.1 --early-stopping-patience 3 --load-best-model-at-end)
        ;;
    dpo | dpo-ahead | dpo-sync | kto | kto-ahead | orpo | cpo)
        args=("${1%-*}" --data pairs.jsonl --eval-data pairs.jsonl --batch-size 3 --learning-rate 1e-3 --weight-decay 0.1)
        case $1 in
        dpo) args+=(--loss-type 'aot,sft' --loss-weights '1,0.1' --load-best-model-at-end --metric-for-best-model rewards/margins) ;;
        dpo-ahead) args+=(--precompute-ref-log-probs --use-weighting --f-divergence-type forward_kl) ;;
        kto-ahead) args+=(--precompute-ref-log-probs) ;;
        cpo) args+=(--loss-type alphapo --alpha 0.3 --load-best-model-at-end --metric-for-best-model rewards/margins) ;;
        dpo-sync) args+=(--sync-ref-model --ref-model-sync-steps 2 --ref-model-mixup-alpha 0.7) ;;
        esac
        ;;
    reward | reward-lora)
        args=(reward --data pairs.jsonl --eval-data pairs.jsonl --batch-size 3 --learning-rate 1e-3 --weight-decay 0.1 --center-rewards-coefficient 0.02)
        case $1 in # a head that was drawn, alone and beside an adapter
        reward) args+=(--load-best-model-at-end --metric-for-best-model margin) ;;
        reward-lora) args+=(--use-peft --lora-target-modules all-linear) ;;
        esac
        ;;
    sft-turns)
        args=(sft --data sft-turns.jsonl --eval-data sft-turns.jsonl --batch-size 2 --learning-rate 1e-3 --assistant-only-loss --loss-type dft
            --max-length 70 --truncation-mode keep_end --eval-strategy epoch --metric-for-best-model mean_token_accuracy
            --early-stopping-patience 9 --load-best-model-at-end)
        ;;
    grpo | grpo-best | rloo-best | grpo-kl | grpo-entropy | grpo-slices | grpo-sync | grpo-dynamic | grpo-tokens | grpo-masked)
        args=(grpo --data grpo.jsonl --eval-data grpo-held-out.jsonl --reward regex --reward-pattern '[a-m]' --prompts-per-step 2
            --num-generations 4 --max-completion-length 24 --learning-rate 1e-3 --log-completions)
        case $1 in
        grpo) ;;
        *-best) args=("${1%-best}" "${args[@]:1}" --load-best-model-at-end --early-stopping-patience 9) ;;
        *) args+=(--beta 0.04 --num-iterations 2) ;;
        esac
        # Steps that take from two batches, and end in the middle of one, which the checkpoint then holds.
        # Batches that take more of the data than their size, and are used twice.
        [ "$1" != grpo-dynamic ] || args+=(--dynamic-sampling --dynamic-sampling-refills 3 --dynamic-sampling-oversample 1.5
            --reward-pattern '[aeiou]')
        # Advantages of tokens, in a batch that the checkpoint holds too, beside a reward of whole completions.
        [ "$1" != grpo-tokens ] || args+=(--reward 'exec:bash tokens.sh' --reward-weights '1,0.5' --steps-per-generation 4
            --gradient-accumulation-steps 3)
        # A reference that is mixed in the second step, and then in every one, so that the checkpoint holds it.
        [ "$1" != grpo-sync ] || args+=(--sync-ref-model --ref-model-sync-steps 2 --ref-model-mixup-alpha 0.7)
        [ "$1" != grpo-slices ] || args+=(--steps-per-generation 4 --gradient-accumulation-steps 3)
        # The constrained distribution: what guided the prompts of a batch that the checkpoint holds must come back with it.
        [ "$1" != grpo-masked ] || args+=(--data guided.jsonl --steps-per-generation 4 --gradient-accumulation-steps 3 --guided-json @shape
            --guided-logprob masked --guided-close 12 --eval-data guided.jsonl)
        # State that outlives a step beside weights and optimizer: the controller of the entropy bonus, near its target.
        [ "$1" != grpo-entropy ] || args+=(--use-adaptive-entropy --entropy-coef 0.02 --entropy-coef-max 0.03 --entropy-target 5.555
            --top-entropy-quantile 0.5 --loss-type sapo)
        ;;
    distill | distill-lora)
        # A teacher of other weights; rewards that are measured, and two slices a step.
        args=(distill --data grpo.jsonl --eval-data grpo-held-out.jsonl --teacher-model teacher --reward regex --reward-pattern '[a-m]'
            --per-device-train-batch-size 3 --gradient-accumulation-steps 2 --num-generations 2 --max-completion-length 24
            --learning-rate 1e-3 --beta 0.5 --temperature 0.8 --log-completions)
        [ "$1" = distill ] || args+=(--use-peft --lora-target-modules all-linear --beta 1 --temperature 1)
        ;;
    esac
    args+=(--model model --seed 9)
}

# same_end A B WHAT: two runs that came to the same end, whatever happened on the way.
same_end() {
    diff -r "$1/final" "$2/final" >&2 || fail "$3: final/ differs"
    numbers "$1" >"$work/a"
    numbers "$2" >"$work/b"
    same "$work/a" "$work/b" "$3, metrics"
    records "$1" >"$work/a"
    records "$2" >"$work/b"
    same "$work/a" "$work/b" "$3, run.db"
    [ ! -f "$1/completions.jsonl" ] || same "$1/completions.jsonl" "$2/completions.jsonl" "$3, completions"
    local checkpoint
    for checkpoint in "$1"/checkpoints/step-*; do
        same_checkpoint "$checkpoint" "$2/checkpoints/${checkpoint##*/}" "$3"
    done
}

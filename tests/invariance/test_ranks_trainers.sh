#!/usr/bin/env bash
# Trainers of preferences and reward models on any number of ranks (docs/RANKS.md): with one number of lanes 1, 2 and 3
# ranks write the same bytes, and a run goes on on another number of them.
. "$SOURCE/tests/support/exact.sh"
cd "$work"
. "$SOURCE/tests/support/ranks.sh"
make_model "$work/model"

for i in 1 2 3 4 5 6 7; do
    printf '{"prompt": "question %d: what is %d + %d?%s", "chosen": " it is %d, as %s", "rejected": " who knows%s"}\n' $i $i $i \
        "$(printf "%$((5 * i))s")" $((2 * i)) "$(printf "%$((6 * (8 - i)))s" | tr ' ' x)" "$(printf "%$((9 * (i % 3)))s" | tr ' ' y)"
done >pairs.jsonl
head -n 3 pairs.jsonl >held.jsonl

# Micro-batches of few pairs, so that a step has several for each lane.
ROWS=(--model model --data pairs.jsonl --eval-data held.jsonl --eval-steps 2 --steps 3 --save-steps 2 --batch-size 6 --micro-batch-tokens 300
    --learning-rate 1e-2 --optim adamw_torch --gradient-lanes 4)
on_ranks dpo 2 dpo "${ROWS[@]}" --sync-ref-model --ref-model-sync-steps 1
goes_on dpo-2 3 dpo
run dpo-lane 0 dpo "${ROWS[@]}" --sync-ref-model --ref-model-sync-steps 1 --gradient-lanes 1
! cmp -s dpo-1/final/model.safetensors dpo-lane/final/model.safetensors || fail "lanes make no difference"
# A loss that sees all pairs of a step; weights of whole pairs; the scores of the reference known ahead.
on_ranks aot 3 dpo "${ROWS[@]}" --loss-type aot,sft --precompute-ref-log-probs
# Prompts that meet others' completions.
on_ranks kto 2 kto "${ROWS[@]}"
on_ranks orpo 3 orpo "${ROWS[@]}"
on_ranks wpo 2 dpo "${ROWS[@]}" --use-weighting --ld-alpha 0.5
on_ranks lora 3 dpo "${ROWS[@]}" --use-peft --lora-r 3
on_ranks reward 2 reward "${ROWS[@]}" --center-rewards-coefficient 0.01
goes_on reward-1 3 reward
echo "the same bits on 1, 2 and 3 ranks"

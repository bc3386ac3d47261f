#!/usr/bin/env bash
# The same run on any number of ranks (docs/RANKS.md): with one number of lanes 1, 2, 3 and 4 ranks write the same bytes, weights,
# checkpoints, metrics and records; one lane is what one process computes without any; a run goes on on another number of ranks.
. "$SOURCE/tests/support/exact.sh"
cd "$work"
. "$SOURCE/tests/support/ranks.sh"
make_model "$work/model"

for i in 1 2 3 4 5 6 7 8 9; do
    printf '{"prompt": "question %d: what is %d + %d?%s", "completion": " it is %d, as %s"}\n' $i $i $i "$(printf "%$((5 * i))s")" $((2 * i)) \
        "$(printf "%$((7 * (10 - i)))s" | tr ' ' x)"
done >sft.jsonl
sed 's/, "completion".*/}/' sft.jsonl >grpo.jsonl
head -n 3 grpo.jsonl >held.jsonl

weights() { sha256sum <"$1/final/model.safetensors"; }

SFT=(sft --model model --data sft.jsonl --eval-data held-sft.jsonl --eval-steps 2 --steps 3 --batch-size 7 --micro-batch-tokens 200
    --learning-rate 1e-2 --save-steps 2 --optim adamw_torch --ema-decay 0.9)
head -n 2 sft.jsonl >held-sft.jsonl
run s1 0 "${SFT[@]}" --gradient-lanes 4
for n in 2 3 4; do
    run s$n $n "${SFT[@]}" --gradient-lanes 4
    same_run s1 s$n
    diff -r s1/final-ema s$n/final-ema >&2 || fail "the mean of the weights on $n ranks"
done
run s-plain 0 "${SFT[@]}"
run s-one-lane 2 "${SFT[@]}" --gradient-lanes 1
same_run s-plain s-one-lane
run s-two-lanes 2 "${SFT[@]}" # as many as ranks
# As Slurm starts the tasks of a step: with its variables, and PMIx.
cat >srun <<'R'
export SLURM_STEP_ID=0 SLURM_PROCID=$OMPI_COMM_WORLD_RANK SLURM_NTASKS=$OMPI_COMM_WORLD_SIZE SLURM_LOCALID=$OMPI_COMM_WORLD_LOCAL_RANK
unset OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE OMPI_COMM_WORLD_LOCAL_RANK OMPI_COMM_WORLD_LOCAL_SIZE
exec "$@"
R
"${MPIRUN[@]}" -n 2 sh srun "$COHORT" "${SFT[@]}" --device cpu --threads 1 --out s-slurm >log 2>&1 || { cat log >&2; fail "as srun starts it"; }
same_run s-two-lanes s-slurm
grep -q '^gradient_lanes: 2$' s-two-lanes/config.yaml || fail "the number of lanes is not stored"
# The order of sums is what lanes are: other numbers of them are other runs.
[ "$(for name in s-plain s-two-lanes s1; do weights $name; done | sort -u | wc -l)" = 3 ] || fail "lanes make no difference"
# Optimizers whose updates see whole tensors, and an adapter.
for more in "--optim muon" "--use-peft --lora-r 3 --moments-dtype bf16"; do
    # shellcheck disable=SC2086 # options are words
    run o1 0 "${SFT[@]}" --gradient-lanes 2 $more
    # shellcheck disable=SC2086
    run o3 3 "${SFT[@]}" --gradient-lanes 2 $more
    same_run o1 o3
    rm -r o1 o3
done

GRPO=(grpo --model model --data grpo.jsonl --eval-data held.jsonl --eval-steps 10 --reward "regex,python:rewards.py:by_length" --reward-pattern '[a-e]'
    --prompts-per-step 3 --num-generations 4 --max-completion-length 12 --micro-batch-tokens 400 --learning-rate 3e-3 --seed 5 --save-steps 10)
cat >rewards.py <<'PY'
def by_length(completions, log_metric=None, **kwargs):
    if log_metric:
        log_metric("longest", max(map(len, completions)))
    return [len(c) % 5 for c in completions]
PY
run g1 0 "${GRPO[@]}" --steps 20 --gradient-lanes 4
for n in 2 3 4; do
    run g$n $n "${GRPO[@]}" --steps 20 --gradient-lanes 4
    same_run g1 g$n
done
grep -q '"sampling/sampling_logp_difference/max": 0[,}]' g4/metrics.jsonl || fail "rollout and training differ"
# A reference, several steps on a batch, the entropy filter, dynamic sampling, completions that are left out.
MORE=(--steps 4 --gradient-lanes 2 --beta 0.1 --num-iterations 2 --top-entropy-quantile 0.5 --dynamic-sampling --mask-truncated-completions
    --loss-type dr_grpo --scale-rewards batch --save-steps 3)
run m1 0 "${GRPO[@]}" "${MORE[@]}"
run m3 3 "${GRPO[@]}" "${MORE[@]}"
same_run m1 m3

# On another number of ranks: the checkpoint is the same, and so is what comes of it.
for n in 0 2 3; do
    cp -r g2 resumed
    rm -r resumed/checkpoints/step-20 resumed/final
    run resumed $n grpo --resume
    same_run g2 resumed
    rm -r resumed
done
echo "the same bits on 1, 2, 3 and 4 ranks"

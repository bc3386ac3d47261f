#!/usr/bin/env bash
# A run that stopped and went on is the run that did not stop, to the byte (I6): 6 steps are 3, a new process and 3; and an
# interrupted run goes on as if nothing had been.
. "$SOURCE/tests/support/exact.sh"
. "$SOURCE/tests/support/resume.sh"
make_model "$work/model"
make_model "$work/teacher" 4
make_data
cd "$work"

for dtype in bf16 f32; do
    for kind in sft sft-packed sft-split sft-wrapped sft-turns dpo dpo-ahead dpo-sync kto kto-ahead orpo cpo reward reward-lora grpo grpo-best rloo-best grpo-kl grpo-entropy grpo-slices grpo-sync grpo-dynamic grpo-tokens grpo-masked distill distill-lora; do
        what="$kind-$dtype"
        part=3
        case $kind in grpo-kl | grpo-entropy | grpo-sync | grpo-dynamic) part=2 ;; esac # two iterations a batch
        arguments $kind
        # Evaluations where the first part ends: it evaluates there in any case.
        args+=(--dtype "$dtype" --eval-steps "$part" --save-steps "$part")
        cohort "${args[@]}" --threads 1 --steps 6 --out "$what"
        [ -f "$what/checkpoints/step-$part/trainer/optimizer.safetensors" ] || fail "$what: no optimizer state"
        # In two processes; the second with other threads and recomputation, which do not count.
        cohort "${args[@]}" --threads 2 --steps $part --out "$what-parts"
        cohort "${args[@]}" --threads 2 --recompute layer --steps 6 --out "$what-parts" --resume latest
        same_end "$what" "$what-parts" "$what, $part steps and the rest"
        if [ $kind = grpo-tokens ]; then # there are some, and a checkpoint has those of a batch in use
            grep -q '"token_rewards": {"tokens.sh": \[null, ' "$what/completions.jsonl" || fail "$what: no rewards of tokens"
            grep -q '"token_advantages": \[' "$what/completions.jsonl" || fail "$what: no advantages of tokens"
            grep -q '"format": 2' "$what/checkpoints/step-$part/trainer/batch.json" || fail "$what: no advantages of tokens in a checkpoint"
        fi
        if [ $kind = grpo-masked ]; then # the checkpoint has what guided the prompts; draws and training agree
            grep -q '"guides": \[' "$what/checkpoints/step-$part/trainer/batch.json" || fail "$what: no guides in a checkpoint"
            grep -q '"format": 3' "$what/checkpoints/step-$part/trainer/batch.json" || fail "$what: the format of a batch with guides"
            grep -q '"sampling/sampling_logp_difference/max": 0,' "$what/metrics.jsonl" || fail "$what: no difference of 0"
            ! grep -q '"sampling/sampling_logp_difference/max": [^0]' "$what/metrics.jsonl" || fail "$what: log-probs differ"
        fi
        if [ $kind = grpo-entropy ]; then # the controller moved, and not one way alone
            coefs=$(numbers "$what" | sed -n 's/.*"entropy_coef": \([0-9.e-]*\).*/\1/p' | sort -u | wc -l)
            [ "$coefs" -ge 2 ] || fail "$what: the coefficient of the entropy bonus stays where it was"
        fi
        # Back to an earlier checkpoint, by its name: what came after it is done again.
        cohort "${args[@]}" --threads 1 --steps 6 --out "$what-parts" --resume "$what-parts/checkpoints/step-$part"
        same_end "$what" "$what-parts" "$what, done again from step $part"
    done
done

# Every checkpoint of a run whose steps end in the middle of generation batches (8 slices a batch, 3 a step).
arguments grpo-slices
cohort "${args[@]}" --threads 1 --steps 8 --save-steps 1 --out slices
for step in 1 2 3 4 5 6 7 8; do
    there=$([ -f slices/checkpoints/step-$step/trainer/batch.json ] && echo yes || echo no)
    expected=yes
    [ $((step * 3 % 8)) != 0 ] || expected=no
    [ $there = $expected ] || fail "slices: a batch in the checkpoint of step $step: $there"
done
cp -r slices slices-again
for step in 1 3 4 6; do
    cohort "${args[@]}" --threads 2 --steps 8 --save-steps 1 --out slices-again --resume slices-again/checkpoints/step-$step
    same_end slices slices-again "slices, again from step $step"
done

# A reference that follows the policy: as it was before it was first mixed, and after.
arguments grpo-sync
args+=(--ref-model-sync-steps 3)
cohort "${args[@]}" --threads 1 --steps 7 --save-steps 1 --out sync
for step in 1 2 3 4 5 6 7; do
    there=$([ -f sync/checkpoints/step-$step/trainer/reference/model.safetensors ] && echo yes || echo no)
    [ $there = "$([ $step -ge 3 ] && echo yes || echo no)" ] || fail "sync: a reference in the checkpoint of step $step: $there"
done
cp -r sync sync-again
for step in 2 3 5; do
    cohort "${args[@]}" --threads 2 --steps 7 --save-steps 1 --out sync-again --resume sync-again/checkpoints/step-$step
    same_end sync sync-again "sync, again from step $step"
done
# What is mixed in entirely is the policy: the KL of the next batch is 0, and without mixing it is not.
cohort "${args[@]}" --steps 3 --num-iterations 1 --ref-model-sync-steps 1 --ref-model-mixup-alpha 1 --out sync-whole
cohort "${args[@]}" --steps 3 --num-iterations 1 --no-sync-ref-model --out sync-none
[ "$(sed -n '/"step": 3,/s/.*"kl": \([^,]*\),.*/\1/p' sync-whole/metrics.jsonl)" = 0 ] || fail "sync: the KL to a reference that is the policy"
[ "$(sed -n '/"step": 3,/s/.*"kl": \([^,]*\),.*/\1/p' sync-none/metrics.jsonl)" != 0 ] || fail "sync: the KL to a reference that stays"

# Ctrl-C somewhere in the middle, twice, then to the end.
for kind in sft grpo grpo-kl grpo-slices grpo-sync grpo-dynamic distill; do
    arguments $kind
    args+=(--steps 60 --save-steps 20)
    cohort "${args[@]}" --out "$kind-whole"
    resume=()
    for lines in 7 33; do
        "$COHORT" "${args[@]}" --device "$DEVICE" --out "$kind-cut" "${resume[@]}" 2>cut.log &
        pid=$!
        for _ in $(seq 1 2000); do
            [ -f "$kind-cut/metrics.jsonl" ] && [ "$(wc -l <"$kind-cut/metrics.jsonl")" -ge $lines ] && break
            kill -0 $pid 2>/dev/null || break
            sleep 0.005
        done
        kill -INT $pid 2>/dev/null || true
        code=0
        wait $pid || code=$?
        [ $code = 130 ] || [ $code = 0 ] || { cat cut.log >&2; fail "$kind: exit code $code after an interrupt, expected 130"; }
        echo "$kind: interrupted after $(wc -l <"$kind-cut/metrics.jsonl") lines of metrics (exit code $code)"
        resume=(--resume latest)
        [ -n "$(ls "$kind-cut/checkpoints")" ] || { rm -rf "$kind-cut"; resume=(); }
    done
    cohort "${args[@]}" --out "$kind-cut" "${resume[@]}"
    same_end "$kind-whole" "$kind-cut" "$kind, interrupted"
done

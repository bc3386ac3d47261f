#!/usr/bin/env bash
# Weights that ranks divide (--shard weights, docs/RANKS.md): the same bytes as without and on one rank, whatever is trained how; less memory,
# by the plan; a run goes on with and without; a rank that dies or hangs while layers are brought ends the job.
. "$SOURCE/tests/support/exact.sh"
cd "$work"
. "$SOURCE/tests/support/ranks.sh"
make_model "$work/model" 3 false

for i in 1 2 3 4 5 6 7 8 9; do
    printf '{"prompt": "question %d: what is %d + %d?%s", "completion": " it is %d, as %s"}\n' $i $i $i "$(printf "%$((5 * i))s")" $((2 * i)) \
        "$(printf "%$((7 * (10 - i)))s" | tr ' ' x)"
done >sft.jsonl
sed 's/, "completion".*/}/' sft.jsonl >grpo.jsonl
head -n 2 sft.jsonl >held-sft.jsonl
head -n 3 grpo.jsonl >held.jsonl

SFT=(sft --model model --data sft.jsonl --eval-data held-sft.jsonl --eval-steps 2 --steps 3 --batch-size 7 --micro-batch-tokens 200
    --learning-rate 1e-2 --save-steps 2 --optim adamw_torch --ema-decay 0.9 --recompute layer)
run s1 0 "${SFT[@]}" --gradient-lanes 4
for n in 2 3; do
    run s$n $n "${SFT[@]}" --gradient-lanes 4 --shard weights
    same_run s1 s$n
    diff -r s1/final-ema s$n/final-ema >&2 || fail "the mean of the weights on $n ranks"
done
# One lane, whose gradient one rank computes; an optimizer that sees whole tensors; weights in bf16; one rank, which divides nothing.
run l1 0 "${SFT[@]}" --gradient-lanes 1
run l3 3 "${SFT[@]}" --gradient-lanes 1 --shard weights
same_run l1 l3
run b1 0 "${SFT[@]}" --gradient-lanes 2 --optim muon --dtype bf16 --shard weights
run b2 2 "${SFT[@]}" --gradient-lanes 2 --optim muon --dtype bf16 --shard weights
same_run b1 b2

# A reference, several steps on a batch, the entropy filter, completions that have nothing to learn from.
GRPO=(grpo --model model --data grpo.jsonl --eval-data held.jsonl --eval-steps 2 --reward regex --reward-pattern '[a-e]' --prompts-per-step 3
    --num-generations 4 --max-completion-length 12 --micro-batch-tokens 400 --learning-rate 3e-3 --seed 5 --save-steps 2 --gradient-lanes 4)
run g1 0 "${GRPO[@]}" --steps 4
for n in 2 3; do
    run g$n $n "${GRPO[@]}" --steps 4 --shard weights
    same_run g1 g$n
done
MORE=(--steps 4 --beta 0.1 --num-iterations 2 --top-entropy-quantile 0.5 --mask-truncated-completions)
run m1 0 "${GRPO[@]}" "${MORE[@]}"
run m3 3 "${GRPO[@]}" "${MORE[@]}" --shard weights
same_run m1 m3
grep -q '"sampling/sampling_logp_difference/max": 0[,}]' g3/metrics.jsonl || fail "rollout and training differ"
# On another number of ranks: without what began with it, and with it what began without.
# goes_on RUN RANKS OPTIONS...
goes_on() {
    cp -r "$1" resumed
    rm -r resumed/checkpoints/step-4 resumed/final
    run resumed "$2" grpo --resume "${@:3}"
    same_run "$1" resumed
    rm -r resumed
}
goes_on g2 0 --shard state
goes_on g1 3 --shard weights

refused() {
    local pattern=$1
    shift
    ! "$@" >log 2>&1 || fail "not refused: $*"
    grep -q "^cohort: .*$pattern" log || { cat log >&2; fail "no '$pattern'"; }
}
refused 'beside an adapter each rank has them whole' job 2 "${SFT[@]}" --shard weights --use-peft --out lora
refused 'sync-ref-model mixes whole models' job 2 "${GRPO[@]}" --steps 1 --shard weights --beta 0.1 --sync-ref-model --out sync

# By the plan, of a model of layers: what each of two ranks holds of the weights, and a run that fits so alone.
cat >large.json <<'J'
{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu", "attention_bias": false, "rms_norm_eps": 1e-6,
 "max_position_embeddings": 512, "rope_theta": 10000.0, "vocab_size": 300, "hidden_size": 256, "num_hidden_layers": 12,
 "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64, "intermediate_size": 1024, "tie_word_embeddings": true}
J
"$COHORT" init --config large.json --tokenizer bytes --dtype f32 --out large >/dev/null 2>&1 || fail "the larger model"
LARGE=(sft --model large --data held-sft.jsonl --steps 1 --batch-size 2 --gradient-lanes 2)
for shard in state weights; do run large-$shard 2 "${LARGE[@]}" --shard $shard; done
diff -r large-state/final large-weights/final >&2 || fail "the larger model: final/ differs"
planned() { sed -nE "s/^memory plan.*$2 ([0-9.]+) GB.*/\1/p" "$1.log" | head -n 1; }
python3 -I -S - "$(planned large-state weights)" "$(planned large-weights weights)" "$(planned large-state 'in all')" \
    "$(planned large-weights 'in all')" <<'P' || fail "the plan does not say that weights are divided"
import sys
state, divided, all_of_it, less = map(float, sys.argv[1:])
# Values and what products read of them; of both a layer, and of the values a half.
sys.exit(not (state >= 0.1 and divided <= 0.36 * state and abs((all_of_it - less) - (state - divided)) < 0.02))
P
limit=$(planned large-weights 'in all')
limit=$(python3 -I -S -c "print($limit + 0.01)")
refused 'GB are there' job 2 "${LARGE[@]}" --shard state --memory-limit "$limit" --recompute none --out refused
[ ! -e refused/final ] || fail "it was refused, and ran"
run fits 2 "${LARGE[@]}" --shard weights --memory-limit "$limit" --recompute none

# A rank that dies, and one that hangs, while the others want its part of a layer: nearly all that ranks wait for in sft.
cat >rank.sh <<'R'
echo $$ >"pid.$OMPI_COMM_WORLD_RANK"
exec "$@"
R
LONG=(sft --model large --data sft.jsonl --steps 400 --batch-size 9 --save-steps 2 --save-total-limit 2 --gradient-lanes 2 --shard weights)
# begin RUN OPTIONS...: a run that has saved something
begin() {
    local run=$1
    shift
    "${MPIRUN[@]}" -n 2 sh rank.sh "$COHORT" "${LONG[@]}" --device cpu --threads 1 --out "$run" "$@" >log 2>&1 &
    job=$!
    for _ in $(seq 1500); do [ -e "$run/checkpoints/step-2" ] && return; sleep 0.02; done
    cat log >&2
    fail "$run never saved"
}
ends() {
    local code=0
    wait $job || code=$?
    [ $code != 0 ] || fail "$1 did not fail"
    grep -q "$2" log || { cat log >&2; fail "$1: no '$2'"; }
    [ -z "$(find "$1/checkpoints" -name '.cohort-*')" ] || fail "$1: half a checkpoint"
}
begin killed
kill -KILL "$(cat pid.1)"
ends killed 'rank 1 .* exited on signal 9'
begin hangs --rank-timeout 4
kill -STOP "$(cat pid.1)"
ends hangs 'cohort: rank 1 of 2 (.*) has not answered for 4 s (--rank-timeout)'
steps=$(($(ls hangs/checkpoints | sed -n 's/^step-//p' | sort -n | tail -n 1) + 1))
run hangs 2 sft --resume --steps $steps
run whole 0 "${LONG[@]}" --steps $steps
diff -r whole/final hangs/final >&2 || fail "what goes on behind a rank that hung is another run"
echo "weights that ranks divide: the same bits"

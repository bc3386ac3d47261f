# rloo is grpo with other defaults: the same run, to the byte, as grpo that is told them.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4 5; do echo "{\"prompt\": \"is $i even?\"}"; done >d.jsonl
run() { # run COMMAND OUT OPTIONS
    local command=$1 out=$2
    shift 2
    "$COHORT" "$command" --model m --data d.jsonl --threads 1 --device cpu --dtype f32 --learning-rate 1e-3 --reward regex --reward-pattern '[aeiou]' \
        --prompts-per-step 3 --max-completion-length 12 --steps 4 --out "$out" "$@"
}
final() { sha256sum <"$1/final/model.safetensors"; }
succeeds run rloo a
TOLD=(--num-generations 2 --beta 0.05 --loss-type rloo --advantage-estimator rloo --kl-in-reward --kl-estimator k1)
succeeds run grpo b "${TOLD[@]}"
is "$(final a)" "$(final b)" "weights of rloo and of grpo that is told its defaults"
has a/config.yaml '^use_bias_correction_kl: false'
has a/config.yaml '^scale_rewards: none'
has a/metrics.jsonl '"importance_ratio/max": 1,'
# Later steps on a batch have the ratio of a whole completion, which goes further than a token's.
succeeds run rloo c --num-iterations 3
succeeds run rloo d --num-iterations 3 --loss-type grpo
differs "$(final c)" "$(final d)" "weights with the ratio of a completion and with that of a token"
has c/metrics.jsonl '"clip_ratio/region_mean": 0\.[0-9]*[1-9]'
# Without a KL there is no reference, and nothing to take from the reward.
succeeds run rloo e --beta 0
grep -q 'frozen reference' err && wrong "a reference without a KL"
fails 2 'kl_in_reward takes beta times the KL' run rloo no --beta 0 --kl-in-reward
fails 2 'loss_type rloo has a ratio of its own' run rloo no --importance-sampling-level sequence
# A range that every reward is in changes nothing, a narrow one does; the metric is of what was given.
succeeds run rloo f --reward-clip-range -5,5
is "$(final a)" "$(final f)" "weights with a range that clips nothing"
succeeds run rloo g --reward-clip-range 0.2,0.4
differs "$(final a)" "$(final g)" "weights with clipped rewards"
is "$(sed -n '1s/.*"reward": \([^,]*\).*/\1/p' a/metrics.jsonl)" "$(sed -n '1s/.*"reward": \([^,]*\).*/\1/p' g/metrics.jsonl)" "the reward of step 1"
fails 2 'expected two numbers, the lower one first' run rloo no --reward-clip-range 1,0
fails 2 'has 1 numbers: expected two' run rloo no --reward-clip-range 1
fails 2 'reward_clip_range changes rewards' run rloo no --reward-clip-range 0,1 --advantage-estimator pass_at_k --advantage-k 2 --beta 0
# It goes on as itself alone.
fails 1 'checkpoint of cohort rloo, this is cohort grpo' run grpo other "${TOLD[@]}" --steps 5 --resume a/checkpoints/step-4
succeeds run rloo long --steps 6
succeeds run rloo a --steps 6 --resume
is "$(final a)" "$(final long)" "weights of a run that went on"
done_testing

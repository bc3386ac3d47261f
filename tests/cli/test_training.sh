# cohort sft and grpo: every switch of the loss runs through, metrics that can be worked out by hand are right, and a run's files can be used.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4 5 6; do echo "{\"prompt\": \"q$i\", \"answer\": \"$i\"}"; done >d.jsonl
# The reward of a row is a function of what it says: the length of the line, which counts escapes.
cat >reward.sh <<'R'
mark=',"last_of_batch":true'
answer=
while IFS= read -r line; do
    row=${line%%"$mark"*}${line#*"$mark"}
    [ "$row" = "$line$line" ] && row=$line
    answer="$answer$((${#row} % 5))
"
    case $line in
    *"$mark"*) printf '%s' "$answer"; answer= ;;
    esac
done
R
# constant VALUE: a reward program that always says it
constant() { echo "exec:while IFS= read -r l; do echo $1; done"; }
GRPO=("$COHORT" grpo --model m --data d.jsonl --num-generations 4 --prompts-per-step 2 --max-completion-length 6 --learning-rate 1e-3
    --seed 5 --threads 1)
train() { rm -rf "$1"; succeeds "${GRPO[@]}" --out "$@"; }
# metric RUN NAME: its values, a step each
metric() { field "$2" <"$1/metrics.jsonl" | tr '\n' ' ' | sed 's/ $//'; }
# within NUMBER LOW HIGH WHAT
within()
{
    CHECKS=$((CHECKS + 1))
    awk -v x="$1" -v low="$2" -v high="$3" 'BEGIN { exit !(x ~ /^[-+0-9.e]+$/ && x >= low && x <= high) }' || wrong "$4 is $1, not in $2 .. $3"
}

# --- a constant reward: no advantage, so no gradient and no change ---
train r --reward "$(constant 0.5)" --steps 2 --reward-weights 3 --logit-bias 256:-1000,258:-1000 # no EOS: lengths are known
is "$(metric r reward)" "1.5 1.5" "reward: the weight times 0.5"
is "$(metric r reward_std)" "0 0" "reward_std"
is "$(metric r frac_reward_zero_std)" "1 1" "frac_reward_zero_std"
is "$(metric r loss)" "0 0" "loss"
is "$(metric r grad_norm)" "0 0" "grad_norm"
is "$(metric r completions/mean_length)" "6 6" "length"
is "$(metric r num_tokens)" "64 128" "tokens: 8 x (2 + 6) a step"
same r/final/model.safetensors m/model.safetensors
within "$(metric r entropy | cut -d' ' -f1)" 5.5 5.576 "entropy of a random model over 264 tokens (log 264 = 5.576)"
# Two functions, one of them without an opinion.
train r --reward "$(constant 0.5),$(constant null)" --reward-weights 2,7 --steps 1
is "$(metric r reward)" "1" "reward beside a null"
has r/metrics.jsonl '"rewards/while/mean": 0.5, "rewards/while/std": 0, "rewards/while_2/mean": null, "rewards/while_2/std": null'

# --- metrics from the completions that were logged ---
train r --reward 'exec:sh reward.sh' --steps 2 --log-completions --num-iterations 1 --lr-scheduler-type linear
is "$(wc -l <r/completions.jsonl)" 16 "logged completions"
# Mean reward of the step, and the groups' advantages: (r - mean) / (std + 1e-4), std over n - 1.
is "$(sed -n '1,8p' r/completions.jsonl | sed 's/.*"reward.sh": \([0-9]\).*/\1/' | awk '{ s += $1 } END { print s / NR }')" \
    "$(metric r reward | cut -d' ' -f1)" "mean reward of step 1"
sed 's/.*"reward.sh": \([0-9]\)}, "advantage": \([-0-9.e]*\)}/\1 \2/' r/completions.jsonl |
    awk '{ r[(NR - 1) % 4] = $1; a[(NR - 1) % 4] = $2 }
         NR % 4 == 0 { m = (r[0] + r[1] + r[2] + r[3]) / 4; v = 0
             for (i = 0; i < 4; i++) v += (r[i] - m) ^ 2 / 3
             for (i = 0; i < 4; i++) { w = (r[i] - m) / (sqrt(v) + 1e-4); if ((w - a[i]) ^ 2 > 1e-10) print NR, i, w, a[i] } }' >off
is "$(cat off)" "" "advantages by hand"
is "$(metric r learning_rate)" "0.001 0.0005" "linear rate of 2 steps"
is "$(metric r sampling/sampling_logp_difference/max)" "0 0" "sampled and trained log-probs"
is "$(metric r importance_ratio/min) $(metric r importance_ratio/max)" "1 1 1 1" "ratios of the first epoch"
train r2 --reward 'exec:sh reward.sh' --steps 2 --log-completions --num-iterations 1 --lr-scheduler-type linear --threads 2 --micro-batch-tokens 1
same r/completions.jsonl r2/completions.jsonl
differs "$(cksum <r/final/model.safetensors)" "$(cksum <m/model.safetensors)" "trained weights"

# --- every loss: type x scale x level, each with two of four settings of the rest, in turn ---
NAMES="loss grad_norm learning_rate reward reward_std frac_reward_zero_std entropy num_tokens step_time completions/mean_length
    completions/min_length completions/max_length completions/clipped_ratio completions/mean_terminated_length
    completions/min_terminated_length completions/max_terminated_length clip_ratio/low_mean clip_ratio/low_min clip_ratio/high_mean
    clip_ratio/high_max clip_ratio/region_mean rewards/reward.sh/mean rewards/reward.sh/std"
# every_name: the names of NAMES that a line of r/metrics.jsonl lacks, or whose value is no number
every_name()
{
    awk -v names="$NAMES" 'BEGIN { n = split(names, name) }
        { for (i = 1; i <= n; i++) {
              at = index($0, "\"" name[i] "\": ")
              value = substr($0, at + length(name[i]) + 4)
              sub(/[,}].*/, "", value)
              if (at == 0 || value !~ /^-?[0-9.]+(e[-+][0-9]+)?$/) print NR, name[i], value
          } }' r/metrics.jsonl
}
REST=('0 1
0.1 2 --delta 1.5' '0.1 1 --epsilon 0.001 --epsilon-high 0.002
0 2 --mask-truncated-completions --delta 2')
turn=0 losses=
for type in grpo bnpo dr_grpo dapo; do
    for scale in group batch none; do
        for level in token sequence; do
            while read -r beta iterations rest; do
                what="$type $scale $level beta $beta iterations $iterations $rest"
                # shellcheck disable=SC2086
                train r --reward 'exec:sh reward.sh' --steps 2 --loss-type $type --scale-rewards $scale --importance-sampling-level $level \
                    --beta $beta --num-iterations $iterations --logit-bias 258:3 $rest
                is "$(wc -l <r/metrics.jsonl)" 2 "lines of $what"
                is "$(every_name)" "" "names not found, or without a finite value, in $what"
                if [ "$beta" = 0 ]; then
                    lacks r/metrics.jsonl '"kl"'
                else
                    is "$(metric r kl | cut -d' ' -f1)" 0 "kl of the first step of $what"
                    within "$(metric r kl | cut -d' ' -f2)" 1e-9 10 "kl of the second step of $what"
                fi
                within "$(metric r grad_norm | cut -d' ' -f1)" 1e-6 1e6 "grad_norm of $what"
                losses="$losses$(metric r grad_norm | cut -d' ' -f1) $(metric r loss | cut -d' ' -f2) $type $scale $level $beta
"
            done <<<"${REST[turn]}"
            turn=$((1 - turn))
        done
        turn=$((1 - turn)) # so that each level and each scale meets every setting
    done
done
# The switches are not without effect: gradients of the first step differ between types and between scales.
differs "$(echo "$losses" | grep 'grpo group token 0$' | head -n 1 | cut -d' ' -f1)" "$(echo "$losses" | grep 'dr_grpo group token 0$' | head -n 1 | cut -d' ' -f1)" "grpo and dr_grpo"
differs "$(echo "$losses" | grep ' dapo group token 0$' | head -n 1 | cut -d' ' -f1)" "$(echo "$losses" | grep ' dapo none token 0$' | head -n 1 | cut -d' ' -f1)" "scales"
# The other losses and switches: every name that each has, and none that is another's.
CLIPS="clip_ratio/low_mean clip_ratio/low_min clip_ratio/high_mean clip_ratio/high_max clip_ratio/region_mean"
OWN="$CLIPS clip_ratio/delta_mean cispo_clip_ratio vespo/phi_seq_mean policy_loss entropy_coef entropy_threshold off_policy_mask/dropped_ratio kl"
switched=
while IFS='|' read -r names rest; do
    # shellcheck disable=SC2086
    train r --reward 'exec:sh reward.sh' --steps 2 --num-iterations 2 $rest
    NAMES="loss grad_norm entropy importance_ratio/max $names"
    is "$(every_name)" "" "names not found, or without a finite value, with $rest"
    for name in $OWN; do
        case " $names " in *" $name "*) ;; *) lacks r/metrics.jsonl "\"$name\"" ;; esac
    done
    within "$(metric r grad_norm | cut -d' ' -f1)" 1e-9 1e6 "grad_norm with $rest"
    switched="$switched$(cksum <r/final/model.safetensors) $rest
"
done <<E
$CLIPS|--loss-type luspo --importance-sampling-level sequence
$CLIPS clip_ratio/delta_mean|--loss-type luspo --delta 1.5
$CLIPS|--importance-sampling-level sequence_token --loss-type grpo --epsilon 0.01
cispo_clip_ratio|--loss-type cispo --epsilon-high 5
cispo_clip_ratio kl|--loss-type cispo --epsilon-high 1 --beta 0.1
|--loss-type sapo
|--loss-type sapo --sapo-temperature-neg 3 --sapo-temperature-pos 2
vespo/phi_seq_mean|--loss-type vespo
vespo/phi_seq_mean|--loss-type vespo --vespo-k-pos 1 --vespo-lambda-pos 1 --vespo-k-neg 1 --vespo-lambda-neg 1
$CLIPS kl|--loss-type gmpo --beta 0.1
$CLIPS kl|--beta 0.1
$CLIPS kl|--beta 0.1 --no-use-bias-correction-kl
$CLIPS kl|--beta 0.1 --kl-estimator k1
$CLIPS kl|--beta 0.1 --kl-estimator k2
$CLIPS kl|--beta 20 --kl-in-reward --num-iterations 1
$CLIPS kl|--beta 20 --kl-in-reward --kl-estimator k1 --num-iterations 1
$CLIPS entropy_threshold|--top-entropy-quantile 0.5
$CLIPS policy_loss entropy_coef|--entropy-coef 0.1
$CLIPS policy_loss entropy_coef entropy_threshold|--use-adaptive-entropy --entropy-target 9 --entropy-coef-delta 0.2 --top-entropy-quantile 0.2
$CLIPS off_policy_mask/dropped_ratio|--off-policy-mask-threshold 0
$CLIPS|--advantage-estimator rloo
$CLIPS|--advantage-estimator rloo --scale-rewards group
$CLIPS|--advantage-estimator reinforce_plus_plus
$CLIPS|--advantage-estimator reinforce_plus_plus_baseline
$CLIPS|--multi-objective-aggregation normalize_then_sum --reward format --reward-weights 1,2
$CLIPS|--advantage-epsilon 1
E
is "$(cut -d' ' -f1,2 <<<"$switched" | sort | uniq -d)" "" "two switches with the same weights in the end"
# How a step is divided into micro-batches changes memory alone: the same metrics to many digits, with a filter that spans the step.
train r --reward 'exec:sh reward.sh' --steps 2 --num-iterations 2 --top-entropy-quantile 0.3 --entropy-coef 0.1 --loss-type sapo --dtype f32
train r2 --reward 'exec:sh reward.sh' --steps 2 --num-iterations 2 --top-entropy-quantile 0.3 --entropy-coef 0.1 --loss-type sapo --dtype f32 --micro-batch-tokens 1
for name in loss policy_loss entropy_threshold grad_norm; do
    is "$(metric r2 $name | tr ' ' '\n' | awk '{ printf "%.4g ", $1 }')" "$(metric r $name | tr ' ' '\n' | awk '{ printf "%.4g ", $1 }')" "$name of small micro-batches"
done
# Defaults that follow from another option are in config.yaml, as if they had been given.
train r --reward 'exec:sh reward.sh' --steps 1 --loss-type gmpo --advantage-estimator rloo
has r/config.yaml '^epsilon: 0.4$'
has r/config.yaml '^scale_rewards: none$'
train r --reward 'exec:sh reward.sh' --steps 1 --loss-type gmpo --epsilon 0.3 --advantage-estimator rloo --scale-rewards group
has r/config.yaml '^epsilon: 0.3$'
has r/config.yaml '^scale_rewards: group$'
# And such a run goes on from its config.yaml.
for rest in '--loss-type gmpo --beta 0.1' '--kl-in-reward --beta 0.1' '--advantage-estimator rloo' '--advantage-estimator reinforce_plus_plus'; do
    # shellcheck disable=SC2086
    train r --reward 'exec:sh reward.sh' --steps 1 $rest
    succeeds "$COHORT" grpo --out r --resume --steps 2
    is "$(wc -l <r/metrics.jsonl)" 2 "lines of a resumed run with $rest"
done
# What does not go together is refused with its reason.
rm -r r
refused() { fails 2 "$1" "${GRPO[@]}" --reward format --steps 1 --out r "${@:2}"; }
refused 'loss_type sapo has no such term' --loss-type sapo --delta 2
refused 'loss_type gmpo has a ratio of its own' --loss-type gmpo --importance-sampling-level sequence
refused 'loss_type gmpo never multiplies its KL' --loss-type gmpo --use-bias-correction-kl
refused 'beta is 0' --kl-in-reward
refused 'leave one of them out' --kl-in-reward --beta 1 --use-bias-correction-kl
refused 'leave scale_rewards out, or give batch' --advantage-estimator reinforce_plus_plus --scale-rewards group
refused 'only advantage_estimator grpo' --advantage-estimator rloo --scale-rewards group --multi-objective-aggregation normalize_then_sum
refused 'leave scale_rewards out' --multi-objective-aggregation normalize_then_sum --scale-rewards batch
refused 'does not form before it normalises' --multi-objective-aggregation normalize_then_sum --beta 1 --kl-in-reward
refused 'entropy_coef_min 2 is above entropy_coef_max 1' --use-adaptive-entropy --entropy-coef-min 2
# All truncated and masked: nothing is left to learn from.
train r --reward 'exec:sh reward.sh' --steps 1 --mask-truncated-completions
is "$(metric r grad_norm) $(metric r completions/clipped_ratio)" "0 1" "a step of truncated completions"
same r/final/model.safetensors m/model.safetensors

# --- the run folder ---
train r --reward 'exec:sh reward.sh' --steps 5 --save-steps 1 --save-total-limit 2 --eval-data d.jsonl --eval-limit 3 --eval-steps 2
is "$(ls r/checkpoints | tr '\n' ' ')" "step-4 step-5 " "the newest two checkpoints"
is "$(ls r | tr '\n' ' ')" "checkpoints config.yaml eval-step-0.jsonl eval-step-2.jsonl eval-step-4.jsonl eval-step-5.jsonl final metrics.jsonl reward.svg run.db " \
    "files of a run"
is "$(grep eval_reward r/metrics.jsonl | field step | tr '\n' ' ')" "0 2 4 5 " "steps of evaluations"
is "$(wc -l <r/eval-step-2.jsonl)" 3 "rows of an evaluation"
is "$(sed -n '$p' r/metrics.jsonl | field eval_reward)" \
    "$(sed 's/.*"reward.sh": \([0-9]\).*/\1/' r/eval-step-5.jsonl | awk '{ s += $1 } END { printf "%.9g", s / NR }')" "eval_reward from its rows"
is "$(ls r/final | tr '\n' ' ')" "SHA256SUMS config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json " "files of final/"
same r/final/model.safetensors r/checkpoints/step-5/model.safetensors
succeeds "$COHORT" generate --model r/final --prompt x --max-tokens 3
no_leftovers r
fails 1 'already holds a run' "${GRPO[@]}" --reward format --steps 1 --out r
# config.yaml of a run makes the same run again, flags win over it.
lacks r/config.yaml '^(out|resume|config):'
succeeds "$COHORT" grpo --config r/config.yaml --out again
same again/final r/final
same again/checkpoints r/checkpoints
same again/config.yaml r/config.yaml
is "$(untimed again/metrics.jsonl)" "$(untimed r/metrics.jsonl)" "metrics of the same run"
succeeds "$COHORT" grpo --config r/config.yaml --steps 1 --seed 6 --out third
has third/config.yaml '^seed: 6$'
is "$(tail -n 1 third/metrics.jsonl | field step)" 1 "steps of the flag"
differs "$(field rewards/reward.sh/mean <third/metrics.jsonl | tail -n 1)" "$(metric r rewards/reward.sh/mean | cut -d' ' -f1)" "another seed's rewards"
# 6 steps are 3, a new process, and 3; then its config.yaml is still that of a run from the beginning.
train whole --reward 'exec:sh reward.sh' --steps 6 --beta 0.1 --num-iterations 2
train parts --reward 'exec:sh reward.sh' --steps 4 --beta 0.1 --num-iterations 2
succeeds "$COHORT" grpo --out parts --resume --steps 6
same parts/final whole/final
same parts/checkpoints/step-6 whole/checkpoints/step-6
same parts/config.yaml whole/config.yaml
is "$(untimed parts/metrics.jsonl)" "$(untimed whole/metrics.jsonl)" "metrics of a run in parts"
# A checkpoint named, and a run that is complete already.
succeeds "$COHORT" grpo --out parts --resume parts/checkpoints/step-4 --steps 6
same parts/final whole/final
succeeds "$COHORT" grpo --out parts --resume --steps 6
same parts/final whole/final

# --- sft ---
cat >s.jsonl <<'S'
{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}
{"prompt": "hi", "completion": "yo"}
{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}
{"text": "some words"}
S
SFT=("$COHORT" sft --model m --data s.jsonl --threads 1 --batch-size 4)
succeeds "${SFT[@]}" --steps 40 --learning-rate 1e-2 --eval-data s.jsonl --eval-steps 20 --out s
is "$(wc -l <s/metrics.jsonl)" 41 "lines of sft"
is "$(grep eval_loss s/metrics.jsonl | field step | tr '\n' ' ')" "0 20 40 " "evaluations of sft"
within "$(sed -n 2p s/metrics.jsonl | field loss)" 5.3 5.9 "first loss (log 264 = 5.576)"
is "$(sed -n 2p s/metrics.jsonl | field loss | cut -c1-6)" "$(sed -n 1p s/metrics.jsonl | field eval_loss | cut -c1-6)" "loss of the same rows before training"
within "$(tail -n 1 s/metrics.jsonl | field loss)" 0 0.5 "last loss"
succeeds "$COHORT" generate --model s/final --prompt hi --temperature 0
is "$(tail -n 1 out)" "yo" "what was learnt through the template" # behind the empty thought that the template puts
succeeds "$COHORT" generate --model s/final --prompt hi --temperature 0 --chat false --format jsonl
has out '"completion": "yo", .*"finish_reason": "eos"'
succeeds "${SFT[@]}" --steps 20 --learning-rate 1e-2 --out parts2
succeeds "$COHORT" sft --out parts2 --resume --steps 40
same parts2/final s/final
succeeds "$COHORT" sft --config s/config.yaml --out s2
same s2/final s/final
same s2/config.yaml s/config.yaml
# A cut row is said.
succeeds "${SFT[@]}" --steps 1 --max-length 12 --out s3
has err '[0-9] rows cut to --max-length 12'
succeeds "${SFT[@]}" --epochs 3 --batch-size 2 --out s4
is "$(wc -l <s4/metrics.jsonl)" 6 "3 epochs of 4 rows, 2 a step"

# --- the memory plan: printed, or the run refused, before weights are read; what info --memory says is what a run takes ---
mkdir w # a model of 100 M parameters without its weights; its logits are more than one chunk
cp m/tokenizer* w
sed -E 's/("hidden_size": )[0-9]+/\11024/; s/("intermediate_size": )[0-9]+/\13072/; s/("num_hidden_layers": )[0-9]+/\18/; s/("vocab_size": )[0-9]+/\120000/' m/config.json >w/config.json
# The lengths of d.jsonl: prompts of 2 tokens.
SIZES=(--model w --num-generations 4 --prompts-per-step 2 --max-completion-length 500)
# plan_of FILE: its plan
plan_of() { grep '^memory plan, ' "$1"; }
# total RECOMPUTE: as info said
total() { sed -n "s/^  total, recompute $1 *\([0-9.]*\) GB.*/\1/p" out; }
# planned PATTERN OPTIONS...: the plan of info, its totals by recomputation, the plan of grpo, which then misses the weights
planned()
{
    local pattern=$1 plan
    shift
    succeeds "$COHORT" info --memory "${SIZES[@]}" --max-prompt-length 2 "$@"
    plan=$(plan_of out)
    none=$(total none) logits=$(total logits) layer=$(total layer)
    fails 1 'w.*model.safetensors' "$COHORT" grpo --data d.jsonl --reward format "${SIZES[@]}" "$@" --out planned
    has err "^memory plan, .*$pattern"
    is "$(plan_of err)" "$plan" "plan of grpo and of info, $*"
    absent planned
}
# plus NUMBER THOUSANDTHS
plus() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a + b / 1000 }'; }
planned 'micro-batch of 2048 tokens, recompute none; rollout .* KV pages, 8 at once\); in all .* 9\.00 GB are there' --memory-limit 9
within "$logits" "$(plus "$layer" 100)" 9 "the total without recomputation of layers"
within "$none" "$(plus "$logits" 1)" 9 "the total without any recomputation"
at=$none less=$logits least=$layer
planned 'recompute none' --memory-limit "$(plus "$at" 1)"
planned 'recompute logits' --memory-limit "$(plus "$at" -1)"
planned 'recompute logits' --memory-limit "$(plus "$less" 1)"
planned 'recompute layer' --memory-limit "$(plus "$less" -1)"
planned 'recompute layer' --memory-limit "$(plus "$least" 1)"
planned 'recompute layer' --memory-limit 9 --recompute layer
planned 'frozen reference 0\.[1-9]' --memory-limit 9 --beta 0.1
within "$none" "$(plus "$at" 100)" 9 "the total with a reference"
for options in "--memory-limit $(plus "$least" -1)" "--memory-limit $less --beta 0.1 --recompute logits"; do
    # shellcheck disable=SC2086 # options are words
    fails 1 'training needs [0-9.]+ GB beside the weights .*--recompute layer .* fits' \
        "$COHORT" grpo --data d.jsonl --reward format "${SIZES[@]}" $options --out planned
    lacks err 'safetensors|^memory plan'
done
fails 1 'w: weights take [0-9.]+ GB, gradient and optimizer [0-9.]+ GB, 0\.50 GB are there' \
    "$COHORT" grpo --data d.jsonl --reward format "${SIZES[@]}" --memory-limit 0.5 --out planned
fails 1 'w.*model.safetensors' "${SFT[@]}" --model w --steps 1 --out planned
has err '^memory plan, .*weights 0\.[1-9].*training .* micro-batch of [0-9]+ tokens, recompute none\)'
absent planned
done_testing

# Of TRL's test list for its GRPO trainer (docs/TRL_TESTS.md) what no other test here has: notes about switches that seldom mean what was
# meant, an EOS exactly at the limit, weights of rewards in the metric, columns and rows without a score, data in both forms.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4; do echo "{\"prompt\": \"q$i\", \"answer\": \"$i\", \"bonus\": $i}"; done >d.jsonl
for i in 1 2 3 4; do echo "{\"prompt\": [{\"role\": \"user\", \"content\": \"q$i\"}], \"answer\": \"$i\", \"bonus\": $i}"; done >chat.jsonl
printf 'n=0\nwhile read -r row; do n=$((n + 1)); echo $((n %% 2)); done\n' >alternate.sh
reward='exec:sh alternate.sh'
run() # NAME FLAGS...: one step with $reward, into NAME
{
    local out=$1
    shift
    rm -rf "$out"
    succeeds "$COHORT" grpo --model m --data d.jsonl --threads 1 --steps 1 --num-generations 2 --prompts-per-step 2 --max-completion-length 4 \
        --learning-rate 1e-3 --reward "$reward" --out "$out" "$@"
}
metric() { tail -n 1 "$1/metrics.jsonl" | field "$2"; }

# --- test_warning_raised_sequence_level_with_token_summed_loss, and the like ---
for loss in bnpo dr_grpo dapo cispo; do
    run r --loss-type $loss --importance-sampling-level sequence --epsilon-high 0.3
    has err "note: with importance_sampling_level sequence, loss_type $loss weighs sequences by their length"
done
run r --loss-type grpo --importance-sampling-level sequence
lacks err 'weighs sequences by their length'
run r --loss-type dapo
lacks err 'weighs sequences by their length'
run r --loss-type luspo
has err 'note: luspo is meant for importance_sampling_level sequence'
run r --loss-type luspo --importance-sampling-level sequence
lacks err 'luspo is meant for'
run r --loss-type vespo --importance-sampling-level sequence
has err 'note: vespo has weights of whole sequences by itself'
run r --loss-type cispo
has err 'note: cispo caps the ratio at epsilon_high, which is unset and so 0.2'
run r --loss-type cispo --epsilon-high 5
lacks err 'cispo caps'
run r --off-policy-mask-threshold 0.5
has err 'note: off_policy_mask_threshold drops nothing with num_iterations 1'
run r --off-policy-mask-threshold 0.5 --num-iterations 2 --steps 2
lacks err 'off_policy_mask_threshold drops nothing'

# --- test_training_with_mask_truncated_completions: an EOS exactly at the limit is no truncation ---
run r --max-completion-length 1 --logit-bias 258:1000 --mask-truncated-completions
is "$(metric r completions/clipped_ratio) $(metric r completions/max_length)" "0 1" "completions of an EOS alone"
differs "$(metric r grad_norm)" 0 "the gradient of completions that end at the limit"
run r --max-completion-length 1 --logit-bias 65:1000 --mask-truncated-completions
is "$(metric r completions/clipped_ratio) $(metric r grad_norm)" "1 0" "completions that the limit cut"
same r/final/model.safetensors m/model.safetensors

# --- test_reward_metric_reflects_reward_weights ---
for value in 1 0 null; do printf 'while read -r row; do echo %s; done\n' $value >"$value.sh"; done
reward='exec:sh 1.sh,exec:sh 0.sh'
run r --reward-weights 0.7,0.3
is "$(printf %.6f "$(metric r reward)") $(metric r rewards/1.sh/mean) $(metric r rewards/0.sh/mean)" "0.700000 1 0" "a weighted reward and its functions'"

# --- test_training_reward_func_with_None_output, _mixed: a function that never scores takes nothing away ---
reward='exec:sh alternate.sh'
run alone
reward='exec:sh alternate.sh,exec:sh null.sh'
run r
is "$(metric r reward) $(metric r rewards/null.sh/mean) $(metric r grad_norm)" "$(metric alone reward) null $(metric alone grad_norm)" "beside a reward that is null"
same r/final/model.safetensors alone/final/model.safetensors

# --- test_training_reward_func_additional_column ---
printf "while read -r row; do case \$row in *'\"bonus\":'[34]*) echo 1;; *) echo 0;; esac; done\n" >bonus.sh
reward='exec:sh bonus.sh'
run r --prompts-per-step 4
is "$(metric r reward)" 0.5 "a reward of a column"

# --- test_training_dataset_format: messages are asked through the template ---
reward='exec:sh alternate.sh'
run r --data chat.jsonl --log-completions
has r/completions.jsonl '"prompt": "<\|im_start\|>user\\nq[1-4]<\|im_end\|>\\n<\|im_start\|>assistant'
run r --log-completions
has r/completions.jsonl '"prompt": "q[1-4]"'

# --- test_no_reward_source_raises, test_dataset_required_without_environment ---
fails 2 'no reward given' "$COHORT" grpo --model m --data d.jsonl --out x
fails 2 'data' "$COHORT" grpo --model m --reward accuracy --out x
absent x
done_testing

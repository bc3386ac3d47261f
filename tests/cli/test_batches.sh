# Generation batches and optimizer steps as TRL counts them (docs/GRPO.md, A step): which rows a batch takes, how many steps
# are made of it, and what is refused.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in $(seq 0 11); do echo "{\"prompt\": \"question $i\"}"; done >d.jsonl
GRPO=("$COHORT" grpo --model m --data d.jsonl --reward regex --reward-pattern '[a-m]' --max-completion-length 6 --threads 1
    --device cpu --learning-rate 1e-3 --save-steps 0)
# train NAME ARGUMENTS...
train() { local name=$1; shift; rm -rf "$name"; succeeds "${GRPO[@]}" --out "$name" "$@"; }
# value RUN STEP NAME: a metric of a step
value() { sed -n "s@^{\"step\": $2, .*\"$3\": \\([^,}]*\\)[,}].*@\\1@p" "$1/metrics.jsonl"; }
numbers() { sed -E 's/, "(time|throughput)\/[^"]*": [^,}]*//g; s/, "step_time": [^,}]*//g' "$1/metrics.jsonl"; }

# --- TRL's test_prepare_input_called_with_correct_data: 48 slices, of which 3 are a step here ---
train trl --no-shuffle-dataset --log-completions --per-device-train-batch-size 6 --gradient-accumulation-steps 3 \
    --steps-per-generation 4 --num-iterations 2 --num-generations 4 --epochs 3
is "$(wc -l <trl/metrics.jsonl)" 16 'optimizer steps of 48 slices'
has trl/config.yaml '^prompts_per_step: 6$'
# Batch k of 24 completions has rows 0 to 5, then 6 to 11, with the first step that takes from it: 1, 3, 6, 9, 11, 14.
expected=
for batch in '1 0' '3 6' '6 0' '9 6' '11 0' '14 6'; do
    set -- $batch
    for row in 0 1 2 3 4 5; do for k in 0 1 2 3; do expected="$expected$1:$(($2 + row)):$k "; done; done
done
is "$(sed -E 's/^\{"step": ([0-9]+), "index": ([0-9]+), "completion_index": ([0-9]+),.*/\1:\2:\3/' trl/completions.jsonl | tr '\n' ' ')" "$expected" \
    'rows of the generation batches'
# Before any update since its draw a batch has the ratio 1; then it moves. Step 1 is slices 0 to 2 of batch 0, step 2 its
# slice 3 and, again, 0 and 1, under weights that are one update further.
is "$(value trl 1 importance_ratio/max)" 1 'ratio of the first step'
differs "$(value trl 2 importance_ratio/max)" 1 'ratio of the second step'
# A step that takes nothing of a new batch compares no log-probs; one that does finds them equal.
is "$(value trl 2 sampling/sampling_logp_difference/max)" '' 'nothing is compared in step 2'
for step in 1 3 6 9; do
    for what in min mean max; do is "$(value trl $step sampling/importance_sampling_ratio/$what)" 1 "$what ratio of draw and training in step $step"; done
done
for step in 1 3 6 9; do is "$(value trl $step sampling/sampling_logp_difference/max)" 0 "difference in step $step"; done

# --- a step that takes all slices of a batch is the step without slices, to the bit ---
train whole --steps 4 --prompts-per-step 3 --num-generations 4 --beta 0.04
train slices --steps 4 --prompts-per-step 3 --num-generations 4 --beta 0.04 --gradient-accumulation-steps 6
train counted --steps 4 --per-device-train-batch-size 2 --num-generations 4 --beta 0.04 --gradient-accumulation-steps 6
train generated --steps 4 --per-device-train-batch-size 2 --num-generations 4 --beta 0.04 --gradient-accumulation-steps 6 \
    --generation-batch-size 12
for run in slices counted generated; do
    same whole/final/model.safetensors $run/final/model.safetensors
    is "$(numbers $run)" "$(numbers whole)" "metrics of $run"
done
# --- several steps of a batch: each is of its own completions, the first of weights that drew them ---
train several --steps 4 --prompts-per-step 3 --num-generations 4 --steps-per-generation 4 --log-completions
is "$(wc -l <several/completions.jsonl)" 12 'four steps of one batch'
is "$(value several 1 importance_ratio/max)" 1 'ratio of the first of four steps'
differs "$(value several 4 importance_ratio/max)" 1 'ratio of the last of four steps'
for step in 2 3 4; do is "$(value several $step reward)" "$(value several 1 reward)" "reward of step $step, of the same batch"; done
# --- several batches to a step: means of their metrics, and their tokens ---
train batches --steps 1 --prompts-per-step 2 --num-generations 4 --gradient-accumulation-steps 3 --steps-per-generation 1 --log-completions
is "$(wc -l <batches/completions.jsonl)" 24 'three batches in a step'
train parts --steps 3 --prompts-per-step 2 --num-generations 4 --learning-rate 0
is "$(value batches 1 num_tokens)" "$(value parts 3 num_tokens)" 'tokens of three batches'

# --- held-out evaluation with several completions of each prompt ---
head -n 2 d.jsonl >e.jsonl
train evaluated --steps 1 --prompts-per-step 1 --num-generations 2 --eval-data e.jsonl --num-generations-eval 3
is "$(wc -l <evaluated/eval-step-1.jsonl)" 6 'completions of the evaluation'

# --- what does not fit is refused with what to do ---
refused() { local pattern=$1; shift; fails 2 "$pattern" "${GRPO[@]}" --out r --steps 1 "$@"; [ ! -e r ] || wrong "$*: a run folder"; }
refused 'give one of them' --generation-batch-size 16 --steps-per-generation 2 --per-device-train-batch-size 8
refused 'give that too' --generation-batch-size 16
refused 'generation_batch_size 17 is not a multiple of per_device_train_batch_size 8' --generation-batch-size 17 --per-device-train-batch-size 8
refused 'not a multiple of num_generations 8' --per-device-train-batch-size 3 --steps-per-generation 3
refused 'leave prompts_per_step out' --per-device-train-batch-size 8 --prompts-per-step 3
refused 'not a multiple of 3 slices' --prompts-per-step 1 --num-generations 8 --steps-per-generation 3

refused 'advantage_k 9 is above num_generations 8' --advantage-estimator pass_at_k --advantage-k 9
refused 'leave scale_rewards out' --advantage-estimator pass_at_k --scale-rewards batch
refused 'beta is 0' --sync-ref-model
# --- a reference that was mixed is of the checkpoint ---
MIXED=("${GRPO[@]}" --prompts-per-step 2 --num-generations 2 --save-steps 1 --beta 0.01 --sync-ref-model --ref-model-sync-steps 2)
succeeds "${MIXED[@]}" --steps 3 --out mixed
has mixed/checkpoints/step-2/SHA256SUMS ' trainer/reference/model.safetensors'
for what in 'rm -r 3/trainer/reference' 'mkdir -p 1/trainer; cp -r 3/trainer/reference 1/trainer/reference'; do
    rm -rf r
    cp -r mixed r
    rm r/checkpoints/*/SHA256SUMS
    (cd r/checkpoints && eval "$(sed -E 's@([0-9])/@step-\1/@g' <<<"$what")")
    at=3
    [ "$what" = "${what#mkdir}" ] || at=1
    fails 1 "step-$at: trainer/reference is (missing|there)" "${MIXED[@]}" --steps 4 --out r --resume r/checkpoints/step-$at
done
rm -rf r

# --- the batch of a checkpoint that somebody else wrote is looked at before it is used ---
SLICED=("${GRPO[@]}" --prompts-per-step 2 --num-generations 2 --steps-per-generation 4 --save-steps 1 --beta 0.01)
succeeds "${SLICED[@]}" --steps 1 --out cut
AT=cut/checkpoints/step-1/trainer
has $AT/batch.json '"drawn_at": 0,'
lacks $AT/batch.json 'time/'
damage()
{
    local what=$1
    shift
    rm -rf r
    cp -r cut r
    rm r/checkpoints/step-1/SHA256SUMS
    (cd r/checkpoints/step-1/trainer && eval "$what")
    fails 1 'batch\.(json|safetensors)' "${SLICED[@]}" --steps 2 --out r --resume
    lacks err 'runtime error'
    rm -rf r
}
damage 'rm batch.json'
damage 'rm batch.safetensors'
damage 'echo "{}" >batch.json'
damage 'echo "{\"format\": 1, \"index\": 1, \"drawn_at\": 0, \"tokens\": 1, \"metrics\": {}}" >batch.json'
damage 'echo "{\"format\": 1, \"index\": 0, \"drawn_at\": 7, \"tokens\": 1, \"metrics\": {}}" >batch.json'
damage 'echo "{\"format\": 1, \"index\": 0, \"drawn_at\": 0, \"tokens\": -1, \"metrics\": {}}" >batch.json'
damage 'echo "{\"format\": 1, \"index\": 0, \"drawn_at\": 0, \"tokens\": 1, \"metrics\": []}" >batch.json'
damage 'head -c 100 batch.safetensors >x; mv x batch.safetensors'
damage 'sed -i "s/\"advantage\"/\"advantagf\"/" batch.safetensors'
damage 'sed -i "s/\"reference\"/\"referencf\"/" batch.safetensors'
# Every byte of the data that is another one: refused, or a run that goes on, never a crash.
size=$(stat -c %s $AT/batch.safetensors)
for at in $(seq 8 97 "$size"); do
    rm -rf r
    cp -r cut r
    rm r/checkpoints/step-1/SHA256SUMS
    printf '\377' | dd of=r/checkpoints/step-1/trainer/batch.safetensors bs=1 seek="$at" conv=notrunc status=none
    "${SLICED[@]}" --steps 2 --out r --resume >out 2>err </dev/null
    code=$?
    [ $code -le 1 ] || wrong "byte $at: exit code $code -- $(tail -c 300 err)"
done
done_testing

# A run is what it reads (invariant I11): a resumed run whose data, model, rewards, tokenizer, template or schedule are not those of the
# checkpoint is refused by name, goes on where that is accepted by name, and notices nothing where the bytes are the same.
. "$(dirname "$0")/../cli/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4 5; do echo "{\"prompt\": \"q$i\", \"completion\": \"a$i\"}"; done >d.jsonl
mkdir 'my rewards'
cat >'my rewards/r.sh' <<'R'
answer=
while IFS= read -r line; do
    answer="$answer$((${#line} % 7))
"
    case $line in *'"last_of_batch":true'*)
        printf '%s' "$answer"
        answer=
        ;;
    esac
done
R
echo weights >table.txt
GRPO=("$COHORT" grpo --data d.jsonl --num-generations 2 --prompts-per-step 2 --max-completion-length 6 --learning-rate 1e-3
    --seed 5 --threads 1 --device cpu --model m)
SHELL_REWARD='exec:sh "my rewards/r.sh" --table=table.txt'
train() { "${GRPO[@]}" --out "$@"; }
sha() { sha256sum <"$1" | cut -d' ' -f1; }
restore() { rm -rf r; cp -r whole r; }

# --- what a checkpoint says ---
succeeds train whole --reward "$SHELL_REWARD" --reward format --steps 2 --eval-data d.jsonl --eval-limit 2
I=whole/checkpoints/step-2/trainer/inputs.json
for file in d.jsonl m/config.json m/model.safetensors m/tokenizer.json 'my rewards/r.sh' table.txt; do
    has $I "\"path\": \"$file\", \"sha256\": \"$(sha "$file")\""
done
has $I '"eval_data": \['
has $I '"template": \['
lacks $I 'schedule|accepted'
is "$(grep -c '"path"' $I)" 8 "inputs: data twice, config, weights, two of the reward, tokenizer, template"

# --- nothing changed: a resumed run is the run; bytes count, not names ---
restore
succeeds train r --resume --steps 4 --reward "$SHELL_REWARD" --reward format --eval-data d.jsonl --eval-limit 2
lacks err 'note: .*hashes'
succeeds train straight --reward "$SHELL_REWARD" --reward format --steps 4 --eval-data d.jsonl --eval-limit 2
same r/final straight/final
same r/checkpoints/step-4 straight/checkpoints/step-4
restore
mv d.jsonl moved.jsonl
succeeds train r --resume --steps 4 --data moved.jsonl --eval-data moved.jsonl
same r/final straight/final
mv moved.jsonl d.jsonl

# --- each kind changed: refused by name, with the run as it was; accepted by name; the next checkpoint is of the new input ---
# changed WORD PATTERN OPTIONS...
changed()
{
    local word=$1 pattern=$2
    shift 2
    restore
    fails 1 "r/checkpoints/step-2: .*$pattern.*--accept-changed $word\$" train r --resume --steps 4 "$@"
    same r whole
    fails 1 "$pattern" train r --resume --steps 4 "$@" --accept-changed "$([ "$word" = data ] && echo reward || echo data)"
    same r whole
    succeeds train r --resume --steps 3 "$@" --accept-changed "$word"
    has err "accepted a change of $word: .*"
    lacks r/config.yaml accept_changed
    has r/checkpoints/step-3/trainer/inputs.json "\"after_step\": 2, \"kind\": \"$word\""
    succeeds train r --resume --steps 4 "$@"
    has r/checkpoints/step-4/trainer/inputs.json "\"after_step\": 2, \"kind\": \"$word\""
}
cp d.jsonl kept.jsonl
echo '{"prompt": "another"}' >>d.jsonl
changed data 'data: d.jsonl: expected SHA-256 [0-9a-f]{12}\.\.\., found [0-9a-f]{12}' --eval-data kept.jsonl
changed eval_data 'eval_data: d.jsonl: expected SHA-256' --data kept.jsonl
mv kept.jsonl d.jsonl
cp 'my rewards/r.sh' kept.sh
echo '# stricter' >>'my rewards/r.sh'
changed reward 'reward: my rewards/r.sh: expected SHA-256'
mv kept.sh 'my rewards/r.sh'
echo other >table.txt
changed reward 'reward: table.txt: expected SHA-256'
echo weights >table.txt
changed reward "reward: r/checkpoints/step-2 was made with 'reward: .*, this run says" --reward format
changed reward "reward: .* was made without 'reward_weights', this run says 'reward_weights:" --reward-weights 1,0.5
changed schedule "schedule: .* was made with 'learning_rate: 0.001', this run says 'learning_rate: 0.01'" --learning-rate 1e-2
cp -r whole intact
# The tokenizer and the template are read from the checkpoint.
sed -i 's/^{/{ /' whole/checkpoints/step-2/tokenizer.json
rm whole/checkpoints/step-2/SHA256SUMS # else it is a damaged checkpoint
changed tokenizer 'tokenizer: .*step-2/tokenizer.json: expected what m/tokenizer.json held'
rm -r whole; cp -r intact whole
printf '{{ messages[0].content }}' >whole/checkpoints/step-2/chat_template.jinja
changed template 'template: chat template: expected SHA-256'
rm -r whole; cp -r intact whole
# Several at once: all are named.
cp d.jsonl kept.jsonl
echo '{"prompt": "another"}' >>d.jsonl
restore
fails 1 'data: .*; eval_data: .*; reward: .*--accept-changed data,eval_data,reward$' train r --resume --steps 3 --reward format
succeeds train r --resume --steps 3 --reward format --accept-changed data,eval_data,reward
mv kept.jsonl d.jsonl
fails 2 "accept-changed.*(data|reward|schedule)" train r --resume --accept-changed everything

# --- standard input is data too ---
succeeds sh -c 'cat d.jsonl | "$@"' x "${GRPO[@]}" --data - --reward format --steps 1 --out piped
has piped/checkpoints/step-1/trainer/inputs.json "\"path\": \"-\", \"sha256\": \"$(sha d.jsonl)\""
fails 1 'data: -: expected SHA-256' sh -c 'head -n 3 d.jsonl | "$@"' x "${GRPO[@]}" --data - --reward format --steps 2 --out piped --resume
succeeds sh -c 'cat d.jsonl | "$@"' x "${GRPO[@]}" --data - --reward format --steps 2 --out piped --resume

# --- the reference is the model that the run began with ---
succeeds train kl --reward "$SHELL_REWARD" --beta 0.1 --steps 2
cp -r m other
printf 'x' | dd of=other/model.safetensors bs=1 seek=200000 conv=notrunc 2>/dev/null
cp -r m aside
fails 1 'model: other/model.safetensors: expected what m/model.safetensors held.*--accept-changed model$' train kl --model other --steps 3 --resume
cp other/model.safetensors m/model.safetensors
fails 1 'model: m/model.safetensors: expected SHA-256.*--accept-changed model$' train kl --steps 3 --resume
succeeds train kl --model aside --steps 3 --resume
succeeds train kl --steps 4 --resume --accept-changed model
has err 'accepted a change of model: m/model.safetensors'
rm -r m; mv aside m
# A checkpoint of a version that did not correct the KL in the loss: the run goes on as it was, by its word.
succeeds train older --reward "$SHELL_REWARD" --beta 0.1 --no-use-bias-correction-kl --steps 2
rm older/checkpoints/*/SHA256SUMS
sed -i '/use_bias_correction_kl/d' older/config.yaml older/checkpoints/*/trainer/options.yaml
fails 1 "was made without 'use_bias_correction_kl'.*'use_bias_correction_kl: true'.*must keep its options" train older --steps 3 --resume
succeeds train older --steps 3 --resume --no-use-bias-correction-kl

# --- the schedule: the number of steps is part of one that decays, and not of a constant one ---
for type in linear cosine; do
    succeeds train $type --reward "$SHELL_REWARD" --lr-scheduler-type $type --steps 4 --save-steps 2
    has $type/checkpoints/step-2/trainer/inputs.json "\"schedule\": \{\"lr_scheduler_type\": \"$type\", \"steps\": 4\}"
    fails 1 "schedule: the $type schedule was planned for 4 steps, this run has 8.*--accept-changed schedule\$" train $type --steps 8 --resume
    rm -r $type/checkpoints/step-4
    succeeds train $type --steps 4 --resume
    succeeds train $type --steps 8 --resume --accept-changed schedule
    has err "accepted a change of schedule: the $type schedule"
done

# Its parameters are part of it, and a warm-up that is a share of the steps makes any schedule one of their number.
WSD=(--reward "$SHELL_REWARD" --lr-scheduler-type warmup_stable_decay --lr-scheduler-kwargs "num_decay_steps=2,min_lr_ratio=0.5" --save-steps 2)
succeeds train wsd "${WSD[@]}" --steps 4
is "$(field learning_rate <wsd/metrics.jsonl | tr '\n' ' ')" "0.001 0.001 0.001 0.00075 " "rates of warmup_stable_decay"
cp -r wsd/final straight-wsd
rm -r wsd/checkpoints/step-4
fails 1 "schedule: the warmup_stable_decay schedule was planned for 4 steps, this run has 8" train wsd --steps 8 --resume
fails 1 "schedule: .* was made with 'lr_scheduler_kwargs: .*min_lr_ratio=0.5.*--accept-changed schedule\$" \
    train wsd --steps 4 --resume --lr-scheduler-kwargs num_decay_steps=2
succeeds train wsd --steps 4 --resume
same wsd/final straight-wsd
succeeds train share --reward "$SHELL_REWARD" --warmup-steps 0.5 --steps 4 --save-steps 2
is "$(field learning_rate <share/metrics.jsonl | tr '\n' ' ')" "0 0.0005 0.001 0.001 " "rates of a warm-up over half the steps"
fails 1 "schedule: the constant schedule was planned for 4 steps, this run has 8" train share --steps 8 --resume
fails 2 "needs the length of the decay" train none --reward "$SHELL_REWARD" --lr-scheduler-type warmup_stable_decay --steps 4
fails 2 "'greedy', which follows a metric of evaluations" train none --reward "$SHELL_REWARD" --lr-scheduler-type greedy --steps 4

# --- sft has the same; a checkpoint of before has no hashes, which is said ---
SFT=("$COHORT" sft --model m --data d.jsonl --batch-size 2 --threads 1 --device cpu)
succeeds "${SFT[@]}" --steps 2 --out s
echo '{"prompt": "another", "completion": "one"}' >more.jsonl
fails 1 'data: more.jsonl: expected what d.jsonl held.*--accept-changed data$' "${SFT[@]}" --data more.jsonl --steps 4 --out s --resume
cp -r s old
rm old/checkpoints/step-2/trainer/inputs.json old/checkpoints/step-2/SHA256SUMS
fails 1 "data: old/checkpoints/step-2 was made with 'data: \"d.jsonl\"', this run says 'data: \"more.jsonl\"'" \
    "${SFT[@]}" --data more.jsonl --steps 4 --out old --resume
succeeds "${SFT[@]}" --steps 4 --out old --resume
has err 'note: .*step-2 was written by a version that kept no hashes'
succeeds "${SFT[@]}" --steps 4 --out s --resume
same old/final s/final
same old/checkpoints/step-4/trainer/optimizer.safetensors s/checkpoints/step-4/trainer/optimizer.safetensors
has old/checkpoints/step-4/trainer/inputs.json "$(sha d.jsonl)"
# An inputs.json that nobody wrote.
for content in '' '[]' '{"format": 2}' '{"format": 1, "data": 5}' '{"format": 1, "data": [{"path": "d.jsonl", "sha256": "00"}]}' \
    '{"format": 1, "schedule": {"lr_scheduler_type": "the name of a schedule that is much too long", "steps": 1}}' '{"format": 1, "schedule": []}' \
    '{"format": 1, "accepted": [{"after_step": 1, "kind": "all", "what": "x"}]}' '{"format": 1, "data": [null]}'; do
    rm -rf odd; cp -r s odd
    printf '%s' "$content" >odd/checkpoints/step-4/trainer/inputs.json
    fails 1 'odd/checkpoints/step-4/trainer/inputs.json:' "${SFT[@]}" --steps 6 --out odd --resume
done

# --- --resume where there is no checkpoint starts the run: one job script for both ---
for name in absent empty; do
    rm -rf job; [ $name = absent ] || mkdir job
    succeeds train job --reward "$SHELL_REWARD" --steps 4 --resume latest
    has err 'no checkpoint in job yet: the run starts from its beginning$'
    succeeds train plain --reward "$SHELL_REWARD" --steps 4
    same job/final plain/final
    rm -r plain
done
# Over an earlier start, killed at any time before its first checkpoint.
succeeds train begun --reward "$SHELL_REWARD" --steps 2 --eval-data d.jsonl --log-completions
rm -r begun/checkpoints/step-2 begun/final
cp begun/metrics.jsonl begun/metrics.jsonl.tmp-12345
succeeds train begun --reward "$SHELL_REWARD" --steps 4 --resume
has err 'starts from its beginning, over what an earlier start left there'
same begun/final job/final
is "$(field step <begun/metrics.jsonl | tr '\n' ' ')" "0 1 2 3 4 " "steps of a run that began twice"
is "$(wc -l <begun/completions.jsonl)" 16 "completions of a run that began twice"
# Not over what is somebody's own.
refused() { fails 1 "no checkpoint to resume from, and $1 in $2 is nothing" train "$2" --reward "$SHELL_REWARD" --steps 1 --resume; }
mkdir notes; echo mine >notes/diary.txt
refused diary.txt notes
mkdir logs; echo '{"step": 1}' >logs/metrics.jsonl
refused metrics.jsonl logs
is "$(cat logs/metrics.jsonl)" '{"step": 1}' "metrics of somebody else"
mkdir -p half/checkpoints/step-2x; touch half/config.yaml
refused step-2x half
cp -r job ended; rm -r ended/checkpoints/*
refused final ended
done_testing

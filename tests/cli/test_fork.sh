# cohort fork, and what else belongs to "the same run": another run from a checkpoint with other options, a run that ended before its first
# step, small files of the model's folder.
. "$(dirname "$0")/shell.sh"
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 3 --out model
echo 'Do what you like.' >model/LICENSE.txt
echo 'By somebody.' >model/NOTICE
for i in 1 2 3 4; do printf '{"prompt": "question %d", "answer": "%d"}\n' $i $i; done >rows.jsonl
train() { # train OUT MORE...
    local out=$1
    shift
    "$COHORT" grpo --model model --data rows.jsonl --reward regex --reward-pattern '[a-m]' --prompts-per-step 2 --num-generations 2 \
        --max-completion-length 4 --learning-rate 1e-3 --save-steps 2 --threads 1 --device cpu --out "$out" "$@"
}
succeeds train runs/a --steps 6
for folder in runs/a/checkpoints/step-2 runs/a/final; do
    cmp -s model/LICENSE.txt $folder/LICENSE.txt && cmp -s model/NOTICE $folder/NOTICE || wrong "$folder lacks the model's licence"
done

# --- a fork without changes is the same run from there on ---
succeeds "$COHORT" fork a@2 --out runs/b
has err 'cohort grpo --out runs/b --resume'
absent runs/b/metrics.jsonl
succeeds "$COHORT" grpo --out runs/b --resume
cmp -s runs/a/final/model.safetensors runs/b/final/model.safetensors || wrong 'the fork is another run'
cmp -s runs/a/checkpoints/step-6/trainer/optimizer.safetensors runs/b/checkpoints/step-6/trainer/optimizer.safetensors || wrong 'the optimizer of the fork'
is "$(untimed runs/b/metrics.jsonl)" "$(untimed runs/a/metrics.jsonl | tail -n 4)" 'steps of the fork'
succeeds "$COHORT" runs show b
has out '^forked from +runs/a$'
has out '^at step +2$'
has out 'step 2 +fork +forked from runs/a at step 2'
is "$("$COHORT" runs sql b 'SELECT min(step) FROM completion' | tail -n 1)" 3 'completions of the fork'
absent runs/b/checkpoints/step-4/trainer/origin.json

# --- with other options, which a resumed run refuses ---
succeeds "$COHORT" fork runs/a@4 --out runs/c
fails 1 'must keep its options' "$COHORT" grpo --out runs/a --resume runs/a/checkpoints/step-4 --beta 0.1
succeeds "$COHORT" grpo --out runs/c --resume --learning-rate 5e-4 --epsilon 0.3 --seed 5 --steps 8
has err 'the fork differs: .*epsilon'
has err 'accepted a change of schedule'
is "$(tail -n 1 runs/c/metrics.jsonl | grep -c '"step": 8,.*"learning_rate": 0.0005')" 1 'the options of the fork'
# From its own checkpoints on it is a run like any other.
fails 1 'must keep its options' "$COHORT" grpo --out runs/c --resume --epsilon 0.2
# The newest checkpoint; a fork of a fork.
succeeds "$COHORT" fork c --out runs/d
[ -d runs/d/checkpoints/step-8 ] || wrong 'the newest checkpoint'
is "$("$COHORT" runs sql d 'SELECT parent, parent_step FROM run' | tail -n 1)" "$(printf 'runs/c\t8')" 'origin of a fork of a fork'

# --- what is wrong ---
fails 2 'has no checkpoint of step 3; it has those of 2, 4, 6' "$COHORT" fork a@3 --out runs/x
fails 2 'expected RUN@STEP' "$COHORT" fork a@last --out runs/x
fails 1 'there is no run of that name' "$COHORT" fork nothing --out runs/x
fails 1 'already exists' "$COHORT" fork a --out runs/b
fails 2 'no run given' "$COHORT" fork --out runs/x
cp -r runs/a runs/damaged
printf x | dd of=runs/damaged/checkpoints/step-6/model.safetensors bs=1 seek=2000 conv=notrunc 2>/dev/null
fails 1 'the checkpoint is damaged' "$COHORT" fork damaged --out runs/x
absent runs/x

# --- a run that ended before its first step is not in the way ---
fails 1 'ended|exit status' train runs/e --steps 2 --reward 'exec:exit 7' --eval-data rows.jsonl
[ -d runs/e ] && [ ! -e runs/e/checkpoints/step-1 ] || wrong 'the run that failed'
succeeds train runs/e --steps 2
has err 'began in runs/e and ended before its first step: it starts again'
is "$("$COHORT" runs sql e 'SELECT count(*) FROM start' | tail -n 1)" 2 'starts'
fails 1 'already holds a run' train runs/e --steps 2
# But nothing of somebody else's is taken over.
mkdir -p runs/f/checkpoints
echo 'model: "model"' >runs/f/config.yaml
echo mine >runs/f/notes.txt
fails 1 'already holds a run' train runs/f --steps 2
is "$(cat runs/f/notes.txt)" mine 'a file of the user'
done_testing

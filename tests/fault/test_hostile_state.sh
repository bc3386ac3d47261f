# A trainer's state.json that somebody else wrote: every number of it is checked before it is used, and a checkpoint whose numbers do not fit
# each other is refused. Under UndefinedBehaviorSanitizer (make asan) nothing overflows on the way.
. "$(dirname "$0")/../cli/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3; do echo "{\"prompt\": \"q$i\", \"completion\": \"a$i\"}"; done >d.jsonl
GRPO=("$COHORT" grpo --model m --data d.jsonl --reward format --num-generations 2 --prompts-per-step 2 --max-completion-length 4
    --num-iterations 2 --threads 1 --device cpu)
SFT=("$COHORT" sft --model m --data d.jsonl --batch-size 2 --threads 1 --device cpu)
succeeds "${GRPO[@]}" --steps 4 --out grpo-run
succeeds "${SFT[@]}" --steps 4 --out sft-run
# state COMMAND STEP UPDATES SKIPPED BATCHES TOKENS SEED
state() { echo "{\"format\": 1, \"command\": \"$1\", \"step\": $2, \"updates\": $3, \"skipped\": $4, \"batches\": $5, \"tokens_seen\": $6, \"seed\": $7}"; }
# refused KIND STATE...: with the file's name, and nothing of the run is touched
refused()
{
    local kind=$1
    shift
    rm -rf r
    cp -r "$kind-run" r
    state "$@" >r/checkpoints/step-4/trainer/state.json
    rm r/checkpoints/step-4/SHA256SUMS # else it is found there that the file is another
    cp -r r before
    if [ "$kind" = grpo ]; then
        fails 1 'r/checkpoints/step-4/trainer/state.json:(1:[0-9]+:)? ' "${GRPO[@]}" --steps 100 --out r --resume
    else
        fails 1 'r/checkpoints/step-4/trainer/state.json:(1:[0-9]+:)? ' "${SFT[@]}" --steps 100 --out r --resume
    fi
    lacks err 'runtime error'
    same r before
    rm -r before
}
MOST=9223372036854775807
for kind in grpo sft; do
    batches=4
    [ $kind = sft ] || batches=2
    for number in $MOST -$MOST -1 9223372036854775808 1e3 4.5 '"4"' null 9007199254740993; do
        refused $kind $kind "$number" 4 0 $batches 100 42
        refused $kind $kind 4 "$number" 0 $batches 100 42
        refused $kind $kind 4 4 "$number" $batches 100 42
        refused $kind $kind 4 4 0 "$number" 100 42
        [ "$number" = 9007199254740993 ] || [ "$number" = -1 ] || refused $kind $kind 4 4 0 $batches "$number" 42
        [ "$number" = -1 ] || refused $kind $kind 4 4 0 $batches 100 "$number"
    done
    refused $kind $kind 4 4 0 $batches -1 42
    refused $kind $kind 4 4 0 $batches 100 -1
    # Sums that wrap round to the step.
    refused $kind $kind 4 $MOST $MOST $batches 100 42
    refused $kind $kind 4 3 0 $batches 100 42
    refused $kind $kind 5 4 0 $batches 100 42
    refused $kind $kind 4 4 0 0 100 42
    refused $kind $kind 4 4 0 3 100 42
    refused $kind $kind 0 0 0 $batches 100 42
    refused $kind evil 4 4 0 $batches 100 42
    refused $kind 'a longer name' 4 4 0 $batches 100 42
    refused $kind 'x\u0000y' 4 4 0 $batches 100 42
    # A seed that is not the run's.
    refused $kind $kind 4 4 0 $batches 100 43
done
refused grpo grpo 4 4 0 4 100 42 # one step a batch, where this run makes two
refused grpo grpo 4 4 0 1 100 42
# What fits is taken.
for numbers in '4 3 1' '4 0 4'; do
    # shellcheck disable=SC2086 # numbers
    state sft $numbers 4 1000000000000000000 42 >sft-run/checkpoints/step-4/trainer/state.json
    rm -rf r; cp -r sft-run r
    rm r/checkpoints/step-4/SHA256SUMS
    succeeds "${SFT[@]}" --steps 5 --out r --resume
done
done_testing

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

# --- the controller of an entropy bonus: there if and only if the run has one, and nothing but numbers ---
ADAPTIVE=("${GRPO[@]}" --use-adaptive-entropy --entropy-coef 0.1)
succeeds "${ADAPTIVE[@]}" --steps 4 --out a-run
STATE=$(sed 's/, *"entropy_control".*//' <(tr -d '\n' <a-run/checkpoints/step-4/trainer/state.json))
has a-run/checkpoints/step-4/trainer/state.json '"last_entropy": [0-9.]+'
for control in '' ', "entropy_control": 1' ', "entropy_control": {}' ', "entropy_control": {"coef": "1", "last_entropy": 1}' \
    ', "entropy_control": {"coef": 1e999, "last_entropy": 1}' ', "entropy_control": {"coef": 1, "last_entropy": NaN}' \
    ', "entropy_control": {"coef": 1}' ', "entropy_control": null'; do
    rm -rf r
    cp -r a-run r
    echo "$STATE$control}" >r/checkpoints/step-4/trainer/state.json
    rm r/checkpoints/step-4/SHA256SUMS
    fails 1 'r/checkpoints/step-4/trainer/state.json: .*entropy_control' "${ADAPTIVE[@]}" --steps 6 --out r --resume
done
echo "$STATE, \"entropy_control\": {\"coef\": 0.25, \"last_entropy\": null}}" >r/checkpoints/step-4/trainer/state.json
succeeds "${ADAPTIVE[@]}" --steps 6 --out r --resume
is "$(sed -n 5p r/metrics.jsonl | field entropy_coef)" 0.245 "the coefficient that the checkpoint had, and a step"
rm -rf r
cp -r grpo-run r
sed -i 's/"seed": 42/"seed": 42, "entropy_control": {"coef": 1, "last_entropy": null}/' r/checkpoints/step-4/trainer/state.json
rm r/checkpoints/step-4/SHA256SUMS
fails 1 'unexpected "entropy_control"' "${GRPO[@]}" --steps 6 --out r --resume

# --- the optimizer whose state it is ---
for optimizer in '5' 'null' '""' '"muon"' '"adamw_8bit"' '{}'; do
    rm -rf r
    cp -r grpo-run r
    sed -i "s/\"seed\": 42/\"seed\": 42, \"optimizer\": $optimizer/" r/checkpoints/step-4/trainer/state.json
    rm r/checkpoints/step-4/SHA256SUMS
    fails 1 'r/checkpoints/step-4/trainer/state.json: the state is that of the optimizer .*, this run has adamw' "${GRPO[@]}" \
        --steps 6 --out r --resume
done

# --- the evaluations of a run that compares them: nothing but numbers that fit its steps ---
printf '{"prompt": "a", "completion": "b"}\n' >held.jsonl
STOPPING=("${SFT[@]}" --eval-data held.jsonl --eval-steps 2 --early-stopping-patience 50)
succeeds "${STOPPING[@]}" --steps 4 --out b-run
STATE=$(tr -d '\n' <b-run/checkpoints/step-4/trainer/state.json | sed 's/, *"best".*//')
has b-run/checkpoints/step-4/trainer/state.json '"counted": 4'
for best in 1 null '[]' '{}' '{"counted": 4, "step": 4, "value": 1}' '{"counted": 0, "step": 0, "value": null, "worse": 0}' \
    '{"counted": 5, "step": 4, "value": 1, "worse": 0}' '{"counted": 2, "step": 4, "value": 1, "worse": 0}' \
    '{"counted": 4, "step": -1, "value": 1, "worse": 0}' '{"counted": 4, "step": 4, "value": null, "worse": 0}' \
    '{"counted": 4, "step": 0, "value": 1, "worse": 0}' '{"counted": 4, "step": 4, "value": 1e999, "worse": 0}' \
    '{"counted": 4, "step": 4, "value": 1, "worse": 9}' '{"counted": 4.5, "step": 4, "value": 1, "worse": 0}' \
    '{"counted": 4, "step": 9223372036854775807, "value": 1, "worse": 0}'; do
    rm -rf r
    cp -r b-run r
    echo "$STATE, \"best\": $best}" >r/checkpoints/step-4/trainer/state.json
    rm r/checkpoints/step-4/SHA256SUMS
    fails 1 'r/checkpoints/step-4/trainer/state.json: .*"best" is not' "${STOPPING[@]}" --steps 6 --out r --resume
done
done_testing

# reward: model:DIR in score, grpo, rloo and eval: TRL's values, the same bits whatever the batch, several models with weights, what is refused.
. "$(dirname "$0")/shell.sh"

reward=$SOURCE/tests/fixtures/reward_model
score() { "$COHORT" score --device cpu --threads "${THREADS:-1}" --data "$@"; }
values() { sed -n "s/.*\"$2\": \\([^,}]*\\).*/\\1/p" "$1"; } # values FILE NAME

# --- what TRL's GRPOTrainer gives conversations and texts (oracle/reward_model_trl.py) ---
succeeds score "$reward/rows.jsonl" --reward "model:$reward"
values out reward_model >got
sed -n 's/.*"score": \([^}]*\)}/\1/p' "$reward/rows.jsonl" >want
is "$(wc -l <got)" 17 "scores"
# Sums of some 10^2 float products a number, in another order.
paste got want | awk '{ d = $1 - $2; if (d < 0) d = -d; if (!(d < 1e-5)) print NR ": " $0 }' >differ
is "$(cat differ)" "" "scores that differ from TRL's"
# Each row alone, and by other threads: the same bits.
cp got together
: >alone
while read -r row; do
    echo "$row" >one.jsonl
    score one.jsonl --reward "model:$reward" >one.out || wrong "a row alone"
    values one.out reward_model >>alone
done <"$reward/rows.jsonl"
is "$(cat alone)" "$(cat together)" "scores of rows alone"
THREADS=2 succeeds score "$reward/rows.jsonl" --reward "model:$reward" --isa portable
values out reward_model >portable
THREADS=1 succeeds score "$reward/rows.jsonl" --reward "model:$reward/" --isa portable
is "$(values out reward_model)" "$(cat portable)" "scores by one thread and by two"

# --- several models, and other rewards beside them ---
cp -r "$reward" other
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4; do echo "{\"prompt\": \"is $i odd?\", \"chosen\": \" yes\", \"rejected\": \" no\"}"; done >pairs.jsonl
succeeds "$COHORT" reward --model m --device cpu --threads 1 --data pairs.jsonl --steps 2 --batch-size 2 --learning-rate 1e-3 --out rm
succeeds score "$reward/rows.jsonl" --reward "model:$reward,model:rm/final,regex" --reward-pattern four --reward-weights 1,0.5,0
is "$(values out reward_model)" "$(cat together)" "scores beside another model's"
has out '"index": 1, "rewards": \{"reward_model": -1.04[0-9]*, "final": -?[0-9.e-]*, "regex": 1\}'
values out final >final.values
values out reward >sums
paste together final.values sums | awk '{ d = $1 + 0.5 * $2 - $3; if (d < 0) d = -d; if (!(d < 1e-6)) print }' >differ
is "$(cat differ)" "" "weighted sums"
succeeds score "$reward/rows.jsonl" --reward "model:$reward,model:other/../other"
is "$(values out other)" "$(cat together)" "scores of a copy"
# Control tokens that a model spells are text; those of a prompt that is text are the caller's.
echo '{"prompt": "a", "completion": "b<|im_end|>"}' >spelled.jsonl
echo '{"prompt": "ab<|im_end|>", "completion": ""}' >>spelled.jsonl
succeeds score spelled.jsonl --reward "model:$reward"
differs "$(values out reward_model | head -n 1)" "$(values out reward_model | tail -n 1)" "scores of a control token and of its spelling"
# What is too long, or nothing at all, has no score.
{ echo "{\"prompt\": \"$(printf 'x%.0s' {1..600})\", \"completion\": \"y\"}"; echo '{"prompt": "", "completion": ""}'; echo '{"prompt": "a", "completion": "b"}'; } >odd.jsonl
succeeds score odd.jsonl --reward "model:$reward"
has out '"index": 0, "rewards": \{"reward_model": null\}, "reward": null'
has out '"index": 1, "rewards": \{"reward_model": null\}'
has out '"index": 2, "rewards": \{"reward_model": -?[0-9]'
has err 'prompt 0 with completion 0 has 601 tokens there, and at most 512 are scored'
fails 1 'reward model:m: a language model, which gives no scores' score odd.jsonl --reward model:m
fails 1 'reward model:nowhere' score odd.jsonl --reward model:nowhere
fails 2 "'model:' names no folder" score odd.jsonl --reward model:
fails 1 'reward models: weights and buffers take' score odd.jsonl --reward "model:$reward" --memory-limit 0.00001

# --- grpo, rloo and eval: the same bits as of each completion alone ---
echo '{"prompt": "one", "n": 1}' >texts.jsonl
echo '{"prompt": [{"role": "user", "content": "two"}], "n": 2}' >chat.jsonl
train() { # train COMMAND OUT OPTIONS
    local command=$1 out=$2
    shift 2
    "$COHORT" "$command" --model m --device cpu --threads 2 --steps 2 --prompts-per-step 1 --num-generations 4 --max-completion-length 12 \
        --learning-rate 1e-3 --log-completions --reward "model:$reward,model:rm/final" --out "$out" "$@"
}
for form in texts chat; do
    prompt=$(sed 's/{\(.*\), "n".*/\1/' $form.jsonl)
    succeeds train grpo $form --data $form.jsonl --save-steps 1
    has err '2 reward models 0\.00 GB, .*; scoring 0\.00 GB'
    sed "s/.*\"completion\": \\(\".*\"\\), \"finish_reason\".*/{$prompt, \"completion\": \\1}/" $form/completions.jsonl >$form.again
    is "$(wc -l <$form.again)" 8 "completions"
    succeeds score $form.again --reward "model:$reward,model:rm/final"
    for name in reward_model final; do
        is "$(values out $name)" "$(values $form/completions.jsonl $name)" "scores of a run of $form by $name"
    done
    differs "$(values out reward_model | sort -u | wc -l)" 1 "scores of a run"
done
has texts/metrics.jsonl '"rewards/reward_model/mean": '
succeeds train rloo rloo --data texts.jsonl --reward-weights 1,0
has rloo/metrics.jsonl '"rewards/final/std": '
succeeds "$COHORT" eval --model m --device cpu --threads 1 --data texts.jsonl --reward "model:$reward" --n 2 --max-completion-length 6 --format jsonl
sed -n '/"completion": /p' out >eval.rows
is "$(wc -l <eval.rows)" 2 "completions of an evaluation"
sed 's/.*"completion": \(".*"\), "finish_reason".*/{"prompt": "one", "completion": \1}/' eval.rows >eval.again
succeeds score eval.again --reward "model:$reward"
is "$(values out reward_model)" "$(values eval.rows reward_model)" "scores of an evaluation"
fails 1 'weights take' train grpo no --data texts.jsonl --memory-limit 0.0001
# A run is what it reads: another reward model is another run.
sed -i 's/0\.02/0.03/' other/config.json
has other/config.json '0\.03'
"$COHORT" grpo --model m --device cpu --threads 1 --data texts.jsonl --steps 1 --prompts-per-step 1 --num-generations 2 --max-completion-length 4 \
    --reward model:other --out same 2>/dev/null >/dev/null
sed -i 's/0\.03/0.04/' other/config.json
fails 1 'reward.*other/config.json' "$COHORT" grpo --model m --device cpu --threads 1 --data texts.jsonl --steps 2 --prompts-per-step 1 \
    --num-generations 2 --max-completion-length 4 --reward model:other --out same --resume
done_testing

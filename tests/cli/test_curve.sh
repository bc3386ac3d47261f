# The curve of a run, which is there while it goes on.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4 5; do echo "{\"prompt\": \"q$i\", \"completion\": \"a$i\"}"; done >d.jsonl
# Rewards by the length of a row; waits at its fourth batch until it may go on.
cat >reward.sh <<'R'
batch=0 answer=
while IFS= read -r line; do
    answer="$answer$((${#line} % 7))
"
    case $line in *'"last_of_batch":true'*) ;; *) continue ;; esac
    batch=$((batch + 1))
    while [ $batch = 4 ] && [ -e wait ]; do sleep 0.05; done
    printf '%s' "$answer"
    answer=
done
R
GRPO=("$COHORT" grpo --model m --data d.jsonl --num-generations 2 --prompts-per-step 2 --max-completion-length 6 --learning-rate 1e-3
    --seed 5 --threads 1 --device cpu --save-steps 0)
SFT=("$COHORT" sft --model m --data d.jsonl --batch-size 2 --threads 1 --device cpu)
# warnings PATTERN: how many lines of err match
warnings() { grep -c -- "$1" err; }

# --- the curve is there while the run goes on, and whole when it was stopped ---
touch wait
"${GRPO[@]}" --reward 'exec:sh reward.sh' --steps 50 --out r >out 2>err &
pid=$!
for i in $(seq 100); do [ -e r/metrics.jsonl ] && [ "$(wc -l <r/metrics.jsonl)" = 3 ] && break; sleep 0.05; done
is "$(wc -l <r/metrics.jsonl)" 3 "steps before the wait"
has r/reward.svg '</svg>'
kill -INT $pid
sleep 0.2
rm wait
wait $pid
is $? 130 "exit code of a run that was stopped"
has err 'stopped on request$'
points() { grep -oE 'class="s0 (raw|line)" d="[^"]*"' "$1" | head -n 1 | tr ' ' '\n' | grep -c ,; }
is "$(points r/reward.svg)" "$(wc -l <r/metrics.jsonl)" "points of the curve of a run that was stopped"
succeeds "${SFT[@]}" --steps 3 --out s
is "$(points s/loss.svg)" 3 "points of a loss curve"
# --- a curve that cannot be drawn stops nothing and is told of once ---
succeeds "${GRPO[@]}" --reward 'exec:sh reward.sh' --steps 1 --out blocked
rm blocked/reward.svg
mkdir blocked/reward.svg
succeeds "${GRPO[@]}" --reward 'exec:sh reward.sh' --steps 8 --eval-data d.jsonl --eval-steps 1 --out blocked --resume
is "$(warnings 'the curve could not be drawn')" 1 "warnings of a curve that cannot be drawn"
no_leftovers blocked

# --- stopped before the first step: no checkpoint is spoken of, and --resume starts again ---
cat >slow.sh <<'R'
touch started
while [ -e wait ]; do sleep 0.05; done
exec sh reward.sh
R
touch wait
"${GRPO[@]}" --reward 'exec:sh slow.sh' --steps 2 --out early >out 2>err &
pid=$!
for i in $(seq 100); do [ -e started ] && break; sleep 0.05; done
kill -INT $pid
sleep 0.2
rm wait
wait $pid
code=$?
if [ ! -e early/checkpoints/step-1 ]; then
    is $code 130 "exit code of a run that was stopped early"
    has err 'there is no checkpoint yet: the same command with --resume starts the run in early again'
    lacks err 'checkpoint is whole|continue with'
fi
succeeds "${GRPO[@]}" --reward 'exec:sh slow.sh' --steps 2 --out early --resume

done_testing

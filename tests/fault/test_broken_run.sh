# Training that is interrupted: by its reward program, a signal, a full disk, or a checkpoint of another run. What must hold: a clear error
# and exit code, nothing half-written, the last checkpoint whole, and a resumed run that ends in the bytes of one that was never stopped.
. "$(dirname "$0")/../cli/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4 5; do echo "{\"prompt\": \"q$i\", \"completion\": \"a$i\"}"; done >d.jsonl

# A reward that is a function of the row alone. Files tell it to misbehave: "die" at the batch whose number it holds, "slow" to take its time.
cat >reward.sh <<'R'
echo $$ >reward.pid
mark=',"last_of_batch":true'
batch=0 answer=
while IFS= read -r line; do
    row=${line%%"$mark"*}${line#*"$mark"}
    [ "$row" = "$line$line" ] && row=$line
    answer="$answer$((${#row} % 7))
"
    [ "$row" = "$line" ] && continue
    batch=$((batch + 1))
    [ -e slow ] && sleep 0.1
    if [ -e die ] && [ "$batch" = "$(cat die)" ]; then
        echo "the judge has left" >&2
        exit 3
    fi
    printf '%s' "$answer"
    answer=
done
R
TRAIN=("$COHORT" grpo --model m --data d.jsonl --reward "exec:sh reward.sh" --num-generations 2 --prompts-per-step 2
    --max-completion-length 6 --learning-rate 1e-3 --save-steps 0 --seed 5 --threads 1)
# train OUT ARGUMENTS...
train()
{
    "${TRAIN[@]}" --out "$@"
}
# as_if_never_stopped OUT: the same as the reference of 4 steps
as_if_never_stopped()
{
    same "$1/final" reference/final
    same "$1/checkpoints/step-4" reference/checkpoints/step-4
    is "$(untimed "$1/metrics.jsonl")" "$(untimed reference/metrics.jsonl)" "metrics of $1"
    no_leftovers "$1"
}
# gone: the reward program of the last run has ended
gone()
{
    for i in 1 2 3 4 5 6 7 8 9 10; do
        # A zombie has ended: it waits for whoever has taken over its parent's children.
        case $(cut -d' ' -f3 "/proc/$(cat reward.pid)/stat" 2>/dev/null) in '' | Z) return 0 ;; esac
        sleep 0.1
    done
    wrong "the reward program is still there"
}
succeeds train reference --steps 4
differs "$(field grad_norm <reference/metrics.jsonl | tail -n 1)" 0 "gradient of the reference"

# --- the reward program dies at its third batch ---
echo 3 >die
fails 1 "reward .reward.sh.: .*exit status 3.*the judge has left" train died --steps 4
has err 'checkpoint of step 2 is in died/checkpoints.*--resume'
is "$(ls died/checkpoints)" step-2 "checkpoints after the death"
absent died/final
no_leftovers died
fails 1 'already holds a run.*--resume' train died --steps 4
rm die
succeeds train died --steps 4 --resume
has err 'resuming from died/checkpoints/step-2: step 2'
rm -r died/checkpoints/step-2
as_if_never_stopped died
# At its first batch: there is nothing to resume.
echo 1 >die
fails 1 'the judge has left' train first --steps 4
rm die
has err 'no checkpoint yet: the same command with --resume starts the run in first again'
lacks err 'checkpoint is whole|continue with'
is "$(ls first/checkpoints)" "" "checkpoints of a run without a step"
succeeds train first --steps 4 --resume
has err 'no checkpoint in first yet: the run starts from its beginning, over what an earlier start left'
as_if_never_stopped first
# And at a batch of the evaluation.
echo 2 >die
fails 1 'the judge has left' train evaluated --steps 2 --eval-data d.jsonl --eval-steps 1
rm die
# The evaluation that was cut is made when the run goes on, and stands in the line of its step: after the first step and after the last.
succeeds train asked --steps 2 --eval-data d.jsonl --eval-steps 1
for batch in 3 5; do
    echo $batch >die
    fails 1 'the judge has left' train cut-$batch --steps 2 --eval-data d.jsonl --eval-steps 1
    rm die
    is "$(grep -c eval_reward cut-$batch/metrics.jsonl)" $((batch / 2)) "evaluations before the run goes on"
    succeeds train cut-$batch --steps 2 --eval-data d.jsonl --eval-steps 1 --resume
    is "$(untimed cut-$batch/metrics.jsonl)" "$(untimed asked/metrics.jsonl)" "metrics of cut-$batch"
    same cut-$batch/final asked/final
    for step in 0 1 2; do same cut-$batch/eval-step-$step.jsonl asked/eval-step-$step.jsonl; done
    succeeds train cut-$batch --steps 2 --eval-data d.jsonl --eval-steps 1 --resume
    is "$(untimed cut-$batch/metrics.jsonl)" "$(untimed asked/metrics.jsonl)" "metrics of cut-$batch, resumed at its end"
done

# --- it answers garbage, hangs, closes its ends ---
# garbage PROGRAM PATTERN
garbage()
{
    rm -rf g
    fails 1 "$2" train g --steps 1 --reward "" --reward "exec:$1" --reward-timeout 0.5
    absent g/final g/checkpoints/step-1
}
SECONDS=0
garbage 'sleep 30' '0.5 s'
garbage 'cat >/dev/null; sleep 30' '0.5 s'
garbage 'exec >&-; sleep 30' 'closed|ended'
garbage 'exec <&-; sleep 30' '0.5 s|closed|ended'
[ $SECONDS -lt 20 ] || wrong "hanging rewards took $SECONDS s"
garbage 'while read l; do if [ "$l" != "${l%last_of_batch*}" ]; then for i in 1 2 3 4; do echo good; done; fi; done' "good"
garbage 'while read l; do if [ "$l" != "${l%last_of_batch*}" ]; then for i in 1 2 3 4; do echo NaN; done; fi; done' 'NaN'
garbage 'while read l; do if [ "$l" != "${l%last_of_batch*}" ]; then for i in 1 2 3 4; do echo 1e999; done; fi; done' '1e999'
garbage 'while read l; do if [ "$l" != "${l%last_of_batch*}" ]; then for i in 1 2 3 4; do echo "[]"; done; fi; done' 'a list of 0'
garbage 'while read l; do if [ "$l" != "${l%last_of_batch*}" ]; then echo 1; fi; done' '1 of 4|0.5 s'
garbage 'while read l; do if [ "$l" != "${l%last_of_batch*}" ]; then printf "1\n1\n1\n1\n1\n1\n"; fi; done; sleep 9' 'more|too many|answer'
garbage 'yes' 'y'
garbage 'head -c 3000000 /dev/zero | tr "\0" 1; sleep 9' 'line|long|limit'
garbage 'no-such-program-here' 'not found'
garbage 'kill -9 $$' 'signal 9|killed'
# Nothing can be scored: no update, no NaN, and the run goes on.
rm -rf g
succeeds train g --steps 1 --reward "" --reward 'exec:while read l; do if [ "$l" != "${l%last_of_batch*}" ]; then for i in 1 2 3 4; do echo null; done; fi; done'
is "$(field grad_norm <g/metrics.jsonl)" 0 "grad_norm without any reward"
same g/final/model.safetensors m/model.safetensors

# --- signals ---
touch slow
# start ARGUMENTS: a slow run in the background, once it has done two steps
start()
{
    "${TRAIN[@]}" --out "$@" --steps 100 >out 2>err &
    pid=$!
    for i in $(seq 100); do
        [ -e "$1/metrics.jsonl" ] && [ "$(wc -l <"$1/metrics.jsonl")" -ge 2 ] && return
        sleep 0.05
    done
    wrong "the run did not get to step 2: $(cat err)"
}
for signal in INT TERM HUP; do
    start "run$signal"
    kill -$signal $pid
    wait $pid
    is $? 130 "exit code after SIG$signal"
    has err 'stopped on request'
    gone
    no_leftovers "run$signal"
    absent "run$signal/final"
    step=$(ls "run$signal/checkpoints")
    is "$(ls "run$signal/checkpoints" | wc -l)" 1 "checkpoints after SIG$signal"
    [ "${step#step-}" -ge 2 ] || wrong "checkpoint $step after two steps"
done
# Killed: what it saved can be resumed, and the rest of the run is the same.
start killed --save-steps 1
kill -KILL $pid
wait $pid 2>/dev/null
rm slow
# As a kill in the middle of a save leaves them.
for d in killed killed/checkpoints; do
    mkdir -p $d/.cohort-0123456789abcdef/new/step-9/trainer
    printf 'cohort scratch folder: unfinished work, may be removed when its process is gone\nhost x\npid 1\nsince 2026\n' >$d/.cohort-0123456789abcdef/cohort-scratch
done
succeeds train killed --steps 4 --save-steps 0 --resume
rm -rf killed/checkpoints/step-[123]
as_if_never_stopped killed
if [ "${step#step-}" -le 4 ]; then
    succeeds train runTERM --steps 4 --resume
    [ "$step" = step-4 ] || rm -rf "runTERM/checkpoints/$step"
    as_if_never_stopped runTERM
fi
# Asked twice: at once, though the reward program is in the way.
rm -rf g
"${TRAIN[@]}" --out g --steps 1 --reward "" --reward 'exec:echo $$ >reward.pid; exec sleep 30' >out 2>err &
pid=$!
for i in $(seq 100); do [ -e g/config.yaml ] && break; sleep 0.05; done
sleep 0.3
kill -INT $pid
sleep 0.1
SECONDS=0
kill -INT $pid
wait $pid
is $? 130 "exit code after two SIGINT"
[ $SECONDS -le 2 ] || wrong "two SIGINT took $SECONDS s"
kill "$(cat reward.pid)" 2>/dev/null
# A generation: what is finished has been printed.
yes '{"prompt": "x"}' | head -n 2000 >many.jsonl
"$COHORT" generate --model m --batch many.jsonl --max-tokens 200 --threads 1 >out 2>err &
pid=$!
for i in $(seq 100); do [ -s out ] && break; sleep 0.05; done
kill -INT $pid
wait $pid
is $? 130 "exit code of an interrupted generate"
has err 'what was finished has been printed'
is "$(grep -c -v '^{"index": .*}$' out)" 0 "torn lines of an interrupted generate"

# --- checkpoints of other runs ---
resume() { train other --steps 6 --resume "$@"; }
# As older versions wrote it, without a manifest: the readers must find what is wrong by themselves.
other() { rm -rf other; cp -r reference other; C=other/checkpoints/step-4; rm $C/SHA256SUMS; }
other
succeeds resume
has err 'note: other/checkpoints/step-4 has no SHA256SUMS.*not checked'
is "$(wc -l <other/metrics.jsonl)" 6 "lines after going on"
other; rm -r $C/trainer
fails 1 "$C/trainer/state.json: not found.*no checkpoint" resume
fails 1 'm/trainer/state.json: not found' train other --steps 6 --resume m
fails 1 'nowhere: not a folder' train other --steps 6 --resume nowhere
other; truncate -s 10 $C/trainer/state.json
fails 1 "$C/trainer/state.json:[0-9]+" resume
other; sed -i 's/"step": 4/"step": -4/' $C/trainer/state.json
fails 1 "$C/trainer/state.json" resume
other; sed -i 's/"updates": 4/"updates": "4"/' $C/trainer/state.json
fails 1 "$C/trainer/state.json.*" resume
other; sed -i 's/"batches": 4/"batches": 4e99/' $C/trainer/state.json
fails 1 "$C/trainer/state.json" resume
other; truncate -s 50000 $C/trainer/optimizer.safetensors
fails 1 "$C/trainer/optimizer.safetensors" resume
other; cp m/model.safetensors $C/trainer/optimizer.safetensors
fails 1 "$C/trainer/optimizer.safetensors" resume
other; rm $C/trainer/optimizer.safetensors
fails 1 "$C/trainer/optimizer.safetensors.*cannot open" resume
other; truncate -s 50000 $C/model.safetensors
fails 1 "$C/model.safetensors" resume
other; rm $C/trainer/options.yaml
fails 1 "$C/trainer/options.yaml" resume
other; truncate -s 0 $C/trainer/options.yaml
fails 1 "options" resume
other; truncate -s -1 $C/trainer/options.yaml # without its last newline: still the same options
succeeds resume
other; truncate -s 20 $C/trainer/options.yaml
fails 1 "made with" resume
other
fails 1 "made with 'learning_rate: 0.001', this run says 'learning_rate: 0.01'" resume --learning-rate 1e-2
fails 1 "made with 'seed: 5', this run says 'seed: 6'" resume --seed 6
fails 1 "dtype" resume --dtype f32
cp -r m m2
cp reference/checkpoints/step-4/SHA256SUMS $C
same other reference
succeeds resume --model m2 # the same bytes under another name
other
cp -r m m3
printf 'x' | dd of=m3/model.safetensors bs=1 seek=200000 conv=notrunc 2>/dev/null
fails 1 "$C: .*model: m3/model.safetensors: expected what m/model.safetensors held.*--accept-changed model" resume --model m3
cp reference/checkpoints/step-4/SHA256SUMS $C
same other reference
succeeds "$COHORT" sft --model m --data d.jsonl --steps 1 --batch-size 2 --threads 1 --out tuned
fails 1 'checkpoint of cohort sft, this is cohort grpo.*--model' train other --steps 6 --resume tuned/checkpoints/step-1
succeeds "$COHORT" init --preset tiny --tokenizer bytes --out tiny
succeeds "$COHORT" sft --model tiny --data d.jsonl --steps 1 --batch-size 2 --threads 1 --out big
mkdir -p mixed; cp -r big/checkpoints/step-1 mixed/; cp tuned/checkpoints/step-1/trainer/* mixed/step-1/trainer/
rm mixed/step-1/SHA256SUMS
fails 1 'mixed/step-1' "$COHORT" sft --model tiny --data d.jsonl --steps 2 --batch-size 2 --threads 1 --out x --resume mixed/step-1
absent x
# A torn line at the end of metrics.jsonl, as a crash leaves it.
other; printf '{"step": 5, "epo' >>other/metrics.jsonl
succeeds resume
is "$(field step <other/metrics.jsonl | tr '\n' ' ')" "1 2 3 4 5 6 " "steps after a torn line"

# --- a full disk ---
# Files may have 300 KB: the weights fit, the optimizer's state does not.
succeeds train full --steps 2
fails 1 'full/checkpoints/.*(File too large|No space)' sh -c 'ulimit -f 300 2>/dev/null || ulimit -f 600; exec "$@"' x "$COHORT" grpo --config full/config.yaml --steps 4 \
    --threads 1 --out full --resume
is "$(ls full/checkpoints)" step-2 "checkpoints after a full disk"
no_leftovers full
succeeds train full --steps 4 --resume
rm -r full/checkpoints/step-2
as_if_never_stopped full
mkdir disk
if mount -t tmpfs -o size=2500k none disk 2>/dev/null; then
    trap 'umount "$SCRATCH/disk" 2>/dev/null; rm -rf "$SCRATCH"' EXIT
    fails 1 'No space left.*free some space' train disk/run --steps 4 --save-steps 1
    is "$(ls disk/run/checkpoints)" step-1 "checkpoints on a full disk"
    no_leftovers disk
    mv disk/run disked
    succeeds train disked --steps 4 --resume
    rm -r disked/checkpoints/step-1
    as_if_never_stopped disked
    umount disk
else
    echo "no tmpfs here: the full disk was ulimit -f alone"
fi
# A folder that cannot be written.
if [ "$(id -u)" -ne 0 ]; then
    mkdir locked; chmod 555 locked
    fails 1 'locked.*Permission denied' train locked/run --steps 1
fi
echo x >file
fails 1 'file' train file/run --steps 1
fails 1 'file' train file --steps 1
done_testing

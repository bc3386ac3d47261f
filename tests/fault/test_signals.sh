# Signals to a run: what asks it to stop or tells of the end of the machine lets it save and leave, and it goes on as if nothing had been;
# a second request leaves at once.
. "$(dirname "$0")/../cli/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in 1 2 3 4 5; do echo "{\"prompt\": \"q$i\", \"completion\": \"a$i\"}"; done >d.jsonl
# A reward that waits while there is a file "hold" and says where it is; its process id is in reward.pid.
cat >wait.sh <<'R'
echo $$ >reward.pid
while IFS= read -r line; do
    answer="$answer$((${#line} % 7))
"
    case $line in *'"last_of_batch":true'*) ;; *) continue ;; esac
    : >waits
    while [ -e hold ]; do sleep 0.02; done
    printf '%s' "$answer"
    answer=
done
R
GRPO=("$COHORT" grpo --model m --data d.jsonl --reward "exec:sh wait.sh" --num-generations 2 --prompts-per-step 2 --max-completion-length 4
    --learning-rate 1e-3 --seed 5 --threads 1 --steps 6)
# await FILE
await() { for i in $(seq 500); do [ -e "$1" ] && return; sleep 0.02; done; wrong "$1 never came: $(tail -n 3 err1)"; }
# begin RUN ARGUMENTS...: a run that has done one step and waits in the reward of the second
begin() {
    local run=$1
    shift
    rm -f waits hold
    succeeds "${GRPO[@]}" --out "$run" "$@" --steps 1
    rm -f waits
    touch hold
    "${GRPO[@]}" --out "$run" "$@" --resume 2>err1 >out1 &
    pid=$!
    await waits
}
# ends CODE WHAT
ends() { wait $pid 2>/dev/null; is $? "$1" "exit code after $2"; }
# goes_on RUN WHAT: it had saved its one step, and comes to the end of the run that was not disturbed.
goes_on() {
    is "$(ls "$1/checkpoints")" step-1 "checkpoints after $2"
    rm -f hold
    succeeds "${GRPO[@]}" --out "$1" --resume
    same "$1/final" whole/final
    is "$(untimed "$1/metrics.jsonl")" "$(untimed whole/metrics.jsonl)" "metrics after $2"
}
succeeds "${GRPO[@]}" --out whole

for signal in INT TERM HUP USR1 USR2 XCPU; do
    begin $signal
    kill -$signal $pid
    ends 130 SIG$signal
    has err1 'stopped on request'
    goes_on $signal SIG$signal
done

# --- a scheduler's order: a notice, more of it, then SIGTERM: none of them cuts the save ---
printf 'while read -r line; do :; done; touch told; sleep 1\n' >slow.sh # it holds up the end of the run
begin slurm --report-to 'exec:sh slow.sh'
rm -f told
kill -USR1 $pid
await told
kill -USR1 $pid
kill -HUP $pid
kill -TERM $pid
ends 130 'a notice and SIGTERM'
goes_on slurm 'a notice and SIGTERM'

# --- two requests: at once; what was saved is whole ---
for signal in INT TERM; do
    begin twice-$signal --report-to 'exec:sh slow.sh'
    rm -f told
    kill -$signal $pid
    await told
    kill -TERM $pid
    ends 143 "SIG$signal and SIGTERM"
    goes_on twice-$signal "SIG$signal and SIGTERM"
done

# --- a notice that the whole job gets: the reward program dies of it ---
for signal in USR1 TERM; do
    for first in reward trainer; do
        begin job-$signal-$first
        reward=$(cat reward.pid)
        [ $first = reward ] && kill -$signal "$reward"
        kill -$signal $pid
        [ $first = trainer ] && kill -$signal "$reward"
        ends 130 "SIG$signal to the job, $first first"
        goes_on job-$signal-$first "SIG$signal to the job, $first first"
    done
done

# --- a spot instance's notice, by the example that asks for it ---
mkdir bin
cat >bin/curl <<'C'
#!/bin/sh
echo "$*" >>asked
case $* in
*api/token*) [ "$CLOUD" = aws ] && echo token ;;
*spot/instance-action*) [ -e notice ] && echo '{"action": "terminate"}' ;;
*preempted*) [ "$CLOUD" = google ] && { [ -e notice ] && echo TRUE || echo FALSE; } ;;
*scheduledevents*) [ "$CLOUD" = azure ] && { [ -e notice ] && echo '{"Events": [{"EventType": "Preempt"}]}' || echo '{"Events": []}'; } ;;
esac
C
chmod +x bin/curl
for cloud in aws google azure; do
    succeeds "${GRPO[@]}" --out $cloud --steps 1
    rm -f waits notice asked
    touch hold
    PATH=$PWD/bin:$PATH CLOUD=$cloud SPOT_SECONDS=0.05 sh "$SOURCE/examples/spot_notice.sh" "${GRPO[@]}" --out $cloud --resume 2>err1 >out1 &
    pid=$!
    await waits
    await asked
    is "$(kill -0 $pid && echo runs)" runs "$cloud before its notice"
    touch notice
    ends 130 "the notice of $cloud"
    has err1 'this instance goes away'
    goes_on $cloud "the notice of $cloud"
done

# --- ignored by who started it: as nohup does ---
trap '' USR1
"${GRPO[@]}" --out ignored-2 2>err1 >out1 &
pid=$!
trap - USR1
for i in $(seq 100); do kill -USR1 $pid 2>/dev/null || break; sleep 0.01; done
ends 0 'SIGUSR1, which was ignored'
done_testing

#!/usr/bin/env bash
# Ranks that die, hang or fail: the run ends within --rank-timeout with a message that names rank, host and cause, its last checkpoint is
# whole, and it goes on from there. A stop that any rank hears ends all alike, with a checkpoint.
. "$SOURCE/tests/support/exact.sh"
cd "$work"
. "$SOURCE/tests/support/ranks.sh"
make_model "$work/model"
for i in 1 2 3 4 5; do echo "{\"prompt\": \"question $i\"}"; done >data.jsonl
# Notes the step, and the ranks' processes; waits while there is a file "hold".
cat >reward.py <<'PY'
import os, time
step = 0
def waits(completions, **kwargs):
    global step
    step += 1
    if step > 2:
        open("waits", "w").close()
        while os.path.exists("hold"):
            time.sleep(0.02)
    return [len(c) % 3 for c in completions]
PY
GRPO=(grpo --model model --data data.jsonl --reward python:reward.py:waits --prompts-per-step 3 --num-generations 2 --max-completion-length 6
    --learning-rate 1e-3 --seed 5 --save-steps 1 --steps 4 --reward-timeout 600)
# Each rank writes down its process and becomes the program.
cat >rank.sh <<'R'
echo $$ >"pid.$OMPI_COMM_WORLD_RANK"
exec "$@"
R
await() { for _ in $(seq 1500); do [ -e "$1" ] && return; sleep 0.02; done; cat log >&2; fail "$1 never came"; }
# begin RUN OPTIONS...: a run of two ranks that has done two steps; rank 0 waits in the reward of the third, rank 1 for rank 0
begin() {
    local run=$1
    shift
    rm -f waits pid.*
    touch hold
    "${MPIRUN[@]}" -n 2 sh rank.sh "$COHORT" "${GRPO[@]}" --device cpu --threads 1 --out "$run" "$@" >log 2>&1 &
    job=$!
    await waits
}
# ends RUN PATTERN: it has failed, and said why; and it goes on as if nothing had been
ends() {
    local code=0
    wait $job || code=$?
    [ $code != 0 ] || fail "$1 did not fail"
    grep -q "$2" log || { cat log >&2; fail "$1: no '$2'"; }
    rm -f hold
    [ -z "$(find "$1/checkpoints" -name '.cohort-*' -o -name 'step-3')" ] || fail "$1: more than two steps were saved"
    job 2 grpo --resume --out "$1" >log 2>&1 || { cat log >&2; fail "$1 does not go on"; }
    diff -r whole/final "$1/final" >&2 || fail "$1: final/ differs from that of a run that was not disturbed"
}
job 2 "${GRPO[@]}" --out whole >log 2>&1 || { cat log >&2; fail "the run"; }

begin killed
kill -KILL "$(cat pid.1)"
ends killed 'rank 1 .* exited on signal 9'

# A rank that hangs: the other one waits no longer than it may.
begin hangs --rank-timeout 6
kill -STOP "$(cat pid.1)"
rm hold
ends hangs 'cohort: rank 1 of 2 (.*) has not answered for 6 s (--rank-timeout)'
begin hangs-0 --rank-timeout 6
ends hangs-0 'cohort: rank 0 of 2 (.*) has not answered for 6 s (--rank-timeout)'

# A failure of one rank is told once, by rank 0, with its place.
sed -i 's/    return/    if step > 2: raise ValueError("no more")\n    return/' reward.py
begin fails
rm hold
wait $job && fail "a reward that raises"
[ "$(grep -c 'no more' log)" = 1 ] || { cat log >&2; fail "a failure of rank 0 is not told once"; }
# gone PROCESS: it has ended, whether or not somebody has asked how
gone() { [ ! -e "/proc/$1" ] || grep -q '^State:.*[ZX]' "/proc/$1/status" 2>/dev/null; }
for rank in 0 1; do
    for _ in $(seq 250); do gone "$(cat pid.$rank)" && break; sleep 0.02; done
    gone "$(cat pid.$rank)" || fail "rank $rank is still there"
done

# A stop, whoever hears it, comes to all: what was done is saved.
sed -i '/raise/d' reward.py
for rank in 0 1; do
    begin stops-$rank
    kill -TERM "$(cat pid.$rank)"
    rm hold
    code=0
    wait $job || code=$?
    [ $code = 130 ] || { cat log >&2; fail "a stop of rank $rank ends with code $code"; }
    [ -d stops-$rank/checkpoints/step-3 ] || fail "a stop of rank $rank: the step was not saved"
    job 2 grpo --resume --out stops-$rank >log 2>&1 || { cat log >&2; fail "stops-$rank does not go on"; }
    diff -r whole/final stops-$rank/final >&2 || fail "stops-$rank: final/ differs"
done

# refused PATTERN COMMAND...: all ranks end, and rank 0 says why.
refused() {
    local pattern=$1
    shift
    ! "$@" >log 2>&1 || fail "not refused: $*"
    grep -q "^cohort: $pattern" log || { cat log >&2; fail "no '$pattern'"; }
}
# What only one rank finds out: other data under the same name.
cat >other.sh <<'R'
[ "$OMPI_COMM_WORLD_RANK" = 0 ] || cd other
exec "$@"
R
mkdir other
cp -r model other/model
head -n 4 data.jsonl >other/data.jsonl
cp reward.py other/
refused 'rank 1 (.*) and rank 0 (.*) are not of one run' "${MPIRUN[@]}" -n 2 sh other.sh "$COHORT" "${GRPO[@]}" --device cpu --out "$work/other-run"
refused 'whole: already holds a run' job 2 "${GRPO[@]}" --out whole
refused 'cohort logprobs runs as one process' job 2 logprobs --model model --batch data.jsonl
refused '--gradient-lanes 3: expected a power of two' job 2 "${GRPO[@]}" --out lanes --gradient-lanes 3
refused '.*whole/checkpoints/step-4 was made with .gradient_lanes: 2.' "$COHORT" "${GRPO[@]}" --device cpu --out whole --resume --gradient-lanes 1
# Launchers: srun's variables, and torchrun's, of whom ranks exchange between GPUs.
refused 'whoever started this process speaks of 3 ranks, MPI of 1' env SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_NTASKS=3 "$COHORT" "${GRPO[@]}" --device cpu --out srun
refused 'WORLD_SIZE says that this process is one of 2 ranks, and MASTER_ADDR is not set' env RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 "$COHORT" "${GRPO[@]}" --device cpu --out torch
refused 'cohort_ranks_join: rank 2 of 2' env RANK=2 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 "$COHORT" "${GRPO[@]}" --device cpu --out torch
env SLURM_PROCID=0 SLURM_NTASKS=3 "$COHORT" "${GRPO[@]}" --device cpu --steps 1 --out batch >log 2>&1 || { cat log >&2; fail "a batch script is no rank"; }
echo "ranks that fail end the run"

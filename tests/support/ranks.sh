# shellcheck shell=bash
# Runs of several ranks over MPI; sourced after exact.sh or shell.sh. Without mpirun, or in a build without MPI, the test is left out.
command -v mpirun >/dev/null || { echo "no mpirun here: left out"; exit 77; }
# Open MPI keeps memory until the process ends, and its threads synchronise by means that the thread sanitizer does not know: what it does
# itself is not looked at.
export ASAN_OPTIONS=detect_leaks=0${ASAN_OPTIONS:+:$ASAN_OPTIONS} TSAN_OPTIONS=ignore_noninstrumented_modules=1${TSAN_OPTIONS:+:$TSAN_OPTIONS}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# One host, however few cores it has; no network is looked for.
MPIRUN=(mpirun --oversubscribe --bind-to none --mca btl "self,vader")

# job RANKS COMMAND OPTIONS...: the program on so many ranks.
job() {
    local n=$1
    shift
    "${MPIRUN[@]}" -n "$n" "$COHORT" "$@" --device cpu --threads 1
}
# What mpirun says of ranks that this build cannot have.
job 2 info >ranks.out 2>&1 || ! grep -q 'has no MPI' ranks.out || { echo "a build without MPI: left out"; exit 77; }

# With exact.sh:
# run NAME RANKS COMMAND OPTIONS...: a run on so many ranks, 0: without mpirun.
run() {
    local name=$1 n=$2
    shift 2
    if [ "$n" = 0 ]; then
        "$COHORT" "$@" --device cpu --threads 1 --out "$name" >"$name.log" 2>&1 || { cat "$name.log" >&2; fail "$name"; }
    else
        job "$n" "$@" --rank-timeout 60 --out "$name" >"$name.log" 2>&1 || { cat "$name.log" >&2; fail "$name"; }
    fi
}
# same_run A B: all that a run leaves, but for what tells of the machine.
same_run() {
    local step
    diff -r "$1/final" "$2/final" >&2 || fail "$2: final/ differs from that of $1"
    for step in "$1"/checkpoints/step-*; do same_checkpoint "$step" "$2/checkpoints/${step##*/}" "$2"; done
    numbers "$1" >a
    numbers "$2" >b
    same a b "$2, metrics"
    records "$1" >a
    records "$2" >b
    same a b "$2, records"
}
# on_ranks NAME RANKS COMMAND OPTIONS...: the run on one process and on so many ranks.
on_ranks() {
    local name=$1 n=$2
    shift 2
    run "$name-1" 0 "$@"
    run "$name-$n" "$n" "$@"
    same_run "$name-1" "$name-$n"
}
# goes_on NAME RANKS COMMAND: the run NAME, from its checkpoint of step 2 on so many ranks, is what it was.
goes_on() {
    cp -r "$1" resumed
    rm -r resumed/checkpoints/step-3 resumed/final
    run resumed "$2" "$3" --resume
    same_run "$1" resumed
    rm -r resumed
}

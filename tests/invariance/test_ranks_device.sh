#!/usr/bin/env bash
# Ranks with a GPU each (docs/RANKS.md), on the emulation of CUDA and with a stand-in for NCCL: memory of GPUs crosses as it is, or, where
# it cannot, through the host's, with the same bits as on one rank. A rank that hangs or fails in such an exchange ends the run.
. "$SOURCE/tests/support/exact.sh"
cd "$work"
. "$SOURCE/tests/support/ranks.sh"
EMULATED=$BUILD/tests/cohort_emulated
[ -x "$EMULATED" ] || { echo "no emulation of CUDA in this build: left out"; exit 77; }
COHORT=$EMULATED DEVICE=cuda
export CUDA_EMULATION_DEVICES=2 LD_LIBRARY_PATH=$BUILD/tests/nccl TMPDIR=$work OMPI_MCA_orte_tmpdir_base=/tmp
make_model model

for i in 1 2 3 4 5 6; do
    printf '{"prompt": "question %d is%s", "completion": " it is %d"}\n' $i "$(printf "%$((3 * i))s")" $i
done >sft.jsonl
sed 's/, "completion".*/}/' sft.jsonl >grpo.jsonl

# ranks N NAME OPTIONS...: a run on so many ranks, each with a GPU of its own
ranks() {
    local n=$1 name=$2
    shift 2
    "${MPIRUN[@]}" -n "$n" "${BEFORE[@]}" "$COHORT" "$@" --rank-timeout 20 --out "$name" >"$name.log" 2>&1 || { cat "$name.log" >&2; fail "$name"; }
}
BEFORE=(env)
# same_end A B: the same weights, the same state of the optimizer
same_end() {
    diff -r "$1/final" "$2/final" >&2 || fail "$2: final/ differs from that of $1"
    [ ! -d "$1/checkpoints" ] || same_checkpoint "$1"/checkpoints/step-2 "$2"/checkpoints/step-2 "$2"
}
SFT=(sft --model model --data sft.jsonl --steps 2 --batch-size 3 --micro-batch-tokens 40 --learning-rate 1e-2 --gradient-lanes 4)
cohort "${SFT[@]}" --out s1
ranks 2 s2 "${SFT[@]}" --device cuda
! grep -q "through the host" s2.log || { cat s2.log >&2; fail "two GPUs exchange through the host"; }
same_end s1 s2
ranks 3 s3 "${SFT[@]}" --device cuda:0 # of each process another one, here
! grep -q "through the host" s3.log || fail "three GPUs exchange through the host"
same_end s1 s3
BEFORE=(env CUDA_EMULATION_BUS=0)
ranks 2 s-shared "${SFT[@]}" --device cuda:0
grep -q "^memory of GPUs goes through the host's between ranks: ranks 0 and 1 share a GPU" s-shared.log || { cat s-shared.log >&2; fail "a shared GPU"; }
same_end s1 s-shared
BEFORE=(env)
# A gradient that lies on the host crosses there.
ranks 2 s-offload "${SFT[@]}" --device cuda --offload gradients
same_end s1 s-offload
GRPO=(grpo --model model --data grpo.jsonl --reward regex --reward-pattern '[a-e]' --prompts-per-step 2 --num-generations 3 --max-completion-length 5
    --micro-batch-tokens 90 --learning-rate 3e-3 --seed 5 --steps 2 --gradient-lanes 2)
cohort "${GRPO[@]}" --out g1
ranks 2 g2 "${GRPO[@]}" --device cuda
same_end g1 g2
[ -z "$(ls -d nccl-emulated-* 2>/dev/null)" ] || fail "messages between GPUs were left: $(ls -d nccl-emulated-*/*)"

# A rank that hangs in such an exchange, and one of which NCCL says that it fails: all end, and one says why.
cat >only-1.sh <<'R'
[ "$OMPI_COMM_WORLD_RANK" = 1 ] || unset NCCL_EMULATION
exec "$@"
R
ends() { # ends WHAT PATTERN
    ! NCCL_EMULATION=$1 "${MPIRUN[@]}" -n 2 sh only-1.sh "$COHORT" "${SFT[@]}" --device cuda --rank-timeout 2 --out "f-$1" >log 2>&1 || fail "$1: it went on"
    grep -q "$2" log || { cat log >&2; fail "$1: no '$2'"; }
}
ends hangs:2 'cohort: rank 1 of 2 (.*) has not answered for 2 s (--rank-timeout)'
ends fails:2 'cohort: rank 1 of 2 (.*): NCCL, an exchange: emulated error'

# Without MPI, by torchrun's variables. Every message crosses by NCCL, also of what the host has; a line of each rank to rank 0 says who fails.
port=$((20000 + $$ % 20000))
# torch NAME OPTIONS...: starts two ranks, whose processes are in started then; log.0 and log.1 are what they say. SECOND: what befalls the second.
SECOND=
torch() {
    local name=$1 rank
    shift
    started=()
    port=$((port + 2))
    for rank in 0 1; do
        "${BEFORE[@]}" NCCL_EMULATION="$([ $rank = 0 ] || echo "$SECOND")" RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
            "$COHORT" "$@" --out "$name" >"log.$rank" 2>&1 &
        started+=($!)
    done
}
ended() { # ended NAME: both have, and well
    local process
    for process in "${started[@]}"; do wait "$process" || { cat log.0 log.1 >&2; fail "$1"; }; done
}
BEFORE=(env)
torch t2 "${GRPO[@]}" --device cuda --rank-timeout 20
ended t2
same_end g1 t2
torch t-sft "${SFT[@]}" --rank-timeout 20
ended t-sft
same_end s1 t-sft
fails_so() { # fails_so WHAT RANK PATTERN: rank ends with an error that says so, and the other ends too
    local process codes=()
    for process in "${started[@]}"; do wait "$process" && codes+=(0) || codes+=($?); done
    [[ ${codes[0]} != 0 && ${codes[1]} != 0 ]] || [ "$1" = "as it hangs" ] || fail "$1: exit codes ${codes[*]}"
    grep -q "$3" "log.$2" || { cat log.0 log.1 >&2; fail "$1: rank $2 does not say '$3'"; }
}
SECOND=fails:9
torch t-fails "${SFT[@]}" --rank-timeout 20
fails_so "a failure of NCCL" 0 '^cohort: rank 1 of 2 (.*): NCCL, an exchange: emulated error'
SECOND=hangs:9
torch t-hangs "${SFT[@]}" --rank-timeout 2
wait "${started[0]}" && fail "a rank that hangs: the other goes on"
grep -q '^cohort: rank 1 of 2 (.*) has not answered for 2 s (--rank-timeout)' log.0 || { cat log.0 >&2; fail "a rank that hangs is not named"; }
kill -KILL "${started[1]}"
SECOND=
torch t-dies "${SFT[@]}" --steps 1000 --rank-timeout 60
for _ in $(seq 500); do grep -qs '"step": *2' t-dies/metrics.jsonl && break; sleep 0.05; done
kill -KILL "${started[1]}"
wait "${started[0]}" && fail "a rank that dies: the other goes on"
grep -q '^cohort: .*rank 1 of 2 (.*) has ended: its connection is closed' log.0 || { cat log.0 >&2; fail "a rank that dies is not named"; }
# Without a GPU of its own for each, and to compute elsewhere.
BEFORE=(env CUDA_EMULATION_BUS=0)
torch t-shared "${SFT[@]}"
fails_so "a shared GPU" 1 'cannot: ranks 0 and 1 share a GPU'
BEFORE=(env)
torch t-cpu "${SFT[@]}" --device cpu --rank-timeout 20
fails_so "a CPU" 0 'rank 0 exchanges with others through GPU 0 (LOCAL_RANK) and is to compute on a CPU'
echo "GPUs exchange among ranks, and the bits are those of one"

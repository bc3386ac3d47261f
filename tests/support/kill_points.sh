# Runs that are killed (SIGKILL) at drawn points, again and again, and then go on to their end, which must be that of the run that was never
# killed: weights, optimizer, metrics, and every table of run.db but events and what is said of the run and its starts (I6). Sourced.
#
#   kill_points SEED POINTS KIND...   so many kills in runs of each KIND in turn; then print_points
#
# A point is drawn among:
#   a moment             over the run's whole time
#   a phase of a step    rollout, reward, train, update, evaluate: at a call of the observer or some microseconds after it
#   a reward program     which kills its parent at a row
#   a call on files      of each class that class_of names; a write is cut in the middle
# In every second run old checkpoints are removed (--save-total-limit). After each kill every checkpoint that has its name is whole and
# that of the undisturbed run.
# shellcheck source=exact.sh
. "$SOURCE/tests/support/exact.sh"
# shellcheck source=resume.sh
. "$SOURCE/tests/support/resume.sh"

STEPS=12
declare -A POINTS_OF=() # by where the kill was: how many
CHAINS=0 KILLS=0

# kill_arguments KIND: as arguments, of runs that are small, save often and have something of everything.
kill_arguments() {
    case $1 in
    sft) arguments sft ;;
    lora)
        arguments grpo
        args+=(--use-peft --lora-r 4 --lora-target-modules all-linear)
        ;;
    exec)
        arguments grpo-tokens
        args+=(--reward 'exec:bash dies.sh')
        args+=(--reward-weights 1)
        ;;
    *) arguments "$1" ;;
    esac
    args+=(--steps "$STEPS" --save-steps 2 --eval-steps 4 --threads 1)
}

prepare_kills() {
    make_model "$work/model"
    make_data
    cd "$work" || exit
    # A reward by the length of the row, whose program kills what started it at row $REWARD_KILL_AT.
    cat >dies.sh <<'END'
n=0
while read -r row; do
    [ "$((n += 1))" != "${REWARD_KILL_AT:-0}" ] || kill -9 "$KILL_PID"
    echo "$((${#row} % 3)).5"
done
END
    "${CC:-cc}" -std=c11 -D_GNU_SOURCE -I"$SOURCE/cli" -I"$SOURCE/include" "$SOURCE/tests/support/programs/kill_run.c" "$SOURCE/cli/arguments.c" \
        -o kill_run -L"$BUILD" -lcohort -Wl,-rpath,"$BUILD" -lpthread
}

# class_of <records of disk_shim, or their KILL lines: the class of each, a line each.
class_of() {
    awk -F '[ \t]' '{
        call = $1 == "KILL" ? $5 : $1; path = $NF
        if (path ~ /^run\.db/) class = call ~ /sync/ ? "run.db, sync" : "run.db, write"
        else if (path ~ /^(metrics|completions)\.jsonl$/ && call == "write") class = "a line of metrics.jsonl or completions.jsonl"
        else if (call ~ /^(unlink|rmdir)$/) class = "save, clearing away"
        else if (call == "rename" && path ~ /\/step-[0-9]+$/ && path ~ /\.cohort-/) class = "save, an old checkpoint removed"
        else if (call ~ /^(rename|exchange)$/ && path ~ /(^final|^checkpoints\/step-[0-9]+)$/) class = "save, rename"
        else if (path ~ /\.cohort-[0-9a-f]+\/new\//) {
            class = call ~ /sync/ ? "save, sync" : path ~ /\/trainer/ ? "save, state of the trainer" : \
                path ~ /model[^\/]*\.safetensors$/ ? "save, weights" : "save, config, tokenizer, manifest"
        } else if (path ~ /^checkpoints/) class = call ~ /sync/ ? "save, sync" : "save, its folder"
        else class = "config, lock, curve, samples of evaluations"
        print class
    }'
}

# pick FILE: one of its lines.
pick() { sed -n "$((RANDOM % $(wc -l <"$1") + 1))p" "$1"; }

# The undisturbed run of a kind, what it calls, and how long it takes.
kill_reference() {
    local kind=$1 limit start
    for limit in "" limited; do
        kill_arguments "$kind"
        [ -z "$limit" ] || args+=(--save-total-limit 2)
        start=$(date +%s%N)
        cohort "${args[@]}" --out "$kind-whole$limit"
        echo $((($(date +%s%N) - start) / 1000)) >"$kind.us"
    done
    # What there is to be killed in: of the run with a limit.
    KILL_COUNT="$work/$kind.phases" ./kill_run "${args[@]}" --device "$DEVICE" --out "$kind-counted" 2>/dev/null
    LD_PRELOAD=$DISK_SHIM DISK_UNDER="$work/$kind-logged" DISK_LOG="$work/$kind.log" "$COHORT" "${args[@]}" --device "$DEVICE" \
        --out "$work/$kind-logged" 2>/dev/null
    class_of <"$kind.log" >"$kind.classes"
    awk -F '[ \t]' '{ gsub(/\.cohort-[0-9a-f]+/, ".cohort-*"); print $1, $NF }' "$kind.log" >"$kind.calls"
    sort -u "$kind.classes" >"$kind.names"
    same_end "$kind-wholelimited" "$kind-counted" "$kind, through the library"
    same_end "$kind-wholelimited" "$kind-logged" "$kind, with its calls written down"
    rm -rf "$kind-counted" "$kind-logged"
}

# run_killed KIND WAY RUN: starts the run (again) and kills it that way; sets $where, empty if the run ended before.
run_killed() {
    local kind=$1 way=$2 run=$3 code=0 us phase calls class line call
    local again=("${args[@]}" --device "$DEVICE" --out "$work/$run" --resume latest)
    where=
    rm -f kill.log
    case $way in
    time)
        us=$(($(cat "$kind.us") * (RANDOM % 1000) / 1000))
        "$COHORT" "${again[@]}" 2>kill.err &
        sleep "$(printf '%d.%06d' $((us / 1000000)) $((us % 1000000)))"
        kill -9 $! 2>/dev/null || true
        where='any moment'
        ;;
    phase)
        read -r phase calls <<<"$(pick "$kind.phases")"
        KILL_PHASE=$phase KILL_AT=$((RANDOM % calls + 1)) KILL_AFTER_US=$((RANDOM % 2 * (RANDOM % 1500))) ./kill_run "${again[@]}" 2>kill.err &
        where="a step, $phase"
        ;;
    program)
        REWARD_KILL_AT=$((RANDOM % 40 + 1)) ./kill_run "${again[@]}" 2>kill.err &
        where='a reward program, at a row'
        ;;
    call)
        class=$(pick "$kind.names")
        grep -nxF "$class" "$kind.classes" | cut -d: -f1 >lines
        line=$(pick lines) # that call, of all with its name and path
        call=$(sed -n "${line}p" "$kind.calls")
        LD_PRELOAD=$DISK_SHIM DISK_UNDER="$work/$run" DISK_LOG="$work/kill.log" DISK_KILL_OF=$call \
            DISK_KILL_AT=$(head -n "$line" "$kind.calls" | grep -cxF "$call") "$COHORT" "${again[@]}" 2>kill.err &
        ;;
    esac
    wait $! 2>/dev/null || code=$?
    [ $way != call ] || [ $code != 137 ] || where=$(tail -n 1 kill.log | class_of)
    [ $code = 137 ] || [ $code = 0 ] || { cat kill.err >&2; fail "$run, killed by $way: exit code $code"; }
    [ $code = 137 ] || where=
}

# Kills one run up to three times and lets it end.
kill_chain() {
    local kind=$1 run=$2 most=$3 limit= n=0 way checkpoint
    kill_arguments "$kind"
    ((CHAINS % 2)) || { limit=limited; args+=(--save-total-limit 2); }
    local whole="$kind-whole$limit" story=
    while [ $n -lt "$most" ]; do
        local ways=(time phase call call)
        [ "$kind" != exec ] || ways+=(program)
        way=${ways[RANDOM % ${#ways[@]}]}
        run_killed "$kind" "$way" "$run"
        n=$((n + 1))
        [ -n "$where" ] || break
        story+=" | $where"
        KILLS=$((KILLS + 1))
        POINTS_OF[$where]=$((${POINTS_OF[$where]:-0} + 1))
        for checkpoint in "$run"/checkpoints/step-*; do
            [ -d "$checkpoint" ] || continue
            cohort info --verify --model "$checkpoint" >/dev/null
            same_checkpoint "$kind-whole/checkpoints/${checkpoint##*/}" "$checkpoint" "$run, killed$story"
        done
    done
    cohort "${args[@]}" --out "$run" --resume latest
    checkpoint=$(find "$run" -name '.cohort-*' -o -name '*.tmp*')
    [ -z "$checkpoint" ] || fail "$run, killed$story: left behind: $checkpoint"
    same_end "$whole" "$run" "$run, killed$story"
    rm -rf "$run"
    CHAINS=$((CHAINS + 1))
}

kill_points() {
    local seed=$1 points=$2 kind kinds trial=0
    shift 2
    RANDOM=$seed
    kinds=("$@")
    for kind in "${kinds[@]}"; do kill_reference "$kind"; done
    while [ $KILLS -lt "$points" ]; do
        kill_chain "${kinds[trial % ${#kinds[@]}]}" "run-$trial" $((RANDOM % 3 + 1))
        trial=$((trial + 1))
    done
}

print_points() {
    printf '%-48s %6s\n' 'killed in' points
    for where in "${!POINTS_OF[@]}"; do printf '%-48s %6d\n' "$where" "${POINTS_OF[$where]}"; done | sort
    printf '%-48s %6d   in %d runs, differences: 0\n' all $KILLS $CHAINS
}

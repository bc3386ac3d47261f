# The power goes while a run writes: every folder that the disk may then hold (power_cut.py) has whole checkpoints, among them the last that
# was said to be saved, and the run that is resumed there comes to the same end. Sourced.
#
#   power_cuts SEED STATES KIND...   so many different folders of runs of each KIND; prints how many
#
# shellcheck source=kill_points.sh
. "$SOURCE/tests/support/kill_points.sh"

# A run of a kind with all that it does to its disk, from the folder's making on.
cut_reference() {
    local kind=$1
    kill_arguments "$kind"
    args+=(--save-total-limit 2)
    cohort "${args[@]}" --out "$kind-whole"
    mkdir "$kind-disk"
    LD_PRELOAD=$DISK_SHIM DISK_UNDER="$work/$kind-disk" DISK_LOG="$work/$kind.log" DISK_DATA=1 "$COHORT" "${args[@]}" --device "$DEVICE" \
        --out "$work/$kind-disk/run" 2>/dev/null
    same_end "$kind-whole" "$kind-disk/run" "$kind, with its calls written down"
    rm -rf "$kind-disk"
}

# check_state RUN WHOLE SAID WHAT
check_state() {
    local run=$1 whole=$2 said=$3 what=$4 checkpoint newest=0 step
    for checkpoint in "$run"/checkpoints/step-*; do
        [ -d "$checkpoint" ] || continue
        "$COHORT" info --verify --model "$checkpoint" >/dev/null 2>cut.err || { cat cut.err >&2; fail "$what: $checkpoint is not whole"; }
        step=${checkpoint##*-}
        [ "$step" -le "$newest" ] || newest=$step
    done
    [ "$newest" -ge "$said" ] || fail "$what: the newest checkpoint is of step $newest, and that of $said was said to be saved"
    "$COHORT" "${args[@]}" --device "$DEVICE" --out "$run" --resume latest 2>cut.err || { cat cut.err >&2; fail "$what: cannot go on"; }
    [ "$newest" = 0 ] || grep -q "^resuming from .*step-$newest:" cut.err || { cat cut.err >&2; fail "$what: did not go on from step $newest"; }
    same_end "$whole" "$run" "$what"
}

power_cuts() {
    local seed=$1 states=$2 kind tree said cut variant variants=(lost names bytes some some kept) total=0
    shift 2
    for kind in "$@"; do
        cut_reference "$kind"
        local found=0 tried=0 count most
        local -A seen=()
        coproc MODEL { python3 -I -S "$SOURCE/tests/support/power_cut.py" "$kind.log"; }
        echo count >&"${MODEL[1]}"
        read -r count <&"${MODEL[0]}"
        # Spread over the whole run: a draw in each of as many parts as there are states to find.
        most=$((states * 3))
        RANDOM=$seed
        while [ $found -lt "$states" ] && [ $tried -lt $most ]; do
            cut=$(((tried % states * count + (RANDOM * 32768 + RANDOM) % count) / states + 1))
            variant=${variants[RANDOM % ${#variants[@]}]}
            tried=$((tried + 1))
            rm -rf state
            echo "$cut $variant $tried state" >&"${MODEL[1]}"
            read -r tree said <&"${MODEL[0]}"
            [ -z "${seen[$tree]:-}" ] || continue
            seen[$tree]=1
            found=$((found + 1))
            check_state state/run "$kind-whole" "$said" "$kind, power gone after $cut of $count calls, of what was not synced: $variant (seed $tried)"
        done
        eval "exec ${MODEL[1]}>&-"
        wait "$MODEL_PID" 2>/dev/null || true
        printf '%-10s %5d calls that change something or sync, %4d folders that a power cut may leave: each goes on to the same end\n' "$kind" "$count" "$found"
        total=$((total + found))
    done
    echo "$total folders, differences: 0"
}

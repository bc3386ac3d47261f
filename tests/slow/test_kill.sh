#!/usr/bin/env bash
# kill -9 at random moments, in saves and, with a limit, in the removal of old checkpoints too: every checkpoint in the folder is whole,
# what is left over does no harm, and the resumed run ends as the run that was never killed, to the byte (I6).
. "$SOURCE/tests/support/exact.sh"
. "$SOURCE/tests/support/resume.sh"
make_model "$work/model"
make_data
cd "$work"
RANDOM=7

for kind in sft grpo grpo-kl; do
    arguments $kind
    args+=(--steps 40 --save-steps 2 --eval-steps 10 --threads 1)
    start=$(date +%s%N)
    cohort "${args[@]}" --out "$kind-whole"
    took=$((($(date +%s%N) - start) / 1000000))
    cohort "${args[@]}" --save-total-limit 2 --out "$kind-limited"
    for trial in 1 2 3 4 5 6; do
        run="$kind-$trial"
        limit=()
        end="$kind-whole"
        [ $((trial % 2)) = 0 ] || { limit=(--save-total-limit 2); end="$kind-limited"; }
        killed=0
        leftovers=0
        for attempt in 1 2 3; do
            # As a job script does: the same command whether there is a checkpoint yet, a run that began, or nothing.
            "$COHORT" "${args[@]}" "${limit[@]}" --device "$DEVICE" --out "$run" --resume latest 2>kill.log &
            pid=$!
            moment=$((took * (RANDOM % 80) / 100)) # ms
            sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
            kill -9 $pid 2>/dev/null || true
            code=0
            wait $pid 2>/dev/null || code=$?
            [ $code = 137 ] || [ $code = 0 ] || { cat kill.log >&2; fail "$run: exit code $code"; }
            [ $code = 0 ] || killed=$((killed + 1))
            [ -d "$run/checkpoints" ] || continue
            for checkpoint in "$run"/checkpoints/step-*; do
                [ ! -d "$checkpoint" ] || cohort info --verify --model "$checkpoint" >/dev/null
                [ ! -d "$checkpoint" ] || same_checkpoint "$kind-whole/checkpoints/${checkpoint##*/}" "$checkpoint" "$run, killed"
            done
            leftovers=$((leftovers + $(find "$run" -name '.cohort-*' | wc -l)))
            [ $code != 0 ] || break
        done
        if [ -d "$run/checkpoints" ] && [ -n "$(ls "$run/checkpoints")" ]; then
            [ -d "$run/final" ] && rm -rf "$run/final"
        fi
        cohort "${args[@]}" "${limit[@]}" --out "$run" --resume latest
        [ -z "$(find "$run" \( -name '.cohort-*' -o -name '*.tmp*' \))" ] || fail "$run: left behind: $(find "$run" -name '.cohort-*' -o -name '*.tmp*')"
        same_end "$end" "$run" "$run, killed $killed times"
        echo "$run: killed $killed times, $leftovers temporaries seen"
        rm -rf "$run"
    done
done

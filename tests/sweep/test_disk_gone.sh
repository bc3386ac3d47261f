# The disk is full, or read-only, from some call of a run on, and stays so: the run ends and says why and what to do, its checkpoints are
# whole, and once there is room again it goes on to the end of the run that was not disturbed.
# shellcheck source=../support/exact.sh
. "$SOURCE/tests/support/exact.sh"
# shellcheck source=../support/resume.sh
. "$SOURCE/tests/support/resume.sh"
make_model "$work/model"
make_data
cd "$work" || exit
said=0
for kind in sft grpo; do
    arguments $kind
    args+=(--steps 8 --save-steps 2 --eval-steps 4 --threads 1)
    cohort "${args[@]}" --out $kind-whole >/dev/null
    for how in full frozen; do
        LD_PRELOAD=$SHIM FAIL_KIND=$how FAIL_UNDER="$work/counted" FAIL_COUNT="$work/count" "$COHORT" "${args[@]}" --device "$DEVICE" \
            --out "$work/counted" >/dev/null 2>&1
        rm -rf counted
        count=$(cat count)
        [ "$count" -gt 100 ] || fail "$how: the preloaded library saw $count calls"
        for part in ${PARTS:-3 20 37 55 71 88 99}; do
            run=$kind-$how-$part
            k=$((count * part / 100))
            code=0
            LD_PRELOAD=$SHIM FAIL_KIND=$how FAIL_UNDER="$work/$run" FAIL_AT=$k "$COHORT" "${args[@]}" --device "$DEVICE" --out "$work/$run" \
                >/dev/null 2>err || code=$?
            [ $code -le 1 ] || { tail -n 3 err >&2; fail "$run: exit code $code"; }
            if [ $code = 1 ]; then
                said=$((said + 1))
                grep -qE '^cohort: ' err || fail "$run: no message"
                grep -qE "$([ $how = full ] && echo 'No space left on device|disk is full' || echo 'Read-only file system|readonly')" err ||
                    { cat err >&2; fail "$run: no word of why"; }
                grep -qE "$([ $how = full ] && echo 'free some space' || echo 'writable')" err || { cat err >&2; fail "$run: no word of what to do"; }
            fi
            for checkpoint in "$run"/checkpoints/step-*; do
                [ ! -d "$checkpoint" ] || cohort info --verify --model "$checkpoint" >/dev/null
            done
            cohort "${args[@]}" --out "$run" --resume latest >/dev/null
            same_end $kind-whole "$run" "$run, from call $k of $count on"
            rm -rf "$run"
        done
    done
done
echo "$said runs ended with a message"

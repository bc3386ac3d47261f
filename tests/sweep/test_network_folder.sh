# Over a network a write-ahead log is not safe: run.db is written with another journal, which the run says once, and is as whole.
# shellcheck source=../support/exact.sh
. "$SOURCE/tests/support/exact.sh"
# shellcheck source=../support/resume.sh
. "$SOURCE/tests/support/resume.sh"
make_model "$work/model"
make_data
cd "$work" || exit
arguments grpo
args+=(--steps 8 --save-steps 2 --eval-steps 4 --threads 1)
cohort "${args[@]}" --out whole >/dev/null
remote() { LD_PRELOAD=$SHIM FAIL_KIND=network "$COHORT" "${args[@]}" --device "$DEVICE" --out far "$@" >/dev/null 2>err || { cat err >&2; fail "over a network: $*"; }; }
# journal: that of the file, 1 a rollback journal, 2 a write-ahead log
journal() { od -An -tu1 -j 18 -N 1 "$1/run.db" | tr -d ' '; }
[ "$(journal whole)" = 2 ] || fail "here there is no write-ahead log"
remote --steps 4
[ "$(grep -c 'over a network it would be unsafe' err)" = 1 ] || { cat err >&2; fail 'it is not said once'; }
[ "$(journal far)" = 1 ] || fail 'there is a write-ahead log'
[ ! -e far/run.db-wal ] || fail 'there is a log'
remote --steps 8 --resume latest
same_end whole far 'over a network'
# A run that goes on elsewhere takes the log that is safe there, and back.
cohort "${args[@]}" --steps 4 --out moved >/dev/null
mv moved far-2
LD_PRELOAD=$SHIM FAIL_KIND=network "$COHORT" "${args[@]}" --device "$DEVICE" --out far-2 --resume latest >/dev/null 2>err
[ "$(journal far-2)" = 1 ] || fail 'it went on with a write-ahead log'
same_end whole far-2 'begun here, and gone on with over a network'

# run.db where it cannot be written: no room, somebody else's lock, a damaged file. The run says what to do, keeps its checkpoint, and the run
# that goes on has everything.
. "$SOURCE/tests/support/exact.sh"
. "$SOURCE/tests/support/resume.sh"
make_model "$work/model"
make_data
cd "$work"
arguments grpo
args+=(--eval-steps 10 --save-steps 10 --threads 1)
said() { grep -qE "$1" "$work/said" || { cat "$work/said" >&2; fail "no message with '$1'"; }; }

cohort "${args[@]}" --steps 60 --out whole

# --- no room for run.db's log: files may not be larger than a checkpoint's ---
largest=$(find whole/checkpoints -type f -printf '%k\n' | sort -n | tail -n 1)
if (ulimit -f $((largest + 200)); "$COHORT" "${args[@]}" --device "$DEVICE" --steps 60 --out full) 2>said; then fail 'the run without room succeeded'; fi
said 'run\.db: cannot write'
said 'kept for the next checkpoint'
newest=$(ls full/checkpoints | sort -t- -k2 -n | tail -n 1)
cohort info --verify --model "full/checkpoints/$newest" >/dev/null
[ -f "full/checkpoints/$newest/trainer/unwritten.db" ] || fail "$newest carries no rows"
cohort "${args[@]}" --steps 60 --out full --resume latest
rm -rf "full/checkpoints/$newest" # it is not one of the undisturbed run
records whole >a
records full >b
same a b 'run.db after it had no room'

# --- locked by another program, to the end ---
cohort "${args[@]}" --steps 10 --out locked
python3 - locked/run.db <<'END' &
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN IMMEDIATE")
open("holds", "w").close()
time.sleep(100)
END
holder=$!
while [ ! -f holds ]; do sleep 0.05; done
"$COHORT" "${args[@]}" --device "$DEVICE" --steps 20 --out locked --resume latest 2>said && fail 'the run began although run.db was locked'
said 'run\.db: .*another program has it locked'
kill $holder
wait $holder 2>/dev/null || true
cohort "${args[@]}" --steps 60 --out locked --resume latest
records locked >b
same a b 'run.db after it was locked'

# --- damaged: it is set aside, and the steps come back from metrics.jsonl ---
cohort "${args[@]}" --steps 20 --out damaged
dd if=/dev/urandom of=damaged/run.db bs=1000 seek=20 count=60 conv=notrunc 2>/dev/null
"$COHORT" "${args[@]}" --device "$DEVICE" --steps 60 --out damaged --resume latest 2>said || { cat said >&2; fail 'the run with a damaged run.db'; }
said 'warning: .*damaged.*run\.db\.broken-'
[ -n "$(ls damaged/run.db.broken-*)" ] || fail 'the damaged file is gone'
# metrics.jsonl has nine digits.
steps() { records "$1" | grep -E '^(step|metric|check)'; }
# near A B WHAT: the same lines, whose last fields are equal to nine digits where they are numbers.
near() {
    [ "$(wc -l <"$1")" = "$(wc -l <"$2")" ] || fail "$3: another number of lines"
    paste "$1" "$2" | awk -F'\t' '{ n = NF / 2; for (i = 1; i < n; i++) if ($i != $(i + n)) exit 1
        d = $n - $NF; m = $n; if ($n != $NF && (d < 0 ? -d : d) > 6e-9 * (m < 0 ? -m : m)) exit 1 }' || fail "$3"
}
steps whole >c
steps damaged >d
near c d 'steps of a run whose run.db was damaged'

# --- a run of an earlier version has none ---
cohort "${args[@]}" --steps 20 --out old
rm -f old/run.db*
"$COHORT" "${args[@]}" --device "$DEVICE" --steps 60 --out old --resume latest 2>said || { cat said >&2; fail 'a run without run.db'; }
said 'lacked .* steps up to 20'
steps old >d
near c d 'steps of a run without run.db'

# What a person sees of a run, in tmux: lines of steps in columns that can be read down, as many as 60, 80 and 132 columns hold; no row wider than
# the screen, none cut, none left over from a live line after resizing; words whole; and in a pipe neither colours nor carriage returns.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in $(seq 1 16); do echo "{\"prompt\": \"question number $i\", \"answer\": \"$i\", \"completion\": \" $i\"}"; done >d.jsonl
cat >r.py <<'P'
import time
def a_reward_with_a_name(completions, **kw):
    time.sleep(0.005)
    return [len(c) % 7 / 7 for c in completions]
def form(completions, **kw):
    return [float(c[:1].isalpha()) for c in completions]
P
TRAIN=("$COHORT" grpo --model m --data d.jsonl --eval-data d.jsonl --eval-limit 4 --eval-steps 5
    --num-generations 4 --prompts-per-step 4 --max-completion-length 12 --steps 45 --threads 1 --device cpu --save-steps 0 --beta 0.01)
GRPO=("${TRAIN[@]}" --reward "python:r.py:a_reward_with_a_name,python:r.py:form")

# --- a pipe: one line a step, the same columns in each, no controls ---
"${GRPO[@]}" --out piped 2>err </dev/null | cat >out
lacks out $'\r|\x1b'
lacks err $'\r|\x1b'
is "$(grep -c "^step " out)" 45 "lines of steps"
is "$(grep -vc '^step ' out)" 1 "headers in a pipe"
for name in reward a_reward_with_a_name form left eval length kl cut 'no spread' entropy; do has out "^ .*$name"; done
is "$(grep '^step ' out | awk '{ print length }' | sort -u | wc -l)" 1 "widths of lines"
# Numbers end under the end of their names.
awk 'NR == 1 { n = index($0, "reward") + 5 } NR > 1 && substr($0, n + 1, 1) != " " { print }' out >crooked
is "$(cat crooked)" "" "lines whose reward does not end under its name"
# The reader of a pipe that goes ends printing, not training.
"${GRPO[@]}" --out headed 2>err </dev/null | head -n 1 >out
[ -e headed/final/model.safetensors ] || wrong "cohort | head -1: training did not end: $(tail -n 2 err)"
# JSON lines: those of metrics.jsonl, and warnings.
succeeds "${TRAIN[@]}" --out json --log-format jsonl --steps 12 --reward 'exec:while IFS= read -r l; do echo 1; done'
is "$(grep -v '"event"' out | sed 's/, "time.*//')" "$(grep '"grad_norm"' json/metrics.jsonl | sed 's/, "time.*//')" "lines of --log-format jsonl"
has out '^\{"event": "warning", "step": 10, "rule": "C1", .*"usually": '
# A minute without a line is not tested; nothing is said sooner.
lacks err '^step [0-9]+: rollout'

if ! command -v tmux >/dev/null; then
    echo "no tmux here: the terminal is not tested"
    done_testing
    exit
fi
export TMUX_TMPDIR=$SCRATCH
unset TMUX CI
trap 'tmux -L screen kill-server 2>/dev/null; rm -rf "$SCRATCH"' EXIT
tmux -L screen -f /dev/null new-session -d -s other # a server that loses its last session ends, maybe while the next one begins
# session COLUMNS COMMAND...: runs it in a terminal of so many columns
session()
{
    local columns=$1
    shift
    rm -f ended
    tmux -L screen -f /dev/null new-session -d -s s -x "$columns" -y 50 "PS1= bash --norc -c '$*; echo \$? >ended; sleep 60'"
}
wait_for_end() { for _ in $(seq 600); do [ -e ended ] && return; sleep 0.1; done; wrong "the run did not end"; }
close() { tmux -L screen kill-session -t s 2>/dev/null; }
captured() { tmux -L screen capture-pane -p -t s "$@"; }

for columns in 60 80 132; do
    rm -rf run
    session $columns "${GRPO[*]} --out run"
    wait_for_end
    sleep 0.2
    captured -S -400 >screen
    captured -J -S -400 >joined # rows that the terminal broke are one here
    close
    is "$(cat ended)" 0 "exit code at $columns columns"
    is "$(awk -v most=$columns 'length > most' joined)" "" "rows that wrapped at $columns columns"
    is "$(grep -c '^step  *[0-9]*/45 ' screen)" 45 "lines of steps at $columns columns"
    is "$(grep -c '^ .* reward .*left' screen)" 2 "headers of 45 lines at $columns columns"
    is "$(grep '^step ' screen | grep -c '\[')" 0 "live lines that were left at $columns columns"
    grep '^ .* reward ' screen | head -n 1 | tr -s ' ' '\n' | sed '/^$/d' >names
    for name in $(cat names); do
        case $name in reward | a_reward_with_a_name | form | left | eval | length | kl | cut | no | spread | entropy | grad | s/step | roll/s | train/s) ;; *) wrong "a broken word at $columns columns: $name" ;; esac
    done
done
has names 'entropy'  # 132 columns hold more than
is "$([ "$(wc -l <names)" -gt 8 ] && echo more)" more "fields at 132 columns"

# --- resized ten times while it runs: no live line is left over ---
# tmux rearranges its rows first and tells the program of the new width later (by up to 250 ms where it was resized just before). A line that is
# drawn or cleared between the two may leave a piece, whatever the program does: so the sizes come slowly, and one of three runs must be clean.
pieces='^step [0-9]+/150 (rollout|train|reward|evaluate)|\[[#.]+\]|^[#.]+\]|[0-9] ?[a-z]* left$'
for _ in 1 2 3; do
    rm -rf run
    session 120 "${GRPO[*]} --steps 150 --out run --logging-steps 1000"
    for columns in 61 100 60 90 70 132 60 80 62 110; do
        [ -e ended ] && break
        sleep 0.35
        tmux -L screen resize-window -t s -x $columns -y 50
    done
    wait_for_end
    sleep 0.2
    captured -S -400 >screen
    close
    grep -qE "$pieces" screen || break
done
is "$(grep -cE "$pieces" screen)" 0 "pieces of live lines after resizing: $(grep -nE "$pieces" screen | head -n 3)"

# --- help wraps, and keeps its words ---
for columns in 60 80 132; do
    session $columns "'$COHORT' grpo --help >/dev/tty"
    wait_for_end
    session_help=$(mktemp -p .)
    close
    session $columns "'$COHORT' grpo --help"
    wait_for_end
    sleep 0.2
    captured -J -S -2000 >"$session_help"
    close
    is "$(awk -v most=$columns 'length > most' "$session_help")" "" "lines of --help over $columns columns"
    has "$session_help" '^ +--num-generations N'
    is "$(sed -n '/--num-generations N/,/--prompts/p' "$session_help" | tr -s ' \n' ' ' | grep -c 'completions per prompt (the group)')" 1 "the words of --help at $columns columns"
done
# --- a long message breaks between words ---
session 60 "'$COHORT' grpo --model m --data d.jsonl --out x --reward accuracy --learning-rat 1"
wait_for_end
captured >screen
close
is "$(cat ended)" 2 "exit code of a misspelled option"
done_testing

# cohort watch: in a pipe a line for each step and event; in tmux the view at 60, 80 and 132 columns, its tabs and keys, resizing, ASCII without
# colour, text that would steer the terminal; a run that is paused, saved and let go on from it ends with the bits of one that was left alone.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in $(seq 1 15); do echo "{\"prompt\": \"question number $i\", \"answer\": \"$i\"}"; done >d.jsonl
# Ends a pane's text, sets the clipboard, clears the screen, turns the direction of writing: it must stay text.
printf '{"prompt": "hostile \\u001b]52;clipboard;aGFja2Vk\\u0007 \\u001b[2J \\u009b31m \\u202e end", "answer": "1"}\n' >>d.jsonl
cat >r.py <<'P'
import os, time
def correct(completions, **kw):
    while os.path.exists("hold"):
        time.sleep(0.02)
    time.sleep(float(os.environ.get("SLOW", "0")))
    return [len(c) % 7 / 7 for c in completions]
def form(completions, **kw):
    return [float(c[:1].isalpha()) for c in completions]
P
GRPO=("$COHORT" grpo --model m --data d.jsonl --eval-data d.jsonl --eval-limit 4 --eval-steps 10 --num-generations 4 --prompts-per-step 4
    --max-completion-length 12 --threads 1 --device cpu --beta 0.01 --learning-rate 1e-3 --save-steps 0 --reward "python:r.py:correct,python:r.py:form")
# listens RUN: its trainer does
listens() { for _ in $(seq 300); do [ -S "runs/$1/.cohort.socket" ] && return; sleep 0.1; done; wrong "no trainer of $1 listens"; }
succeeds "${GRPO[@]}" --steps 30 --out runs/whole
absent runs/whole/.cohort.socket

# --- lines ---
succeeds "$COHORT" watch whole
is "$(grep -c '^step ' out)" 20 "lines of the last steps of a run that has ended"
is "$(tail -n 1 out)" "whole: finished at step 30" "the last line"
lacks out $'\x1b|\r'
succeeds "$COHORT" watch whole runs/whole --plain
is "$(grep -c '^whole  *step ' out)" 20 "lines that name their run"
fails 1 'there is no run of that name' "$COHORT" watch nothing
fails 2 'takes one to 8 runs' "$COHORT" watch
# Of a run that goes on: what comes, until it ends.
SLOW=0.05 "${GRPO[@]}" --steps 30 --out runs/going >/dev/null 2>&1 &
trainer=$!
listens going
timeout 120 "$COHORT" watch going >out 2>err
wait $trainer
is "$(tail -n 1 out)" "going: finished at step 30" "the last line of a run that was followed"
is "$(grep -c '^step *[0-9]*/30 ' out)" "$(grep '^step ' out | sort -u | wc -l)" "each step once"
is "$(cmp runs/whole/final/model.safetensors runs/going/final/model.safetensors && echo same)" same "weights of a run that was followed"

if ! command -v tmux >/dev/null; then
    echo "no tmux here: the view is not tested (scripts/install-deps test installs it)"
    done_testing
    exit
fi
if "$COHORT" watch whole </dev/null 2>&1 >/dev/null | grep -q 'no terminal view' || ! ldd "$COHORT" 2>/dev/null | grep -q ncursesw; then
    echo "this build has no terminal view: it is not tested"
    done_testing
    exit
fi
export TMUX_TMPDIR=$SCRATCH
unset TMUX CI NO_COLOR SSH_CONNECTION ESCDELAY
trap 'rm -f hold; tmux -L watch kill-server 2>/dev/null; rm -rf "$SCRATCH"' EXIT
# view COLUMNS ROWS COMMAND...: runs it in a terminal of that size; what it writes goes to the file raw
view()
{
    local columns=$1 rows=$2
    shift 2
    rm -f ended raw
    tmux -L watch -f /dev/null new-session -d -s s -x "$columns" -y "$rows" "bash --norc -c 'sleep 0.2; $*; echo \$? >ended; sleep 60'"
    tmux -L watch pipe-pane -t s "cat >raw"
}
keys() { tmux -L watch send-keys -t s "$@"; }
screen() { tmux -L watch capture-pane -p -t s >screen; }
# awaits PATTERN [SECONDS]: the screen shows it
awaits()
{
    CHECKS=$((CHECKS + 1))
    local _
    [ $FAILURES -lt 3 ] || return # a session that is not there: each would take its whole time
    for _ in $(seq $((10 * ${2:-60}))); do
        screen
        grep -Eq -- "$1" screen && return
        sleep 0.1
    done
    wrong "the screen does not show '$1': $(cat screen)"
}
close() { tmux -L watch kill-session -t s 2>/dev/null; }
UTF8="LC_ALL=C.UTF-8"

# --- a run that has ended, at three widths ---
for columns in 60 80 132; do
    view $columns 24 "$UTF8 '$COHORT' watch whole"
    awaits 'FINISHED +step 30/30 +100 %'
    awaits '^reward  '
    for row in ' correct' ' form' eval_reward entropy kl grad_norm mean_length; do has screen "^$row  "; done
    has screen '^                   now +.*min\.\.max'
    has screen '^1 Run 2 Samples 3 Log 4 Config 5 Warnings'
    lacks screen 'p pause|p s \?|r go on' # nobody is there to be asked
    is "$([ "$(LC_ALL=C.UTF-8 wc -L <screen)" -lt $columns ] && echo fits)" fits "rows narrower than $columns columns"
    is "$(LC_ALL=C.UTF-8 grep -c '[▁▂▃▄▅▆▇█]' screen)" "$(grep -cE '^( correct| form|reward|eval_reward|loss|entropy|kl|grad_norm|mean_length|clipped_ratio|no spread|learning_rate) ' screen)" "rows with a curve at $columns columns"
    if [ $columns = 132 ]; then has screen ' events'; else lacks screen ' events'; fi
    if [ $columns = 60 ]; then lacks screen 'trend'; else has screen '10 steps +trend'; fi
    keys q
    for _ in $(seq 600); do [ -e ended ] && break; sleep 0.1; done
    is "$(cat ended)" 0 "exit code of q at $columns columns"
    close
done

# --- tabs, and the cursor on the row that is selected ---
view 80 24 "$UTF8 '$COHORT' watch whole"
awaits FINISHED
keys 2
awaits 'samples of all steps, latest first, finish any +1/60'
has screen '^>30/3/3 '
keys Down Down
awaits '^>30/3/1 '
is "$(tmux -L watch display-message -p -t s '#{cursor_y}')" 4 "row of the cursor"
keys o
awaits 'samples of the last step, best first, finish any +1/16'
keys o
awaits 'worst first'
keys Enter
awaits '--- completion'
has screen 'step 30, prompt [0-9]+, completion [0-9]+: reward .*\(correct .*, form .*\)'
keys Escape
awaits 'worst first'
keys o g '*' Enter
awaits 'samples of all steps'
keys / hostile Enter # of completions: none is made of it
awaits "with 'hostile'"
awaits '^nothing'
keys / Enter
awaits ' 1/60'
keys f
awaits 'finish eos'
keys f
awaits 'finish length'
keys 3
awaits 'whole  log'
has screen '0 start the run starts'
has screen '30 end '
keys 4
awaits '^>model: "m"'
keys / beta Enter
awaits '^>beta: 0.01'
keys n
awaits '^>[a-z_]*beta'
keys 5
awaits 'whole  warnings'
keys '?'
awaits '^q +leave; the run goes on'
lacks screen '^p r '
keys '?' 1
awaits '^reward '

# --- resized ten times: nothing is left over ---
for size in '61 20' '100 30' '60 16' '90 40' '70 24' '132 40' '60 24' '40 10' '62 17' '80 24'; do
    # shellcheck disable=SC2086 # two numbers
    set -- $size
    tmux -L watch resize-window -t s -x "$1" -y "$2"
    sleep 0.15
done
awaits '^1 Run 2 Samples.*\? help  q leave$'
is "$(grep -c '^reward ' screen)" 1 "rows of reward after resizing"
is "$(grep -c '1 Run' screen)" 1 "rows of tabs after resizing"
is "$(grep -c '60 x 16' screen)" 0 "the line of a small window after resizing"
# A page that does not change is not sent again.
sleep 1
before=$(wc -c <raw)
sleep 5
is "$([ $(($(wc -c <raw) - before)) -lt 160 ] && echo few)" few "bytes sent in five idle seconds: $(($(wc -c <raw) - before))"
keys q
close

# --- ASCII, no colour, an old terminal ---
view 80 24 "LC_ALL=C TERM=vt100 NO_COLOR=1 '$COHORT' watch whole"
awaits 'FINISHED'
keys 2
awaits 'samples'
keys 1
awaits '^reward '
has screen '^reward .*[.:=+*#-]{5}'
is "$(LC_ALL=C grep -c -P '[\x80-\xff]' raw)" 0 "bytes beyond ASCII"
is "$(LC_ALL=C grep -c -P '\x1b\[[0-9;]*3[0-7]' raw)" 0 "colours"
keys q
close
view 80 24 "$UTF8 '$COHORT' watch whole --ascii"
awaits 'FINISHED'
is "$(LC_ALL=C grep -c -P '[\x80-\xff]' raw)" 0 "bytes beyond ASCII with --ascii"
keys q
close

# --- text of a data set that would steer the terminal ---
touch hold
"${GRPO[@]}" --steps 4 --seed 9 --prompts-per-step 16 --out runs/hostile >/dev/null 2>&1 &
trainer=$!
listens hostile
view 80 24 "$UTF8 '$COHORT' watch hostile"
awaits 'RUNNING'
awaits '^evaluate \[#{16}\] 4/4  0 not ended'
rm hold
wait $trainer
awaits FINISHED
keys 2 g 1 Enter
awaits 'of step 1'
# Which completion is of that prompt is the seed's: they are looked at one after the other.
for _ in $(seq 60); do
    keys Enter
    awaits '--- prompt'
    ! grep -q 'hostile .*clipboard' screen && [ $FAILURES -lt 3 ] || break
    keys Escape
    awaits '/60$'
    keys Down Down Down Down
done
has screen 'hostile \\x1b\]52;clipboard;aGFja2Vk\\x07 \\x1b\[2J'
is "$(LC_ALL=C grep -c -P '\x1b\]52|\x1b\[2J \\\\|\xe2\x80\xae|\xc2\x9b' raw)" 0 "sequences that came through"
keys q
close

# --- paused, saved, let go on: the same bits; and no key ends the run ---
SLOW=0.2 "${GRPO[@]}" --steps 30 --out runs/paused >log 2>&1 &
trainer=$!
listens paused
is "$(stat -c %a runs/paused/.cohort.socket)" 600 "mode of the socket"
view 80 24 "$UTF8 '$COHORT' watch paused"
awaits 'RUNNING'
awaits 'p pause  s save'
keys p
awaits 'PAUSED'
awaits 'paused after step [0-9]+, for'
lines=$(wc -l <runs/paused/metrics.jsonl)
sleep 1
is "$(wc -l <runs/paused/metrics.jsonl)" "$lines" "steps that were made while the run paused"
step=$(sed -n 's/^paused after step \([0-9]*\),.*/\1/p' screen)
keys s
for _ in $(seq 600); do [ -e "runs/paused/checkpoints/step-$step/model.safetensors" ] && break; sleep 0.1; done
[ -e "runs/paused/checkpoints/step-$step/model.safetensors" ] || wrong "no checkpoint of step $step was saved"
keys q
for _ in $(seq 600); do [ -e ended ] && break; sleep 0.1; done
screen
has screen 'paused is paused and stays so'
kill -0 $trainer || wrong "q ended the run"
close
# Two at once; one of them dies, the other lets it go on.
view 80 24 "$UTF8 '$COHORT' watch paused whole"
awaits 'PAUSED +FINISHED'
keys Enter
awaits 'r go on'
tmux -L watch new-session -d -s t -x 80 -y 24 "$UTF8 exec '$COHORT' watch paused --read-only"
sleep 0.7
is "$(tmux -L watch capture-pane -p -t t | grep -c 'r go on')" 0 "keys of a view that is read-only"
tmux -L watch send-keys -t t r
sleep 0.7
awaits 'PAUSED'
kill -9 "$(tmux -L watch display-message -p -t t '#{pane_pid}')"
keys r
awaits 'RUNNING'
# A trainer that hangs holds up no key.
kill -STOP $trainer
keys 3
awaits 'paused  log' 5
keys 1 Enter
awaits '^reward ' 5
kill -CONT $trainer
wait $trainer
is $? 0 "exit code of the run: $(tail -n 2 log)"
awaits 'FINISHED'
keys q
close
is "$(cmp runs/whole/final/model.safetensors runs/paused/final/model.safetensors && echo same)" same "weights of a run that was paused"
is "$(untimed runs/paused/metrics.jsonl)" "$(untimed runs/whole/metrics.jsonl)" "metrics of a run that was paused"
succeeds "$COHORT" runs show paused
has out 'pause .*paused after step'
has out 'continue .*paused for'
has log 'paused after step [0-9]+, from outside'

# --- killed and resumed: the socket that is left is replaced ---
SLOW=0.2 "${GRPO[@]}" --steps 30 --save-steps 2 --out runs/killed >log 2>&1 &
trainer=$!
listens killed
view 80 24 "$UTF8 '$COHORT' watch runs/killed || sleep 1; while ! '$COHORT' watch killed; do sleep 0.2; done"
for _ in $(seq 600); do [ -e runs/killed/checkpoints/step-4 ] && break; sleep 0.1; done
kill -9 $trainer
wait $trainer 2>/dev/null
[ -S runs/killed/.cohort.socket ] || wrong "a killed trainer left no socket"
awaits 'GONE'
lacks screen 'p pause'
SLOW=0.1 "${GRPO[@]}" --steps 30 --save-steps 2 --out runs/killed --resume >log 2>&1 &
trainer=$!
awaits 'RUNNING'
awaits 'p pause'
# A stop ends a pause, with a checkpoint.
keys p
awaits 'PAUSED'
kill -TERM $trainer
wait $trainer
is $? 130 "exit code of a run that was stopped while it paused"
succeeds "${GRPO[@]}" --steps 30 --save-steps 2 --out runs/killed --resume
is "$(cmp runs/whole/final/model.safetensors runs/killed/final/model.safetensors && echo same)" same "weights of a run that was killed, paused and stopped"
absent runs/killed/.cohort.socket
close
done_testing

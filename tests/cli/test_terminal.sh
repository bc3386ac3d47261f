# The progress line: as wide as the terminal is, never wider, and nothing of it where there is no terminal.
. "$(dirname "$0")/shell.sh"

unset CI # where it is set, nothing is drawn: checked at the end
export TERM=xterm
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in $(seq 1 40); do echo "{\"prompt\": \"question number $i\", \"completion\": \"answer $i\"}"; done >d.jsonl

if ! script -qec true /dev/null </dev/null >/dev/null 2>&1; then
    echo "no util-linux script here: the terminal is not tested"
    done_testing
    exit
fi
# watch COLUMNS COMMAND...: what the command writes to a terminal of that many columns, in the file screen
watch()
{
    local columns=$1
    shift
    rm -rf run
    script -qec "stty cols $columns rows 24; $* >result" /dev/null </dev/null >screen 2>/dev/null
}
# widest: the longest piece between carriage returns, line ends and the sequence that clears a line. Messages are told in full and
# begin with something else than the progress line.
widest() { tr '\r' '\n' <screen | sed 's/\x1b\[K//g' | grep -E '^(step [0-9]|load|rollout|train|evaluate|generate|reward)' | grep -vE '  (loss|reward) [0-9.-]+ ' | awk '{ if (length > n) n = length } END { print n + 0 }'; }
at_most() { CHECKS=$((CHECKS + 1)); [ "$1" -le "$2" ] || wrong "$3: $1 columns, at most $2"; }

grpo="'$COHORT' grpo --model m --data d.jsonl --reward regex --reward-pattern a --out run --num-generations 2 --prompts-per-step 2 --max-completion-length 16 --steps 2 --threads 1 --logging-steps 100"
for columns in 120 60 20 2; do
    watch $columns "$grpo"
    at_most "$(widest)" $((columns - 1)) "the progress line of $columns columns"
    if [ $columns -ge 20 ]; then has screen 'step [0-9]'; fi
    if [ $columns -ge 60 ]; then has screen 'step [0-9]+/2 .* left'; fi
done
watch 0 "$grpo" # a terminal that does not say
at_most "$(widest)" 79 "the progress line where the width is unknown"
# Resized while it runs: from then on the line is as narrow.
watch 100 "terminal=\$(tty); { sleep 0.3; stty -F \$terminal cols 30; echo RESIZED >\$terminal; } & '$COHORT' sft --model m --data d.jsonl --out run --steps 300 --save-steps 0 --logging-steps 10000 --threads 1"
has screen RESIZED
sed -i '1,/RESIZED/d' screen
has screen 'step [0-9]+/300'
at_most "$(tr '\r' '\n' <screen | sed 's/\x1b\[K//g' | tail -n +3 | grep -E '^step [0-9]+/300 ' | grep -v '  loss ' | awk '{ if (length > n) n = length } END { print n + 0 }')" 29 "the progress line after resizing to 30 columns"

# An answer that is streamed has the screen for itself; then it is said why it ended. Of a batch it is said how far it is.
script -qec "stty cols 80 rows 24; '$COHORT' generate --model m hello --max-tokens 900 --threads 1 --logit-bias 97:20 --temperature 0" /dev/null </dev/null >screen 2>/dev/null
is "$(tr -d '\r' <screen | grep -c 'a\{900\}$')" 1 "900 letters without anything between them"
has screen '^\[cut at --max-tokens, .*900 tokens, [0-9.]+ tokens/s'
script -qec "stty cols 80 rows 24; '$COHORT' generate --model m hello --max-tokens 5 --threads 1 --logit-bias 258:100" /dev/null </dev/null >screen 2>/dev/null
has screen '^\[the model ended it; 1 tokens'
watch 80 "'$COHORT' generate --model m --batch d.jsonl --max-tokens 2000 --threads 1 --n 2"
has screen 'generate \[[#.]*\] [0-9]+/80 completions'
succeeds "$COHORT" generate --model m hello --max-tokens 5 --threads 1
lacks err 'tokens/s'

# A log that nobody sits before: CI as continuous integration sets it, or a terminal that cannot go back.
for setting in CI=true TERM=dumb; do
    watch 100 "export $setting; $grpo"
    lacks screen $'\x1b'
    lacks screen 'step [0-9]+/2 .* left'
done

# No terminal: no control characters.
succeeds "$COHORT" sft --model m --data d.jsonl --out run2 --steps 2 --threads 1
lacks err $'\r|\x1b'
lacks out $'\r|\x1b'
done_testing

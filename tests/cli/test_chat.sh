# cohort chat: in a pipe a line a turn; in tmux thinking dimmed, Ctrl-C that stops the answer and not the program. The model has learned four
# conversations by heart, so that what it says is known.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
weather='[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]'
call='{"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]}'
echo "$weather" >tools.json
cat >talks.jsonl <<T
{"messages": [{"role": "user", "content": "Why is the sky blue?"}, {"role": "assistant", "content": "<think>\nShort waves scatter more.\n</think>\n\nAir scatters blue light."}]}
{"messages": [{"role": "user", "content": "Why is the sky blue?"}, {"role": "assistant", "content": "Air scatters blue light."}, {"role": "user", "content": "And in the evening?"}, {"role": "assistant", "content": "<think>\nA long way.\n</think>\n\nThe light lost its blue."}]}
{"messages": [{"role": "user", "content": "How warm is it in Oslo?"}, $call], "tools": $weather}
{"messages": [{"role": "user", "content": "How warm is it in Oslo?"}, $call, {"role": "tool", "content": "4"}, {"role": "assistant", "content": "It is 4 degrees."}], "tools": $weather}
T
succeeds "$COHORT" sft --model m --data talks.jsonl --out t --steps 120 --batch-size 4 --learning-rate 5e-3 --lr-scheduler-type cosine \
    --save-steps 0 --save-minutes 0 --seed 1 --threads 1 --device cpu
# talk LINES OPTION...: the lines, one a turn
talk()
{
    printf '%b' "$1" >lines
    shift
    CHECKS=$((CHECKS + 1))
    "$COHORT" chat --model t/final --threads 1 --device cpu --temperature 0 --max-tokens 120 "$@" <lines >out 2>err || wrong "chat: $(tail -n 3 err)"
}

# --- a pipe: no prompt, no colours, thinking with its tags ---
talk 'Why is the sky blue?\nAnd in the evening?\n'
printf '<think>\nShort waves scatter more.\n</think>\n\nAir scatters blue light.\n<think>\nA long way.\n</think>\n\nThe light lost its blue.\n' >want
same out want
is "$(grep -v '^note' err)" "" "what is said beside answers in a pipe"
talk 'Why is the sky blue?' # the last line may lack its newline
same out <(head -n 5 want)
talk 'Why is the sky blue?\r\n\n   \n' # lines of Windows, lines without anything
same out <(head -n 5 want)
talk 'Why is \\\nthe sky blue?\n'
lacks out 'Short waves scatter more.$' # with a line break in it it is another question
talk ''
is "$(cat out)" "" "nobody says anything"
INPUT=. fails 1 'standard input could not be read: Is a directory' "$COHORT" chat --model t/final --threads 1 --device cpu
# An answer is what generate says to the same conversation.
succeeds "$COHORT" generate --model t/final --threads 1 --device cpu 'Why is the sky blue?' --seed 7 --temperature 1.5 --max-tokens 40 --stop zzz
cp out generated
talk 'Why is the sky blue?\n' --seed 7 --temperature 1.5 --max-tokens 40 --stop zzz
is "$(tr -d ' \n' <out | sed 's/<\/*think>//g')" "$(tr -d ' \n' <generated | sed 's/<\/*think>//g')" "chat and generate"

# --- what a line may be ---
talk '/help\n/foo bar\n/system\n/system Be brief.\nWhy is the sky blue?\n/save s.jsonl\n/save\n/reset\n/save r.jsonl\n/quit\nWhy is the sky blue?\n'
has err '^/save FILE '
has err '^there is no /foo; /help lists what there is$'
has err '^no system message; a new conversation$'
has err '^/save needs the name of a file$'
is "$(grep -c 'Be brief' s.jsonl) $(wc -l <s.jsonl) $(cat r.jsonl)" '1 1 {"messages": [{"role": "system", "content": "Be brief."}]}' "saved conversations"
succeeds "$COHORT" data s.jsonl --model m
cp r.jsonl kept
talk '/save r.jsonl\n/save new.jsonl\n/save new.jsonl\n/save /nowhere/x\nWhy is the sky blue?\n'
same r.jsonl kept
has err '^r.jsonl is there already: name another file$'
is "$(grep -c '^saved$' err)" 2 "a file of its own is written again"
has err '/nowhere/x'
same out <(head -n 5 want)
talk 'Why is the sky blue?\n/save thought.jsonl\n'
is "$(cat thought.jsonl)" '{"messages": [{"role": "user", "content": "Why is the sky blue?"}, {"role": "assistant", "content": "Air scatters blue light.", "reasoning_content": "Short waves scatter more."}]}' "thinking stands apart"
talk '//save\n/save slash.jsonl\n' --logit-bias 97:100 --max-tokens 4
has slash.jsonl '"content": "/save"'
talk 'Why is the sky blue?\n/reset\nWhy is the sky blue?\n'
same out <(head -n 5 want; head -n 5 want)
talk '/system Be brief.\nx\n/save a.jsonl\n' --max-tokens 1
talk 'x\n/save b.jsonl\n' --max-tokens 1 --system 'Be brief.'
same a.jsonl b.jsonl

# --- tools: the next line is what one returns ---
talk 'How warm is it in Oslo?\n4\n/save oslo.jsonl\n' --tools tools.json
printf 'call: weather({"city": "Oslo"})\n\nIt is 4 degrees.\n' >want.tools
same out want.tools
has oslo.jsonl '"tool_calls": \[\{"type": "function", "function": \{"name": "weather", "arguments": \{"city": "Oslo"\}\}\}\]\}, \{"role": "tool", "content": "4"\}'
talk 'How warm is it in Oslo?\n' --tools tools.json # nobody answers the call
fails 1 'expected a list of tools' "$COHORT" chat --model t/final --tools kept

# --- too long, wrong ---
talk 'Why is the sky blue?\nx\n/reset\nWhy is the sky blue?\n' --max-context 60
has err 'the conversation has [0-9]+ tokens and 60 fit: /reset'
printf 'a\xff\n' >lines
INPUT=lines fails 1 'not valid UTF-8' "$COHORT" chat --model t/final --max-tokens 3
fails 2 'chat' "$COHORT" chat --model t/final --n 2

if ! command -v tmux >/dev/null; then
    echo "no tmux here: the terminal is not tested"
    done_testing
    exit
fi
export TMUX_TMPDIR=$SCRATCH
unset TMUX CI NO_COLOR
trap 'tmux -L chat kill-server 2>/dev/null; rm -rf "$SCRATCH"' EXIT
tmux -L chat -f /dev/null new-session -d -s other # a server that loses its last session ends, maybe while the next one begins
# session OPTION...: chat in a terminal of 80 columns
session()
{
    rm -f ended
    tmux -L chat -f /dev/null new-session -d -s s -x 80 -y 40 \
        "PS1= bash --norc -c 'sleep 0.2; $COHORT chat --threads 1 --device cpu --temperature 0 $*; echo \$? >ended; sleep 60'"
}
keys() { tmux -L chat send-keys -t s "$@"; }
screen() { tmux -L chat capture-pane -p -t s >screen; }
# shows PATTERN: the screen has it within a minute
shows()
{
    CHECKS=$((CHECKS + 1))
    for _ in $(seq 600); do
        screen
        grep -Eq -- "$1" screen && return
        sleep 0.1
    done
    wrong "no '$1' on the screen: $(grep -v '^$' screen | tail -n 8)"
}
ends()
{
    for _ in $(seq 600); do [ -e ended ] && break; sleep 0.1; done
    is "$(cat ended 2>/dev/null)" "$1" "exit code"
    tmux -L chat kill-session -t s 2>/dev/null
}

session --model t/final --max-tokens 120
tmux -L chat pipe-pane -t s "cat >raw"
shows '^> *$'
keys 'Why is the sky blue?' Enter
shows '^Air scatters blue light\.$'
shows '^\[[0-9]+ tokens, [0-9.]+/s; prompt: [0-9]+ tokens, 0 known; first after [0-9.]+ s\]$'
keys 'And in the evening?' Enter
shows '^The light lost its blue\.$'
lacks screen '</?think>'
has raw $'\x1b\\[2mS'
keys '/reset' Enter
shows '^a new conversation$'
keys 'C-d'
ends 0
session --model t/final --max-tokens 120 --tools tools.json
shows '^> *$'
keys 'How warm is it in Oslo?' Enter
shows '^call: weather\(\{"city": "Oslo"\}\)$'
shows '^weather returns> *$'
keys '4' Enter
shows '^It is 4 degrees\.$'
keys 'C-d'
ends 0
# Ctrl-C: a line that was begun is thrown away, an answer ends where it is, and the conversation goes on.
cp -r t/final long # an answer that lasts until it is stopped, however fast the machine is
sed -i 's/"max_position_embeddings": [0-9]*/"max_position_embeddings": 100000/' long/config.json
session --model long --logit-bias 97:100 --max-tokens 100000 --speculative none
shows '^> *$'
keys 'Why' 'C-c'
shows '^> *$'
keys 'go' Enter
shows 'aaaaaaaa'
keys 'C-c'
shows '^\[stopped; [0-9]+ tokens'
keys '/save stopped.jsonl' Enter
shows '^saved$'
has stopped.jsonl '^\{"messages": \[\{"role": "user", "content": "go"\}, \{"role": "assistant", "content": "a+"\}\]\}$'
keys 'again' Enter
shows '^> again' # its answer begins
sleep 0.3
keys 'C-c'
shows '(^| )[1-9][0-9]* known; first' # keys and values of the turn before
keys '/quit' Enter
ends 0
# What only a terminal must not be given is shown as it is spelled.
session --model t/final --logit-bias 27:100 --max-tokens 3
shows '^> *$'
keys 'x' Enter
shows '^\\x1b\\x1b\\x1b$'
keys 'C-d'
ends 0
# SIGTERM ends the program.
session --model t/final --max-tokens 3
shows '^> *$'
kill -TERM "$(pgrep -f "^$COHORT chat .*--model t/final --max-tokens 3\$" | head -n 1)"
ends 0
done_testing

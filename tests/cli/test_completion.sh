# What is made of the option table when the program is built: completion of bash and zsh, manual pages; and that help, examples and width fit.
. "$(dirname "$0")/shell.sh"

# --- bash: what a shell is offered ---
succeeds "$COHORT" --completion bash
cp out completion.bash
has completion.bash '^complete -F _cohort cohort$'
if command -v shellcheck >/dev/null; then shellcheck -s bash -e SC2207,SC2034 completion.bash >shellcheck.out || wrong "shellcheck: $(head -c 400 shellcheck.out)"; fi
# offers WORD...: what is offered for the last word, on one line
offers()
{
    bash -c '
        . ./completion.bash
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        _cohort
        printf "%s\n" "${COMPREPLY[@]}" | sort | tr "\n" " "' bash "$@"
}
is "$(offers cohort gr)" "grpo " "commands that begin with gr"
is "$(offers cohort s)" "score serve sft " "commands that begin with s"
is "$(offers cohort grpo --loss-type d)" "dapo dr_grpo " "losses that begin with d"
is "$(offers cohort sft --loss-type "")" "dft nll " "losses of sft"
is "$(offers cohort grpo --scale-rewards = g)" "group " "a value behind an equals sign"
is "$(offers cohort grpo --num-generations-e)" "--num-generations-eval " "a flag"
is "$(offers cohort sft --num-generations)" " " "a flag of another command"
is "$(offers cohort sft --no-shuf)" "--no-shuffle-dataset " "a switch that is on"
mkdir folder; touch file.jsonl
is "$(offers cohort grpo --model f)" "folder " "folders alone"
is "$(offers cohort grpo --data f)" "file.jsonl folder " "files"
is "$(offers cohort data f)" "file.jsonl folder " "a word without a flag"
# Every flag of every command is offered.
for command in $("$COHORT" --help | awk '/^  [a-z]/ {print $1}'); do
    "$COHORT" "$command" --help | grep -oE '^  --[a-z0-9-]+' | tr -d ' ' | sort -u >flags
    is "$(offers cohort "$command" -- | tr ' ' '\n' | sed '/^$/d; /^--help$/d' | sort -u | diff - flags | head -3)" "" "flags of $command"
done

# --- zsh ---
succeeds "$COHORT" --completion zsh
has out '^#compdef cohort$'
has out "'--loss-type\[.*\]:NAME:\(.*dapo.*\)'"
if command -v zsh >/dev/null; then
    cp out _cohort
    zsh -n _cohort 2>err || wrong "zsh: $(head -c 300 err)"
fi
fails 2 'no completion for the shell .fish.: bash or zsh' "$COHORT" --completion fish

# --- manual pages ---
for page in "" $("$COHORT" --help | awk '/^  [a-z]/ {print $1}'); do
    # shellcheck disable=SC2086 # no word or one
    succeeds "$COHORT" --man $page
    cp out "page$page.1"
    if command -v mandoc >/dev/null; then
        { mandoc -T lint -W warning "page$page.1" || true; } 2>&1 | grep -v 'missing date' >lint || true # a page has no date: it is the program's
        [ ! -s lint ] || wrong "mandoc: page$page.1: $(head -n 3 lint)"
    fi
    if command -v groff >/dev/null; then
        groff -man -ww -z -Tutf8 "page$page.1" 2>lint
        [ ! -s lint ] || wrong "groff: page$page.1: $(head -n 3 lint)"
    fi
done
if command -v groff >/dev/null; then
    groff -man -Tascii -P-c pagegrpo.1 2>/dev/null | sed 's/.\x08//g' >text
    has text '^NAME'
    has text 'cohort-grpo - train with group-relative rewards'
    has text '--stop-on NAME'
    has text 'EXIT STATUS'
    has text '\[one of|\\, is a comma|\\, is'
fi
fails 2 "no command 'nothing'" "$COHORT" --man nothing

# --- help: two examples first, then usage ---
for command in $("$COHORT" --help | awk '/^  [a-z]/ {print $1}'); do
    succeeds "$COHORT" "$command" --help
    sed '/^Usage: cohort /,$d' out >beginning
    is "$(grep -c '^    cohort ' beginning)" 2 "examples of $command --help"
    is "$(sed -n 3p beginning | cut -c1-11)" "    cohort " "what $command --help begins with"
    # An example is a call that the program takes: every flag is one of the command's.
    sed -n '3,$p' beginning | sed ':a; /\\$/N; s/\\\n//; ta; s/^    //' | tr '|' '\n' | while read -r _ called rest; do
        [ "$called" = "${called#-}" ] || continue
        for flag in $(grep -oE -- '--[a-z0-9-]+' <<<"$rest"); do
            "$COHORT" "$called" --help | grep -qE "^ +$flag( |\$)" || echo "$called: $flag" >>unknown
        done
    done
done
absent unknown
succeeds "$COHORT" --help
has out '^    cohort '
done_testing

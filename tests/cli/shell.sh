# Sourced by the shell tests: a scratch folder and a few ways to say what is expected. Coreutils, grep, sed and the program only.
# A test gets $COHORT (the program), $SOURCE and $BUILD; by hand: COHORT=build/cohort bash tests/cli/test_x.sh
set -u
SOURCE=${SOURCE:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
COHORT=$(realpath "${COHORT:-$SOURCE/build/cohort}")
export LC_ALL=C
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}exitcode=99" UBSAN_OPTIONS="halt_on_error=1:exitcode=99"
SCRATCH=$(mktemp -d) || exit 1
trap 'rm -rf "$SCRATCH"' EXIT
cd "$SCRATCH" || exit 1
FAILURES=0 CHECKS=0

# A failed expectation: goes on, so that one run tells all.
wrong()
{
    local depth
    for ((depth = 1; depth < ${#BASH_LINENO[@]} - 1; depth++)); do [ "${BASH_SOURCE[depth]}" = "${BASH_SOURCE[0]}" ] || break; done
    echo "FAILED ${BASH_SOURCE[-1]##*/}:${BASH_LINENO[depth - 1]}: $*" >&2
    FAILURES=$((FAILURES + 1))
}

# succeeds COMMAND...: exit code 0; leaves its output in out and err.
succeeds()
{
    CHECKS=$((CHECKS + 1))
    "$@" >out 2>err </dev/null
    local code=$?
    [ $code -eq 0 ] || wrong "exit code $code of: $* -- $(tail -c 400 err)"
}

# fails CODE PATTERN COMMAND...: that exit code, a message that matches the pattern (of grep -E), and nothing else on standard error that
# speaks of a crash. Standard input is the file given in $INPUT, if any.
fails()
{
    local expected=$1 pattern=$2
    shift 2
    CHECKS=$((CHECKS + 1))
    "$@" >out 2>err <"${INPUT:-/dev/null}"
    local code=$?
    [ -z "${VERBOSE:-}" ] || { echo "--- $* -> $code"; tail -n 3 err | cut -c1-400; } >&2
    if [ $code -ne "$expected" ]; then
        wrong "exit code $code, expected $expected, of: $* -- $(tail -c 600 err)"
    elif ! grep -Eqi -- "$pattern" err; then
        wrong "no message with '$pattern' of: $* -- $(tail -c 600 err)"
    fi
}

# is ACTUAL EXPECTED WHAT
is()
{
    CHECKS=$((CHECKS + 1))
    [ "$1" = "$2" ] || wrong "$3: '${1:0:300}', expected '${2:0:300}'"
}

# differs A B WHAT
differs()
{
    CHECKS=$((CHECKS + 1))
    [ "$1" != "$2" ] || wrong "$3: the same: '${1:0:300}'"
}

# has FILE PATTERN
has()
{
    CHECKS=$((CHECKS + 1))
    grep -Eq -- "$2" "$1" || wrong "$1 has no '$2': $(head -c 500 "$1")"
}

lacks()
{
    CHECKS=$((CHECKS + 1))
    ! grep -Eq -- "$2" "$1" || wrong "$1 has '$2': $(grep -E -- "$2" "$1" | head -c 500)"
}

# absent PATH...: nothing there
absent()
{
    local path
    CHECKS=$((CHECKS + 1))
    for path in "$@"; do
        [ ! -e "$path" ] || wrong "$path is there"
    done
}

# same A B: two files or folders of the same bytes
same()
{
    CHECKS=$((CHECKS + 1))
    diff -r "$1" "$2" >/dev/null || wrong "$1 and $2 differ: $(diff -rq "$1" "$2" | head -n 3)"
}

# field NAME <rows: a number, text or list of each row, as it stands
field()
{
    sed -n 's#.*"'"$1"'": \(\[[^]]*\]\|"\([^"\\]\|\\.\)*"\|[^],}]*\).*#\1#p'
}

# The step records without what depends on the clock.
untimed()
{
    sed -E 's/, "(time\/[a-z_]+|step_time|throughput\/[a-z_]+)": [^,}]*//g' "$1"
}

# No temporary file or folder of an unfinished write anywhere below.
no_leftovers()
{
    CHECKS=$((CHECKS + 1))
    local found
    found=$(find "$1" -name '*.tmp*' -o -name '.cohort-*' | head -n 3)
    [ -z "$found" ] || wrong "left behind: $found"
}

done_testing()
{
    [ $FAILURES -eq 0 ] || { echo "$FAILURES failures" >&2; exit 1; }
    echo "$CHECKS checks"
}

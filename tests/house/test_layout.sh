#!/bin/bash
# The shape of the tree: dependencies point down the list of folders, file names are unique, files stay short, flags that would break
# exactness and paths of somebody's machine are nowhere. Reports everything it finds, then fails.
set -u
cd "${1:-$SOURCE}" || exit 2
failed=0
complain() { echo "$*"; failed=1; }

# What each folder of src may include, itself aside.
declare -A may=(
    [base]=""
    [guide]="base text"
    [ranks]="base"
    [tensor]="base"
    [text]="base"
    [format]="base tensor"
    [backend]="base tensor"
    [model]="base ranks tensor format backend"
    [rollout]="base ranks text tensor format backend model"
    [train]="base ranks text guide tensor format backend model rollout"
    [reward]="base text guide"
    [environment]="base text"
    [run]="base format"
    [report]="base run"
    [recipe]="base ranks text guide tensor format backend model rollout train reward environment run report"
    [serve]="base text guide tensor format backend model rollout run recipe"
    [bench]="base text guide tensor format backend model rollout train reward environment run recipe"
    [command]="base ranks text guide tensor format backend model rollout train reward environment run report recipe bench serve"
    [api]="base ranks text guide tensor format backend model rollout train reward environment run recipe command"
)
for folder in src/*/; do
    folder=$(basename "$folder")
    [ -n "${may[$folder]+known}" ] || complain "src/$folder: a folder without a place in the list of tests/house/test_layout.sh and ARCHITECTURE.md"
done
while IFS=: read -r file line text; do
    from=$(cut -d/ -f2 <<<"$file")
    target=$(sed -E 's/.*"([^"]+)".*/\1/' <<<"$text")
    to=${target%%/*}
    if [ "$target" = cohort.h ]; then
        continue
    elif [[ $from = run && $target = *_list.h ]]; then
        continue # words alone, checked below
    elif [ "$to" = "$target" ]; then
        complain "$file:$line: includes \"$target\": name the folder, as in \"base/error.h\""
    elif [ "$to" != "$from" ] && ! grep -qw "$to" <<<"${may[$from]:-}"; then
        complain "$file:$line: src/$from must not depend on src/$to"
    fi
done < <(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"' src)
# The option table takes the words of choices from where their code is: from lists that hold nothing else.
while read -r file; do
    ! grep -qE '^[[:space:]]*#[[:space:]]*include' "$file" || complain "$file: a list of words includes nothing"
    [ -z "$(${CC:-cc} -E -P "$file")" ] || complain "$file: a list of words holds definitions of macros alone"
done < <(find src -name '*_list.h')
while IFS=: read -r file line text; do
    grep -qE '"(cohort|cli|watch)\.h"' <<<"$text" || complain "$file:$line: the program uses cohort.h and its own headers only"
done < <(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"' cli)
while IFS=: read -r file line _; do
    complain "$file:$line: examples use the installed cohort.h only, in <>"
done < <(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"' /dev/null examples/*.c)

code() { find include src cli bench bindings tests oracle examples scripts -type f -not -path 'tests/fixtures/*' -not -path '*/__pycache__/*' "$@"; }
while read -r name; do
    complain "file names must be unique: $(code -name "$name" | tr '\n' ' ')"
done < <(code \( -name '*.[ch]' -o -name '*.py' -o -name '*.sh' \) | xargs -n1 basename | sort | uniq -d)

while read -r lines file; do
    [ "$file" = total ] || [ "$lines" -le 800 ] || complain "$file: $lines lines of code, split what passes 800"
done < <(code \( -name '*.[ch]' -o -name '*.py' -o -name '*.sh' \) -print0 | xargs -0 wc -l)

# The library does not print, end the process, or read or change what belongs to it (invariant I9). Comments aside.
while read -r hit; do
    complain "$hit: not in library code"
done < <(grep -rnE '\b(printf|puts|putchar|perror|exit|_exit|abort|getenv|secure_getenv|setenv|setlocale|srand|rand|chdir|signal)[[:space:]]*\(|\b(stdout|stderr)[[:space:]]*[,)]' src --exclude='*.html' |
    grep -vE '^[^:]+:[0-9]+:[[:space:]]*(/?\*|//)' | grep -vE ':[^:]*/\*[^*]*(stdout|stderr)' |
    grep -vE '^src/reward/judge\.c:[0-9]+:.*getenv\(variable\)') # a key, which must stand in no option and so in no config.yaml

# Numbers as text go through src/base/number.h, which knows no locale: a host program may have set one with a decimal comma.
while read -r hit; do
    complain "$hit: follows the locale; see base/number.h and base/json_text.h"
done < <(grep -rnE '\b(strtod|strtof|strtold|atof|sscanf|vsnprintf|vsprintf|sprintf|json_(load|dump)[a-z]*|str(n?)casecmp|is(alpha|alnum|digit|space|upper|lower|punct|print|xdigit)|to(upper|lower))[[:space:]]*\(' src --include='*.[ch]' |
    grep -vE '^src/base/(number|json_text)\.[ch]:|^[^:]+:[0-9]+:[[:space:]]*(/?\*|//)')
while read -r file; do
    hit=$(tr '\n' ' ' <"$file" | grep -oE '\bsnprintf\([^;]*;' | grep -E '%[-+ #0-9.*]*l?[aefgAEFG]' | cut -c1-80)
    [ -z "$hit" ] || complain "$file: $hit...: number_format of base/number.h prints fractions"
done < <(grep -rlE '\bsnprintf\(' src --include='*.[ch]' | grep -v '^src/base/number\.c$')

self=tests/house/test_layout.sh
while read -r hit; do
    complain "$hit: this flag changes results with the machine or the compiler"
done < <(grep -rnE -e '-f(fast-math|unsafe-math-optimizations|associative-math)|-Ofast|-march=native|pragma.*(fast-math|fp_contract)' \
    CMakeLists.txt cmake Makefile scripts src cli include tests bench examples --include='*.[ch]' --include='*.cmake' --include='CMakeLists.txt' \
    --include=Makefile --include='*.sh' | grep -v "^$self")
while read -r hit; do
    complain "$hit: a path of one machine"
done < <(grep -rnIE '(^|[^[:alnum:]_.~*/-])/(work|home|root|Users|mnt|workspace)/[[:alnum:]_]' \
    --exclude-dir=.git --exclude=.git --exclude-dir='build*' --exclude-dir=fixtures --exclude-dir=runs --exclude-dir=__pycache__ . | grep -v "^./$self")
exit $failed

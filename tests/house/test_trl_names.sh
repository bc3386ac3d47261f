#!/bin/bash
# The table of TRL's names in docs/GRPO.md is true: every field of TRL's GRPOConfig, RLOOConfig and ModelConfig (tests/fixtures/trl_fields.txt,
# written by oracle/trl_fields.py) has its row, once. Of a row "the same" every name is an option of grpo, with TRL's default unless the row
# speaks of the default. Of a row that names an option, or "none", no name is an option of grpo, and whoever gives it is told of that option,
# or why there is none; but where the row says "the same under another name" it is taken, with a note (in docs/SFT.md too), and no other is.
# (That a hint's options exist is tests/unit/test_options_hints.c.)
set -euo pipefail
export LC_ALL=C
COHORT=$(realpath "$COHORT")
cd "$SOURCE"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wrong=0
say() { echo "docs/GRPO.md, Names: $*"; wrong=1; }

fields=tests/fixtures/trl_fields.txt
# name | what stands in the second column | the third
awk '/^## Names/ { on = 1 } on && /^\| TRL / { table = 1 } on && table && /^$/ { exit } on && table && /^\| `/' docs/GRPO.md |
    awk -F' *\\| *' '{ n = split($2, names, /, /); for (i = 1; i <= n; i++) { gsub(/`/, "", names[i]); print names[i] "|" $3 "|" $4 } }' > "$work/rows"
test "$(wc -l < "$work/rows")" -gt 200 || { say "the table was not found"; exit 1; }

cut -d'|' -f1 "$work/rows" | sort > "$work/named"
while read -r name; do say "$name has two rows"; done < <(uniq -d "$work/named")
grep -v '^#' "$fields" | cut -d' ' -f1 | sort > "$work/known"
while read -r name; do say "the field $name has no row"; done < <(comm -13 "$work/named" "$work/known")
while read -r name; do say "$name is no field of TRL's configurations"; done < <(comm -23 "$work/named" "$work/known")

"$COHORT" grpo --help | grep -oE '^ +--[a-z0-9-]+' | tr -d ' ' | sed 's/^--//; s/^no-//; s/-/_/g' | sort -u > "$work/options"
# A default in the words of the option table: unset for null, without quotes.
default_of() { awk -v name="$1" '$1 == name { $1 = $2 = ""; print $3; exit }' "$fields" | sed 's/"//g; s/^null$/unset/'; }
# grpo's default of an option, by docs/OPTIONS.md, where it is a row of grpo.
ours_of() { awk -F' *[|] *' -v name="\`$1\`" '$2 == name && $6 ~ /(^|, )grpo(,|$)/ { print $4; exit }' docs/OPTIONS.md | tr -d '\`'; }
is_option() { grep -qx "$1" "$work/options"; }

# takes COMMAND NAME OPTION: the name is taken as that of the option, which is said once. (What is wrong with the command otherwise does not matter.)
takes() {
    local said
    said=$("$COHORT" "$1" "--${2//_/-}" 1 2>&1 < /dev/null || true)
    [ "$(grep -c "note: $2 is called ${3//\`/} here" <<<"$said")" = 1 ]
}

while IFS='|' read -r name here how; do
    if [ "$here" = "the same" ]; then
        is_option "$name" || { say "$name is no option of grpo"; continue; }
        theirs=$(default_of "$name") ours=$(ours_of "$name")
        test -n "$ours" || { say "docs/OPTIONS.md has no default of $name for grpo"; continue; }
        awk -v a="$theirs" -v b="$ours" 'BEGIN { exit !(a == b || (a ~ /^[0-9.]/ && b ~ /^[0-9.]/ && a + 0 == b + 0)) }' ||
            grep -q default <<<"$how" || say "$name is $theirs in TRL and $ours here: the row does not say that the default differs"
        continue
    fi
    if [[ $how == "the same under another name"* ]]; then
        takes grpo "$name" "$here" || say "$name is the same as $here by its row, and is not taken"
        continue
    fi
    ! is_option "$name" || { say "$name is an option of grpo; its row says '$here'"; continue; }
    told=$("$COHORT" grpo "--${name//_/-}" 1 2>&1 < /dev/null || true)
    # An option of another command alone is named as such: sft's, of which a GRPO step knows nothing.
    ! grep -qE "'$name' is not an option of grpo \(it is one of sft" <<<"$told" || continue
    grep -qE "grpo has no option '[a-z0-9-]+'(:|, called)" <<<"$told" || { say "nobody is told what $name is here: $told"; continue; }
    if [ "$here" = none ]; then
        ! grep -q ': it is called' <<<"$told" || say "$name has no counterpart by its row, and is told: $told"
        continue
    fi
    found=0
    for option in ${here//[\`,]/ }; do
        is_option "$option" || say "$name: $option is no option of grpo"
        grep -q "called '$option'" <<<"$told" && found=1
    done
    test $found = 1 || say "$name is $here by its row, and is told: $told"
done < "$work/rows"

n=0
while IFS='|' read -r names here; do
    IFS=', ' read -ra theirs <<<"${names//\`/}"
    IFS=', ' read -ra ours <<<"${here//\`/}"
    test ${#theirs[@]} = ${#ours[@]} || say "docs/SFT.md: $names are not as many as $here"
    for i in "${!theirs[@]}"; do
        n=$((n + 1))
        [ "${theirs[i]}" = "${ours[i]}" ] || takes sft "${theirs[i]}" "${ours[i]}" || say "docs/SFT.md: ${theirs[i]} is not taken as ${ours[i]}"
    done
done < <(awk -F' *[|] *' '/^[|] `/ && $4 ~ /^the same under another name/ { print $2 "|" $3 }' docs/SFT.md)
test $n -ge 6 || say "docs/SFT.md: $n names that are the same under another name"
# And no further: a name that is taken has a row that says so.
for name in $(sed -n 's/^SYNONYM("\([a-z_]*\)".*/\1/p' src/run/options_table.h); do
    grep -hE "^\| .*\`$name\`.*the same under another name" docs/GRPO.md docs/SFT.md > /dev/null || say "$name is taken, and no table says so"
done

# docs/TRAINERS.md: every field that only TRL's trainers of preferences have (tests/fixtures/trainer_fields.txt, written by
# oracle/trainer_fields.py) has its row for its command, once. Of a row "the same" it is an option with TRL's default; of one with a name it is
# taken as that; of a row "none" it is none, and whoever gives it is told so; of a row "as in grpo" it is both or neither's.
n=0
while IFS='|' read -r names commands here; do
    IFS=', ' read -ra theirs <<<"${names//\`/}"
    IFS=', ' read -ra takers <<<"${commands//\`/}"
    for command in "${takers[@]}"; do
        for name in "${theirs[@]}"; do
            n=$((n + 1))
            echo "$command $name" >> "$work/pairs"
            line=$(grep "^$command $name " tests/fixtures/trainer_fields.txt || true)
            test -n "$line" || { say "docs/TRAINERS.md: $name is no field of TRL's $command"; continue; }
            told=$("$COHORT" "$command" "--${name//_/-}" 1 2>&1 < /dev/null || true)
            if [[ "$here" = \`* ]]; then
                takes "$command" "$name" "$here" || say "docs/TRAINERS.md: $name is not taken as $here"
                continue
            fi
            if [ "$here" = "as in grpo" ]; then
                refused='has no option|is not an option of'
                other=$("$COHORT" grpo "--${name//_/-}" 1 2>&1 < /dev/null || true)
                [ "$(grep -cE "$refused" <<<"$told")" = "$(grep -cE "$refused" <<<"$other")" ] ||
                    say "docs/TRAINERS.md: $name is not with $command as it is with grpo"
                continue
            fi
            if [ "$here" != "the same" ]; then
                grep -qE "$command has no option|is not an option of $command" <<<"$told" || say "docs/TRAINERS.md: $name is none for $command by its row, and taken"
                continue
            fi
            ! grep -qE "$command has no option|is not an option of $command" <<<"$told" || { say "docs/TRAINERS.md: $name is no option of $command"; continue; }
            theirs_is=$(sed "s/^$command $name //; s/[][\"]//g; s/^null\$/unset/" <<<"$line")
            ours_is=$(awk -F' *[|] *' -v name="\`$name\`" -v command="$command" '$2 == name && $6 ~ ("(^|, )" command "(,|$)") { print $4; exit }' docs/OPTIONS.md | tr -d '\`')
            awk -v a="$theirs_is" -v b="$ours_is" 'BEGIN { exit !(a == b || (a ~ /^[0-9.]/ && b ~ /^[0-9.]/ && a + 0 == b + 0)) }' ||
                say "docs/TRAINERS.md: $name is $theirs_is in TRL's $command and $ours_is here"
        done
    done
done < <(awk "/^## TRL's names/ { on = 1 } on" docs/TRAINERS.md | awk -F' *[|] *' '/^[|] `/ { print $2 "|" $3 "|" $4 }')
test $n -ge 60 || say "docs/TRAINERS.md: $n names were found"
while read -r pair; do say "docs/TRAINERS.md: two rows for $pair"; done < <(sort "$work/pairs" | uniq -d)
while read -r pair; do say "docs/TRAINERS.md: no row for $pair"; done < <(comm -13 <(sort -u "$work/pairs") <(grep -v '^#' tests/fixtures/trainer_fields.txt | cut -d' ' -f1,2 | sort))

# docs/TRL_TESTS.md: every test that it names is there, in the folder that it names.
n=0
while read -r path; do
    n=$((n + 1))
    if [ "$path" = "${path##*/}" ]; then find tests -name "$path" | grep -q .; else test -e "$path"; fi ||
        { echo "docs/TRL_TESTS.md names $path, which is not there"; wrong=1; }
done < <(grep -oE '`(tests/[a-z_/]*)?test_[a-z0-9_]+\.(c|sh)`' docs/TRL_TESTS.md | tr -d '\`' | sort -u)
test $n -gt 30 || { echo "docs/TRL_TESTS.md: $n tests were found"; wrong=1; }
exit $wrong

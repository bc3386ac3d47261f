#!/bin/bash
# Every line of docs/FEATURES.md whose column of ours is not "no" names a test that is there.
set -eu
cd "$SOURCE"
failed=0
while IFS='|' read -r _ what ours _ _ _ tests _; do
    [[ $what == ' '* && $what != ' ' ]] || continue
    [[ $ours != ' no ' ]] || continue
    [ -n "${tests// /}" ] || { echo "docs/FEATURES.md:$what: no test"; failed=1; }
    folder=
    for test in ${tests//[,\`]/ }; do
        case $test in
        scripts/*) [ -e "$test" ] || { echo "docs/FEATURES.md:$what: no $test"; failed=1; } ;;
        *)
            [[ $test == */* ]] && folder=${test%/*}
            [ -e "tests/$folder/${test##*/}" ] || { echo "docs/FEATURES.md:$what: no tests/$folder/${test##*/}"; failed=1; } ;;
        esac
    done
done <docs/FEATURES.md
exit $failed

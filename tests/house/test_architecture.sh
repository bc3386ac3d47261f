#!/bin/bash
# ARCHITECTURE.md and CONTRIBUTING.md name functions and files that exist, docs/ and README.md files that exist.
set -eu
cd "$SOURCE"
failed=0
# `name` and `struct name` with an underscore, `file.c`, and paths.
for word in $(cat ARCHITECTURE.md CONTRIBUTING.md | grep -v '^\$' | grep -oE '`[^`]+`' | tr -d '`' | sed 's/^struct //; s/(.*//' | grep -E '^[A-Za-z][A-Za-z0-9_./]*$' | sort -u); do
    case "$word" in
    *NAME* | *KIND* | module_verb | cohort_noun_verb | build/* | checkpoints/* | fast-math | *.jsonl | *.yaml | *.json) continue ;;
    src/* | tests/* | bench/* | scripts/* | cmake/* | oracle/* | bindings/* | examples/* | docs/* | cli/* | include/* | .ci/*)
        test -e "$word" || { echo "there is no $word"; failed=1; }
        ;;
    *.c | *.h | *.cu | *.cuh)
        test -n "$(find src cli include bindings -name "$(basename "$word")")" || { echo "there is no file $word"; failed=1; }
        ;;
    *_*)
        grep -rqwE "$word" src cli include bindings CMakeLists.txt cmake || [ -e "tests/bindings/$word" ] || { echo "there is no $word in the code"; failed=1; }
        ;;
    esac
done
for word in $(grep -ohE '(src|tests|bench|scripts|cmake|oracle|bindings|examples|docs|cli|include)/[A-Za-z0-9_/]+\.[a-z]+' ARCHITECTURE.md CONTRIBUTING.md README.md | grep -v NAME | sort -u); do
    test -e "$word" || { echo "there is no $word"; failed=1; }
done
for word in $(cat docs/*.md README.md CHANGELOG.md SECURITY.md | grep -oE '`[^`]+`' | tr -d '`' | sed 's/ .*//' | grep -E '^[A-Za-z0-9_./]+\.(c|h|cu|cuh|sh|py|cmake|md)$' | sort -u); do
    test -n "$(find . -path './build*' -prune -o -path "*/$word" -print -quit)" || { echo "there is no $word"; failed=1; }
done
exit $failed

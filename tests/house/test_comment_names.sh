#!/bin/bash
# Names in the comments of C, CUDA and C++ sources exist: what has the look of an identifier (parts of two characters or more with an
# underscore between them), stands in backticks or is followed by "()" is an identifier somewhere in the code, or the name of a file; files
# with an ending of ours are in the tree. Prints FILE:LINE and the name of each one that is not.
set -eu
export LC_ALL=C
cd "${1:-$SOURCE}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What belongs to others: functions, options and files of transformers, jinja2, Python, TRL, MLX-LM, llama.cpp, Rust, and of the folders that users have; and
# kl_corrected, a run in a fixture.
cat > "$work/foreign" <<'END'
apply_chat_template
check.py
continue_final_message
float_divmod
from_utf8_lossy
get_scheduler
grpo.md
llama.cpp
kl_corrected
lr_lambda
lstrip_blocks
make_attrgetter
optimization.py
qwen3_instruct_2507_training
qwen3_training
sample_utils
sample_utils.py
test-sampling.cpp
test_sample_utils
test_sample_utils.py
think_format_reward
trim_blocks
END

code() { find src cli include tests bench examples oracle scripts cmake docs .ci -type f -not -path 'tests/fixtures/*' -not -path '*/__pycache__/*' "$@"; }
code \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' \) | sort |
    xargs awk -v comments="$work/comments" -v words="$work/words" -f tests/house/split_comments.awk
code | sed 's#.*/##' | tee "$work/files" | sed 's/\..*//' | cat - "$work/words" "$work/foreign" | sort -u > "$work/known"
sort -u "$work/files" "$work/foreign" > "$work/known_files"
test "$(wc -l < "$work/comments")" -gt 1000 && test "$(wc -l < "$work/known")" -gt 1000 # it has found some

# named PATTERN: the names in comments that match it, one a line, each once.
named() { grep -oE "$1" "$work/comments" | sed 's/.*://' | tr -d '`()' | sort -u; }
{
    named '\b[a-z][a-z0-9]+(_[a-z0-9]{2,})+\b' | grep -vE '_name(_|$)'
    named '`[A-Za-z_][A-Za-z0-9_]*`'
    named '\b[A-Za-z_][A-Za-z0-9_]*\(\)'
} | sort -u | comm -23 - "$work/known" > "$work/unknown"
named '[A-Za-z0-9_][A-Za-z0-9_.-]*\.(c|h|cu|cuh|cpp|py|sh|md|cmake)\b' | grep -v NAME | comm -23 - "$work/known_files" >> "$work/unknown"

while read -r name; do
    grep -wF -- "$name" "$work/comments" | cut -d: -f1,2 | sed "s/\$/: there is no $name/"
done < "$work/unknown"
test ! -s "$work/unknown"

#!/bin/bash
# docs/MLX_NODE_TESTS.md: every test of the Node package that it names is there, in the file that it names, and every case has one.
set -eu
cd "$SOURCE"
wrong=0
n=0
suite="" expected=0 rows=0
count() { [ "$rows" = "$expected" ] || { echo "docs/MLX_NODE_TESTS.md: $suite has $rows cases, its heading says $expected"; wrong=1; }; }
while IFS= read -r line; do
    case "$line" in
    '## '*)
        count
        suite=${line#'## '} rows=0
        expected=${suite##*\(}
        expected=${expected%)}
        ;;
    "| MLX-Node's case"* | '|---'*) ;;
    '| '*)
        rows=$((rows + 1)) n=$((n + 1))
        # shellcheck disable=SC2016 # backquotes of Markdown
        file=$(sed -nE 's/.*`(node_[a-z_]+)`: \*.*/\1/p' <<<"$line")
        # shellcheck disable=SC2016
        name=$(sed -nE 's/.*`node_[a-z_]+`: \*(.*)\* \|$/\1/p' <<<"$line")
        if [ -z "$file" ] || [ ! -e "tests/bindings/$file.js" ]; then
            echo "docs/MLX_NODE_TESTS.md: no file of tests in: $line"
            wrong=1
        elif ! sed "s/\\\\'/'/g" "tests/bindings/$file.js" | grep -qF -- "test('$name'"; then
            echo "docs/MLX_NODE_TESTS.md: $file.js has no test '$name'"
            wrong=1
        fi
        ;;
    esac
done <docs/MLX_NODE_TESTS.md
count
test $n = 114 || { echo "docs/MLX_NODE_TESTS.md: $n cases were found"; wrong=1; }
exit $wrong

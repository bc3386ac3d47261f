#!/bin/bash
# The Python package, put together from this build: its tests (tests/bindings/python_package.py) with the Python that is there.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 "$SOURCE/bindings/python/stage.py" "$BUILD/libcohort.so" "$work"
cd "$work"
PYTHONPATH=$work python3 -W error::ResourceWarning "$SOURCE/tests/bindings/python_package.py" > "$work/log" 2>&1 || { grep -v '^cohort: ' "$work/log"; exit 1; }
grep -E '^(Ran|OK)' "$work/log"
# Everything that the package has in common with the library comes out of it: a new option is an argument.
for option in $("$COHORT" grpo --help | grep -oE '^  --[a-z0-9-]+' | sed 's/^  --//; s/^no-//; s/-/_/g' | grep -vxE 'config|model|out|data|eval_data|reward|help'); do
    grep -q "^        $option: Optional" "$work/cohort/_configs.py" || { echo "GRPOConfig has no argument $option"; exit 1; }
done

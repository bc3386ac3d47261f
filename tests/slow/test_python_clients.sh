#!/bin/bash
# The Python package with the packages that people use beside it (of PyPI; skipped without a network): the wheel in an empty environment, the
# quick starts and the reward examples of TRL's documentation with the import, the model and the data set changed, datasets and PEFT, transformers
# reading what was trained, mypy --strict.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
skip() { echo "skipped: $*"; exit 77; }
say() { printf '== %s\n' "$*"; }

python3 -m venv "$work/empty" 2> /dev/null || skip "python3 has no venv"
PIP_INPUT=0 "$work/empty/bin/pip" download --quiet --no-deps -d "$work" pip > /dev/null 2>&1 || skip "PyPI cannot be reached"
"$COHORT" init --preset nano --tokenizer bytes --seed 1 --out "$work/nano" > /dev/null

say "the wheel in an empty environment: the first program of docs/PYTHON.md"
"$SOURCE/scripts/make-wheel" "$BUILD"
"$work/empty/bin/pip" install --quiet "$BUILD"/wheel/cohort-*.whl
cd "$work"
awk '/^```python$/ { on = 1; next } /^```$/ { if (on) exit } on' "$SOURCE/docs/PYTHON.md" |
    sed "s#path/to/Qwen3-0.6B#$work/nano#; s#max_steps=50#max_steps=6, max_completion_length=8#" > first.py
grep -q trainer.train first.py
env -i PATH=/usr/bin:/bin "$work/empty/bin/python" first.py > first.log 2>&1 || { cat first.log; exit 1; }
test -s first/model.safetensors

say "TRL's quick starts and examples"
python3 -m venv "$work/full"
"$work/full/bin/pip" install --quiet mypy datasets peft transformers torch numpy > pip.log 2>&1 || skip "PyPI: $(tail -n 1 pip.log)"
"$work/full/bin/pip" install --quiet "$BUILD"/wheel/cohort-*.whl
MODEL=$work/nano "$work/full/bin/python" "$SOURCE/tests/bindings/trl_quick_starts.py" > quick.log 2>&1 || { grep -v '^cohort: ' quick.log | tail -n 40; exit 1; }
grep '^ran ' quick.log

say "mypy --strict"
cp -r "$work"/full/lib/python3*/site-packages/cohort "$work/typed"
"$work/full/bin/mypy" --strict "$work/typed"

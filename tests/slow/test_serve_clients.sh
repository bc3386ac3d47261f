#!/bin/bash
# cohort serve and the official packages openai and anthropic of PyPI (skipped without a network). PYTHON: one that has them already.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$COHORT" init --preset nano --tokenizer bytes --seed 1 --out "$work/nano" > /dev/null 2>&1
"$COHORT" serve --model "$work/none" --port 0 2> "$work/refused" || ! grep -q "without libmicrohttpd" "$work/refused" || exit 77
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$work/venv" 2> /dev/null || { echo "skipped: python3 has no venv"; exit 77; }
    PYTHON=$work/venv/bin/python
    "$PYTHON" -m pip install --quiet openai anthropic > "$work/pip.log" 2>&1 || { echo "skipped: PyPI: $(tail -n 1 "$work/pip.log")"; exit 77; }
fi
export PYTHONDONTWRITEBYTECODE=1 COHORT
"$PYTHON" "$SOURCE/tests/support/serve_packages.py" "$work/nano"

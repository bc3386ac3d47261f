#!/usr/bin/env bash
# The 72 chat templates of the released TRL package, read from the package itself, render what transformers renders: 40 conversations
# each, without and with a generation prompt, and the bytes that {% generation %} marks. What is expected lies as hashes in
# tests/fixtures/jinja/trl_templates.json (oracle/chat_templates.py). Nothing of the package is kept; without a network this is skipped.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
skip() { echo "skipped: $*"; exit 77; }

command -v python3 >/dev/null || skip "no python3"
python3 -m pip --version >/dev/null 2>&1 || skip "python3 has no pip"
python3 -m pip download --quiet --no-deps --no-input --only-binary :all: --dest "$work" trl==1.16.0 >"$work/pip.log" 2>&1 ||
    skip "trl 1.16.0 cannot be fetched: $(tail -n 1 "$work/pip.log")"
python3 -m zipfile -e "$work"/trl-1.16.0-*.whl "$work/package"
"$BUILD/tests/test_jinja" --hashes "$work/package/trl/chat_templates"

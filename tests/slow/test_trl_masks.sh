#!/usr/bin/env bash
# What is trained of a conversation, by each of TRL's chat templates that has a training variant. The templates are read from the released
# package: of COHORT_TRL_TEMPLATES (its folder trl/chat_templates), or fetched with pip, into a folder that is removed.
set -euo pipefail
if [ -z "${COHORT_TRL_TEMPLATES:-}" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download -q --no-deps -d "$work" trl==1.16.0 || { echo "the package trl cannot be had: skipped"; exit 77; }
    (cd "$work" && python3 -m zipfile -e trl-*.whl package)
    export COHORT_TRL_TEMPLATES=$work/package/trl/chat_templates
fi
"$BUILD/tests/test_chat_training"

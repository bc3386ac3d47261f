#!/bin/bash
# The gradient of a step on slices of several batches is the same however it is divided (tests/invariance/test_step_rows.c): 200 random plans and
# settings, with a seed of today, which is printed. In `make test` it has 16 with a seed of its own.
set -eu
"$BUILD/tests/test_step_rows" --draws 200 --seed "${SEED:-$(date +%s)}"

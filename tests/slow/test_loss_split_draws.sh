#!/bin/bash
# The gradient of a step is the same however it is divided (tests/invariance/test_loss_split.c): 200 random settings of the loss, with a seed of
# today, which is printed. In `make test` it has 16 with a seed of its own.
set -eu
"$BUILD/tests/test_loss_split" --draws 200 --seed "${SEED:-$(date +%s)}"

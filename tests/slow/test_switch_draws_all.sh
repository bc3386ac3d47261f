#!/bin/bash
# 200 random settings of all switches: tests/invariance/test_switch_draws.sh, with a seed of today, which is printed. In `make test` it has 6 with
# a seed of its own.
set -eu
DRAWS=200 SEED="${SEED:-$(($(date +%s) % 32768))}" bash "$SOURCE/tests/invariance/test_switch_draws.sh"

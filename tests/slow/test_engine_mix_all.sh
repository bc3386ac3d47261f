#!/bin/bash
# 500 random mixes of requests, each request compared with itself alone (tests/invariance/test_engine_mix.c), with a seed of today, which is
# printed, and four small ones on the emulated GPU. In `make test` it has 24 with a seed of its own, and two brief ones.
set -eu
seed=${SEED:-$(date +%s)}
"$BUILD/tests/test_engine_mix" --cases 500 --seed "$seed"
[ ! -x "$BUILD/tests/test_engine_mix_emulated" ] ||
    "$BUILD/tests/test_engine_mix_emulated" --device cuda --small --cases 4 --seed "$seed"

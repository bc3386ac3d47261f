#!/bin/bash
# 500 random mixes of requests, each request compared with itself alone (tests/invariance/test_engine_mix.c), with a seed of today, which is
# printed. In `make test` it has 24 with a seed of its own.
set -eu
"$BUILD/tests/test_engine_mix" --cases 500 --seed "${SEED:-$(date +%s)}"

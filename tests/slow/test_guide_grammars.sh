#!/bin/bash
# Guides against full enumeration (tests/unit/test_guide_enumeration.c): 2,000 random grammars, with a seed of today, which is printed. In
# `make test` it has 150 with a seed of its own.
set -eu
seed=${SEED:-$(date +%s)}
echo "seed $seed"
"$BUILD/tests/test_guide_enumeration" 2000 "$seed"

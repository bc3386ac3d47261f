#!/bin/bash
# The acceptance of the demo, seed 1.
source "$(dirname "$0")/demo_seed.sh" 1

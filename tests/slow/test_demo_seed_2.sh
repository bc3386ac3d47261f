#!/bin/bash
# The acceptance of the demo, seed 2.
source "$(dirname "$0")/demo_seed.sh" 2

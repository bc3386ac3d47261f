#!/bin/bash
# The acceptance of the demo, seed 3.
source "$(dirname "$0")/demo_seed.sh" 3

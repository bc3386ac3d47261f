#!/bin/bash
# The bits of the results stay: what every instruction set of this machine computes for a small model (tests/support/bits.sh) has the hashes
# recorded in bits.txt. A change that is meant to give other results records them anew and says why in its commit:
#
#     COHORT=build/cohort SOURCE=. bash tests/house/test_bits.sh --record      lines of this machine's instruction sets are replaced
#
# Lines for instruction sets that this machine lacks are not looked at. scripts/same-bits compares two builds, also of the demo.
set -euo pipefail
export LC_ALL=C
COHORT=$(realpath "$COHORT")
# shellcheck source=../support/bits.sh
. "$SOURCE/tests/support/bits.sh"
recorded=$SOURCE/tests/house/bits.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for isa in portable avx2 avx512 avx512-bf16 amx-bf16; do
    "$COHORT" info --device cpu --isa $isa > /dev/null 2>&1 || { echo "$isa: not on this machine"; continue; }
    bits_make "$COHORT" "$work/$isa" $isa > "$work/output" 2>&1 || { tail -n 5 "$work/output" "$work/$isa/log"; exit 1; }
    (cd "$work/$isa" && for name in $(bits_names); do printf '%s %s %s\n' $isa "$name" "$(sha256sum "$name" | cut -d' ' -f1)"; done) >> "$work/now"
    rm -rf "${work:?}/$isa"
done
if [ "${1:-}" = --record ]; then
    touch "$recorded"
    { grep -vE "^($(cut -d' ' -f1 "$work/now" | sort -u | paste -sd'|')) " "$recorded" || true; cat "$work/now"; } | sort > "$work/all"
    cp "$work/all" "$recorded"
    exit 0
fi
grep -qFf <(cut -d' ' -f1 "$work/now" | sort -u) "$recorded" || { echo "bits.txt has no line for an instruction set of this machine"; exit 1; }
if differ=$(grep -vxFf "$recorded" "$work/now"); then
    echo "other bits than bits.txt records:"
    cut -d' ' -f1,2 <<<"$differ"
    exit 1
fi
echo "$(wc -l < "$work/now") results have the recorded bits"

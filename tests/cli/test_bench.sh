# cohort bench: every figure of a kind comes out once, above zero and with its share of a limit; what it cannot do is refused.
set -eu
fail() { echo "test_bench: $1" >&2; exit 1; }

out=$("$COHORT" bench --preset nano --quick --kind prefill,decode --format jsonl 2>/dev/null)
[ "$(grep -c '"kind": "machine"' <<<"$out")" = 2 ] || fail "expected the machine's limits beside each kind: $out"
for what in '"kind": "prefill", "what": "512 tokens"' '"what": "1023 tokens"' '"what": "batch 1,' '"what": "batch 8,' '"what": "batch 32,'; do
    row=$(grep -F "$what" <<<"$out") || fail "no row with $what: $out"
    [ "$(wc -l <<<"$row")" = 1 ] || fail "more than one row with $what"
    grep -Eq '"value": [1-9][0-9.e+]*, "unit": "tok/s"' <<<"$row" || fail "no rate in $row"
    grep -Eq '"samples": 3' <<<"$row" || fail "not three samples in $row"
    grep -Eq '"share_of_limit": [0-9.]+, "limit": "(memory|products)"' <<<"$row" || fail "no share of a limit in $row"
done
[ "$(wc -l <<<"$out")" = 7 ] || fail "expected 7 rows, one a line: $out"

if message=$("$COHORT" bench --preset nano --model . 2>&1); then fail "--preset with --model was accepted"; fi
grep -q -- '--preset NAME or --model DIR' <<<"$message" || fail "unclear: $message"
if message=$("$COHORT" bench --kind speed 2>&1); then fail "an unknown kind was accepted"; fi
grep -q 'gemm' <<<"$message" || fail "the message does not name the kinds: $message"

# The memory plan is asked first: what does not fit is a line with the reason, and an error only where it was asked for by name.
if out=$("$COHORT" bench --device cpu --preset nano --quick --kind train --format jsonl --memory-limit 0.2 2>err); then fail "--kind train fits in 0.2 GB?"; fi
grep -Eq '"kind": "train", "what": "8 x \(128 \+ 128\)", "left_out": "training needs .* GB are there' <<<"$out" || fail "no line of what was left out: $out"
grep -q -- '--kind train: there is not enough memory for any of it' err || fail "unclear: $(cat err)"
if message=$("$COHORT" bench --device cpu --preset nano --kind train --memory-limit 0.02 2>&1); then fail "weights fit in 0.02 GB?"; fi
grep -Eq 'weights take 0\.0[0-9]+ GB, 0\.02 GB are there' <<<"$message" || fail "unclear: $message"
rm -f err

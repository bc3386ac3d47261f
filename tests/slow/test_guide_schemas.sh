#!/usr/bin/env bash
# guided_json on 2,000 random schemas over all its keywords with a seed of today, which is printed, against what jsonschema says of their
# documents (oracle/guided_schemas.py). $PYTHON (python3) must have jsonschema, rfc3339-validator and llguidance. In `make test`
# the schemas of one seed are a table.
set -euo pipefail
python=${PYTHON:-python3}
"$python" -c 'import jsonschema, rfc3339_validator, llguidance' 2>/dev/null || { echo "no jsonschema or llguidance: skipped"; exit 77; }
seed=${SEED:-$(date +%s)}
echo "seed $seed"
schemas=$(mktemp)
trap 'rm -f "$schemas" "$schemas.orders"' EXIT
"$python" "$SOURCE/oracle/guided_schemas.py" "${COUNT:-2000}" "$seed" >"$schemas"
"$BUILD/tests/test_guided_json" "$schemas"
"$python" "$SOURCE/oracle/guided_schemas.py" 700 "$seed" orders >"$schemas.orders"
"$BUILD/tests/test_guided_json" "$schemas.orders"
"$python" "$SOURCE/oracle/guided_lark.py" 400 "$seed" "$schemas"
"$BUILD/tests/test_guide_lark" "$schemas"

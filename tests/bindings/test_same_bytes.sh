#!/bin/bash
# Fifty GRPO steps whose reward is a function in C, in Node, in Python, or a program (exec:): the trained weights are the same bytes.
# The programs are those of bench/bench_bindings.sh.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$COHORT" init --preset nano --tokenizer bytes --seed 1 --out model > init.log 2>&1 || { cat init.log; exit 1; }
for i in 1 2 3 4 5 6; do echo "{\"prompt\": \"question $i\", \"answer\": \"$i\"}"; done > data.jsonl
sed 's/^steps: .*/steps: 50/; s/^max_completion_length: .*/max_completion_length: 12/; s/^num_generations: .*/num_generations: 4/; s/^learning_rate: .*/learning_rate: 0.001/' \
    "$SOURCE/bench/bindings_settings.yaml" > settings.yaml
with() { # with WHO COMMAND...: a run into the folder WHO
    "${@:2}" > "$1.log" 2>&1 || { cat "$1.log"; echo "$1 failed"; exit 1; }
}

"${CC:-cc}" -O2 -I "$SOURCE/include" "$SOURCE/bench/bindings_program.c" -o program -L "$BUILD" -lcohort -Wl,-rpath,"$BUILD"
with c ./program settings.yaml c 10
cat > reward.py << 'END'
import json, sys
for line in sys.stdin:
    print(float(len(set(json.loads(line)["completion"]))), flush=True)
END
with exec "$COHORT" grpo --config settings.yaml --out exec --reward "exec:python3 $work/reward.py"
python3 "$SOURCE/bindings/python/stage.py" "$BUILD/libcohort.so" "$work/python"
with py env PYTHONPATH="$work/python" python3 "$SOURCE/bench/bindings_program.py" settings.yaml py 10
if command -v node > /dev/null && [ -e "$BUILD/node-addon/cohort.node" ]; then
    mkdir -p node_modules/cohort
    node "$SOURCE/bindings/node/stage.js" "$BUILD/node-addon/cohort.node" node_modules/cohort
    with node env NODE_PATH="$work/node_modules" node --no-warnings "$SOURCE/bench/bindings_program.js" settings.yaml node 10
else
    echo "there is no node, or no addon: C, Python and exec: alone"
fi
for run in c exec py node; do
    [ -d $run ] || continue
    [ "$(grep -c '^{"step": [1-9]' $run/metrics.jsonl)" = 50 ] || { echo "$run has not made fifty steps"; exit 1; }
    cmp c/final/model.safetensors $run/final/model.safetensors || { echo "the weights of $run are others"; exit 1; }
done
! cmp -s model/model.safetensors c/final/model.safetensors || { echo "nothing was learned"; exit 1; }

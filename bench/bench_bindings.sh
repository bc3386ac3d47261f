#!/usr/bin/env bash
# What a GRPO step costs from Node and from Python beside a program in C: the same run (reward: how many different characters a completion has), by
# each in turn, with the same bytes of trained weights, which is checked. Prints a step's processor time (of the whole process) and its time by the
# clock, the medians of what the bindings add to the C program of the same round, and that as a share of the step. The model nano, whose
# steps are the shortest there are, says what is added; a larger one what share that is.
#
#   bench/bench_bindings.sh [ROUNDS [STEPS]]     of a built tree (make): BUILD, build; MODELS: those of 'cohort init', or folders
set -euo pipefail
export LC_ALL=C
here=$(realpath "$(dirname "$0")") rounds=${1:-5} steps=${2:-60} from=10
build=$(realpath "${BUILD:-build}")
cohort=$build/cohort
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cc -O2 -I "$here/../include" "$here/bindings_program.c" -o program -L "$build" -lcohort -Wl,-rpath,"$build"
python3 "$here/../bindings/python/stage.py" "$build/libcohort.so" python
mkdir -p node_modules/cohort
node "$here/../bindings/node/stage.js" "$build/node-addon/cohort.node" node_modules/cohort
export PYTHONPATH=$work/python NODE_PATH=$work/node_modules
for i in $(seq 64); do printf '{"prompt": "question %d: what is %d + %d?", "answer": "%d"}\n' "$i" "$i" "$i" "$((2 * i))"; done > data.jsonl
# 12 million parameters with the tokenizer "bytes": a third of a second of one core.
cat > small.json << 'END'
{"model_type": "qwen3", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 64,
 "intermediate_size": 1152, "max_position_embeddings": 2048, "vocab_size": 512, "rms_norm_eps": 1e-06, "rope_theta": 1000000, "tie_word_embeddings": true,
 "hidden_act": "silu", "attention_bias": false}
END

run() { # run WHO OUT: a step's times
    case $1 in
    c) ./program settings.yaml "$2" $from ;;
    node) node --no-warnings "$here/bindings_program.js" settings.yaml "$2" $from ;;
    python) python3 "$here/bindings_program.py" settings.yaml "$2" $from ;;
    esac 2> "$2.err" | tail -n 1 || { cat "$2.err" >&2; exit 1; }
}
median() { sort -n | awk '{ r[NR] = $1 } END { printf "%.1f\n", NR % 2 ? r[(NR + 1) / 2] : (r[NR / 2] + r[NR / 2 + 1]) / 2 }'; }

for name in ${MODELS:-nano small}; do
    case $name in
    small) "$cohort" init --config small.json --tokenizer bytes --seed 1 --out small > init.log 2>&1 || { cat init.log; exit 1; } ; model=small ;;
    */*) model=$name ;;
    *) "$cohort" init --preset "$name" --tokenizer bytes --seed 1 --out "$name" > init.log 2>&1 || { cat init.log; exit 1; } ; model=$name ;;
    esac
    sed "s|^model: .*|model: $model|; s|^steps: .*|steps: $steps|" "$here/bindings_settings.yaml" > settings.yaml
    rm -f -- *.times
    for round in $(seq "$rounds"); do
        order=(c node python)
        for i in 0 1 2; do
            who=${order[(i + round) % 3]}
            rm -rf "out-$who"
            run "$who" "out-$who" > "$who.last"
            cat "$who.last" >> "$who.times"
        done
        [ "$(sha256sum out-*/final/model.safetensors | cut -d' ' -f1 | sort -u | wc -l)" = 1 ] || { echo "the trained weights differ" >&2; exit 1; }
        echo "$name, round $round: processor and clock, us a step: C $(cat c.last), Node $(cat node.last), Python $(cat python.last)"
    done
    for who in node python; do
        for column in 1 2; do
            [ $column = 1 ] && what="of processor time" || what="by the clock"
            added=$(paste -d' ' "$who.times" c.times | awk -v c=$column '{ printf "%.1f\n", $c - $(c + 2) }' | median)
            step=$(cut -d' ' -f$column c.times | median)
            awk -v who="$who" -v a="$added" -v s="$step" -v what="$what" -v name="$name" -v n="$rounds" \
                'BEGIN { printf "%s: %s adds %+.0f us %s to a step of %.0f us, %+.2f %% (median of %d)\n", name, who, a, what, s, 100 * a / s, n }'
        done
    done
done

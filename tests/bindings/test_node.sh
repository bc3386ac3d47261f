#!/bin/bash
# The Node package, put together from this build: its tests (tests/bindings/node_*.js) with the Node that is there, or those that NODES names; its
# types, the examples, and the package as npm installs it.
set -euo pipefail
command -v node > /dev/null || { echo "there is no node"; exit 77; }
[ -e "$BUILD/node-addon/cohort.node" ] || { echo "the addon was not built: CMake found no node_api.h (libnode-dev)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
package=$work/node_modules/cohort
mkdir -p "$package"
node "$SOURCE/bindings/node/stage.js" "$BUILD/node-addon/cohort.node" "$package"
"$COHORT" init --preset nano --tokenizer bytes --seed 1 --out "$work/model" > "$work/init.log" 2>&1 || { cat "$work/init.log"; exit 1; }
export NODE_PATH=$work/node_modules MODEL=$work/model WORK=$work

# One file for every Node: nothing of V8 or libuv, and the module's entry points alone are seen.
nm -D --undefined-only "$package/cohort.node" | awk '{ print $2 }' | grep -E '^(uv_|_ZN2v8|_ZN4node)' && { echo "the addon uses more than Node-API"; exit 1; }
[ "$(nm -D --defined-only "$package/cohort.node" | awk '{ print $3 }' | paste -sd ' ')" = "napi_register_module_v1 node_api_module_get_api_version_v1" ] ||
    [ "$(nm -D --defined-only "$package/cohort.node" | awk '{ print $3 }')" = napi_register_module_v1 ] || { nm -D --defined-only "$package/cohort.node"; exit 1; }

for program in ${NODES:-node}; do
    for file in "$SOURCE"/tests/bindings/node_*.js; do
        timeout 400 "$program" --expose-gc --no-warnings "$file" > "$work/log" 2>&1 || { grep -vE '^ *(# Subtest|ok|\.\.\.|---|duration_ms|type:|1\.\.)' "$work/log"; echo "$program $file failed"; exit 1; }
        echo "$("$program" --version) $(basename "$file"): $(grep -oE 'pass [0-9]+' "$work/log" | head -n 1)"
    done
done

# Every option of the library has its type, and what a program writes has one.
for option in $("$COHORT" grpo --help | grep -oE '^  --[a-z0-9-]+' | sed -E 's/^  --//; s/^no-//' | sed -E 's/-([a-z0-9])/\U\1/g' | grep -vx help); do
    grep -q "^  $option?: " "$package/options.d.ts" || { echo "options.d.ts has no $option"; exit 1; }
done
if command -v tsc > /dev/null; then
    cp "$SOURCE/tests/bindings/node_types.ts" "$work/"
    (cd "$work" && tsc --noEmit --strict --target es2020 --lib es2020,dom --moduleResolution node node_types.ts) || { echo "the types do not fit"; exit 1; }
else
    echo "there is no tsc: the types were not checked"
fi

# The examples, from a folder where the package is found as a program finds it.
cp "$SOURCE"/examples/node/*.mjs "$work/"
awk 'FNR == 41 { print FILENAME " has more than 40 lines"; bad = 1 } END { exit bad }' "$work"/*.mjs
cd "$work"
node generate_stream.mjs "$MODEL" Hello > "$work/generate.log" || { cat "$work/generate.log"; exit 1; }
[ "$(grep -c 'log-prob -' "$work/generate.log")" = 4 ] || { cat "$work/generate.log"; exit 1; }
node train_async_reward.mjs "$MODEL" "$work/example" 2 > "$work/train.log" || { cat "$work/train.log"; exit 1; }
grep -q "^trained model: $work/example/final" "$work/train.log" || { cat "$work/train.log"; exit 1; }
node look_into_store.mjs "$work/example" > "$work/look.log" || { cat "$work/look.log"; exit 1; }
grep -q '^example: completed, 2 steps of model' "$work/look.log" || { cat "$work/look.log"; exit 1; }

# The packed package in an empty folder, followed by the first lines of docs/NODE.md.
command -v npm > /dev/null || { echo "there is no npm: the package was not installed"; exit 0; }
"$SOURCE/scripts/make-node-package" "$BUILD" "$work/npm" > "$work/package.log" 2>&1 || { cat "$work/package.log"; exit 1; }
mkdir "$work/user"
cd "$work/user"
unset NODE_PATH
npm install --offline --no-audit --no-fund --silent "$(tail -n 1 "$work/package.log")" > "$work/install.log" 2>&1 || { cat "$work/install.log"; exit 1; }
# shellcheck disable=SC2016 # fences of Markdown
sed -n '/^```js$/,/^```$/p' "$SOURCE/docs/NODE.md" | sed '1d; /^```$/,$d' | sed "s|path/to/Qwen3-0.6B|$MODEL|; s|load('[^']*'|&, { maxContext: 1024 }|; s|stream(messages)|stream(messages, { maxNewTokens: 20 })|" > first.mjs
node first.mjs > "$work/first.log" 2>&1 || { cat first.mjs "$work/first.log"; exit 1; }
[ -s "$work/first.log" ] || { echo "docs/NODE.md's first program prints nothing"; exit 1; }

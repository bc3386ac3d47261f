# cohort merge: the base with an adapter merged into it, whole or not at all; what goes wrong is said.
. "$(dirname "$0")/shell.sh"
fixtures=$SOURCE/tests/fixtures/adapter

cp -r "$fixtures/base_qwen3_f32" base_qwen3_f32
cp -r "$fixtures/qwen3_f32_plain" adapter
succeeds "$COHORT" merge --model base_qwen3_f32 --adapter adapter --out merged
has err '6 projections with the adapter merged into them'
succeeds "$COHORT" info --model merged --verify
cmp -s base_qwen3_f32/model.safetensors merged/model.safetensors && wrong "nothing was merged"

# The base that the adapter names, from where the program runs; and --adapter-path, as MLX-LM calls it.
succeeds "$COHORT" merge --adapter-path adapter --out named
cmp -s merged/model.safetensors named/model.safetensors || wrong "another base, or other weights"

fails 1 'already exists' "$COHORT" merge --adapter adapter --out named
fails 2 'no adapter given' "$COHORT" merge --model base_qwen3_f32 --out other
fails 2 'no folder to write given' "$COHORT" merge --model base_qwen3_f32 --adapter adapter
mv base_qwen3_f32 moved
fails 1 'the base model that adapter names; pass --model DIR' "$COHORT" merge --adapter adapter --out other
sed 's/"r": 2/"r": 3/' "$fixtures/qwen3_f32_plain/adapter_config.json" >adapter/adapter_config.json
fails 1 'wrong shape' "$COHORT" merge --model moved --adapter adapter --out other
[ ! -e other ] || wrong "a folder was left"
done_testing

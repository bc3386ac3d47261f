# Model folders that are broken: a clear error with file, place and what was expected, exit code 1, never a crash.
. "$(dirname "$0")/../cli/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out good
echo '{"prompt_tokens": [1, 2, 3], "tokens": [4, 5]}' >row.jsonl
score() { "$COHORT" logprobs --model "$1" --batch row.jsonl --threads 1; }
# broken NAME: a fresh copy of the good folder, called NAME
broken() { rm -rf "$1"; cp -r good "$1"; }
succeeds score good

# --- config.json ---
broken c; rm c/config.json
fails 1 'c: no config.json' score c
broken c; : >c/config.json
fails 1 'c/config.json' score c
broken c; echo '{"architectures": ["Qwen3ForCausalLM"]' >c/config.json
fails 1 'c/config.json:[0-9]+:' score c
broken c; head -c 100000 /dev/zero | tr '\0' '[' >c/config.json
fails 1 'c/config.json' score c
broken c; echo '[1]' >c/config.json
fails 1 'c/config.json.*object' score c
broken c; printf '{"model_type": "\xff"}' >c/config.json
fails 1 'c/config.json' score c
# edit KEY VALUE PATTERN: config.json with another value of a key
edit()
{
    broken c
    sed -i -E "s|\"$1\": [^,]*(,?)\$|\"$1\": $2\\1|" c/config.json
    fails 1 "$3" score c
}
edit model_type '"llama"' 'c/config.json: .*llama.*qwen3'
edit model_type 3 'model_type'
edit hidden_act '"gelu"' 'hidden_act.*gelu'
edit attention_bias true 'missing tensors.*q_proj.bias'
edit attention_bias 3 'attention_bias'
broken c; sed -i -E 's|("use_sliding_window": )false|\1true|; s|("sliding_window": )null|\18|; s|("max_window_layers": )2|\11|' c/config.json
succeeds score c # a window of 8 positions in the second layer
sed -i -E 's|("sliding_window": )8|\1-3|' c/config.json
fails 1 'sliding_window' score c
edit rope_scaling '{"rope_type": "longrope", "factor": 4.0}' 'rope.*longrope'
edit rope_scaling '{"rope_type": "yarn"}' 'rope.*factor'
edit hidden_size 65 'shape|hidden_size|64'
edit hidden_size -1 'hidden_size.*-1'
edit hidden_size '"big"' 'hidden_size'
edit hidden_size 1e300 'hidden_size'
edit num_hidden_layers 0 'num_hidden_layers'
edit num_hidden_layers 3 'model.layers.2'
edit num_hidden_layers 1 'model.layers.1'
edit num_hidden_layers 99999999999 'num_hidden_layers'
edit num_key_value_heads 3 'num_key_value_heads|heads'
edit head_dim 17 'head_dim'
edit vocab_size 100 'vocab_size|embed_tokens'
edit vocab_size 2147483647 'vocab_size|embed_tokens'
edit rms_norm_eps '"x"' 'rms_norm_eps'
edit tie_word_embeddings false 'lm_head.weight'
edit max_position_embeddings 0 'max_position_embeddings'
edit torch_dtype '"float64"' 'dtype.*float64'
sed 's/"Qwen3ForCausalLM"/"LlamaForCausalLM"/' good/config.json >c/config.json
fails 1 'LlamaForCausalLM' score c
broken c; echo '{"eos_token_id": "x"}' >c/generation_config.json
fails 1 'generation_config.json.*eos_token_id' score c
broken c; echo '{"eos_token_id": [1, 99999]}' >c/generation_config.json
succeeds score c # no token has that id: it ends nothing

# --- model.safetensors: 8 bytes of length, a JSON header, data ---
S=c/model.safetensors
broken c; rm $S
fails 1 'c.*model.safetensors' score c
broken c; rm $S; mkdir $S
fails 1 'model.safetensors' score c
for n in 0 4 8 9 100 1000 100000; do
    broken c; truncate -s $n $S
    fails 1 'c/model.safetensors' score c
done
broken c; printf 'x' >>$S
fails 1 'c/model.safetensors.*(1 byte|after|trailing|end)' score c
broken c; printf '\377\377\377\377\377\377\377\177' | dd of=$S conv=notrunc status=none
fails 1 'c/model.safetensors.*header' score c
# header SED PATTERN: the header rewritten, its length kept right by padding with spaces
length=$(od -An -t u8 -N 8 good/model.safetensors | tr -d ' ')
header()
{
    broken c
    dd if=good/model.safetensors bs=1 skip=8 count="$length" status=none | sed -E "$1" >./head
    local size
    size=$(stat -c %s head)
    [ "$size" -gt "$length" ] && wrong "the test's header grew from $length to $size"
    { head -c 8 good/model.safetensors; cat head; head -c $((length - size)) /dev/zero | tr '\0' ' '; tail -c +$((length + 9)) good/model.safetensors; } >$S
    cmp -s $S good/model.safetensors && wrong "nothing was changed by $1"
    fails 1 "$2" score c
}
header 's/BF16/F99 /' 'model.safetensors.*F99'
header 's/BF16/I32 /' 'model.safetensors.*(I32|bytes)'
header 's/"model.norm.weight"/"model.norm.weighs"/' 'model.norm.weigh'
header 's/"shape":\[64\]/"shape":[63]/' 'model.safetensors.*(shape|bytes)'
header 's/"shape":\[64\]/"shape":64/' 'model.safetensors.*shape'
header 's/"shape":\[64\]/"shape":[-4]/' 'model.safetensors.*shape'
header 's/"data_offsets":\[0,/"data_offsets":[2,/' 'model.safetensors'
header 's/\{/[/' 'model.safetensors.*'
# Overlap: the second tensor starts where the first does. Offsets of tensor k and k+1 exchanged for the same range.
range=$(dd if=good/model.safetensors bs=1 skip=8 count="$length" status=none | grep -o '"shape":\[64\],"data_offsets":\[[0-9]*,[0-9]*\]' | head -n 1 | grep -o '\[[0-9]*,[0-9]*\]$')
header "s/(\"shape\":\\[64\\],\"data_offsets\":)\\[[0-9]*,[0-9]*\\]/\\1${range//[/\\[}/g" 'model.safetensors.*(overlap|gap|twice|begin|offset|bytes)'

# NaN weights: no completion is made of them.
broken c
size=$(stat -c %s $S)
{ head -c $((length + 8)) good/model.safetensors; head -c $((size - length - 8)) /dev/zero | tr '\0' '\377'; } >$S
fails 1 'not finite|NaN|finite' score c
fails 1 'not finite|NaN|finite' "$COHORT" generate --model c --prompt x --max-tokens 3 --threads 1
# One NaN anywhere is found when the weights are read.
broken c
printf '\300\177' | dd of=$S bs=1 seek=$((size - 20)) conv=notrunc status=none
fails 1 'element [0-9]+ is nan' score c
# A final norm (the last tensor) so large that logits overflow: no completion and no log-prob comes out.
broken c
{ head -c $((size - 128)) good/model.safetensors; head -c 128 /dev/zero | tr '\0' '\177'; } >$S
fails 1 'finite' score c
is "$(cat out)" "" "log-probs of weights that overflow"
fails 1 'logits are not numbers' "$COHORT" generate --model c --prompt x --max-tokens 3 --threads 1
is "$(cat out)" "" "text of weights that overflow"

# --- shards ---
cp -r "$SOURCE/tests/fixtures/model_sharded" sharded
succeeds score sharded
I=c/model.safetensors.index.json
shards() { rm -rf c; cp -r sharded c; }
shards; rm c/model-00002-of-00003.safetensors
fails 1 'index.json: .*model-00002-of-00003.safetensors' score c
shards; truncate -s 5000 c/model-00003-of-00003.safetensors
fails 1 'model-00003-of-00003.safetensors' score c
shards; cp c/model-00001-of-00003.safetensors c/model-00002-of-00003.safetensors
fails 1 'model-0000[12]-of-00003.safetensors' score c
shards; sed -i '0,/"model.norm.weight"/s//"model.norm.weighs"/' $I
fails 1 'model.norm.weigh' score c
shards; sed -i 's/model-00003-of-00003.safetensors/..\/sharded\/model-00003-of-00003.safetensors/' $I
fails 1 'index.json' score c
shards; echo '{"weight_map": []}' >$I
fails 1 'index.json.*weight_map' score c
shards; echo '{' >$I
fails 1 'index.json:[0-9]+' score c
shards; rm $I
fails 1 'model.safetensors' score c

# --- tokenizer.json ---
gen() { "$COHORT" generate --model "$1" --prompt x --max-tokens 2 --threads 1; }
T=c/tokenizer.json
broken c; rm $T
fails 1 'c/tokenizer.json' gen c
succeeds score c
broken c; truncate -s 2000 $T
fails 1 'c/tokenizer.json:94:' gen c
broken c; echo '{}' >$T
fails 1 'c/tokenizer.json: decoder' gen c
broken c; sed -i 's/"type": *"BPE"/"type": "WordPiece"/' $T
fails 1 'c/tokenizer.json.*WordPiece' gen c
broken c; head -c 50000 /dev/zero | tr '\0' '[' >$T
fails 1 'c/tokenizer.json' gen c
broken c; sed -i 's/"chat_template": *"/&{% foreign %}/' c/tokenizer_config.json
fails 1 'template' "$COHORT" generate --model c --prompt x --chat --max-tokens 2
broken c; sed -i -E 's/"vocab_size": [0-9]+/"vocab_size": 10/' c/config.json
fails 1 'model.embed_tokens.weight in model.safetensors: expected \[10, ' gen c

# --- init ---
fails 1 'exists' "$COHORT" init --preset nano --out good
broken c; echo '{' >$T
fails 1 '^cohort: c/tokenizer.json:' "$COHORT" init --preset nano --tokenizer c --out x
broken c; rm $T; : >c/vocab.json
fails 1 '^cohort: c/tokenizer.json: is not there, but vocab.json, which is not read; write tokenizer.json with transformers' \
    "$COHORT" init --preset nano --tokenizer c --out x
fails 1 'nowhere: .*tokenizer.json' "$COHORT" init --preset nano --tokenizer nowhere --out x
absent x
fails 1 'nowhere.json.*cannot open' "$COHORT" init --config nowhere.json --out x
fails 2 'either --preset' "$COHORT" init --preset nano --config good/config.json --out x
fails 1 'row.jsonl: ' "$COHORT" init --preset nano --out row.jsonl/a/file
echo '{"model_type": "gpt2"}' >other.json
fails 1 'other.json' "$COHORT" init --config other.json --out x
absent x
no_leftovers .
done_testing

# What people hand over in place of a model or of rows: the message says what it is and what to do, exit code 1.
. "$(dirname "$0")/../cli/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out good
echo '{"prompt_tokens": [1, 2, 3], "tokens": [4, 5]}' >row.jsonl
score() { "$COHORT" logprobs --model "$1" --batch row.jsonl --threads 1; }
gen() { "$COHORT" generate --model "$1" --prompt x --max-tokens 2 --threads 1; }
tokens() { "$COHORT" tokenize --model good --batch "$1"; }
fresh() { rm -rf m; cp -r good m; }
lfs() { printf 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 317344\n' >"$1"; }
page() { printf '<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n' >"$1"; }

# --- files of a model folder ---
for file in config.json model.safetensors tokenizer.json; do
    fresh; lfs m/$file
    fails 1 "m/$file: .*Git LFS.*git lfs pull" gen m
    fresh; page m/$file
    fails 1 "m/$file: .*web page.*download" gen m
    fresh; echo 'Entry not found' >m/$file
    fails 1 "m/$file: .*server.*download" gen m
    fresh; : >m/$file
    fails 1 "m/$file" gen m
done
for file in generation_config.json tokenizer_config.json; do
    fresh; lfs m/$file
    fails 1 "m/$file: .*Git LFS" gen m
done
fresh; echo '{"error": "Access to model x is restricted"}' >m/config.json
fails 1 'm/config.json: .*server.*restricted' gen m
fresh; printf 'GGUF\003\000\000\000' >m/model.safetensors
fails 1 'm/model.safetensors: a GGUF' gen m
fresh; printf 'PK\003\004aaaaaaaaaaaaaaaa' >m/model.safetensors
fails 1 'm/model.safetensors: .*torch.save.*save_pretrained' gen m
fresh; cp m/config.json m/model.safetensors
fails 1 'm/model.safetensors: JSON text' gen m
fresh; truncate -s -1000 m/model.safetensors
fails 1 'm/model.safetensors: .*cut short.*download' gen m
cp -r "$SOURCE/tests/fixtures/model_sharded" sharded
rm -rf m; cp -r sharded m; lfs m/model-00002-of-00003.safetensors
fails 1 'm/model-00002-of-00003.safetensors: .*Git LFS' score m
rm -rf m; cp -r sharded m; lfs m/model.safetensors.index.json
fails 1 'm/model.safetensors.index.json: .*Git LFS' score m
rm -rf m; cp -r sharded m; rm m/model.safetensors.index.json
fails 1 'm: no model.safetensors.*there is model-0000[123]-of-00003.safetensors' score m
fresh; rm m/generation_config.json; ln -s ../blobs/none m/generation_config.json
fails 1 'm/generation_config.json: a link to something that is not there' gen m
fresh; rm m/model.safetensors; ln -s ../blobs/none m/model.safetensors
fails 1 'm/model.safetensors: a link to something that is not there' gen m

# --- folders that are no model ---
rm -rf m; mkdir m
fails 1 'm: no config.json: the folder is empty' gen m
echo '{"base_model_name_or_path": "Qwen/Qwen3-0.6B", "peft_type": "LORA"}' >m/adapter_config.json
: >m/adapter_model.safetensors
fails 1 "m: its base model 'Qwen/Qwen3-0.6B'.*is no folder here.*--model BASE --adapter m" gen m
cp good/config.json m
fails 1 'm: no model.safetensors.*adapter' score m
rm -rf m; mkdir m; printf 'GGUF' >m/qwen3-q4.gguf
fails 1 'm: no config.json: it holds a GGUF file \(qwen3-q4.gguf\)' gen m
fails 1 'm/qwen3-q4.gguf: not a folder but a GGUF file' gen m/qwen3-q4.gguf
fresh; rm m/model.safetensors; : >m/pytorch_model.bin
fails 1 "m: no model.safetensors.*torch's \(pytorch_model.bin\).*save_pretrained" score m
fresh; mv m/model.safetensors m/model.safetensors.incomplete
fails 1 'm: no model.safetensors.*download is not finished \(model.safetensors.incomplete\)' score m
fresh; rm m/config.json
fails 1 'm: no config.json, but there is model.safetensors' score m
mkdir -p hub/blobs hub/refs hub/snapshots; cp -r good hub/snapshots/0abc
fails 1 'hub: no config.json: .*cache.*give the folder inside it, hub/snapshots/0abc' gen hub
fails 1 'hub/snapshots: no config.json: .*give hub/snapshots/0abc' gen hub/snapshots
mkdir -p above; cp -r good above/model
fails 1 'above: .*give above/model' gen above
mkdir -p run/checkpoints; cp -r good run/final
fails 1 'run: .*folder of a run; give its model, run/final' gen run
fails 1 'good/model.safetensors: not a folder; give the folder that this file is in, good$' gen good/model.safetensors
fails 1 'Qwen/Qwen3-0.6B: not a folder.*hf download Qwen/Qwen3-0.6B' gen Qwen/Qwen3-0.6B
fails 1 'nowhere: not a folder' gen nowhere
fails 1 'hf download Qwen/Qwen3-0.6B --local-dir' gen https://huggingface.co/Qwen/Qwen3-0.6B/tree/main
fails 1 'https://x/config.json: .*only local files are read' "$COHORT" init --config https://x/config.json --out x
for command in "tokenize --prompt x --model" "init --preset nano --out x --tokenizer"; do
    # shellcheck disable=SC2086
    fails 1 'Qwen/Qwen3-0.6B: .*hf download Qwen/Qwen3-0.6B' "$COHORT" $command Qwen/Qwen3-0.6B
done
succeeds "$COHORT" init --config good/config.json --out bare
rm bare/model.safetensors
succeeds "$COHORT" info --model bare
grep -q 'bare: no weights in this folder' err || wrong "info of a folder without weights: $(cat err)"

# A quantized checkpoint whose config does not say so.
rm -rf m; cp -r good m
length=$(od -An -t u8 -N 8 good/model.safetensors | tr -d ' ')
{ head -c 8 good/model.safetensors
  dd if=good/model.safetensors bs=1 skip=8 count="$length" status=none | sed 's/"model.norm.weight"/"model.norm.scales"/'
  tail -c +$((length + 9)) good/model.safetensors; } >m/model.safetensors
fails 1 'm/model.safetensors: .*quantized' score m

# Sizes that the files do not have are found before memory is taken for them: 16.8 million rows of 64 would take 2.1 GB.
# AddressSanitizer and ThreadSanitizer reserve far more.
limit='ulimit -v 1000000'
! grep -qaE '__(asan|tsan)_init' "$COHORT" || limit=:
rm -rf m; cp -r good m; sed -i -E 's/("vocab_size": )[0-9]+/\116777216/' m/config.json
fails 1 'model.embed_tokens.weight in model.safetensors: expected \[16777216, 64\], found \[264, 64\]' bash -c "$limit; exec '$COHORT' logprobs --model m --batch row.jsonl --threads 1"
fails 1 'expected \[16777216, 64\], found \[264, 64\]' bash -c "$limit; exec '$COHORT' bench --model m --quick --threads 1"
fails 1 'expected \[16777216, 64\], found \[264, 64\]' "$COHORT" sft --model m --data row.jsonl --out r --threads 1
absent r
rm m/model.safetensors # nor for weights that are not there
fails 1 'm: no model.safetensors' bash -c "$limit; exec '$COHORT' logprobs --model m --batch row.jsonl --threads 1"

# --- rows ---
lfs rows; fails 1 'rows:1:1: a pointer of Git LFS' tokens rows
page rows; fails 1 'rows:1:1: a web page' tokens rows
printf 'PAR1\025\004\n' >rows; fails 1 'rows: .*Parquet' tokens rows
echo '{"prompt": "a"}' | gzip >rows.gz; succeeds tokens rows.gz
echo '{"prompt": "a"}' | bzip2 >rows.bz2; fails 1 'rows.bz2:1:1: compressed with bzip2.*bzip2 -dk' tokens rows.bz2
printf '[{"prompt": "a"},\n {"prompt": "b"}]\n' >rows; succeeds tokens rows
printf 'prompt,answer\n"a, b",1\n' >rows.csv; succeeds tokens rows.csv
printf 'prompt,answer\n"a, b",1\n' >rows; fails 1 'rows:1:1: no JSON.*name it .csv' tokens rows
printf '\377\376{\000"\000' >rows; fails 1 'rows:1:1: text in UTF-16.*iconv' tokens rows

# Numbers that nobody reads, in files of a model too; where one is read it is refused by name.
echo '{"prompt": "a", "id": 18446744073709551615, "x": [1e999, {"y": -1e400}], "z": NaN}' >rows
succeeds tokens rows
fresh
sed -i -E '0,/\{/s//{"model_max_length": 1000000000000000019884624838656, "big": 1e999,/' m/tokenizer_config.json
sed -i -E '0,/\{/s//{"seen": 340282366920938463463374607431768211455, "best": -Infinity,/' m/config.json
succeeds gen m
echo '{"prompt_tokens": [1, 18446744073709551615], "tokens": [4, 5]}' >rows
fails 1 'rows:1: .*prompt_tokens' "$COHORT" logprobs --model good --batch rows --threads 1
echo '{"prompt_tokens": [1, 1e999], "tokens": [4, 5]}' >rows
fails 1 'rows:1: .*prompt_tokens' "$COHORT" logprobs --model good --batch rows --threads 1
fresh; sed -i -E 's/("vocab_size": )[0-9]+/\11e999/' m/config.json
fails 1 'm/config.json: "vocab_size" is "1e999"' gen m

# A path as long as paths may be does not hide the reason.
long=$(printf 'd%.0s' $(seq 200))
deep=$long/$long/$long/$long/$long/$long/$long
fails 1 "config.json|not a folder" gen "$deep"
mkdir -p "$deep"; cp good/* "$deep"; echo '{"model_type": "qwen3", "hidden_act": "gelu"}' >"$deep/config.json"
fails 1 '"hidden_act" is "gelu", expected "silu"' gen "$deep"
no_leftovers .
done_testing

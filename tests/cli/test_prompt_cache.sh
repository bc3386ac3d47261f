# cohort generate --prompt-cache: a prompt's keys and values in a file give the bits that computing them gives; a file of anything else is
# refused. --speculative changes no bit either.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 2 --out other
prompt=$(printf 'The %s fox jumps over the lazy dog. ' red brown grey white black)
# rows MODEL PROMPT ARGUMENTS
rows() {
    local model=$1 text=$2
    shift 2
    "$COHORT" generate --model "$model" --threads 1 --prompt "$text" --chat false --format jsonl --max-tokens 30 --seed 7 "$@"
}

succeeds rows m "$prompt"
cp out plain
succeeds rows m "$prompt" --prompt-cache cache
same out plain
has err 'cache: 192 tokens of the prompt'
cp cache written
succeeds rows m "$prompt" --prompt-cache cache
same out plain
has err 'cache: 192 tokens, of which this prompt has 192'
same cache written

# --- another prompt that begins so, and one that does not ---
succeeds rows m "$prompt and more"
cp out plain
succeeds rows m "$prompt and more" --prompt-cache cache
same out plain
has err 'of which this prompt has 192'
succeeds rows m "Not $prompt"
cp out plain
succeeds rows m "Not $prompt" --prompt-cache cache
same out plain
has err 'of which this prompt has 0'
succeeds rows m short --prompt-cache none
has err 'none is not written: the prompt has less than 64 tokens'
is "$(find . -name none)" "" "a file without a page"

# --- what is read is used: other keys and values give another text ---
cp written changed
half=$(($(stat -c %s written) / 2))
head -c "$((half - 512))" /dev/zero | dd of=changed bs=1M seek="$half" oflag=seek_bytes conv=notrunc status=none
succeeds rows m "$prompt"
cp out plain
succeeds rows m "$prompt" --prompt-cache changed
differs "$(cat out)" "$(cat plain)" "a text from other keys and values"

# --- files that are refused ---
fails 1 'cache: keys and values of other weights \([0-9a-f]{64}, here [0-9a-f]{64}\): remove the file' rows other "$prompt" --prompt-cache cache
fails 1 'keys and values of another dtype \(BF16, here F32\)' rows m "$prompt" --prompt-cache cache --dtype f32
fails 1 'not a prompt cache of cohort: it lacks one of about, tokens, pages' rows m "$prompt" --prompt-cache m/model.safetensors
head -c 5000 written >part
fails 1 part rows m "$prompt" --prompt-cache part
printf '%s\n' '{"prompt": "a"}' '{"prompt": "b"}' >two.jsonl
fails 2 'is written of one prompt' "$COHORT" generate --model m --batch two.jsonl --max-tokens 2 --prompt-cache absent

# --- speculation ---
for temperature in 0 0.8; do
    succeeds rows m "$prompt" --temperature "$temperature" --speculative none --max-tokens 200
    cp out plain
    succeeds rows m "$prompt" --temperature "$temperature" --speculative ngram --speculative-tokens 5 --max-tokens 200
    same out plain
done

done_testing

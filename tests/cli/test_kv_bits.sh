# --kv-bits 8: how far log-probs are from exact ones, of a model that was trained; the same bits alone and in any batch, from a file, and
# speculated with; refused where it could not be exact but had to be. --max-kv-size likewise.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
for i in $(seq 1 40); do
    echo "{\"text\": \"The quick brown fox number $i jumps over the lazy dog and then runs home to its $i friends in the green wood behind the hill.\"}"
done >texts.jsonl
succeeds "$COHORT" sft --model m --data texts.jsonl --out run --max-steps 60 --learning-rate 3e-3 --threads 1
prompt='The quick brown fox number 7 jumps over the lazy dog and then runs home to its 7 friends in the green wood behind'
printf '%s\n' '{"prompt": "The quick brown fox"}' "{\"prompt\": \"$prompt\"}" '{"prompt": "In the wood "}' >rows.jsonl
# rows ARGUMENTS
rows() { "$COHORT" generate --model run/final --batch rows.jsonl --chat false --max-tokens 90 --seed 7 --n 2 --threads 1 "$@"; }
one() { "$COHORT" generate --model run/final --prompt "$prompt" --chat false --format jsonl --max-tokens 80 --seed 7 --threads 1 "$@"; }

# --- how far from exact: of the prompt's tokens, in nats ---
numbers() { field prompt_logprobs <out | tr -d '[]' | tr ',' '\n' | grep -v null; }
succeeds one --prompt-logprobs
numbers >exact
lacks err 'kv_bits'
succeeds one --prompt-logprobs --kv-bits 8
numbers >eight
has err 'kv_bits 8: keys and values are rounded to 8 bits, so that .* not exactly'
is "$(wc -l <exact)" "$(wc -l <eight)" "log-probs"
paste exact eight | awk '{ d = $1 > $2 ? $1 - $2 : $2 - $1; sum += d; if (d > most) most = d; n++ }
    END { printf "%d tokens, mean difference %.2g, most %.2g\n", n, sum / n, most; exit !(n > 100 && sum > 0 && sum / n < 1e-3 && most < 1e-2) }' >report ||
    wrong "log-probs of 8 bits: $(cat report)"
cat report

# --- the same bits in any company ---
succeeds rows --kv-bits 8
cp out eight
for arguments in '--decode-concurrency 1' '--prefill-step-size 7' '--threads 2' '--speculative ngram --speculative-tokens 5' '--speculative none'; do
    # shellcheck disable=SC2086
    succeeds rows --kv-bits 8 $arguments
    same out eight
done
succeeds rows --kv-bits 0
differs "$(cat out)" "$(cat eight)" "rows with exact keys and values"
succeeds one --kv-bits 8
cp out eight
for run in 1 2; do
    succeeds one --kv-bits 8 --prompt-cache cache
    same out eight
done
has err 'of which this prompt has 64'
fails 1 'keys and values of another kv_bits \(8, here 0\)' one --prompt-cache cache

# --- a rotating window ---
long="$prompt the hill. $prompt the hill. $prompt"
window() { "$COHORT" generate --model run/final --prompt "$long" --chat false --format jsonl --max-tokens 80 --seed 7 --threads 1 "$@"; }
succeeds window
cp out whole
succeeds window --max-kv-size 128
cp out narrow
has err 'max_kv_size 128: a token sees the first 64 tokens and the last ones, at most 128 together'
differs "$(cat narrow)" "$(cat whole)" "what is drawn from fewer tokens"
for arguments in '--prefill-step-size 9' '--threads 2' '--speculative ngram' ; do
    # shellcheck disable=SC2086
    succeeds window --max-kv-size 128 $arguments
    same out narrow
done
succeeds window --max-kv-size 4096
same out whole
succeeds window --max-kv-size 128 --kv-bits 8
differs "$(cat out)" "$(cat narrow)" "both"
fails 2 'max_kv_size is 100, expected at least 128' window --max-kv-size 100
fails 2 'sampled with exact keys and values' "$COHORT" rloo --model m --data rows.jsonl --max-kv-size 128
fails 1 'keys and values of another max_kv_size \(0, here 2\)' window --kv-bits 8 --max-kv-size 128 --prompt-cache cache

# --- what is refused ---
fails 2 'kv_bits is 4, expected 8, or 0' one --kv-bits 4
fails 2 'sampled with exact keys and values' "$COHORT" grpo --model m --data rows.jsonl --kv-bits 8
fails 2 'cache-type-k.*kv.bits' "$COHORT" generate --model m --prompt a --cache-type-k q8_0

done_testing

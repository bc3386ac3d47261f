# cohort generate with guided_...: what comes out is in the language, whatever the model would say; ends, log-probs, and what is refused.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
generate() { "$COHORT" generate --model m --threads 1 --prompt hello --chat false --seed 7 "$@"; }
# matches PATTERN ARGUMENTS: the text matches, of every seed
matches()
{
    local pattern=$1 seed
    shift
    for seed in 1 2 3 4 5; do
        succeeds generate "$@" --seed $seed
        has out "$pattern"
        is "$(wc -l <out)" 1 "lines of $*"
    done
}

# --- regular expressions and choices ---
matches '^[a-z]{3,9} is [0-9]+ years( old)?\.$' --guided-regex '[a-z]{3,9} is [0-9]{1,20} years( old)?\.' --max-tokens 60
matches '^(yes|no|maybe)$' --guided-choice yes,no,maybe
succeeds generate --guided-choice yes --format jsonl --max-tokens 10
is "$(field completion <out)" '"yes"' "the only choice"
is "$(field finish_reason <out)" '"eos"' "what ended it"
is "$(field tokens <out | cut -d, -f1-3)" "[121, 101, 115" "tokens of the only choice, before the one that ends"
is "$(field kept_logprobs <out | tr , '\n' | wc -l)" 4 "a kept mass for each token"
is "$(field kept_logprobs <out | cut -d, -f1-3)" "$(field logprobs <out | cut -d, -f1-3)" "kept mass where one token is allowed"
succeeds generate --format jsonl --max-tokens 10
is "$(grep -c kept_logprobs out)" 0 "kept masses without a guide"

# --- the same alone and in a batch, with any number of threads ---
printf '{"prompt": "hello"}\n{"prompt": "other"}\n{"prompt": "hello"}\n' >rows.jsonl
succeeds generate --guided-regex '[a-c]{4,40}' --format jsonl --n 3
cp out alone
succeeds "$COHORT" generate --model m --threads 2 --batch rows.jsonl --chat false --seed 7 --guided-regex '[a-c]{4,40}' --n 3
head -n 3 out >batch
same batch alone

# --- lengths ---
succeeds generate --guided-regex 'a{50}' --max-tokens 10 --format jsonl
is "$(field finish_reason <out)" '"length"' "a text that is cut off"
for length in 12 13 30; do
    succeeds generate --guided-regex '"[a-z]*"' --max-tokens $length --guided-close 6 --format jsonl
    is "$(field finish_reason <out)" '"eos"' "a text that is closed at $length"
done

# --- what is refused ---
fails 2 "guided_regex: at byte 3 of the regular expression: '\(' without '\)'" generate --guided-regex '(a'
fails 2 "one option guides completions" generate --guided-regex a --guided-choice b
fails 2 "guided_regex: no text meets this" generate --guided-regex '[^\x{0}-\x{10ffff}]'
done_testing

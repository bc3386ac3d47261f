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
head -n 3 out >"batch"
same batch alone

# --- behind what is thought: at the end of the room it has to stop, and then the language comes ---
for seed in 1 2 3; do
    succeeds generate --seed $seed --guided-regex '[a-c]{5}' --guided-after-think --guided-close 20 --max-tokens 60 --temperature 1.5
    grep -aEqz '</think>[a-c]{5}\s*$' out || wrong "thinking, then the language: $(tail -c 60 out)"
done

# --- lengths ---
succeeds generate --guided-regex 'a{50}' --max-tokens 10 --format jsonl
is "$(field finish_reason <out)" '"length"' "a text that is cut off"
for length in 12 13 30; do
    succeeds generate --guided-regex '"[a-z]*"' --max-tokens $length --guided-close 6 --format jsonl
    is "$(field finish_reason <out)" '"eos"' "a text that is closed at $length"
done

# --- JSON ---
person='{"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}, "age": {"type": "integer", "minimum": 0, "maximum": 150}}, "required": ["name", "age"], "additionalProperties": false}'
matches '^\{"name": ".*", "age": (-0|1?[0-9]?[0-9]|150)\}$' --guided-json "$person" --max-tokens 120
echo "$person" >person.json
succeeds generate --guided-json "$person" --max-tokens 120
cp out inline
succeeds generate --guided-json person.json --max-tokens 120
same out inline
cat >rows.jsonl <<'END'
{"prompt": "hello", "shape": {"enum": ["first", "1st"]}}
{"prompt": "hello", "shape": "{\"const\": [2, {}]}"}
{"prompt": "hello", "shape": true}
END
succeeds "$COHORT" generate --model m --threads 1 --batch rows.jsonl --chat false --guided-json @shape --max-tokens 40 --guided-close 40
is "$(field completion <out | sed -n 2p)" '"[2, {}]"' "what the second row's schema leaves"
is "$(field completion <out | sed -n 1p | grep -cE '(first|1st)')" 1 "what the first row's schema leaves"
is "$(field finish_reason <out | sort -u)" '"eos"' "what ended the rows"
echo '{"prompt": "hello"}' >>rows.jsonl
fails 1 "rows.jsonl:4: guided_json: the row has no text in its column 'shape'" "$COHORT" generate --model m --batch rows.jsonl --chat false --guided-json @shape
echo '{"prompt": "hello", "shape": {"items": {"not": {}}}}' >bad.jsonl
fails 1 "bad.jsonl:1: guided_json: at #/items/not: this keyword cannot be enforced" "$COHORT" generate --model m --batch bad.jsonl --chat false --guided-json @shape
fails 1 "guided_json: at #/uniqueItems: this keyword cannot be enforced" generate --guided-json '{"uniqueItems": true, "type": "array", "maxItems": 0}'
succeeds generate --guided-json '{"uniqueItems": true, "type": "array", "maxItems": 0}' --guided-unsupported ignore
is "$(cat out)" '[]' "an empty list"
has err 'not enforced: #/uniqueItems'
fails 2 "guided_json:1:3: " generate --guided-json '{"a'
fails 1 "guided_json: .*nowhere.json" generate --guided-json nowhere.json

# --- grammars ---
printf 'root ::= "<" word ("," word)* ">"\nword ::= [a-z]{2,5}\n' >words.gbnf
matches '^<[a-z]{2,5}(,[a-z]{2,5})*>$' --guided-grammar words.gbnf --max-tokens 60 --guided-close 12
succeeds generate --guided-grammar 'root ::= "yes"'
is "$(cat out)" yes "a grammar on the command line"
printf 'start: "<" WORD ("," WORD)~1..3 ">"\nWORD: /[a-z]{2,5}/\n' >words.lark
matches '^<[a-z]{2,5}(,[a-z]{2,5}){1,3}>$' --guided-grammar words.lark --max-tokens 60 --guided-close 30
succeeds generate --guided-grammar 'start: "yes"'
is "$(cat out)" yes "a grammar of Lark on the command line"
fails 2 "guided_grammar: line 1: expected NAME ::=" generate --guided-grammar words.lark --guided-grammar-kind gbnf
fails 1 "guided_grammar: line 2: a priority: this is not supported" generate --guided-grammar "$(printf 'start: a\na.2: "x"')"
fails 2 "guided_grammar: line 1: rule 'b' is not defined" generate --guided-grammar 'root ::= b'

# --- eval and grpo: the group is guided, what is trained is the model's distribution, ratio 1 ---
cat >sums.jsonl <<'END'
{"prompt": "1+1=", "answer": "2"}
{"prompt": "1+2=", "answer": "3"}
END
succeeds "$COHORT" eval --model m --data sums.jsonl --reward accuracy --guided-regex '[0-9]' --max-completion-length 8 --n 8 --format jsonl
is "$(field completion <out | grep -cvE '^"[0-9]"$')" 0 "completions of eval beside the digits"
grpo() { succeeds "$COHORT" grpo --model m --data sums.jsonl --eval-data sums.jsonl --reward accuracy --max-steps 2 --num-generations 4 --prompts-per-step 2 --max-completion-length 8 --learning-rate 1e-3 --seed 3 --log-completions "$@"; }
grpo --guided-regex '[0-9]{1,2}' --out run
is "$(sed 's/.*"completion": //' run/completions.jsonl | grep -cE '^"[0-9]{1,2}"')" "$(wc -l <run/completions.jsonl)" "guided completions of a run"
has run/metrics.jsonl '"guided/kept_mass_mean": 0\.'
has run/metrics.jsonl '"guided/kept_mass_min": '
has run/metrics.jsonl '"sampling/sampling_logp_difference/max": 0[,.}]'
grpo --guided-regex '[0-9]{1,2}' --threads 2 --out again
same run/completions.jsonl again/completions.jsonl

# --- what is refused ---
fails 2 "guided_regex: at byte 3 of the regular expression: '\(' without '\)'" generate --guided-regex '(a'
fails 2 "one option guides completions" generate --guided-regex a --guided-choice b
fails 2 "guided_regex: no text meets this" generate --guided-regex '[^\x{0}-\x{10ffff}]'
done_testing

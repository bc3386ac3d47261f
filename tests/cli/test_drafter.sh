# --draft-model: what a smaller model guesses changes no bit, in generate (with stop strings, guides, the most likely tokens, several
# completions), chat and eval; another vocabulary is refused by name.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
succeeds "$COHORT" init --preset tiny --tokenizer bytes --seed 2 --out other
printf '{"prompt": "The red fox "}\n{"prompt": "A green hen "}\n{"prompt": "The red fox "}\n' > rows.jsonl
# rows ARGUMENTS: with as few as may be left to the clock
rows() { "$COHORT" generate --model m --threads 1 --batch rows.jsonl --chat false --max-tokens 40 --seed 7 --n 2 "$@"; }

check() {
    succeeds rows "$@"
    cp out plain
    for drafter in m other; do
        succeeds rows "$@" --draft-model "$drafter"
        same out plain
    done
}
check
check --temperature 0 --top-logprobs 2
check --stop 'a,b' --min-tokens 3 --repetition-penalty 1.2
check --guided-regex '[a-f]{5,20}(x|y)+' --top-k 30
check --guided-json '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}' --guided-close 20

succeeds "$COHORT" generate --model m --threads 1 --prompt 'The red fox' --chat false --max-tokens 40 --temperature 0 --format json --draft-model m
has out '"drafted_tokens": [0-9]+, "accepted_tokens": [0-9]+'
talk() { printf 'Hello\nAnd again\n' | "$COHORT" chat --model m --threads 1 --max-tokens 20 --seed 3 "$@"; }
succeeds talk
cp out plain
succeeds talk --draft-model other
same out plain

# --- what is refused ---
mkdir -p odd
cp other/* odd/
sed -i 's/"A": 65/"A": @/; s/"B": 66/"B": 65/; s/"A": @/"A": 66/' odd/tokenizer.json
fails 1 "odd: token 65 is 'B', in m 'A'; a draft model needs the vocabulary of the model" rows --draft-model odd
rm odd/tokenizer.json
fails 1 'odd' rows --draft-model odd
fails 2 'leave speculative out' rows --draft-model m --speculative none
fails 2 'draft.model' "$COHORT" sft --model m --data rows.jsonl --draft-model m

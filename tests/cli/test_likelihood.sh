# cohort perplexity and cohort eval --choices: against logprobs, which has the log-probs of any tokens (oracle/likelihood_transformers.py compares them
# with transformers), and what they refuse. The model is random, its tokens are bytes.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --dtype f32 --out m
# nll IDS_BEFORE IDS: the sum of -log-probs of ids behind others
nll()
{
    echo "{\"prompt_tokens\": [$1], \"tokens\": [$2]}" >row.jsonl
    "$COHORT" logprobs --model m --batch row.jsonl --threads 1 | field logprobs | tr -d '[]' | tr , '\n' | awk '{ s -= $1 } END { printf "%.5f\n", s }'
}
near() { CHECKS=$((CHECKS + 1)); awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(d < 2e-5 * b && d > -2e-5 * b) }' || wrong "$3: $1, expected $2"; }
ids() { printf %s "$1" | od -An -v -t u1 | tr -s ' \n' , | sed 's/^,//; s/,$//'; }
perplexity() { "$COHORT" perplexity --model m --threads 1 "$@"; }

# --- one window, several windows, by hand ---
printf 'abcdefghij' >t.txt
succeeds perplexity t.txt --format jsonl
is "$(field tokens <out) $(field bytes <out) $(field texts <out) $(field window <out) $(field stride <out)" "9 9 1 1024 512" "counts"
near "$(field nll <out)" "$(awk -v s="$(nll 97 "$(ids bcdefghij)")" 'BEGIN { print s / 9 }')" "one window"
near "$(field perplexity <out)" "$(awk -v s="$(field nll <out)" 'BEGIN { printf "%.6f", exp(s) }')" "perplexity"
near "$(field bits_per_byte <out)" "$(awk -v s="$(field nll <out)" 'BEGIN { printf "%.6f", s / log(2) }')" "bits per byte"
succeeds perplexity t.txt --format jsonl --window 4 --stride 3
# a b c d | d e f g | g h i j: the windows begin at 0, 3 and 6
want=$(awk -v a="$(nll 97 "$(ids bcd)")" -v b="$(nll 100 "$(ids efg)")" -v c="$(nll 103 "$(ids hij)")" 'BEGIN { print (a + b + c) / 9 }')
near "$(field nll <out)" "$want" "windows of 4, 3 further"
succeeds perplexity t.txt --format jsonl --window 6 --stride 2
want=$(awk -v a="$(nll 97 "$(ids bcdef)")" -v b="$(nll "$(ids cdef)" "$(ids gh)")" -v c="$(nll "$(ids efgh)" "$(ids ij)")" 'BEGIN { print (a + b + c) / 9 }')
near "$(field nll <out)" "$want" "windows of 6, 2 further"
cp out one.out
succeeds perplexity --data t.txt --format jsonl --window 6 --stride 2 --threads 2
same out one.out
# Rows are texts of their own; those of one token or none have nothing to predict.
printf '%s\n' '{"text": "abcd"}' '{"text": ""}' '{"text": "x"}' '{"text": "efgh"}' >t.jsonl
succeeds perplexity t.jsonl --format jsonl
is "$(field tokens <out) $(field bytes <out) $(field texts <out)" "6 6 2" "counts of rows"
near "$(field nll <out)" "$(awk -v a="$(nll 97 "$(ids bcd)")" -v b="$(nll 101 "$(ids fgh)")" 'BEGIN { print (a + b) / 6 }')" "rows"
cp out rows.out
sed 's/"text"/"body"/' t.jsonl >b.jsonl
succeeds perplexity b.jsonl --format jsonl --columns text=body
same out rows.out
succeeds perplexity t.jsonl
has out '^perplexity +[0-9.]+ \+- [0-9.]+$'
fails 1 'expected a column "text"' perplexity b.jsonl
fails 2 'stride 6 is not below --window 6' perplexity t.txt --window 6 --stride 6
fails 2 'context holds' perplexity t.txt --window 1000000
printf x >x.txt
fails 1 'nothing is predicted' perplexity x.txt
fails 2 'no text given' perplexity
printf 'ab\xff' >bad.txt
fails 1 'bad.txt.*UTF-8|UTF-8.*bad.txt' perplexity bad.txt

# --- multiple choice ---
choices() { "$COHORT" eval --model m --threads 1 --choices --data "$@"; }
printf '%s\n' '{"prompt": "q", "choices": ["a", "bcd"], "answer": 0}' '{"prompt": "q ", "choices": ["a", "bcd"], "answer": "B"}' \
    '{"prompt": "q", "choices": {"text": ["a", "bcd", "e"], "label": ["1", "2", "3"]}, "answerKey": "3"}' '{"prompt": "q", "choices": ["a", "bcd"], "label": "bcd"}' >c.jsonl
succeeds choices c.jsonl --format jsonl
cp out c.out
is "$(field answer <out | tr '\n' ' ')" "0 1 2 1 " "answers"
near "$(head -n 1 out | field logprobs | tr -d '[]-' | cut -d, -f2)" "$(nll 113 "$(ids ' bcd')")" "log-prob of a choice behind a blank"
near "$(sed -n 2p out | field logprobs | tr -d '[]-' | cut -d, -f1)" "$(nll 113 "$(ids '  a')")" "a blank at the end of the question belongs to the choice"
is "$(head -n 1 out | field tokens)" "[2, 4]" "tokens of choices"
# A sum is smaller for more tokens, of a model that knows nothing; divided it is not.
is "$(field acc <out | head -n 4 | tr '\n' ' ')" "1 0 $(sed -n 3p out | field acc) 0 " "the shortest wins by its sum"
near "$(tail -n 1 out | field eval_acc/stderr)" "$(awk -v p="$(tail -n 1 out | field eval_acc)" 'BEGIN { printf "%.9f", sqrt(p * (1 - p) / 3) }')" "standard error"
succeeds choices c.jsonl --format jsonl --threads 2
same out c.out
succeeds choices c.jsonl
has out '^eval_acc_norm +[0-9.]+ \+- [0-9.]+ \(n 4\)$'
succeeds choices c.jsonl --format jsonl --eval-limit 1
is "$(wc -l <out)" 2 "one question and the metrics"
printf '%s\n' '{"messages": [{"role": "user", "content": "q"}], "choices": ["a", "b"], "answer": 0}' >m.jsonl
succeeds choices m.jsonl --format jsonl
chat=$(succeeds "$COHORT" tokenize --model m --chat --prompt q --format jsonl; field tokens <out | tr -d '[]')
succeeds choices m.jsonl --format jsonl
near "$(head -n 1 out | field logprobs | tr -d '[]-' | cut -d, -f1)" "$(nll "$chat" 97)" "a choice behind a conversation is its answer"
refuses() { echo "$2" >r.jsonl; fails 1 "$1" choices r.jsonl; }
refuses 'expected a column "choices"' '{"prompt": "q", "answer": 0}'
refuses 'not a list of 2 to' '{"prompt": "q", "choices": ["a"], "answer": 0}'
refuses 'none of them empty' '{"prompt": "q", "choices": ["a", ""], "answer": 0}'
refuses 'expected a column "answer"' '{"prompt": "q", "choices": ["a", "b"]}'
for answer in 2 -1 '"C"' '"x"' 1.5 '[0]'; do refuses '"answer" is none of the 2 choices' "{\"prompt\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": $answer}"; done
done_testing

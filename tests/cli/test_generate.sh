# cohort generate, logprobs and tokenize: the rows others rely on, and that every option of sampling does what it says. The model is random,
# its tokens are bytes, so text can be checked by hand.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
EOS=258 # <|im_end|> of the byte tokenizer
generate() { "$COHORT" generate --model m --threads 1 "$@"; }
# row ARGUMENTS: one JSON row of one plain prompt
row() { succeeds generate --prompt hello --chat false --format jsonl --max-tokens 12 --seed 7 "$@"; }
tokens() { field tokens <out; }

# --- the row ---
row
has out '^\{"index": 0, "completion_index": 0, "prompt": "hello", "completion": ".*", "prompt_tokens": \[104, 101, 108, 108, 111\], "tokens": \[[0-9, ]*\], "logprobs": \[[-0-9., e]*\], "finish_reason": "length"\}$'
plain=$(tokens)
cp out plain.jsonl
is "$(echo "$plain" | tr , '\n' | wc -l)" 12 "tokens at --max-tokens 12"
is "$(field logprobs <out | tr , '\n' | wc -l)" 12 "log-probs for 12 tokens"
is "$(wc -l <out)" 1 "rows of one completion"
row
same out plain.jsonl
row --threads 2
same out plain.jsonl
row --seed 8
differs "$(tokens)" "$plain" "tokens with another seed"
row --max-tokens 5
is "$(tokens)" "$(echo "$plain" | cut -d, -f1-5)]" "the first five tokens"
row --n 3
is "$(field completion_index <out | tr '\n' ' ')" "0 1 2 " "completion_index of --n 3"
is "$(head -n 1 out)" "$(cat plain.jsonl)" "the first of three completions is the only one of one"
is "$(sort -u out | wc -l)" 3 "different completions of a group"
is "$(field tokens <out | sort -u | wc -l)" 3 "different tokens of a group"

# --- taken apart: of conversations, where there is thinking or a call ---
succeeds generate --prompt hello --chat --format jsonl --max-tokens 3 --logit-bias 259:1000 # <think>
has out '"finish_reason": "length", "parsed": \{"thinking": "<think><think>", "content": "", "tool_calls": \[\]\}\}$'
row --logit-bias 259:1000
lacks out parsed
printf '%s\n' '{"prompt": "hello"}' '{"messages": [{"role": "user", "content": "hi"}]}' >apart.jsonl
succeeds generate --batch apart.jsonl --n 2 --max-tokens 3 --logit-bias 259:1000
is "$(grep -c '^{"index": 1, .*"parsed": {' out) $(grep -c parsed out)" "2 2" "rows of a file that are taken apart"
succeeds generate --prompt hello --chat --format jsonl --max-tokens 3
lacks out parsed

# --- the text: streamed, not streamed, the same; what the row says ---
succeeds generate --prompt hello --chat false --max-tokens 60 --seed 7
cp out streamed
succeeds generate --prompt hello --chat false --max-tokens 60 --seed 7 --n 2
size=$(stat -c %s streamed)
is "$(head -c "$size" out | od -c)" "$(od -c <streamed)" "the first of --n 2 is the streamed text"
# Bytes that are no characters become U+FFFD; a token stream may end within a character.
succeeds generate --prompt hello --chat false --max-tokens 60 --seed 7 --logit-bias '97:100,98:100,99:100'
has out '^[abc]{60}$'
succeeds generate --prompt hello --chat false --max-tokens 4 --logit-bias 0:1000
is "$(od -An -c out | tr -d ' \n')" '\0\0\0\0\n' "streamed NUL bytes"
succeeds generate --prompt hello --chat false --max-tokens 4 --logit-bias 0:1000 --n 2
is "$(od -An -c out | tr -d ' \n')" '\0\0\0\0\n\0\0\0\0\n' "NUL bytes of --n 2"
row --logit-bias 0:1000 --max-tokens 2
is "$(field completion <out)" '"\u0000\u0000"' "NUL bytes as JSON"
row --logit-bias 195:1000 --max-tokens 2
is "$(field completion <out | od -An -t x1 | tr -d ' \n')" 22efbfbdefbfbd220a "halves of characters"

# --- batch: order, messages, ids of any other row do not matter ---
cat >batch.jsonl <<'B'
{"prompt": "hello"}
{"messages": [{"role": "user", "content": "hi"}]}
{"prompt": "a longer prompt than the others, to be finished after them", "other": [1, 2]}
{"prompt": [{"role": "user", "content": "hi"}]}

{"prompt": "hello"}
B
succeeds generate --batch batch.jsonl --max-tokens 12 --seed 7 --n 2
cp out batch.out
is "$(field index <out | tr '\n' ' ')" "0 0 1 1 2 2 3 3 4 4 " "index of each row"
is "$(field completion_index <out | tr '\n' ' ')" "0 1 0 1 0 1 0 1 0 1 " "completion_index of each row"
is "$(head -n 1 out)" "$(cat plain.jsonl)" "a row in a batch and alone"
is "$(sed -n 3p out | field prompt)" '"<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"' "the rendered prompt"
is "$(sed -n 7p out | field prompt)" "$(sed -n 3p out | field prompt)" "prompt as messages"
differs "$(sed -n 9p out | field tokens)" "$(sed -n 1p out | field tokens)" "a prompt asked twice gets other completions"
for options in '--decode-concurrency 1' '--prefill-step-size 1' '--prefill-step-size 7' '--threads 2'; do
    succeeds generate --batch batch.jsonl --max-tokens 12 --seed 7 --n 2 $options
    same out batch.out
done
succeeds sh -c '"$0" generate --model m --threads 1 --batch - --max-tokens 12 --seed 7 --n 2 <batch.jsonl' "$COHORT"
same out batch.out
succeeds sh -c 'printf hello | "$0" generate --model m --threads 1 --prompt - --chat false --format jsonl --max-tokens 12 --seed 7' "$COHORT"
same out plain.jsonl
# Through the template by default, as it stands with --chat false; thinking off puts an empty thought.
succeeds generate --prompt hi --format jsonl --max-tokens 1
is "$(field prompt <out)" '"<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"' "--prompt goes through the template"
succeeds generate --prompt hi --format jsonl --max-tokens 1 --no-thinking
is "$(field prompt <out)" '"<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"' "--no-thinking"

# --- logprobs: the same numbers, without tokenizer files ---
cp -r m bare
rm bare/tokenizer.json bare/tokenizer_config.json
succeeds "$COHORT" logprobs --model bare --batch batch.out --threads 1
same out batch.out
succeeds "$COHORT" logprobs --model bare --batch batch.out --threads 1 --micro-batch-tokens 1
same out batch.out
sed -E 's/.*("prompt_tokens": .*, "tokens": \[[^]]*\]).*/{\1}/' batch.out >bare.jsonl
succeeds "$COHORT" logprobs --model bare --batch bare.jsonl --threads 2
is "$(field logprobs <out)" "$(field logprobs <batch.out)" "log-probs of ids alone"
succeeds generate --batch batch.jsonl --max-tokens 12 --temperature 0.5
cp out cold.out
succeeds "$COHORT" logprobs --model bare --batch cold.out --threads 1 --temperature 0.5
same out cold.out
succeeds "$COHORT" logprobs --model bare --batch cold.out --threads 1 # the rows say it
same out cold.out
succeeds "$COHORT" logprobs --model bare --batch cold.out --threads 1 --temperature 1
differs "$(field logprobs <out)" "$(field logprobs <cold.out)" "log-probs at another temperature"
echo '{"prompt_tokens": [1], "tokens": [], "finish_reason": "a \"quoted\" reason"}' >empty.jsonl
succeeds "$COHORT" logprobs --model bare --batch empty.jsonl
is "$(cat out)" '{"index": 0, "completion_index": 0, "prompt_tokens": [1], "tokens": [], "logprobs": [], "finish_reason": "a \"quoted\" reason"}' "a row without tokens"
# Both types.
for type in f32 bf16; do
    succeeds generate --batch batch.jsonl --max-tokens 12 --dtype $type
    cp out typed.out
    succeeds "$COHORT" logprobs --model bare --batch typed.out --dtype $type
    same out typed.out
done

# --- sampling ---
row --temperature 0
greedy=$(tokens)
row --temperature 0 --seed 99
is "$(tokens)" "$greedy" "temperature 0 whatever the seed"
row --top-k 1
is "$(tokens)" "$greedy" "top_k 1"
row --top-p 0.000001
is "$(tokens)" "$greedy" "a tiny top_p"
row --min-p 1
is "$(tokens)" "$greedy" "min_p 1"
row --temperature 0.01
is "$(tokens)" "$greedy" "almost no temperature"
differs "$plain" "$greedy" "sampled and greedy"
row --temperature 0
cold=$(field logprobs <out)
row --top-k 1
is "$(field logprobs <out)" "$cold" "log-probs are of the unfiltered distribution"
for option in '--top-k 2' '--top-p 0.05' '--min-p 0.5'; do
    row $option
    differs "$(tokens)" "$plain" "$option changes what is sampled"
    differs "$(tokens)" "$greedy" "$option leaves more than one token"
done
row --xtc-probability 1 --xtc-threshold 0.002 --temperature 1 --seed 7
differs "$(tokens)" "$plain" "XTC"
row --xtc-probability 0 --xtc-threshold 0.002
is "$(tokens)" "$plain" "XTC with probability 0"
row --logit-bias 65:1000
is "$(tokens)" "[65, 65, 65, 65, 65, 65, 65, 65, 65, 65, 65, 65]" "a bias that forces a token"
is "$(field completion <out)" '"AAAAAAAAAAAA"' "its text"
has out '"logprobs": \[-[4-7]\.' # unbiased: a random model over 264 tokens is near -log 264 = -5.6
# Penalties by hand: logits are near 30 for A, 20 or 29 for B.
row --temperature 0 --logit-bias 65:30,66:20 --repetition-penalty 2 --max-tokens 4
is "$(tokens)" "[65, 66, 65, 65]" "repetition penalty: A halves to 15, then B to 10"
row --temperature 0 --logit-bias 65:30,66:20 --repetition-penalty 2 --repetition-context 1 --max-tokens 4
is "$(tokens)" "[65, 66, 65, 66]" "repetition penalty over the last token alone"
row --temperature 0 --logit-bias 65:30,66:29 --presence-penalty 2 --max-tokens 4
is "$(tokens)" "[65, 66, 65, 65]" "presence penalty 2: A falls to 28, then B to 27"
row --temperature 0 --logit-bias 65:30 --presence-penalty 100 --presence-context 1 --max-tokens 3
is "$(tokens | cut -d, -f1)" "[65" "the first token with a presence penalty"
differs "$(tokens | cut -d, -f2)" " 65" "the second token with a presence penalty"
row --temperature 0 --logit-bias 65:30,66:20 --frequency-penalty 4 --max-tokens 5
is "$(tokens)" "[65, 65, 65, 66, 65]" "a frequency penalty adds up"

# --- ends ---
row --logit-bias $EOS:1000
is "$(tokens)" "[$EOS]" "EOS is among the tokens"
has out '"completion": "", .*"logprobs": \[-[0-9.]+\], "finish_reason": "eos"'
row --logit-bias 256:1000 # the second id of generation_config.json
is "$(tokens)" "[256]" "another EOS"
has out '"finish_reason": "eos"'
row --logit-bias 65:1000 --stop AAA
is "$(tokens)" "[65, 65, 65]" "tokens up to a stop string of three"
is "$(field completion <out)" '""' "text before the stop string"
has out '"finish_reason": "stop"'
row --logit-bias '65:100,66:100' --max-tokens 40 --seed 3
text=$(field completion <out | tr -d '"')
want=${text%%AB*}
differs "$want" "$text" "the test's text has AB"
row --logit-bias '65:100,66:100' --max-tokens 40 --seed 3 --stop 'AB'
is "$(field completion <out)" "\"$want\"" "text before a stop string across two tokens"
is "$(tokens | tr , '\n' | wc -l)" $((${#want} + 2)) "tokens to the end of the stop string"
has out '"finish_reason": "stop"'
succeeds generate --prompt hello --chat false --logit-bias '65:100,66:100' --max-tokens 40 --seed 3 --stop 'AB'
is "$(cat out)" "$want" "the streamed text never shows a part of the stop string"
row --logit-bias '65:100,66:100' --max-tokens 40 --seed 3 --stop 'ZZZ,AB'
is "$(field completion <out)" "\"$want\"" "the second of two stop strings"
row --logit-bias '65:1000' --max-tokens 5 --stop 'AB'
is "$(field completion <out)" '"AAAAA"' "a begun stop string at the end is text"
has out '"finish_reason": "length"'
row --logit-bias '44:1000' --max-tokens 5 --stop '\,\,'
is "$(tokens)" "[44, 44]" "a stop string of commas"

row --logit-bias 65:1000 --stop-token-ids 64,65
is "$(tokens)" "[65]" "a stop id is among the tokens"
has out '"completion": "", .*"finish_reason": "stop"'
row --logit-bias 65:1000 --stop-token-ids 65 --min-tokens 3
is "$(tokens | tr , '\n' | wc -l)" 4 "a stop id waits for min_tokens"
fails 2 '999 is not a token id' generate --prompt hello --stop-token-ids 999

# --- a prompt without a flag, a system message ---
succeeds generate 'hello' --chat false --format jsonl --max-tokens 12 --seed 7
same out plain.jsonl
succeeds generate why is 'the sky, blue' --format jsonl --max-tokens 1
is "$(field prompt <out)" '"<|im_start|>user\nwhy is the sky, blue<|im_end|>\n<|im_start|>assistant\n"' "words without a flag"
succeeds sh -c 'printf hello | "$0" generate - --model m --threads 1 --chat false --format jsonl --max-tokens 12 --seed 7' "$COHORT"
same out plain.jsonl
succeeds generate batch.jsonl --max-tokens 1
has err 'is the name of a file; --batch batch.jsonl reads'
succeeds generate hi --system 'be kind' --format jsonl --max-tokens 1
is "$(field prompt <out)" '"<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"' "--system"
printf '%s\n' '{"messages": [{"role": "system", "content": "own"}, {"role": "user", "content": "hi"}]}' '{"messages": [{"role": "user", "content": "hi"}]}' >systems.jsonl
succeeds generate --batch systems.jsonl --system 'be kind' --max-tokens 1
is "$(field prompt <out | cut -c22-28 | tr '\n' ' ')" "own<|im be kind " "--system beside rows"
fails 2 'text that is taken as it stands; add --chat' generate --prompt hi --chat false --system x

# --- log-probs of more than what was drawn ---
row --top-logprobs 3 --prompt-logprobs --temperature 0
is "$(sed 's/.*"top_token_ids": \[\(.*\)\], "top_logprobs".*/\1/; s/\[\([0-9]*\), [0-9]*, [0-9]*\]/\1/g' out)" "$(tokens | tr -d '[]')" "the most likely of three is what greedy decoding takes"
is "$(sed 's/.*"top_logprobs": \[\(.*\)\], "prompt_logprobs".*/\1/; s/\[\([-0-9.]*\), [-0-9.]*, [-0-9.]*\]/\1/g' out)" "$(field logprobs <out | tr -d '[]')" "its log-prob is the token's"
is "$(field prompt_logprobs <out | tr , '\n' | grep -c .) $(field prompt_logprobs <out | cut -c1-6)" "5 [null," "log-probs of five tokens"
sed 's/"prompt_tokens".*"finish/"prompt_tokens": [104], "tokens": [101, 108, 108, 111], "finish/' out >shifted.jsonl
prompt_logprobs=$(field prompt_logprobs <out)
succeeds "$COHORT" logprobs --model m --batch shifted.jsonl --threads 1
is "$prompt_logprobs" "$(field logprobs <out | sed 's/^\[/[null, /')" "log-probs of the prompt are those of logprobs"
fails 2 'text has no log-probs' generate --prompt hi --top-logprobs 3
fails 2 'text has no log-probs' generate --prompt hi --prompt-logprobs

# --- one document; rows as they are finished ---
succeeds generate --batch batch.jsonl --max-tokens 12 --seed 7 --n 2 --format json
is "$(sed '1d; $d; s/,$//' out)" "$(cat batch.out)" "the rows of a document"
has out '^\], "prompt_tokens": [0-9]+, "completion_tokens": 120, "drafted_tokens": [0-9]+, "accepted_tokens": [0-9]+, "seconds": [0-9.]+, "seconds_to_first_token": [0-9.]+\}$'
printf '%s\n' '{"prompt": "hello"}' '{"prompt": "hullo"}' '{"prompt": "halloo, and more"}' >three.jsonl
succeeds generate --batch three.jsonl --decode-concurrency 1 --max-tokens 30 --seed 7
cp out ordered.out
succeeds generate --batch three.jsonl --max-tokens 30 --seed 7 --unordered
is "$(sort out)" "$(sort ordered.out)" "rows in any order"
succeeds generate --batch three.jsonl --n 2 --max-tokens 30 --seed 7 --stop a,b,c,d,e --unordered
is "$(for i in $(field tokens <out | tr -cd ',\n' | awk '{print length}'); do echo $i; done | sort -nc 2>&1 | wc -l)" 0 "shorter completions come first"

# --- generation_config.json is what options are where they are not given ---
cp -r m told
printf '{"eos_token_id": [258, 256], "do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.1, "max_new_tokens": 9}' >told/generation_config.json
told() { succeeds "$COHORT" generate --model told --threads 1 --prompt hello --chat false --format jsonl --seed 7 "$@"; }
told
has err '^note: as generation_config.json says: temperature 0.6, top_k 20, top_p 0.95, repetition_penalty 1.1, max_completion_length 9; '
cp out told.jsonl
row --temperature 0.6 --top-k 20 --top-p 0.95 --repetition-penalty 1.1 --repetition-context 1000 --max-tokens 9
same out told.jsonl
has out '"temperature": 0.6, "finish_reason"'
lacks err note
succeeds "$COHORT" logprobs --model bare --batch told.jsonl --threads 1
same out told.jsonl
cat told.jsonl plain.jsonl told.jsonl >mixed.jsonl # one temperature after another
succeeds "$COHORT" logprobs --model bare --batch mixed.jsonl --threads 1
same out mixed.jsonl
succeeds "$COHORT" logprobs --model bare --batch told.jsonl --threads 1 --temperature 1
differs "$(field logprobs <out)" "$(field logprobs <told.jsonl)" "a temperature that is given wins over the row's"
told --temperature 1 --top-k 0 --top-p 1 --repetition-penalty 1 --max-tokens 12
same out plain.jsonl
lacks err note
told --generation-config none --max-tokens 12
same out plain.jsonl
printf '{"do_sample": false, "temperature": 0.6, "top_k": 20}' >told/generation_config.json
told --max-tokens 12
is "$(tokens)" "$greedy" "do_sample false is greedy"
told --max-tokens 12 --temperature 1 --top-k 0
is "$(tokens)" "$plain" "an option wins over do_sample"
printf '{"top_p": 7, "num_beams": 4, "typical_p": 1.0, "stop_strings": []}' >told/generation_config.json
told --max-tokens 12
same out plain.jsonl
has err "note: generation_config.json: top_p cannot be '7'.*; passed over"
has err 'num_beams is not done here'
lacks err 'typical_p|stop_strings'
# Training and evaluation have their own, and say so.
printf '{"do_sample": true, "temperature": 0.6, "top_k": 20}' >told/generation_config.json
echo '{"prompt": "a", "answer": "b"}' >asked.jsonl
succeeds "$COHORT" eval --model told --data asked.jsonl --reward accuracy --max-completion-length 4 --threads 1
has err 'eval samples by its own defaults, not as generation_config.json says: temperature 1.0, not 0.6; top_k 0, not 20$'
succeeds "$COHORT" grpo --model told --data asked.jsonl --reward accuracy --max-completion-length 4 --threads 1 --steps 1 --num-generations 2 --prompts-per-step 1 --top-k 20 --out told-run
has err 'grpo samples by its own defaults, not as generation_config.json says: temperature 1.0, not 0.6$'

# --- transformers' order: the temperature is before the filters ---
row --top-p 0.3 --temperature 0.2 --sampling-order hf
hf=$(tokens)
row --top-p 0.3 --temperature 0.2
differs "$(tokens)" "$hf" "filters before and behind the temperature"
row --top-p 0.3 --sampling-order hf
hf=$(tokens)
row --top-p 0.3
is "$(tokens)" "$hf" "at temperature 1 one filter is the same in both orders"

# --- an answer that says the same again and again ---
row --logit-bias 65:1000 --repetition-max-pattern-size 4
is "$(tokens)" "[65, 65, 65, 65]" "cut at four in a row"
has out '"completion": "AAAA", .*"finish_reason": "repetition"'
row --logit-bias 65:1000 --repetition-max-pattern-size 4 --repetition-min-pattern-size 3 --repetition-min-count 2
is "$(tokens)" "[65, 65, 65, 65, 65, 65]" "cut at two runs of three"
row --repetition-max-pattern-size 4
same out plain.jsonl
row --temperature 0 --logit-bias 65:30,66:29 --presence-penalty 5 --presence-context 1 --repetition-max-pattern-size 2 --repetition-min-pattern-size 2 --repetition-min-count 3 --max-tokens 40
is "$(tokens)" "[65, 66, 65, 66, 65, 66]" "cut at three runs of two"

# --- a character whose bytes are two tokens is never written by halves ---
# chunks: what each read of the pipe brings, in hexadecimal, a line each
chunks() { while chunk=$(dd bs=4096 count=1 2>/dev/null | od -An -v -t x1 | tr -d ' \n') && [ -n "$chunk" ]; do echo "$chunk"; done; }
is "$({ printf '\303'; sleep 0.3; printf '\251'; } | chunks | tr '\n' ' ')" "c3 a9 " "this test sees halves"
generate --prompt hello --chat false --guided-regex 'é{400}' --max-tokens 900 2>err | chunks >written
is "$(tr -d '\n' <written | sed 's/c3a9//g')" "0a" "400 characters"
is "$(grep -vE '^(c3a9)*(0a)?$' written | head -n 3)" "" "pieces that are cut within a character"

# --- tokenize ---
succeeds "$COHORT" tokenize --model m --prompt 'hé<|im_end|>'
is "$(cut -f1 out | tr '\n' ' ')" "104 195 169 258 " "ids of a text"
succeeds "$COHORT" tokenize --model m --prompt 'hé' --format jsonl
is "$(cat out)" '{"tokens": [104, 195, 169]}' "ids as JSON"
succeeds "$COHORT" tokenize --model m --batch batch.jsonl
is "$(sed 's/"tokens"/"prompt_tokens"/' out | field prompt_tokens)" "$(field prompt_tokens <batch.out | uniq | sed -n '1p;2p;3p;4p;$p')" "ids of a batch"
succeeds sh -c 'printf hi | "$0" tokenize --model m --prompt - --format jsonl' "$COHORT"
is "$(cat out)" '{"tokens": [104, 105]}' "ids of standard input"
succeeds "$COHORT" tokenize --model m --prompt hi --chat --format jsonl
is "$(field tokens <out)" "$(sed -n 3p batch.out | field prompt_tokens)" "ids of a chat prompt"
done_testing

# Data sets as users have them: what `cohort data` says of them, training from every format with the bits of JSON lines, mixtures that go
# on exactly, options that are a part of a run, and what is refused.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
FIXTURES=$SOURCE/tests/fixtures/data_files
data() { "$COHORT" data "$@"; }
SFT=("$COHORT" sft --model m --batch-size 2 --threads 1 --device cpu --learning-rate 1e-3 --seed 3)
sft() { "${SFT[@]}" --out "$@"; }
GRPO=("$COHORT" grpo --model m --num-generations 2 --prompts-per-step 2 --max-completion-length 6 --learning-rate 1e-3 --seed 5 --threads 1
    --device cpu --reward format --log-completions)
grpo() { "${GRPO[@]}" --out "$@"; }

# --- cohort data ---
for i in 1 2 3 4 5; do echo "{\"prompt\": \"q$i\", \"completion\": \"a$i\", \"answer\": \"$i\", \"n\": $((i % 2))}"; done >d.jsonl
succeeds data d.jsonl
has out '^rows +5$'
has out "^SHA-256 +$(sha256sum <d.jsonl | cut -d' ' -f1)\$"
has out '^prompt +the column "prompt"$'
has out '^use +sft learns the completion; grpo, eval and generate ask the prompt$'
has out '^  d.jsonl: JSON lines, 5 rows$'
has out '^  n: whole number$'
has out '^characters of a row: shortest 4, median 4, 95 % up to 4, longest 4$'
has out '^--- d.jsonl:1$'
has out '^q1\[\[learned: a1\]\]$'
is "$(grep -c -- '^--- ' out)" 3 "examples"
has out '^no row would be cut or refused$'
succeeds data --data d.jsonl --model m --max-length 4
has out '^q1\[\[learned: a1<\|im_end\|>\]\]$'
has out '^tokens of a row: shortest 5'
has out '^5 rows would be cut, 0 left out, 0 refused$'
has out '^  d.jsonl:5: 5 tokens, cut by sft to --max-length$'
fails 1 'd.jsonl: of 5 rows 0 would be refused and 5 left out: none is good' data d.jsonl --model m --max-length 2
has out '^0 rows would be cut, 5 left out, 0 refused$'
succeeds data d.jsonl --data-limit 2 --format jsonl
has out '"rows": 2, "sha256": "[0-9a-f]{64}", "learned": true, "asked": true, "cut": 0, "left_out": 0, "refused": 0}'
has out '^\{"column": "n", "types": \{"whole number": 2\}\}$'
has out '^\{"example": 1, "context": "q2", "learned": "a2"\}$'
succeeds data "$FIXTURES/nested.parquet" --model m
has out 'messages: list<'
has out 'Parquet, 3 rows'
# A prompt beside messages: sft learns the messages, and who asks has to say which.
printf '{"prompt": "q", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n' >both.jsonl
succeeds data both.jsonl --model m
has out '^prompt +the column "messages"$'
has out '^use +sft learns from the rows$'
fails 1 'both.jsonl:1: has both "prompt" and "messages"; say which counts, with --columns prompt=prompt' grpo no --data both.jsonl --steps 1
# Messages in a table, as JSON text; bytes that are no text.
printf 'messages\n"[{""role"": ""user"", ""content"": ""q""}, {""role"": ""assistant"", ""content"": ""a""}]"\n' >messages.csv
succeeds data messages.csv --model m
has out 'learned: .*$'
# What only asks.
printf '%s\n' '{"question": "2+2?", "answer": "so\n#### 4"}' '{"question": "w?", "answer": "red"}' >q.jsonl
succeeds data q.jsonl --model m
has err 'note: q.jsonl: rows with "question" and "answer"'
has out '^prompt +the column "prompt", made of "question" and "answer"$'
has out 'learned: .*$'
succeeds data q.jsonl --columns prompt=question
lacks err 'note: q.jsonl'
has out '^prompt +the column "prompt", which --columns says is "question"$'
has out '^2\+2\?$'
printf '{"prompt": "%s"}\n' a bbbbbbbb '' >long.jsonl
succeeds data long.jsonl --model m --max-prompt-length 4
has out 'long.jsonl:2: 8 tokens, a longer prompt than grpo and eval take'
has out 'long.jsonl:3: the prompt is empty'
has out '^0 rows would be cut, 0 left out, 2 refused$'
# Many bad rows: a bounded list and a count; what a terminal obeys is not sent to it.
{ printf '{"prompt": "\\u001b[31m"}\n'; for ((i = 0; i < 50; i++)); do echo '{"x": 1'; done; } >bad.jsonl
succeeds data bad.jsonl
has out '^0 rows would be cut, 0 left out, 50 refused$'
is "$(grep -c '^  bad.jsonl:' out)" 21 "places of bad rows, and the file"
has out '^  \.\.\. and 30 more$'
has out '^\\x1b\[31m$'
sed 1d bad.jsonl >worse.jsonl
fails 1 'worse.jsonl:1: the object does not end in its line' data worse.jsonl
fails 1 'nope.jsonl: cannot open' data nope.jsonl
fails 1 'd/x: .*data set of the Hugging Face Hub.*hf download d/x --repo-type dataset' data d/x
fails 1 "hf download a/b --local-dir DIR" data https://huggingface.co/a/b
many=$(printf 'nope%d.jsonl,' {1..40})
fails 1 '^cohort: nope1.jsonl: cannot open' data "${many%,}"
fails 1 '^cohort: nope1.jsonl: cannot open' "$COHORT" score --reward format --data "${many%,}"
fails 2 'no data given' data
succeeds data d.jsonl d.jsonl
fails 1 'd.jsonl: of 5 rows 5 would be refused and 0 left out: none is good' data d.jsonl --columns prompt=x
has out 'd.jsonl:1: no column "x", which --columns names for prompt; it has prompt, completion, answer, n$'
has out '^0 rows would be cut, 0 left out, 5 refused$'

# --- every format trains the bits of JSON lines ---
mkdir f
cp "$FIXTURES/pandas.jsonl" f/rows.jsonl
sed -i '/"prompt":""/d' f/rows.jsonl # which has nothing to follow
succeeds sft whole --data f/rows.jsonl --steps 3
gzip -k f/rows.jsonl
{ echo '['; sed '$!s/$/,/' f/rows.jsonl; echo ']'; } >f/rows.json
for file in f/rows.jsonl.gz f/rows.json; do
    rm -rf other
    succeeds sft other --data $file --steps 3
    same whole/final other/final
done
mkdir -p s/data
split -l 2 -d -a 5 --additional-suffix=-of-00003.jsonl f/rows.jsonl s/data/train-
rm -rf other
succeeds sft other --data s --steps 3
has err "note: s: 3 files of the split 'train'"
same whole/final other/final
rm -rf other
succeeds sft other --data "$(echo s/data/* | tr ' ' ,)" --steps 3
same whole/final other/final
# Tables, and Parquet, whose prompt that is empty is passed over by a limit.
succeeds sft whole3 --data "$FIXTURES/pandas.jsonl" --steps 3 --data-limit 3
for file in pandas.csv pandas.tsv quoted.csv rows.csv.zst pandas.json pandas.parquet; do
    rm -rf other
    succeeds sft other --data "$FIXTURES/$file" --steps 3 --data-limit 3
    same whole3/final other/final
done
# Content that is null beside calls of tools is the same conversation in every format that has null, whether the template fails for
# null (the first Qwen3's) or asks for it, and trains the same bits.
cp -r m asks
cat >asks/chat_template.jinja <<'END'
{%- for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' }}{% if m.content is none %}{% for c in m.tool_calls %}[{{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor %}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
END
for model in m asks; do
    for file in calls.jsonl calls.json calls.jsonl.gz calls.parquet calls.arrow calls_datasets.jsonl; do
        succeeds data "$FIXTURES/$file" --model $model
        sed -n '/^--- /,$p' out | sed 's/calls[_a-z]*\.[a-z.]*/FILE/g; s/FILE:row /FILE:/' >"$model-$file.shown"
        same $model-calls.jsonl.shown "$model-$file.shown"
        rm -rf calls
        succeeds "${SFT[@]}" --model $model --out calls --data "$FIXTURES/$file" --steps 1 --assistant-only-loss
        [ -d "$model-calls" ] || mv calls/final "$model-calls"
        [ ! -d calls/final ] || same $model-calls calls/final
    done
done
is "$(grep -c 'look.*"at": [12]' m-calls.jsonl.shown)" 2 "calls that are shown"
has asks-calls.jsonl.shown 'learned: \[look \{"at": 2\}\]\[go \{"at": 3\}\]<\|im_end\|>'
# Columns of other names.
sed 's/"prompt"/"ask"/; s/"completion"/"say"/' f/rows.jsonl >renamed.jsonl
rm -rf other
succeeds sft other --data renamed.jsonl --columns prompt=ask,completion=say --steps 3
same whole/final other/final
fails 1 'renamed.jsonl:1: expected "messages".*the row has ask, say.*--columns' sft no --data renamed.jsonl --steps 3
# What a reward reads of a row is looked at before a run begins.
{ for i in 1 2 3; do echo "{\"prompt\": \"q$i\", \"answer\": $i}"; done; echo '{"prompt": "q4"}'; } >late.jsonl
fails 2 "late.jsonl:4: reward 'accuracy': .*no column 'answer'" grpo no --data late.jsonl --reward accuracy --steps 1
fails 2 "late.jsonl:4: reward 'accuracy': .*no column 'answer'" grpo no --data late.jsonl --data-limit 3 --eval-data late.jsonl --reward accuracy --steps 1
printf '{"chosen": "a", "rejected": "b"}\n' >preferences.jsonl
fails 1 'preferences.jsonl:1: .*preferences.*--columns messages=chosen' sft no --data preferences.jsonl --steps 3
printf '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}\n' >weight.jsonl
fails 1 'weight.jsonl:1: .*weight 0' sft no --data weight.jsonl --steps 3
# GRPO asks prompts of a table as of JSON lines, and rewards see the columns.
printf 'prompt,answer\nq1,1\nq2,2\nq3,3\n' >t.csv
printf '{"prompt": "q%d", "answer": "%d"}\n' 1 1 2 2 3 3 >t.jsonl
succeeds grpo g1 --data t.csv --steps 3 --reward accuracy
succeeds grpo g2 --data t.jsonl --steps 3 --reward accuracy
same g1/final g2/final
same g1/completions.jsonl g2/completions.jsonl
succeeds "$COHORT" score --data q.jsonl --columns completion=answer --reward accuracy
has out '"index": 1, "rewards": \{"accuracy": 1\}'

# --- a mixture goes on exactly, and its weights are a part of the run ---
for i in 1 2 3 4 5 6 7; do echo "{\"prompt\": \"r$i\"}"; done >e.jsonl
MIX=d.jsonl:0.7,e.jsonl:0.3
succeeds grpo straight --data $MIX --steps 6 --save-steps 2
succeeds grpo cut --data $MIX --steps 3 --save-steps 3
succeeds grpo cut --data $MIX --steps 6 --save-steps 2 --resume
same straight/final cut/final
same straight/completions.jsonl cut/completions.jsonl
fails 1 'data: .*expected what .* held, SHA-256.*--accept-changed data$' grpo cut --data d.jsonl:0.6,e.jsonl:0.4 --steps 7 --resume
fails 1 'data: .*expected what .* held, SHA-256.*--accept-changed data$' grpo cut --data d.jsonl,e.jsonl --steps 7 --resume
fails 1 "data: .*data_limit.*--accept-changed data\$" grpo cut --data $MIX --data-limit 3 --steps 7 --resume
fails 1 "data_shuffle_seed.*must keep its options" grpo cut --data $MIX --data-shuffle-seed 1 --steps 7 --resume
mv d.jsonl moved.jsonl
succeeds grpo cut --data moved.jsonl:0.7,e.jsonl:0.3 --steps 7 --resume
mv moved.jsonl d.jsonl
# The seed of the order alone: the first rows of a step change, and with the run's own seed nothing does.
succeeds grpo seeded --data $MIX --steps 6 --data-shuffle-seed 5
same straight/completions.jsonl seeded/completions.jsonl
rm -rf seeded
succeeds grpo seeded --data $MIX --steps 6 --data-shuffle-seed 6
differs "$(cat straight/completions.jsonl)" "$(cat seeded/completions.jsonl)" "runs of another order"
# A set of datasets.save_to_disk, and columns of bytes: told once each, however often the rows are read.
ARROW=$SOURCE/tests/fixtures/arrow
succeeds grpo saved --data "$ARROW/saved_splits:train_sft" --eval-data "$ARROW/saved_splits:test_sft" --steps 3
succeeds "$COHORT" data "$ARROW/saved"
has out 'data-00001-of-00002.arrow: Arrow, 3 rows'
succeeds "$COHORT" data "$SOURCE/tests/fixtures/parquet/types.parquet,$ARROW/stream.arrow"
for column in binary binary_2; do
    [ "$(grep -c "column \"$column\" holds bytes that are not UTF-8 text; they are read as null" err)" = 1 ] ||
        wrong "bytes of the column $column: $(cat err)"
done
# --columns over files of different columns: the first that a file has, and what it has already.
echo '{"question": "one"}' >c1.jsonl
echo '{"body": "two"}' >c2.jsonl
echo '{"prompt": "three"}' >c3.jsonl
succeeds "$COHORT" generate --model m --batch c1.jsonl,c2.jsonl,c3.jsonl --columns prompt=question,prompt=body --max-tokens 1 --format jsonl
[ "$(grep -oE '"prompt": "[a-z]+"' out | tr '\n' ' ')" = '"prompt": "one" "prompt": "two" "prompt": "three" ' ] || wrong "columns: $(cat out)"
fails 1 'c1.jsonl,c2.jsonl: no file has a column "nothing", which --columns names for prompt' \
    "$COHORT" generate --model m --batch c1.jsonl,c2.jsonl --columns prompt=nothing
# Several words without a flag, as a shell makes them, and a list in YAML: one set of files.
echo '{"prompt": "four"}' >'c,4.jsonl'
succeeds "$COHORT" data c3.jsonl 'c,4.jsonl'
has out 'rows      2$'
fails 2 "'c3.jsonl' is a file without an option; several data files are one value" "$COHORT" generate --batch c1.jsonl c3.jsonl
fails 2 "'c3.jsonl' is a file without an option; several data files are one value" "$COHORT" sft --data c1.jsonl c3.jsonl
printf 'batch:\n- c3.jsonl\n- "c,4.jsonl"\nmax_tokens: 1\nformat: jsonl\n' >list.yaml
succeeds "$COHORT" generate --model m --config list.yaml
has out '"prompt": "three"'
has out '"prompt": "four"'
# --chat: prompts that are text become a user's message, of sft with the completion as the answer.
echo '{"prompt": "ab", "completion": "cd"}' >text.jsonl
echo '{"messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd"}]}' >chat.jsonl
succeeds "$COHORT" data text.jsonl --model m --chat --format jsonl
grep '"example"' out >wrapped
succeeds "$COHORT" data chat.jsonl --model m --format jsonl
grep '"example"' out >rendered
same wrapped rendered
succeeds "$COHORT" sft --model m --data text.jsonl --chat --steps 1 --threads 1 --device cpu --out chat-a
succeeds "$COHORT" sft --model m --data chat.jsonl --steps 1 --threads 1 --device cpu --out chat-b
same chat-a/final/model.safetensors chat-b/final/model.safetensors
echo '{"prompt": [{"role": "user", "content": "ab"}]}' >asked.jsonl
succeeds grpo asked-a --data text.jsonl --chat --steps 1
succeeds grpo asked-b --data asked.jsonl --steps 1
succeeds grpo asked-c --data text.jsonl --steps 1
same asked-a/final/model.safetensors asked-b/final/model.safetensors
differs "$(sed 's/.*"completion"//' asked-a/completions.jsonl)" "$(sed 's/.*"completion"//' asked-c/completions.jsonl)" "runs with and without --chat"
# Splits.
mkdir pipe
fails 2 'has the splits test .1 file., train .1 file.: name one, for example pipe:test' \
    sh -c 'echo "{\"prompt\": \"a\"}" | tee pipe/train.jsonl >pipe/test.jsonl; "$@"' x "${GRPO[@]}" --out no --data pipe --steps 1
succeeds grpo picked --data pipe:train --eval-data pipe:test --steps 1
absent no
done_testing

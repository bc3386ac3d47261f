# What sft learns of a row, and what its switches do: masks of turns, completions and texts as `cohort data` shows them, weights, cut rows,
# packing and losses as equalities of trained weights, noise that a seed repeats.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
SFT=("$COHORT" sft --model m --threads 1 --device cpu --learning-rate 1e-3 --seed 3 --no-shuffle-dataset)
sft() { "${SFT[@]}" --out "$@"; }
rows() { cat >rows.jsonl; }
# shown OPTIONS: the first row as `cohort data` shows it, with \n for a newline
shown()
{
    "$COHORT" data rows.jsonl --model m --format jsonl "$@" >out 2>err || wrong "exit code $? of data $* -- $(tail -c 300 err)"
    sed -n 's/^{"example": 0, "context": "\(.*\)", "learned": "\(.*\)"}$/\1[[learned: \2]]/p' out
}
# learns WHAT OPTIONS: what of the row in rows.jsonl is learned
learns()
{
    local wanted=$1
    shift
    is "$(shown "$@")" "$wanted" "learned with $*"
}
# final NAME: the weights of a run
final() { sha256sum <"$1/final/model.safetensors"; }
# metric RUN STEP NAME
metric() { sed -n "s/^{\"step\": $2,.*\"$3\": \\([^,}]*\\).*/\\1/p" "$1/metrics.jsonl"; }

# --- which tokens are learned ---
TURNS='{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}'
U='<|im_start|>user\n' A='<|im_start|>assistant\n' E='<|im_end|>' T='<think>\n\n</think>\n\n'
echo "{\"messages\": [$TURNS]}" | rows
learns "${U}a$E\n${A}b$E\n${U}c$E\n${A}[[learned: ${T}d$E]]"
learns "${U}a$E\n${A}b$E\n${U}c$E\n${A}[[learned: ${T}d$E]]" --completion-only-loss
# What ends a turn is the assistant's too, and each turn is as it was when it was the last.
learns "${U}a$E\n${A}[[learned: ${T}b$E\n]]${U}c$E\n${A}[[learned: ${T}d$E\n]]" --assistant-only-loss
learns "<|im_start|>[[learned: user\na$E\n${A}b$E\n${U}c$E\n${A}${T}d$E\n]]" --no-completion-only-loss
# A message of weight 0 is not learned; the last one of weight 0 leaves nothing to a row that learns the last alone.
echo "{\"messages\": [$TURNS]}" | sed 's/"content": "b"/&, "weight": 0/' | rows
learns "${U}a$E\n${A}${T}b$E\n${U}c$E\n${A}[[learned: ${T}d$E\n]]" --assistant-only-loss
echo "{\"messages\": [$TURNS]}" | sed 's/"content": "d"/&, "weight": 0/' | rows
learns "${U}a$E\n${A}[[learned: ${T}b$E\n]]" --assistant-only-loss
fails 1 'rows.jsonl:1: .*weight 0.*assistant_only_loss' sft no --data rows.jsonl --steps 1
fails 1 'rows.jsonl:1: .*weight 0.*completion_only_loss' sft no --data rows.jsonl --steps 1 --no-completion-only-loss
echo "{\"messages\": [$TURNS]}" | sed 's/"content": "b"/&, "weight": 0.5/' | rows
fails 1 'rows.jsonl:1: .*"weight" must be 0 .* or 1' sft no --data rows.jsonl --steps 1
# The same without a tokenizer, and of a row's weight.
"$COHORT" data rows.jsonl >out 2>err
has out 'rows.jsonl:1: .*"weight" must be 0 .* or 1'
for weight in -1 '"x"' true; do
    echo "{\"prompt\": \"a\", \"completion\": \"b\", \"weight\": $weight}" | rows
    fails 1 'rows.jsonl:1: "weight" is what the row counts' sft no --data rows.jsonl --steps 1
    "$COHORT" data rows.jsonl >out 2>err
    has out 'rows.jsonl:1: "weight" is what the row counts'
    has out '0 left out, 1 refused'
done
# Pairs: the completion, of messages all of it; with the assistant's words alone its turns.
PAIR='{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}, {"role": "user", "content": "e"}, {"role": "assistant", "content": "f"}]}'
echo "$PAIR" | rows
learns "${U}a$E\n${A}b$E\n${U}c$E\n${A}[[learned: d$E\n${U}e$E\n${A}${T}f$E]]"
learns "${U}a$E\n${A}${T}b$E\n${U}c$E\n${A}[[learned: ${T}d$E\n]]${U}e$E\n${A}[[learned: ${T}f$E\n]]" --assistant-only-loss
learns "${U}a$E\n${A}[[learned: ${T}b$E\n]]${U}c$E\n${A}[[learned: ${T}d$E\n]]${U}e$E\n${A}[[learned: ${T}f$E\n]]" --assistant-only-loss --no-completion-only-loss
echo '{"prompt": "ab", "completion": "cd"}' | rows
learns "ab[[learned: cd$E]]"
learns "a[[learned: bcd$E]]" --no-completion-only-loss
echo '{"text": "abcd", "body": "xyz"}' | rows
learns "a[[learned: bcd$E]]"
learns "x[[learned: yz$E]]" --dataset-text-field body
# Rows that are tokens: labels, or masks that must both say so; "abcde" is 97 98 99 100 101.
echo '{"input_ids": [97, 98, 99, 100, 101]}' | rows
learns "a[[learned: bcde]]"
echo '{"input_ids": [97, 98, 99, 100, 101], "labels": [97, -100, 99, -100, 101], "completion_mask": [0, 0, 0, 0, 0]}' | rows
learns "ab[[learned: c]]d[[learned: e]]"
echo '{"input_ids": [97, 98, 99, 100, 101], "completion_mask": [0, 0, 1, 1, 1], "assistant_masks": [0, 1, 1, 0, 1]}' | rows
learns "ab[[learned: c]]d[[learned: e]]"
learns "ab[[learned: c]]d[[learned: e]]" --assistant-only-loss
learns "a[[learned: bc]]d[[learned: e]]" --no-completion-only-loss
for bad in '"labels": [97, 98, 99, 100]' '"labels": [97, 98, 99, 100, 102]' '"labels": 1' '"completion_mask": [0, 0, 2, 1, 1]' '"assistant_masks": [0, 0, "x", 1, 1]'; do
    echo "{\"input_ids\": [97, 98, 99, 100, 101], $bad}" | rows
    fails 1 'rows.jsonl:1: "(labels|completion_mask|assistant_masks)"(\[[0-9]\])? must be' sft no --data rows.jsonl --steps 1
done
echo '{"input_ids": [97, 98, 9999999]}' | rows
fails 1 'rows.jsonl:1: "input_ids"\[2\] is not a token id' sft no --data rows.jsonl --steps 1
echo '{"input_ids": [97, 98, 99]}' | rows
fails 1 'rows.jsonl:1: assistant_only_loss needs messages, or "assistant_masks"' sft no --data rows.jsonl --steps 1 --assistant-only-loss
"$COHORT" data rows.jsonl >out 2>err || wrong "data of tokens: $(cat err)"
# Tools stand before the conversation and are not learned.
echo "{\"messages\": [$TURNS], \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"clock\"}}]}" | rows
shown --assistant-only-loss >tools
has tools '^<\|im_start\|>system.*"name.*clock.*user.na.*\[\[learned: [^[]*b<\|im_end\|>.n\]\].*\[\[learned: [^[]*d<\|im_end\|>.n\]\]$'
# Calls are the assistant's, what comes back is not; a row's own settings reach the template.
echo '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "clock", "arguments": {"zone": "utc"}}}]}, {"role": "tool", "content": "noon"}, {"role": "assistant", "content": "d"}]}' | rows
shown --assistant-only-loss >calls
has calls '\[\[learned: [^[]*<tool_call>[^[]*clock[^[]*utc[^[]*\]\][^[]*noon[^[]*\[\[learned: [^[]*d<\|im_end\|>'
echo "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}], \"chat_template_kwargs\": {\"enable_thinking\": false}}" | rows
learns "${U}a$E\n${A}${T}[[learned: b$E]]"
# What cannot be learned so is refused.
echo '{"text": "abcd"}' | rows
fails 1 'rows.jsonl:1: .*plain text, which has no completion; leave completion_only_loss out' sft no --data rows.jsonl --steps 1 --completion-only-loss
fails 1 'rows.jsonl:1: assistant_only_loss needs messages' sft no --data rows.jsonl --steps 1 --assistant-only-loss
fails 1 'rows.jsonl:1: expected .*"body"' sft no --data rows.jsonl --steps 1 --dataset-text-field body
fails 2 'label-smoothing-factor is of --loss-type nll' sft no --data rows.jsonl --steps 1 --loss-type dft --label-smoothing-factor 0.1
fails 2 "loss_type cannot be 'chunked_nll', which is called nll" sft no --data rows.jsonl --steps 1 --loss-type chunked_nll

# --- completion_only_loss false is the text ---
for i in 1 2 3 4 5 6; do echo "{\"prompt\": \"q$i \", \"completion\": \"answer $i\"}"; done >pairs.jsonl
sed 's/"prompt": "\(.*\)", "completion": "\(.*\)"/"text": "\1\2"/' pairs.jsonl >texts.jsonl
succeeds sft whole --data pairs.jsonl --steps 3 --batch-size 2 --no-completion-only-loss
succeeds sft text --data texts.jsonl --steps 3 --batch-size 2
is "$(final whole)" "$(final text)" "completion_only_loss false"
while read -r line; do # the same rows as tokens: prompt, completion and what ends it
    echo "$line" | sed 's/.*"prompt": "\(.*\)", "completion": "\(.*\)".*/\1 \2/' | {
        read -r question answer
        ids() { printf '%s' "$1" | od -An -v -tu1 | tr -s ' \n' ',' | sed 's/^,//; s/,$//'; }
        off() { printf '%s' "$1" | sed 's/./-100,/g'; }
        echo "{\"input_ids\": [$(ids "$question $answer"),258], \"labels\": [$(off "$question ")$(ids "$answer"),258]}"
    }
done <pairs.jsonl >tokens.jsonl
succeeds sft tokens --data tokens.jsonl --steps 3 --batch-size 2
succeeds sft pairs --data pairs.jsonl --steps 3 --batch-size 2
is "$(final pairs)" "$(final tokens)" "tokens with labels"
differs "$(final pairs)" "$(final text)" "completions and whole texts"

# --- weights: only their ratio counts; twice the weight is the row twice; 0 leaves it out ---
head -n 2 pairs.jsonl >two.jsonl
sed 's/}/, "weight": 4}/' two.jsonl >fours.jsonl
succeeds sft plain --data two.jsonl --steps 2 --batch-size 2
succeeds sft fours --data fours.jsonl --steps 2 --batch-size 2
has err 'fours.jsonl: 2 rows have a weight, 0 of them 0'
is "$(final plain)" "$(final fours)" "equal weights"
{ sed -n 1p two.jsonl | sed 's/}/, "weight": 2}/'; sed -n 2p two.jsonl; } >twice.jsonl
{ sed -n 1p two.jsonl; cat two.jsonl; } >three.jsonl
succeeds sft twice --data twice.jsonl --steps 1 --batch-size 2
succeeds sft three --data three.jsonl --steps 1 --batch-size 3
awk -v a="$(metric twice 1 loss)" -v b="$(metric three 1 loss)" 'BEGIN {exit !(a > 0 && (a - b)^2 < 1e-12 * a * a)}' || wrong "a row of weight 2: $(metric twice 1 loss), twice: $(metric three 1 loss)"
{ cat two.jsonl; sed -n 3p pairs.jsonl | sed 's/}/, "weight": 0}/'; } >zero.jsonl
succeeds sft zero --data zero.jsonl --steps 2 --batch-size 2
has err 'zero.jsonl: 1 rows have a weight, 1 of them 0: these are left out'
is "$(final plain)" "$(final zero)" "a row of weight 0"
"$COHORT" data zero.jsonl --model m >out
has out 'zero.jsonl:3: .*left out by sft: its weight is 0'

# --- cut rows: at the end, at the beginning, and what is said; a row without anything to learn is left out ---
echo '{"prompt": "0123456789", "completion": "abcdefghij"}' | rows
"$COHORT" data rows.jsonl --model m --max-length 12 >out
has out 'rows.jsonl:1: 21 tokens, cut by sft to --max-length$'
succeeds sft start --data rows.jsonl --steps 2 --batch-size 1 --max-length 12
has err 'rows.jsonl: 1 rows cut to --max-length 12 \(at the end; 9 tokens, 9 of them to learn\), 0 of them left out'
succeeds sft end --data rows.jsonl --steps 2 --batch-size 1 --max-length 12 --truncation-mode keep_end
has err 'rows.jsonl: 1 rows cut to --max-length 12 \(at the beginning; 9 tokens, 0 of them to learn\), 0 of them left out'
echo '{"prompt": "9", "completion": "abcdefghij"}' >tail.jsonl
succeeds sft tail --data tail.jsonl --steps 2 --batch-size 1
is "$(final end)" "$(final tail)" "keep_end"
cat two.jsonl >>rows.jsonl
succeeds sft dropped --data rows.jsonl --steps 2 --batch-size 2 --max-length 10
has err '[0-9] rows cut to --max-length 10 .*, 1 of them left out because no completion was left'
"$COHORT" data rows.jsonl --model m --max-length 10 >out
has out ' 1 left out, 0 refused'

# --- packing: bins of three rows are batches of three; what fills a bin best, and the steps of an epoch ---
for i in 1 2 3 4 5 6; do echo "{\"prompt\": \"q$i\", \"completion\": \"abc\"}"; done >equal.jsonl # 6 tokens each
succeeds sft bins --data equal.jsonl --steps 4 --batch-size 1 --packing --max-length 18
has err 'equal.jsonl: 6 rows packed into 2 bins of up to 3 rows, 36 tokens'
succeeds sft threes --data equal.jsonl --steps 4 --batch-size 3 --max-length 18
is "$(final bins)" "$(final threes)" "bins of three rows"
is "$(metric bins 4 epoch)" 2 "epochs of bins"
is "$(metric bins 4 num_tokens)" 72 "tokens of 4 steps"
is "$(metric bins 4 loss)" "$(metric threes 4 loss)" "loss of packed rows"
succeeds sft epochs --data equal.jsonl --epochs 2 --batch-size 1 --packing --max-length 13
is "$(wc -l <epochs/metrics.jsonl)" 6 "2 epochs of 3 bins"
# Held-out rows are not packed: their loss is the same.
succeeds sft ebins --data equal.jsonl --eval-data pairs.jsonl --steps 1 --batch-size 1 --packing --max-length 18
succeeds sft erows --data equal.jsonl --eval-data pairs.jsonl --steps 1 --batch-size 3 --max-length 18
is "$(metric ebins 1 eval_loss)" "$(metric erows 1 eval_loss)" "held-out loss beside packed rows"
# A mixture is packed file by file.
succeeds sft mixed --data equal.jsonl:0.5,pairs.jsonl:0.5 --steps 6 --batch-size 2 --packing --max-length 24
has err 'equal.jsonl.*: 12 rows packed into 5 bins of up to 4 rows, 108 tokens'
# Long rows in pieces: bins of pieces are batches of these as rows; wrapped: one row of all, cut where it is full.
for i in 1 2 3 4; do echo "{\"input_ids\": [$i, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]}"; done >long.jsonl
for i in 1 2 3 4; do printf '{"input_ids": [%d, 11, 12, 13]}\n{"input_ids": [14, 15, 16, 17]}\n{"input_ids": [18, 19, 20]}\n' $i; done >pieces.jsonl
succeeds sft split --data long.jsonl --steps 2 --batch-size 4 --packing --packing-strategy bfd_split --max-length 4 --no-shuffle-dataset
has err 'long.jsonl: 4 rows cut into 12 pieces of up to 4 tokens, which do not see what came before them'
succeeds sft aspieces --data pieces.jsonl --steps 2 --batch-size 4 --packing --max-length 4 --no-shuffle-dataset
is "$(final split)" "$(final aspieces)" "pieces of rows"
echo '{"input_ids": [1, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 2, 11, 12, 13, 14]}
{"input_ids": [15, 16, 17, 18, 19, 20, 3, 11, 12, 13, 14, 15, 16, 17, 18, 19]}
{"input_ids": [20, 4, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]}' >joined.jsonl
succeeds sft wrapped --data long.jsonl --steps 2 --batch-size 3 --packing --packing-strategy wrapped --max-length 16 --no-shuffle-dataset
has err 'long.jsonl: 4 rows wrapped into 3 of up to 16 tokens: .*attention crosses from row to row'
succeeds sft joined --data joined.jsonl --steps 2 --batch-size 3 --max-length 16 --no-shuffle-dataset
is "$(final wrapped)" "$(final joined)" "wrapped rows"
sed 's/}/, "weight": 2}/' long.jsonl >heavy.jsonl
fails 1 'heavy.jsonl:1: the row has a weight, and packing_strategy wrapped' sft no --data heavy.jsonl --steps 1 --packing --packing-strategy wrapped --max-length 16
# Micro-batches of one row change memory, not what is packed.
succeeds sft small --data equal.jsonl --steps 4 --batch-size 1 --packing --max-length 18 --micro-batch-tokens 6
awk -v a="$(metric bins 4 loss)" -v b="$(metric small 4 loss)" 'BEGIN {exit !(a > 0 && (a - b)^2 < 1e-10)}' || wrong "micro-batches of a bin"

# --- losses: of one token the formulas, from its log-prob ---
echo '{"prompt": "abc", "completion": ""}' | rows # learns <|im_end|> alone
for loss in nll dft; do succeeds sft "one-$loss" --data rows.jsonl --steps 1 --batch-size 1 --loss-type $loss; done
awk -v l="$(metric one-nll 1 loss)" -v d="$(metric one-dft 1 loss)" 'BEGIN {exit !(l > 0.1 && (d - l * exp(-l))^2 < 1e-12 * d * d)}' || wrong "dft of one token"
succeeds sft smooth0 --data pairs.jsonl --steps 3 --batch-size 2 --label-smoothing-factor 0
is "$(final pairs)" "$(final smooth0)" "label smoothing 0"
# The mean over the vocabulary is linear in the factor.
for e in 0.25 0.5; do succeeds sft "smooth-$e" --data rows.jsonl --steps 1 --batch-size 1 --label-smoothing-factor $e; done
awk -v l="$(metric one-nll 1 loss)" -v a="$(metric smooth-0.25 1 loss)" -v b="$(metric smooth-0.5 1 loss)" \
    'BEGIN {exit !(a != l && (b - l - 2 * (a - l))^2 < 1e-10)}' || wrong "label smoothing is not linear in its factor"
# A learned row has every token right in the end.
succeeds sft learned --data rows.jsonl --steps 60 --batch-size 1 --learning-rate 1e-2
is "$(metric learned 60 mean_token_accuracy)" 1 "accuracy of what was learned"
is "$(metric learned 1 mean_token_accuracy)" 0 "accuracy before"

# --- noise: none at 0, repeated by the seed, whatever the threads and micro-batches; the first loss of another seed is another ---
succeeds sft noise0 --data pairs.jsonl --steps 3 --batch-size 2 --neftune-noise-alpha 0
is "$(final pairs)" "$(final noise0)" "noise of alpha 0"
succeeds sft noise --data pairs.jsonl --steps 3 --batch-size 2 --neftune-noise-alpha 10 --eval-data two.jsonl
succeeds sft again --data pairs.jsonl --steps 3 --batch-size 2 --neftune-noise-alpha 10 --threads 2 --eval-data two.jsonl
is "$(final noise)" "$(final again)" "noise again"
succeeds sft other --data pairs.jsonl --steps 3 --batch-size 2 --neftune-noise-alpha 10 --seed 4
differs "$(metric noise 1 loss)" "$(metric other 1 loss)" "noise of another seed"
differs "$(metric noise 1 loss)" "$(metric pairs 1 loss)" "noise and none"
succeeds sft quiet --data pairs.jsonl --steps 3 --batch-size 2 --eval-data two.jsonl
is "$(metric noise 0 eval_loss)" "$(metric quiet 0 eval_loss)" "an evaluation has no noise"

# --- batches as TRL counts them ---
succeeds sft product --data pairs.jsonl --steps 3 --per-device-train-batch-size 1 --gradient-accumulation-steps 2
is "$(final product)" "$(final pairs)" "batch_size as a product"
has product/config.yaml '^batch_size: 2$'
succeeds "$COHORT" sft --out product --resume --steps 4
succeeds sft four --data pairs.jsonl --steps 4 --batch-size 2
is "$(final product)" "$(final four)" "a product, resumed"
fails 2 'batch-size 3 .*are 2: give one' sft no --data pairs.jsonl --batch-size 3 --per-device-train-batch-size 2

# --- evaluations: when, what of them stops a run, and which model is the last ---
# steps_with RUN NAME: the steps whose line has the metric
steps_with() { sed -n "s/^{\"step\": \([0-9]*\),.*\"$2\":.*/\1/p" "$1/metrics.jsonl" | tr '\n' ' '; }
succeeds sft each --data pairs.jsonl --eval-data two.jsonl --steps 7 --batch-size 2 --eval-strategy epoch # 3 steps an epoch
is "$(steps_with each eval_loss)" "0 3 6 7 " "evaluations at the end of epochs"
is "$(steps_with each eval_mean_token_accuracy)" "0 3 6 7 " "accuracy at the end of epochs"
is "$(steps_with each eval_entropy)" "0 3 6 7 " "entropy at the end of epochs"
succeeds sft never --data pairs.jsonl --eval-data two.jsonl --steps 4 --batch-size 2 --eval-steps 2 --eval-strategy no
is "$(steps_with never eval_loss)" "0 4 " "eval_strategy no"
succeeds sft log --data pairs.jsonl --eval-data two.jsonl --steps 5 --batch-size 2 --eval-strategy steps --logging-steps 2
is "$(steps_with log eval_loss)" "0 2 4 5 " "eval_strategy steps as logging_steps"
# Rows that teach something else: the held-out loss falls, and then rises.
echo '{"prompt": "abc", "completion": "abcdefgh"}' >near.jsonl
echo '{"prompt": "abd", "completion": "abcdxyzw"}' >far.jsonl
STOP=(--data near.jsonl --eval-data far.jsonl --batch-size 1 --learning-rate 3e-3 --eval-steps 1 --lr-scheduler-type constant)
# stops_after RUN PATIENCE THRESHOLD: by the rule, from the run's own figures: the step it stops at, the best step
stops_after()
{
    sed -n 's/^{"step": \([0-9]*\),.*"eval_loss": \([^,}]*\).*/\1 \2/p' "$1/metrics.jsonl" | awk -v patience="$2" -v threshold="$3" '
        $1 == 0 {next}
        {worse = (n++ == 0 || best - $2 > threshold) ? 0 : worse + 1; if (n == 1 || $2 < best) {best = $2; at = $1}}
        worse >= patience {print $1, at; exit}'
}
succeeds sft long "${STOP[@]}" --steps 40
for rule in "3 0" "2 0.05"; do
    patience=${rule% *} threshold=${rule#* }
    read -r last best <<<"$(stops_after long "$patience" "$threshold")"
    run=stop-$patience
    succeeds sft "$run" "${STOP[@]}" --steps 40 --early-stopping-patience "$patience" --early-stopping-threshold "$threshold"
    has err "stopped after step $last: $patience evaluations in a row are not better"
    is "$(tail -n 1 "$run/metrics.jsonl" | sed 's/^{"step": \([0-9]*\).*/\1/')" "$last" "where a run with patience $patience stops"
    # The stop is in the checkpoint; with more patience the run goes on as one that had it.
    succeeds "$COHORT" sft --out "$run" --resume
    is "$(tail -n 1 "$run/metrics.jsonl" | sed 's/^{"step": \([0-9]*\).*/\1/')" "$last" "a stopped run that is resumed"
done
succeeds sft kept "${STOP[@]}" --steps 40 --early-stopping-patience 3 --load-best-model-at-end --save-total-limit 1
read -r last best <<<"$(stops_after long 3 0)"
has err "final is the model of step $best: its eval_loss is the best"
is "$(cd kept/checkpoints && echo step-*)" "step-$best step-$last" "the best and the last checkpoint"
same kept/final/model.safetensors "kept/checkpoints/step-$best/model.safetensors"
succeeds sft to-best "${STOP[@]}" --steps "$best"
same kept/final to-best/final
"$COHORT" info --model kept/final --verify >out 2>&1 || wrong "final of the best model: $(cat out)"
# In two parts it is the same.
succeeds sft parts "${STOP[@]}" --steps "$((last - 2))" --early-stopping-patience 3 --load-best-model-at-end --save-total-limit 1
succeeds "$COHORT" sft --out parts --resume --steps 40
same parts/final kept/final
same "parts/checkpoints/step-$last/trainer/state.json" "kept/checkpoints/step-$last/trainer/state.json"
# Of another metric more is better; a checkpoint that is gone is told.
succeeds sft right --data near.jsonl --eval-data near.jsonl --batch-size 1 --learning-rate 1e-2 --eval-steps 5 --steps 100 \
    --metric-for-best-model mean_token_accuracy --early-stopping-patience 2 --load-best-model-at-end
has err 'stopped after step .*eval_mean_token_accuracy 1.0000'
fails 2 'early-stopping-patience looks at evaluations' sft no --data near.jsonl --early-stopping-patience 3 --eval-steps 1
fails 2 'load-best-model-at-end looks at evaluations' sft no --data near.jsonl --eval-data far.jsonl --load-best-model-at-end
fails 2 "metric_for_best_model cannot be 'eval_loss', which is called loss" sft no --data near.jsonl --metric-for-best-model eval_loss
done_testing

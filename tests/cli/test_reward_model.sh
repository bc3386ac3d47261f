# reward: which rows it takes and refuses, switches as equalities of trained weights, what becomes of a language model and of its head,
# adapters, evaluation and the best model.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
run() { # run OUT OPTIONS
    local out=$1
    shift
    "$COHORT" reward --model m --threads 1 --device cpu --dtype f32 --learning-rate 1e-3 --seed 3 --batch-size 3 --steps 4 --out "$out" "$@"
}
final() { sha256sum <"$1/final/model.safetensors"; }
metric() { sed -n "s/^{\"step\": $2,.*\"$3\": \\([^,}]*\\).*/\\1/p" "$1/metrics.jsonl"; }
score() { # score FOLDER OPTIONS: of rows.jsonl
    local dir=$1
    shift
    "$COHORT" logprobs --model "$dir" --threads 1 --batch rows.jsonl "$@"
}
for i in 1 2 3 4 5 6 7; do
    echo "{\"prompt\": \"what is $i + $i?\", \"chosen\": \" it is $((2 * i))\", \"rejected\": \" $i perhaps, who knows\"}"
done >pairs.jsonl
# The whole text of both sides, and their tokens.
sed 's/"prompt": "\([^"]*\)", "chosen": "\([^"]*\)", "rejected": "\([^"]*\)"/"chosen": "\1\2", "rejected": "\1\3"/' pairs.jsonl >whole.jsonl
for side in chosen rejected; do
    sed "s/.*\"$side\": \"\\([^\"]*\\)\".*/{\"prompt\": \"\\1\"}/" whole.jsonl >side.jsonl
    "$COHORT" tokenize --model m --batch side.jsonl | sed 's/.*"tokens": \[\([^]]*\)\].*/\1, 258/' >$side.ids
done
paste -d '|' chosen.ids rejected.ids | sed 's/\(.*\)|\(.*\)/{"chosen_ids": [\1], "rejected_ids": [\2]}/' >ids.jsonl
sed 's/"prompt": "\([^"]*\)", "chosen": "\([^"]*\)", "rejected": "\([^"]*\)"/"prompt": [{"role": "user", "content": "\1"}], "chosen": [{"role": "assistant", "content": "\2"}], "rejected": [{"role": "assistant", "content": "\3"}]/' pairs.jsonl >chat.jsonl
sed 's/"prompt": \[\({[^}]*}\)\], "chosen": \[\({[^}]*}\)\], "rejected": \[\({[^}]*}\)\]/"chosen": [\1, \2], "rejected": [\1, \3]/' chat.jsonl >chat-whole.jsonl
sed 's/^{"chosen": \[{"role": "user", "content": "\([^"]*\)"}/{"prompt": "\1", &/; s/, {"chosen"/, "chosen"/' chat-whole.jsonl >chat-copy.jsonl

# --- rows of every form: the same rows are the same run ---
succeeds run text --data pairs.jsonl --eval-data pairs.jsonl
has out 'loss +left +eval loss +accuracy +margin +grad'
has out 'step 4/4 +0\.[0-9]+ +0s +0\.[0-9]+ +1\.0000 +[0-9.]+ '
is "$(metric text 1 num_tokens)" 179 "tokens of both sides with their prompts"
for name in loss min_reward mean_reward max_reward accuracy margin eval_loss eval_min_reward eval_mean_reward eval_max_reward eval_accuracy eval_margin; do
    has text/metrics.jsonl "\"$name\": "
done
lacks text/metrics.jsonl '"entropy"|"logps'
succeeds run whole --data whole.jsonl
is "$(final whole)" "$(final text)" "weights of whole texts"
succeeds run ids --data ids.jsonl
is "$(final ids)" "$(final text)" "weights of tokens"
succeeds run chat --data chat.jsonl
differs "$(final chat)" "$(final text)" "weights of text and of messages"
for form in chat-whole chat-copy; do
    succeeds run $form --data $form.jsonl
    is "$(final $form)" "$(final chat)" "weights of $form"
done
succeeds run chat-option --data pairs.jsonl --chat
is "$(final chat-option)" "$(final chat)" "weights of text that goes through the template"
# Passes do not matter beyond rounding; a single row; nothing in common; one side that is the beginning of the other; equal ones.
succeeds run split --data pairs.jsonl --micro-batch-tokens 30
is "$(metric split 1 loss)" "$(metric text 1 loss)" "loss of the first step in several passes"
{
    echo '{"chosen": "abc", "rejected": "xyz"}'
    echo '{"chosen_ids": [5, 6], "rejected_ids": [5, 6, 7, 8]}'
    echo '{"chosen_ids": [9], "rejected_ids": [9]}'
} >odd.jsonl
succeeds run odd --data odd.jsonl --micro-batch-tokens 1
succeeds run odd-together --data odd.jsonl
is "$(metric odd 1 loss)" "$(metric odd-together 1 loss)" "loss of odd pairs"
head -n 1 pairs.jsonl >one.jsonl
succeeds run one --data one.jsonl --batch-size 1
bad() { echo "$1" >bad.jsonl; fails 1 "bad.jsonl:1.*$2" run no --data bad.jsonl; }
bad '{"prompt": "a", "chosen": "b"}' '"chosen" and "rejected"'
bad '{"prompt": "a", "chosen": "b", "rejected": [{"role": "assistant", "content": "c"}]}' 'both be text, or both lists'
bad '{"prompt": [{"role": "user", "content": "a"}], "chosen": "b", "rejected": "c"}' 'both be text, or both lists'
bad '{"prompt": "a", "chosen": "b", "rejected": "c", "margin": "much"}' '"margin" is by how much'
bad '{"chosen_ids": [1, 2], "rejected": "c"}' '"chosen_ids" and "rejected_ids"'
bad '{"chosen_ids": [1, 99999], "rejected_ids": [1]}' 'chosen.*input_ids'
bad '{"chosen_ids": [], "rejected_ids": [1]}' 'empty|input_ids'
fails 2 'no training rows given' run no
# A pair with a side that is too long is left out, and nothing is cut.
cat pairs.jsonl >long.jsonl
echo "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"$(printf 'x%.0s' {1..80})\"}" >>long.jsonl
succeeds run left --data long.jsonl --max-length 40
has err '1 rows have a side longer than --max-length 40 and are left out'
is "$(final left)" "$(final text)" "weights without the pair that is too long"
fails 2 'no row has both of its sides within --max-length 10' run no --data pairs.jsonl --max-length 10
# The template: of the model's folder or of a file; tools as a list and as JSON text.
cat >template.jinja <<'END'
{% for tool in tools or [] %}T{{ tool.function.name }};{% endfor %}{% for m in messages %}{{ m.role[0] }}={{ m.content }};{% endfor %}
END
succeeds run template --data chat.jsonl --chat-template template.jinja
differs "$(final template)" "$(final chat)" "weights with another template"
tool='{"type": "function", "function": {"name": "add", "parameters": {}}}'
sed "s/}\$/, \"tools\": [$tool]}/" chat.jsonl >tools.jsonl
sed "s/}\$/, \"tools\": \"[${tool//\"/\\\\\"}]\"}/" chat.jsonl >tools-text.jsonl
has tools-text.jsonl '"tools": "\[\{\\"type'
succeeds run tools --data tools.jsonl --chat-template template.jinja
succeeds run tools-text --data tools-text.jsonl --chat-template template.jinja
differs "$(final tools)" "$(final template)" "weights with tools"
is "$(final tools-text)" "$(final tools)" "weights with tools as text"

# --- the loss ---
sed 's/}$/, "margin": 0}/' pairs.jsonl >none.jsonl
sed 's/}$/, "margin": 0.7}/' pairs.jsonl >margin.jsonl
succeeds run none --data none.jsonl
is "$(final none)" "$(final text)" "weights with margins of 0"
succeeds run margin --data margin.jsonl
differs "$(final margin)" "$(final text)" "weights with margins"
is "$(metric margin 1 margin)" "$(metric text 1 margin)" "the metric margin, which does not subtract the column"
succeeds run centred --data pairs.jsonl --center-rewards-coefficient 0.5
differs "$(final centred)" "$(final text)" "weights with centred scores"
succeeds run centred-0 --data pairs.jsonl --center-rewards-coefficient 0
is "$(final centred-0)" "$(final text)" "weights with centred scores of weight 0"
fails 2 'center_rewards_coefficient|center-rewards-coefficient' run no --data pairs.jsonl --center-rewards-coefficient -1
fails 2 'is no option|has no option|is not an option' run no --data pairs.jsonl --beta 0.1

# --- what becomes of the model ---
has text/final/config.json '"Qwen3ForSequenceClassification"'
has text/final/config.json '"LABEL_0"'
has text/final/config.json '"pad_token_id": 256'
echo '{"prompt_tokens": [1, 2, 3], "tokens": [4, 5]}' >rows.jsonl
echo '{"prompt_tokens": [1, 2, 3], "tokens": [9, 9, 9]}' >>rows.jsonl
succeeds score text/final
has out '"index": 1, "scores": \[-?[0-9.e-]+\]'
# A head begins as the seed says, and another with another seed.
succeeds run again --data pairs.jsonl
is "$(final again)" "$(final text)" "weights of the same run"
succeeds run other --data pairs.jsonl --seed 4 --data-limit 3
differs "$(metric other 1 mean_reward)" "$(metric text 1 mean_reward)" "scores of heads of other seeds"
# A classifier goes on: what it scores before its first step is what it scored after its last.
succeeds run more --model text/final --data pairs.jsonl --eval-data pairs.jsonl
is "$(metric more 0 eval_loss)" "$(metric text 4 eval_loss)" "held-out loss of a reward model that goes on"
# More labels are no reward.
sed -i 's/"LABEL_0"$/"LABEL_0", "1": "LABEL_1"/; s/"LABEL_0": 0/"LABEL_0": 0, "LABEL_1": 1/' text/final/config.json
has text/final/config.json '"1": "LABEL_1"'
fails 1 'classifier of 2 labels: a reward model has one' run no --model text/final --data pairs.jsonl
# What pads must not end a row: transformers would read the score before it.
cp -r m padded
sed -i 's/"pad_token_id": 256/"pad_token_id": 258/' padded/config.json padded/generation_config.json
has padded/generation_config.json '"pad_token_id": 258'
succeeds run padded --model padded --data pairs.jsonl
has err '14 sides end in token 258, which is the model.s padding too'
lacks padded/final/config.json 'pad_token_id'
is "$(final padded)" "$(final text)" "weights with another padding"
# A model that names none has its tokenizer's.
cp -r m unpadded
sed -i ':a; N; $!ba; s/,\n *"pad_token_id": 256//' unpadded/generation_config.json
sed -i '/"pad_token_id"/d' unpadded/config.json
lacks unpadded/generation_config.json 'pad_token_id'
succeeds run unpadded --model unpadded --data pairs.jsonl
has unpadded/final/config.json '"pad_token_id": 256'
# A reward model writes nothing.
fails 1 'sequence classifier' "$COHORT" generate --model chat/final --prompt x

# --- adapters: the head trains whole beside them ---
succeeds run lora --data pairs.jsonl --use-peft --lora-target-modules all-linear --eval-data pairs.jsonl
has lora/final/adapter_config.json '"SEQ_CLS"'
has lora/final/adapter_config.json '"score"'
is "$(metric lora 1 loss)" "$(metric text 1 loss)" "loss of a new adapter"
succeeds score m --adapter lora/final --dtype f32
cp out lora.scores
succeeds "$COHORT" merge --adapter lora/final --dtype f32 --out merged
succeeds score merged
is "$(sed 's/\([0-9]\.[0-9]\{4\}\)[0-9]*/\1/' out)" "$(sed 's/\([0-9]\.[0-9]\{4\}\)[0-9]*/\1/' lora.scores)" "scores of the merged model"
succeeds run lora-more --data pairs.jsonl --adapter lora/final --eval-data pairs.jsonl
is "$(metric lora-more 0 eval_loss)" "$(metric lora 4 eval_loss)" "held-out loss of an adapter that goes on"
# As PEFT writes it: with a name that models here have not.
sed -i 's/^    "score"/    "classifier", "score"/' lora/final/adapter_config.json
succeeds score m --adapter lora/final --dtype f32
is "$(cat out)" "$(cat lora.scores)" "scores of an adapter with PEFT's names"
succeeds "$COHORT" sft --model m --threads 1 --dtype f32 --data whole.jsonl --dataset-text-field chosen --use-peft --steps 1 --batch-size 1 --out sft
fails 2 'adapter of a language model' run no --data pairs.jsonl --adapter sft/final
fails 1 'lora-dropout' run no --data pairs.jsonl --use-peft --lora-dropout 0.1

# --- evaluation and the best model ---
succeeds run best --data pairs.jsonl --eval-data one.jsonl --eval-steps 1 --metric-for-best-model margin --load-best-model-at-end
has best/metrics.jsonl '"eval_margin": '
succeeds run best-accuracy --data pairs.jsonl --eval-data one.jsonl --eval-steps 1 --metric-for-best-model accuracy --early-stopping-patience 1
has err 'stopped after step'
done_testing

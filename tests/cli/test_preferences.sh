# dpo, kto, orpo and cpo from the command line: which rows they take and refuse, switches as equalities of trained weights, references that are
# computed ahead, adapters, evaluation and the best model.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
run() { # run COMMAND OUT OPTIONS
    local command=$1 out=$2
    shift 2
    "$COHORT" "$command" --model m --threads 1 --device cpu --dtype f32 --learning-rate 1e-3 --seed 3 --batch-size 3 --steps 4 --out "$out" "$@"
}
final() { sha256sum <"$1/final/model.safetensors"; }
metric() { sed -n "s/^{\"step\": $2,.*\"$3\": \\([^,}]*\\).*/\\1/p" "$1/metrics.jsonl"; }
for i in 1 2 3 4 5 6 7; do
    echo "{\"prompt\": \"what is $i + $i?\", \"chosen\": \" it is $((2 * i))\", \"rejected\": \" $i perhaps, who knows\"}"
done >pairs.jsonl
# The same without a prompt column: all begin with the prompt, and the space before the difference belongs to the completions.
sed 's/"prompt": "\([^"]*\)", "chosen": "\([^"]*\)", "rejected": "\([^"]*\)"/"chosen": "\1\2", "rejected": "\1\3"/' pairs.jsonl >implicit.jsonl
# Of messages: explicit, implicit, and with the prompt's text beside them, as in published sets.
sed 's/"prompt": "\([^"]*\)", "chosen": "\([^"]*\)", "rejected": "\([^"]*\)"/"prompt": [{"role": "user", "content": "\1"}], "chosen": [{"role": "assistant", "content": "\2"}], "rejected": [{"role": "assistant", "content": "\3"}]/' pairs.jsonl >chat.jsonl
sed 's/"prompt": \[\({[^}]*}\)\], "chosen": \[\({[^}]*}\)\], "rejected": \[\({[^}]*}\)\]/"chosen": [\1, \2], "rejected": [\1, \3]/' chat.jsonl >chat-implicit.jsonl
sed 's/^{"chosen": \[{"role": "user", "content": "\([^"]*\)"}/{"prompt": "\1", &/; s/, {"chosen"/, "chosen"/' chat-implicit.jsonl >chat-copy.jsonl
has chat-copy.jsonl '"prompt": "what is 1 \+ 1\?", "chosen": \[\{"role": "user"'

# --- rows of every form: the same rows are the same run ---
succeeds run dpo text --data pairs.jsonl
succeeds run dpo text-implicit --data implicit.jsonl
is "$(final text-implicit)" "$(final text)" "weights with an implicit prompt"
succeeds run dpo chat --data chat.jsonl
succeeds run dpo chat-implicit --data chat-implicit.jsonl
succeeds run dpo chat-copy --data chat-copy.jsonl
is "$(final chat-implicit)" "$(final chat)" "weights with an implicit prompt of messages"
is "$(final chat-copy)" "$(final chat)" "weights with the prompt beside messages that have it"
succeeds run dpo chat-option --data pairs.jsonl --chat
is "$(final chat-option)" "$(final chat)" "weights of text that goes through the template"
differs "$(final chat)" "$(final text)" "weights of text and of messages"
sed 's/"prompt"/"question"/; s/"chosen"/"good"/; s/"rejected"/"bad"/' pairs.jsonl >renamed.jsonl
succeeds run dpo renamed --data renamed.jsonl --columns prompt=question,chosen=good,rejected=bad
is "$(final renamed)" "$(final text)" "weights with columns of other names"
bad() { echo "$1" >bad.jsonl; fails 1 "bad.jsonl:1.*$2" run dpo no --data bad.jsonl; }
bad '{"prompt": "a", "chosen": "b"}' '"chosen" and "rejected"'
bad '{"prompt": "a", "chosen": "b", "rejected": [{"role": "assistant", "content": "c"}]}' 'both be text, or both lists'
bad '{"prompt": [{"role": "user", "content": "a"}], "chosen": "b", "rejected": "c"}' 'both be text, or both lists'
bad '{"chosen": "x y", "rejected": "z"}' 'prompt is empty'
bad '{"prompt": "a", "chosen": "b", "rejected": "c", "margin": "much"}' '"margin" is by how much'
bad '{"chosen": [{"role": "user", "content": "a"}], "rejected": [{"role": "user", "content": "b"}]}' 'begin with different messages'
bad '{"prompt": "a", "chosen": 7, "rejected": "c"}' 'both be text, or both lists'
fails 2 'no training rows given' run dpo no
# Cut at the end; what has no room for a completion is left out.
cat pairs.jsonl >long.jsonl
echo "{\"prompt\": \"$(printf 'x%.0s' {1..80})\", \"chosen\": \"a\", \"rejected\": \"b\"}" >>long.jsonl
succeeds run dpo cut --data long.jsonl --max-length 30
has err 'rows have a completion that is cut to --max-length 30 at its end; 1 of them are left out'
succeeds run dpo cut-alone --data pairs.jsonl --max-length 30
is "$(final cut-alone)" "$(final cut)" "weights without the row that has no room"

# --- losses and switches ---
is "$(metric text 1 loss)" 0.693147181 "loss of a policy that is its reference"
succeeds run dpo twice --data pairs.jsonl --loss-type sigmoid,sigmoid --loss-weights 0.5,0.5
is "$(final twice)" "$(final text)" "weights of half a loss twice"
succeeds run dpo rpo --data pairs.jsonl --loss-type sigmoid,sft --loss-weights 1,0.2
differs "$(final rpo)" "$(final text)" "weights with sft beside"
succeeds run dpo tail --data pairs.jsonl --ld-alpha 1
is "$(final tail)" "$(final text)" "weights with ld_alpha 1"
succeeds run dpo alpha --data pairs.jsonl --f-divergence-type alpha_divergence --f-alpha-divergence-coef 1
is "$(final alpha)" "$(final text)" "weights of the alpha divergence at 1"
succeeds run dpo free --data pairs.jsonl --reference-free
succeeds run cpo free-cpo --data pairs.jsonl --cpo-alpha 0
is "$(final free)" "$(final free-cpo)" "weights of dpo without a reference and of cpo without its second loss"
fails 2 'loss_weights has 1 numbers, and loss_type 2 losses' run dpo no --data pairs.jsonl --loss-type sigmoid,hinge --loss-weights 1
fails 2 'exo_pair takes the log of label_smoothing' run dpo no --data pairs.jsonl --loss-type exo_pair
fails 2 'robust divides by 1 - 2 label_smoothing' run dpo no --data pairs.jsonl --loss-type robust --label-smoothing 0.5
for loss in nca_pair bco_pair sppo_hard aot aot_unpaired apo_zero apo_down; do
    fails 2 "f_divergence_type .* than $loss" run dpo no --data pairs.jsonl --loss-type $loss --f-divergence-type forward_kl
done
fails 2 'use_weighting weighs pairs, and aot sorts' run dpo no --data pairs.jsonl --loss-type aot --use-weighting
fails 2 'label_smoothing is of the losses sigmoid and simpo' run cpo no --data pairs.jsonl --loss-type hinge --label-smoothing 0.1
fails 2 'alphapo .* give alpha' run cpo no --data pairs.jsonl --loss-type alphapo
fails 2 "sigmod" run dpo no --data pairs.jsonl --loss-type sigmod
succeeds run cpo simpo --data pairs.jsonl --loss-type simpo --cpo-alpha 0 --alpha 0.25
succeeds run cpo alphapo --data pairs.jsonl --loss-type alphapo --alpha 0.25
is "$(final alphapo)" "$(final simpo)" "weights of alphapo and of simpo with its settings"
succeeds run orpo orpo --data pairs.jsonl
has orpo/metrics.jsonl '"log_odds_ratio": -'

# --- the reference ---
succeeds run dpo ahead --data pairs.jsonl --precompute-ref-log-probs --eval-data pairs.jsonl
is "$(final ahead)" "$(final text)" "weights with the reference computed ahead"
test -f ahead/checkpoints/step-4/trainer/reference_scores.safetensors || wrong "no scores of the reference in a checkpoint"
head -n 5 pairs.jsonl >fewer.jsonl
fails 1 'no scores of the reference for .*fewer.jsonl' run dpo ahead --data pairs.jsonl --precompute-ref-log-probs --eval-data fewer.jsonl --steps 5 --resume --accept-changed eval_data
fails 2 'reference_free has no reference' run dpo no --data pairs.jsonl --precompute-ref-log-probs --reference-free
fails 2 'sync_ref_model changes the reference, and with reference_free' run dpo no --data pairs.jsonl --sync-ref-model --reference-free
fails 2 'sync_ref_model changes the reference, and precompute_ref_log_probs' run dpo no --data pairs.jsonl --sync-ref-model --precompute-ref-log-probs
# Mixed wholly after every step, the reference is the policy: the loss of every step is that of the first.
succeeds run dpo synced --data pairs.jsonl --sync-ref-model --ref-model-sync-steps 1 --ref-model-mixup-alpha 1
is "$(metric synced 3 loss)" 0.693147181 "loss beside a reference that is the policy"
# Beside an adapter the reference is the base, in memory once.
succeeds run dpo lora --data pairs.jsonl --use-peft --lora-target-modules all-linear --eval-data pairs.jsonl
is "$(metric lora 1 loss)" 0.693147181 "loss of a new adapter"
grep -q 'frozen reference' err && wrong "memory for the reference of an adapter"
succeeds run dpo lora-ahead --data pairs.jsonl --use-peft --lora-target-modules all-linear --precompute-ref-log-probs
is "$(sha256sum <lora-ahead/final/adapter_model.safetensors)" "$(sha256sum <lora/final/adapter_model.safetensors)" "adapter with the reference computed ahead"
# One that goes on from an adapter has that one as its reference.
succeeds run dpo lora-more --data pairs.jsonl --adapter lora/final --eval-data pairs.jsonl
is "$(metric lora-more 1 loss)" 0.693147181 "loss of an adapter that goes on"
# One that is named: the figures of a trained model beside the model as it was are those of the run's last evaluation.
succeeds run dpo named --data pairs.jsonl --ref-model ./m --eval-data pairs.jsonl
is "$(final named)" "$(final text)" "weights beside a reference that is named"
later() { # later RUN OPTIONS: the held-out figures of RUN's end, before a step of another run
    local run=$1
    shift
    rm -rf after
    succeeds run dpo after --data pairs.jsonl --eval-data pairs.jsonl --steps 1 --save-steps 0 "$@"
    is "$(metric after 0 eval_loss) $(metric after 0 'eval_rewards\/margins')" \
        "$(metric "$run" 4 eval_loss) $(metric "$run" 4 'eval_rewards\/margins')" "held-out figures of $run after its end"
}
later named --model named/final --ref-model m
differs "$(metric after 0 eval_loss)" 0.693147181 "a loss of what was trained"
later named --model named/final --ref-model m --precompute-ref-log-probs
later lora --adapter lora/final --ref-model m
later lora-more --adapter lora-more/final --ref-model lora/final
succeeds run dpo named --data pairs.jsonl --ref-model "$PWD/m" --eval-data pairs.jsonl --steps 5 --resume
fails 1 'reference: .* differs|reference: ' run dpo named --data pairs.jsonl --ref-model text/final --eval-data pairs.jsonl --steps 6 --resume
succeeds "$COHORT" init --preset tiny --tokenizer bytes --seed 1 --out larger
fails 1 'ref-model larger: its tensors are not those of the model' run dpo no --data pairs.jsonl --ref-model larger
fails 1 'lora/final: no config.json: it holds an adapter' run dpo no --data pairs.jsonl --ref-model lora/final
fails 1 'beside an adapter the reference is the base' run dpo no --data pairs.jsonl --ref-model text/final --use-peft
fails 1 'nowhere' run dpo no --data pairs.jsonl --ref-model nowhere
fails 2 'reference_free has no reference that ref_model could name' run dpo no --data pairs.jsonl --ref-model m --reference-free

# --- evaluation and the best model ---
succeeds run dpo best --data pairs.jsonl --eval-data fewer.jsonl --eval-steps 1 --metric-for-best-model rewards/margins --load-best-model-at-end
has best/metrics.jsonl '"eval_rewards/margins": '
has best/metrics.jsonl '"eval_logits/rejected": '
is "$(metric best 0 eval_loss)" 0.693147181 "held-out loss before the first step"

# --- kto ---
sed 's/"chosen": \("[^"]*"\), "rejected": \("[^"]*"\)/"completion": \1, "label": true/' pairs.jsonl >marked.jsonl
sed 's/"chosen": \("[^"]*"\), "rejected": \("[^"]*"\)/"completion": \2, "label": 0/' pairs.jsonl >>marked.jsonl
succeeds run kto kto --data marked.jsonl --eval-data marked.jsonl
has kto/metrics.jsonl '"kl": '
has kto/metrics.jsonl '"eval_rewards/margins": '
is "$(metric kto 1 loss)" 0.5 "loss of kto before the first update"
# Pairs are two rows each, in the order of the file.
paste -d '\n' <(head -n 7 marked.jsonl) <(tail -n 7 marked.jsonl) >turns.jsonl
succeeds run kto turns --data turns.jsonl
succeeds run kto unpaired --data pairs.jsonl
is "$(final unpaired)" "$(final turns)" "weights of pairs and of their sides"
succeeds run kto weighted --data marked.jsonl --undesirable-weight 0.5
differs "$(final weighted)" "$(final kto)" "weights with another weight of what is not wanted"
succeeds run kto apo --data marked.jsonl --loss-type apo_zero_unpaired --batch-size 1
# The reference computed ahead: where a batch is the whole set in its order, a prompt meets the same completion.
head -n 7 marked.jsonl >good.jsonl
whole=(--data good.jsonl --batch-size 7 --no-shuffle-dataset --eval-data good.jsonl)
succeeds run kto whole "${whole[@]}"
succeeds run kto whole-ahead "${whole[@]}" --precompute-ref-log-probs
is "$(final whole-ahead)" "$(final whole)" "weights of kto with the reference computed ahead"
is "$(metric whole-ahead 4 kl) $(metric whole-ahead 4 eval_kl)" "$(metric whole 4 kl) $(metric whole 4 eval_kl)" "KL of kto with the reference computed ahead"
has whole-ahead/metrics.jsonl '"step": 4,.*"kl": [0-9.]*[1-9].*"eval_kl": [0-9.]*[1-9]'
succeeds run kto apo-ahead --data marked.jsonl --loss-type apo_zero_unpaired --precompute-ref-log-probs
succeeds run kto apo-each --data marked.jsonl --loss-type apo_zero_unpaired
is "$(final apo-ahead)" "$(final apo-each)" "weights of apo_zero_unpaired with the reference computed ahead"
grep -q 'frozen reference' err || wrong "no memory for the reference"
succeeds run kto kto-ahead --data pairs.jsonl --precompute-ref-log-probs --eval-data pairs.jsonl
! grep -q 'frozen reference' err || wrong "memory for a reference that is computed ahead"
fails 2 'sync_ref_model changes the reference, and precompute_ref_log_probs' run kto no --data marked.jsonl --sync-ref-model --precompute-ref-log-probs
fails 2 'kto compares with completions of the batch.s other prompts' run kto no --data marked.jsonl --batch-size 1
echo '{"prompt": "a", "completion": "b", "label": "yes"}' >bad.jsonl
fails 1 'bad.jsonl:1: "label" says whether' run kto no --data bad.jsonl
echo '{"prompt": "a", "completion": "b"}' >bad.jsonl
fails 1 'bad.jsonl:1.*"prompt", "completion" and "label"' run kto no --data bad.jsonl
done_testing

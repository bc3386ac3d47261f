# cohort distill: a teacher is needed and must have the model's vocabulary; rewards are measured and not learned from; what is learned.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 2 --out t
for i in 1 2 3 4 5; do echo "{\"prompt\": \"is $i even?\"}"; done >d.jsonl
run() { # run OUT OPTIONS
    local out=$1
    shift
    "$COHORT" distill --model m --data d.jsonl --threads 1 --device cpu --dtype f32 --learning-rate 1e-3 --prompts-per-step 3 \
        --max-completion-length 12 --steps 4 --out "$out" "$@"
}
final() { sha256sum <"$1/final/model.safetensors"; }
metric() { tail -n 1 "$1/metrics.jsonl" | field "$2"; }

# --- the teacher ---
fails 2 'no teacher given: pass --teacher-model DIR' run no
fails 1 'absent' run no --teacher-model absent
mkdir other && cp t/* other && sed -i 's/"vocab_size": [0-9]*/"vocab_size": 300/' other/config.json
fails 2 'other/config.json: vocab_size is 300, and .* in m; distributions can be compared only over one vocabulary' run no --teacher-model other
cp -r t named && sed -i 's/"<think>"/"<thank>"/' named/tokenizer.json
fails 2 "named/tokenizer.json: token [0-9]* is '<thank>', and '<think>' in the model's vocabulary" run no --teacher-model named
cp -r t silent && rm silent/tokenizer.json
succeeds run silent-run --teacher-model silent --steps 1
has err 'note: silent has no tokenizer.json'
cp -r t short && sed -i 's/"max_position_embeddings": [0-9]*/"max_position_embeddings": 16/' short/config.json
fails 2 "short: the teacher's context is 16, and a prompt with its completion may take" run no --teacher-model short
fails 2 'beta' run no --teacher-model t --beta 1.1
fails 1 'GB are there' run no --teacher-model t --memory-limit 0.0001
fails 1 'beside a teacher of 0.00 GB; take shorter sequences, fewer of them a step, or a smaller teacher or model' run no --teacher-model t --memory-limit 0.003
test ! -e no || wrong "a refused run left its folder"

# --- a teacher that is the model itself has nothing to say ---
for beta in 0 1; do
    succeeds run same-$beta --teacher-model m --beta $beta --weight-decay 0
    is "$(metric same-$beta loss) $(metric same-$beta grad_norm)" "0 0" "loss and gradient with the model as teacher, beta $beta"
done
lacks same-1/metrics.jsonl reward
# --- another one is learned, by every divergence, in one batch or in slices ---
for beta in 0 0.5 1; do
    succeeds run far-$beta --teacher-model t --beta $beta --steps 12 --eval-data d.jsonl
    test "$(metric far-$beta eval_loss | cut -c1-8)" != "$(head -n 1 far-$beta/metrics.jsonl | field eval_loss | cut -c1-8)" || wrong "nothing was learned, beta $beta"
    awk -v a="$(metric far-$beta eval_loss)" -v b="$(head -n 1 far-$beta/metrics.jsonl | field eval_loss)" 'BEGIN { exit !(a < 0.8 * b) }' || wrong "eval_loss hardly falls, beta $beta"
    is "$(metric far-$beta sampling/sampling_logp_difference/max)" 0 "log-probs of training and of the draw"
done
has err 'teacher 0'
succeeds run slices --teacher-model t --beta 1 --steps 12 --eval-data d.jsonl --per-device-train-batch-size 1 --gradient-accumulation-steps 3
is "$(final slices)" "$(final far-1)" "weights of a batch and of three slices"
succeeds run micro --teacher-model t --beta 1 --steps 12 --eval-data d.jsonl --micro-batch-tokens 30
is "$(metric micro loss | cut -c1-6)" "$(metric far-1 loss | cut -c1-6)" "the loss in one pass and in several"
# --- rewards are measured ---
succeeds run measured --teacher-model t --beta 1 --steps 12 --eval-data d.jsonl --reward regex --reward-pattern '[aeiou]' --log-completions
is "$(final measured)" "$(final far-1)" "weights with and without rewards"
has measured/metrics.jsonl '"reward": '
has measured/metrics.jsonl '"eval_pass@1": '
has measured/completions.jsonl '"rewards": {"regex": '
lacks measured/completions.jsonl '"advantage"'
lacks measured/metrics.jsonl frac_reward_zero_std
fails 2 'pass-reward: there is no reward' run no --teacher-model t --eval-data d.jsonl --pass-reward regex
# --- several sets ---
succeeds run sets --teacher-model t --steps 1 --eval-data a=d.jsonl,b=d.jsonl
has sets/metrics.jsonl '"eval_a_loss": .*"eval_b_loss": .*"eval_loss": '
# --- a run goes on with its teacher alone, by its files and not by its name ---
succeeds run a --teacher-model t --steps 2
succeeds run whole --teacher-model t --steps 4
cp -r t moved
succeeds run a --teacher-model-name-or-path moved --steps 4 --resume
is "$(final a)" "$(final whole)" "weights of a run that went on"
cp -r a b
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 3 --out third
fails 1 'teacher' run b --teacher-model third --steps 5 --resume
has err 'accept-changed teacher'
succeeds run b --teacher-model third --steps 5 --resume --accept-changed teacher
fails 1 'checkpoint of cohort distill, this is cohort grpo' "$COHORT" grpo --model m --data d.jsonl --reward regex --reward-pattern a --dtype f32 --out other-run --resume a/checkpoints/step-4
done_testing

# Dynamic sampling (docs/GRPO.md): groups whose rewards do not differ are dropped and drawn again from further rows, in a
# way that depends on seed, step and rewards alone.
. "$(dirname "$0")/shell.sh"

succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
# Rows whose number is a multiple of 3 can teach; the others' pattern never matches.
for i in $(seq 0 23); do
    pattern='[a-m]'
    [ $((i % 3)) = 0 ] || pattern='x^'
    echo "{\"prompt\": \"question $i\", \"pattern\": \"$pattern\"}"
done >d.jsonl
GRPO=("$COHORT" grpo --model m --max-completion-length 6 --device cpu --learning-rate 1e-3 --prompts-per-step 3
    --num-generations 8 --save-steps 1 --no-shuffle-dataset --log-completions)
# train NAME ARGUMENTS...
train() { local name=$1; shift; rm -rf "$name"; succeeds "${GRPO[@]}" --out "$name" "$@"; }
value() { sed -n "s@^{\"step\": $2, .*\"$3\": \\([^,}]*\\)[,}].*@\\1@p" "$1/metrics.jsonl"; }
numbers() { sed -E 's/, "(time|throughput)\/[^"]*": [^,}]*//g; s/, "step_time": [^,}]*//g' "$1/metrics.jsonl"; }
rows() { sed -nE "s/^\{\"step\": $2, \"index\": ([0-9]+), \"completion_index\": 0,.*/\1/p" "$1/completions.jsonl" | tr '\n' ' '; }

# --- what is kept has a spread, and comes in the order of the data ---
DYNAMIC=(--data d.jsonl --reward regex --threads 1 --dynamic-sampling --dynamic-sampling-refills 30)
train dynamic "${DYNAMIC[@]}" --steps 3
is "$(rows dynamic 1)" '0 3 6 ' 'rows of the first batch'
is "$(value dynamic 1 frac_reward_zero_std)" 0 'no group without a spread'
is "$(value dynamic 1 dynamic_sampling/filled)" 0 'nothing was filled up'
is "$(value dynamic 1 dynamic_sampling/surplus)" 0 'without oversampling nothing is left over'
# Draws of 3, then of what is missing: 0 1 2, 3 4, 5, 6.
is "$(value dynamic 1 dynamic_sampling/prompts)" 7 'prompts of the first batch'
is "$(value dynamic 1 dynamic_sampling/refills)" 3 'refills of the first batch'
is "$(value dynamic 1 dynamic_sampling/dropped)" 4 'groups that were dropped'
is "$(rows dynamic 2)" '9 12 15 ' 'the second batch goes on where the first one stopped'
is "$(sed -E 's/.*"prompts_drawn": ([0-9]+).*/\1/' dynamic/checkpoints/step-1/trainer/draws.json)" 7 'cursor after the first step'
# --- ahead of need: 3 times as many prompts a draw ---
train ahead "${DYNAMIC[@]}" --steps 1 --dynamic-sampling-oversample 4
is "$(value ahead 1 dynamic_sampling/prompts)" 12 'prompts of a draw that is four times as large'
is "$(value ahead 1 dynamic_sampling/refills)" 0 'which needs no refill'
is "$(value ahead 1 dynamic_sampling/surplus)" 1 'and has a group over'
is "$(rows ahead 1)" '0 3 6 ' 'of the same rows'
# Drawn alike, whichever draw they came with: step 1 of both is the same update.
same dynamic/checkpoints/step-1/model.safetensors ahead/final/model.safetensors
# --- neither threads nor how many are decoded at once, nor when rewards come, change a batch ---
train other "${DYNAMIC[@]}" --steps 3 --threads 2 --decode-concurrency 3
is "$(numbers other)" "$(numbers dynamic)" 'metrics with other threads and concurrency'
same dynamic/final/model.safetensors other/final/model.safetensors
# The same rule as a program: at once and after a while.
cat >rule.sh <<'SH'
while IFS= read -r line; do
    case $line in *'"last_of_batch":true'*) sleep "${1:-0}" ;; esac
    case $line in
    *'"pattern":"x^"'*) echo 0 ;;
    *) completion=${line#*\"completion\":\"}; completion=${completion%%\",\"tokens\"*}
        case $completion in *[a-m]*) echo 1 ;; *) echo 0 ;; esac ;;
    esac
done
SH
train fast --data d.jsonl --reward 'exec:bash rule.sh 0' --threads 1 --dynamic-sampling --dynamic-sampling-refills 30 --steps 2
train slow --data d.jsonl --reward 'exec:bash rule.sh 0.1' --threads 1 --dynamic-sampling --dynamic-sampling-refills 30 --steps 2
is "$(numbers slow)" "$(numbers fast)" 'metrics with slow rewards'
same fast/final/model.safetensors slow/final/model.safetensors

differs "$(value fast 1 dynamic_sampling/refills)" 0 'refills by the rule of the program'

# --- where every group has a spread it changes nothing ---
cat >index.sh <<'SH'
while IFS= read -r line; do
    index=${line#*\"completion_index\":}
    echo "${index%%[,\}]*}"
done
SH
train plain --data d.jsonl --reward 'exec:bash index.sh' --threads 1 --steps 3
train spread --data d.jsonl --reward 'exec:bash index.sh' --threads 1 --steps 3 --dynamic-sampling
same plain/final/model.safetensors spread/final/model.safetensors
is "$(numbers spread | sed -E 's/, "dynamic_sampling\/[a-z]+": [0-9]+//g')" "$(numbers plain)" 'metrics where nothing is dropped'
same plain/completions.jsonl spread/completions.jsonl

# --- a bound, and what then becomes of a batch ---
sed 's/\[a-m\]/x^/' d.jsonl >never.jsonl
train never --data never.jsonl --reward regex --threads 1 --dynamic-sampling --dynamic-sampling-refills 2 --steps 1
has err 'generation batch 1 has 0 of 3 groups whose rewards differ, after 2 refills'
is "$(value never 1 dynamic_sampling/prompts)" 9 'prompts of three draws'
is "$(value never 1 dynamic_sampling/filled)" 3 'groups that fill it up'
is "$(value never 1 frac_reward_zero_std)" 1 'none of them teaches'
is "$(rows never 1)" '0 1 2 ' 'they are the first that were drawn'

# --- refused, and damaged ---
fails 2 'reinforce_plus_plus' "${GRPO[@]}" "${DYNAMIC[@]}" --advantage-estimator reinforce_plus_plus --steps 1 --out r
fails 2 'at most 65536 prompts' "${GRPO[@]}" "${DYNAMIC[@]}" --prompts-per-step 60000 --dynamic-sampling-oversample 3 --steps 1 --out r
for text in '' '{}' '{"format": 1, "prompts_drawn": 2}' '{"format": 1, "prompts_drawn": -1}' '{"format": 1, "prompts_drawn": 1e3}' \
    '{"format": 1, "prompts_drawn": 9223372036854775807}' '{"format": 2, "prompts_drawn": 7}'; do
    rm -rf r
    cp -r dynamic r
    rm r/checkpoints/*/SHA256SUMS
    echo "$text" >r/checkpoints/step-1/trainer/draws.json
    fails 1 'step-1/trainer/draws.json' "${GRPO[@]}" "${DYNAMIC[@]}" --steps 2 --out r --resume r/checkpoints/step-1
    lacks err 'runtime error'
done
done_testing

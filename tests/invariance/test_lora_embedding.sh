#!/usr/bin/env bash
# Adapters of the embedding, and of a head that is tied to it, through the program, on $DEVICE: what test_lora.sh asks of those
# of projections. Embedding and head of a tied model are two adapters of one tensor, and cohort merge parts the two.
. "$SOURCE/tests/support/exact.sh"
. "$SOURCE/tests/support/resume.sh"
make_model "$work/tied"
make_model "$work/untied" 3 false
make_data
cd "$work"

logprobs_of() { sed -E 's/.*"logprobs": \[([^]]*)\].*/\1/' "$1"; }
# near A B LARGEST: lists of log-probs, of 21 completions; how long they are depends on what was trained, so on the device.
near() {
    paste <(tr -d ' ' <"$1" | tr ',' '\n') <(tr -d ' ' <"$2" | tr ',' '\n') |
        awk -v most="$3" '{ d = $1 - $2; if (d < 0) d = -d; if (d > largest) largest = d }
            END { print NR " numbers, largest difference " largest; exit !(NR >= 21 && largest <= most) }'
}

for what in untied:embed_tokens,q_proj tied:embed_tokens,down_proj tied:lm_head tied:lm_head,embed_tokens tied:lm_head,embed_tokens:dora; do
    IFS=: read -r base targets kind <<<"$what"
    for dtype in bf16 f32; do
        name="$base-${targets//,/-}$kind-$dtype"
        lora=(--model "$base" --dtype "$dtype" --use-peft --lora-r 5 --lora-target-modules "$targets" ${kind:+--use-dora})
        sampling=(--dtype "$dtype" --batch grpo.jsonl --n 3 --max-completion-length 20 --temperature 1)
        arguments sft
        cohort "${args[@]}" "${lora[@]}" --learning-rate 0 --steps 1 --out "new-$name"
        cohort generate --model "$base" "${sampling[@]}" >base.jsonl
        for merged in "" --lora-merge; do
            cohort generate --model "new-$name/final" "${sampling[@]}" $merged >new.jsonl
            same base.jsonl new.jsonl "$name $merged, an adapter that is zero"
        done

        cohort "${args[@]}" "${lora[@]}" --learning-rate 0.01 --steps 12 --out "sft-$name"
        cohort generate --model "sft-$name/final" "${sampling[@]}" >drawn.jsonl
        cmp -s base.jsonl drawn.jsonl && fail "$name: training changed nothing"
        cohort logprobs --model "$base" --adapter "sft-$name/final" --dtype "$dtype" --batch drawn.jsonl >scored.jsonl
        same <(logprobs_of drawn.jsonl) <(logprobs_of scored.jsonl) "$name, log-probs of sampling and scoring"
        sed -n 4p drawn.jsonl >one.jsonl
        cohort logprobs --model "sft-$name/final" --dtype "$dtype" --batch one.jsonl --threads 1 >one-scored.jsonl
        same <(logprobs_of one.jsonl) <(logprobs_of one-scored.jsonl) "$name, a row alone"

        arguments grpo-kl
        args+=("${lora[@]}" --eval-steps 2 --save-steps 2 --learning-rate 1e-2)
        cohort "${args[@]}" --threads 1 --steps 4 --out "$name"
        ! grep -E '"sampling/sampling_logp_difference/(mean|max)": (0\.|[1-9])' "$name/metrics.jsonl" ||
            fail "$name: sampling and training differ"
        grep -q '"sampling/sampling_logp_difference/max": 0' "$name/metrics.jsonl" || fail "$name: no difference in the metrics"
        grep -m1 '"step": 1,' "$name/metrics.jsonl" | grep -q '"kl": 0,' || fail "$name: the first KL is not 0"
        grep '"step": 4,' "$name/metrics.jsonl" | grep -q '"kl": 0,' && fail "$name: the KL stays 0"
        cohort "${args[@]}" --threads 2 --steps 2 --out "$name-parts"
        cohort "${args[@]}" --threads 2 --recompute layer --steps 4 --out "$name-parts" --resume latest
        diff -r "$name/final" "$name-parts/final" >&2 || fail "$name: final/ differs"
        diff -r "$name/checkpoints" "$name-parts/checkpoints" >&2 || fail "$name: checkpoints differ"
        same <(numbers "$name") <(numbers "$name-parts") "$name, metrics"
    done

    # Written as a checkpoint: the same function, to the bit of what --lora-merge computes; of a tied base untied.
    name="$base-${targets//,/-}$kind-f32"
    cohort merge --model "$base" --adapter "sft-$name/final" --out "merged-$name"
    if [ "$base" = tied ]; then
        grep -q '"tie_word_embeddings": false' "merged-$name/config.json" || fail "$name: the merged model is tied"
    fi
    cohort logprobs --model "sft-$name/final" --dtype f32 --batch drawn.jsonl >beside.jsonl
    cohort logprobs --model "sft-$name/final" --lora-merge --dtype f32 --batch drawn.jsonl >memory.jsonl
    cohort logprobs --model "merged-$name" --dtype f32 --batch drawn.jsonl >file.jsonl
    near <(logprobs_of beside.jsonl) <(logprobs_of file.jsonl) 2e-4 || fail "$name merged is another model"
    same memory.jsonl file.jsonl "$name, merged in memory and in a file"
done

for optim in adamw_8bit muon adafactor; do
    arguments sft
    args+=(--dtype bf16 --model tied --use-peft --lora-r 4 --lora-target-modules "embed_tokens,lm_head,q_proj" --optim "$optim"
        --learning-rate 1e-2 --save-steps 1)
    cohort "${args[@]}" --steps 2 --out "by-$optim"
    cohort "${args[@]}" --steps 1 --out "by-$optim-parts"
    cohort "${args[@]}" --steps 2 --out "by-$optim-parts" --resume latest
    diff -r "by-$optim/checkpoints" "by-$optim-parts/checkpoints" >&2 || fail "$optim, resumed: checkpoints differ"
done

refused() { # refused PATTERN options of sft
    local pattern=$1
    shift
    ! "$COHORT" sft --data sft.jsonl --out never --steps 1 --device "$DEVICE" "$@" 2>refused || fail "sft $* was not refused"
    grep -qE "$pattern" refused || { cat refused >&2; fail "sft $*: no message with '$pattern'"; }
}
cp -r sft-tied-lm_head-f32/final ties
sed -i 's/"use_dora": false/"use_dora": false, "ensure_weight_tying": true/' ties/adapter_config.json
refused 'with ensure_weight_tying this model.s head' --model tied --adapter ties
echo ok

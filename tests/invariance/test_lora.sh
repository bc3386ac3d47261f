#!/usr/bin/env bash
# LoRA through the program, on $DEVICE: a new adapter changes no bit of what its base computes; what is sampled with one is
# scored with the same bits, alone and in any batch; log-probs are those of the model that it is merged into; a run that
# stopped and went on is the run that did not (I6), with the base or an adapter as the reference.
. "$SOURCE/tests/support/exact.sh"
. "$SOURCE/tests/support/resume.sh"
make_model "$work/model"
make_data
cd "$work"
rank=(--lora-r 8 --lora-target-modules all-linear)

# logprobs_of FILE: the lists of log-probs alone, a line each.
logprobs_of() { sed -E 's/.*"logprobs": \[([^]]*)\].*/\1/' "$1"; }
# near A B LARGEST: numbers of two files, differing by no more, and by something.
near() {
    paste <(tr -d ' ' <"$1" | tr ',' '\n') <(tr -d ' ' <"$2" | tr ',' '\n') |
        awk -v most="$3" '{ d = $1 - $2; if (d < 0) d = -d; if (d > largest) largest = d }
            END { print NR " numbers, largest difference " largest; exit !(NR > 50 && largest <= most) }'
}

make_model "$work/untied" 3 false
saved=(--lora-modules-to-save "lm_head,embed_tokens,model.norm,0.mlp,1.self_attn")
for adapter in lora dora saved; do
    # What trains: A and B, with magnitudes, with tensors in place of the base's.
    base=model
    [ $adapter = dora ] && rank+=(--use-dora)
    [ $adapter = saved ] && rank+=("${saved[@]}") && base=untied
    for dtype in bf16 f32; do
        arguments sft
        what=$adapter-$dtype
        cohort "${args[@]}" --model $base --dtype $dtype --use-peft "${rank[@]}" --learning-rate 0 --steps 1 --out "new-$what"
        cohort "${args[@]}" --model $base --dtype $dtype --use-peft "${rank[@]}" --learning-rate 0.02 --steps 20 --out "sft-$what"
        cohort "${args[@]}" --model $base --dtype $dtype --use-peft "${rank[@]}" --learning-rate 0.005 --steps 2 --out "start-$what"
        cohort generate --model $base --dtype $dtype --batch grpo.jsonl --n 3 --max-completion-length 20 --temperature 1 >base.jsonl
        cohort generate --model $base --adapter "new-$what/final" --dtype $dtype --batch grpo.jsonl --n 3 --max-completion-length 20 \
            --temperature 1 >new.jsonl
        same base.jsonl new.jsonl "$what, an adapter that is zero"

        # Trained; the base is found by what adapter_config.json says. Other batches, and rows alone.
        cohort generate --model "sft-$what/final" --dtype $dtype --batch grpo.jsonl --n 3 --max-completion-length 20 \
            --temperature 1 >drawn.jsonl
        cmp -s base.jsonl drawn.jsonl && fail "$what: training changed nothing"
        cohort logprobs --model $base --adapter-path "sft-$what/final" --dtype $dtype --batch drawn.jsonl >scored.jsonl
        same <(logprobs_of drawn.jsonl) <(logprobs_of scored.jsonl) "$what, log-probs of sampling and scoring"
        sed -n 4p drawn.jsonl >one.jsonl
        cohort logprobs --model "sft-$what/final" --dtype $dtype --batch one.jsonl --threads 1 >one-scored.jsonl
        same <(logprobs_of one.jsonl) <(logprobs_of one-scored.jsonl) "$what, a row alone"
    done

    # What cohort merge makes of it, whose weights are PEFT's to the bit, is the same function.
    cohort merge --model $base --adapter "sft-$adapter-f32/final" --out "merged-$adapter"
    cohort logprobs --model "sft-$adapter-f32/final" --dtype f32 --batch drawn.jsonl >beside.jsonl
    cohort logprobs --model "merged-$adapter" --dtype f32 --batch drawn.jsonl >in.jsonl
    near <(logprobs_of beside.jsonl) <(logprobs_of in.jsonl) 2e-4 || fail "$adapter merged is another model"
    cohort logprobs --model $base --dtype f32 --batch drawn.jsonl >without.jsonl
    near <(logprobs_of beside.jsonl) <(logprobs_of without.jsonl) 2e-4 && fail "$adapter has no effect"
done
rank=(--lora-r 8 --lora-target-modules all-linear)

# With merged weights: the bits of the model that cohort merge writes, in the type of the base; and a new adapter's are the
# base's. A rank that is no multiple of a vector, and parts of q, k, v alone.
for dtype in bf16 f32; do
    cohort init --config "$work/shape.json" --tokenizer bytes --seed 3 --dtype $dtype --out "stored-$dtype"
    for kind in "" --use-dora; do
        arguments sft
        cohort "${args[@]}" --model "stored-$dtype" --dtype $dtype --use-peft --lora-r 5 --lora-target-modules q_proj,v_proj,down_proj $kind \
            --lora-merge --learning-rate 0.02 --steps 12 --out "merge-$dtype$kind"
        cohort merge --model "stored-$dtype" --adapter "merge-$dtype$kind/final" --out "written-$dtype$kind"
        sampling=(--dtype "$dtype" --batch grpo.jsonl --n 2 --max-completion-length 20 --temperature 1)
        cohort generate --model "written-$dtype$kind" "${sampling[@]}" >written.jsonl
        cohort generate --model "merge-$dtype$kind/final" --lora-merge "${sampling[@]}" >merged.jsonl
        same written.jsonl merged.jsonl "$dtype $kind: merged weights in memory and in a file"
        cohort generate --model "stored-$dtype" "${sampling[@]}" >base.jsonl
        cmp -s base.jsonl merged.jsonl && fail "$dtype $kind, merged: training changed nothing"
        cohort "${args[@]}" --model "stored-$dtype" --dtype $dtype --use-peft "${rank[@]}" $kind --lora-merge --learning-rate 0 --steps 1 \
            --out "zero-$dtype$kind"
        cohort generate --model "zero-$dtype$kind/final" --lora-merge "${sampling[@]}" >zero.jsonl
        same base.jsonl zero.jsonl "$dtype $kind: merged weights of an adapter that is zero"
    done
done

# Each trainer, and each kind of adapter with a reference; what is left out in one type is in the other.
for dtype in bf16 f32; do
    kinds=(sft dropped-sft grpo grpo-kl grpo-kl-from dora-grpo-kl-from saved-grpo-kl merged-grpo-kl-from)
    [ $dtype = bf16 ] || kinds=(sft dropped-sft dropped-sft-packed grpo-kl-from dora-sft dora-grpo saved-grpo-kl-from merged-sft)
    for kind in "${kinds[@]}"; do
        what="lora-$kind-$dtype"
        plain=${kind#dora-}
        plain=${plain#saved-}
        plain=${plain#merged-}
        plain=${plain#dropped-}
        arguments "${plain%-from}"
        part=2
        case $kind in
        dropped-*) args+=(--use-peft "${rank[@]}" --lora-dropout 0.3) ;;
        merged-*-from) args+=(--adapter "start-dora-$dtype/final" --lora-merge) ;;
        merged-*) args+=(--use-peft "${rank[@]}" --lora-merge) ;;
        # Its tensors learn fast to say "i", which is to be worth nothing, so that rewards differ within groups.
        saved-*-from) args=("${args[@]/\[a-m]/[a-h]}" --model untied --adapter "start-saved-$dtype/final") ;;
        saved-*) args+=(--model untied --use-peft "${rank[@]}" "${saved[@]}") ;;
        dora-*-from) args+=(--adapter "start-dora-$dtype/final") ;;
        *-from) args+=(--adapter "start-lora-$dtype/final") ;;
        dora-*) args+=(--use-peft "${rank[@]}" --use-dora) ;;
        *) args+=(--use-peft "${rank[@]}") ;;
        esac
        args+=(--dtype "$dtype" --eval-steps "$part" --save-steps "$part" --learning-rate 1e-2)
        cohort "${args[@]}" --threads 1 --steps 4 --out "$what"
        [ -f "$what/final/adapter_model.safetensors" ] || fail "$what: no adapter in final/"
        if [ "${plain%%-*}" != sft ]; then
            ! grep -E '"sampling/sampling_logp_difference/(mean|max)": (0\.|[1-9])' "$what/metrics.jsonl" ||
                fail "$what: sampling and training differ"
            grep -q '"sampling/sampling_logp_difference/max": 0' "$what/metrics.jsonl" || fail "$what: no difference in the metrics"
        fi
        case $plain in
        grpo-kl*) # the reference is what the run began with
            grep -m1 '"step": 1,' "$what/metrics.jsonl" | grep -q '"kl": 0,' || fail "$what: the first KL is not 0"
            grep '"step": 4,' "$what/metrics.jsonl" | grep -q '"kl": 0,' && fail "$what: the KL stays 0"
            ;;
        esac
        cohort "${args[@]}" --threads 2 --steps $part --out "$what-parts"
        cohort "${args[@]}" --threads 2 --recompute layer --steps 4 --out "$what-parts" --resume latest
        diff -r "$what/final" "$what-parts/final" >&2 || fail "$what: final/ differs"
        diff -r "$what/checkpoints" "$what-parts/checkpoints" >&2 || fail "$what: checkpoints differ"
        same <(numbers "$what") <(numbers "$what-parts") "$what, metrics"
    done
done

# Dropout acts in training alone, on each step anew, and how a step is cut changes no mask: the losses of the first step are
# the same numbers in micro-batches of any size.
loss_of() { grep -m1 '"step": 1,' "$1/metrics.jsonl" | grep -o '"loss": [^,]*'; }
for tokens in 64 4096; do
    arguments sft
    cohort "${args[@]}" --dtype f32 --adapter start-lora-f32/final --steps 1 --micro-batch-tokens $tokens --out "kept-$tokens"
    sed -i 's/"lora_dropout": [0-9.]*/"lora_dropout": 0.3/' start-lora-f32/final/adapter_config.json
    cohort "${args[@]}" --dtype f32 --adapter start-lora-f32/final --steps 1 --micro-batch-tokens $tokens --out "dropped-$tokens"
    grep -qE '"lora_dropout": 0.(3|29999)' "dropped-$tokens/final/adapter_config.json" || fail "the adapter forgot its dropout"
    cohort logprobs --model model --adapter start-lora-f32/final --dtype f32 --batch drawn.jsonl >dropout.jsonl
    sed -i 's/"lora_dropout": [0-9.]*/"lora_dropout": 0.0/' start-lora-f32/final/adapter_config.json
    cohort logprobs --model model --adapter start-lora-f32/final --dtype f32 --batch drawn.jsonl >none.jsonl
    same dropout.jsonl none.jsonl "an adapter with dropout, scoring"
done
[ "$(loss_of kept-64)" = "$(loss_of kept-4096)" ] && [ "$(loss_of dropped-64)" = "$(loss_of dropped-4096)" ] ||
    fail "losses of the first step depend on the micro-batch: $(loss_of dropped-64) $(loss_of dropped-4096)"
[ "$(loss_of kept-64)" != "$(loss_of dropped-64)" ] || fail "dropout has no effect"

# Every optimizer trains A and B, and goes on where it stopped.
for optim in adamw_8bit muon sgd adafactor lion_32bit; do
    arguments sft
    args+=(--dtype bf16 --model untied --use-peft "${rank[@]}" --use-dora
        --lora-modules-to-save 'norm,lm_head' --optim "$optim" --ema-decay 0.9 --learning-rate 1e-2 --save-steps 1)
    cohort "${args[@]}" --steps 2 --out "by-$optim"
    cohort "${args[@]}" --steps 1 --out "by-$optim-parts"
    cohort "${args[@]}" --steps 2 --out "by-$optim-parts" --resume latest
    for folder in final final-ema checkpoints; do
        diff -r "by-$optim/$folder" "by-$optim-parts/$folder" >&2 || fail "$optim, resumed: $folder/ differs"
    done
    cmp -s "by-$optim/final/adapter_model.safetensors" new-dora-bf16/final/adapter_model.safetensors && fail "$optim trains nothing"
    cmp -s "by-$optim/final/adapter_model.safetensors" "by-$optim/final-ema/adapter_model.safetensors" && fail "$optim: no mean"
done

# A base that is not the one the run began with is not gone on with.
make_model "$work/other" 4
if "$COHORT" sft --data sft.jsonl --resume latest --out lora-sft-f32 --model other --steps 6 --device "$DEVICE" 2>refused; then
    fail "a run went on with another base"
fi
grep -q "model" refused || { cat refused >&2; fail "no word of the base"; }

# What cannot be is refused before anything is read, with what to do.
refused() { # refused PATTERN options of sft
    local pattern=$1
    shift
    ! "$COHORT" sft --data sft.jsonl --out never --steps 1 --device "$DEVICE" "$@" 2>refused || fail "sft $* was not refused"
    grep -qE "$pattern" refused || { cat refused >&2; fail "sft $*: no message with '$pattern'"; }
    [ ! -e never ] || fail "sft $* left a folder"
}
refused 'lora_dropout 0.05 does not go with DoRA' --model model --use-peft --lora-dropout 0.05 --use-dora
refused 'lora_dropout 0.05 does not go with merged weights' --model model --use-peft --lora-dropout 0.05 --lora-merge
refused 'lora_dropout 0.05 does not go with an adapter of the head' --model untied --use-peft --lora-dropout 0.05 \
    --lora-target-modules q_proj,lm_head
arguments grpo
if "$COHORT" "${args[@]}" --use-peft --lora-dropout 0.05 --steps 1 --out never --device "$DEVICE" 2>refused; then
    fail "grpo took dropout"
fi
grep -q 'lora-dropout 0.05: .*leave it at 0' refused || fail "$(cat refused)"
refused "named by target_modules 'nothing'" --model model --use-peft --lora-target-modules nothing
refused 'makes a new adapter.*leave one of them out' --model model --use-peft --adapter start-lora-f32/final
refused 'is an adapter, and --adapter names another' --model start-lora-f32/final --adapter start-lora-bf16/final
refused 'expected the folder that adapter_config.json is in' --model model --adapter sft.jsonl
refused 'lora-merge: there is no adapter to merge' --model model --lora-merge
cp -r start-lora-f32/final moved
sed -i 's/"base_model_name_or_path": "model"/"base_model_name_or_path": "Qwen\/Qwen3-0.6B"/' moved/adapter_config.json
refused "'Qwen/Qwen3-0.6B'.*no folder here.*pass --model BASE --adapter moved" --model moved
sed -i 's/"base_model_name_or_path": "[^"]*"/"base_model_name_or_path": "..\/model"/' moved/adapter_config.json # beside the adapter
cohort logprobs --model moved --dtype f32 --batch drawn.jsonl >there.jsonl
cohort logprobs --model model --adapter start-lora-f32/final --dtype f32 --batch drawn.jsonl >here.jsonl
same there.jsonl here.jsonl "a base named from the adapter's folder"

# What info and bench say of a model with its adapter.
[ "$DEVICE" = cpu ] || { echo ok; exit; }
cohort info --model untied --adapter start-saved-f32/final >info
grep -qE '^adapter           DoRA of rank 8 on [0-9]+ projections, [0-9.]+ M parameters, [0-9]+ tensors in place' info || fail "$(cat info)"
cohort info --model start-lora-f32/final --memory --lora-merge >info
grep -q '^adapter           LoRA of rank 8 on 14 projections' info || fail "$(cat info)"
cohort info --preset qwen3-0.6b --use-peft --memory >beside
cohort info --preset qwen3-0.6b --use-peft --memory --lora-merge >merged
weights() { awk '/weights \(with/ { print $5 }' "$1"; }
awk -v a="$(weights beside)" -v b="$(weights merged)" 'BEGIN { exit !(b > a && a > 0) }' || fail "merged weights are not in the plan"
cohort bench --model start-lora-f32/final --lora-merge --quick --kind prefill --format jsonl >rows
grep -q '"kind": "prefill"' rows || fail "bench: $(cat rows)"
echo "ok"

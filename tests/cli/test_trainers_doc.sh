# The programs that docs/TRAINERS.md shows run as they stand there.
. "$(dirname "$0")/shell.sh"

mkdir bin
printf '#!/bin/sh\nexec "%s" "$@"\n' "$COHORT" >bin/cohort
chmod +x bin/cohort
PATH=$PWD/bin:$PATH
awk '/^```sh$/ { on = 1; n++; next } /^```$/ { on = 0 } on { print > "block" n ".sh" }' "$SOURCE/docs/TRAINERS.md"
blocks=0
for block in block[0-9]*.sh; do
    succeeds bash -eu "$block"
    blocks=$((blocks + 1))
done
test $blocks -ge 2 || wrong "$blocks programs were found"
for run in dpo kto orpo simpo reward rloo distill; do
    test -f runs/$run/final/model.safetensors || wrong "no final model of runs/$run"
    has runs/$run/metrics.jsonl '"step": 2, '
done
test -f runs/dpo-lora/final/adapter_model.safetensors || wrong "no adapter of runs/dpo-lora"
test -f runs/reward-lora/final/adapter_model.safetensors || wrong "no adapter of runs/reward-lora"
is "$(sed -n 's/^{"step": 10,.*"eval_accuracy": \([^,}]*\).*/\1/p' runs/reward/metrics.jsonl)" 1 "accuracy after ten steps of a reward model"
test -f runs/distill-lora/final/adapter_model.safetensors || wrong "no adapter of runs/distill-lora"
# The divergence to the teacher on held-out prompts falls.
sed -n 's/.*"eval_loss": \([^,}]*\).*/\1/p' runs/distill/metrics.jsonl | sort -c -g -r || wrong "eval_loss of runs/distill rises"
# What a model learns here in ten steps is to say what was chosen.
is "$(sed -n 's/^{"step": 10,.*"eval_rewards\/accuracies": \([^,}]*\).*/\1/p' runs/dpo/metrics.jsonl)" 1 "accuracy after ten steps of dpo"
done_testing

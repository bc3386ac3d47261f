# Each single allocation and each single call on files fails once, in every command; of what trains, which makes most of them, every
# 7th allocation, and of the trainers that share their steps with others every 7th of both.
# shellcheck source=../support/sweep.sh
. "$SOURCE/tests/support/sweep.sh"
prepare
readers=(tokenize generate logprobs eval choices perplexity data score scorer chat watch list show compare completions sql serve)
writers=(init merge report plot fork export parquet tensorboard)
for command in help info verify table "${readers[@]}" "${writers[@]}"; do
    sweep alloc 1 1 $command
done
for command in sft dpo reward grpo trainer; do
    sweep alloc 7 1 $command
    sweep file 1 1 $command
    FAIL_ERRNO=28 sweep file 1 1 $command
done
for command in kto orpo cpo rloo distill; do
    sweep alloc 49 1 $command
    sweep file 7 1 $command
    FAIL_ERRNO=28 sweep file 7 2 $command
done
for command in verify "${readers[@]}" "${writers[@]}"; do
    sweep file 1 1 $command
done
for command in "${writers[@]}"; do
    FAIL_ERRNO=28 sweep file 1 1 $command
done

# Each single allocation and each single call on files fails once, in every command; of what trains, which makes most of them, every
# 7th allocation.
# shellcheck source=../support/sweep.sh
. "$SOURCE/tests/support/sweep.sh"
prepare
for command in help info verify init tokenize generate logprobs eval data score scorer; do
    sweep alloc 1 1 $command
done
for command in sft dpo reward grpo trainer; do
    sweep alloc 7 1 $command
done
for command in verify tokenize generate logprobs eval data score scorer init sft dpo reward grpo trainer; do
    sweep file 1 1 $command
    FAIL_ERRNO=28 sweep file 1 1 $command
done

# Every 97th allocation of each command fails once, from a first one that moves with the day; tests/slow has all of them.
# shellcheck source=../support/sweep.sh
. "$SOURCE/tests/support/sweep.sh"
prepare
first=$(($(date +%j | sed 's/^0*//') % 97 + 1))
for command in help info init tokenize generate logprobs eval table data score scorer sft dpo reward grpo trainer; do
    sweep alloc 97 $first $command
done
# What reads more, or is read: fewer of them.
first=$(($(date +%j | sed 's/^0*//') % 397 + 1))
for command in choices perplexity chat merge report plot fork watch list show compare completions export parquet tensorboard sql serve; do
    sweep alloc 397 $first $command
done
# Files are verified first, so that the first ones are enough.
sweep alloc 1 1 verify 60

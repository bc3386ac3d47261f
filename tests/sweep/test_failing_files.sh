# Every 23rd call on files of each command fails once, with EIO; tests/slow has all of them.
# shellcheck source=../support/sweep.sh
. "$SOURCE/tests/support/sweep.sh"
prepare
first=$(($(date +%j | sed 's/^0*//') % 23 + 1))
for command in tokenize generate logprobs eval choices perplexity data score scorer chat merge report plot fork watch list show compare completions export parquet \
    tensorboard sql serve init sft dpo reward grpo trainer; do
    sweep file 23 $first $command
done

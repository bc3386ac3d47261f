# A data set of 2 GB takes less than 1 GB: sft and grpo read every row before they start, and keep 16 bytes of each (data_index.h,
# dataset_order.h, the lengths). The figures are printed; DATA_MB is another size.
. "$(dirname "$0")/../cli/shell.sh"

DATA_MB=${DATA_MB:-2048}
succeeds "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out m
# 1 MB of rows of about 500 bytes, again and again.
for ((i = 0; i < 2048; i++)); do
    printf '{"prompt": "question %06d: %0220d", "completion": "%0210d", "answer": "%d"}\n' $i $i $i $i
done | head -c 1048576 | sed '$d' >block.jsonl
for ((i = 0; i < DATA_MB; i++)); do cat block.jsonl; done >big.jsonl
rows=$(($(wc -l <block.jsonl) * DATA_MB))

# peak COMMAND...: its highest resident memory in MB; the high-water mark only rises, so that the last look at it counts.
peak()
{
    local kb=0 now
    "$@" >out 2>err &
    while now=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' /proc/$!/status 2>/dev/null); [ -n "$now" ]; do
        kb=$now
        sleep 0.05
    done
    wait $! || wrong "exit code $? of: $* -- $(tail -c 400 err)"
    echo $((kb / 1024))
}
check()
{
    local mb
    mb=$(peak "$@")
    CHECKS=$((CHECKS + 1))
    echo "$(du -m big.jsonl | cut -f1) MB, $rows rows: $mb MB at most for $2"
    [ "$mb" -lt 1024 ] && [ "$mb" -gt 5 ] || wrong "$mb MB, expected less than 1024"
}
check "$COHORT" sft --model m --data big.jsonl --steps 2 --batch-size 2 --max-length 512 --threads 1 --device cpu --out s
check "$COHORT" grpo --model m --data big.jsonl --steps 2 --prompts-per-step 2 --num-generations 2 --max-completion-length 4 --threads 1 \
    --device cpu --reward format --out g
done_testing

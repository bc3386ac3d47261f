# docs/GSM8K.md as it stands there, in small: its shell blocks one after the other, with its gsm8k.yaml, on a tiny model with random
# weights and rows of the form of GSM8K. Flags behind those of the page make every command short; nothing is downloaded.
. "$(dirname "$0")/shell.sh"

page=$SOURCE/docs/GSM8K.md
block() { awk -v kind="$1" '$0 == "```" kind { on = 1; next } /^```/ { on = 0 } on' "$page"; }
hf() # download ID ... --local-dir DIR
{
    local id=$2 dir=${*: -1} split i
    mkdir -p "$dir/main"
    case $id in
        Qwen/*) rmdir "$dir/main" "$dir" && "$COHORT" init --preset nano --tokenizer bytes --seed 1 --out "$dir" ;;
        openai/gsm8k)
            for split in train test; do
                for i in 1 2 3 4 5 6; do
                    echo "{\"question\": \"Ann has $i clips and finds $i. How many has she?\", \"answer\": \"$i + $i = <<$i+$i=$((2 * i))>>$((2 * i))\\n#### $((2 * i))\"}"
                done >"$dir/main/$split-00000-of-00001.jsonl"
            done ;;
        *) false ;;
    esac
}
cohort()
{
    local command=$1
    case $command in
        eval) set -- "$@" --eval-limit 4 --max-completion-length 8 ;;
        grpo) set -- "$@" --steps 2 --prompts-per-step 2 --eval-limit 2 --max-completion-length 8 ;;
        generate) set -- "$@" --max-completion-length 8 ;;
        score | data | info) ;;
        *) echo "$command: not of this page" && return 1 ;;
    esac
    "$COHORT" "$@"
}
block yaml >gsm8k.yaml
# The answer to everything is 4, so that some completions are right.
echo "logit_bias: ['52:1000', '54:1000', '258:1000']" >>gsm8k.yaml
{ echo 'set -eu'; block sh; } >page.sh
is "$(grep -c '^cohort' page.sh)" 9 "commands of the page"
export -f hf cohort
export COHORT
succeeds bash page.sh
is "$(wc -l <reference.jsonl)" 6 "solutions of the set"
lacks reference.jsonl '"accuracy": 0'
is "$(grep -c completion_index before.jsonl)" 16 "completions before"
has before.jsonl '"eval_gsm8k_pass@1/stderr"'
has runs/gsm8k/metrics.jsonl '"eval_gsm8k_reward"'
has difference '^[+-][0-9.]+ \+- [0-9.]+$'
is "$(wc -l <runs/gsm8k/completions.jsonl)" 32 "completions of two steps"
done_testing

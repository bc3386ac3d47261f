#!/bin/sh
# Writes the example's task: products of two numbers of two digits. usage: make_products.sh SEED DIR
#
#   warmup.jsonl   conversations for cohort sft: one in three asks the calculator, the others guess, as somebody does who does not know better
#   train.jsonl    questions with their answers, for cohort grpo
#   heldout.jsonl  questions that nothing is trained on
#
# No question occurs twice. The draws are Park and Miller's generator, as in examples/demo/make_task.sh.
set -eu
[ $# -eq 2 ] || { echo "usage: $0 SEED DIR" >&2; exit 2; }
: "${WARMUP:=4000}" "${TRAIN:=2000}" "${HELDOUT:=200}"
mkdir -p "$2"
awk -v seed="$1" -v dir="$2" -v n_warmup="$WARMUP" -v n_train="$TRAIN" -v n_heldout="$HELDOUT" '
function draw(n) { state = (16807 * state) % 2147483647; return int(state / 2147483647 * n) }
function question() {
    do { a = 10 + draw(90); b = 10 + draw(90) } while ((a, b) in seen)
    seen[a, b] = 1
}
function asked() { return sprintf("{\"role\": \"user\", \"content\": \"%d*%d\"}", a, b) }
function ask(file, count,    i) {
    for (i = 0; i < count; i++) {
        question()
        printf "{\"messages\": [%s], \"answer\": \"%d\"}\n", asked(), a * b > (dir "/" file)
    }
    close(dir "/" file)
}
BEGIN {
    state = (seed * 7919 + 12345) % 2147483646 + 1
    tools = "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"calculate\"}}]"
    for (i = 0; i < 10; i++) draw(2)
    ask("heldout.jsonl", n_heldout)
    ask("train.jsonl", n_train)
    for (i = 0; i < n_warmup; i++) {
        question()
        if (i % 3 == 0)
            printf "{\"messages\": [%s, {\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{\"type\": \"function\", \"function\": {\"name\": \"calculate\", \"arguments\": {\"expression\": \"%d*%d\"}}}]}, {\"role\": \"tool\", \"name\": \"calculate\", \"content\": \"%d\"}, {\"role\": \"assistant\", \"content\": \"%d\"}], %s}\n", asked(), a, b, a * b, a * b, tools > (dir "/warmup.jsonl")
        else
            printf "{\"messages\": [%s, {\"role\": \"assistant\", \"content\": \"%d\"}], %s}\n", asked(), 100 + draw(9700), tools > (dir "/warmup.jsonl")
    }
}'

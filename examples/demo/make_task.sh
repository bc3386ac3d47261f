#!/bin/sh
# Writes the demo's task: sort the letters of a word. usage: make_task.sh SEED DIR
#
#   {"prompt": "sort hbdca = ", "completion": "abcdh"}   warmup.jsonl   (demonstrations, for cohort sft)
#   {"prompt": "sort fgeab = ", "answer": "abefg"}       train.jsonl    (questions, for cohort grpo)
#   {"prompt": "sort jiceb = ", "answer": "bceij"}       heldout.jsonl  (questions that nothing is trained on)
#
# No word occurs twice, in one file or in two. The draws are Park and Miller's generator (16807 x mod 2^31 - 1, exact in awk's doubles), so
# every awk writes the same bytes; rand() would not.
set -eu
[ $# -eq 2 ] || { echo "usage: $0 SEED DIR" >&2; exit 2; }
: "${LETTERS:=6}" "${ALPHABET:=12}" "${WARMUP:=4000}" "${TRAIN:=4000}" "${HELDOUT:=500}"
mkdir -p "$2"
awk -v seed="$1" -v dir="$2" -v n_letters="$LETTERS" -v alphabet="$ALPHABET" -v n_warmup="$WARMUP" -v n_train="$TRAIN" -v n_heldout="$HELDOUT" '
function draw(n) { state = (16807 * state) % 2147483647; return int(state / 2147483647 * n) }
function word(    i, j, c, w) {
    w = ""
    for (i = 0; i < n_letters; i++)
        w = w substr("abcdefghijklmnopqrstuvwxyz", draw(alphabet) + 1, 1)
    return w
}
function fresh(    w) { do w = word(); while (w in seen); seen[w] = 1; return w }
function sorted(w,    i, j, s) {
    s = ""
    for (i = 1; i <= alphabet; i++)
        for (j = 1; j <= n_letters; j++)
            if (substr(w, j, 1) == substr("abcdefghijklmnopqrstuvwxyz", i, 1))
                s = s substr(w, j, 1)
    return s
}
function write(file, key, count,    i, w) {
    for (i = 0; i < count; i++) {
        w = fresh()
        printf "{\"prompt\": \"sort %s = \", \"%s\": \"%s\"}\n", w, key, sorted(w) > (dir "/" file)
    }
    close(dir "/" file)
}
BEGIN {
    state = (seed * 7919 + 12345) % 2147483646 + 1
    for (i = 0; i < 10; i++) draw(2)
    write("heldout.jsonl", "answer", n_heldout)
    write("train.jsonl", "answer", n_train)
    write("warmup.jsonl", "completion", n_warmup)
}'

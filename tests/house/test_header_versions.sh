#!/bin/bash
# Programs that were built with an older or a newer cohort.h run with this library: the same source against headers whose structs
# have lost fields at their end, or gained some.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$COHORT" init --preset nano --tokenizer bytes --seed 3 --out "$work/nano" > "$work/init.log" 2>&1

cat > "$work/program.c" << 'END'
#include <cohort.h>
#include <stdio.h>
#include <string.h>

#ifndef SET_NEW
#define SET_NEW(x)
#endif

static void on_message(void *context, const char *text)
{
    (void)text;
    ++*(int *)context;
}

/* Prints what the library made of it. */
int main(int argc, char **argv)
{
    struct {
        cohort_error err;
        char guard[8];
    } e;
    struct {
        cohort_request request;
        char guard[8];
    } r;
    struct {
        cohort_completion completion;
        char guard[8];
    } c;
    cohort_options *options = NULL;
    cohort_model *model = NULL;
    cohort_observer observer;
    int32_t ids[] = {104, 101};
    int64_t id = 0;
    int messages = 0;
    bool busy = true, found = false;
    (void)argc;
    memset(&e, '!', sizeof e);
    memset(&r, '!', sizeof r);
    memset(&c, '!', sizeof c);
    cohort_error_init(&e.err);
    cohort_request_init(&r.request);
    cohort_completion_init(&c.completion);
    cohort_observer_init(&observer);
    observer.context = &messages;
    observer.message = on_message;
    if (cohort_options_create(&options, COHORT_GENERATE, &e.err) || cohort_options_set(options, "model", argv[1], NULL, &e.err) ||
        cohort_options_set(options, "device", "cpu", NULL, &e.err) || cohort_model_open(&model, options, 64, &e.err))
        return 1;
    r.request.prompt = ids;
    r.request.n_prompt = 2;
    r.request.max_tokens = 6;
    SET_NEW(r.request);
    if (cohort_submit(model, &r.request, &id, &e.err)) {
        printf("refused: %s\n", e.err.message);
        return 0;
    }
    while (busy)
        if (cohort_step(model, &busy, &e.err))
            return 1;
    if (cohort_poll(model, &c.completion, &found, &e.err) || !found || c.completion.size != sizeof c.completion)
        return 1;
    for (size_t i = 0; i < c.completion.n_tokens; i++)
        printf("%d %a\n", (int)c.completion.tokens[i], (double)c.completion.logprobs[i]);
    cohort_completion_free(&c.completion);
    cohort_model_close(model);
    cohort_options_destroy(options);
    if (cohort_options_create(&options, COHORT_INFO, &e.err) || cohort_options_set(options, "preset", "nano", NULL, &e.err) ||
        cohort_run(options, &observer, &e.err))
        return 1;
    if (cohort_options_set(options, "no_such_option_with_a_name_that_is_long", "1", NULL, &e.err) != COHORT_ERR_ARGUMENT || e.err.message[0] == 0)
        return 1;
    cohort_options_destroy(options);
    if (memcmp(e.guard, "!!!!!!!!", 8) || memcmp(r.guard, "!!!!!!!!", 8) || memcmp(c.guard, "!!!!!!!!", 8))
        return 2;
    return 0;
}
END

header=$SOURCE/include/cohort.h
mkdir "$work/same" "$work/older" "$work/newer"
cp "$header" "$work/same/cohort.h"
sed -E '/^    const char \*const \*stop;|^    size_t n_stop;|^    bool \(\*progress\)\(void/d; s/message\[1200\]/message[40]/' "$header" > "$work/older/cohort.h"
sed -E 's/^\} cohort_(request|completion|observer|error);/    int64_t added;\n&/' "$header" > "$work/newer/cohort.h"
test "$(diff "$header" "$work/older/cohort.h" | grep -c '^<')" -eq 4
test "$(diff "$header" "$work/newer/cohort.h" | grep -c '^> .*added')" -eq 4

build_and_run() { # build_and_run HEADER NAME [FLAG]
    ${CC:-cc} -std=c99 -Wall -Wextra -Werror -I"$work/$1" ${3:+"$3"} "$work/program.c" -o "$work/$2.program" -L"$BUILD" -lcohort \
        -Wl,-rpath,"$BUILD"
    "$work/$2.program" "$work/nano" > "$work/$2.out" || { echo "$2: exit status $?"; cat "$work/$2.out"; exit 1; }
}
build_and_run same same
build_and_run older older
build_and_run newer newer
build_and_run newer newer_set "-DSET_NEW(x)=(x).added=1"
test "$(wc -l < "$work/same.out")" -ge 1
cmp "$work/same.out" "$work/older.out"
cmp "$work/same.out" "$work/newer.out"
grep -q '^refused: cohort_submit: the cohort_request has .* does not have' "$work/newer_set.out" || { cat "$work/newer_set.out"; exit 1; }

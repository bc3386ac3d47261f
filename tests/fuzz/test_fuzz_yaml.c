/* YAML put together from its own pieces: keys of the option table, scalars of every spelling, flow and block
 * collections, anchors, tags, comments, documents. An input's bytes choose the pieces. What is accepted can be written
 * and read back with the same values; what is refused names the file and a line. */
#include "support/fuzz.h"
#include "support/json_mutate.h"

#include "base/file.h"
#include "run/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int file = -1;
static char path[64];

static void require(bool holds, const char *property)
{
    if (holds)
        return;
    fprintf(stderr, "broken: %s\n", property);
    abort();
}

static const char *scalar(struct genome *g)
{
    static const char *const scalars[] = {"1",
                                          "0",
                                          "-1",
                                          "+5",
                                          "007",
                                          "0x10",
                                          "0o7",
                                          "0b1",
                                          "1_000",
                                          "1:30",
                                          "1e-6",
                                          "1.5",
                                          ".5",
                                          "5.",
                                          "1e3",
                                          "1.e+3",
                                          ".inf",
                                          "-.INF",
                                          ".nan",
                                          "~",
                                          "null",
                                          "Null",
                                          "",
                                          "true",
                                          "False",
                                          "YES",
                                          "off",
                                          "'1'",
                                          "\"1e-6\"",
                                          "\"a\\nb\"",
                                          "'it''s'",
                                          "plain text",
                                          "a: b",
                                          "a #b",
                                          "#c",
                                          "- x",
                                          "group",
                                          "dapo",
                                          "linear",
                                          "auto",
                                          "accuracy",
                                          "accuracy,regex",
                                          "exec:python3 r.py",
                                          "!!str 1",
                                          "!!float 1",
                                          "!!int \"3\"",
                                          "!x y",
                                          "&a 1",
                                          "*a",
                                          "|\n  block\n  text",
                                          ">-\n  folded\n  text",
                                          "\xc3\xa9",
                                          "\xef\xbb\xbf",
                                          "[1, 2]",
                                          "[a, 'b, c']",
                                          "[]",
                                          "{}",
                                          "{a: 1}",
                                          "[[1]]",
                                          "? a",
                                          "%x",
                                          "@a",
                                          "`a`",
                                          "9999999999999999999999",
                                          "1e999",
                                          "2026-11-28"};
    return scalars[genome_below(g, sizeof scalars / sizeof *scalars)];
}

static const char *key(struct genome *g)
{
    static const char *const keys[] = {"steps",
                                       "learning_rate",
                                       "reward",
                                       "reward_weights",
                                       "loss_type",
                                       "beta",
                                       "temperature",
                                       "stop",
                                       "seed",
                                       "out",
                                       "data",
                                       "model",
                                       "shuffle_dataset",
                                       "num_generations",
                                       "max_completion_length",
                                       "eval_steps",
                                       "logit_bias",
                                       "lr_scheduler_type",
                                       "lr_scheduler_kwargs",
                                       "max_steps",
                                       "config",
                                       "unknown",
                                       "top_p",
                                       "epsilon_high",
                                       "<<",
                                       "\"beta\"",
                                       "resume",
                                       "log_completions",
                                       "threads"};
    return keys[genome_below(g, sizeof keys / sizeof *keys)];
}

static void put(struct text *out, const char *text)
{
    require(text_append(out, text, strlen(text), NULL) == COHORT_OK, "memory");
}

static void build(struct genome *g, struct text *out)
{
    static const char *const openings[] = {"",  "---\n", "# comment\n", "%YAML 1.1\n---\n", "\xef\xbb\xbf",
                                           "{", "- a\n", "\t"};
    static const char *const ends[] = {"\n", "\r\n", "  # why\n", "\n\n", "\n---\n", "\n...\n", ", ", " \n"};
    put(out, openings[genome_below(g, 4) == 0 ? genome_below(g, sizeof openings / sizeof *openings) : 0]);
    for (int lines = 0; lines < 12 && g->at < g->size; lines++) {
        put(out, genome_below(g, 12) == 0 ? "  " : "");
        put(out, key(g));
        put(out, genome_below(g, 12) == 0 ? ":" : ": ");
        if (genome_below(g, 5) == 0) {
            for (size_t items = genome_below(g, 4); items > 0; items--) {
                put(out, genome_below(g, 3) == 0 ? "\n- " : "\n  - ");
                put(out, scalar(g));
            }
        } else {
            put(out, scalar(g));
        }
        put(out, ends[genome_below(g, 3) == 0 ? genome_below(g, sizeof ends / sizeof *ends) : 0]);
    }
}

static void write_file(const struct text *text)
{
    require(ftruncate(file, 0) == 0, "truncate");
    require(text->length == 0 || pwrite(file, text->data, text->length, 0) == (ssize_t)text->length, "write");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct genome genome = {.bytes = data, .size = size};
    struct text yaml = {0}, written = {0}, again = {0};
    struct options *options = NULL, *second = NULL;
    cohort_error err = {0};
    if (file < 0) {
        file = memfd_create("input", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    build(&genome, &yaml);
    write_file(&yaml);
    require(options_create(&options, FOR_GRPO, NULL) == COHORT_OK, "options");
    if (options_read_yaml(options, path, &err) != COHORT_OK) {
        require(strncmp(err.message, path, strlen(path)) == 0, "a message that names the file");
    } else {
        require(options_write_yaml(options, &written, NULL) == COHORT_OK, "write");
        write_file(&written);
        require(options_create(&second, FOR_GRPO, NULL) == COHORT_OK, "options");
        if (options_read_yaml(second, path, &err) != COHORT_OK) {
            fprintf(stderr, "%s\n%s", err.message, written.data);
            require(false, "what is written can be read");
        }
        require(options_write_yaml(second, &again, NULL) == COHORT_OK, "write again");
        require(written.length == again.length && memcmp(written.data, again.data, written.length) == 0,
                "the same values come back");
    }
    options_destroy(options);
    options_destroy(second);
    text_free(&yaml);
    text_free(&written);
    text_free(&again);
    return 0;
}

#ifndef COHORT_LIBFUZZER
int main(int argc, char **argv)
{
    static const struct fuzz_seed seeds[] = {{"\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1", 16},
                                             {"\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20\21\22\23\24", 20},
                                             {"\1", 1}};
    static const struct fuzz_target target = {.name = "yaml",
                                              .one = LLVMFuzzerTestOneInput,
                                              .seeds = seeds,
                                              .n_seeds = sizeof seeds / sizeof *seeds,
                                              .max_size = 96};
    return fuzz_run(&target, argc, argv);
}
#endif

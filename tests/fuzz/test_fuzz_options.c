/* Mutated YAML and JSONL, and mutated answers: no crash, no leak (under the sanitizers), an error
 * that names the file and a line within it, and what is accepted can be written and read back.
 * Deterministic: the mutations come from the counter-based generator. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/rng.h"
#include "recipe/run_inputs.h"
#include "reward/reward.h"
#include "run/dataset.h"
#include "run/options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_BYTES = 2048, FILES = 1500, ANSWERS = 20000 };

/* A file in memory: thousands of real ones would be mostly waiting. */
static int file = -1;
static char path[64];

static int open_file(void **state)
{
    (void)state;
    file = memfd_create("input", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    return file >= 0 ? 0 : -1;
}

static int close_file(void **state)
{
    (void)state;
    return close(file);
}

static void write_input(const char *bytes, size_t length)
{
    assert_int_equal(ftruncate(file, 0), 0);
    assert_int_equal(pwrite(file, bytes, length, 0), length);
}

struct input {
    char bytes[MAX_BYTES + 1];
    size_t length;
};

/* One to four edits of seed: change, insert, delete, repeat a piece, or put in a piece with a
 * meaning. */
static void mutate(struct input *input, const char *seed, uint64_t stream, uint64_t round)
{
    static const char *const pieces[] = {
        "\n",    "\n\n", ": ", "\xef\xbb\xbf", "\"",    "'",    "[",         "]",    "{",         "}",
        "&a ",   "*a",   "!!", "---\n",        "...\n", "\xff", "\t",        "null", "\\",        ",",
        "1e999", "-",    "#",  "|\n",          ">\n",   "? ",   "%YAML 9\n", "\r",   "beta: 0\n", "\xc2\x85"};
    input->length = strlen(seed);
    memcpy(input->bytes, seed, input->length);
    struct rng_block first = rng_philox(1, RNG_TEST, stream, round * 8);
    for (uint32_t edit = 0; edit < 1 + first.word[0] % 4; edit++) {
        struct rng_block r = rng_philox(1, RNG_TEST, stream, round * 8 + 1 + edit);
        size_t at = input->length > 0 ? r.word[0] % input->length : 0;
        size_t left = input->length - at;
        size_t n = 1 + r.word[1] % 12;
        const char *piece = NULL;
        char one = (char)(r.word[2] >> 8);
        switch (r.word[2] % 5) {
        case 0:
            if (left > 0)
                input->bytes[at] = one;
            continue;
        case 1: /* delete */
            n = n > left ? left : n;
            memmove(input->bytes + at, input->bytes + at + n, left - n);
            input->length -= n;
            continue;
        case 2:
            piece = pieces[r.word[3] % (sizeof pieces / sizeof pieces[0])];
            n = strlen(piece);
            break;
        case 3:
            piece = &one;
            n = 1;
            break;
        default: /* repeat what is here */
            n = n > left ? left : n;
            piece = NULL;
            break;
        }
        if (input->length + n > MAX_BYTES)
            continue;
        memmove(input->bytes + at + n, input->bytes + at, left);
        if (piece != NULL)
            memcpy(input->bytes + at, piece, n);
        input->length += n;
    }
    input->bytes[input->length] = '\0';
}

/* "PATH:line:column: " with a line that the file has (or one past its end). */
static void check_place(const struct input *input, const cohort_error *err)
{
    size_t n = strlen(path), lines = 2;
    long line = 0;
    if (strncmp(err->message, path, n) != 0 || strlen(err->message) < n + 4)
        fail_msg("no place: %s", err->message);
    for (size_t i = 0; i < input->length; i++)
        lines += input->bytes[i] == '\n' || input->bytes[i] == '\r' || (unsigned char)input->bytes[i] == 0x85 ||
                 (unsigned char)input->bytes[i] == 0xa8 || (unsigned char)input->bytes[i] == 0xa9;
    if (sscanf(err->message + n, ":%ld:", &line) == 1 && (line < 1 || (size_t)line > lines))
        fail_msg("line %ld of %zu: %s", line, lines, err->message);
}

static void test_yaml(void **state)
{
    (void)state;
    static const char seed[] = "# run\nmodel: runs/base\nreward: [accuracy, \"exec:a b\"]\nbeta: 0.04\n"
                               "learning_rate: 1e-6\nstop:\n  - \"\\n\"\n  - ','\nthinking: false\n"
                               "out: 'runs/x'\nloss_type: dapo\nepsilon_high: null\nseed: 7\n";
    struct input *input = malloc(sizeof *input);
    assert_non_null(input);
    int accepted = 0, refused = 0;
    for (uint64_t round = 0; round < FILES; round++) {
        struct options *options = NULL;
        cohort_error err = {0};
        mutate(input, seed, 1, round);
        write_input(input->bytes, input->length);
        assert_int_equal(options_create(&options, FOR_GRPO, NULL), COHORT_OK);
        cohort_status status = options_read_yaml(options, path, &err);
        if (status == COHORT_OK) {
            struct options *again = NULL;
            struct text first = {0}, second = {0};
            accepted++;
            assert_int_equal(options_write_yaml(options, &first, NULL), COHORT_OK);
            write_input(first.data, first.length);
            assert_int_equal(options_create(&again, FOR_GRPO, NULL), COHORT_OK);
            if (options_read_yaml(again, path, &err) != COHORT_OK)
                fail_msg("%s in\n%s", err.message, first.data);
            assert_int_equal(options_write_yaml(again, &second, NULL), COHORT_OK);
            assert_string_equal(first.data, second.data);
            options_destroy(again);
            text_free(&first);
            text_free(&second);
        } else {
            refused++;
            assert_int_equal(status, COHORT_ERR_FORMAT);
            assert_int_equal(err.status, COHORT_ERR_FORMAT);
            check_place(input, &err);
        }
        options_destroy(options);
    }
    printf("YAML: %d accepted, %d refused\n", accepted, refused);
    assert_true(accepted > 20 && refused > 20); /* the mutations reach both sides */
    free(input);
}

static void test_jsonl(void **state)
{
    (void)state;
    static const char seed[] = "{\"prompt\": \"a\\u00e9b\", \"answer\": 42}\r\n\n{\"messages\": [{\"role\": \"user\", "
                               "\"content\": \"\xc3\xa9\"}], \"x\": -1.5e3}\n{\"text\": null, \"t\": [true, {}]}";
    struct input *input = malloc(sizeof *input);
    assert_non_null(input);
    int accepted = 0, refused = 0;
    for (uint64_t round = 0; round < FILES; round++) {
        struct dataset dataset;
        cohort_error err = {0};
        mutate(input, seed, 2, round);
        write_input(input->bytes, input->length);
        cohort_status status = dataset_open(&dataset, &(struct dataset_request){.spec = path}, &err);
        const size_t n_rows = status == COHORT_OK ? dataset.n_rows : 0;
        for (size_t i = 0; status == COHORT_OK && i < n_rows; i++) {
            json_t *row = NULL;
            status = dataset_row(&dataset, i, &row, &err);
            assert_true(status != COHORT_OK || json_is_object(row));
            json_decref(row);
        }
        if (status == COHORT_OK) {
            accepted++;
            assert_true(n_rows > 0);
        } else {
            refused++;
            assert_int_equal(status, COHORT_ERR_FORMAT);
            check_place(input, &err);
        }
        if (n_rows > 0)
            dataset_free(&dataset);
    }
    printf("JSONL: %d accepted, %d refused\n", accepted, refused);
    assert_true(accepted > 20 && refused > 20);
    free(input);
}

/* What a checkpoint says its run read: taken and written again as it was, or refused with the file's name; and the
 * words of any command. */
static void test_inputs(void **state)
{
    (void)state;
    static const char seed[] =
        "{\"format\": 1, \"data\": [{\"path\": \"d\\u00e9\", \"sha256\": "
        "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}], \"reward\": [], "
        "\"schedule\": {\"lr_scheduler_type\": \"linear\", \"steps\": 9}, \"accepted\": "
        "[{\"after_step\": 3, \"kind\": \"data\", \"what\": \"x\"}]}";
    static const char command[] = "sh -c 'python3 \"a b\" x=/etc/hostname' <in \\q";
    struct input *input = malloc(sizeof *input);
    assert_non_null(input);
    int accepted = 0, refused = 0;
    for (uint64_t round = 0; round < FILES; round++) {
        struct run_inputs inputs = {0}, again = {0};
        struct text first = {0}, second = {0};
        cohort_error err = {0};
        mutate(input, seed, 2, round);
        write_input(input->bytes, input->length);
        if (run_inputs_read(&inputs, path, &err) == COHORT_OK) {
            accepted++;
            assert_int_equal(run_inputs_write(&inputs, &first, &err), COHORT_OK);
            write_input(first.data, first.length);
            if (run_inputs_read(&again, path, &err) != COHORT_OK)
                fail_msg("%s: %s", err.message, first.data);
            assert_int_equal(run_inputs_write(&again, &second, &err), COHORT_OK);
            assert_string_equal(first.data, second.data);
            run_inputs_free(&again);
        } else {
            refused++;
            assert_int_equal(err.status, COHORT_ERR_FORMAT);
            assert_non_null(strstr(err.message, path));
        }
        run_inputs_free(&inputs);
        text_free(&first);
        text_free(&second);
        mutate(input, command, 2, round);
        assert_int_equal(run_inputs_add_command(&inputs, INPUT_REWARD, input->bytes, &err), COHORT_OK);
        run_inputs_free(&inputs);
    }
    printf("inputs.json: %d accepted, %d refused\n", accepted, refused);
    assert_true(accepted > 20 && refused > 20);
    free(input);
}

/* Any completion against any answer: 0, 1 or null, the same both ways where both are taken whole.
 */
static void test_answers(void **state)
{
    (void)state;
    static const char *const seeds[] = {"\\boxed{\\frac{3}{4}}",  "the answer is: $1,234.50$.",       "#### -5 cm\n",
                                        "x = 1.5 \\times 10^{3}", "<think>a</think>\\text{5}^\\circ", "3/4%"};
    struct reward *reward = NULL;
    assert_int_equal(reward_create(&reward, "accuracy", NULL, NULL), COHORT_OK);
    struct input *input = malloc(sizeof *input);
    assert_non_null(input);
    int right = 0, wrong = 0;
    for (uint64_t round = 0; round < ANSWERS; round++) {
        double value = -1;
        cohort_error err = {0};
        mutate(input, seeds[round % 6], 3, round);
        json_t *data = json_pack("{s:s}", "answer", seeds[round % 6]);
        struct reward_row row = {.data = data,
                                 .prompt = "",
                                 .completion = input->bytes,
                                 .completion_length = input->length,
                                 .finish_reason = "eos"};
        if (reward_score(reward, &row, 1, &value, &err) != COHORT_OK)
            fail_msg("%s", err.message);
        assert_true(value == 0 || value == 1);
        right += value == 1;
        wrong += value == 0;
        json_decref(data);
    }
    printf("answers: %d right, %d wrong\n", right, wrong);
    assert_true(right > 20 && wrong > 20);
    free(input);
    reward_destroy(reward);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_yaml),
        cmocka_unit_test(test_jsonl),
        cmocka_unit_test(test_inputs),
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, open_file, close_file);
}

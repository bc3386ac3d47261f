#include "support/fuzz.h"

#include "base/file.h"
#include "base/rng.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Mutating draws: 32 bits at a time from block (seed, n). */
struct dice {
    uint64_t seed, stream, counter;
    struct rng_block block;
    int used;
};

static uint32_t dice_word(struct dice *dice)
{
    if (dice->used == 4) {
        dice->block = rng_philox(dice->seed, RNG_TEST, dice->stream, dice->counter++);
        dice->used = 0;
    }
    return dice->block.word[dice->used++];
}

/* Uniform enough in [0, limit); limit > 0. */
static size_t dice_below(struct dice *dice, size_t limit) { return (size_t)dice_word(dice) % limit; }

struct input {
    uint8_t *bytes; /* of max bytes */
    size_t size, max;
};

static void input_set(struct input *input, const struct fuzz_seed *seed)
{
    input->size = seed->size < input->max ? seed->size : input->max;
    if (input->size > 0)
        memcpy(input->bytes, seed->data, input->size);
}

/* Replaces removed bytes at position by the bytes given, as far as there is room. */
static void input_splice(struct input *input, size_t at, size_t removed, const void *bytes, size_t length)
{
    size_t tail = input->size - at - removed;
    if (length > input->max - at)
        length = input->max - at;
    if (tail > input->max - at - length)
        tail = input->max - at - length;
    memmove(input->bytes + at + length, input->bytes + at + removed, tail);
    if (length > 0)
        memcpy(input->bytes + at, bytes, length);
    input->size = at + length + tail;
}

static const char *const numbers[] = {"0",
                                      "-1",
                                      "1",
                                      "7",
                                      "255",
                                      "65536",
                                      "2147483647",
                                      "2147483648",
                                      "4294967296",
                                      "4611686018427387904",
                                      "9223372036854775807",
                                      "9223372036854775808",
                                      "-9223372036854775808",
                                      "1e400",
                                      "1e-400",
                                      "0.5",
                                      "null",
                                      "true",
                                      "[]",
                                      "{}",
                                      "\"\""};

/* Replaces a run of digits by another number. */
static void mutate_number(struct input *input, struct dice *dice)
{
    size_t start = dice_below(dice, input->size);
    size_t at = start;
    while (at < input->size && (input->bytes[at] < '0' || input->bytes[at] > '9'))
        at++;
    size_t end = at;
    while (end < input->size && input->bytes[end] >= '0' && input->bytes[end] <= '9')
        end++;
    const char *number = numbers[dice_below(dice, sizeof numbers / sizeof *numbers)];
    input_splice(input, at, end - at, number, strlen(number));
}

static void mutate_once(struct input *input, const struct fuzz_target *target, struct dice *dice)
{
    static const uint64_t integers[] = {0,          1,          8,          0x7f,       0x80,      0xff,      0xffff,
                                        0x7fffffff, 0x80000000, 0xffffffff, 1ull << 62, INT64_MAX, UINT64_MAX};
    size_t kind = dice_below(dice, 10);
    if (input->size == 0)
        kind = 8;
    size_t at = input->size > 0 ? dice_below(dice, input->size) : 0;
    size_t left = input->size - at;
    uint8_t chunk[64];
    switch (kind) {
    case 0: input->bytes[at] ^= (uint8_t)(1u << dice_below(dice, 8)); break;
    case 1: input->bytes[at] = (uint8_t)dice_word(dice); break;
    case 2: /* delete */ input_splice(input, at, dice_below(dice, left < 32 ? left : 32) + 1, "", 0); break;
    case 3: /* random bytes */
        for (size_t i = 0; i < sizeof chunk; i++)
            chunk[i] = (uint8_t)dice_word(dice);
        input_splice(input, at, 0, chunk, dice_below(dice, sizeof chunk) + 1);
        break;
    case 4: /* repeat a part elsewhere */
        left = left < sizeof chunk ? left : sizeof chunk;
        left = dice_below(dice, left) + 1;
        memcpy(chunk, input->bytes + at, left);
        input_splice(input, dice_below(dice, input->size), 0, chunk, left);
        break;
    case 5: { /* little-endian integer */
        uint64_t value = integers[dice_below(dice, sizeof integers / sizeof *integers)];
        size_t width = (size_t)1 << dice_below(dice, 4);
        if (width <= left)
            memcpy(input->bytes + at, &value, width);
        break;
    }
    case 6: mutate_number(input, dice); break;
    case 7: /* truncate, not too often to nothing */ input->size = at + left / 2; break;
    case 8: { /* the tail of another seed */
        const struct fuzz_seed *other = &target->seeds[dice_below(dice, target->n_seeds)];
        size_t from = other->size > 0 ? dice_below(dice, other->size) : 0;
        input_splice(input, at, dice_word(dice) & 1 ? left : 0, (const uint8_t *)other->data + from,
                     other->size - from);
        break;
    }
    default:
        if (target->n_words > 0) {
            const char *word = target->words[dice_below(dice, target->n_words)];
            size_t length = strlen(word);
            size_t over = dice_word(dice) & 1 ? length : 0;
            input_splice(input, at, over < left ? over : left, word, length);
        }
    }
}

/* The current input lies in a mapped file, so that it is still there when the process is killed. */
struct journal {
    char path[160];
    int fd;
    uint8_t *bytes;
};

static void journal_put(const struct journal *journal, const struct input *input)
{
    if (ftruncate(journal->fd, (off_t)input->size) == 0 && input->size > 0)
        memcpy(journal->bytes, input->bytes, input->size);
}

static int run_files(const struct fuzz_target *target, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct text text = {0};
        cohort_error err = {0};
        if (file_read(argv[i], 0, &text, &err) != COHORT_OK) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        target->one((const uint8_t *)text.data, text.length);
        text_free(&text);
        printf("%s: passed\n", argv[i]);
    }
    return 0;
}

/* Of the processor, so that a busy machine tries as many inputs as an idle one. */
static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int fuzz_run(const struct fuzz_target *target, int argc, char **argv)
{
    double seconds = target->seconds > 0 ? target->seconds : 2.0;
    uint64_t seed = 1;
    int used = 1;
    for (; used + 1 < argc && strncmp(argv[used], "--", 2) == 0; used += 2) {
        if (strcmp(argv[used], "--seconds") == 0) {
            seconds = strtod(argv[used + 1], NULL);
        } else if (strcmp(argv[used], "--seed") == 0) {
            seed = strtoull(argv[used + 1], NULL, 10);
        } else {
            fprintf(stderr, "unknown argument %s; known are --seconds and --seed\n", argv[used]);
            return 2;
        }
    }
    if (used < argc)
        return run_files(target, argc - used + 1, argv + used - 1);

    struct input input = {.max = target->max_size != 0 ? target->max_size : 4096};
    for (size_t i = 0; i < target->n_seeds; i++) {
        const struct fuzz_seed *s = &target->seeds[i];
        if (target->accepted != NULL && !target->accepted(s->data, s->size)) {
            fprintf(stderr, "seed %zu is refused\n", i);
            return 1;
        }
        if (s->size > input.max)
            input.max = s->size;
    }
    struct journal journal;
    const char *folder = getenv("TMPDIR");
    snprintf(journal.path, sizeof journal.path, "%s/cohort-fuzz-%s-%ld", folder != NULL ? folder : "/tmp", target->name,
             (long)getpid());
    journal.fd = open(journal.path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    journal.bytes = MAP_FAILED;
    if (journal.fd >= 0)
        journal.bytes = mmap(NULL, input.max, PROT_READ | PROT_WRITE, MAP_SHARED, journal.fd, 0);
    input.bytes = malloc(input.max);
    if (journal.bytes == MAP_FAILED || input.bytes == NULL) {
        fprintf(stderr, "%s: cannot set up\n", journal.path);
        return 1;
    }
    printf("%s: seed %llu; a failing input stays in %s\n", target->name, (unsigned long long)seed, journal.path);
    fflush(stdout);

    uint64_t n = 0;
    double start = now_s();
    for (; n < target->n_seeds || now_s() - start < seconds; n++) {
        input_set(&input, &target->seeds[n % target->n_seeds]);
        if (n >= target->n_seeds) {
            struct dice dice = {.seed = seed, .stream = n, .used = 4};
            for (size_t changes = dice_below(&dice, 6) + 1; changes > 0; changes--)
                mutate_once(&input, target, &dice);
        }
        journal_put(&journal, &input);
        /* An exact-size copy: the sanitizer then sees reads past the end. */
        uint8_t *exact = malloc(input.size > 0 ? input.size : 1);
        if (exact == NULL)
            abort();
        memcpy(exact, input.bytes, input.size);
        target->one(exact, input.size);
        free(exact);
    }
    printf("%s: %llu inputs in %.1f s of processor time\n", target->name, (unsigned long long)n, now_s() - start);
    munmap(journal.bytes, input.max);
    close(journal.fd);
    unlink(journal.path);
    free(input.bytes);
    return 0;
}

struct fuzz_seed fuzz_fixture(const char *name)
{
    static struct text *kept[256]; /* for whoever looks for what is lost */
    static size_t n;
    char path[512];
    cohort_error err = {0};
    struct text *text = calloc(1, sizeof *text);
    snprintf(path, sizeof path, "%s/tests/fixtures/%s", COHORT_SOURCE_DIR, name);
    if (text == NULL || n == sizeof kept / sizeof *kept || file_read(path, 0, text, &err) != COHORT_OK) {
        fprintf(stderr, "%s: %s\n", path, err.message);
        exit(1);
    }
    kept[n++] = text;
    return (struct fuzz_seed){text->data, text->length};
}

int fuzz_run_texts(const struct fuzz_target *target, const char *const *texts, size_t n_texts, int argc, char **argv)
{
    struct fuzz_seed *seeds = malloc(n_texts * sizeof *seeds);
    struct fuzz_target seeded = *target;
    if (seeds == NULL)
        abort();
    for (size_t i = 0; i < n_texts; i++)
        seeds[i] = (struct fuzz_seed){texts[i], strlen(texts[i])};
    seeded.seeds = seeds;
    seeded.n_seeds = n_texts;
    const int status = fuzz_run(&seeded, argc, argv);
    free(seeds);
    return status;
}

/* GRPO with a reward written in C, over the installed library:
 *
 *     cc train.c $(pkg-config --cflags --libs cohort) -o train
 *     ./train MODEL DATA.jsonl RUN_FOLDER
 *
 * DATA.jsonl holds rows like {"prompt": "..."}; every option of 'cohort grpo' (docs/OPTIONS.md) can be set by its
 * name. */
#include <cohort.h>

#include <stdio.h>

/* The share of letters that are vowels: something that any model can learn. */
static cohort_status reward_vowels(void *context, const cohort_reward_row *const *rows, size_t n_rows, double *rewards,
                                   cohort_error *err)
{
    (void)err; /* a reward that cannot go on fills this and returns a status other than COHORT_OK */
    size_t *n_scored = context;
    for (size_t i = 0; i < n_rows; i++) {
        int letters = 0, vowels = 0;
        for (const char *c = rows[i]->completion; *c != '\0'; c++) {
            bool vowel = *c == 'a' || *c == 'e' || *c == 'i' || *c == 'o' || *c == 'u';
            letters += (*c >= 'a' && *c <= 'z') ? 1 : 0;
            vowels += vowel ? 1 : 0;
        }
        rewards[i] = letters == 0 ? 0.0 : (double)vowels / letters;
    }
    *n_scored += n_rows;
    return COHORT_OK;
}

static void on_message(void *context, const char *text)
{
    (void)context;
    puts(text);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: train MODEL DATA.jsonl RUN_FOLDER\n");
        return 2;
    }
    const char *const settings[][2] = {{"model", argv[1]},
                                       {"data", argv[2]},
                                       {"out", argv[3]},
                                       {"steps", "2"},
                                       {"num_generations", "4"},
                                       {"prompts_per_step", "2"},
                                       {"max_completion_length", "16"},
                                       {"learning_rate", "1e-4"},
                                       {"seed", "1"}};
    cohort_error err = {0};
    cohort_options *options = NULL;
    size_t n_scored = 0;
    cohort_observer observer;
    cohort_observer_init(&observer);
    observer.message = on_message;
    cohort_status status = cohort_options_create(&options, COHORT_GRPO, &err);
    for (size_t i = 0; status == COHORT_OK && i < sizeof settings / sizeof settings[0]; i++)
        status = cohort_options_set(options, settings[i][0], settings[i][1], NULL, &err);
    if (status == COHORT_OK)
        status = cohort_options_add_reward(options, "vowels", reward_vowels, &n_scored, &err);
    if (status == COHORT_OK)
        status = cohort_run(options, &observer, &err);
    cohort_options_destroy(options);
    if (status != COHORT_OK) {
        fprintf(stderr, "train: %s\n", err.message);
        return 1;
    }
    printf("scored %zu completions\n", n_scored);
    return 0;
}

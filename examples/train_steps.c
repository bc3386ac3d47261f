/* GRPO step by step, with rows and scores of the program's own, over the installed library:
 *
 *     cc train_steps.c $(pkg-config --cflags --libs cohort) -o train_steps
 *     ./train_steps MODEL RUN_FOLDER
 *
 * Between steps the same model generates. Every option of 'cohort grpo' (docs/OPTIONS.md) but data can be set by its
 * name. */
#include <cohort.h>

#include <stdio.h>
#include <string.h>

enum { STEPS = 3, MAX_COMPLETIONS = 64 };

static void on_metrics(void *context, const cohort_metrics *metrics)
{
    (void)context;
    for (size_t i = 0; i < metrics->count; i++)
        if (strcmp(metrics->items[i].name, "step") == 0 || strcmp(metrics->items[i].name, "reward") == 0)
            printf("%s %.4f  ", metrics->items[i].name, metrics->items[i].value);
    printf("\n");
}

/* One step: completions of two rows, our scores for them (short ones are good), the update. */
static cohort_status step(cohort_trainer *trainer, cohort_error *err)
{
    static const char *const rows[] = {"{\"prompt\": \"Once upon\"}", "{\"prompt\": \"The end\"}"};
    const cohort_reward_row *const *completions = NULL;
    double scores[MAX_COMPLETIONS];
    size_t n = 0;
    cohort_batch batch;
    cohort_batch_init(&batch);
    batch.rows = rows;
    batch.n_rows = 2;
    cohort_status status = cohort_trainer_rollout(trainer, &batch, &completions, &n, err);
    for (size_t i = 0; i < n && i < MAX_COMPLETIONS; i++)
        scores[i] = 1.0 / (1.0 + (double)completions[i]->completion_length);
    return status == COHORT_OK ? cohort_trainer_update(trainer, scores, n, err) : status;
}

/* The most likely completion, by the weights as they are now. */
static cohort_status generate(cohort_model *model, cohort_error *err)
{
    static const char messages[] = "[{\"role\": \"user\", \"content\": \"Hello\"}]";
    int32_t *ids = NULL;
    int64_t id = 0;
    bool found = false;
    cohort_request request;
    cohort_completion completion;
    cohort_request_init(&request);
    cohort_completion_init(&completion);
    cohort_status status = cohort_chat_encode(model, messages, true, &ids, &request.n_prompt, err);
    request.prompt = ids;
    request.max_tokens = 8;
    request.temperature = 0.0f;
    if (status == COHORT_OK)
        status = cohort_submit(model, &request, &id, err);
    cohort_free(ids);
    for (bool busy = true; status == COHORT_OK && busy;)
        status = cohort_step(model, &busy, err);
    if (status == COHORT_OK)
        status = cohort_poll(model, &completion, &found, err);
    for (size_t t = 0; t < completion.n_tokens; t++)
        printf("%d (%.5f) ", (int)completion.tokens[t], (double)completion.logprobs[t]);
    printf("\n");
    cohort_completion_free(&completion);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: train_steps MODEL RUN_FOLDER\n");
        return 2;
    }
    const char *const settings[][2] = {{"model", argv[1]},
                                       {"out", argv[2]},
                                       {"prompts_per_step", "2"},
                                       {"num_generations", "4"},
                                       {"learning_rate", "1e-4"},
                                       {"max_completion_length", "16"},
                                       {"seed", "1"},
                                       {"max_prompt_length", "64"}};
    cohort_error err = {0};
    cohort_options *options = NULL;
    cohort_trainer *trainer = NULL;
    cohort_observer observer;
    cohort_observer_init(&observer);
    observer.metrics = on_metrics;
    cohort_status status = cohort_options_create(&options, COHORT_GRPO, &err);
    for (size_t i = 0; status == COHORT_OK && i < sizeof settings / sizeof settings[0]; i++)
        status = cohort_options_set(options, settings[i][0], settings[i][1], NULL, &err);
    if (status == COHORT_OK)
        status = cohort_trainer_open(&trainer, options, &observer, &err);
    for (int i = 0; status == COHORT_OK && i < STEPS; i++) {
        status = step(trainer, &err);
        if (status == COHORT_OK)
            status = generate(cohort_trainer_model(trainer), &err);
    }
    if (status == COHORT_OK)
        status = cohort_trainer_save_final(trainer, &err);
    cohort_trainer_close(trainer);
    cohort_options_destroy(options);
    if (status != COHORT_OK)
        fprintf(stderr, "train_steps: %s\n", err.message);
    return status == COHORT_OK ? 0 : 1;
}

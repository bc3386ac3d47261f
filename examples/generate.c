/* Streaming generation with log-probs, over the installed library:
 *
 *     cc generate.c $(pkg-config --cflags --libs cohort) -o generate
 *     ./generate MODEL "a prompt"
 *
 * Prints two completions token by token as they are drawn, then each with the sum of its log-probs. */
#include <cohort.h>

#include <stdio.h>

enum { COMPLETIONS = 2, MAX_TOKENS = 24 };

static int fail(const cohort_error *err)
{
    fprintf(stderr, "generate: %s\n", err->message);
    return 1;
}

/* Called inside cohort_step for every token. text holds whole characters only, so it can be printed as it comes. */
static void on_token(void *context, int64_t request, int32_t index, int32_t token, float logprob, const char *text,
                     size_t length, const char *finish_reason)
{
    (void)context;
    (void)request;
    printf("[%d] token %6d  log-prob %9.5f  \"%.*s\"%s%s\n", (int)index, (int)token, (double)logprob, (int)length, text,
           finish_reason[0] == '\0' ? "" : "  ends: ", finish_reason);
}

static cohort_status open_model(cohort_model **model, const char *dir, cohort_error *err)
{
    cohort_options *options = NULL;
    cohort_status status = cohort_options_create(&options, COHORT_GENERATE, err);
    if (status == COHORT_OK)
        status = cohort_options_set(options, "model", dir, NULL, err);
    if (status == COHORT_OK)
        status = cohort_options_set(options, "decode_concurrency", "4", NULL, err);
    if (status == COHORT_OK)
        status = cohort_model_open(model, options, 0, err);
    cohort_options_destroy(options); /* the model keeps what it needs */
    return status;
}

static cohort_status generate(cohort_model *model, const char *prompt, cohort_error *err)
{
    cohort_request request;
    int32_t *ids = NULL;
    int64_t id = 0;
    cohort_request_init(&request);
    cohort_status status = cohort_encode(model, prompt, &ids, &request.n_prompt, err);
    if (status != COHORT_OK)
        return status;
    request.prompt = ids;
    request.n = COMPLETIONS;
    request.max_tokens = MAX_TOKENS;
    request.seed = 7; /* the same seed gives the same completions, alone or beside other requests */
    status = cohort_submit(model, &request, &id, err);
    cohort_free(ids); /* cohort_submit copied it */
    for (bool busy = true; status == COHORT_OK && busy;)
        status = cohort_step(model, &busy, err);

    cohort_completion completion;
    bool found = true;
    cohort_completion_init(&completion);
    while (status == COHORT_OK && (status = cohort_poll(model, &completion, &found, err)) == COHORT_OK && found) {
        double sum = 0.0;
        for (size_t t = 0; t < completion.n_tokens; t++)
            sum += (double)completion.logprobs[t];
        printf("completion %d: %zu tokens, log-prob %.6f, ends by %s\n", (int)completion.index, completion.n_tokens,
               sum, completion.finish_reason);
        cohort_completion_free(&completion);
    }
    return status;
}

int main(int argc, char **argv)
{
    cohort_error err = {0};
    cohort_model *model = NULL;
    if (argc != 3) {
        fprintf(stderr, "usage: generate MODEL PROMPT\n");
        return 2;
    }
    if (open_model(&model, argv[1], &err) != COHORT_OK)
        return fail(&err);
    cohort_on_token(model, on_token, NULL);
    cohort_status status = generate(model, argv[2], &err);
    cohort_model_close(model);
    return status == COHORT_OK ? 0 : fail(&err);
}

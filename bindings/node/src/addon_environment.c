/* What answers the turns of a run's episodes in JavaScript. The handler is told ("environment", JSON) what the library asks, and
 * answers later, by environmentAnswer(handle, JSON), while others decode: answers wait here until the library asks again. */
#include "addon.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct environment_line {
    struct environment_line *next;
    char *text;
    size_t length;
};

void environment_lines_free(struct environment_line *line)
{
    while (line != NULL) {
        struct environment_line *next = line->next;
        free(line->text);
        free(line);
        line = next;
    }
}

cohort_status on_environment(void *context, cohort_environment *environment, const char *request, size_t length,
                             cohort_error *err)
{
    struct worker *worker = context;
    cohort_status status = COHORT_OK;
    if (request != NULL) {
        struct addon_text text = {0};
        addon_text_add(&text, request, length);
        worker_tell(worker, "environment", &text);
    }
    pthread_mutex_lock(&worker->lock);
    struct environment_line *lines = worker->lines;
    worker->lines = NULL;
    worker->lines_end = NULL;
    const bool closing = worker->closing;
    pthread_mutex_unlock(&worker->lock);
    if (closing) {
        if (err != NULL)
            snprintf(err->message, sizeof err->message, "it was closed while tools ran");
        status = COHORT_ERR_CANCELLED;
    }
    for (const struct environment_line *line = lines; status == COHORT_OK && line != NULL; line = line->next)
        status = cohort_environment_answer(environment, line->text, line->length, err);
    environment_lines_free(lines);
    return status;
}

/* (handle, JSON) */
napi_value environment_answer(napi_env env, napi_callback_info info)
{
    napi_value values[2];
    if (!arguments(env, info, 2, values))
        return NULL;
    struct worker *worker = worker_of(env, values[0], 1u << WORKER_RUN | 1u << WORKER_TRAINER);
    struct environment_line *line = worker == NULL ? NULL : calloc(1, sizeof *line);
    if (line == NULL || (line->text = string_of(env, values[1], &line->length)) == NULL) {
        free(line);
        throw_pending(env, "out of memory");
        return NULL;
    }
    pthread_mutex_lock(&worker->lock);
    if (worker->lines_end != NULL)
        worker->lines_end->next = line;
    else
        worker->lines = line;
    worker->lines_end = line;
    pthread_mutex_unlock(&worker->lock);
    return NULL;
}

#include "api/sized.h"

#include "run/store_read.h"

#include <stddef.h>
#include <string.h>

/* A size larger than any struct will have comes from memory that was never initialised. */
enum { LARGEST = 1 << 16 };

static const cohort_request fresh_request = {.n = 1,
                                             .max_tokens = 256,
                                             .temperature = 1.0f,
                                             .top_p = 1.0f,
                                             .repetition_penalty = 1.0f,
                                             .repetition_context = 20,
                                             .presence_context = 20,
                                             .frequency_context = 20,
                                             .repetition_min_count = 4};
static const cohort_batch fresh_batch;
static const cohort_completion fresh_completion;
static const cohort_observer fresh_observer;

const struct sized sized_request = {"cohort_request", sizeof fresh_request, offsetof(cohort_request, n),
                                    &fresh_request},
                   sized_batch = {"cohort_batch", sizeof fresh_batch, offsetof(cohort_batch, indices), &fresh_batch},
                   sized_completion = {"cohort_completion", sizeof fresh_completion, offsetof(cohort_completion, n_top),
                                       &fresh_completion},
                   sized_completion_query = {"cohort_completion_query", sizeof(cohort_completion_query),
                                             sizeof(cohort_completion_query), &store_all_completions},
                   sized_observer = {"cohort_observer", sizeof fresh_observer, offsetof(cohort_observer, context),
                                     &fresh_observer};

static size_t size_of(const void *given)
{
    size_t size = 0;
    memcpy(&size, given, sizeof size);
    return size;
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

void sized_init(const struct sized *type, void *to, size_t size)
{
    if (to == NULL || size < sizeof size || size > LARGEST)
        return;
    memset(to, 0, size);
    memcpy(to, type->fresh, smaller(size, type->size));
    memcpy(to, &size, sizeof size);
}

cohort_status sized_check(const struct sized *type, const char *function, const void *to, cohort_error *err)
{
    const size_t size = size_of(to);
    if (size >= type->least && size <= LARGEST)
        return COHORT_OK;
    return error_set(
        err, COHORT_ERR_ARGUMENT,
        "%s: the size of the %s is %zu, which no version of it has; call %s_init before setting its fields", function,
        type->name, size, type->name);
}

cohort_status sized_read(const struct sized *type, const char *function, const void *given, void *known,
                         cohort_error *err)
{
    const unsigned char *bytes = given;
    memcpy(known, type->fresh, type->size);
    TRY(sized_check(type, function, given, err));
    const size_t size = size_of(given);
    for (size_t i = type->size; i < size; i++)
        if (bytes[i] != 0)
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "%s: the %s has %zu bytes and sets fields that version %s of the library, which knows %zu "
                             "of them, does not have; leave them 0 or use a newer library",
                             function, type->name, size, cohort_version(), type->size);
    memcpy(known, given, smaller(size, type->size));
    memcpy(known, &type->size, sizeof type->size);
    return COHORT_OK;
}

void sized_write(const struct sized *type, const void *ours, void *to)
{
    const size_t size = size_of(to);
    memset(to, 0, size);
    memcpy(to, ours, smaller(size, type->size));
    memcpy(to, &size, sizeof size);
}

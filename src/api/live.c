/* Steering a run that goes on: check arguments, translate answers, nothing else. */
#include "base/json_text.h"
#include "run/steering.h"

#include <string.h>

struct cohort_live {
    struct steering_client *client;
    json_t *answer; /* the last one: texts that were handed out are its */
    cohort_live_state state;
};

static cohort_status missing(cohort_error *err, const char *function, const char *what)
{
    return error_set(err, COHORT_ERR_ARGUMENT, "%s: %s must not be NULL", function, what);
}

cohort_status cohort_live_open(cohort_live **out, const char *folder, cohort_error *err)
{
    struct cohort_live *live = NULL;
    if (out == NULL || folder == NULL)
        return missing(err, "cohort_live_open", "out and folder");
    *out = NULL;
    TRY(mem_alloc(&live, 1, sizeof *live, "connection", err));
    cohort_status status = steering_connect(&live->client, folder, err);
    if (status == COHORT_OK)
        *out = live;
    else
        mem_free(live);
    return status;
}

void cohort_live_close(cohort_live *live)
{
    if (live == NULL)
        return;
    steering_disconnect(live->client);
    json_decref(live->answer);
    mem_free(live);
}

/* Sends a word; the answer takes the place of the last one. */
static cohort_status request(cohort_live *live, const char *word, cohort_error *err)
{
    json_t *answer = NULL;
    TRY(steering_request(live->client, word, &answer, err));
    json_decref(live->answer);
    live->answer = answer;
    return COHORT_OK;
}

static cohort_status unreadable(cohort_error *err)
{
    return error_set(err, COHORT_ERR_FORMAT, "the trainer's answer cannot be read: it is of another version");
}

cohort_status cohort_live_read(cohort_live *live, const cohort_live_state **state, cohort_error *err)
{
    json_int_t step = 0, steps = 0, done = 0, total = 0, ended = 0, begun = 0, saved = 0, memory = 0;
    int paused = 0, pausing = 0, saving = 0;
    if (live == NULL || state == NULL)
        return missing(err, "cohort_live_read", "live and state");
    TRY(request(live, "status", err));
    cohort_live_state *s = &live->state;
    memset(s, 0, sizeof *s);
    s->size = sizeof *s;
    if (json_unpack(live->answer, "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:F, s:F, s:I, s:b, s:b, s:b, s:I}",
                    "phase", &s->phase, "unit", &s->unit, "step", &step, "steps", &steps, "done", &done, "total",
                    &total, "ended", &ended, "begun", &begun, "per_second", &s->per_second, "seconds", &s->seconds,
                    "saved_step", &saved, "paused", &paused, "pausing", &pausing, "saving", &saving, "memory_bytes",
                    &memory) != 0)
        return unreadable(err);
    s->step = step;
    s->steps = steps;
    s->done = done;
    s->total = total;
    s->ended = ended;
    s->begun = begun;
    s->saved_step = saved;
    s->memory_bytes = memory;
    s->paused = paused != 0;
    s->pausing = pausing != 0;
    s->saving = saving != 0;
    *state = s;
    return COHORT_OK;
}

cohort_status cohort_live_ask(cohort_live *live, cohort_live_request asked, const char **answer, cohort_error *err)
{
    static const char *const words[] = {"pause", "resume", "save"};
    if (live == NULL || answer == NULL)
        return missing(err, "cohort_live_ask", "live and answer");
    if ((int)asked < 0 || (size_t)asked >= sizeof words / sizeof *words)
        return error_set(err, COHORT_ERR_ARGUMENT, "cohort_live_ask: %d is no request", (int)asked);
    TRY(request(live, words[asked], err));
    return json_unpack(live->answer, "{s:s}", "text", answer) == 0 ? COHORT_OK : unreadable(err);
}

/* The thread that reads: stores for what was recorded, connections for where the trainers are. */
#include "watch.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *const watch_finishes[N_WATCH_FINISHES] = {"any", "eos", "length", "stop"};

static const double LOOK_AGAIN =
    1.0; /* seconds after which a process is looked for, and a trainer that was not there */

/* What the thread holds of a run. */
struct source {
    cohort_store *store;
    cohort_live *live;
    double connected, looked; /* when that was last tried */
    unsigned answered;        /* the query that the present snapshot answers */
    int64_t samples_step;     /* and the last step at that time */
};

/* ---- memory: what cannot be had is left out ---- */

static char *shown(const char *text)
{
    char *out = NULL;
    return text != NULL && cohort_shown(text, strlen(text), &out, NULL) == COHORT_OK ? out : NULL;
}

static char *copy(const char *bytes, size_t length)
{
    char *out = malloc(length + 1);
    if (out == NULL)
        return NULL;
    memcpy(out, bytes, length);
    out[length] = '\0';
    return out;
}

static void *more(void *array, size_t n, size_t size)
{
    if ((n & (n - 1)) != 0)
        return array;
    void *grown = realloc(array, (n == 0 ? 1 : 2 * n) * size);
    return grown;
}

static void free_samples(struct watch_sample *samples, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cohort_free(samples[i].finish);
        cohort_free(samples[i].line);
        cohort_free(samples[i].rewards);
        free(samples[i].prompt);
        free(samples[i].text);
    }
    free(samples);
}

void watch_snapshot_free(struct watch_snapshot *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->n_curves; i++) {
        cohort_free(s->curves[i].metric);
        cohort_free(s->curves[i].label);
        cohort_free(s->curves[i].steps);
        cohort_free(s->curves[i].values);
    }
    for (size_t i = 0; i < s->n_events; i++) {
        cohort_free(s->events[i].kind);
        cohort_free(s->events[i].rule);
        cohort_free(s->events[i].severity);
        cohort_free(s->events[i].text);
    }
    free_samples(s->samples, s->n_samples);
    free_samples(s->first, s->n_first);
    free(s->curves);
    free(s->events);
    cohort_free(s->problem);
    cohort_free(s->model);
    cohort_free(s->command);
    cohort_free(s->status);
    cohort_free(s->message);
    cohort_free(s->device);
    free(s->config);
    free(s);
}

/* ---- reading ---- */

struct names {
    char *at[64];
    size_t n;
};

static bool take_name(void *context, const char *name)
{
    struct names *names = context;
    if (names->n < sizeof names->at / sizeof *names->at)
        names->at[names->n++] = strdup(name);
    return true;
}

static bool has_name(const struct names *names, const char *name)
{
    for (size_t i = 0; i < names->n; i++)
        if (names->at[i] != NULL && strcmp(names->at[i], name) == 0)
            return true;
    return false;
}

static void add_curve(struct watch_snapshot *s, cohort_store *store, const char *metric, const char *label,
                      bool indented, bool share)
{
    struct watch_curve curve = {.indented = indented, .share = share};
    /* An evaluation is made every so many steps: all there are, of which the last are kept. */
    const bool all = strncmp(metric, "eval_", 5) == 0;
    const int64_t first = all || s->step < WATCH_POINTS ? 0 : s->step - WATCH_POINTS + 1;
    struct watch_curve *grown = more(s->curves, s->n_curves, sizeof *s->curves);
    if (grown == NULL)
        return;
    s->curves = grown;
    if (cohort_store_curve(store, metric, first, INT64_MAX, &curve.steps, &curve.values, &curve.n, NULL) != COHORT_OK)
        return;
    if (curve.n > WATCH_POINTS) {
        const size_t passed = curve.n - WATCH_POINTS;
        memmove(curve.steps, curve.steps + passed, WATCH_POINTS * sizeof *curve.steps);
        memmove(curve.values, curve.values + passed, WATCH_POINTS * sizeof *curve.values);
        curve.n = WATCH_POINTS;
    }
    curve.metric = shown(metric);
    curve.label = shown(label);
    s->curves[s->n_curves++] = curve;
}

static void read_curves(struct watch_snapshot *s, cohort_store *store)
{
    static const struct {
        const char *metric, *label;
        bool share;
    } rows[] = {{"reward", "reward", false},
                {"rewards/", NULL, false},
                {"eval_reward", "eval_reward", false},
                {"loss", "loss", false},
                {"eval_loss", "eval_loss", false},
                {"entropy", "entropy", false},
                {"kl", "kl", false},
                {"completions/mean_length", "mean_length", false},
                {"grad_norm", "grad_norm", false},
                {"completions/clipped_ratio", "clipped_ratio", true},
                {"frac_reward_zero_std", "no spread", true},
                {"mean_token_accuracy", "token accuracy", true},
                {"learning_rate", "learning_rate", false}};
    struct names names = {0};
    (void)cohort_store_names(store, take_name, &names, NULL);
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        if (rows[r].label != NULL && has_name(&names, rows[r].metric))
            add_curve(s, store, rows[r].metric, rows[r].label, false, rows[r].share);
        for (size_t i = 0; rows[r].label == NULL && i < names.n; i++) {
            const char *name = names.at[i] == NULL ? "" : names.at[i];
            const size_t length = strlen(name), before = strlen("rewards/"), behind = strlen("/mean");
            if (length <= before + behind || strncmp(name, "rewards/", before) != 0 ||
                strcmp(name + length - behind, "/mean") != 0)
                continue;
            char label[64];
            snprintf(label, sizeof label, "%.*s", (int)(length - before - behind), name + before);
            add_curve(s, store, name, label, true, false);
        }
    }
    size_t functions = 0;
    for (size_t i = 0; i < s->n_curves; i++)
        functions += s->curves[i].indented ? 1 : 0;
    for (size_t i = 0; functions == 1 && i < s->n_curves; i++) {
        if (!s->curves[i].indented) /* of one function alone the reward is its */
            continue;
        cohort_free(s->curves[i].metric);
        cohort_free(s->curves[i].label);
        cohort_free(s->curves[i].steps);
        cohort_free(s->curves[i].values);
        memmove(s->curves + i, s->curves + i + 1, (--s->n_curves - i) * sizeof *s->curves);
        break;
    }
    for (size_t i = 0; i < names.n; i++)
        free(names.at[i]);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double last_of(const cohort_stored_step *step, const char *name)
{
    for (size_t i = 0; i < step->n_metrics; i++)
        if (strcmp(step->metrics[i].name, name) == 0)
            return step->metrics[i].value;
    return (double)NAN;
}

struct steps_read {
    struct watch_snapshot *s;
    double seconds[20];
    size_t n;
};

static bool take_step(void *context, const cohort_stored_step *step)
{
    struct steps_read *read = context;
    struct watch_snapshot *s = read->s;
    const double seconds = last_of(step, "step_time");
    if (isfinite(seconds) && read->n < sizeof read->seconds / sizeof *read->seconds)
        read->seconds[read->n++] = seconds;
    if (!isfinite(seconds))
        return true;
    s->epoch = step->epoch;
    s->step_last = seconds;
    s->rollout = last_of(step, "time/rollout");
    s->reward = last_of(step, "time/reward");
    s->reference = last_of(step, "time/reference");
    s->train = last_of(step, "time/train");
    s->rollout_rate = last_of(step, "throughput/rollout_tokens_per_second");
    s->train_rate = last_of(step, "throughput/train_tokens_per_second");
    return true;
}

static bool take_event(void *context, const cohort_stored_event *event)
{
    struct watch_snapshot *s = context;
    const struct watch_event taken = {.step = event->step,
                                      .time = event->time,
                                      .kind = shown(event->kind),
                                      .rule = shown(event->rule),
                                      .severity = shown(event->severity),
                                      .text = shown(event->text)};
    if (strcmp(event->kind, "checkpoint") == 0) {
        s->saved_step = event->step;
        s->saved_at = event->time;
    }
    s->n_warnings += strcmp(event->kind, "warning") == 0 && strcmp(event->severity, "note") != 0 ? 1 : 0;
    if (s->n_events == WATCH_EVENTS) { /* the oldest goes */
        cohort_free(s->events[0].kind);
        cohort_free(s->events[0].rule);
        cohort_free(s->events[0].severity);
        cohort_free(s->events[0].text);
        memmove(s->events, s->events + 1, --s->n_events * sizeof *s->events);
    } else {
        struct watch_event *grown = more(s->events, s->n_events, sizeof *s->events);
        if (grown == NULL)
            return false;
        s->events = grown;
    }
    s->events[s->n_events++] = taken;
    return true;
}

struct samples_read {
    struct watch_sample *at;
    size_t n;
};

static bool take_sample(void *context, const cohort_stored_completion *c)
{
    struct samples_read *read = context;
    char rewards[200] = "";
    size_t used = 0, head = c->text_length < 400 ? c->text_length : 400;
    struct watch_sample *grown = more(read->at, read->n, sizeof *read->at);
    if (grown == NULL)
        return false;
    read->at = grown;
    while (head > 0 && head < c->text_length && ((unsigned char)c->text[head] & 0xc0) == 0x80)
        head--; /* no character is cut */
    for (size_t i = 0; i < c->n_rewards && used < sizeof rewards - 1; i++) {
        char value[32];
        watch_number(c->rewards[i].value, value, sizeof value);
        const int n =
            snprintf(rewards + used, sizeof rewards - used, "%s%s %s", i > 0 ? ", " : "", c->rewards[i].name, value);
        used += n > 0 ? (size_t)n : 0;
    }
    struct watch_sample sample = {.step = c->step,
                                  .group = c->group,
                                  .index = c->index,
                                  .tokens = c->tokens,
                                  .reward = c->reward,
                                  .finish = shown(c->finish_reason),
                                  .prompt = copy(c->prompt, c->prompt_length),
                                  .prompt_length = c->prompt_length,
                                  .text = copy(c->text, c->text_length),
                                  .text_length = c->text_length,
                                  .rewards = shown(rewards)};
    (void)cohort_shown(c->text, head, &sample.line, NULL);
    for (char *at = sample.line; at != NULL && *at != '\0'; at++)
        if (*at == '\n' || *at == '\t') /* it is to be one line */
            *at = ' ';
    read->at[read->n++] = sample;
    return true;
}

static void read_samples(struct watch_snapshot *s, cohort_store *store, const struct watch_query *asked)
{
    cohort_completion_query query;
    struct samples_read read = {0}, first = {0};
    cohort_completion_query_init(&query);
    query.order = asked->order == WATCH_BEST    ? COHORT_BEST_FIRST
                  : asked->order == WATCH_WORST ? COHORT_WORST_FIRST
                                                : COHORT_NEWEST_FIRST;
    query.limit = WATCH_SAMPLES;
    if (asked->step != -2) {
        query.first_step = query.last_step = asked->step >= 0 ? asked->step : s->step;
        if (asked->order == WATCH_LATEST && asked->step < 0)
            query.first_step = 0;
    }
    query.finish_reason = asked->finish == 0 ? NULL : watch_finishes[asked->finish];
    query.search = asked->search[0] == '\0' ? NULL : asked->search;
    if (asked->shown)
        (void)cohort_store_completions(store, &query, take_sample, &read, NULL);
    s->samples = read.at;
    s->n_samples = read.n;
    cohort_completion_query_init(&query);
    query.first_step = query.last_step = s->step;
    query.limit = 1;
    query.order = COHORT_BEST_FIRST;
    (void)cohort_store_completions(store, &query, take_sample, &first, NULL);
    query.order = COHORT_WORST_FIRST;
    (void)cohort_store_completions(store, &query, take_sample, &first, NULL);
    s->first = first.at;
    s->n_first = first.n;
}

static struct watch_snapshot *problem(const cohort_error *err)
{
    struct watch_snapshot *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->step = s->saved_step = -1;
    s->problem = shown(err->message);
    return s;
}

static struct watch_snapshot *read_run(struct source *source, const struct watch_query *query)
{
    const cohort_stored_run *run = NULL;
    cohort_error err = {0};
    if (cohort_store_run(source->store, &run, &err) != COHORT_OK)
        return problem(&err);
    struct watch_snapshot *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->saved_step = -1;
    s->epoch = s->step_time = s->rollout_rate = s->train_rate = (double)NAN;
    s->rollout = s->reward = s->reference = s->train = s->step_last = (double)NAN;
    s->model = shown(run->model);
    s->command = shown(run->command);
    s->status = shown(run->status);
    s->message = shown(run->message);
    s->device = shown(run->device);
    s->config = copy(run->config, strlen(run->config));
    s->step = run->step;
    s->steps = run->steps;
    s->updated = run->updated;
    struct steps_read steps = {.s = s};
    (void)cohort_store_steps(source->store, s->step > 20 ? s->step - 19 : 0, INT64_MAX, take_step, &steps, NULL);
    if (steps.n > 0) {
        qsort(steps.seconds, steps.n, sizeof *steps.seconds, ascending);
        s->step_time = steps.seconds[steps.n / 2];
    }
    read_curves(s, source->store);
    (void)cohort_store_events(source->store, 0, NULL, take_event, s, NULL);
    read_samples(s, source->store, query);
    return s;
}

/* ---- where the trainer is ---- */

static bool same_live(const struct watch_live *a, const struct watch_live *b)
{
    return a->there == b->there && strcmp(a->phase, b->phase) == 0 && strcmp(a->unit, b->unit) == 0 &&
           a->step == b->step && a->steps == b->steps && a->done == b->done && a->total == b->total &&
           a->ended == b->ended && a->begun == b->begun && a->saved_step == b->saved_step &&
           a->per_second == b->per_second && a->seconds == b->seconds && a->memory == b->memory &&
           a->paused == b->paused && a->pausing == b->pausing && a->saving == b->saving;
}

static void read_live(struct watch *watch, struct source *source, struct watch_run *run)
{
    const cohort_live_state *state = NULL;
    struct watch_live live = {0};
    const double now = watch_now();
    if (source->live == NULL && now - source->connected >= LOOK_AGAIN) {
        source->connected = now;
        (void)cohort_live_open(&source->live, run->folder, NULL);
    }
    if (source->live != NULL && cohort_live_read(source->live, &state, NULL) != COHORT_OK) {
        cohort_live_close(source->live);
        source->live = NULL;
    }
    if (source->live != NULL && state != NULL) {
        live = (struct watch_live){.there = true,
                                   .step = state->step,
                                   .steps = state->steps,
                                   .done = state->done,
                                   .total = state->total,
                                   .ended = state->ended,
                                   .begun = state->begun,
                                   .saved_step = state->saved_step,
                                   .per_second = state->per_second,
                                   .seconds = floor(state->seconds),
                                   .memory = (double)state->memory_bytes,
                                   .paused = state->paused,
                                   .pausing = state->pausing,
                                   .saving = state->saving};
        snprintf(live.phase, sizeof live.phase, "%s", state->phase);
        snprintf(live.unit, sizeof live.unit, "%s", state->unit);
    }
    pthread_mutex_lock(&watch->mutex);
    if (!watch->frozen && !same_live(&live, &run->live)) {
        run->live = live;
        watch->serial++;
    }
    pthread_mutex_unlock(&watch->mutex);
}

/* Hands a request of the person on. */
static void ask(struct watch *watch, struct source *sources)
{
    const char *answer = NULL;
    cohort_error err = {0};
    pthread_mutex_lock(&watch->mutex);
    const bool asked = watch->asked;
    const size_t r = watch->asked_run;
    const cohort_live_request request = watch->request;
    watch->asked = false;
    pthread_mutex_unlock(&watch->mutex);
    if (!asked)
        return;
    if (sources[r].live == NULL)
        snprintf(err.message, sizeof err.message, "no trainer of this run can be asked");
    else if (cohort_live_ask(sources[r].live, request, &answer, &err) != COHORT_OK) {
        cohort_live_close(sources[r].live);
        sources[r].live = NULL;
    }
    pthread_mutex_lock(&watch->mutex);
    snprintf(watch->answer, sizeof watch->answer, "%.*s", WATCH_ANSWER - 1, answer != NULL ? answer : err.message);
    watch->answered_at = watch_now();
    watch->serial++;
    pthread_mutex_unlock(&watch->mutex);
}

/* Whether the run's process went away, of which nothing is committed; looked at every second. */
static bool has_ended(struct source *source, const struct watch_run *shown_run, double now)
{
    const cohort_stored_run *run = NULL;
    const struct watch_snapshot *s = shown_run->snapshot;
    if (now - source->looked < LOOK_AGAIN)
        return false;
    source->looked = now;
    return cohort_store_run(source->store, &run, NULL) == COHORT_OK &&
           (s == NULL || s->status == NULL || strcmp(run->status, s->status) != 0);
}

static void look_at(struct watch *watch, struct source *source, struct watch_run *run)
{
    cohort_error err = {0};
    const double now = watch_now();
    bool changed = false;
    struct watch_snapshot *made = NULL;
    pthread_mutex_lock(&watch->mutex);
    const struct watch_query query = watch->query;
    const unsigned asked = watch->asked_query;
    const bool frozen = watch->frozen;
    pthread_mutex_unlock(&watch->mutex);
    if (source->store == NULL && cohort_store_open(&source->store, run->folder, &err) != COHORT_OK) {
        made = now - source->looked >= LOOK_AGAIN ? problem(&err) : NULL;
    } else if (!frozen || asked != source->answered) {
        if (cohort_store_changed(source->store, &changed, &err) != COHORT_OK)
            made = problem(&err);
        else if (changed || asked != source->answered || has_ended(source, run, now))
            made = read_run(source, &query);
    }
    if (made == NULL)
        return;
    source->looked = now;
    source->answered = asked;
    pthread_mutex_lock(&watch->mutex);
    struct watch_snapshot *before = run->snapshot;
    run->snapshot = made;
    run->answered = asked;
    watch->serial++;
    pthread_mutex_unlock(&watch->mutex);
    watch_snapshot_free(before);
}

void *watch_reader(void *context)
{
    struct watch *watch = context;
    struct source sources[WATCH_RUNS] = {0};
    for (bool ending = false; !ending;) {
        ask(watch, sources);
        for (size_t r = 0; r < watch->n; r++) {
            read_live(watch, &sources[r], &watch->runs[r]);
            look_at(watch, &sources[r], &watch->runs[r]);
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += (long)(watch->pause * 1e9);
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&watch->mutex);
        if (!watch->asked && !watch->ending)
            (void)pthread_cond_timedwait(&watch->wake, &watch->mutex, &until);
        ending = watch->ending;
        pthread_mutex_unlock(&watch->mutex);
    }
    for (size_t r = 0; r < watch->n; r++) {
        cohort_live_close(sources[r].live);
        cohort_store_close(sources[r].store);
    }
    return NULL;
}

#include "recipe/record.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "base/number.h"
#include "recipe/episode_story.h"

#include <math.h>
#include <string.h>

cohort_status record_keep(const struct options *options, int64_t *keep, cohort_error *err)
{
    const char *word = options_string(options, OPTION_KEEP_COMPLETIONS);
    if (strcmp(word, "all") == 0)
        *keep = -1;
    else if (strcmp(word, "none") == 0)
        *keep = 0;
    else if (!number_read_integer(word, strlen(word), keep) || *keep < 1)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--keep-completions %s: expected all, none, or a number of steps whose completions are kept, "
                         "as in --keep-completions 500",
                         word);
    return COHORT_OK;
}

static void tell(const struct training *t, struct text *notes)
{
    observer_notes(t->observer, notes);
    notes->length = 0;
}

static void take_notes(struct training *t)
{
    struct text notes = {0};
    if (store_take_notes(t->store, &notes, NULL) == COHORT_OK && notes.length > 0)
        tell(t, &notes);
    text_free(&notes);
}

static cohort_status list_inputs(const struct training *t, struct store_input **out, cohort_error *err)
{
    TRY(mem_alloc(out, t->inputs.count, sizeof **out, "inputs", err));
    for (size_t i = 0; i < t->inputs.count; i++)
        (*out)[i] = (struct store_input){.kind = input_kind_name(t->inputs.items[i].kind),
                                         .path = t->inputs.items[i].path,
                                         .sha256 = t->inputs.items[i].sha256};
    return COHORT_OK;
}

cohort_status record_open(struct training *t, int64_t step, cohort_error *err)
{
    struct text notes = {0}, yaml = {0};
    struct store_input *inputs = NULL;
    const char *model = options_string(t->options, OPTION_MODEL);
    struct store_start start = {.run = t->run.path,
                                .command = t->command,
                                .model = model,
                                .device = t->session.backend->device,
                                .steps = t->steps,
                                .step = step,
                                .checkpoint = t->resume_dir,
                                .n_inputs = t->inputs.count};
    cohort_status status = COHORT_OK;
    if ((options_command(t->command) & FOR_DRAWN) != 0)
        TRY(record_keep(t->options, &start.keep, err));
    TRY_GOTO(options_write_yaml(t->options, &yaml, err));
    start.config = yaml.data;
    TRY_GOTO(list_inputs(t, &inputs, err));
    start.inputs = inputs;
    TRY_GOTO(store_open(&t->store, &start, &notes, err));
    t->outcome = "stopped";
    if (notes.length > 0)
        tell(t, &notes);
    record_event(t, step < 0 ? "start" : "resume", NULL, NULL, step < 0 ? "the run starts" : "the run goes on", NULL);
cleanup:
    text_free(&notes);
    text_free(&yaml);
    mem_free(inputs);
    return status;
}

void record_close(struct training *t)
{
    if (t->store == NULL)
        return;
    struct text figures = {0};
    cohort_error lost = {0};
    double behind = 0.0;
    const double spent = store_seconds(t->store, &behind);
    (void)text_printf(&figures, NULL, "{\"seconds\": %.3f, \"store_seconds\": %.4f, \"store_thread_seconds\": %.4f}",
                      clock_seconds() - t->started, spent, behind);
    record_event(t, "end", NULL, NULL, t->outcome, figures.data);
    text_free(&figures);
    take_notes(t);
    if (store_close(t->store, t->outcome, t->why, &lost) != COHORT_OK)
        observer_message(t->observer, "warning: %s", lost.message);
    t->store = NULL;
    mem_free(t->why);
    t->why = NULL;
}

/* ---- completions ---- */

/* A text of JSON; of one that is empty, nothing. */
static struct store_text text_of(const json_t *value)
{
    const size_t length = json_string_length(value);
    return (struct store_text){length > 0 ? json_string_value(value) : NULL, length};
}

static double log_prob_of(const struct completion *c)
{
    double sum = 0.0;
    for (int32_t i = 0; c->logp != NULL && i < c->n_tokens; i++)
        sum += (double)c->logp[i];
    return c->logp == NULL ? (double)NAN : sum;
}

/* The turns of an episode; turns[*n] is for mem_free. Texts are the episode's. */
static cohort_status list_turns(const json_t *episode, struct store_turn **turns, size_t *n, cohort_error *err)
{
    static const char *const keys[] = {"role", "name", "content"};
    const json_t *messages = json_object_get(episode, "messages"), *tokens = json_object_get(episode, "tokens");
    *n = json_array_size(messages);
    TRY(mem_alloc(turns, *n, sizeof **turns, "turns", err));
    for (size_t i = 0; i < *n; i++) {
        struct store_turn *turn = &(*turns)[i];
        struct store_text *texts[] = {&turn->role, &turn->name, &turn->text};
        for (size_t k = 0; k < 3; k++) {
            const json_t *value = json_object_get(json_array_get(messages, i), keys[k]);
            *texts[k] = (struct store_text){json_string_value(value), json_string_length(value)};
        }
        if (turn->text.data == NULL)
            turn->text = (struct store_text){"", 0};
        turn->tokens = json_integer_value(json_array_get(tokens, i));
    }
    return COHORT_OK;
}

static cohort_status record_one(struct training *t, const struct record_batch *batch, size_t i, cohort_error *err)
{
    const struct completion *c = &batch->completions[i];
    const struct scoring *scoring = batch->scoring;
    const struct prompt_batch *prompts = batch->prompts;
    const size_t prompt = i / (size_t)batch->n;
    const struct text *asked = &prompts->prompts[prompt].text;
    const json_t *extra = scoring_extra(scoring, c);
    const char *set = batch->advantage != NULL ? "" : prompts->name != NULL ? prompts->name : "eval";
    struct text tools = {0}, added = {0};
    struct store_turn *turns = NULL;
    size_t n_turns = 0;
    json_t *parsed = NULL, *said = NULL; /* said: the calls of an episode's turns */
    cohort_status status = COHORT_OK;
    TRY_GOTO(list_turns(c->episode, &turns, &n_turns, err));
    TRY_GOTO(scoring_parsed(prompts, prompt, c, &parsed, err));
    if (c->episode != NULL)
        TRY_GOTO(story_calls(c->episode, &said, err));
    const json_t *calls = said != NULL ? said : json_object_get(parsed, "tool_calls");
    if (json_array_size(calls) > 0)
        TRY_GOTO(json_text_write(calls, JSON_COMPACT, &tools, err));
    if (extra != NULL)
        TRY_GOTO(json_text_write(extra, JSON_COMPACT, &added, err));
    const struct store_completion row = {.set = {set, strlen(set)},
                                         .group = (int64_t)prompt,
                                         .index = (int64_t)(i % (size_t)batch->n),
                                         .row = scoring_row_of(prompts, prompt),
                                         .prompt = {asked->data, asked->length},
                                         .text = {c->text, c->text_length},
                                         .thinking = text_of(json_object_get(parsed, "thinking")),
                                         .tools = {tools.data, tools.length},
                                         .extra = {added.data, added.length},
                                         .finish = finish_reason_name(c->finish_reason),
                                         .tokens = c->n_tokens,
                                         .logp = log_prob_of(c),
                                         .reward = batch->sums != NULL ? batch->sums[i] : (double)batch->reward[i],
                                         .advantage =
                                             batch->advantage != NULL ? (double)batch->advantage[i] : (double)NAN,
                                         .names = scoring->names,
                                         .scores = batch->rewards + i * (size_t)scoring->n,
                                         .n_scores = (size_t)scoring->n,
                                         .turns = turns,
                                         .n_turns = n_turns};
    TRY_GOTO(store_completion(t->store, &row, err));
cleanup:
    json_decref(parsed);
    json_decref(said);
    text_free(&tools);
    text_free(&added);
    mem_free(turns);
    return status;
}

cohort_status record_completions(struct training *t, const struct record_batch *batch, cohort_error *err)
{
    const size_t total = (size_t)batch->n_prompts * (size_t)batch->n;
    if (!store_keeps_completions(t->store))
        return COHORT_OK;
    for (size_t i = 0; i < total; i++) {
        const cohort_status status = record_one(t, batch, i, err);
        if (status != COHORT_OK) {
            t->lines_lost = true;
            return status;
        }
    }
    return COHORT_OK;
}

/* ---- steps and events ---- */

cohort_status record_step(struct training *t, int64_t step, double epoch, const struct metrics *metrics, bool is_step,
                          double seconds, cohort_error *err)
{
    const struct store_step row = {.step = step,
                                   .epoch = epoch,
                                   .metrics = metrics->items,
                                   .n_metrics = metrics->count,
                                   .is_step = is_step,
                                   .evaluated = seconds};
    bool lost = false;
    if (t->store == NULL)
        return COHORT_OK;
    cohort_status status = store_commit(t->store, &row, &lost, err);
    if (lost) /* once more, for memory may be there now; without the completions it would be another step */
        t->lines_lost = true;
    take_notes(t);
    return status;
}

void record_event(struct training *t, const char *kind, const char *rule, const char *severity, const char *text,
                  const char *json)
{
    record_event_of(t, t->state.step, kind, rule, severity, text, json);
}

void record_event_of(struct training *t, int64_t step, const char *kind, const char *rule, const char *severity,
                     const char *text, const char *json)
{
    const struct store_event event = {
        .step = step, .kind = kind, .rule = rule, .severity = severity, .text = text, .json = json};
    cohort_error why = {0};
    if (t->store != NULL && store_event(t->store, &event, &why) != COHORT_OK && !t->event_failed) {
        t->event_failed = true;
        observer_message(t->observer, "note: %s", why.message);
    }
}

#include "recipe/generation_file.h"

#include "base/json_text.h"
#include "base/number.h"
#include "run/sampling_words.h"

#include <stdio.h>
#include <string.h>

static const char file_name[] = "generation_config.json";

/* Keys that are an option under its own name, or another. */
static const struct {
    const char *key, *option;
} taken[] = {{"temperature", "temperature"},
             {"top_k", "top_k"},
             {"top_p", "top_p"},
             {"min_p", "min_p"},
             {"repetition_penalty", "repetition_penalty"},
             {"max_new_tokens", "max_completion_length"},
             {"min_new_tokens", "min_tokens"}};

/* Keys that change what transformers samples and have no option, beside the value that means nothing. */
static const struct {
    const char *key;
    double neutral;
} missing[] = {{"num_beams", 1},
               {"typical_p", 1},
               {"epsilon_cutoff", 0},
               {"eta_cutoff", 0},
               {"no_repeat_ngram_size", 0},
               {"encoder_repetition_penalty", 1},
               {"penalty_alpha", 0},
               {"guidance_scale", 1},
               {"diversity_penalty", 0},
               {"suppress_tokens", 0},
               {"bad_words_ids", 0},
               {"sequence_bias", 0},
               {"begin_suppress_tokens", 0},
               {"forced_eos_token_id", 0},
               {"stop_strings", 0}};

/* A number of the file as an option's text; false: it is none. */
static bool number_text(const json_t *value, char out[NUMBER_BYTES])
{
    if (json_is_integer(value))
        return snprintf(out, NUMBER_BYTES, "%lld", (long long)json_integer_value(value)) > 0;
    if (!json_is_real(value))
        return false;
    number_write_double(json_real_value(value), out);
    return true;
}

/* What the file says of taken[i], as the option's text; false: nothing. */
static bool said(const json_t *file, size_t i, char out[NUMBER_BYTES])
{
    if (strcmp(taken[i].key, "temperature") == 0 && json_is_false(json_object_get(file, "do_sample"))) {
        memcpy(out, "0", 2);
        return true;
    }
    return number_text(json_object_get(file, taken[i].key), out);
}

static cohort_status text_of_option(const struct options *options, const char *name, struct text *out,
                                    cohort_error *err)
{
    bool there = false;
    out->length = 0;
    return options_write_value(options, name, 0, out, &there, err);
}

static bool is_same(const struct text *a, const struct text *b)
{
    double x = 0.0, y = 0.0;
    return number_read(a->data, a->length, &x) && number_read(b->data, b->length, &y) && (float)x == (float)y;
}

static cohort_status add_said(struct text *list, const char *option, const char *value, cohort_error *err)
{
    return text_printf(list, err, "%s%s %s", list->length > 0 ? ", " : "", option, value);
}

/* taken[i] into the option, *list with it where that changed something. */
static cohort_status apply(struct options *options, size_t i, const char *value, struct text *list,
                           const cohort_observer *observer, cohort_error *err)
{
    const char *name = taken[i].option;
    struct text before = {0}, after = {0};
    cohort_error refused = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(text_of_option(options, name, &before, err));
    const cohort_status set = options_suggest(options, name, value, file_name, &refused);
    if (set == COHORT_ERR_MEMORY) {
        status = error_set(err, set, "%s", refused.message);
        goto cleanup;
    }
    if (set != COHORT_OK)
        observer_message(observer, "note: %s; passed over", refused.message);
    TRY_GOTO(text_of_option(options, name, &after, err));
    if (set == COHORT_OK && !is_same(&before, &after))
        TRY_GOTO(add_said(list, name, value, err));
cleanup:
    text_free(&before);
    text_free(&after);
    return status;
}

static bool is_neutral(const json_t *value, double neutral)
{
    if (json_is_array(value))
        return json_array_size(value) == 0;
    return value == NULL || json_is_null(value) || json_is_false(value) ||
           (json_is_number(value) && json_number_value(value) == neutral);
}

static void tell_missing(const json_t *file, const cohort_observer *observer)
{
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++)
        if (!is_neutral(json_object_get(file, missing[i].key), missing[i].neutral))
            observer_message(observer, "note: %s: %s is not done here; sampling goes without it", file_name,
                             missing[i].key);
}

/* *file: NULL where there is none. */
static cohort_status read(const struct session *session, json_t **file, cohort_error *err)
{
    const struct text *text = &session->config_files.generation;
    *file = NULL;
    return text->length == 0 ? COHORT_OK
                             : json_text_parse(file, text->data, text->length, file_name, 1, JSON_TEXT_REPEATED, err);
}

cohort_status generation_file_apply(const struct session *session, struct options *options,
                                    const cohort_observer *observer, cohort_error *err)
{
    json_t *file = NULL;
    struct text list = {0};
    cohort_status status = COHORT_OK;
    if (options_choice(options, OPTION_GENERATION_CONFIG) == GENERATION_CONFIG_NONE)
        return COHORT_OK;
    TRY_GOTO(read(session, &file, err));
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        char value[NUMBER_BYTES];
        if (options_has(options, taken[i].option) && said(file, i, value))
            TRY_GOTO(apply(options, i, value, &list, observer, err));
    }
    if (json_is_number(json_object_get(file, "repetition_penalty")) &&
        !options_given(options, OPTION_REPETITION_PENALTY)) {
        char all[NUMBER_BYTES]; /* what the option can say, more than any context has */
        snprintf(all, sizeof all, "%d", 1 << 28);
        TRY_GOTO(options_suggest(options, "repetition_context", all, file_name, err));
    }
    if (list.length > 0)
        observer_message(observer, "note: as %s says: %s; options win, and --generation-config none leaves it out",
                         file_name, list.data);
    tell_missing(file, observer);
cleanup:
    json_decref(file);
    text_free(&list);
    return status;
}

cohort_status generation_file_note(const struct session *session, const struct options *options, const char *command,
                                   const cohort_observer *observer, cohort_error *err)
{
    json_t *file = NULL;
    struct text list = {0}, own = {0}, theirs = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(read(session, &file, err));
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        char value[NUMBER_BYTES];
        const char *name = taken[i].option;
        const bool length = strcmp(name, "max_completion_length") == 0; /* how a run is planned, not how it samples */
        if (length || !options_has(options, name) || options_was_given(options, name) || !said(file, i, value))
            continue;
        theirs.length = 0;
        TRY_GOTO(text_of_option(options, name, &own, err));
        TRY_GOTO(text_append(&theirs, value, strlen(value), err));
        if (!is_same(&own, &theirs))
            TRY_GOTO(text_printf(&list, err, "%s%s %s, not %s", list.length > 0 ? "; " : "", name, own.data, value));
    }
    if (list.length > 0)
        observer_message(observer, "note: %s samples by its own defaults, not as %s says: %s", command, file_name,
                         list.data);
cleanup:
    json_decref(file);
    text_free(&list);
    text_free(&own);
    text_free(&theirs);
    return status;
}

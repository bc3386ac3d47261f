/* The regex and format rewards: PCRE2 on the completion. */
#include "reward/reward_internal.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

/* TRL's think_format_reward, run by re.match with DOTALL and MULTILINE. */
static const char format_pattern[] = "^<think>(?!.*<think>)(.*?)</think>.*$";

struct pattern_state {
    bool from_rows; /* each row brings its pattern */
    bool format;
    char *text;       /* of the compiled pattern: rows of a data set mostly share one */
    pcre2_code *code; /* NULL until compiled */
    pcre2_match_data *match;
    pcre2_match_context *limits;
    bool told;
    char warning[700]; /* the first one; empty: none */
};

/* Steps of one match. One that needs more (nested repeats like (a+)+ on a text that does not match) takes longer than
 * anybody's lifetime if it is let: this many take tenths of a second. */
enum { MATCH_LIMIT = 2000000 };

static cohort_status compile(struct pattern_state *state, const char *text, cohort_error *err)
{
    if (state->code != NULL && strcmp(state->text, text) == 0)
        return COHORT_OK;
    pcre2_code_free(state->code);
    pcre2_match_data_free(state->match);
    mem_free(state->text);
    state->code = NULL;
    state->match = NULL;
    state->text = NULL;
    TRY(mem_strdup(&state->text, text, strlen(text), err));
    uint32_t flags = PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C;
    if (state->format)
        flags |= PCRE2_DOTALL | PCRE2_MULTILINE | PCRE2_ANCHORED;
    else
        flags |= PCRE2_UCP; /* \\w, \\d, \\s and \\b are of Unicode, as in Python's re */
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "regex: out of memory");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF); /* as Python's re, however PCRE2 was built */
    state->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, flags, &code, &offset, context);
    pcre2_compile_context_free(context);
    if (state->code == NULL) {
        PCRE2_UCHAR problem[200] = "";
        pcre2_get_error_message(code, problem, sizeof problem);
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "the pattern '%.200s' is not a regular expression: %s at character %zu", text,
                         (const char *)problem, (size_t)offset + 1);
    }
    (void)pcre2_jit_compile(state->code, PCRE2_JIT_COMPLETE); /* without JIT it is only slower */
    state->match = pcre2_match_data_create(1, NULL);
    return state->match != NULL ? COHORT_OK : error_set(err, COHORT_ERR_MEMORY, "regex: out of memory");
}

static cohort_status match(struct pattern_state *state, const char *name, const struct reward_row *row, double *reward,
                           cohort_error *err)
{
    PCRE2_SPTR text = (PCRE2_SPTR)row->completion;
    size_t length = row->completion_length;
    int found = pcre2_match(state->code, text, length, 0, 0, state->match, state->limits);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
        found = pcre2_match(state->code, text, length, 0, PCRE2_NO_JIT, state->match, state->limits);
    bool exceeded = found == PCRE2_ERROR_MATCHLIMIT || found == PCRE2_ERROR_DEPTHLIMIT ||
                    found == PCRE2_ERROR_HEAPLIMIT || found == PCRE2_ERROR_JIT_STACKLIMIT;
    if (exceeded && state->warning[0] == '\0')
        snprintf(state->warning, sizeof state->warning,
                 "reward '%.80s': the pattern '%.200s' takes too many steps on prompt %lld, "
                 "completion %d, which counts as no match, and so will others (this is said once); "
                 "nested repeats like (a+)+ are the usual cause: write the pattern without them",
                 name, state->text, (long long)row->prompt_index, (int)row->completion_index);
    if (found == PCRE2_ERROR_NOMATCH || found >= 0 || exceeded) {
        *reward = found >= 0 ? 1.0 : 0.0;
        return COHORT_OK;
    }
    PCRE2_UCHAR problem[200] = "";
    pcre2_get_error_message(found, problem, sizeof problem);
    return error_set(err, COHORT_ERR_REWARD, "matching the pattern '%.200s' failed: %s", state->text,
                     (const char *)problem);
}

/* Told once. */
static const char *pattern_warning(void *opaque)
{
    struct pattern_state *state = opaque;
    if (state->warning[0] == '\0' || state->told)
        return NULL;
    state->told = true;
    return state->warning;
}

static cohort_status pattern_score(void *opaque, const char *name, const struct reward_row *rows, size_t n_rows,
                                   double *rewards, cohort_error *err)
{
    struct pattern_state *state = opaque;
    for (size_t i = 0; i < n_rows; i++) {
        cohort_status status = COHORT_OK;
        if (state->from_rows) {
            const json_t *column = json_object_get(rows[i].data, "pattern");
            if (!json_is_string(column) || strlen(json_string_value(column)) != json_string_length(column))
                return error_set(err, COHORT_ERR_ARGUMENT,
                                 "reward '%s': prompt %lld has no text (without NULs) in its "
                                 "column 'pattern'; add "
                                 "one, or give --reward-pattern",
                                 name, (long long)rows[i].prompt_index);
            status = compile(state, json_string_value(column), err);
        }
        if (status == COHORT_OK)
            status = match(state, name, &rows[i], &rewards[i], err);
        if (status != COHORT_OK) {
            error_context(err, "reward '%s': prompt %lld, completion %d", name, (long long)rows[i].prompt_index,
                          (int)rows[i].completion_index);
            return status;
        }
    }
    return COHORT_OK;
}

static void pattern_destroy(void *opaque)
{
    struct pattern_state *state = opaque;
    pcre2_match_data_free(state->match);
    pcre2_match_context_free(state->limits);
    pcre2_code_free(state->code);
    mem_free(state->text);
    mem_free(state);
}

cohort_status reward_pattern_create(void **out, const char *pattern, bool format, cohort_error *err)
{
    struct pattern_state *state = NULL;
    TRY(mem_alloc(&state, 1, sizeof *state, "reward", err));
    state->format = format;
    state->from_rows = !format && pattern == NULL;
    cohort_status status = COHORT_OK;
    state->limits = pcre2_match_context_create(NULL);
    if (state->limits == NULL)
        status = error_set(err, COHORT_ERR_MEMORY, "regex: out of memory");
    else
        pcre2_set_match_limit(state->limits, MATCH_LIMIT);
    if (status == COHORT_OK && !state->from_rows)
        status = compile(state, format ? format_pattern : pattern, err);
    if (status != COHORT_OK) {
        pattern_destroy(state);
        return status;
    }
    *out = state;
    return COHORT_OK;
}

const struct reward_kind reward_kind_pattern = {
    .score = pattern_score, .destroy = pattern_destroy, .warning = pattern_warning};

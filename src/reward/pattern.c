/* The regex and format rewards: PCRE2 on the completion. */
#include "reward/reward_internal.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

/* TRL's think_format_reward, run by re.match with DOTALL and MULTILINE. */
static const char format_pattern[] = "^<think>(?!.*<think>)(.*?)</think>.*$";

struct pattern_state {
    bool from_rows; /* each row brings its pattern */
    bool format;
    char *text;       /* of the compiled pattern: rows of a data set mostly share one */
    pcre2_code *code; /* NULL until compiled */
    pcre2_match_data *match;
};

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
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "regex: out of memory");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF); /* as Python's re, however PCRE2 was built */
    state->code =
        pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, flags, &code, &offset, context);
    pcre2_compile_context_free(context);
    if (state->code == NULL) {
        PCRE2_UCHAR problem[200] = "";
        pcre2_get_error_message(code, problem, sizeof problem);
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "the pattern '%.200s' is not a regular expression: %s at character %zu",
                         text, (const char *)problem, (size_t)offset + 1);
    }
    (void)pcre2_jit_compile(state->code, PCRE2_JIT_COMPLETE); /* without JIT it is only slower */
    state->match = pcre2_match_data_create(1, NULL);
    return state->match != NULL ? COHORT_OK
                                : error_set(err, COHORT_ERR_MEMORY, "regex: out of memory");
}

static cohort_status match(struct pattern_state *state, const char *text, double *reward,
                           cohort_error *err)
{
    size_t length = strlen(text);
    int found = pcre2_match(state->code, (PCRE2_SPTR)text, length, 0, 0, state->match, NULL);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
        found =
            pcre2_match(state->code, (PCRE2_SPTR)text, length, 0, PCRE2_NO_JIT, state->match, NULL);
    if (found == PCRE2_ERROR_NOMATCH || found >= 0) {
        *reward = found >= 0 ? 1.0 : 0.0;
        return COHORT_OK;
    }
    PCRE2_UCHAR problem[200] = "";
    pcre2_get_error_message(found, problem, sizeof problem);
    return error_set(err, COHORT_ERR_REWARD,
                     "matching the pattern '%.200s' failed: %s; nested repeats like (a+)+ are the "
                     "usual cause",
                     state->text, (const char *)problem);
}

static cohort_status pattern_score(void *opaque, const char *name, const struct reward_row *rows,
                                   size_t n_rows, double *rewards, cohort_error *err)
{
    struct pattern_state *state = opaque;
    for (size_t i = 0; i < n_rows; i++) {
        cohort_status status = COHORT_OK;
        if (state->from_rows) {
            const json_t *column = json_object_get(rows[i].data, "pattern");
            if (!json_is_string(column) ||
                strlen(json_string_value(column)) != json_string_length(column))
                return error_set(err, COHORT_ERR_ARGUMENT,
                                 "reward '%s': prompt %lld has no text (without NULs) in its "
                                 "column 'pattern'; add "
                                 "one, or give --reward-pattern",
                                 name, (long long)rows[i].prompt_index);
            status = compile(state, json_string_value(column), err);
        }
        if (status == COHORT_OK)
            status = match(state, rows[i].completion, &rewards[i], err);
        if (status != COHORT_OK) {
            error_context(err, "reward '%s': prompt %lld, completion %d", name,
                          (long long)rows[i].prompt_index, (int)rows[i].completion_index);
            return status;
        }
    }
    return COHORT_OK;
}

static void pattern_destroy(void *opaque)
{
    struct pattern_state *state = opaque;
    pcre2_match_data_free(state->match);
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
    if (!state->from_rows)
        status = compile(state, format ? format_pattern : pattern, err);
    if (status != COHORT_OK) {
        pattern_destroy(state);
        return status;
    }
    *out = state;
    return COHORT_OK;
}

const struct reward_kind reward_kind_pattern = {pattern_score, pattern_destroy};

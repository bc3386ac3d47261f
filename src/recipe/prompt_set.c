/* Prompts ready to be asked: rows that were read once, and found to fit and to be scorable. */
#include "recipe/scoring.h"

#include "recipe/data_open.h"

#include <stdlib.h>
#include <string.h>

void prompt_free(struct prompt *prompt)
{
    json_decref(prompt->row);
    token_list_free(&prompt->ids);
    text_free(&prompt->text);
    memset(prompt, 0, sizeof *prompt);
}

cohort_status prompt_set_read(struct prompt_set *set, size_t row, struct prompt *prompt, cohort_error *err)
{
    char place[DATA_PLACE];
    json_decref(prompt->row);
    prompt->row = NULL;
    prompt->ids.count = 0;
    prompt->text.length = 0;
    TRY(dataset_row(&set->data, row, &prompt->row, err));
    dataset_place(&set->data, row, place);
    return row_prompt(set->session, prompt->row, place, &set->style, &prompt->ids, &prompt->text, err);
}

/* Whether the rewards can score completions of a row. */
static cohort_status check_rewards(const struct scoring *scoring, const struct prompt_set *set, size_t row,
                                   const json_t *data, cohort_error *err)
{
    char place[DATA_PLACE];
    for (int32_t f = 0; scoring != NULL && f < scoring->n; f++) {
        cohort_status status = reward_check(scoring->rewards[f], data, (int64_t)row, err);
        if (status == COHORT_OK)
            continue;
        dataset_place(&set->data, row, place);
        error_context(err, "%s", place);
        return status;
    }
    return COHORT_OK;
}

/* Reads every row once: a run does not begin with one that it could not ask or score. */
static cohort_status check_prompts(struct prompt_set *set, const struct session *session, const struct scoring *scoring,
                                   int32_t max_tokens, const struct options *options, const cohort_observer *observer,
                                   cohort_error *err)
{
    struct prompt prompt = {0};
    cohort_status status = COHORT_OK;
    set->session = session;
    set->style = row_style(options);
    set->style.asks = true;
    TRY(mem_alloc(&set->lengths, set->data.n_rows, sizeof *set->lengths, "prompts", err));
    for (size_t i = 0; i < set->data.n_rows; i++) {
        TRY_GOTO(data_report(&set->data, i, options, observer, err));
        TRY_GOTO(prompt_set_read(set, i, &prompt, err));
        TRY_GOTO(check_rewards(scoring, set, i, prompt.row, err));
        const int32_t n = prompt.ids.count > INT32_MAX ? INT32_MAX : (int32_t)prompt.ids.count;
        if (n > max_tokens) {
            char place[DATA_PLACE];
            dataset_place(&set->data, i, place);
            status = error_set(err, COHORT_ERR_FORMAT,
                               "%s: the prompt has %d tokens, at most %d fit beside the completion; "
                               "shorten it, remove the row, lower "
                               "--max-completion-length or raise --max-prompt-length",
                               place, (int)n, (int)max_tokens);
            goto cleanup;
        }
        set->lengths[i] = n;
        set->longest = n > set->longest ? n : set->longest;
    }
cleanup:
    prompt_free(&prompt);
    return status;
}

cohort_status prompt_set_load(struct prompt_set *set, const struct session *session, const struct scoring *scoring,
                              enum option_id named, size_t limit, int32_t max_tokens, const struct options *options,
                              const cohort_observer *observer, cohort_error *err)
{
    memset(set, 0, sizeof *set);
    TRY(data_open(&set->data, options, named, limit, true, observer, err));
    return check_prompts(set, session, scoring, max_tokens, options, observer, err);
}

cohort_status prompt_set_load_spec(struct prompt_set *set, const struct session *session, const struct scoring *scoring,
                                   const char *spec, size_t limit, int32_t max_tokens, const struct options *options,
                                   const cohort_observer *observer, cohort_error *err)
{
    memset(set, 0, sizeof *set);
    TRY(data_open_spec(&set->data, spec, limit, true, options, observer, err));
    return check_prompts(set, session, scoring, max_tokens, options, observer, err);
}

cohort_status prompt_set_take(struct prompt_set *set, const struct session *session, const char *const *rows,
                              size_t n_rows, int32_t max_tokens, const struct options *options, cohort_error *err)
{
    memset(set, 0, sizeof *set);
    for (size_t i = 0; i < n_rows; i++)
        TRY(dataset_add(&set->data, rows[i], strlen(rows[i]), err));
    return check_prompts(set, session, NULL, max_tokens, options, NULL, err);
}

void prompt_set_need(const struct prompt_set *set, int32_t context, int32_t max_tokens, int32_t n,
                     struct rollout_need *need)
{
    for (size_t i = 0; i < set->data.n_rows; i++) {
        const int32_t length = set->lengths[i], room = context - length;
        rollout_need_add(need, 1, length, room < max_tokens ? room : max_tokens, n);
    }
}

void prompt_set_free(struct prompt_set *set)
{
    mem_free(set->lengths);
    dataset_free(&set->data);
    memset(set, 0, sizeof *set);
}

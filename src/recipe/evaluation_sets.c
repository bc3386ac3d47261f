#include "recipe/evaluation_sets.h"

#include "base/file.h"
#include "base/number.h"
#include "reward/vote.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SETS = 256, LONGEST_NAME = 64 };

/* ---- names ---- */

/* Length of NAME in NAME=..., 0 where an item does not begin so. */
static size_t name_length(const char *item, size_t length)
{
    size_t n = 0;
    while (n < length && item[n] != '=' &&
           strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-", item[n]) != NULL &&
           item[n] != '\0')
        n++;
    return n < length && item[n] == '=' && item[0] != '.' ? n : 0;
}

/* The length of the item at spec: up to a comma without a backslash. */
static size_t item_length(const char *spec)
{
    size_t n = 0;
    while (spec[n] != '\0' && spec[n] != ',')
        n += spec[n] == '\\' && spec[n + 1] == ',' ? 2 : 1;
    return n;
}

static cohort_status exists(const char *item, size_t length, bool *there, cohort_error *err)
{
    char *path = NULL;
    *there = false;
    if (length == 0)
        return COHORT_OK;
    TRY(mem_strdup(&path, item, length, err));
    const cohort_status status = file_exists(path, there, err);
    mem_free(path);
    return status;
}

static cohort_status add_set(struct evaluation_sets *sets, const char *name, size_t length, const char *spec,
                             cohort_error *err)
{
    if (length > LONGEST_NAME)
        return error_set(err, COHORT_ERR_ARGUMENT, "'%s': the name of a set has at most %d characters", spec,
                         LONGEST_NAME);
    for (size_t i = 0; i < sets->n; i++)
        if (sets->items[i].name != NULL && strlen(sets->items[i].name) == length &&
            memcmp(sets->items[i].name, name, length) == 0)
            return error_set(err, COHORT_ERR_ARGUMENT, "'%s': two sets are called %s; give each a name of its own",
                             spec, sets->items[i].name);
    if (sets->n == MOST_SETS)
        return error_set(err, COHORT_ERR_ARGUMENT, "'%.200s': more than %d sets", spec, MOST_SETS);
    TRY(mem_grow(&sets->items, &sets->capacity, sets->n + 1, sizeof *sets->items, "evaluation sets", err));
    struct evaluation_set *set = &sets->items[sets->n++];
    memset(set, 0, sizeof *set);
    return length == 0 ? COHORT_OK : mem_strdup(&set->name, name, length, err);
}

/* Gives the last set, if there is one, the items that were collected for it. */
static cohort_status end_set(struct evaluation_sets *sets, struct text *items, cohort_error *err)
{
    if (sets->n == 0)
        return COHORT_OK;
    TRY(mem_strdup(&sets->items[sets->n - 1].spec, items->data, items->length, err));
    items->length = 0;
    return COHORT_OK;
}

cohort_status evaluation_sets_split(struct evaluation_sets *sets, const char *spec, cohort_error *err)
{
    struct text items = {0};
    bool whole = false;
    cohort_status status = COHORT_OK;
    memset(sets, 0, sizeof *sets);
    TRY(exists(spec, strlen(spec), &whole, err));
    for (const char *at = spec;; at++) {
        const size_t length = whole ? strlen(spec) : item_length(at);
        size_t name = whole ? 0 : name_length(at, length);
        bool file = false;
        if (name > 0)
            TRY_GOTO(exists(at, length, &file, err));
        name = file ? 0 : name;
        if (name > 0 && sets->n > 0 && sets->items[0].name == NULL) {
            status = error_set(err, COHORT_ERR_ARGUMENT,
                               "'%s': %.*s has a name and what stands before it has none; write NAME=FILE for each set",
                               spec, (int)length, at);
            goto cleanup;
        }
        if (name > 0 || sets->n == 0) {
            TRY_GOTO(end_set(sets, &items, err));
            TRY_GOTO(add_set(sets, at, name, spec, err));
        }
        const size_t skip = name > 0 ? name + 1 : 0;
        if (name > 0 && length == skip) {
            status = error_set(err, COHORT_ERR_ARGUMENT, "'%s': no file follows %.*s", spec, (int)length, at);
            goto cleanup;
        }
        if (items.length > 0)
            TRY_GOTO(text_append(&items, ",", 1, err));
        TRY_GOTO(text_append(&items, at + skip, length - skip, err));
        at += length;
        if (*at == '\0')
            break;
    }
    TRY_GOTO(end_set(sets, &items, err));
cleanup:
    text_free(&items);
    return status;
}

/* ---- rows ---- */

cohort_status evaluation_sets_load(struct evaluation_sets *sets, const struct evaluation_load *load, cohort_error *err)
{
    TRY(evaluation_sets_split(sets, load->spec, err));
    for (size_t i = 0; i < sets->n; i++) {
        struct prompt_set *prompts = &sets->items[i].prompts;
        TRY(prompt_set_load_spec(prompts, load->session, load->scoring, sets->items[i].spec, load->limit,
                                 load->max_tokens, load->options, load->observer, err));
        if (prompts->data.n_rows > (size_t)(INT32_MAX / load->n))
            return error_set(
                err, COHORT_ERR_ARGUMENT,
                "%s: %d completions for each of %zu prompts: at most %d in all; ask for fewer, or lower --eval-limit",
                sets->items[i].spec, (int)load->n, prompts->data.n_rows, INT32_MAX);
        sets->n_prompts += prompts->data.n_rows;
        sets->longest = prompts->longest > sets->longest ? prompts->longest : sets->longest;
    }
    return COHORT_OK;
}

void evaluation_sets_free(struct evaluation_sets *sets)
{
    for (size_t i = 0; i < sets->n; i++) {
        prompt_set_free(&sets->items[i].prompts);
        mem_free(sets->items[i].name);
        mem_free(sets->items[i].spec);
    }
    mem_free(sets->items);
    memset(sets, 0, sizeof *sets);
}

/* ---- what passes ---- */

/* The reward that pass_reward names; without it the first that judges answers, else the first. */
static cohort_status find_reward(struct evaluation_judge *judge, const struct scoring *scoring,
                                 const struct options *options, cohort_error *err)
{
    const char *name = options_string(options, OPTION_PASS_REWARD);
    if (scoring->n == 0)
        return name == NULL ? COHORT_OK
                            : error_set(err, COHORT_ERR_ARGUMENT,
                                        "--pass-reward: there is no reward, and so none called '%s'; name it with "
                                        "--reward too",
                                        name);
    for (int32_t f = scoring->n - 1; f >= 0; f--)
        if (name == NULL ? reward_judges_answers(scoring->rewards[f]) : strcmp(scoring->names[f], name) == 0)
            judge->reward = f;
    if (name != NULL && strcmp(scoring->names[judge->reward], name) != 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "--pass-reward: no reward is called '%s'; the first is %s", name,
                         scoring->names[0]);
    judge->votes = reward_judges_answers(scoring->rewards[judge->reward]);
    return COHORT_OK;
}

static int rising(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

/* Those of eval_k; without it the powers of two below n, and n. */
static cohort_status read_k(struct evaluation_judge *judge, int32_t n, const struct options *options, cohort_error *err)
{
    const size_t given = options_list_count(options, OPTION_EVAL_K);
    size_t powers = 1;
    for (int32_t k = 1; k<n; k = k> n / 2 ? n : 2 * k)
        powers++;
    TRY(mem_alloc(&judge->k, given > 0 ? given : powers, sizeof *judge->k, "k of pass@k", err));
    for (int32_t k = 1; given == 0 && judge->n_k<powers; k = k> n / 2 ? n : 2 * k)
        judge->k[judge->n_k++] = k;
    for (size_t i = 0; i < given; i++) {
        const char *item = options_list_item(options, OPTION_EVAL_K, i);
        double k = 0.0;
        if (!number_read(item, strlen(item), &k) || k != floor(k))
            return error_set(err, COHORT_ERR_ARGUMENT, "--eval-k: '%s' is no whole number", item);
        if (k > (double)n)
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "--eval-k %s needs as many completions of each prompt, and there are %d: raise --n (eval) "
                             "or --num-generations-eval (grpo)",
                             item, (int)n);
        judge->k[judge->n_k++] = (int32_t)k;
    }
    qsort(judge->k, judge->n_k, sizeof *judge->k, rising);
    return COHORT_OK;
}

cohort_status evaluation_judge_open(struct evaluation_judge *judge, const struct scoring *scoring, int32_t n,
                                    const struct options *options, cohort_error *err)
{
    *judge = (struct evaluation_judge){.threshold = options_float(options, OPTION_PASS_THRESHOLD)};
    TRY(find_reward(judge, scoring, options, err));
    return read_k(judge, n, options, err);
}

void evaluation_judge_close(struct evaluation_judge *judge)
{
    mem_free(judge->k);
    memset(judge, 0, sizeof *judge);
}

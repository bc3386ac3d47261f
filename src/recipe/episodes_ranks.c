/* Episodes on several ranks: each has the environment's programs, and the episodes of the prompts that it draws of. What
 * seeds, prompts and programs see of an episode does not depend on the rank. */
#include "recipe/episodes_internal.h"

#include "base/hash.h"
#include "base/json_text.h"

#include <math.h>
#include <string.h>

/* What the programs said of themselves. */
struct kind {
    bool observes, is_tools, rewards;
    char tools[HASH_HEX];
};

static cohort_status kind_of(const struct environment *environment, struct kind *kind, cohort_error *err)
{
    struct text text = {0};
    struct hash hash;
    const json_t *tools = environment_tools(environment);
    memset(kind, 0, sizeof *kind);
    kind->observes = environment_observes(environment);
    kind->is_tools = environment_is_tools(environment);
    kind->rewards = environment_rewards(environment);
    if (tools != NULL)
        TRY(json_text_write(tools, JSON_COMPACT, &text, err));
    hash_begin(&hash);
    hash_add_text(&hash, text.data == NULL ? "" : text.data, text.length);
    hash_end(&hash, kind->tools);
    text_free(&text);
    return COHORT_OK;
}

cohort_status episodes_compare(const struct episodes *e, cohort_error *err)
{
    const int32_t count = ranks_count(e->ranks);
    struct kind own, *all = NULL;
    cohort_status status = COHORT_OK;
    if (count == 1)
        return COHORT_OK;
    TRY(kind_of(e->environment, &own, err));
    TRY(mem_alloc(&all, (size_t)count, sizeof *all, "ranks", err));
    TRY_GOTO(ranks_gather(e->ranks, &own, sizeof own, all, err));
    for (int32_t r = 1; r < count && status == COHORT_OK; r++)
        if (memcmp(&all[r], &all[0], sizeof *all) != 0)
            status =
                error_set(err, COHORT_ERR_STATE,
                          "environment '%.200s': on rank %d (%s) it has other tools, rewards or observations than on "
                          "rank 0 (%s); start the same program on all",
                          e->label, (int)r, e->ranks->hosts[r], e->ranks->hosts[0]);
    if (status != COHORT_OK)
        e->ranks->agreed = true; /* all see it */
cleanup:
    mem_free(all);
    return status;
}

cohort_status episodes_deal(struct episodes *e, const struct episodes_start *start, cohort_error *err)
{
    TRY(mem_alloc(&e->mine, (size_t)start->n_prompts, sizeof *e->mine, "episodes", err));
    return grpo_rollout_deal(e->ranks, start->expected, start->n_prompts, e->mine, err);
}

/* ---- Prompts ---- */

static cohort_status pack_prompt(const struct prompt *prompt, int32_t p, struct text *out, cohort_error *err)
{
    const uint64_t sizes[] = {(uint64_t)p, prompt->ids.count, prompt->text.length};
    TRY(text_append(out, (const char *)sizes, sizeof sizes, err));
    TRY(text_append(out, (const char *)prompt->ids.ids, prompt->ids.count * sizeof *prompt->ids.ids, err));
    return text_append(out, prompt->text.data, prompt->text.length, err);
}

/* Reads a prompt at *at, which moves behind it. */
static cohort_status unpack_prompt(const struct text *bytes, size_t *at, struct prompt *prompts, int32_t n,
                                   cohort_error *err)
{
    uint64_t sizes[3] = {UINT64_MAX};
    if (bytes->length - *at >= sizeof sizes)
        memcpy(sizes, bytes->data + *at, sizeof sizes);
    const size_t left = sizes[0] < (uint64_t)n ? bytes->length - *at - sizeof sizes : 0;
    struct prompt *prompt = &prompts[sizes[0] < (uint64_t)n ? sizes[0] : 0];
    if (sizes[0] >= (uint64_t)n || sizes[1] > left / sizeof *prompt->ids.ids ||
        sizes[2] > left - sizes[1] * sizeof *prompt->ids.ids)
        return error_set(err, COHORT_ERR_INTERNAL, "the prompts of another rank end within one");
    *at += sizeof sizes;
    prompt->ids.count = 0;
    prompt->text.length = 0;
    TRY(mem_grow(&prompt->ids.ids, &prompt->ids.capacity, (size_t)sizes[1], sizeof *prompt->ids.ids, "prompt", err));
    prompt->ids.count = (size_t)sizes[1];
    memcpy(prompt->ids.ids, bytes->data + *at, prompt->ids.count * sizeof *prompt->ids.ids);
    *at += prompt->ids.count * sizeof *prompt->ids.ids;
    TRY(text_append(&prompt->text, bytes->data + *at, (size_t)sizes[2], err));
    *at += (size_t)sizes[2];
    return COHORT_OK;
}

cohort_status episodes_share_prompts(const struct episodes *e, const struct episodes_start *start, cohort_error *err)
{
    struct text own = {0}, *all = NULL;
    cohort_status status = COHORT_OK;
    if (ranks_count(e->ranks) == 1 || start->prompts == NULL)
        return COHORT_OK;
    for (int32_t p = 0; p < start->n_prompts; p++)
        if (e->mine[p])
            TRY_GOTO(pack_prompt(&start->prompts[p], p, &own, err));
    TRY_GOTO(ranks_gather_texts(e->ranks, &own, &all, err));
    for (int32_t r = 0; r < ranks_count(e->ranks); r++)
        for (size_t at = 0; r != ranks_rank(e->ranks) && at < all[r].length;)
            TRY_GOTO(unpack_prompt(&all[r], &at, start->prompts, start->n_prompts, err));
cleanup:
    text_free(&own);
    ranks_texts_free(e->ranks, all);
    return status;
}

/* ---- What programs say ---- */

void episodes_tell(void *episodes, const char *line)
{
    enum { MOST_BYTES = 1 << 16 }; /* of a rollout */
    struct episodes *e = episodes;
    if (ranks_rank(e->ranks) == 0)
        observer_message(e->observer, "%s", line);
    else if (e->said.length < MOST_BYTES) /* a line that finds no memory is lost */
        (void)text_printf(&e->said, NULL, "%s\n", line);
}

cohort_status episodes_share_words(struct episodes *e, cohort_error *err)
{
    struct text *all = NULL;
    cohort_status status = COHORT_OK;
    if (ranks_count(e->ranks) == 1)
        return COHORT_OK;
    TRY_GOTO(ranks_gather_texts(e->ranks, &e->said, &all, err));
    text_free(&e->said);
    for (int32_t r = 1; ranks_rank(e->ranks) == 0 && r < ranks_count(e->ranks); r++)
        for (size_t at = 0, length; at < all[r].length; at += length + 1) {
            length = strcspn(all[r].data + at, "\n");
            observer_message(e->observer, "rank %d (%s): %.*s", (int)r, e->ranks->hosts[r], (int)length,
                             all[r].data + at);
        }
cleanup:
    ranks_texts_free(e->ranks, all);
    return status;
}

/* ---- Figures ---- */

cohort_status episodes_share_figures(const struct episodes *e, struct episodes_figures *figures, cohort_error *err)
{
    const int32_t count = ranks_count(e->ranks);
    struct episodes_figures *all = NULL;
    if (count == 1)
        return COHORT_OK;
    TRY(mem_alloc(&all, (size_t)count, sizeof *all, "figures", err));
    const cohort_status status = ranks_gather(e->ranks, figures, sizeof *figures, all, err);
    *figures = all[0];
    for (int32_t r = 1; r < count; r++) {
        figures->turns += all[r].turns;
        figures->waiting += all[r].waiting;
        figures->waited += all[r].waited;
        figures->late += all[r].late;
        figures->deaths += all[r].deaths;
        figures->tokens += all[r].tokens;
        figures->steps += all[r].steps;
        figures->set_back += all[r].set_back;
        figures->latency_p50 = fmax(figures->latency_p50, all[r].latency_p50);
        figures->latency_p99 = fmax(figures->latency_p99, all[r].latency_p99);
        figures->seconds += all[r].seconds;
        figures->single_seconds += all[r].single_seconds;
    }
    mem_free(all);
    return status;
}

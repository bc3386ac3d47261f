/* What the ranks of a run do together beside its steps (ranks/ranks.h). Rank 0 decides what only it can know (what lies in the
 * folder, what is asked from outside) and the others follow. */
#include "recipe/training.h"

#include "base/number.h"
#include "recipe/rank_inputs.h"
#include "recipe/shard_list.h"
#include "train/lanes.h"

#include <stdio.h>
#include <string.h>

/* ---- Lanes ---- */

static int64_t power_of_two(int64_t n)
{
    int64_t power = 1;
    while (power < n)
        power *= 2;
    return power;
}

/* What a checkpoint's run has; earlier versions had one lane, and did not say so. */
static cohort_status lanes_before(const char *dir, int64_t *lanes, cohort_error *err)
{
    static const char KEY[] = "gradient_lanes: ";
    struct text yaml = {0};
    char *path = NULL;
    cohort_status status = COHORT_OK;
    *lanes = 1;
    TRY_GOTO(file_join(&path, dir, "trainer/options.yaml", err));
    TRY_GOTO(file_read(path, 1 << 20, &yaml, err));
    const char *at = strstr(yaml.data, KEY);
    if (at != NULL && (at == yaml.data || at[-1] == '\n') &&
        !number_read_integer(at + sizeof KEY - 1, strcspn(at + sizeof KEY - 1, "\n"), lanes))
        status = error_set(err, COHORT_ERR_FORMAT, "%s: gradient_lanes is no number; the file is damaged", path);
cleanup:
    text_free(&yaml);
    mem_free(path);
    return status;
}

static cohort_status choose_lanes(struct training *t, int64_t *lanes, cohort_error *err)
{
    char text[24];
    *lanes = options_int(t->options, OPTION_GRADIENT_LANES);
    if (*lanes != power_of_two(*lanes) && *lanes != 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "--gradient-lanes %lld: expected a power of two (1, 2, 4, ...), or 0 for as many as ranks",
                         (long long)*lanes);
    if (*lanes == 0 && t->resume_dir != NULL)
        TRY(lanes_before(t->resume_dir, lanes, err));
    else if (*lanes == 0)
        *lanes = power_of_two(ranks_count(t->ranks));
    snprintf(text, sizeof text, "%lld", (long long)*lanes);
    return options_set(t->options, "gradient_lanes", text, "the number of ranks", err);
}

/* Where every rank has a GPU, what they exchange goes from one to the other. */
static cohort_status open_device(struct training *t, cohort_error *err)
{
    struct text note = {0};
    const cohort_status status = ranks_open_device(t->ranks, t->session.backend->gpu, &note, err);
    if (note.length > 0)
        observer_notes(t->observer, &note);
    text_free(&note);
    return status;
}

#define WORD(id, word) SHARD_##id,
enum shard { SHARD_LIST(WORD) };
#undef WORD

/* Whether the weights are divided, which one rank has nothing to do for. */
static cohort_status choose_shard(const struct training *t, bool *weights, cohort_error *err)
{
    *weights = false;
    if ((options_command(t->command) & (FOR_SFT | FOR_GROUPS)) == 0 || ranks_count(t->ranks) == 1 ||
        options_choice(t->options, OPTION_SHARD) != SHARD_WEIGHTS)
        return COHORT_OK;
    if (t->session.model->adapter != NULL)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "--shard weights is for weights that train: beside an adapter each rank has them whole "
                         "(--shard state)");
    if (t->session.model->config.experts.n > 0)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "--shard weights: %s has experts, whose weights each rank has whole (--shard state)",
                         t->session.dir);
    if ((options_command(t->command) & FOR_GROUPS) != 0 && options_bool(t->options, OPTION_SYNC_REF_MODEL))
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "--sync-ref-model mixes whole models: expected --shard state, where each rank has them");
    *weights = true;
    return COHORT_OK;
}

cohort_status training_join(struct training *t, cohort_error *err)
{
    int64_t lanes = 1;
    TRY(choose_lanes(t, &lanes, err));
    if (lanes > MOST_LANES)
        return error_set(err, COHORT_ERR_ARGUMENT, "--gradient-lanes %lld: there are %d at most", (long long)lanes,
                         MOST_LANES);
    TRY(open_device(t, err));
    struct param_share share = {.ranks = t->ranks,
                                .rank = ranks_rank(t->ranks),
                                .count = ranks_count(t->ranks),
                                .lanes = (int32_t)lanes,
                                .overlaps = ranks_device(t->ranks)};
    TRY(choose_shard(t, &share.weights, err));
    lanes_plan(&share);
    param_set_share(t->session.model->trained, &share);
    if (ranks_count(t->ranks) > 1)
        observer_message(t->observer, "%d ranks, %d gradient lane%s", (int)ranks_count(t->ranks), (int)lanes,
                         lanes == 1 ? "" : "s");
    return COHORT_OK;
}

/* ---- Agreement ---- */

cohort_status training_agree(struct training *t, cohort_status status, cohort_error *err)
{
    return ranks_agree(t->ranks, status, err, err);
}

cohort_status training_share_flag(struct training *t, bool *flag, cohort_error *err)
{
    return ranks_broadcast(t->ranks, 0, flag, sizeof *flag, err);
}

cohort_status training_share_text(struct training *t, char **shared, cohort_error *err)
{
    struct text text = {0};
    bool there = *shared != NULL;
    cohort_status status = COHORT_OK;
    if (ranks_count(t->ranks) == 1)
        return COHORT_OK;
    TRY(training_share_flag(t, &there, err));
    if (!there)
        return COHORT_OK;
    if (training_writes(t) && *shared != NULL)
        TRY_GOTO(text_append(&text, *shared, strlen(*shared), err));
    TRY_GOTO(ranks_broadcast_text(t->ranks, 0, &text, err));
    if (!training_writes(t))
        TRY_GOTO(mem_strdup(shared, text.data, text.length, err));
cleanup:
    text_free(&text);
    return status;
}

cohort_status training_share_metrics(struct training *t, struct metrics *metrics, cohort_error *err)
{
    struct text text = {0};
    cohort_status status = COHORT_OK;
    if (ranks_count(t->ranks) == 1)
        return COHORT_OK;
    for (size_t i = 0; training_writes(t) && i < metrics->count; i++) { /* name, NUL, value */
        const cohort_metric *m = &metrics->items[i];
        TRY_GOTO(text_append(&text, m->name, strlen(m->name) + 1, err));
        TRY_GOTO(text_append(&text, (const char *)&m->value, sizeof m->value, err));
    }
    TRY_GOTO(ranks_broadcast_text(t->ranks, 0, &text, err));
    if (!training_writes(t))
        metrics_free(metrics);
    for (size_t at = 0; !training_writes(t) && at < text.length;) {
        const size_t length = strlen(text.data + at) + 1;
        double value = 0.0;
        memcpy(&value, text.data + at + length, sizeof value);
        metrics_set(metrics, text.data + at, value);
        at += length + sizeof value;
    }
cleanup:
    text_free(&text);
    return status;
}

/* ---- The same run ---- */

cohort_status training_compare(struct training *t, cohort_error *err)
{
    return rank_inputs_compare(t->ranks, t->options, t->session.backend, &t->inputs, err);
}

#include "train/routing.h"

#include "backend/backend.h"
#include "backend/expert_ops.h"
#include "base/memory.h"

#include <assert.h>
#include <math.h>
#include <string.h>

void routing_free(struct routing *routing)
{
    mem_free(routing->sums);
    mem_free(routing->micro_sums);
    routing->sums = routing->micro_sums = NULL;
}

double routing_loss(const struct routing *routing)
{
    return routing->sums != NULL && routing->aux_coef > 0.0 ? routing->aux_coef * routing->aux_loss : 0.0;
}

static struct expert_work *work_of(struct tree_runner *runner) { return &runner->decoder.experts; }

cohort_status routing_begin(struct routing *routing, struct tree_runner *runner, struct model *model, cohort_error *err)
{
    struct backend *be = model->backend;
    const size_t n = expert_sums_size(&model->config);
    if (n == 0)
        return COHORT_OK;
    if (routing->sums == NULL)
        TRY(mem_alloc(&routing->sums, n, sizeof *routing->sums, "sums of the routers", err));
    if (routing->micro_sums == NULL)
        TRY(mem_alloc(&routing->micro_sums, n, sizeof *routing->micro_sums, "sums of the routers", err));
    be->ops->zero(be, work_of(runner)->sums, n * sizeof *routing->sums);
    memset(routing->sums, 0, n * sizeof *routing->sums);
    routing->aux_loss = (double)NAN;
    routing->counts = routing->micro_counts = (struct routing_counts){0};
    work_of(runner)->on.sums = true;
    return COHORT_OK;
}

/* ---- The auxiliary loss ---- */

static void count_routes(const struct model *model, const uint16_t *routes, int64_t rows, double times, double *taken)
{
    const int64_t n = rows * route_width(&model->config);
    for (int64_t i = 0; i < n; i++)
        taken[routes[i]] += times;
}

/* How often each expert is chosen in the step, from what was recorded, and the rows that count. */
static double count_recorded(const struct model *model, const struct tree *trees, int32_t n_trees, double *taken)
{
    double rows = 0.0;
    for (int32_t t = 0; t < n_trees; t++) {
        const struct tree *tree = &trees[t];
        count_routes(model, tree->prompt_routes, tree->n_prompt, tree->n_completions, taken);
        rows += (double)tree->n_prompt * tree->n_completions;
        for (int32_t c = 0; c < tree->n_completions; c++) {
            const int32_t fed = completion_fed(&tree->completions[c]);
            count_routes(model, tree->completions[c].routes, fed, 1.0, taken);
            rows += fed;
        }
    }
    return rows;
}

/* The sums of all layers together: [2 * E + 2]. */
static void add_layers(const struct model *model, const double *sums, double *total)
{
    const int32_t width = 2 * model->config.experts.n + 2;
    memset(total, 0, (size_t)width * sizeof *total);
    for (int32_t l = 0; l < model_config_n_sparse(&model->config); l++)
        for (int32_t i = 0; i < width; i++)
            total[i] += sums[(int64_t)l * width + i];
}

/* What the device counted since its sums were 0. */
static void fetch_sums(struct routing *routing, struct tree_runner *runner, const struct model *model)
{
    model->backend->ops->download(model->backend, routing->micro_sums, work_of(runner)->sums,
                                  expert_sums_size(&model->config) * sizeof *routing->micro_sums);
}

static void forget_sums(struct tree_runner *runner, const struct model *model)
{
    model->backend->ops->zero(model->backend, work_of(runner)->sums, expert_sums_size(&model->config) * sizeof(double));
}

/* One more forward of every micro-batch, which ranks take in turn, and which leaves its sums on the device. */
static cohort_status forward_all(struct tree_runner *runner, struct model *model, const struct tree *trees,
                                 cohort_error *err)
{
    const struct param_share *share = &model->trained->training.share;
    for (int32_t m = share->rank; m < runner->packing.n_micro; m += share->count) {
        TRY(packed_build(&runner->packed, trees, &runner->packing, m, err));
        decoder_forward(model, &runner->decoder, &runner->packed.batch, NULL);
        TRY(backend_check(model->backend, err));
    }
    return COHORT_OK;
}

/* The sums of all layers of what all ranks forwarded: whole numbers, but for those of probabilities, which nobody reads. */
static cohort_status add_ranks(const struct param_share *share, double *total, int32_t width, cohort_error *err)
{
    double *all = NULL;
    if (share->count == 1)
        return COHORT_OK;
    TRY(mem_alloc(&all, (size_t)share->count * (size_t)width, sizeof *all, "sums of the routers", err));
    const cohort_status status = ranks_gather(share->ranks, total, (size_t)width * sizeof *total, all, err);
    memset(total, 0, (size_t)width * sizeof *total);
    for (int32_t r = 0; r < share->count; r++)
        for (int32_t i = 0; i < width; i++)
            total[i] += all[(int64_t)r * width + i];
    mem_free(all);
    return status;
}

/* aux[e] = coef * E * f_e / N: what p_e of a row adds to the loss. rows: those that count, of one layer. */
static cohort_status upload_aux(const struct routing *routing, struct tree_runner *runner, struct model *model,
                                const double *taken, double rows, cohort_error *err)
{
    const int32_t E = model->config.experts.n;
    const double N = rows * model_config_n_sparse(&model->config);
    float *aux = NULL;
    TRY(mem_alloc(&aux, (size_t)E, sizeof *aux, "auxiliary loss", err));
    for (int32_t e = 0; e < E; e++)
        aux[e] = (float)(routing->aux_coef * E * taken[e] / (N * N));
    model->backend->ops->upload(model->backend, work_of(runner)->aux, aux, (size_t)E * sizeof *aux);
    mem_free(aux);
    return COHORT_OK;
}

cohort_status routing_prepare(struct routing *routing, struct tree_runner *runner, struct model *model,
                              const struct tree *trees, int32_t n_trees, bool routed, cohort_error *err)
{
    const int32_t E = model->config.experts.n;
    const bool forwarded = runner->packing.n_micro == 1;
    double *taken = NULL;
    cohort_status status = COHORT_OK;
    if (routing->sums == NULL || routing->aux_coef == 0.0)
        return COHORT_OK;
    TRY(mem_alloc(&taken, 2 * (size_t)E + 2, sizeof *taken, "auxiliary loss", err));
    double rows = 0.0;
    if (routed) {
        rows = count_recorded(model, trees, n_trees, taken);
    } else {
        if (!forwarded)
            TRY_GOTO(forward_all(runner, model, trees, err));
        fetch_sums(routing, runner, model);
        add_layers(model, routing->micro_sums, taken);
        if (!forwarded) /* the forwards that follow add the same again */
            forget_sums(runner, model);
        if (!forwarded)
            TRY_GOTO(add_ranks(&model->trained->training.share, taken, 2 * E + 2, err));
        rows = taken[2 * E + 1] / model_config_n_sparse(&model->config);
    }
    TRY_GOTO(upload_aux(routing, runner, model, taken, rows, err));
    work_of(runner)->on.aux = true;
cleanup:
    mem_free(taken);
    return status;
}

/* ---- Where tokens went ---- */

cohort_status routing_compare(struct routing *routing, struct tree_runner *runner, struct model *model, int32_t micro,
                              const bool *fresh, cohort_error *err)
{
    const struct batch *batch = &runner->packed.batch;
    int32_t *differ = NULL;
    if (routing->sums == NULL || fresh == NULL || !work_of(runner)->on.compare)
        return COHORT_OK;
    TRY(mem_alloc(&differ, (size_t)batch->n_tokens, sizeof *differ, "routes", err));
    model->backend->ops->download(model->backend, differ, work_of(runner)->differ,
                                  (size_t)batch->n_tokens * sizeof *differ);
    for (int32_t s = 0; s < batch->n_seqs; s++) {
        const struct attention_seq *seq = &batch->seqs[s];
        const int32_t tree = runner->packing.slices[runner->packing.slice_begin[micro] + seq->tree].tree;
        for (int32_t t = seq->query_row; t < seq->query_row + seq->n_queries; t++) {
            if (batch->routes[(int64_t)t * batch->route_width] == ROUTE_UNKNOWN)
                continue;
            routing->micro_counts.differ += fresh[tree] && differ[t] > 0;
            routing->micro_counts.moved += !fresh[tree] && differ[t] > 0;
            routing->micro_counts.differ_of += fresh[tree];
            routing->micro_counts.moved_of += !fresh[tree];
        }
    }
    mem_free(differ);
    return COHORT_OK;
}

static void add_micro(struct routing *routing, const struct model *model)
{
    const size_t n = expert_sums_size(&model->config);
    for (size_t i = 0; i < n; i++)
        routing->sums[i] += routing->micro_sums[i];
    routing->counts.differ += routing->micro_counts.differ;
    routing->counts.moved += routing->micro_counts.moved;
    routing->counts.differ_of += routing->micro_counts.differ_of;
    routing->counts.moved_of += routing->micro_counts.moved_of;
    routing->micro_counts = (struct routing_counts){0};
}

cohort_status routing_keep(struct routing *routing, struct tree_runner *runner, const struct model *model,
                           struct lanes *lanes, cohort_error *err)
{
    if (routing->sums == NULL)
        return COHORT_OK;
    fetch_sums(routing, runner, model);
    forget_sums(runner, model);
    TRY(backend_check(model->backend, err));
    if (lanes_shared(lanes)) {
        TRY(lanes_keep(lanes, &routing->micro_counts, sizeof routing->micro_counts, err));
        TRY(lanes_keep(lanes, routing->micro_sums, expert_sums_size(&model->config) * sizeof(double), err));
        routing->micro_counts = (struct routing_counts){0};
    } else {
        add_micro(routing, model);
    }
    return COHORT_OK;
}

cohort_status routing_take(struct routing *routing, const struct model *model, struct lanes *lanes, int32_t m,
                           cohort_error *err)
{
    if (routing->sums == NULL)
        return COHORT_OK;
    TRY(lanes_take(lanes, m, &routing->micro_counts, sizeof routing->micro_counts, err));
    TRY(lanes_take(lanes, m, routing->micro_sums, expert_sums_size(&model->config) * sizeof(double), err));
    add_micro(routing, model);
    return COHORT_OK;
}

/* The busiest expert of any layer, as a multiple of the even load, and the mean entropy of the routers. */
static void set_metrics(const struct routing *routing, const struct model *model, struct metrics *metrics)
{
    const int32_t E = model->config.experts.n, k = model->config.experts.chosen, width = 2 * E + 2;
    double busiest = 0.0, idlest = INFINITY, entropy = 0.0, counts = 0.0;
    for (int32_t l = 0; l < model_config_n_sparse(&model->config); l++) {
        const double *sums = routing->sums + (int64_t)l * width, even = sums[2 * E + 1] * k / E;
        for (int32_t e = 0; e < E; e++) {
            busiest = fmax(busiest, sums[e] / even);
            idlest = fmin(idlest, sums[e] / even);
        }
        entropy += sums[2 * E];
        counts += sums[2 * E + 1];
    }
    metrics_set(metrics, "experts/load_max", busiest);
    metrics_set(metrics, "experts/load_min", idlest);
    metrics_set(metrics, "experts/router_entropy", entropy / counts);
    metrics_set(metrics, "aux_loss", routing->aux_loss);
    if (routing->counts.differ_of > 0)
        metrics_set(metrics, "sampling/experts_differ", (double)routing->counts.differ);
    if (routing->counts.moved_of > 0)
        metrics_set(metrics, "experts/moved", (double)routing->counts.moved / (double)routing->counts.moved_of);
}

cohort_status routing_end(struct routing *routing, struct tree_runner *runner, struct model *model,
                          struct metrics *metrics, cohort_error *err)
{
    const int32_t E = model->config.experts.n;
    double *total = NULL;
    if (routing->sums == NULL)
        return COHORT_OK;
    work_of(runner)->on = (struct expert_switches){0};
    TRY(mem_alloc(&total, 2 * (size_t)E + 2, sizeof *total, "auxiliary loss", err));
    add_layers(model, routing->sums, total);
    routing->aux_loss = 0.0;
    for (int32_t e = 0; e < E; e++)
        routing->aux_loss += E * (total[e] / total[2 * E + 1]) * (total[E + e] / total[2 * E + 1]);
    mem_free(total);
    set_metrics(routing, model, metrics);
    return COHORT_OK;
}

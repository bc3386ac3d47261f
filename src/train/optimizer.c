#include "train/optimizer_internal.h"

#include "model/param_shard.h"

#include <math.h>
#include <string.h>

static const char *const names[] = {
#define NAME(id, name) name,
    OPTIMIZER_LIST(NAME)
#undef NAME
};

/* ---- What is kept ---- */

enum {
    LEAST_8BIT = 4096, /* elements: smaller tensors keep their moments whole, as bitsandbytes has it */
    BOOK = 256
};

static unsigned keeps_of(const struct optimizer *o, const struct param *param)
{
    const unsigned adamw = PARAM_KEEPS(EXP_AVG) | PARAM_KEEPS(EXP_AVG_SQ);
    const unsigned ema = o->ema_decay > 0.0 ? PARAM_KEEPS(EMA) : 0;
    switch (o->type) {
    case OPTIMIZER_ADAMW: return ema | adamw;
    case OPTIMIZER_ADAMW_8BIT:
        return ema | (param->count < LEAST_8BIT || param->kind == PARAM_EMBEDDING
                          ? adamw
                          : PARAM_KEEPS(STATE1) | PARAM_KEEPS(STATE2) | PARAM_KEEPS(ABSMAX1) | PARAM_KEEPS(ABSMAX2));
    case OPTIMIZER_MUON: return ema | (param->kind == PARAM_MATRIX ? PARAM_KEEPS(MOMENTUM) : adamw);
    case OPTIMIZER_SGD: return ema | (o->arguments[OPTIMIZER_MOMENTUM] > 0.0 ? PARAM_KEEPS(MOMENTUM) : 0);
    case OPTIMIZER_ADAFACTOR:
        return ema | (o->given[OPTIMIZER_BETA1] ? PARAM_KEEPS(MOMENTUM) : 0) |
               (param->rank > 1 ? PARAM_KEEPS(ROW) | PARAM_KEEPS(COLUMN) : PARAM_KEEPS(SQUARES));
    case OPTIMIZER_LION: return ema | PARAM_KEEPS(MOMENTUM);
    }
    return 0;
}

static size_t work_bytes_of(const struct optimizer *o, const struct param *param)
{
    switch (o->type) {
    case OPTIMIZER_ADAMW_8BIT: return 2 * BOOK * sizeof(float);
    case OPTIMIZER_MUON: return param->kind == PARAM_MATRIX ? muon_work_bytes(param) : 0;
    case OPTIMIZER_ADAFACTOR: return adafactor_work_bytes(o);
    case OPTIMIZER_ADAMW:
    case OPTIMIZER_SGD:
    case OPTIMIZER_LION: break;
    }
    return 0;
}

static cohort_status check_groups(const struct optimizer_group *groups, int32_t n, const char *option,
                                  const struct param_set *set, cohort_error *err)
{
    for (int32_t g = 0; g < n; g++) {
        bool found = false;
        for (int32_t i = 0; i < set->table.n_params; i++)
            found = found ||
                    (set->training.first[i] >= 0 && optimizer_matches(groups[g].pattern, set->table.params[i].name));
        if (!found)
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "%s: '%s' is the name of nothing that trains; a pattern is parts of a tensor's name such "
                             "as lm_head or self_attn.q_proj, or with * all of it (the first tensor is %s)",
                             option, groups[g].pattern, set->table.n_params > 0 ? set->table.params[0].name : "none");
    }
    return COHORT_OK;
}

cohort_status optimizer_lay_out(const struct optimizer *optimizer, struct param_set *set, cohort_error *err)
{
    const int32_t n = set->table.n_params;
    unsigned *keeps = NULL;
    size_t work = 0;
    bool matrix = false;
    cohort_status status = COHORT_OK;
    TRY(check_groups(optimizer->lr, optimizer->n_lr, "lr_groups", set, err));
    TRY(check_groups(optimizer->decay, optimizer->n_decay, "weight_decay_groups", set, err));
    TRY(mem_alloc(&keeps, (size_t)n, sizeof *keeps, "optimizer's states", err));
    for (int32_t i = 0; i < n; i++) {
        if (set->training.first[i] < 0)
            continue;
        const struct param *param = &set->table.params[i];
        const size_t bytes = work_bytes_of(optimizer, param);
        keeps[i] = keeps_of(optimizer, param);
        work = bytes > work ? bytes : work;
        matrix = matrix || param->kind == PARAM_MATRIX;
    }
    if (optimizer->type == OPTIMIZER_MUON && !matrix)
        TRY_GOTO(error_set(err, COHORT_ERR_ARGUMENT,
                           "optim muon is for the matrices of layers, and none of them trains: choose adamw_torch"));
    param_set_keep(set, names[optimizer->type], keeps, work);
cleanup:
    mem_free(keeps);
    return status;
}

/* ---- The update ---- */

/* Blocks of sum_squares that begin in what a rank owns. */
static struct param_range blocks_of(const struct param_set *set, int32_t rank)
{
    const int64_t block = set->backend->sizes->square_block;
    const struct param_range owned = param_set_owned(set, rank);
    return (struct param_range){(owned.first + block - 1) / block, (owned.end + block - 1) / block};
}

/* Every rank's sums of its blocks become everybody's. */
static cohort_status gather_blocks(const struct param_set *set, double *sums, cohort_error *err)
{
    const struct param_share *share = &set->training.share;
    const struct param_range own = blocks_of(set, share->rank);
    struct ranks_message *sends = NULL;
    const size_t others = (size_t)share->count - 1;
    size_t n = 0;
    TRY(mem_alloc(&sends, 2 * others, sizeof *sends, "messages to ranks", err));
    for (int32_t r = 0; r < share->count; r++) {
        const struct param_range theirs = blocks_of(set, r);
        if (r == share->rank)
            continue;
        sends[n] = (struct ranks_message){r, sums + own.first, (size_t)(own.end - own.first) * sizeof *sums};
        sends[others + n++] =
            (struct ranks_message){r, sums + theirs.first, (size_t)(theirs.end - theirs.first) * sizeof *sums};
    }
    const cohort_status status = ranks_exchange(share->ranks, sends, n, sends + others, n, err);
    mem_free(sends);
    return status;
}

cohort_status optimizer_grad_norm(const struct param_set *set, double *norm, cohort_error *err)
{
    struct backend *be = set->backend;
    const struct param_training *t = &set->training;
    const int64_t block = be->sizes->square_block, n_blocks = (t->n_elements + block - 1) / block;
    double *sums = NULL;
    /* Between the tensors there are zeros. */
    if (t->share.count == 1) {
        *norm = sqrt(be->ops->sum_squares(be, t->sum != NULL ? t->sum : t->grad, t->n_elements));
        return COHORT_OK;
    }
    TRY(mem_alloc(&sums, (size_t)n_blocks, sizeof *sums, "gradient norm", err));
    const struct param_range own = blocks_of(set, t->share.rank), summed = param_set_sums(set, t->share.rank);
    if (own.end > own.first) {
        const int64_t first = own.first * block,
                      end = own.end * block < t->n_elements ? own.end * block : t->n_elements;
        be->ops->square_sums(be, t->sum + (first - summed.first), end - first, sums + own.first);
    }
    const cohort_status status = gather_blocks(set, sums, err);
    if (status == COHORT_OK)
        *norm = sqrt(be->ops->add_square_sums(be, sums, n_blocks));
    mem_free(sums);
    return status;
}

/* The weight as its master: with the low half where it has one. */
static int16_t *low_of(const struct param_update *u) { return param_state(u->set, u->i, PARAM_STATE_LOW); }

static struct adamw adamw_of(const struct param_update *u, enum param_state m, enum param_state v)
{
    const struct param_training *t = &u->set->training;
    return (struct adamw){.count = u->param->count,
                          .weight = param_home(u->set, u->i),
                          .low = low_of(u),
                          .type = storage_dtype(u->param->format),
                          .grad = u->grad,
                          .m = param_state(u->set, u->i, m),
                          .v = param_state(u->set, u->i, v),
                          .moment_type = t->moment_type,
                          .first = t->first[u->i],
                          .grad_scale = (float)u->scale,
                          .learning_rate = (float)u->learning_rate,
                          .beta1 = u->optimizer->beta1,
                          .beta2 = u->optimizer->beta2,
                          .eps = u->optimizer->eps,
                          .weight_decay = (float)u->weight_decay,
                          .step = u->optimizer->step};
}

/* The values of the codes: for i = 0 .. 6 the middles of the cells that [0.1, 1] is cut into, times 10^(i - 6), of both
 * signs for m; and 0 and 1. Ascending. */
static void make_book(float *book, bool is_signed)
{
    int n = 0;
    float positive[BOOK];
    for (int i = 0; i < 7; i++) {
        const int cells = is_signed ? 1 << i : 2 << i;
        for (int c = 0; c < cells; c++)
            positive[n++] = (float)((0.1 + 0.9 * ((double)c + 0.5) / (double)cells) * pow(10.0, (double)(i - 6)));
    }
    float *at = book;
    for (int i = n - 1; is_signed && i >= 0; i--)
        *at++ = -positive[i];
    *at++ = 0.0f;
    memcpy(at, positive, (size_t)n * sizeof *positive);
    at[n] = 1.0f;
}

/* The books lie at the beginning of what the optimizer works in. */
static void upload_books(const struct param_set *set)
{
    float books[2 * BOOK];
    make_book(books, true);
    make_book(books + BOOK, false);
    set->backend->ops->upload(set->backend, set->training.work, books, sizeof books);
}

static void update_8bit(const struct param_update *u)
{
    struct backend *be = u->set->backend;
    be->ops->adamw_8bit(be, &(struct adamw_8bit){.step = adamw_of(u, PARAM_STATE_STATE1, PARAM_STATE_STATE2),
                                                 .largest_m = param_state(u->set, u->i, PARAM_STATE_ABSMAX1),
                                                 .largest_v = param_state(u->set, u->i, PARAM_STATE_ABSMAX2),
                                                 .books = u->set->training.work});
}

struct descent optimizer_descent(const struct param_update *u, enum descent_rule rule, const void *direction,
                                 enum dtype type)
{
    return (struct descent){.rule = rule,
                            .count = u->param->count,
                            .weight = param_home(u->set, u->i),
                            .low = low_of(u),
                            .type = storage_dtype(u->param->format),
                            .direction = direction,
                            .direction_type = type,
                            .m = param_state(u->set, u->i, PARAM_STATE_MOMENTUM),
                            .scale = 1.0f,
                            .rate = (float)u->learning_rate,
                            .keep = (float)(1.0 - u->learning_rate * u->weight_decay)};
}

static void update_sgd(const struct param_update *u)
{
    struct backend *be = u->set->backend;
    const double *a = u->optimizer->arguments;
    struct descent p = optimizer_descent(u, DESCENT_SGD, u->grad, DTYPE_F32);
    p.scale = (float)u->scale;
    p.coupled_decay = (float)u->weight_decay;
    p.momentum = (float)a[OPTIMIZER_MOMENTUM];
    p.dampening = (float)a[OPTIMIZER_DAMPENING];
    p.nesterov = a[OPTIMIZER_NESTEROV] != 0.0;
    p.fresh = u->optimizer->step == 1;
    be->ops->descent(be, &p);
}

static void update_lion(const struct param_update *u)
{
    struct backend *be = u->set->backend;
    struct descent p = optimizer_descent(u, DESCENT_LION, u->grad, DTYPE_F32);
    p.scale = (float)u->scale;
    p.momentum = u->optimizer->beta1;
    p.beta2 = u->optimizer->beta2;
    be->ops->descent(be, &p);
}

/* value of the first group that the name matches, else otherwise. */
static double group_value(const struct optimizer_group *groups, int32_t n, const char *name, double otherwise)
{
    for (int32_t g = 0; g < n; g++)
        if (optimizer_matches(groups[g].pattern, name))
            return groups[g].value;
    return otherwise;
}

static void update_param(const struct optimizer *o, const struct param_set *set, int32_t i, double scale,
                         double learning_rate)
{
    struct backend *be = set->backend;
    const struct param *p = &set->table.params[i];
    const struct param_update u = {
        .optimizer = o,
        .set = set,
        .i = i,
        .param = p,
        .grad = param_grad_sum(set, i),
        .scale = scale,
        .learning_rate = learning_rate * group_value(o->lr, o->n_lr, p->name, 1.0),
        .weight_decay = group_value(o->decay, o->n_decay, p->name, p->decay ? (double)o->weight_decay : 0.0)};
    if (param_state(set, i, PARAM_STATE_EXP_AVG) != NULL) {
        const struct adamw step = adamw_of(&u, PARAM_STATE_EXP_AVG, PARAM_STATE_EXP_AVG_SQ);
        be->ops->adamw(be, &step);
    } else if (o->type == OPTIMIZER_ADAMW_8BIT) {
        update_8bit(&u);
    } else if (o->type == OPTIMIZER_MUON) {
        muon_update(&u);
    } else if (o->type == OPTIMIZER_SGD) {
        update_sgd(&u);
    } else if (o->type == OPTIMIZER_ADAFACTOR) {
        adafactor_update(&u);
    } else {
        update_lion(&u);
    }
}

static void move_mean(const struct param_set *set, int32_t i, double share)
{
    struct backend *be = set->backend;
    const struct param *p = &set->table.params[i];
    float *mean = param_state(set, i, PARAM_STATE_EMA);
    if (mean != NULL)
        be->ops->average(be, &(struct average){.count = p->count,
                                               .weight = param_home(set, i),
                                               .low = param_state(set, i, PARAM_STATE_LOW),
                                               .type = storage_dtype(p->format),
                                               .mean = mean,
                                               .share = (float)share});
}

void optimizer_start_mean(struct param_set *set)
{
    for (int32_t i = 0; i < set->table.n_params; i++)
        move_mean(set, i, 1.0);
}

cohort_status optimizer_apply(struct optimizer *optimizer, struct param_set *set, double learning_rate,
                              double *grad_norm, bool *skipped, cohort_error *err)
{
    struct backend *be = set->backend;
    double norm = (double)NAN;
    cohort_status status = COHORT_OK;
    be->unstoppable++; /* an update is whole or has not begun */
    TRY_GOTO(optimizer_grad_norm(set, &norm, err));
    *grad_norm = norm;
    *skipped = !isfinite(norm);
    if (!*skipped) {
        double scale = 1.0;
        if (optimizer->max_grad_norm > 0.0) /* torch.nn.utils.clip_grad_norm_ */
            scale = fmin(1.0, optimizer->max_grad_norm / (norm + 1e-6));
        optimizer->step++;
        if (optimizer->type == OPTIMIZER_ADAMW_8BIT)
            upload_books(set);
        for (int32_t i = 0; i < set->table.n_params; i++) {
            if (set->training.first[i] < 0 || param_owner(set, i) != set->training.share.rank)
                continue;
            update_param(optimizer, set, i, scale, learning_rate);
            move_mean(set, i, 1.0 - optimizer->ema_decay);
        }
        TRY_GOTO(param_shard_gather_values(set, err));
    }
    param_set_zero_grad(set);
cleanup:
    be->unstoppable--;
    return status;
}

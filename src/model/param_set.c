#include "model/param_set.h"

#include "backend/ops.h"

#include <assert.h>
#include <string.h>

static int32_t index_of(const struct param_set *set, const struct param *param)
{
    assert(param >= set->table.params && param < set->table.params + set->table.n_params);
    return (int32_t)(param - set->table.params);
}

/* Lays out what trains (first >= 0) in the arrays: each tensor begins at a multiple of PARAM_ALIGNMENT, unless it is
 * adjacent. */
static void lay_out_training(struct param_set *set)
{
    struct param_training *t = &set->training;
    const int64_t unit = PARAM_ALIGNMENT;
    t->n_elements = 0;
    for (int32_t i = 0; i < set->table.n_params; i++) {
        const struct param *param = &set->table.params[i];
        if (t->first[i] < 0)
            continue;
        if (!param->adjacent)
            t->n_elements = (t->n_elements + unit - 1) / unit * unit;
        t->first[i] = t->n_elements;
        t->n_elements += param->count;
    }
    t->n_elements = (t->n_elements + unit - 1) / unit * unit;
}

cohort_status param_set_open(struct param_set *set, struct backend *backend, struct param_table *table,
                             cohort_error *err)
{
    memset(set, 0, sizeof *set);
    set->backend = backend;
    set->table = *table;
    memset(table, 0, sizeof *table);
    struct param_training *t = &set->training;
    const size_t n = (size_t)set->table.n_params;
    TRY(mem_alloc(&t->first, n, sizeof *t->first, "parameter table", err));
    TRY(mem_alloc(&t->keeps, n, sizeof *t->keeps, "parameter table", err));
    TRY(mem_alloc(&t->at, n * N_PARAM_STATES, sizeof *t->at, "parameter table", err));
    t->optimizer = "adamw";
    for (size_t i = 0; i < n; i++)
        t->keeps[i] = PARAM_KEEPS(EXP_AVG) | PARAM_KEEPS(EXP_AVG_SQ);
    param_set_layout(set);
    return COHORT_OK;
}

void param_set_close(struct param_set *set)
{
    struct backend *be = set->backend;
    struct param_training *t = &set->training;
    if (be != NULL) {
        be->ops->free(be, set->values);
        be->ops->free(be, set->vectors);
        be->ops->free(be, t->grad);
        be->ops->free(be, t->states);
        be->ops->free(be, t->work);
    }
    mem_free(t->first);
    mem_free(t->keeps);
    mem_free(t->at);
    param_table_free(&set->table);
    memset(set, 0, sizeof *set);
}

void param_set_layout(struct param_set *set)
{
    assert(set->values == NULL);
    param_table_layout(&set->table);
    lay_out_training(set);
}

void param_set_freeze(struct param_set *set, const struct param *param)
{
    int32_t i = index_of(set, param);
    assert(set->training.grad == NULL && !param->adjacent);
    do
        set->training.first[i++] = -1;
    while (i < set->table.n_params && set->table.params[i].adjacent);
    lay_out_training(set);
}

/* ---- Memory of the host ---- */

void param_set_offload(struct param_set *set, unsigned offload)
{
    assert(set->training.grad == NULL);
    assert(set->values == NULL || ((set->offload ^ offload) & PARAM_OFFLOAD_VALUES) == 0);
    set->offload = set->backend->ops->alloc_host == NULL ? 0 : offload;
}

/* The bytes that element bytes each take of the matrix that products read as one from param i on: with what is adjacent;
 * 0 where none begins. */
static size_t product_bytes(const struct param_set *set, int32_t i, bool values)
{
    size_t bytes = 0;
    if (set->table.params[i].rank == 1 || set->table.params[i].adjacent)
        return 0;
    do {
        const struct param *p = &set->table.params[i];
        bytes += values ? storage_bytes(p->format, p->count) : (size_t)p->count * sizeof(float);
    } while (++i < set->table.n_params && set->table.params[i].adjacent);
    return bytes;
}

/* Room for the largest product's matrix, of the values or of the gradient, and for the largest of a layer. */
static void stages_of(const struct param_set *set, bool values, size_t stages[2])
{
    stages[0] = stages[1] = 0;
    for (int32_t i = 0; i < set->table.n_params; i++) {
        const bool layer = set->table.params[i].kind == PARAM_MATRIX;
        const size_t bytes = values || set->training.first[i] >= 0 ? product_bytes(set, i, values) : 0;
        stages[0] = bytes > stages[0] ? bytes : stages[0];
        stages[1] = layer && bytes > stages[1] ? bytes : stages[1];
    }
}

/* The vectors' bytes up to param i, in the block that they have where the rest of the values is offloaded. */
static size_t vectors_before(const struct param_set *set, int32_t i)
{
    enum { ALIGNMENT = PARAM_ALIGNMENT * sizeof(float) };
    size_t bytes = 0;
    for (int32_t j = 0; j < i; j++) {
        const struct param *p = &set->table.params[j];
        const bool last = j + 1 == set->table.n_params || !p[1].adjacent;
        if (p->rank == 1)
            bytes += storage_bytes(p->format, p->count);
        if (last)
            bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    return bytes;
}

static cohort_status take(const struct param_set *set, bool on_host, void *out, size_t bytes, const size_t stages[2],
                          const char *what, cohort_error *err)
{
    struct backend *be = set->backend;
    return on_host ? be->ops->alloc_host(be, out, bytes, stages, what, err) : be->ops->alloc(be, out, bytes, what, err);
}

cohort_status param_set_allocate(struct param_set *set, cohort_error *err)
{
    const bool on_host = (set->offload & PARAM_OFFLOAD_VALUES) != 0;
    size_t stages[2];
    assert(set->values == NULL);
    stages_of(set, true, stages);
    if (on_host)
        TRY(set->backend->ops->alloc(set->backend, &set->vectors, vectors_before(set, set->table.n_params) + 1,
                                     "vectors of the weights", err));
    return take(set, on_host, &set->values, set->table.bytes, stages, "weights", err);
}

struct param_bytes param_set_value_sizes(const struct param_set *set, unsigned offload)
{
    size_t stages[2];
    if ((offload & PARAM_OFFLOAD_VALUES) == 0 || set->backend->ops->alloc_host == NULL)
        return (struct param_bytes){.own = set->table.bytes};
    stages_of(set, true, stages);
    return (struct param_bytes){.own = stages[0] + stages[1] + vectors_before(set, set->table.n_params),
                                .host = set->table.bytes};
}

void param_set_copy(struct param_set *to, const struct param_set *from)
{
    struct backend *be = to->backend;
    assert(to->table.bytes == from->table.bytes && to->backend == from->backend);
    if (to->vectors == NULL && from->vectors == NULL) {
        be->ops->copy(be, to->values, from->values, from->table.bytes);
        return;
    }
    for (int32_t i = 0; i < from->table.n_params; i++) {
        const struct param *p = &from->table.params[i];
        be->ops->copy(be, param_values(to, &to->table.params[i]), param_values(from, p),
                      storage_bytes(p->format, p->count));
    }
}

/* ---- What an optimizer keeps ---- */

void param_set_keep(struct param_set *set, const char *optimizer, const unsigned *keeps, size_t work_bytes)
{
    assert(set->training.grad == NULL);
    set->training.optimizer = optimizer;
    set->training.work_bytes = work_bytes;
    memcpy(set->training.keeps, keeps, (size_t)set->table.n_params * sizeof *keeps);
}

static bool has_state(const struct param_set *set, int32_t i, enum param_state state)
{
    if (set->training.first[i] < 0)
        return false;
    return state == PARAM_STATE_LOW ? set->table.params[i].format == STORAGE_BF16
                                    : (set->training.keeps[i] & 1u << state) != 0;
}

enum state_size { ELEMENTS, BLOCKS, ROWS, COLUMNS };

static const struct {
    const char *name, *type; /* type NULL: the moments' */
    enum state_size size;
} kinds[N_PARAM_STATES] = {
#define MOMENT                      NULL
#define F32                         "F32"
#define U8                          "U8"
#define I16                         "I16"
#define STATE(id, name, type, size) {name, type, size},
    PARAM_STATE_LIST(STATE)
#undef STATE
#undef MOMENT
#undef F32
#undef U8
#undef I16
};

/* Without its place. */
static struct param_state_tensor describe(const struct param *param, enum param_state state, enum dtype moment_type)
{
    struct param_state_tensor t = {
        .name = kinds[state].name, .type = kinds[state].type, .rank = 1, .count = param->count};
    if (t.type == NULL)
        t.type = dtype_name(moment_type);
    const size_t element = strcmp(t.type, "U8") == 0 ? 1 : strcmp(t.type, "F32") == 0 ? 4 : 2;
    switch (kinds[state].size) {
    case ELEMENTS: t.rank = param->rank; break;
    case BLOCKS: t.count = (param->count + ADAMW_8BIT_BLOCK - 1) / ADAMW_8BIT_BLOCK; break;
    case ROWS: t.count = param_rows(param); break;
    case COLUMNS: t.count = param->rank == 3 ? param->shape[0] * param->shape[2] : param->shape[1]; break;
    }
    for (int axis = 0; axis < 3; axis++)
        t.shape[axis] = kinds[state].size == ELEMENTS ? param->shape[axis] : axis == 0 ? t.count : 1;
    t.bytes = (size_t)t.count * element;
    return t;
}

/* Gives every state its place, kind by kind, and returns how many bytes all take. at may be NULL. */
static size_t lay_out_states(const struct param_set *set, enum dtype moment_type, size_t *at)
{
    enum { STATE_ALIGNMENT = 256 }; /* bytes */
    size_t bytes = 0;
    for (int32_t state = 0; state < N_PARAM_STATES; state++)
        for (int32_t i = 0; i < set->table.n_params; i++) {
            if (!has_state(set, i, (enum param_state)state))
                continue;
            if (at != NULL)
                at[(size_t)i * N_PARAM_STATES + (size_t)state] = bytes;
            bytes += describe(&set->table.params[i], (enum param_state)state, moment_type).bytes;
            bytes = (bytes + STATE_ALIGNMENT - 1) / STATE_ALIGNMENT * STATE_ALIGNMENT;
        }
    return bytes;
}

bool param_state_get(const struct param_set *set, int32_t i, enum param_state state, struct param_state_tensor *tensor)
{
    if (!has_state(set, i, state))
        return false;
    *tensor = describe(&set->table.params[i], state, set->training.moment_type);
    tensor->data = param_state(set, i, state);
    return true;
}

void *param_state(const struct param_set *set, int32_t i, enum param_state state)
{
    const struct param_training *t = &set->training;
    if (t->states == NULL || !has_state(set, i, state))
        return NULL;
    return (char *)t->states + t->at[(size_t)i * N_PARAM_STATES + (size_t)state];
}

cohort_status param_set_train_begin(struct param_set *set, enum dtype moment_type, cohort_error *err)
{
    struct backend *be = set->backend;
    struct param_training *t = &set->training;
    assert(t->grad == NULL && t->n_elements > 0);
    t->moment_type = moment_type;
    const bool states_on_host = (set->offload & PARAM_OFFLOAD_STATES) != 0;
    size_t stages[2];
    stages_of(set, false, stages);
    TRY(take(set, (set->offload & PARAM_OFFLOAD_GRADIENT) != 0, &t->grad, (size_t)t->n_elements * sizeof *t->grad,
             stages, "gradient", err));
    const size_t bytes = lay_out_states(set, moment_type, t->at);
    if (bytes > 0)
        TRY(take(set, states_on_host, &t->states, bytes, (const size_t[2]){0, 0}, "optimizer's state", err));
    if (t->work_bytes > 0)
        TRY(be->ops->alloc(be, &t->work, t->work_bytes, "what the optimizer works in", err));
    return COHORT_OK;
}

struct param_bytes param_set_train_sizes(const struct param_set *set, enum dtype moment_type)
{
    const size_t gradient = (size_t)set->training.n_elements * sizeof(float),
                 states = lay_out_states(set, moment_type, NULL);
    struct param_bytes bytes = {.own = set->training.work_bytes};
    if ((set->offload & PARAM_OFFLOAD_GRADIENT) != 0) {
        size_t stages[2];
        stages_of(set, false, stages);
        bytes.own += stages[0] + stages[1];
        bytes.host += gradient;
    } else {
        bytes.own += gradient;
    }
    if ((set->offload & PARAM_OFFLOAD_STATES) != 0)
        bytes.host += states;
    else
        bytes.own += states;
    return bytes;
}

size_t param_set_train_bytes(const struct param_set *set, enum dtype moment_type)
{
    return param_set_train_sizes(set, moment_type).own;
}

void param_set_zero_grad(struct param_set *set)
{
    set->backend->ops->zero(set->backend, set->training.grad, (size_t)set->training.n_elements * sizeof(float));
}

void *param_values(const struct param_set *set, const struct param *param)
{
    assert(!param->packed);
    if (set->vectors != NULL && param->rank == 1)
        return set->vectors + vectors_before(set, index_of(set, param));
    return (char *)set->values + param->offset;
}

bool param_trains(const struct param_set *set, const struct param *param)
{
    return set->training.first[index_of(set, param)] >= 0;
}

float *param_grad(const struct param_set *set, const struct param *param)
{
    if (!param_trains(set, param))
        return NULL;
    assert(set->training.grad != NULL);
    return set->training.grad + set->training.first[index_of(set, param)];
}

cohort_status param_set_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                              cohort_error *err)
{
    (void)err;
    const struct param_set *set = context;
    set->backend->ops->download(set->backend, to,
                                (const char *)param_values(set, param) + storage_bytes(param->format, first),
                                storage_bytes(param->format, count));
    return COHORT_OK;
}

cohort_status param_set_fetch_beside(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                     cohort_error *err)
{
    const struct param_set *set = context;
    return backend_download_beside(set->backend, to,
                                   (const char *)param_values(set, param) + storage_bytes(param->format, first),
                                   storage_bytes(param->format, count), err);
}

cohort_status param_set_fetch_mean(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                   cohort_error *err)
{
    const struct param_set *set = context;
    const float *mean = param_state(set, index_of(set, param), PARAM_STATE_EMA);
    if (mean == NULL)
        return param_set_fetch(context, param, first, count, to, err);
    if (param->format == STORAGE_F32) {
        set->backend->ops->download(set->backend, to, mean + first, (size_t)count * sizeof *mean);
        return COHORT_OK;
    }
    enum { PART = 1 << 18 };
    float *part = NULL;
    assert(param->format == STORAGE_BF16);
    TRY(mem_alloc(&part, (size_t)(count < PART ? count : PART), sizeof *part, "part of a tensor", err));
    for (int64_t i = 0; i < count; i += PART) {
        const int64_t n = count - i < PART ? count - i : PART;
        set->backend->ops->download(set->backend, part, mean + first + i, (size_t)n * sizeof *part);
        for (int64_t j = 0; j < n; j++)
            ((uint16_t *)to)[i + j] = bf16_from_f32(part[j]);
    }
    mem_free(part);
    return COHORT_OK;
}

cohort_status param_set_store(void *context, const struct param *param, int64_t first, int64_t count, const void *data,
                              cohort_error *err)
{
    const struct param_set *set = context;
    TRY(stop_check(set->backend->stop, err));
    set->backend->ops->upload(set->backend, (char *)param_values(set, param) + storage_bytes(param->format, first),
                              data, storage_bytes(param->format, count));
    return COHORT_OK;
}

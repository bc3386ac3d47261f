#include "model/param_set.h"

#include "backend/ops.h"
#include "model/param_shard.h"

#include <assert.h>
#include <string.h>

static int32_t index_of(const struct param_set *set, const struct param *param)
{
    assert(param >= set->table.params && param < set->table.params + set->table.n_params);
    return (int32_t)(param - set->table.params);
}

bool param_set_divides(const struct param_set *set)
{
    return set->training.share.weights && set->training.share.count > 1;
}

bool param_is_divided(const struct param_set *set, int32_t i)
{
    return param_set_divides(set) && set->table.params[i].layer > 0 && set->table.params[i].rank > 1;
}

int32_t param_set_layers(const struct param_set *set)
{
    int32_t n = 0;
    for (int32_t i = 0; i < set->table.n_params; i++)
        n = set->table.params[i].layer > n ? set->table.params[i].layer : n;
    return n;
}

/* The end of a tensor that lies from the next place on behind bytes. */
static size_t place_value(struct param *param, size_t bytes)
{
    const size_t unit = storage_bytes(param->format, PARAM_ALIGNMENT);
    param->offset = param->adjacent ? bytes : (bytes + unit - 1) / unit * unit;
    return param->offset + storage_bytes(param->format, param->count);
}

/* What is everybody's, and behind it the matrices of layers, each layer's in one place. */
static void lay_out_values(struct param_set *set)
{
    struct param_table *table = &set->table;
    size_t bytes = 0, end = 0;
    param_table_layout(table);
    if (!param_set_divides(set))
        return;
    for (int32_t i = 0; i < table->n_params; i++)
        if (!param_is_divided(set, i))
            bytes = place_value(&table->params[i], bytes);
    table->bytes = bytes;
    for (int32_t i = 0, layer = 0; i < table->n_params; i++) {
        if (!param_is_divided(set, i))
            continue;
        end = place_value(&table->params[i], table->params[i].layer == layer ? end : bytes);
        layer = table->params[i].layer;
        table->bytes = end > table->bytes ? end : table->bytes;
    }
}

/* Gives what this rank owns of divided values its place, and returns how many bytes that takes. at may be NULL. */
static size_t lay_out_home(const struct param_set *set, size_t *at)
{
    enum { HOME_ALIGNMENT = 256 }; /* bytes */
    size_t bytes = 0;
    for (int32_t i = 0; i < set->table.n_params; i++) {
        const struct param *param = &set->table.params[i];
        if (!param_is_divided(set, i) || param_owner(set, i) != set->training.share.rank)
            continue;
        if (at != NULL)
            at[i] = bytes;
        bytes += (storage_bytes(param->format, param->count) + HOME_ALIGNMENT - 1) / HOME_ALIGNMENT * HOME_ALIGNMENT;
    }
    return bytes;
}

/* Cuts the gradient into units. Layers follow each other in the table, so that each is one. */
static void lay_out_units(struct param_set *set)
{
    struct param_training *t = &set->training;
    const bool by_layers = t->share.lanes > 1;
    int64_t longest = 0;
    t->n_units = 0;
    t->n_held = 0;
    for (int32_t i = 0; i < set->table.n_params; i++) {
        const int32_t layer = by_layers ? set->table.params[i].layer : 0;
        struct param_unit *last = t->n_units > 0 ? &t->units[t->n_units - 1] : NULL;
        if (t->first[i] < 0 || (last != NULL && last->layer == layer))
            continue;
        if (last != NULL)
            last->end = t->first[i];
        t->units[t->n_units++] =
            (struct param_unit){.layer = layer, .first = t->n_units == 0 ? 0 : t->first[i], .end = t->n_elements};
    }
    for (int32_t u = 0; u < t->n_units; u++) {
        const int64_t length = t->units[u].end - t->units[u].first;
        t->units[u].place = t->n_held;
        if (t->units[u].layer == 0)
            t->n_held += length;
        else
            longest = length > longest ? length : longest;
    }
    for (int32_t u = 0; u < t->n_units; u++)
        if (t->units[u].layer > 0)
            t->units[u].place = t->n_held;
    t->n_held += longest;
    for (int32_t i = 0, u = 0; i < set->table.n_params; i++) {
        if (t->first[i] >= 0 && t->first[i] >= t->units[u].end)
            u++;
        t->place[i] = t->first[i] < 0 ? -1 : t->units[u].place + (t->first[i] - t->units[u].first);
    }
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
    lay_out_units(set);
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
    TRY(mem_alloc(&t->place, n, sizeof *t->place, "parameter table", err));
    TRY(mem_alloc(&t->units, n, sizeof *t->units, "parameter table", err));
    TRY(mem_alloc(&set->home_at, n, sizeof *set->home_at, "parameter table", err));
    TRY(mem_alloc(&t->keeps, n, sizeof *t->keeps, "parameter table", err));
    TRY(mem_alloc(&t->at, n * N_PARAM_STATES, sizeof *t->at, "parameter table", err));
    t->optimizer = "adamw";
    t->share = (struct param_share){.count = 1, .lanes = 1};
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
        be->ops->free(be, set->home);
        be->ops->free(be, t->grad);
        be->ops->free(be, t->states);
        be->ops->free(be, t->work);
        be->ops->free(be, t->sum);
        be->ops->free(be, t->partials);
        be->ops->free(be, t->pieces);
    }
    mem_free(t->first);
    mem_free(t->place);
    mem_free(t->units);
    mem_free(set->home_at);
    mem_free(t->keeps);
    mem_free(t->at);
    param_table_free(&set->table);
    memset(set, 0, sizeof *set);
}

void param_set_layout(struct param_set *set)
{
    assert(set->values == NULL);
    lay_out_values(set);
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
    const size_t home = lay_out_home(set, set->home_at);
    if (home > 0)
        TRY(set->backend->ops->alloc(set->backend, &set->home, home, "part of the weights", err));
    if (on_host)
        TRY(set->backend->ops->alloc(set->backend, &set->vectors, vectors_before(set, set->table.n_params) + 1,
                                     "vectors of the weights", err));
    return take(set, on_host, &set->values, set->table.bytes, stages, "weights", err);
}

struct param_bytes param_set_value_sizes(const struct param_set *set, unsigned offload)
{
    size_t stages[2];
    if ((offload & PARAM_OFFLOAD_VALUES) == 0 || set->backend->ops->alloc_host == NULL)
        return (struct param_bytes){.own = set->table.bytes + lay_out_home(set, NULL)};
    stages_of(set, true, stages);
    return (struct param_bytes){.own = stages[0] + stages[1] + vectors_before(set, set->table.n_params),
                                .host = set->table.bytes};
}

void param_set_copy(struct param_set *to, const struct param_set *from)
{
    struct backend *be = to->backend;
    assert(to->table.bytes == from->table.bytes && to->backend == from->backend && !param_set_divides(from));
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

/* Gives every state that this rank holds its place, kind by kind, and returns how many bytes all take. at may be NULL. */
static size_t lay_out_states(const struct param_set *set, enum dtype moment_type, size_t *at)
{
    enum { STATE_ALIGNMENT = 256 }; /* bytes */
    size_t bytes = 0;
    for (int32_t state = 0; state < N_PARAM_STATES; state++)
        for (int32_t i = 0; i < set->table.n_params; i++) {
            if (!has_state(set, i, (enum param_state)state) || param_owner(set, i) != set->training.share.rank)
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
    if (t->states == NULL || !has_state(set, i, state) || param_owner(set, i) != t->share.rank)
        return NULL;
    return (char *)t->states + t->at[(size_t)i * N_PARAM_STATES + (size_t)state];
}

/* ---- Lanes and ranks ---- */

static bool in_lanes(const struct param_set *set)
{
    return set->training.share.lanes > 1 || set->training.share.count > 1;
}

void param_set_share(struct param_set *set, const struct param_share *share)
{
    assert(set->training.grad == NULL && share->count >= 1 && share->lanes >= 1);
    const bool divided = param_set_divides(set);
    set->training.share = *share;
    assert(set->values == NULL || (!divided && !param_set_divides(set)));
    if (set->values == NULL)
        lay_out_values(set);
    lay_out_units(set);
}

/* The element from which on what trains, from param i on, lies together; and its end. */
static struct param_range group_of(const struct param_set *set, int32_t i)
{
    const struct param_table *table = &set->table;
    while (table->params[i].adjacent)
        i--;
    struct param_range range = {.first = set->training.first[i]};
    do
        range.end = set->training.first[i] + table->params[i].count;
    while (++i < table->n_params && table->params[i].adjacent);
    return range;
}

/* By the middle of a tensor: what a rank owns lies together, and is as near to an equal part as whole tensors are. */
int32_t param_owner(const struct param_set *set, int32_t i)
{
    const struct param_training *t = &set->training;
    if (t->share.count == 1 || t->first[i] < 0)
        return 0;
    const struct param_range range = group_of(set, i);
    const int64_t middle = range.first + (range.end - range.first) / 2;
    return (int32_t)((double)middle / (double)t->n_elements * (double)t->share.count);
}

/* The first element of what a rank owns, or of what comes behind it. */
static int64_t begin_of(const struct param_set *set, int32_t rank)
{
    const struct param_training *t = &set->training;
    for (int32_t i = 0; rank > 0 && i < set->table.n_params; i++)
        if (t->first[i] >= 0 && !set->table.params[i].adjacent && param_owner(set, i) >= rank)
            return t->first[i];
    return rank == 0 ? 0 : t->n_elements;
}

struct param_range param_set_owned(const struct param_set *set, int32_t rank)
{
    return (struct param_range){.first = begin_of(set, rank),
                                .end = rank + 1 == set->training.share.count ? set->training.n_elements
                                                                             : begin_of(set, rank + 1)};
}

static int64_t whole_blocks(const struct param_set *set, int64_t element)
{
    const int64_t block = set->backend->sizes->square_block, n = set->training.n_elements,
                  end = (element + block - 1) / block * block;
    return end < n ? end : n;
}

struct param_range param_set_sums(const struct param_set *set, int32_t rank)
{
    struct param_range range = param_set_owned(set, rank);
    if (range.end > range.first)
        range.end = whole_blocks(set, range.end);
    return range;
}

int64_t param_set_piece(const struct param_set *set)
{
    int64_t most = 1;
    for (int32_t r = 0; r < set->training.share.count; r++) {
        const struct param_range range = param_set_sums(set, r);
        most = range.end - range.first > most ? range.end - range.first : most;
    }
    return most < set->training.share.piece ? most : set->training.share.piece;
}

struct lane_bytes {
    size_t sum, partials, pieces;
};

static struct lane_bytes lane_bytes(const struct param_set *set)
{
    const struct param_training *t = &set->training;
    const struct param_range sums = param_set_sums(set, t->share.rank);
    return (struct lane_bytes){.sum = (size_t)(sums.end - sums.first) * sizeof(float),
                               .partials = (size_t)t->share.partials * (size_t)(sums.end - sums.first) * sizeof(float),
                               .pieces = (size_t)(t->share.rooms * t->share.parts) * (size_t)param_set_piece(set) *
                                         sizeof(float)};
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
    TRY(take(set, (set->offload & PARAM_OFFLOAD_GRADIENT) != 0, &t->grad, (size_t)t->n_held * sizeof *t->grad, stages,
             "gradient", err));
    const size_t bytes = lay_out_states(set, moment_type, t->at);
    if (bytes > 0)
        TRY(take(set, states_on_host, &t->states, bytes, (const size_t[2]){0, 0}, "optimizer's state", err));
    if (t->work_bytes > 0)
        TRY(be->ops->alloc(be, &t->work, t->work_bytes, "what the optimizer works in", err));
    if (!in_lanes(set))
        return COHORT_OK;
    const struct lane_bytes lanes = lane_bytes(set);
    TRY(be->ops->alloc(be, &t->sum, lanes.sum, "sum of the gradients", err));
    if (lanes.partials > 0)
        TRY(be->ops->alloc(be, &t->partials, lanes.partials, "gradients of lanes", err));
    return be->ops->alloc(be, &t->pieces, lanes.pieces, "gradients of other lanes", err);
}

struct param_bytes param_set_train_sizes(const struct param_set *set, enum dtype moment_type)
{
    const size_t gradient = (size_t)set->training.n_held * sizeof(float),
                 states = lay_out_states(set, moment_type, NULL);
    struct param_bytes bytes = {.own = set->training.work_bytes};
    if (in_lanes(set)) {
        const struct lane_bytes lanes = lane_bytes(set);
        bytes.own += lanes.sum + lanes.partials + lanes.pieces;
    }
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
    const struct param_training *t = &set->training;
    set->backend->ops->zero(set->backend, t->grad, (size_t)t->n_held * sizeof(float));
    if (t->sum != NULL)
        set->backend->ops->zero(set->backend, t->sum, lane_bytes(set).sum);
}

void param_set_done(const struct param_set *set, int32_t layer)
{
    const struct param_training *t = &set->training;
    for (int32_t u = t->n_units - 1; t->take != NULL && u >= 0; u--)
        if (t->units[u].layer == layer)
            t->take(t->take_context, &t->units[u]);
}

void *param_values(const struct param_set *set, const struct param *param)
{
    assert(!param->packed);
    if (set->vectors != NULL && param->rank == 1)
        return set->vectors + vectors_before(set, index_of(set, param));
    return (char *)set->values + param->offset;
}

void *param_home(const struct param_set *set, int32_t i)
{
    if (!param_is_divided(set, i))
        return param_values(set, &set->table.params[i]);
    return param_owner(set, i) == set->training.share.rank ? (char *)set->home + set->home_at[i] : NULL;
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
    return set->training.grad + set->training.place[index_of(set, param)];
}

float *param_grad_sum(const struct param_set *set, int32_t i)
{
    const struct param_training *t = &set->training;
    if (t->sum == NULL)
        return param_grad(set, &set->table.params[i]);
    assert(param_owner(set, i) == t->share.rank);
    return t->sum + (t->first[i] - param_set_sums(set, t->share.rank).first);
}

cohort_status param_set_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                              cohort_error *err)
{
    const struct param_set *set = context;
    const int32_t i = index_of(set, param);
    if (param_is_divided(set, i))
        return param_state_fetch(set, i, PARAM_VALUES, storage_bytes(param->format, first),
                                 storage_bytes(param->format, count), to, err);
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
    const int32_t place = index_of(set, param);
    cohort_status status = COHORT_OK;
    if (!has_state(set, place, PARAM_STATE_EMA))
        return param_set_fetch(context, param, first, count, to, err);
    if (param->format == STORAGE_F32)
        return param_state_fetch(set, place, PARAM_STATE_EMA, (size_t)first * sizeof(float),
                                 (size_t)count * sizeof(float), to, err);
    enum { PART = 1 << 18 };
    float *part = NULL;
    assert(param->format == STORAGE_BF16);
    TRY(mem_alloc(&part, (size_t)(count < PART ? count : PART), sizeof *part, "part of a tensor", err));
    for (int64_t i = 0; i < count; i += PART) {
        const int64_t n = count - i < PART ? count - i : PART;
        TRY_GOTO(param_state_fetch(set, place, PARAM_STATE_EMA, (size_t)(first + i) * sizeof *part,
                                   (size_t)n * sizeof *part, part, err));
        for (int64_t j = 0; j < n; j++)
            ((uint16_t *)to)[i + j] = bf16_from_f32(part[j]);
    }
cleanup:
    mem_free(part);
    return status;
}

cohort_status param_set_store(void *context, const struct param *param, int64_t first, int64_t count, const void *data,
                              cohort_error *err)
{
    const struct param_set *set = context;
    char *values = param_home(set, index_of(set, param));
    TRY(stop_check(set->backend->stop, err));
    if (values != NULL)
        set->backend->ops->upload(set->backend, values + storage_bytes(param->format, first), data,
                                  storage_bytes(param->format, count));
    return COHORT_OK;
}

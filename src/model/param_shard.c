#include "model/param_shard.h"

#include <assert.h>

/* What rank 0 asks another for. */
struct request {
    int32_t param, state; /* param -1: nothing more */
    uint64_t offset, length;
};

static const int32_t WRITER = 0;

static const char *address_of(const struct param_set *set, int32_t i, int state)
{
    return state == PARAM_VALUES ? param_home(set, i) : param_state(set, i, (enum param_state)state);
}

cohort_status param_state_fetch(const struct param_set *set, int32_t i, int state, size_t offset, size_t length,
                                void *to, cohort_error *err)
{
    struct ranks *ranks = set->training.share.ranks;
    const int32_t owner = param_owner(set, i);
    if (owner == set->training.share.rank) {
        set->backend->ops->download(set->backend, to, address_of(set, i, state) + offset, length);
        return COHORT_OK;
    }
    assert(set->training.share.rank == WRITER);
    struct request request = {.param = i, .state = state, .offset = offset, .length = length};
    TRY(ranks_exchange(ranks, &(struct ranks_message){owner, &request, sizeof request}, 1, NULL, 0, err));
    return ranks_exchange(ranks, NULL, 0, &(struct ranks_message){owner, to, length}, 1, err);
}

cohort_status param_shard_serve(const struct param_set *set, cohort_error *err)
{
    struct ranks *ranks = set->training.share.ranks;
    char *block = NULL;
    size_t room = 0;
    cohort_status status = COHORT_OK;
    for (;;) {
        struct request request = {.param = -1};
        TRY_GOTO(ranks_exchange(ranks, NULL, 0, &(struct ranks_message){WRITER, &request, sizeof request}, 1, err));
        if (request.param < 0)
            break;
        TRY_GOTO(mem_grow(&block, &room, (size_t)request.length, 1, "part of a tensor", err));
        TRY_GOTO(param_state_fetch(set, request.param, request.state, (size_t)request.offset, (size_t)request.length,
                                   block, err));
        TRY_GOTO(
            ranks_exchange(ranks, &(struct ranks_message){WRITER, block, (size_t)request.length}, 1, NULL, 0, err));
    }
cleanup:
    mem_free(block);
    return status;
}

cohort_status param_shard_release(const struct param_set *set, cohort_error *err)
{
    struct request nothing = {.param = -1};
    return ranks_broadcast(set->training.share.ranks, WRITER, &nothing, sizeof nothing, err);
}

/* Of backend memory that is not the host's: through copies there. */
static cohort_status exchange_copies(const struct param_set *set, const struct ranks_message *sends, size_t n_sends,
                                     const struct ranks_message *receives, size_t n_receives, cohort_error *err)
{
    struct backend *be = set->backend;
    const size_t n = n_sends + n_receives;
    struct ranks_message *copies = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&copies, n, sizeof *copies, "messages to ranks", err));
    for (size_t i = 0; i < n; i++) {
        copies[i] = i < n_sends ? sends[i] : receives[i - n_sends];
        copies[i].bytes = NULL;
    }
    for (size_t i = 0; i < n; i++) {
        TRY_GOTO(mem_alloc(&copies[i].bytes, copies[i].n, 1, "messages to ranks", err));
        if (i < n_sends)
            be->ops->download(be, copies[i].bytes, sends[i].bytes, sends[i].n);
    }
    TRY_GOTO(ranks_exchange(set->training.share.ranks, copies, n_sends, copies + n_sends, n_receives, err));
    for (size_t i = 0; i < n_receives; i++)
        be->ops->upload(be, receives[i].bytes, copies[n_sends + i].bytes, receives[i].n);
cleanup:
    for (size_t i = 0; i < n; i++)
        mem_free(copies[i].bytes);
    mem_free(copies);
    return status;
}

/* Whether what is exchanged lies where it can cross without copies on the host. */
static bool on_device(const struct param_set *set)
{
    return (set->offload & (PARAM_OFFLOAD_VALUES | PARAM_OFFLOAD_GRADIENT)) == 0 &&
           ranks_device(set->training.share.ranks);
}

/* The host is about to wait for what may wait for other ranks. If one of them fails, the next exchange says so. */
static void settle(void *ranks) { (void)ranks_device_settle(ranks, NULL); }

cohort_status param_shard_begin(const struct param_set *set, const struct ranks_message *sends, size_t n_sends,
                                const struct ranks_message *receives, size_t n_receives, uint64_t *ticket,
                                cohort_error *err)
{
    struct backend *be = set->backend;
    struct ranks *ranks = set->training.share.ranks;
    *ticket = 0;
    if (be->host_memory)
        return ranks_exchange(ranks, sends, n_sends, receives, n_receives, err);
    if (!on_device(set))
        return exchange_copies(set, sends, n_sends, receives, n_receives, err);
    be->before_wait = settle;
    be->before_wait_context = ranks;
    return ranks_device_begin(ranks, be->stream, sends, n_sends, receives, n_receives, ticket, err);
}

cohort_status param_shard_end(const struct param_set *set, uint64_t ticket, cohort_error *err)
{
    if (set->backend->host_memory || !on_device(set))
        return COHORT_OK;
    return ranks_device_after(set->training.share.ranks, set->backend->stream, ticket, err);
}

cohort_status param_shard_exchange(const struct param_set *set, const struct ranks_message *sends, size_t n_sends,
                                   const struct ranks_message *receives, size_t n_receives, cohort_error *err)
{
    uint64_t ticket = 0;
    TRY(param_shard_begin(set, sends, n_sends, receives, n_receives, &ticket, err));
    return param_shard_end(set, ticket, err);
}

struct messages {
    struct ranks_message *sends, *receives;
    size_t n_sends, n_receives, send_room, receive_room;
};

static void messages_free(struct messages *m)
{
    mem_free(m->sends);
    mem_free(m->receives);
}

/* The owner's values of param i become everybody's. */
static cohort_status add_values(struct messages *m, const struct param_set *set, int32_t i, cohort_error *err)
{
    const struct param_share *share = &set->training.share;
    const struct param *param = &set->table.params[i];
    const int32_t owner = param_owner(set, i);
    const size_t bytes = storage_bytes(param->format, param->count);
    if (owner != share->rank) {
        TRY(mem_grow(&m->receives, &m->receive_room, m->n_receives + 1, sizeof *m->receives, "messages to ranks", err));
        m->receives[m->n_receives++] = (struct ranks_message){owner, param_values(set, param), bytes};
        return COHORT_OK;
    }
    TRY(mem_grow(&m->sends, &m->send_room, m->n_sends + (size_t)share->count, sizeof *m->sends, "messages to ranks",
                 err));
    for (int32_t r = 0; r < share->count; r++)
        if (r != owner)
            m->sends[m->n_sends++] = (struct ranks_message){r, param_home(set, i), bytes};
    return COHORT_OK;
}

cohort_status param_shard_gather_values(struct param_set *set, cohort_error *err)
{
    struct messages m = {0};
    cohort_status status = COHORT_OK;
    if (set->training.share.count == 1)
        return COHORT_OK;
    set->there = 0;
    for (int32_t i = 0; i < set->table.n_params; i++)
        if (set->training.first[i] >= 0 && !param_is_divided(set, i))
            TRY_GOTO(add_values(&m, set, i, err));
    TRY_GOTO(param_shard_exchange(set, m.sends, m.n_sends, m.receives, m.n_receives, err));
cleanup:
    messages_free(&m);
    return status;
}

/* ---- Layers ---- */

static cohort_status bring(const struct param_set *set, int32_t layer, cohort_error *err)
{
    struct backend *be = set->backend;
    struct messages m = {0};
    cohort_status status = COHORT_OK;
    for (int32_t i = 0; i < set->table.n_params; i++) {
        const struct param *param = &set->table.params[i];
        if (param->layer != layer || !param_is_divided(set, i))
            continue;
        TRY_GOTO(add_values(&m, set, i, err));
        if (param_home(set, i) != NULL)
            be->ops->copy(be, param_values(set, param), param_home(set, i), storage_bytes(param->format, param->count));
    }
    TRY_GOTO(param_shard_exchange(set, m.sends, m.n_sends, m.receives, m.n_receives, err));
cleanup:
    messages_free(&m);
    return status;
}

void param_shard_need(struct param_set *set, int32_t layer)
{
    if (!param_set_divides(set) || set->there == layer || set->status != COHORT_OK)
        return;
    set->status = bring(set, layer, &set->err);
    set->there = layer;
    set->n_brought++;
}

void param_shard_attend(struct param_set *set)
{
    const int32_t n = param_set_divides(set) ? param_set_layers(set) : 0;
    for (int32_t layer = 1; layer <= n; layer++)
        param_shard_need(set, layer);
}

cohort_status param_shard_check(const struct param_set *set, cohort_error *err)
{
    if (set->status != COHORT_OK && err != NULL)
        *err = set->err;
    return set->status;
}

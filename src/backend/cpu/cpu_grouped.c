/* Products of groups of rows, one weight a group, made of the products of cpu_matmul.c: what those keep of exactness
 * holds here, since a row's bits do not depend on the rows beside it. Groups are worked on as many at a time as fit the
 * last-level cache. */
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_matmul.h"

#include <assert.h>
#include <string.h>

enum { TOGETHER_BYTES = 8 << 20 /* of rows that are multiplied at once */ };

/* Rows begin .. of a tensor that is not grouped, in the order of the groups. */
struct gathering {
    const struct row_groups *groups;
    const char *from;
    char *to;
    size_t row_bytes;
    int64_t first;
};

static void gather_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct gathering *g = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        memcpy(g->to + (size_t)i * g->row_bytes,
               g->from + (size_t)(g->groups->pair[g->first + i] / g->groups->each) * g->row_bytes, g->row_bytes);
}

/* Where rows first .. first + count of x lie, gathered into room if x is not grouped. */
static const void *rows_of(struct backend *backend, const struct row_groups *groups, bool gather, const void *x,
                           size_t row_bytes, int64_t first, int64_t count, void *room)
{
    if (!gather)
        return (const char *)x + (size_t)first * row_bytes;
    const struct gathering g = {groups, x, room, row_bytes, first};
    cpu_run(backend, cpu_threads(backend, count * (int64_t)row_bytes, 0.05), count, 0, gather_rows, &g);
    return room;
}

/* The end of the groups from g on that are multiplied at once. */
static int32_t together(const struct row_groups *groups, int32_t g, size_t row_bytes)
{
    const int64_t most = (int64_t)(TOGETHER_BYTES / row_bytes) + 1;
    int32_t end = g + 1;
    while (end < groups->n && groups->begin[end + 1] - groups->begin[g] <= most)
        end++;
    return end;
}

static int64_t largest_group(const struct row_groups *groups)
{
    int64_t most = 0;
    for (int32_t g = 0; g < groups->n; g++)
        most = groups->begin[g + 1] - groups->begin[g] > most ? groups->begin[g + 1] - groups->begin[g] : most;
    return most;
}

void cpu_grouped_forward(struct backend *backend, const struct grouped_forward *p)
{
    const struct row_groups *groups = p->groups;
    const struct weight *w = p->w[0];
    const size_t type = dtype_bytes(w->type), x_bytes = (size_t)w->k * type, y_bytes = (size_t)w->n * type;
    const size_t list_bytes = ((size_t)groups->n * sizeof(struct matmul_forward) + 63) / 64 * 64;
    const int64_t fit = (int64_t)(TOGETHER_BYTES / x_bytes) + 1, largest = largest_group(groups);
    const int64_t most = groups->rows < fit ? groups->rows : fit > largest ? fit : largest;
    char *room = cpu_scratch_aside(backend, list_bytes + (p->gather ? (size_t)most * x_bytes : 0));
    if (groups->rows == 0 || room == NULL)
        return;
    struct matmul_forward *products = (struct matmul_forward *)(void *)room;
    for (int32_t g = 0, end; g < groups->n; g = end) {
        const int64_t first = groups->begin[g];
        int32_t count = 0;
        end = together(groups, g, x_bytes);
        if (groups->begin[end] == first)
            continue;
        const char *x =
            rows_of(backend, groups, p->gather, p->x, x_bytes, first, groups->begin[end] - first, room + list_bytes);
        for (int32_t i = g; i < end; i++)
            if (groups->begin[i + 1] > groups->begin[i])
                products[count++] = (struct matmul_forward){.w = p->w[i],
                                                            .m = groups->begin[i + 1] - groups->begin[i],
                                                            .x = x + (size_t)(groups->begin[i] - first) * x_bytes,
                                                            .y = (char *)p->y + (size_t)groups->begin[i] * y_bytes,
                                                            .y_stride = w->n,
                                                            .y_type = w->type};
        if (count == 1)
            cpu_matmul_forward(backend, products);
        else
            cpu_matmul_forward_many(backend, products, count);
    }
}

void cpu_grouped_backward_input(struct backend *backend, const struct grouped_backward_input *p)
{
    const struct row_groups *groups = p->groups;
    const struct weight *w = p->w[0];
    const size_t dy_bytes = (size_t)w->n * dtype_bytes(w->type), dx_bytes = (size_t)w->k * dtype_bytes(p->dx_type);
    char *room = p->gather ? cpu_scratch_aside(backend, (size_t)largest_group(groups) * dy_bytes + 64) : NULL;
    if (p->gather && room == NULL)
        return;
    for (int32_t g = 0; g < groups->n; g++) {
        const int64_t first = groups->begin[g], m = groups->begin[g + 1] - first;
        if (m == 0)
            continue;
        const void *dy = rows_of(backend, groups, p->gather, p->dy, dy_bytes, first, m, room);
        cpu_matmul_backward_input(backend,
                                  &(struct matmul_backward_input){.w = p->w[g],
                                                                  .m = m,
                                                                  .dy = dy,
                                                                  .dy_stride = w->n,
                                                                  .dx = (char *)p->dx + (size_t)first * dx_bytes,
                                                                  .dx_type = p->dx_type});
    }
}

void cpu_grouped_backward_weight(struct backend *backend, const struct grouped_backward_weight *p)
{
    const struct row_groups *groups = p->groups;
    const size_t type = dtype_bytes(p->type), dy_bytes = (size_t)p->n * type, x_bytes = (size_t)p->k * type;
    const size_t wide = (p->gather_dy ? dy_bytes : 0) > (p->gather_x ? x_bytes : 0) ? dy_bytes : x_bytes;
    assert(!p->gather_dy || !p->gather_x);
    char *room =
        p->gather_dy || p->gather_x ? cpu_scratch_aside(backend, (size_t)largest_group(groups) * wide + 64) : NULL;
    if ((p->gather_dy || p->gather_x) && room == NULL)
        return;
    for (int32_t g = 0; g < groups->n; g++) {
        const int64_t first = groups->begin[g], m = groups->begin[g + 1] - first;
        if (m == 0)
            continue;
        cpu_matmul_backward_weight(backend,
                                   &(struct matmul_backward_weight){
                                       .m = m,
                                       .n = p->n,
                                       .k = p->k,
                                       .dy = rows_of(backend, groups, p->gather_dy, p->dy, dy_bytes, first, m, room),
                                       .dy_stride = p->n,
                                       .x = rows_of(backend, groups, p->gather_x, p->x, x_bytes, first, m, room),
                                       .type = p->type,
                                       .dw = p->dw + g * p->n * p->k});
    }
}

/* The change of group g as one of a product. */
static struct lowrank change_of(const struct expert_change *change, int32_t g, bool gradients)
{
    const int64_t n = change->n, k = change->k, r = change->r;
    return (struct lowrank){.k = k,
                            .r = r,
                            .a = change->a[g],
                            .da = gradients ? change->da + g * r * k : NULL,
                            .n_parts = 1,
                            .part = {{.n = n,
                                      .r = r,
                                      .scale = change->scale,
                                      .b = change->b[g],
                                      .db = gradients ? change->db + g * n * r : NULL}}};
}

/* Memory for the rows of the largest group and the change of so many: rows get the first gather_bytes for each. */
static char *change_room(struct backend *backend, const struct row_groups *groups, const struct expert_change *change,
                         size_t gather_bytes, bool backward, size_t *rows_bytes)
{
    const struct lowrank first = change_of(change, 0, false);
    const int64_t most = largest_group(groups);
    *rows_bytes = ((size_t)most * gather_bytes + 63) / 64 * 64;
    return cpu_scratch_aside(backend, *rows_bytes + cpu_lowrank_room(&first, most, backward));
}

void cpu_grouped_change_forward(struct backend *backend, const struct grouped_change_forward *p)
{
    const struct row_groups *groups = p->groups;
    const struct expert_change *c = p->change;
    const enum dtype act = c->a[0]->type;
    const size_t type = dtype_bytes(act), x_bytes = (size_t)c->k * type;
    size_t rows_bytes = 0;
    char *room = change_room(backend, groups, c, p->gather ? x_bytes : 0, false, &rows_bytes);
    for (int32_t g = 0; room != NULL && g < groups->n; g++) {
        const int64_t first = groups->begin[g], m = groups->begin[g + 1] - first;
        const struct lowrank change = change_of(c, g, false);
        if (m > 0)
            cpu_lowrank_add(
                backend, &change,
                &(struct matmul_forward){.m = m,
                                         .x = rows_of(backend, groups, p->gather, p->x, x_bytes, first, m, room),
                                         .y = (char *)p->y + (size_t)(first * c->n) * type,
                                         .y_stride = c->n,
                                         .y_type = act},
                room + rows_bytes);
    }
}

void cpu_grouped_change_backward(struct backend *backend, const struct grouped_change_backward *p)
{
    const struct row_groups *groups = p->groups;
    const struct expert_change *c = p->change;
    const size_t type = dtype_bytes(c->a[0]->type), dy_bytes = (size_t)c->n * type, x_bytes = (size_t)c->k * type,
                 dx_bytes = p->dx == NULL ? 0 : (size_t)c->k * dtype_bytes(p->dx_type);
    size_t rows_bytes = 0;
    assert(!p->gather_dy || !p->gather_x);
    char *room = change_room(backend, groups, c,
                             p->gather_dy  ? dy_bytes
                             : p->gather_x ? x_bytes
                                           : 0,
                             true, &rows_bytes);
    for (int32_t g = 0; room != NULL && g < groups->n; g++) {
        const int64_t first = groups->begin[g], m = groups->begin[g + 1] - first;
        const struct lowrank change = change_of(c, g, p->x != NULL);
        if (m == 0)
            continue;
        cpu_lowrank_gradients(
            backend,
            &(struct lowrank_backward){
                .change = &change,
                .m = m,
                .dy = rows_of(backend, groups, p->gather_dy, p->dy, dy_bytes, first, m, room),
                .dy_stride = c->n,
                .x = p->x == NULL ? NULL : rows_of(backend, groups, p->gather_x, p->x, x_bytes, first, m, room),
                .dx = p->dx == NULL ? NULL : (char *)p->dx + (size_t)first * dx_bytes,
                .dx_type = p->dx_type},
            room + rows_bytes);
    }
}

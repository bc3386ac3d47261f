/* Changes of low rank, made of the products of cpu_matmul.c: what those keep of exactness holds here. */
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_matmul.h"

#include <assert.h>

enum { ROWS = 4096 }; /* worked on at once: bounds the memory, changes no bit */

/* The sums of one product and what becomes of them. */
struct scaling {
    const float *sum; /* [m, width], of which count columns from first on are read */
    int64_t width, first, count;
    float scale;
    void *to; /* [m, stride] type, written from column on */
    int64_t stride, column;
    enum dtype type;
};

static void scale_rows(const void *context, int64_t begin, int64_t end, int thread)
{
    const struct scaling *p = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *from = p->sum + i * p->width + p->first;
        const int64_t at = i * p->stride + p->column;
        if (p->type == DTYPE_F32)
            for (int64_t j = 0; j < p->count; j++)
                ((float *)p->to)[at + j] = p->scale * from[j];
        else
            for (int64_t j = 0; j < p->count; j++)
                ((uint16_t *)p->to)[at + j] = bf16_from_f32(p->scale * from[j]);
    }
}

static void scale_sums(struct backend *backend, int64_t m, const struct scaling *p)
{
    cpu_run(backend, cpu_threads(backend, m * p->count, 0.5), m, 0, scale_rows, p);
}

/* Memory for up to ROWS rows. */
struct room {
    float *sum;  /* [m, r] */
    char *h, *d; /* h: [m, r] of each part behind the other; d: [m, r] of all */
    size_t type_bytes;
};

/* Elements of h, and their bytes. */
static size_t room_count(const struct lowrank *change, int64_t m)
{
    return (size_t)(m < ROWS ? m : ROWS) * (size_t)change->r;
}

static size_t part_bytes(const struct lowrank *change, int64_t m)
{
    return (room_count(change, m) * dtype_bytes(change->a->type) + 63) / 64 * 64;
}

size_t cpu_lowrank_room(const struct lowrank *change, int64_t m, bool backward)
{
    return room_count(change, m) * sizeof(float) + 64 + (backward ? 2 : 1) * part_bytes(change, m);
}

static struct room room_in(void *memory, const struct lowrank *change, int64_t m, bool backward)
{
    const size_t part = part_bytes(change, m);
    char *at = memory;
    return (struct room){.h = at,
                         .d = at + part,
                         .sum = (float *)(void *)(at + (backward ? 2 : 1) * part),
                         .type_bytes = dtype_bytes(change->a->type)};
}

/* room->h = scale * x . a^T */
static void narrow(struct backend *backend, const struct lowrank *change, int64_t m, const void *x,
                   const struct room *room)
{
    int64_t first = 0;
    cpu_matmul_forward(backend,
                       &(struct matmul_forward){
                           .w = change->a, .m = m, .x = x, .y = room->sum, .y_stride = change->r, .y_type = DTYPE_F32});
    for (int32_t i = 0; i < change->n_parts; i++) {
        const struct lowrank_part *part = &change->part[i];
        scale_sums(backend, m,
                   &(struct scaling){.sum = room->sum,
                                     .width = change->r,
                                     .first = first,
                                     .count = part->r,
                                     .scale = part->scale,
                                     .to = room->h + (size_t)(m * first) * room->type_bytes,
                                     .stride = part->r,
                                     .type = change->a->type});
        first += part->r;
    }
}

void cpu_lowrank_add(struct backend *backend, const struct lowrank *change, const struct matmul_forward *product,
                     void *memory)
{
    const struct room room = room_in(memory, change, product->m, false);
    const size_t type = room.type_bytes, y_bytes = dtype_bytes(product->y_type);
    for (int64_t row = 0; row < product->m; row += ROWS) {
        const int64_t m = product->m - row < ROWS ? product->m - row : ROWS;
        int64_t first = 0;
        narrow(backend, change, m, (const char *)product->x + (size_t)(row * change->k) * type, &room);
        for (int32_t i = 0; i < change->n_parts; i++) {
            const struct lowrank_part *part = &change->part[i];
            cpu_matmul_add(backend, part->b, m, room.h + (size_t)(m * first) * type,
                           (char *)product->y + (size_t)(row * product->y_stride + part->column) * y_bytes,
                           product->y_stride, product->y_type);
            first += part->r;
        }
    }
}

void cpu_lowrank_forward(struct backend *backend, const struct lowrank_forward *p)
{
    const struct matmul_forward *product = p->product;
    struct matmul_forward rest = *product;
    void *memory = cpu_scratch_aside(backend, cpu_lowrank_room(p->change, product->m, false));
    if (product->m == 0 || memory == NULL)
        return;
    matmul_make_input(backend, product);
    rest.norm = NULL;
    if (rest.w != NULL)
        cpu_matmul_forward(backend, &rest);
    cpu_lowrank_add(backend, p->change, product, memory);
}

/* Gradients of parts, and room->d = scale * dy . b beside each other. */
static void parts_backward(struct backend *backend, const struct lowrank_backward *p, int64_t m, const char *dy,
                           const struct room *room)
{
    const struct lowrank *change = p->change;
    int64_t first = 0;
    for (int32_t i = 0; i < change->n_parts; i++) {
        const struct lowrank_part *part = &change->part[i];
        const void *dy_part = dy + (size_t)part->column * room->type_bytes;
        if (part->db != NULL)
            cpu_matmul_backward_weight(
                backend, &(struct matmul_backward_weight){.m = m,
                                                          .n = part->n,
                                                          .k = part->r,
                                                          .dy = dy_part,
                                                          .dy_stride = p->dy_stride,
                                                          .x = room->h + (size_t)(m * first) * room->type_bytes,
                                                          .type = change->a->type,
                                                          .dw = part->db});
        cpu_matmul_backward_input(
            backend,
            &(struct matmul_backward_input){
                .w = part->b, .m = m, .dy = dy_part, .dy_stride = p->dy_stride, .dx = room->sum, .dx_type = DTYPE_F32});
        scale_sums(backend, m,
                   &(struct scaling){.sum = room->sum,
                                     .width = part->r,
                                     .count = part->r,
                                     .scale = part->scale,
                                     .to = room->d,
                                     .stride = change->r,
                                     .column = first,
                                     .type = change->a->type});
        first += part->r;
    }
}

void cpu_lowrank_gradients(struct backend *backend, const struct lowrank_backward *p, void *memory)
{
    const struct lowrank *change = p->change;
    const struct room room = room_in(memory, change, p->m, true);
    const size_t type = room.type_bytes, dx_bytes = dtype_bytes(p->dx_type);
    for (int64_t row = 0; row < p->m; row += ROWS) {
        const int64_t m = p->m - row < ROWS ? p->m - row : ROWS;
        const char *x = p->x == NULL ? NULL : (const char *)p->x + (size_t)(row * change->k) * type;
        if (x != NULL)
            narrow(backend, change, m, x, &room);
        parts_backward(backend, p, m, (const char *)p->dy + (size_t)(row * p->dy_stride) * type, &room);
        if (change->da != NULL)
            cpu_matmul_backward_weight(backend, &(struct matmul_backward_weight){.m = m,
                                                                                 .n = change->r,
                                                                                 .k = change->k,
                                                                                 .dy = room.d,
                                                                                 .dy_stride = change->r,
                                                                                 .x = x,
                                                                                 .type = change->a->type,
                                                                                 .dw = change->da});
        if (p->dx != NULL)
            cpu_matmul_add_input(backend, change->a, m, room.d, (char *)p->dx + (size_t)(row * change->k) * dx_bytes,
                                 p->dx_type);
    }
}

void cpu_lowrank_backward(struct backend *backend, const struct lowrank_backward *p)
{
    void *memory = cpu_scratch_aside(backend, cpu_lowrank_room(p->change, p->m, true));
    if (p->m > 0 && memory != NULL)
        cpu_lowrank_gradients(backend, p, memory);
}

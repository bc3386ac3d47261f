#include "model/head.h"
#include "backend/ops.h"

#include <assert.h>

/* Masks that the device holds at once, where they are more than a chunk's: 5 MB with a vocabulary of 150,000. */
enum { MASKS_HELD = 256 };

int64_t head_chunk(const struct model_config *config, size_t bytes)
{
    enum { LEAST = 16 };
    int64_t rows = (int64_t)bytes / ((int64_t)config->vocab_size * (int64_t)sizeof(float));
    return rows < LEAST ? LEAST : rows;
}

void head_work_plan(struct head_work *work, struct arena *arena, const struct model_config *config, enum dtype act,
                    int64_t max_rows, int64_t chunk, bool train, bool keep)
{
    size_t R = (size_t)max_rows, C = (size_t)config->hidden_size, V = (size_t)config->vocab_size;
    if (chunk > max_rows)
        chunk = max_rows;
    work->max_rows = max_rows;
    work->chunk = chunk;
    work->train = train;
    work->keep = keep;
    work->row = arena_take(arena, R * sizeof(int32_t));
    work->target = arena_take(arena, R * sizeof(int32_t));
    work->hidden = arena_take(arena, R * C * dtype_bytes(act));
    work->logits = arena_take(arena, (size_t)(keep ? max_rows : chunk) * V * sizeof(float));
    work->logp = arena_take(arena, R * sizeof(float));
    work->lse = arena_take(arena, R * sizeof(float));
    work->entropy = arena_take(arena, R * sizeof(float));
    work->mean = work->extended ? arena_take(arena, R * sizeof(float)) : NULL;
    work->top = work->extended ? arena_take(arena, R * sizeof(int32_t)) : NULL;
    work->lse_half = work->extended ? arena_take(arena, R * sizeof(float)) : NULL;
    const int64_t room = work->chunk < MASKS_HELD ? MASKS_HELD : work->chunk;
    assert(!work->masked || !work->extended);
    work->mask_room = !work->masked ? 0 : room < max_rows ? room : max_rows;
    work->bits = work->masked
                     ? arena_take(arena, (size_t)work->mask_room * (size_t)allowed_words(config->vocab_size) * 4)
                     : NULL;
    work->which = work->masked ? arena_take(arena, R * sizeof(int32_t)) : NULL;
    work->divergence = work->compared ? arena_take(arena, R * sizeof(float)) : NULL;
    work->to_mix = work->compared ? arena_take(arena, R * sizeof(float)) : NULL;
    work->weight = work->compared ? arena_take(arena, R * sizeof(float)) : NULL;
    if (!train)
        return;
    work->d_logits = arena_take(arena, (size_t)chunk * V * dtype_bytes(act));
    work->d_hidden = arena_take(arena, R * C * sizeof(float));
    work->d_logp = arena_take(arena, R * sizeof(float));
    work->d_entropy = arena_take(arena, R * sizeof(float));
    work->d_mean = work->extended ? arena_take(arena, R * sizeof(float)) : NULL;
}

static void *hidden_at(const struct model *model, const struct head_work *work, int32_t first)
{
    return (char *)work->hidden + (size_t)first * (size_t)model->config.hidden_size * dtype_bytes(model->type);
}

void head_norm(struct model *model, struct head_work *work, const float *x, const int32_t *row, int32_t count)
{
    struct backend *be = model->backend;
    assert(count <= work->max_rows);
    if (row != NULL)
        be->ops->upload(be, work->row, row, (size_t)count * sizeof *row);
    norm_forward(&model->final_norm, count, row != NULL ? work->row : NULL, x, work->hidden, model->type);
}

static float *logits_at(const struct model *model, const struct head_work *work, int32_t first)
{
    return work->logits + (work->keep ? (int64_t)first * model->config.vocab_size : 0);
}

float *head_logits(struct model *model, struct head_work *work, int32_t first, int32_t count)
{
    float *logits = logits_at(model, work, first);
    assert(count <= work->chunk);
    linear_forward(&model->head, count, hidden_at(model, work, first), logits, DTYPE_F32);
    return logits;
}

static int32_t chunk_count(const struct head_work *work, int32_t first, int32_t total)
{
    int64_t left = total - first;
    return (int32_t)(left < work->chunk ? left : work->chunk);
}

/* Where all masks of the outputs fit, they go to the device once, for forward and backward. */
static void load_masks(struct backend *be, struct head_work *work, const struct head_outputs *outputs)
{
    const struct token_masks *masks = outputs->masks;
    if (masks == NULL)
        return;
    assert(work->masked);
    work->loaded = masks->n <= work->mask_room;
    if (!work->loaded)
        return;
    if (masks->n > 0)
        be->ops->upload(be, work->bits, masks->bits, (size_t)masks->n * (size_t)masks->words * sizeof *masks->bits);
    be->ops->upload(be, work->which, outputs->mask, (size_t)outputs->count * sizeof *outputs->mask);
}

/* What the rows first .. first + count of the outputs are allowed; where not all masks fit, after these have been loaded. */
static struct head_allowed allowed_rows(struct backend *be, struct head_work *work, const struct head_outputs *outputs,
                                        int32_t first, int32_t count)
{
    const struct token_masks *masks = outputs->masks;
    if (masks == NULL)
        return (struct head_allowed){0};
    for (int32_t i = first; !work->loaded && i < first + count; i++) {
        const int32_t mask = outputs->mask[i], place = mask < 0 ? -1 : i - first;
        if (mask >= 0)
            be->ops->upload(be, work->bits + place * masks->words, masks->bits + mask * masks->words,
                            (size_t)masks->words * sizeof *masks->bits);
        be->ops->upload(be, work->which + i, &place, sizeof place);
    }
    return (struct head_allowed){.bits = work->bits, .which = work->which + first};
}

void head_forward(struct model *model, struct head_work *work, const float *x, const struct head_outputs *outputs,
                  float temperature, const struct head_values *values)
{
    struct backend *be = model->backend;
    int32_t n = outputs->count;
    size_t bytes = (size_t)n * sizeof(float);
    const bool top = values->top != NULL, mean = values->mean != NULL, squares = values->squares != NULL;
    assert(work->extended || (!top && !mean && !squares));
    assert(!squares || values->lse != NULL);
    if (n == 0)
        return;
    head_norm(model, work, x, outputs->row, n);
    be->ops->upload(be, work->target, outputs->target, (size_t)n * sizeof(int32_t));
    load_masks(be, work, outputs);
    for (int32_t first = 0; first < n; first += (int32_t)work->chunk) {
        int32_t count = chunk_count(work, first, n);
        const float *logits = head_logits(model, work, first, count);
        if (squares) /* exp(2 z) is what half the temperature makes of exp(z); the log-prob is overwritten below */
            be->ops->head_stats(be, &(struct head_stats){.rows = count,
                                                         .vocab = model->config.vocab_size,
                                                         .logits = logits,
                                                         .temperature = 0.5f * temperature,
                                                         .target = work->target + first,
                                                         .logp = work->logp + first,
                                                         .lse = work->lse_half + first});
        be->ops->head_stats(be, &(struct head_stats){.rows = count,
                                                     .vocab = model->config.vocab_size,
                                                     .logits = logits,
                                                     .temperature = temperature,
                                                     .target = work->target + first,
                                                     .logp = work->logp + first,
                                                     .lse = work->lse + first,
                                                     .entropy = work->entropy + first,
                                                     .top = top ? work->top + first : NULL,
                                                     .mean = mean ? work->mean + first : NULL,
                                                     .allowed = allowed_rows(be, work, outputs, first, count)});
    }
    be->ops->download(be, values->logp, work->logp, bytes);
    if (values->entropy != NULL)
        be->ops->download(be, values->entropy, work->entropy, bytes);
    if (top)
        be->ops->download(be, values->top, work->top, bytes);
    if (mean)
        be->ops->download(be, values->mean, work->mean, bytes);
    if (values->lse != NULL)
        be->ops->download(be, values->lse, work->lse, bytes);
    if (squares) {
        be->ops->download(be, values->squares, work->lse_half, bytes);
        for (int32_t i = 0; i < n; i++)
            values->squares[i] = (float)((double)values->squares[i] - 2.0 * (double)values->lse[i]);
    }
}

/* From work->d_hidden of all outputs. */
static void backward_of_norm(struct model *model, struct head_work *work, const float *x,
                             const struct head_outputs *outputs, float *d_x)
{
    for (int32_t w = 0; w < outputs->n_waves; w++) {
        int32_t begin = outputs->wave_begin[w], count = outputs->wave_begin[w + 1] - begin;
        norm_backward(&model->final_norm, count, work->row + begin, x,
                      work->d_hidden + (int64_t)begin * model->config.hidden_size, d_x);
    }
}

void head_backward(struct model *model, struct head_work *work, const float *x, const struct head_outputs *outputs,
                   float temperature, const struct head_derivatives *derivatives, float *d_x)
{
    struct backend *be = model->backend;
    int32_t n = outputs->count;
    int64_t C = model->config.hidden_size, V = model->config.vocab_size;
    size_t bytes = (size_t)n * sizeof(float);
    const bool by_entropy = derivatives->entropy != NULL, by_mean = derivatives->mean != NULL;
    assert(work->train && (work->extended || !by_mean));
    if (n == 0)
        return;
    be->ops->upload(be, work->d_logp, derivatives->logp, bytes);
    if (by_entropy)
        be->ops->upload(be, work->d_entropy, derivatives->entropy, bytes);
    if (by_mean)
        be->ops->upload(be, work->d_mean, derivatives->mean, bytes);
    for (int32_t first = 0; first < n; first += (int32_t)work->chunk) {
        int32_t count = chunk_count(work, first, n);
        const bool there = work->keep || n <= work->chunk; /* from the forward */
        const float *logits = there ? logits_at(model, work, first) : head_logits(model, work, first, count);
        be->ops->head_gradient(be, &(struct head_gradient){.rows = count,
                                                           .vocab = V,
                                                           .logits = logits,
                                                           .temperature = temperature,
                                                           .target = work->target + first,
                                                           .lse = work->lse + first,
                                                           .entropy = work->entropy + first,
                                                           .d_logp = work->d_logp + first,
                                                           .d_entropy = by_entropy ? work->d_entropy + first : NULL,
                                                           .d_logits = work->d_logits,
                                                           .act = model->type,
                                                           .d_mean = by_mean ? work->d_mean + first : NULL,
                                                           .allowed = allowed_rows(be, work, outputs, first, count)});
        linear_backward(&model->head, count, work->d_logits, hidden_at(model, work, first),
                        work->d_hidden + (int64_t)first * C, DTYPE_F32);
    }
    backward_of_norm(model, work, x, outputs, d_x);
}

void head_compare(struct model *model, struct head_work *work, const float *x, const struct head_outputs *outputs,
                  float temperature, const struct head_teacher *teacher, const struct head_values *values,
                  float *divergence, const float *weight, float *d_x)
{
    struct backend *be = model->backend;
    const int32_t n = outputs->count;
    const int64_t C = model->config.hidden_size, V = model->config.vocab_size;
    const size_t bytes = (size_t)n * sizeof(float);
    assert(work->compared && !work->masked && !work->keep && work->chunk <= teacher->work->chunk);
    assert(V == teacher->model->config.vocab_size && (weight == NULL || work->train));
    if (n == 0)
        return;
    head_norm(model, work, x, outputs->row, n);
    be->ops->upload(be, work->target, outputs->target, (size_t)n * sizeof(int32_t));
    if (weight != NULL)
        be->ops->upload(be, work->weight, weight, bytes);
    for (int32_t first = 0; first < n; first += (int32_t)work->chunk) {
        const int32_t count = chunk_count(work, first, n);
        struct divergence pair = {.rows = count,
                                  .vocab = V,
                                  .logits = head_logits(model, work, first, count),
                                  .teacher = head_logits(teacher->model, teacher->work, first, count),
                                  .temperature = temperature,
                                  .lse = work->lse + first,
                                  .lse_teacher = teacher->work->lse + first,
                                  .beta = teacher->beta,
                                  .value = work->divergence + first,
                                  .to_mix = work->to_mix + first,
                                  .weight = work->weight + first,
                                  .d_logits = work->d_logits,
                                  .act = model->type};
        struct head_stats stats = {.rows = count,
                                   .vocab = V,
                                   .logits = pair.logits,
                                   .temperature = temperature,
                                   .target = work->target + first,
                                   .logp = work->logp + first,
                                   .lse = work->lse + first,
                                   .entropy = work->entropy + first};
        be->ops->head_stats(be, &stats);
        stats.logits = pair.teacher;
        stats.logp = teacher->work->logp + first;
        stats.lse = teacher->work->lse + first;
        stats.entropy = NULL;
        be->ops->head_stats(be, &stats);
        be->ops->divergence(be, &pair);
        if (weight == NULL)
            continue;
        be->ops->divergence_gradient(be, &pair);
        linear_backward(&model->head, count, work->d_logits, hidden_at(model, work, first),
                        work->d_hidden + (int64_t)first * C, DTYPE_F32);
    }
    be->ops->download(be, values->logp, work->logp, bytes);
    be->ops->download(be, values->entropy, work->entropy, bytes);
    be->ops->download(be, divergence, work->divergence, bytes);
    if (weight != NULL)
        backward_of_norm(model, work, x, outputs, d_x);
}

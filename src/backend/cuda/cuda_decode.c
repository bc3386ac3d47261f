/* The host's part of sampling and decoding: it packs draws and slots into one upload, launches the kernels of
 * kernel_sample_draw.cu and kernel_sample_filter.cu, and downloads the tokens.
 *
 * Owns struct cuda_decode: made by the first draw, freed with the backend. A window's memory keeps its address until a
 * larger window comes: recorded steps know only the address of its decode_state and of the statistics, everything else
 * they find there. */
#include "backend/cuda/sample_rows.h"

#include "backend/ops.h"
#include "backend/sampling.h"
#include "base/memory.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct cuda_decode {
    void *window; /* decode_state and what it points to */
    size_t window_bytes;
    void *ring;
    size_t ring_bytes;
    void *parts; /* statistics of a step's rows */
    size_t parts_bytes;
    void *copies; /* of rows with penalties */
    size_t copies_bytes;
    unsigned char *host; /* what is uploaded or downloaded */
    size_t host_capacity;
    int32_t n_slots, n_rows, steps;
    bool changes; /* a slot of the window has penalties or filters */
};

static struct cuda_decode *decode_of(struct backend *backend)
{
    struct cuda_state *s = cuda_state_of(backend);
    if (s->decode == NULL && mem_alloc(&s->decode, 1, sizeof *s->decode, "state of decoding", NULL) != COHORT_OK)
        cuda_note(backend, "state of decoding", cudaErrorMemoryAllocation);
    return s->decode;
}

void cuda_decode_destroy(struct backend *backend)
{
    struct cuda_state *s = cuda_state_of(backend);
    struct cuda_decode *d = s->decode;
    if (d == NULL)
        return;
    cuda_free(backend, d->window);
    cuda_free(backend, d->ring);
    cuda_free(backend, d->parts);
    cuda_free(backend, d->copies);
    mem_free(d->host);
    mem_free(d);
    s->decode = NULL;
}

/* d->host with room for bytes. */
static bool host_room(struct backend *backend, struct cuda_decode *d, size_t bytes)
{
    if (mem_grow(&d->host, &d->host_capacity, bytes, 1, "draws", NULL) == COHORT_OK)
        return true;
    cuda_note(backend, "draws", cudaErrorMemoryAllocation);
    return false;
}

/* ---- Packing ---- */

/* One block of memory, filled here and uploaded to device. Filled twice by the same calls: without host memory first,
 * which tells the size. */
struct packer {
    unsigned char *host; /* NULL: only counts */
    unsigned char *device;
    size_t used;
    /* The lists of the parameters and the bitset packed last: rows share them. */
    const struct sampling_params *params;
    const uint32_t *allowed, *allowed_at; /* given; where it is on the device */
    const int32_t *special;
    const struct draw_bias *bias;
};

enum { PACK_ALIGN = 16 };

/* Reserves room for count elements and copies from into it if given. Returns the device's address, and in *host ours
 * (NULL while counting). */
static void *pack(struct packer *pk, size_t count, size_t size, const void *from, void *host)
{
    const size_t at = pk->used;
    void *here = pk->host != NULL ? pk->host + at : NULL;
    pk->used = (at + count * size + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
    if (here != NULL && from != NULL && count > 0)
        memcpy(here, from, count * size);
    if (host != NULL)
        memcpy(host, &here, sizeof here);
    return pk->device + at;
}

static int compare_bias(const void *a, const void *b)
{
    const struct draw_bias *first = a;
    const struct draw_bias *second = b;
    if (first->id != second->id)
        return first->id < second->id ? -1 : 1;
    return first->index < second->index ? -1 : first->index > second->index ? 1 : 0;
}

static void pack_params(struct packer *pk, const struct sampling_params *p)
{
    struct draw_bias *bias = NULL;
    if (pk->params == p)
        return;
    pk->params = p;
    pk->special = pack(pk, (size_t)p->n_xtc_special, sizeof *p->xtc_special, p->xtc_special, NULL);
    pk->bias = pack(pk, (size_t)p->n_bias, sizeof *bias, NULL, &bias);
    if (bias == NULL || p->n_bias <= 0)
        return;
    for (int32_t i = 0; i < p->n_bias; i++)
        bias[i] = (struct draw_bias){.id = p->bias_id[i], .index = i, .bias = p->bias[i]};
    qsort(bias, (size_t)p->n_bias, sizeof *bias, compare_bias);
}

/* The row's bitset on the device; NULL without one. */
static const uint32_t *pack_allowed(struct packer *pk, const struct sample_row *row, int32_t n_choosable)
{
    if (row->allowed == NULL)
        return NULL;
    if (row->allowed != pk->allowed) {
        pk->allowed = row->allowed;
        pk->allowed_at = pack(pk, (size_t)allowed_words(n_choosable), sizeof *row->allowed, row->allowed, NULL);
    }
    return pk->allowed_at;
}

static bool repeats_count(const struct sampling_params *p)
{
    return p->repetition_penalty != 0.0f && p->repetition_penalty != 1.0f;
}

static bool window_penalised(const struct sampling_params *p)
{
    return repeats_count(p) || p->presence_penalty != 0.0f || p->frequency_penalty != 0.0f;
}

/* Whether the row's logits are changed, which is done in a copy. */
static bool needs_copy(const struct sample_row *row)
{
    return row->allowed != NULL || row->params->n_bias > 0 || window_penalised(row->params) ||
           sampling_scales_first(row->params);
}

/* How much of a history of n ids the penalties look at. A context of 0 or less is all of it. */
static int32_t history_wanted(const struct sampling_params *p, int32_t n)
{
    const int32_t context[3] = {repeats_count(p) ? p->repetition_context : -1,
                                p->presence_penalty != 0.0f ? p->presence_context : -1,
                                p->frequency_penalty != 0.0f ? p->frequency_context : -1};
    const bool on[3] = {repeats_count(p), p->presence_penalty != 0.0f, p->frequency_penalty != 0.0f};
    int32_t wanted = 0;
    for (int i = 0; i < 3; i++) {
        if (!on[i])
            continue;
        int32_t one = context[i] > 0 && context[i] < n ? context[i] : n;
        wanted = one > wanted ? one : wanted;
    }
    return wanted > 0 ? wanted : 0;
}

/* The temperature of the reported log-prob. */
static float stats_temperature(const struct sampling_params *p)
{
    return p->temperature == 0.0f ? 1.0f : p->temperature;
}

/* room: ids that decoding may append to the history. */
static void pack_draw(struct packer *pk, struct draw_row *out, const struct sample_row *row, int32_t n_choosable,
                      int32_t room)
{
    const struct sampling_params *p = row->params;
    const int32_t kept = history_wanted(p, row->n_history);
    int32_t *history = NULL;
    assert(stats_temperature(p) > 0.0f && n_choosable > 0);
    pack_params(pk, p);
    const uint32_t *allowed = pack_allowed(pk, row, n_choosable);
    if (window_penalised(p)) {
        int32_t *here = NULL;
        history = pack(pk, (size_t)kept + (size_t)room, sizeof *here, NULL, &here);
        if (here != NULL && kept > 0)
            memcpy(here, row->history + (row->n_history - kept), (size_t)kept * sizeof *here);
    }
    if (out == NULL)
        return;
    const float log_min_p = p->min_p != 0.0f ? (float)log((double)p->min_p) : 0.0f;
    *out = (struct draw_row){.seed = row->seed,
                             .stream = row->stream,
                             .position = row->position,
                             .temperature = p->temperature,
                             .inv_temperature = 1.0f / stats_temperature(p),
                             .hf_order = p->hf_order,
                             .scales_first = sampling_scales_first(p),
                             .n_choosable = n_choosable,
                             .logits_row = row->logits_row,
                             .changes = sample_row_changes(row),
                             .penalised = needs_copy(row),
                             .window_penalised = window_penalised(p),
                             .top_p = p->top_p > 0.0f && p->top_p < 1.0f ? p->top_p : 0.0f,
                             /* A negative min_p has no logarithm: nothing is less than NaN. */
                             .min_p = p->min_p != 0.0f && !isnan(log_min_p),
                             .log_min_p = log_min_p,
                             .min_tokens_to_keep = p->min_tokens_to_keep,
                             .xtc_probability = p->xtc_probability,
                             .xtc_threshold = p->xtc_threshold,
                             .top_k = p->top_k,
                             .repetition_penalty = repeats_count(p) ? p->repetition_penalty : 1.0f,
                             .presence_penalty = p->presence_penalty,
                             .frequency_penalty = p->frequency_penalty,
                             .repetition_context = p->repetition_context,
                             .presence_context = p->presence_context,
                             .frequency_context = p->frequency_context,
                             .n_special = p->n_xtc_special,
                             .n_bias = p->n_bias,
                             .n_history = kept,
                             .allowed = allowed,
                             .masked = row->masked,
                             .special = pk->special,
                             .bias = pk->bias,
                             .history = history};
}

/* Sizes of the copies for rows with penalties, and where in block they lie; none if no row has any. Returns their
 * bytes. */
static size_t plan_copies(struct draw_work *work, int32_t n_copies, int64_t n_choosable)
{
    enum { UNIT = 64 };
    *work = (struct draw_work){.stride = (n_choosable + UNIT - 1) / UNIT * UNIT, .n_copies = n_copies};
    return (size_t)n_copies * (size_t)work->stride * (sizeof *work->copy + sizeof *work->seen);
}

static void place_copies(struct draw_work *work, void *block)
{
    work->copy = block;
    work->seen = (uint32_t *)block + (int64_t)work->n_copies * work->stride;
}

/* ---- Decoding ---- */

/* What the first step of row i feeds. */
static void pack_first(const struct decode_load *p, int32_t i, int32_t *token, int32_t *position, int32_t *kv_row)
{
    *token = 0;
    *position = 0;
    *kv_row = -1;
    if (i >= p->n_slots)
        return;
    const struct decode_slot *slot = &p->slots[i];
    const int32_t page = slot->position / ATTENTION_CHUNK - slot->n_prompt / ATTENTION_CHUNK;
    assert(slot->position >= slot->n_prompt && page < slot->n_own_pages);
    *token = slot->token;
    *position = slot->position;
    *kv_row = slot->own_page[page] * ATTENTION_CHUNK + slot->position % ATTENTION_CHUNK;
}

static void pack_slot(struct packer *pk, struct decode_slot_state *out, const struct decode_slot *slot)
{
    const int32_t *own = pack(pk, (size_t)slot->n_own_pages, sizeof *slot->own_page, slot->own_page, NULL);
    const int32_t *eos = pack(pk, (size_t)slot->n_eos, sizeof *slot->eos, slot->eos, NULL);
    if (out != NULL)
        *out = (struct decode_slot_state){.n_left = slot->n_left,
                                          .stopped = slot->n_left <= 0,
                                          .first_own_chunk = slot->n_prompt / ATTENTION_CHUNK,
                                          .n_own_pages = slot->n_own_pages,
                                          .n_eos = slot->n_eos,
                                          .own_page = own,
                                          .eos = eos};
}

/* decode_state first, then what it points to. */
static void pack_window(struct packer *pk, const struct decode_load *p, const void *ring, const struct draw_work *work)
{
    const size_t slots = (size_t)p->n_slots;
    const size_t rows = (size_t)p->n_rows;
    struct decode_state *state = NULL;
    struct decode_slot_state *slot = NULL;
    struct draw_row *draw = NULL;
    int32_t *first[3] = {NULL, NULL, NULL};
    void *first_at[3];
    (void)pack(pk, 1, sizeof *state, NULL, &state);
    void *slots_at = pack(pk, slots, sizeof *slot, NULL, &slot);
    void *draws_at = pack(pk, slots, sizeof *draw, NULL, &draw);
    for (int i = 0; i < 3; i++)
        first_at[i] = pack(pk, rows, sizeof *first[i], NULL, &first[i]);
    for (int32_t i = 0; i < p->n_slots; i++) {
        const struct decode_slot *from = &p->slots[i];
        pack_slot(pk, slot != NULL ? slot + i : NULL, from);
        pack_draw(pk, draw != NULL ? draw + i : NULL, &from->draw, from->n_choosable, p->steps);
    }
    if (state == NULL)
        return;
    for (int32_t i = 0; i < p->n_rows; i++)
        pack_first(p, i, &first[0][i], &first[1][i], &first[2][i]);
    *state = (struct decode_state){.n_slots = p->n_slots,
                                   .n_rows = p->n_rows,
                                   .steps = p->steps,
                                   .slots = slots_at,
                                   .draws = draws_at,
                                   .token = p->token,
                                   .position = p->position,
                                   .kv_row = p->kv_row,
                                   .first_token = first_at[0],
                                   .first_position = first_at[1],
                                   .first_kv_row = first_at[2],
                                   .ring = (int32_t *)ring,
                                   .work = *work};
}

static size_t ring_bytes(int32_t steps, int32_t n_slots)
{
    return 3 * (size_t)steps * (size_t)n_slots * sizeof(int32_t);
}

/* Allocates device memory for the window; false (and the error is noted) if there is none. */
static bool reserve_window(struct backend *backend, struct cuda_decode *d, const struct decode_load *p,
                           struct draw_work *work)
{
    bool copies = false;
    int64_t n_choosable = 0;
    d->changes = false;
    for (int32_t i = 0; i < p->n_slots; i++) {
        const struct sample_row *draw = &p->slots[i].draw;
        assert(draw->allowed == NULL);
        d->changes = d->changes || sample_row_changes(draw);
        copies = copies || needs_copy(draw);
        n_choosable = p->slots[i].n_choosable > n_choosable ? p->slots[i].n_choosable : n_choosable;
    }
    *work = (struct draw_work){0};
    if (copies) {
        size_t bytes = plan_copies(work, cuda_draw_copies(backend, p->n_rows), n_choosable);
        if (!cuda_grow(backend, &d->copies, &d->copies_bytes, bytes))
            return false;
        place_copies(work, d->copies);
    }
    struct packer counting = {0};
    pack_window(&counting, p, NULL, work);
    return cuda_grow(backend, &d->ring, &d->ring_bytes, ring_bytes(p->steps, p->n_slots)) &&
           cuda_grow(backend, &d->window, &d->window_bytes, counting.used) && host_room(backend, d, counting.used);
}

cohort_status cuda_decode_load(struct backend *backend, const struct decode_load *p, cohort_error *err)
{
    struct cuda_decode *d = decode_of(backend);
    struct draw_work work;
    assert(p->n_slots >= 0 && p->n_slots <= p->n_rows && p->steps >= 0);
    cuda_make_current(backend);
    if (d == NULL || !reserve_window(backend, d, p, &work))
        return error_set(err, COHORT_ERR_MEMORY, "no memory for decoding %d sequences", p->n_slots);
    d->n_slots = p->n_slots;
    d->n_rows = p->n_rows;
    d->steps = p->steps;
    struct packer packing = {.host = d->host, .device = d->window};
    pack_window(&packing, p, d->ring, &work);
    cuda_upload(backend, d->window, d->host, packing.used);
    cuda_decode_start(backend, d->window, p->n_rows);
    if (!cuda_attention_prepare_decode(backend, p))
        return error_set(err, COHORT_ERR_MEMORY, "no memory for attention of %d sequences", p->n_slots);
    return COHORT_OK;
}

void cuda_decode_draw(struct backend *backend, const struct decode_draw *p)
{
    struct cuda_decode *d = cuda_state_of(backend)->decode;
    assert(d != NULL && p->first >= 0 && p->first + p->count <= d->n_rows);
    if (p->count <= 0 || !cuda_grow(backend, &d->parts, &d->parts_bytes, cuda_draw_parts_bytes(p->vocab, p->count)))
        return;
    const struct draw_job job = {.logits = p->logits,
                                 .vocab = p->vocab,
                                 .parts = d->parts,
                                 .n_parts = cuda_draw_parts_of(p->vocab),
                                 .first = p->first,
                                 .count = p->count,
                                 .n_stats = p->count,
                                 .decode = d->window};
    cuda_draw_launch(backend, &job, d->changes);
}

void cuda_decode_fetch(struct backend *backend, int32_t steps, int32_t *tokens, float *logp, float *entropy)
{
    struct cuda_decode *d = cuda_state_of(backend)->decode;
    assert(d != NULL && steps <= d->steps);
    const size_t n = (size_t)d->n_slots;
    const size_t bytes = ring_bytes(steps, d->n_slots);
    if (bytes == 0)
        return;
    const bool room = host_room(backend, d, bytes);
    if (room)
        cuda_download(backend, d->host, d->ring, bytes);
    for (size_t step = 0; step < (size_t)steps; step++) {
        const unsigned char *from = room ? d->host + 3 * step * n * sizeof *tokens : NULL;
        for (size_t i = 0; i < n && !room; i++) {
            tokens[step * n + i] = -1;
            logp[step * n + i] = entropy[step * n + i] = NAN;
        }
        if (room) {
            memcpy(tokens + step * n, from, n * sizeof *tokens);
            memcpy(logp + step * n, from + n * sizeof *tokens, n * sizeof *logp);
            memcpy(entropy + step * n, from + 2 * n * sizeof *tokens, n * sizeof *entropy);
        }
    }
}

/* ---- What all of this takes at most ---- */

static size_t copies_bytes(const struct backend *backend, const struct backend_load *load, int64_t rows)
{
    struct draw_work work;
    const int32_t n = rows < INT32_MAX ? (int32_t)rows : INT32_MAX;
    return load->history < 0 ? 0 : plan_copies(&work, cuda_draw_copies(backend, n), load->vocab);
}

/* A draw as it is packed, with the ids that its penalties look at and n more. */
static size_t packed_draw_bytes(const struct backend_load *load, int32_t n)
{
    const size_t history = load->history < 0 ? 0 : (size_t)(load->history + n) * sizeof(int32_t) + PACK_ALIGN;
    return sizeof(struct draw_row) + history;
}

/* Lists that draws share: biases, ids that XTC spares. */
enum { PARAMS_BYTES = 1 << 16 };

size_t cuda_sample_scratch(const struct backend *backend, const struct backend_load *load)
{
    const size_t draws = (size_t)load->draws;
    /* Constraints: a bitset of each draw, and the statistics of what it allows. */
    const size_t constraints = load->history < 0
                                   ? 0
                                   : draws * ((size_t)allowed_words(load->vocab) * sizeof(uint32_t) + PACK_ALIGN) +
                                         cuda_allowed_parts_bytes(load->vocab, load->draws);
    return constraints + copies_bytes(backend, load, load->draws) +
           draws * (sizeof(struct draw_result) + packed_draw_bytes(load, 0) + sizeof(int32_t)) + PARAMS_BYTES +
           cuda_draw_parts_bytes(load->vocab, load->logits_rows);
}

size_t cuda_decode_working_bytes(const struct backend *backend, const struct backend_load *load)
{
    if (load->sequences == 0)
        return 0;
    const size_t n = (size_t)load->sequences;
    const size_t pages = (size_t)load->context / ATTENTION_CHUNK + 2;
    const size_t slot = sizeof(struct decode_slot_state) + pages * sizeof(int32_t) +
                        packed_draw_bytes(load, DECODE_STEPS_MOST) + 3 * sizeof(int32_t) + 4 * PACK_ALIGN;
    return cuda_grown_bytes(n * slot + PARAMS_BYTES) +
           cuda_grown_bytes(ring_bytes(DECODE_STEPS_MOST, load->sequences)) +
           cuda_grown_bytes(cuda_draw_parts_bytes(load->vocab, load->logits_rows)) +
           cuda_grown_bytes(copies_bytes(backend, load, load->sequences));
}

/* ---- Sampling that the host asks for ---- */

static bool shares_stats(const struct sample_row *a, const struct sample_row *b)
{
    return a->logits_row == b->logits_row && stats_temperature(a->params) == stats_temperature(b->params);
}

struct sample_pack {
    const struct draw_row *rows;
    const int32_t *stats_first;
    int32_t n_stats;
};

static struct sample_pack pack_sample(struct packer *pk, const struct sample *p)
{
    const size_t n = (size_t)p->n_rows;
    struct draw_row *row = NULL;
    int32_t *first = NULL;
    struct sample_pack packed = {0};
    packed.rows = pack(pk, n, sizeof *row, NULL, &row);
    packed.stats_first = pack(pk, n, sizeof *first, NULL, &first);
    for (int32_t i = 0; i < p->n_rows; i++) {
        if (i == 0 || !shares_stats(&p->rows[i - 1], &p->rows[i])) {
            if (first != NULL)
                first[packed.n_stats] = i;
            packed.n_stats++;
        }
        pack_draw(pk, row != NULL ? row + i : NULL, &p->rows[i], (int32_t)p->n_choosable, 0);
        if (row != NULL)
            row[i].stats_row = packed.n_stats - 1;
    }
    return packed;
}

/* Launches the draws, whose results are then in d->host; false (and the error is noted) if there is no memory. */
static bool sample_rows(struct backend *backend, struct cuda_decode *d, const struct sample *p)
{
    const size_t result_bytes = (size_t)p->n_rows * sizeof(struct draw_result);
    struct draw_work work = {0};
    size_t copies_bytes = 0;
    bool changes = false, copies = false, constrained = false;
    for (int32_t i = 0; i < p->n_rows; i++) {
        constrained = constrained || p->rows[i].allowed != NULL;
        changes = changes || sample_row_changes(&p->rows[i]);
        copies = copies || needs_copy(&p->rows[i]);
    }
    if (copies)
        copies_bytes = plan_copies(&work, cuda_draw_copies(backend, p->n_rows), p->n_choosable);
    struct packer counting = {0};
    const int32_t n_stats = pack_sample(&counting, p).n_stats;
    /* Scratch: copies, results, the packed rows, statistics. */
    const size_t result_at = copies_bytes;
    const size_t rows_at = (result_at + result_bytes + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
    const size_t parts_at = rows_at + counting.used;
    const size_t allowed_at = parts_at + cuda_draw_parts_bytes(p->vocab, n_stats);
    unsigned char *block =
        cuda_scratch(backend, allowed_at + (constrained ? cuda_allowed_parts_bytes(p->vocab, p->n_rows) : 0));
    const size_t host_bytes = counting.used > result_bytes ? counting.used : result_bytes;
    if (block == NULL || !host_room(backend, d, host_bytes))
        return false;
    if (copies)
        place_copies(&work, block);
    struct packer packing = {.host = d->host, .device = block + rows_at};
    const struct sample_pack packed = pack_sample(&packing, p);
    cuda_upload(backend, block + rows_at, d->host, packing.used);
    const struct draw_job job = {.logits = p->logits,
                                 .vocab = p->vocab,
                                 .parts = (struct logits_part *)(void *)(block + parts_at),
                                 .n_parts = cuda_draw_parts_of(p->vocab),
                                 .allowed_parts =
                                     constrained ? (struct logits_part *)(void *)(block + allowed_at) : NULL,
                                 .count = p->n_rows,
                                 .n_stats = n_stats,
                                 .stats_first = packed.stats_first,
                                 .rows = packed.rows,
                                 .work = work,
                                 .result = (struct draw_result *)(void *)(block + result_at)};
    cuda_draw_launch(backend, &job, changes);
    cuda_download(backend, d->host, block + result_at, result_bytes);
    return cuda_state_of(backend)->error == cudaSuccess;
}

void cuda_sample(struct backend *backend, struct sample *p)
{
    assert(p->n_choosable > 0 && p->n_choosable <= p->vocab && p->n_choosable <= INT32_MAX);
    if (p->n_rows <= 0)
        return;
    struct cuda_decode *d = decode_of(backend);
    const bool drawn = d != NULL && sample_rows(backend, d, p);
    for (int32_t i = 0; i < p->n_rows; i++) {
        struct draw_result result = {-1, NAN, NAN, 0.0f};
        if (drawn)
            memcpy(&result, d->host + (size_t)i * sizeof result, sizeof result);
        p->rows[i].token = result.token;
        p->rows[i].logp = result.logp;
        p->rows[i].entropy = result.entropy;
        p->rows[i].kept = result.kept;
    }
}

/* What the kernels that draw share: uniform numbers, finding a place in a distribution, and the end of a slot's
 * step. */
#ifndef COHORT_BACKEND_CUDA_SAMPLE_DRAW_CUH
#define COHORT_BACKEND_CUDA_SAMPLE_DRAW_CUH

#include "backend/cuda/sample_rows.h"
#include "backend/cuda/head_row.cuh"
#include "backend/ops.h"
#include "backend/sampling.h"

/* Of enum rng_purpose (base/rng.h). */
enum { DRAW_PURPOSE_SAMPLE = 1, DRAW_PURPOSE_XTC = 2 };

/* Uniform in (0, 1) with 53 bits, as rng_uniform_double makes it. */
static __device__ __forceinline__ double draw_uniform(const draw_row &r)
{
    const device_rng_block b = device_philox(r.seed, DRAW_PURPOSE_SAMPLE, r.stream, r.position);
    const uint64_t bits = ((uint64_t)b.word[0] << 32 | b.word[1]) >> 11;
    return ((double)bits + 0.5) * 0x1p-53;
}

/* Which row a block works on, and whether there is anything to do. */
struct draw_place {
    const draw_row *row;
    const float *logits;
    logits_part *parts;
    const decode_slot_state *slot; /* NULL in sample */
};

/* Reads nothing but what stays as it is for a window: it may stand ahead of wait_for_ahead. */
static __device__ __forceinline__ bool draw_place_of(const draw_job &job, int i, draw_place *place)
{
    if (job.decode == NULL) {
        const draw_row *row = job.rows + i;
        place->row = row;
        place->logits = job.logits + (int64_t)row->logits_row * job.vocab;
        place->parts = job.parts + (int64_t)row->stats_row * (job.n_parts + 1);
        place->slot = NULL;
        return true;
    }
    const int slot = job.first + i;
    if (slot >= job.decode->n_slots)
        return false;
    place->row = job.decode->draws + slot;
    place->logits = job.logits + (int64_t)i * job.vocab;
    place->parts = job.parts + (int64_t)i * (job.n_parts + 1);
    place->slot = job.decode->slots + slot;
    return true;
}

static __device__ __forceinline__ bool draw_stopped(const draw_place &place)
{
    return place.slot != NULL && place.slot->stopped != 0;
}

/* The part that n_choosable cuts, if it cuts one: it has statistics of its own. */
static __device__ __forceinline__ bool cuts_part(int32_t n_choosable, int64_t vocab)
{
    return n_choosable < vocab && n_choosable % LOGITS_PART != 0;
}

/* The sum of what the lanes of a warp have, added in order of lanes; *ahead: the sum ahead of the lane. */
static __device__ __forceinline__ double sum_in_order(double own, double *ahead)
{
    double sum = 0.0;
    *ahead = 0.0;
#pragma unroll 4
    for (int i = 0; i < 32; i++) {
        if (i == (int)threadIdx.x % 32)
            *ahead = sum;
        sum += lane_value(own, i);
    }
    return sum;
}

/* The first lane at which the sum of what the lanes have passes wanted; the last lane that has anything if rounding
 * keeps the sum below; -1 if none has. ahead: the sum ahead of the lane. Nothing is negative. */
static __device__ __forceinline__ int pick_lane(double own, double ahead, double wanted)
{
    const unsigned any = __ballot_sync(0xffffffffu, own > 0.0);
    const unsigned over = __ballot_sync(0xffffffffu, own > 0.0 && ahead + own > wanted);
    return over != 0 ? __ffs((int)over) - 1 : any != 0 ? 31 - __clz((int)any) : -1;
}

/* Sum over a warp of doubles up to and including each lane. */
static __device__ __forceinline__ double warp_prefix(double x)
{
    const int lane = (int)threadIdx.x % 32;
    for (int o = 1; o < 32; o *= 2) {
        double below = __shfl_up_sync(0xffffffffu, x, (unsigned)o);
        if (lane >= o)
            x += below;
    }
    return x;
}

/* What a slot's step ends with, read ahead of its token. */
struct decode_next {
    decode_slot_state slot;
    int32_t position, kv_row; /* of the next step */
};

static __device__ __forceinline__ decode_next decode_next_of(const decode_state *d, int slot)
{
    decode_next next;
    next.slot = d->slots[slot];
    next.position = d->position[slot] + 1;
    const int32_t page = next.position / ATTENTION_CHUNK - next.slot.first_own_chunk;
    /* Behind the window's last step there may be no page yet. */
    next.kv_row = -1;
    if (page >= 0 && page < next.slot.n_own_pages)
        next.kv_row = next.slot.own_page[page] * ATTENTION_CHUNK + next.position % ATTENTION_CHUNK;
    return next;
}

/* By one thread, at the end of a slot's step: notes what was drawn and moves the slot on. ends: the token is one that
 * ends the sequence. A slot that stops keeps its token, position and kv_row: until the window ends it computes the same
 * row again, which nobody looks at. */
static __device__ inline void decode_advance(decode_state *d, int slot, const decode_next &next, bool ends,
                                             const draw_result &drawn)
{
    decode_slot_state *s = d->slots + slot;
    draw_row *r = d->draws + slot;
    const bool was_stopped = next.slot.stopped != 0;
    if (next.slot.step < d->steps) {
        int32_t *ring = d->ring + 3 * (int64_t)next.slot.step * d->n_slots;
        ring[slot] = was_stopped ? (int32_t)DECODE_STOPPED : drawn.token;
        ring[d->n_slots + slot] = (int32_t)__float_as_uint(was_stopped ? 0.0f : drawn.logp);
        ring[2 * d->n_slots + slot] = (int32_t)__float_as_uint(was_stopped ? 0.0f : drawn.entropy);
    }
    s->step = next.slot.step + 1;
    if (was_stopped)
        return;
    s->n_left = next.slot.n_left - 1;
    if (drawn.token < 0 || next.slot.n_left <= 1 || ends) {
        s->stopped = 1;
        return;
    }
    if (r->window_penalised)
        r->history[r->n_history++] = drawn.token;
    r->position++;
    d->token[slot] = drawn.token;
    d->position[slot] = next.position;
    d->kv_row[slot] = next.kv_row;
}

/* By one thread: what row i drew. */
static __device__ __forceinline__ void draw_done(const draw_job &job, int i, const draw_result &drawn)
{
    if (job.decode == NULL) {
        job.result[i] = drawn;
        return;
    }
    const decode_next next = decode_next_of(job.decode, job.first + i);
    bool ends = false;
    for (int32_t e = 0; e < next.slot.n_eos; e++)
        ends = ends || next.slot.eos[e] == drawn.token;
    decode_advance(job.decode, job.first + i, next, ends, drawn);
}

#endif

/* What the kernels that draw share: uniform numbers, finding a place in a distribution, and the end
 * of a slot's step. */
#ifndef COHORT_BACKEND_CUDA_DRAW_DEVICE_CUH
#define COHORT_BACKEND_CUDA_DRAW_DEVICE_CUH

#include "backend/cuda/draw_rows.h"
#include "backend/cuda/logits_row.cuh"

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
};

static __device__ __forceinline__ bool draw_place_of(const draw_job &job, int i, draw_place *place)
{
    if (job.decode == NULL) {
        const draw_row *row = job.rows + i;
        place->row = row;
        place->logits = job.logits + (int64_t)row->logits_row * job.vocab;
        place->parts = job.parts + (int64_t)row->stats_row * (job.n_parts + 1);
        return true;
    }
    const int slot = job.first + i;
    if (slot >= job.decode->n_slots)
        return false;
    place->row = job.decode->draws + slot;
    place->logits = job.logits + (int64_t)i * job.vocab;
    place->parts = job.parts + (int64_t)i * (job.n_parts + 1);
    return true;
}

static __device__ __forceinline__ bool draw_stopped(const draw_job &job, int i)
{
    return job.decode != NULL && job.decode->slots[job.first + i].stopped != 0;
}

/* The part that n_choosable cuts, if it cuts one: it has statistics of its own. */
static __device__ __forceinline__ bool cuts_part(int32_t n_choosable, int64_t vocab)
{
    return n_choosable < vocab && n_choosable % LOGITS_PART != 0;
}

/* The first position of the warp, in order of lanes, at which the sum of what the lanes have passes
 * wanted; the last lane that has anything if rounding keeps the sum below; -1 if none has.
 * *before: the sum ahead of that lane. Nothing is negative. */
static __device__ __forceinline__ int pick_lane(double own, double wanted, double *before)
{
    double sum = 0.0, ahead = 0.0;
#pragma unroll 4
    for (int i = 0; i < 32; i++) {
        if (i == (int)threadIdx.x % 32)
            ahead = sum;
        sum += lane_value(own, i);
    }
    const unsigned any = __ballot_sync(0xffffffffu, own > 0.0);
    const unsigned over = __ballot_sync(0xffffffffu, own > 0.0 && ahead + own > wanted);
    const int lane = over != 0 ? __ffs((int)over) - 1 : any != 0 ? 31 - __clz((int)any) : -1;
    *before = lane_value(ahead, lane >= 0 ? lane : 0);
    return lane;
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

/* By one thread, at the end of a slot's step: notes what was drawn and moves the slot on. A slot
 * that stops keeps its token, position and kv_row: until the window ends it computes the same row
 * again, which nobody looks at. */
static __device__ inline void decode_advance(decode_state *d, int slot, int32_t token, float logp)
{
    decode_slot_state *s = d->slots + slot;
    draw_row *r = d->draws + slot;
    const bool was_stopped = s->stopped != 0;
    if (s->step < d->steps) {
        int32_t *ring = d->ring + 2 * (int64_t)s->step * d->n_slots;
        ring[slot] = was_stopped ? (int32_t)DECODE_STOPPED : token;
        ring[d->n_slots + slot] = (int32_t)__float_as_uint(was_stopped ? 0.0f : logp);
    }
    s->step++;
    if (was_stopped)
        return;
    s->n_left--;
    bool stop = token < 0 || s->n_left <= 0;
    for (int32_t i = 0; i < s->n_eos; i++)
        stop = stop || s->eos[i] == token;
    if (stop) {
        s->stopped = 1;
        return;
    }
    if (r->window_penalised)
        r->history[r->n_history++] = token;
    r->position++;
    const int32_t position = d->position[slot] + 1;
    const int32_t page = position / ATTENTION_CHUNK - s->first_own_chunk;
    d->token[slot] = token;
    d->position[slot] = position;
    /* Behind the window's last step there may be no page yet. */
    d->kv_row[slot] = page >= 0 && page < s->n_own_pages
                          ? s->own_page[page] * ATTENTION_CHUNK + position % ATTENTION_CHUNK
                          : -1;
}

/* By one thread: what row i drew. */
static __device__ __forceinline__ void draw_done(const draw_job &job, int i, int32_t token,
                                                 float logp)
{
    if (job.decode != NULL)
        decode_advance(job.decode, job.first + i, token, logp);
    else
        job.result[i] = draw_result{token, logp};
}

#endif

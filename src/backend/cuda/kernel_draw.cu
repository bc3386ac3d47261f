/* Choosing tokens on the device, and the end of a decoding step. Semantics are those of
 * backend/cpu/kernel_sample.c.
 *
 * One kernel gives the statistics of all parts of all rows: the one reading of the logits. Another
 * has a block a row: a warp combines the parts, picks the part that the uniform number falls into,
 * and the block finds the token there: cumulative over ids in ascending order, as on the CPU. Rows
 * with penalties or filters take their choice from kernel_filter.cu instead. Each row ends its own
 * step (decode_advance): nothing is shared between rows.
 *
 * A row without a distribution gets token -1 and a NaN log-prob. */
#include "backend/cuda/draw_device.cuh"

/* Block p + n_parts * i: part p of stats row i. */
static __global__ void __launch_bounds__(LOGITS_THREADS) draw_part_kernel(draw_job job)
{
    __shared__ logits_part shared[2][LOGITS_WARPS];
    const int i = (int)(blockIdx.x / (unsigned)job.n_parts);
    const int part = (int)(blockIdx.x % (unsigned)job.n_parts);
    const int draw = job.stats_first != NULL ? job.stats_first[i] : i;
    draw_place place;
    if (!draw_place_of(job, draw, &place) || draw_stopped(job, draw))
        return;
    const float inv_temperature = place.row->inv_temperature;
    const int32_t n_choosable = place.row->n_choosable;
    const int64_t begin = (int64_t)part * LOGITS_PART;
    float x[LOGITS_EACH];
    load_part(x, place.logits, begin, job.vocab);
    const logits_part whole = part_statistics(x, inv_temperature, shared[0]);
    if (threadIdx.x == 0)
        place.parts[part] = whole;
    if (!cuts_part(n_choosable, job.vocab) || n_choosable / LOGITS_PART != part)
        return;
    const int left = (int)(n_choosable - begin);
#pragma unroll
    for (int v = 0; v < LOGITS_EACH / 4; v++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (part_offset(v) + j >= left)
                x[4 * v + j] = negative_infinity();
    const logits_part cut = part_statistics(x, inv_temperature, shared[1]);
    if (threadIdx.x == 0)
        place.parts[job.n_parts] = cut;
}

/* A part and the place within it. */
struct draw_choice {
    int part;      /* -1: nothing to draw from */
    float max;     /* of the part: what its exps are relative to */
    double wanted; /* sum of exp(z - max) within the part that the token passes */
};

/* One warp; every lane gets the result. The parts of the choosable ids are parts[0 .. n), the last
 * one perhaps replaced by its cut. */
static __device__ __forceinline__ draw_choice choose_part(const logits_part *parts, int n,
                                                          const logits_part *last,
                                                          float temperature, double uniform)
{
    const int lane = (int)threadIdx.x % 32;
    const int each = parts_per_lane(n);
    const int begin = lane * each < n ? lane * each : n;
    const int end = begin + each < n ? begin + each : n;
    float own_max = negative_infinity();
    for (int b = begin; b < end; b++)
        own_max = fmaxf(own_max, b < n - 1 ? parts[b].max : last->max);
    const float max = warp_max(own_max);
    draw_choice choice = {-1, max, 0.0};
    if (max == negative_infinity())
        return choice;
    if (temperature == 0.0f) {
        /* The lowest part that has the maximum. */
        const unsigned has = __ballot_sync(0xffffffffu, own_max == max);
        const int first = __ffs((int)has) - 1;
        int found = n;
        for (int b = end - 1; b >= begin; b--)
            if ((b < n - 1 ? parts[b].max : last->max) == max)
                found = b;
        choice.part = __shfl_sync(0xffffffffu, found, first);
        return choice;
    }
    double own = 0.0;
    for (int b = begin; b < end; b++) {
        const logits_part p = b < n - 1 ? parts[b] : *last;
        own += exp((double)p.max - (double)max) * (double)p.sum;
    }
    double whole = 0.0, ahead = 0.0;
#pragma unroll 4
    for (int i = 0; i < 32; i++)
        whole += lane_value(own, i);
    const double wanted = uniform * whole;
    const int picked = pick_lane(own, wanted, &ahead);
    if (picked < 0)
        return choice;
    double sum = ahead, left = 0.0;
    for (int b = begin; b < end && sum <= wanted; b++) {
        const logits_part p = b < n - 1 ? parts[b] : *last;
        const double weight = exp((double)p.max - (double)max) * (double)p.sum;
        if (!(weight > 0.0))
            continue;
        choice.part = b;
        choice.max = p.max;
        left = wanted - sum;
        sum += weight;
    }
    choice.part = __shfl_sync(0xffffffffu, choice.part, picked);
    choice.max = lane_value(choice.max, picked);
    choice.wanted = lane_value(left, picked) / exp((double)choice.max - (double)max);
    return choice;
}

struct draw_shared {
    double lse;
    draw_choice choice;
    double warp_total[LOGITS_WARPS];
    int first, last;
};

/* By the whole block: the first token of the part at which the sum passes choice.wanted; the last
 * one that adds to it if rounding keeps the sum below. A token that adds nothing is never it. With
 * greedy: the first one that has the maximum. Offset within the part. */
static __device__ __forceinline__ int choose_token(const float *logits, int count,
                                                   float inv_temperature, bool greedy,
                                                   draw_shared *shared)
{
    const draw_choice choice = shared->choice;
    const int begin = (int)threadIdx.x * LOGITS_EACH;
    const bool wide = is_wide(logits);
    float e[LOGITS_EACH];
    double own = 0.0;
#pragma unroll
    for (int v = 0; v < LOGITS_EACH / 4; v++) {
        const float4 x = load_logits4(logits, begin + 4 * v, count, wide);
        e[4 * v] = x.x;
        e[4 * v + 1] = x.y;
        e[4 * v + 2] = x.z;
        e[4 * v + 3] = x.w;
    }
#pragma unroll
    for (int j = 0; j < LOGITS_EACH; j++) {
        const float z = e[j] * inv_temperature;
        if (greedy)
            e[j] = z == choice.max ? 1.0f : 0.0f;
        else
            e[j] = exp_of_part(z - choice.max);
        own += (double)e[j];
    }
    const double wanted = greedy ? 0.0 : choice.wanted;
    const double through = warp_prefix(own);
    const int warp = (int)threadIdx.x / 32;
    if (threadIdx.x % 32 == 31)
        shared->warp_total[warp] = through;
    __syncthreads();
    double sum = 0.0;
    for (int w = 0; w < warp; w++)
        sum += shared->warp_total[w];
    double below = __shfl_up_sync(0xffffffffu, through, 1u);
    sum += threadIdx.x % 32 == 0 ? 0.0 : below;
    int first = LOGITS_PART, last = -1;
#pragma unroll
    for (int j = 0; j < LOGITS_EACH; j++) {
        if (!(e[j] > 0.0f))
            continue;
        sum += (double)e[j];
        last = begin + j;
        if (first == LOGITS_PART && sum > wanted)
            first = begin + j;
    }
    if (first < LOGITS_PART)
        atomicMin(&shared->first, first);
    if (last >= 0)
        atomicMax(&shared->last, last);
    __syncthreads();
    return shared->first < LOGITS_PART ? shared->first : shared->last;
}

static __global__ void __launch_bounds__(LOGITS_THREADS, 6) draw_kernel(draw_job job)
{
    __shared__ draw_shared shared;
    const int i = (int)blockIdx.x;
    draw_place place;
    if (!draw_place_of(job, i, &place) || place.row->changes)
        return;
    if (draw_stopped(job, i)) {
        if (threadIdx.x == 0)
            draw_done(job, i, -1, 0.0f);
        return;
    }
    const draw_row *r = place.row;
    const int32_t n_choosable = r->n_choosable;
    const bool greedy = r->temperature == 0.0f;
    const int n = (n_choosable + LOGITS_PART - 1) / LOGITS_PART;
    if (threadIdx.x < 32) {
        const logits_row row = row_statistics(place.parts, job.n_parts);
        draw_choice choice = {-1, 0.0f, 0.0};
        const bool cut = cuts_part(n_choosable, job.vocab);
        if (row.valid)
            choice = choose_part(place.parts, n, place.parts + (cut ? job.n_parts : n - 1),
                                 r->temperature, draw_uniform(*r));
        if (threadIdx.x == 0) {
            shared.lse = row.lse;
            shared.choice = choice;
            shared.first = LOGITS_PART;
            shared.last = -1;
        }
    }
    __syncthreads();
    int token = -1;
    if (shared.choice.part >= 0) {
        const int begin = shared.choice.part * LOGITS_PART;
        const int left = n_choosable - begin;
        const int found =
            choose_token(place.logits + begin, left < LOGITS_PART ? left : (int)LOGITS_PART,
                         r->inv_temperature, greedy, &shared);
        token = found >= 0 ? begin + found : -1;
    }
    if (threadIdx.x != 0)
        return;
    float logp = not_a_number();
    if (token >= 0)
        logp = row_logp(shared.lse, place.logits[token], r->inv_temperature);
    draw_done(job, i, token, logp);
}

static __global__ void decode_start_kernel(decode_state *d, int n_rows)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n_rows)
        return;
    d->token[i] = d->first_token[i];
    d->position[i] = d->first_position[i];
    d->kv_row[i] = d->first_kv_row[i];
}

extern "C" int32_t cuda_draw_parts_of(int64_t vocab)
{
    return (int32_t)((vocab + LOGITS_PART - 1) / LOGITS_PART);
}

extern "C" size_t cuda_draw_parts_bytes(int64_t vocab, int64_t stats_rows)
{
    return (size_t)stats_rows * (size_t)(cuda_draw_parts_of(vocab) + 1) * sizeof(logits_part);
}

extern "C" void cuda_draw_launch(struct backend *backend, const struct draw_job *job, bool changes)
{
    struct cuda_state *s = cuda_state_of(backend);
    if (job->count <= 0)
        return;
    LAUNCH(draw_part_kernel, (unsigned)job->n_stats * (unsigned)job->n_parts, LOGITS_THREADS, 0,
           s->stream, *job);
    LAUNCH(draw_kernel, (unsigned)job->count, LOGITS_THREADS, 0, s->stream, *job);
    cuda_note(backend, "draw", cudaSuccess);
    if (changes)
        cuda_filter_launch(backend, job);
}

extern "C" void cuda_decode_start(struct backend *backend, struct decode_state *decode,
                                  int32_t n_rows)
{
    if (n_rows <= 0)
        return;
    LAUNCH(decode_start_kernel, (unsigned)(n_rows + 127) / 128, 128, 0,
           cuda_state_of(backend)->stream, decode, (int)n_rows);
    cuda_note(backend, "decode_start", cudaSuccess);
}

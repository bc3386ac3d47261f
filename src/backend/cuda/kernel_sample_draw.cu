/* Choosing tokens on the device, and the end of a decoding step. Semantics are those of backend/cpu/kernel_sample.c.
 *
 * One kernel gives the statistics of all parts of all rows: the one reading of the logits. Another has a block a row: a
 * warp picks the part that the uniform number falls into and the block finds the token there, cumulative over ids in
 * ascending order, as on the CPU, while a further warp combines the parts and reads what the end of the step needs.
 * Rows with penalties or filters take their choice from kernel_sample_filter.cu instead. Each row ends its own step
 * (decode_advance): nothing is shared between rows.
 *
 * A row without a distribution gets token -1, and NaN for its log-prob and entropy. */
#include "backend/cuda/sample_draw.cuh"

/* Block p + n_parts * i: part p of stats row i. */
static __global__ void __launch_bounds__(LOGITS_THREADS) draw_part_kernel(draw_job job)
{
    __shared__ logits_part shared[2][LOGITS_WARPS];
    const int i = (int)(blockIdx.x / (unsigned)job.n_parts);
    const int part = (int)(blockIdx.x % (unsigned)job.n_parts);
    const int draw = job.stats_first != NULL ? job.stats_first[i] : i;
    draw_place place;
    start_dependents();
    const bool there = draw_place_of(job, draw, &place);
    wait_for_ahead();
    if (!there || draw_stopped(place))
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

/* Block p + n_parts * i: part p of draw i, behind what its constraint forbids: the statistics that head_stats gives for
 * the row behind forbid. */
static __global__ void __launch_bounds__(LOGITS_THREADS) allowed_part_kernel(draw_job job)
{
    __shared__ logits_part shared[LOGITS_WARPS];
    const int i = (int)(blockIdx.x / (unsigned)job.n_parts);
    const int part = (int)(blockIdx.x % (unsigned)job.n_parts);
    const draw_row *r = job.rows + i;
    start_dependents();
    wait_for_ahead();
    if (r->allowed == NULL)
        return;
    const int64_t begin = (int64_t)part * LOGITS_PART;
    float x[LOGITS_EACH];
    load_part(x, job.logits + (int64_t)r->logits_row * job.vocab, begin, job.vocab);
    forbid_part(x, r->allowed, begin, r->n_choosable);
    const logits_part whole = part_statistics(x, r->inv_temperature, shared);
    if (threadIdx.x == 0)
        job.allowed_parts[(int64_t)i * job.n_parts + part] = whole;
}

enum {
    SEARCH_WARPS = 8,
    SEARCH_EACH = LOGITS_PART / (32 * SEARCH_WARPS), /* entries of a thread */
    DRAW_THREADS = 32 * (SEARCH_WARPS + 1),          /* the last warp ends the step */
};

/* A part and the place within it. */
struct draw_choice {
    int part;      /* -1: nothing to draw from */
    float max;     /* of the part: what its exps are relative to */
    double wanted; /* sum of exp(z - max) within the part that the token passes */
};

struct draw_shared {
    draw_choice choice;
    double warp_total[SEARCH_WARPS];
    /* Of each warp: the entry at which the sum passes what is wanted, the last one that adds to it (-1: none), offsets
     * within the part; and their logits. */
    int first[SEARCH_WARPS], last[SEARCH_WARPS];
    float first_logit[SEARCH_WARPS], last_logit[SEARCH_WARPS];
};

/* One warp; a lane of it writes *choice. The parts of the choosable ids are parts[0 .. n - 1) and parts[last]. */
static __device__ __forceinline__ void choose_part(const logits_part *parts, int n, int last, float temperature,
                                                   double uniform, draw_choice *choice)
{
    const int lane = (int)threadIdx.x % 32;
    const int each = parts_per_lane(n);
    const int begin = lane * each < n ? lane * each : n;
    const int end = begin + each < n ? begin + each : n;
    const bool again = each > PARTS_AT_ONCE; /* a lane's parts are read for each use of them */
    logits_part p[PARTS_AT_ONCE];
    float own_max = negative_infinity();
#pragma unroll 1
    for (int j = 0; j < each; j += PARTS_AT_ONCE) {
        load_parts<PARTS_AT_ONCE>(parts, begin + j, end, n, last, p);
#pragma unroll
        for (int i = 0; i < PARTS_AT_ONCE; i++)
            own_max = fmaxf(own_max, p[i].max);
    }
    const float max = warp_max(own_max);
    if (max == negative_infinity()) {
        if (lane == 0)
            *choice = draw_choice{-1, max, 0.0};
        return;
    }
    if (temperature == 0.0f) {
        /* The lowest part that has the maximum. */
        const unsigned has = __ballot_sync(0xffffffffu, own_max == max);
        if (lane != __ffs((int)has) - 1)
            return;
        int found = end - 1;
        for (int b = end - 1; b >= begin; b--)
            if (parts[b < n - 1 ? b : last].max == max)
                found = b;
        *choice = draw_choice{found, max, 0.0};
        return;
    }
    double own = 0.0, ahead = 0.0, scale[PARTS_AT_ONCE];
#pragma unroll 1
    for (int j = 0; j < each; j += PARTS_AT_ONCE) {
        if (again)
            load_parts<PARTS_AT_ONCE>(parts, begin + j, end, n, last, p);
#pragma unroll
        for (int i = 0; i < PARTS_AT_ONCE; i++)
            scale[i] = exp((double)p[i].max - (double)max);
#pragma unroll
        for (int i = 0; i < PARTS_AT_ONCE; i++)
            own += scale[i] * (double)p[i].sum;
    }
    const double whole = sum_in_order(own, &ahead);
    const double wanted = uniform * whole;
    const int picked = pick_lane(own, ahead, wanted);
    if (lane != (picked >= 0 ? picked : 0))
        return;
    draw_choice chosen = {-1, max, 0.0};
    double sum = ahead, left = 0.0, chosen_scale = 1.0;
#pragma unroll 1
    for (int j = 0; j < each; j += PARTS_AT_ONCE) {
        if (again) {
            load_parts<PARTS_AT_ONCE>(parts, begin + j, end, n, last, p);
#pragma unroll
            for (int i = 0; i < PARTS_AT_ONCE; i++)
                scale[i] = exp((double)p[i].max - (double)max);
        }
#pragma unroll
        for (int i = 0; i < PARTS_AT_ONCE; i++) {
            const double weight = scale[i] * (double)p[i].sum;
            if (!(sum <= wanted) || !(weight > 0.0))
                continue;
            chosen.part = begin + j + i;
            chosen.max = p[i].max;
            chosen_scale = scale[i];
            left = wanted - sum;
            sum += weight;
        }
    }
    chosen.wanted = left / chosen_scale;
    if (picked < 0)
        chosen.part = -1;
    *choice = chosen;
}

/* A block a row. The token is the first one of the chosen part at which the sum passes choice.wanted, or the last one
 * that adds to it if rounding keeps the sum below: one that adds nothing is never it. At temperature 0 the first one
 * that has the maximum. */
static __global__ void __launch_bounds__(DRAW_THREADS, 2) draw_kernel(draw_job job)
{
    __shared__ draw_shared shared;
    const int i = (int)blockIdx.x, warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    draw_place place;
    start_dependents();
    const bool there = draw_place_of(job, i, &place);
    if (!there || place.row->changes) {
        wait_for_ahead();
        return;
    }
    const draw_row *r = place.row;
    const int32_t n_choosable = r->n_choosable;
    const float temperature = r->temperature, inv_temperature = r->inv_temperature;
    wait_for_ahead();
    if (draw_stopped(place)) {
        if (threadIdx.x == 0)
            draw_done(job, i, draw_result{-1, 0.0f, 0.0f, 0.0f});
        return;
    }

    /* The part; meanwhile the row's statistics and where the slot stands. */
    logits_row row = {};
    if (warp == 0) {
        const int n = (n_choosable + LOGITS_PART - 1) / LOGITS_PART;
        const int last = cuts_part(n_choosable, job.vocab) ? job.n_parts : n - 1;
        choose_part(place.parts, n, last, temperature, draw_uniform(*r), &shared.choice);
    } else if (warp == SEARCH_WARPS) {
        row = row_statistics<PARTS_AT_ONCE>(place.parts, job.n_parts);
    }
    __syncthreads();

    /* The entries of the part, and the sum of those of the warps. */
    const draw_choice choice = shared.choice;
    const bool searches = choice.part >= 0 && warp < SEARCH_WARPS;
    const int begin = SEARCH_EACH * (int)threadIdx.x;
    float x[SEARCH_EACH] = {}, e[SEARCH_EACH] = {};
    double through = 0.0;
    decode_next next = {};
    int32_t ending = -1; /* the lane's id of those that end the sequence */
    if (searches) {
        const int64_t from = (int64_t)choice.part * LOGITS_PART;
        const int64_t left = n_choosable - from;
        const float *logits = place.logits + from;
#pragma unroll
        for (int v = 0; v < SEARCH_EACH; v += 4) {
            const float4 four =
                load_logits4(logits, begin + v, left < LOGITS_PART ? left : LOGITS_PART, is_wide(logits));
            x[v] = four.x, x[v + 1] = four.y, x[v + 2] = four.z, x[v + 3] = four.w;
        }
#pragma unroll
        for (int j = 0; j < SEARCH_EACH; j++) {
            const float z = x[j] * inv_temperature;
            if (temperature == 0.0f)
                e[j] = z == choice.max ? 1.0f : 0.0f;
            else
                e[j] = exp_of_part(z - choice.max);
            through += (double)e[j];
        }
        through = warp_prefix(through);
        if (lane == 31)
            shared.warp_total[warp] = through;
    } else if (warp == SEARCH_WARPS && job.decode != NULL) {
        next = decode_next_of(job.decode, job.first + i);
        if (lane < next.slot.n_eos)
            ending = next.slot.eos[lane];
    }
    __syncthreads();

    if (searches) {
        const double wanted = temperature == 0.0f ? 0.0 : choice.wanted;
        double sum = 0.0;
#pragma unroll
        for (int w = 0; w < SEARCH_WARPS - 1; w++) {
            const double total = shared.warp_total[w];
            if (w < warp)
                sum += total;
        }
        const double below = __shfl_up_sync(0xffffffffu, through, 1u);
        sum += lane == 0 ? 0.0 : below;
        int first = -1, last = -1;
        float first_logit = 0.0f, last_logit = 0.0f;
#pragma unroll
        for (int j = 0; j < SEARCH_EACH; j++) {
            if (!(e[j] > 0.0f))
                continue;
            sum += (double)e[j];
            last = begin + j;
            last_logit = x[j];
            if (first < 0 && sum > wanted) {
                first = begin + j;
                first_logit = x[j];
            }
        }
        const unsigned passing = __ballot_sync(0xffffffffu, first >= 0);
        const unsigned adding = __ballot_sync(0xffffffffu, last >= 0);
        if (lane == (passing != 0 ? __ffs((int)passing) - 1 : 0)) {
            shared.first[warp] = first;
            shared.first_logit[warp] = first_logit;
        }
        if (lane == (adding != 0 ? 31 - __clz((int)adding) : 0)) {
            shared.last[warp] = last;
            shared.last_logit[warp] = last_logit;
        }
    }
    __syncthreads();

    if (warp != SEARCH_WARPS)
        return;
    draw_result drawn = {-1, not_a_number(), not_a_number(), 0.0f};
    if (choice.part >= 0) {
        const bool mine = lane < SEARCH_WARPS;
        const unsigned passing = __ballot_sync(0xffffffffu, mine && shared.first[lane] >= 0);
        const unsigned adding = __ballot_sync(0xffffffffu, mine && shared.last[lane] >= 0);
        const int of = passing != 0 ? __ffs((int)passing) - 1 : 31 - __clz((int)adding);
        if (row.valid && (passing | adding) != 0) {
            drawn.token = choice.part * LOGITS_PART + (passing != 0 ? shared.first[of] : shared.last[of]);
            drawn.logp =
                row_logp(row.lse, passing != 0 ? shared.first_logit[of] : shared.last_logit[of], inv_temperature);
            drawn.entropy = (float)row.entropy;
        }
    }
    if (job.decode == NULL) {
        if (lane == 0)
            job.result[i] = drawn;
        return;
    }
    bool ends = ending == drawn.token;
    for (int32_t k = lane + 32; k < next.slot.n_eos; k += 32)
        ends = ends || next.slot.eos[k] == drawn.token;
    ends = __any_sync(0xffffffffu, ends);
    if (lane == 0)
        decode_advance(job.decode, job.first + i, next, ends, drawn);
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

extern "C" int32_t cuda_draw_parts_of(int64_t vocab) { return (int32_t)((vocab + LOGITS_PART - 1) / LOGITS_PART); }

extern "C" size_t cuda_draw_parts_bytes(int64_t vocab, int64_t stats_rows)
{
    return (size_t)stats_rows * (size_t)(cuda_draw_parts_of(vocab) + 1) * sizeof(logits_part);
}

extern "C" size_t cuda_allowed_parts_bytes(int64_t vocab, int64_t draws)
{
    return (size_t)draws * (size_t)cuda_draw_parts_of(vocab) * sizeof(logits_part);
}

extern "C" void cuda_draw_launch(struct backend *backend, const struct draw_job *job, bool changes)
{
    struct cuda_state *s = cuda_state_of(backend);
    if (job->count <= 0)
        return;
    LAUNCH_BEHIND(begins_early(s), draw_part_kernel, (unsigned)job->n_stats * (unsigned)job->n_parts, LOGITS_THREADS, 0,
                  s->stream, *job);
    LAUNCH_BEHIND(begins_early(s), draw_kernel, (unsigned)job->count, DRAW_THREADS, 0, s->stream, *job);
    cuda_note(backend, "draw", cudaSuccess);
    if (job->allowed_parts != NULL) {
        LAUNCH_BEHIND(begins_early(s), allowed_part_kernel, (unsigned)job->count * (unsigned)job->n_parts,
                      LOGITS_THREADS, 0, s->stream, *job);
        cuda_note(backend, "draw with constraints", cudaSuccess);
    }
    if (changes)
        cuda_filter_launch(backend, job);
}

extern "C" void cuda_decode_start(struct backend *backend, struct decode_state *decode, int32_t n_rows)
{
    if (n_rows <= 0)
        return;
    LAUNCH(decode_start_kernel, (unsigned)(n_rows + 127) / 128, 128, 0, cuda_state_of(backend)->stream, decode,
           (int)n_rows);
    cuda_note(backend, "decode_start", cudaSuccess);
}

/* Draws with constraints, penalties and filters: MLX-LM's steps, as backend/cpu/kernel_sample.c takes them. A block a
 * row; rows that change nothing are passed over.
 *
 * Constraint, bias and penalties change a copy of the row. The filters change nothing: top-p, min-p and top-k each leave
 * a prefix of the tokens in order of rank (log-prob descending, then id ascending), so that a 64-bit bound says what is
 * left; XTC takes away what is above its cut. A bound is found by counting tokens, or their probability, in bins of log-prob,
 * then in the digits of the ranks of one bin. Counts and masses (in units of 2^-50) are integers: their sums are exact
 * in any order, so that atomics in shared memory do no harm (invariant I2). */
#include "backend/cuda/sample_draw.cuh"

enum {
    FILTER_THREADS = 1024,
    FILTER_WARPS = FILTER_THREADS / 32,
    BINS = 512,        /* of log-probs below the largest */
    BINS_PER_NAT = 16, /* so they reach 32 nats down; the rest is in the last */
    DIGITS = 256,
    LIST = 2048 /* ranks of one bin that are kept in shared memory; with more, the row is read */
};

#define MASS_ONE 0x1p50
#define NO_BOUND 0xffffffffffffffffull

/* A sum of probabilities counts as having reached top_p when it is this close: log-probs are
 * floats, and a nucleus of .4 + .3 is meant to reach .7. */
#define TOP_P_ROUNDING 4e-7

struct filter_shared {
    uint32_t count[BINS];
    uint32_t low[BINS], high[BINS]; /* halves of a mass */
    unsigned long long list[LIST];
    unsigned long long before, within; /* of the bin found: what is ahead, what is in it */
    double warp_sum[FILTER_WARPS];
    float warp_max[FILTER_WARPS];
    double lse, entropy; /* of the row as the model gave it; masked: of what is allowed */
    float kept;          /* the log of the probability of what is allowed */
    bool valid;
    double wanted;
    float wanted_max;
    int found;
    unsigned n_list;
    uint32_t weakest;
    int first, last;
    /* XTC, once it removes: gone are tokens of probability exp(logp - xtc_shift) > xtc_prob, ... */
    float xtc_shift, xtc_prob;
    const int32_t *special; /* ... but not these */
    int n_special;
};

/* The tokens of a row that are left. log-prob = x - shift. */
struct filter_view {
    const float *x;
    int count;
    bool wide;
    float shift;
    float max;                /* largest log-prob of the row */
    unsigned long long bound; /* ranks above it are gone */
    float xtc_cut;            /* XTC leaves what is not above it; infinity: it has not been applied */
    const filter_shared *shared;
};

/* ---- Ranks: lower is better ---- */

/* Ascends as x does. */
static __device__ __forceinline__ uint32_t ordered_bits(float x)
{
    const uint32_t u = __float_as_uint(x);
    return u ^ ((u >> 31) != 0 ? 0xffffffffu : 0x80000000u);
}
static __device__ __forceinline__ float from_ordered_bits(uint32_t u)
{
    return __uint_as_float(u ^ ((u >> 31) != 0 ? 0x80000000u : 0xffffffffu));
}
static __device__ __forceinline__ unsigned long long rank_of(float logp, uint32_t id)
{
    return (unsigned long long)~ordered_bits(logp) << 32 | id;
}
static __device__ __forceinline__ float logp_of_rank(unsigned long long rank)
{
    return from_ordered_bits(~(uint32_t)(rank >> 32));
}

static __device__ __forceinline__ bool is_left(const filter_view &v, float logp, int id)
{
    if (rank_of(logp, (uint32_t)id) > v.bound)
        return false;
    if (logp <= v.xtc_cut)
        return true;
    const filter_shared *s = v.shared;
    if (!(expf(logp - s->xtc_shift) > s->xtc_prob))
        return true;
    for (int i = 0; i < s->n_special; i++)
        if (s->special[i] == id)
            return true;
    return false;
}

/* f(id, logp) for the tokens left with ids begin + stride * n ... + 4, n = 0, 1, ..., below end. begin and stride are
 * multiples of 4. */
template <typename F>
static __device__ __forceinline__ void each_left(const filter_view &v, int begin, int stride, int end, F f)
{
    for (int i = begin; i < end; i += stride) {
        const float4 four = load_logits4(v.x, i, end, v.wide);
        const float x[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float logp = x[j] - v.shift + 0.0f; /* -0 becomes 0: they rank alike */
            if (logp > negative_infinity() && is_left(v, logp, i + j))
                f(i + j, logp);
        }
    }
}
template <typename F> static __device__ __forceinline__ void each_left(const filter_view &v, F f)
{
    each_left(v, 4 * (int)threadIdx.x, 4 * FILTER_THREADS, v.count, f);
}

/* ---- Sums of exp ---- */

/* Of a thread: sum of exp(x - max) over what it has seen. */
struct running_sum {
    float max, sum;
};

static __device__ __forceinline__ void add_exp(running_sum *a, float x)
{
    if (x > a->max) {
        a->sum = fmaf(a->sum, expf(a->max - x), 1.0f);
        a->max = x;
    } else if (x != negative_infinity()) {
        a->sum += expf(x - a->max); /* a NaN stays */
    }
}

struct whole_sum {
    float max;
    double sum;
};

/* Over a warp, in one order. */
static __device__ __forceinline__ whole_sum warp_whole(float max, double sum)
{
    whole_sum w;
    w.max = warp_max(max);
    if (max != negative_infinity())
        sum *= exp((double)max - (double)w.max);
    w.sum = warp_sum(sum);
    return w;
}

/* Over the block, in every thread. */
static __device__ __forceinline__ whole_sum block_whole(const running_sum &a, filter_shared *shared)
{
    const whole_sum w = warp_whole(a.max, (double)a.sum);
    __syncthreads(); /* what was there may still be read */
    if (threadIdx.x % 32 == 0) {
        shared->warp_max[threadIdx.x / 32] = w.max;
        shared->warp_sum[threadIdx.x / 32] = w.sum;
    }
    __syncthreads();
    return warp_whole(shared->warp_max[threadIdx.x % 32], shared->warp_sum[threadIdx.x % 32]);
}

/* ---- Bounds ---- */

static __device__ __forceinline__ int bin_of(const filter_view &v, float logp)
{
    return (int)fminf((v.max - logp) * (float)BINS_PER_NAT, (float)(BINS - 1));
}

static __device__ __forceinline__ void clear_bins(filter_shared *shared)
{
    for (int i = (int)threadIdx.x; i < BINS; i += FILTER_THREADS)
        shared->count[i] = shared->low[i] = shared->high[i] = 0;
}

template <bool BY_MASS> static __device__ __forceinline__ void add_to_bin(filter_shared *shared, int bin, float logp)
{
    if (!BY_MASS) {
        atomicAdd(&shared->count[bin], 1u);
        return;
    }
    const uint64_t mass = (uint64_t)(expf(logp) * (float)MASS_ONE);
    const uint32_t low = (uint32_t)mass;
    uint32_t high = (uint32_t)(mass >> 32);
    const uint32_t old = atomicAdd(&shared->low[bin], low);
    high += old + low < old ? 1u : 0u; /* as many carries as there were overflows */
    if (high != 0)
        atomicAdd(&shared->high[bin], high);
}

template <bool BY_MASS>
static __device__ __forceinline__ unsigned long long bin_total(const filter_shared *shared, int bin)
{
    return BY_MASS ? (unsigned long long)shared->high[bin] << 32 | shared->low[bin]
                   : (unsigned long long)shared->count[bin];
}

/* found = the first of n bins up to which there is at least wanted, -1 if there is less in all. By the whole block,
 * between barriers. */
template <bool BY_MASS>
static __device__ __forceinline__ void find_bin(filter_shared *shared, int n, unsigned long long wanted)
{
    __syncthreads();
    if (threadIdx.x < 32) {
        const int lane = (int)threadIdx.x, each = n / 32;
        unsigned long long own = 0;
        for (int i = 0; i < each; i++)
            own += bin_total<BY_MASS>(shared, lane * each + i);
        unsigned long long through = own;
        for (int o = 1; o < 32; o *= 2) {
            const unsigned long long below = __shfl_up_sync(0xffffffffu, through, (unsigned)o);
            through += lane >= o ? below : 0;
        }
        const unsigned over = __ballot_sync(0xffffffffu, through >= wanted);
        if (over == 0 && lane == 0)
            shared->found = -1;
        if (over != 0 && lane == __ffs((int)over) - 1) {
            unsigned long long before = through - own;
            int bin = lane * each;
            while (before + bin_total<BY_MASS>(shared, bin) < wanted)
                before += bin_total<BY_MASS>(shared, bin++);
            shared->found = bin;
            shared->before = before;
            shared->within = bin_total<BY_MASS>(shared, bin);
        }
    }
    __syncthreads();
}

/* The bound that leaves the fewest of the best tokens which are at least wanted in number, or in mass (then with all
 * that equal the last one in log-prob). Log-probs below floor are not looked at. NO_BOUND if all together are less. */
template <bool BY_MASS>
static __device__ unsigned long long bound_for(const filter_view &v, unsigned long long wanted, float floor,
                                               filter_shared *shared)
{
    __syncthreads();
    clear_bins(shared);
    if (threadIdx.x == 0)
        shared->n_list = 0;
    __syncthreads();
    each_left(v, [&](int, float logp) {
        if (logp >= floor)
            add_to_bin<BY_MASS>(shared, bin_of(v, logp), logp);
    });
    find_bin<BY_MASS>(shared, BINS, wanted);
    const int bin = shared->found;
    if (bin < 0)
        return NO_BOUND;
    wanted -= shared->before;
    each_left(v, [&](int id, float logp) {
        if (logp < floor || bin_of(v, logp) != bin)
            return;
        const unsigned at = atomicAdd(&shared->n_list, 1u);
        if (at < LIST)
            shared->list[at] = rank_of(logp, (uint32_t)id);
    });
    __syncthreads();
    const int n = (int)shared->n_list;
    unsigned long long prefix = 0;
    for (int shift = 56; shift >= (BY_MASS ? 32 : 0); shift -= 8) {
        clear_bins(shared);
        __syncthreads();
        auto add = [&](unsigned long long rank) {
            if (shift == 56 || rank >> (shift + 8) == prefix)
                add_to_bin<BY_MASS>(shared, (int)(rank >> shift & (DIGITS - 1)), logp_of_rank(rank));
        };
        if (n <= LIST) {
            for (int i = (int)threadIdx.x; i < n; i += FILTER_THREADS)
                add(shared->list[i]);
        } else {
            each_left(v, [&](int id, float logp) {
                if (logp >= floor && bin_of(v, logp) == bin)
                    add(rank_of(logp, (uint32_t)id));
            });
        }
        find_bin<BY_MASS>(shared, DIGITS, wanted);
        if (shared->found < 0)
            return NO_BOUND;
        prefix = prefix << 8 | (unsigned)shared->found;
        wanted -= shared->before;
        /* Once the log-prob is known (the bin is no prefix of digits): all that have it are in. */
        if (!BY_MASS && shift <= 32 && wanted == shared->within)
            return ((prefix + 1) << shift) - 1;
    }
    return BY_MASS ? prefix << 32 | 0xffffffffull : prefix;
}

/* ---- Constraint and penalties ---- */

struct penalty {
    float factor; /* of negative logits; the others are divided by it */
    float subtract;
    bool each; /* subtract for every time that an id occurs */
};

/* On the last context ids (0 or less: all) of the history. An id is changed by whoever takes its count, from its value
 * before. */
static __device__ void penalise(const draw_row *r, const penalty &p, int32_t context, float *x, uint32_t *seen,
                                int count)
{
    const int32_t n = context > 0 && context < r->n_history ? context : r->n_history;
    const int32_t *id = r->history + (r->n_history - n);
    for (int i = (int)threadIdx.x; i < n; i += FILTER_THREADS)
        if (id[i] >= 0 && id[i] < count)
            atomicAdd(&seen[id[i]], 1u);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n; i += FILTER_THREADS) {
        if (id[i] < 0 || id[i] >= count)
            continue;
        const uint32_t times = atomicExch(&seen[id[i]], 0u);
        if (times == 0)
            continue;
        float changed = x[id[i]];
        if (p.factor != 1.0f)
            changed = changed < 0.0f ? changed * p.factor : changed / p.factor;
        for (uint32_t t = 0; t < (p.each ? times : 1u); t++)
            changed -= p.subtract;
        x[id[i]] = changed;
    }
    __syncthreads();
}

/* Logits of ids that the bitset does not allow become -inf. */
static __device__ void forbid(const uint32_t *allowed, float *x, int count)
{
    for (int i = (int)threadIdx.x; i < count; i += FILTER_THREADS)
        if ((allowed[i / 32] >> (i % 32) & 1u) == 0)
            x[i] = negative_infinity();
    __syncthreads();
}

/* The row with constraint, bias and penalties, in the block's copy. */
static __device__ void process_row(const draw_row *r, const float *logits, float *x, uint32_t *seen)
{
    const int count = r->n_choosable;
    const bool wide = is_wide(logits);
    for (int i = 4 * (int)threadIdx.x; i < count; i += 4 * FILTER_THREADS) {
        *reinterpret_cast<float4 *>(x + i) = load_logits4(logits, i, count, wide);
        if (r->window_penalised)
            *reinterpret_cast<uint4 *>(seen + i) = make_uint4(0, 0, 0, 0);
    }
    __syncthreads();
    if (r->allowed != NULL)
        forbid(r->allowed, x, count);
    const draw_bias *b = r->bias;
    for (int i = (int)threadIdx.x; i < r->n_bias; i += FILTER_THREADS) {
        const int32_t id = b[i].id;
        if (id < 0 || id >= count || (i > 0 && b[i - 1].id == id))
            continue;
        float changed = x[id];
        for (int j = i; j < r->n_bias && b[j].id == id; j++)
            changed += b[j].bias;
        x[id] = changed;
    }
    __syncthreads();
    if (!r->window_penalised || r->n_history <= 0)
        return;
    if (r->repetition_penalty != 1.0f)
        penalise(r, penalty{r->repetition_penalty, 0.0f, false}, r->repetition_context, x, seen, count);
    if (r->presence_penalty != 0.0f)
        penalise(r, penalty{1.0f, r->presence_penalty, false}, r->presence_context, x, seen, count);
    if (r->frequency_penalty != 0.0f)
        penalise(r, penalty{1.0f, r->frequency_penalty, true}, r->frequency_context, x, seen, count);
}

/* ---- Filters ---- */

/* Of the tokens above the threshold only the least likely stays. */
static __device__ void apply_xtc(const draw_row *r, filter_view *v, filter_shared *shared)
{
    running_sum own = {negative_infinity(), 0.0f};
    each_left(*v, [&](int, float logp) { add_exp(&own, logp); });
    const whole_sum whole = block_whole(own, shared);
    if (!(whole.sum > 0.0))
        return;
    const float shift = (float)((double)whole.max + log(whole.sum));
    if (threadIdx.x == 0)
        shared->weakest = 0xffffffffu;
    __syncthreads();
    each_left(*v, [&](int, float logp) {
        if (expf(logp - shift) > r->xtc_threshold)
            atomicMin(&shared->weakest, ordered_bits(logp));
    });
    __syncthreads();
    if (shared->weakest == 0xffffffffu)
        return;
    v->xtc_cut = from_ordered_bits(shared->weakest);
    if (threadIdx.x == 0) {
        shared->xtc_shift = shift;
        shared->xtc_prob = expf(v->xtc_cut - shift);
        shared->special = r->special;
        shared->n_special = r->n_special;
    }
    __syncthreads();
}

/* The bound of top-k. */
static __device__ void apply_top_k(const draw_row *r, filter_view *v, filter_shared *shared)
{
    if (r->top_k <= 0 || r->top_k >= v->count)
        return;
    const unsigned long long bound = bound_for<false>(*v, (unsigned long long)r->top_k, negative_infinity(), shared);
    v->bound = bound < v->bound ? bound : v->bound;
}

/* The probability of what is left, of all 1 but for the rounding of shift. */
static __device__ double mass_left(const filter_view &v, filter_shared *shared)
{
    running_sum own = {negative_infinity(), 0.0f};
    each_left(v, [&](int, float logp) { add_exp(&own, logp); });
    const whole_sum left = block_whole(own, shared);
    return left.sum * exp((double)left.max);
}

/* What the filters leave. whole: of exp of the row's logits at temperature 1. */
static __device__ void apply_filters(const draw_row *r, const whole_sum &whole, filter_view *v, filter_shared *shared)
{
    const double lse = (double)whole.max + log(whole.sum);
    v->shift = (float)lse;
    v->max = whole.max - v->shift;
    if (r->hf_order)
        apply_top_k(r, v, shared);
    if (r->top_p > 0.0f) {
        const bool cut = r->hf_order && r->top_k > 0;
        const double mass = cut ? mass_left(*v, shared) : exp(lse - (double)v->shift); /* 1 but for lse's rounding */
        /* All tokens less likely than (1 - top_p) / count together hold less than 1 - top_p: none of
         * them is kept. */
        const double least = (1.0 - (double)r->top_p) * mass / (double)v->count;
        const double wanted = (double)r->top_p * mass * (1.0 - TOP_P_ROUNDING) * MASS_ONE;
        v->bound =
            bound_for<true>(*v, wanted >= 1.0 ? (unsigned long long)wanted : 1ull, (float)(log(least) - 1e-3), shared);
    }
    if (r->min_p) {
        unsigned long long bound = rank_of(v->max + r->log_min_p, 0xffffffffu);
        if (r->min_tokens_to_keep > 1) {
            const unsigned long long kept =
                bound_for<false>(*v, (unsigned long long)r->min_tokens_to_keep, negative_infinity(), shared);
            bound = kept > bound ? kept : bound;
        }
        v->bound = bound < v->bound ? bound : v->bound;
    }
    if (r->xtc_probability > 0.0f) {
        const device_rng_block coin = device_philox(r->seed, DRAW_PURPOSE_XTC, r->stream, r->position);
        if ((float)(coin.word[0] >> 8) * 0x1p-24f <= r->xtc_probability)
            apply_xtc(r, v, shared);
    }
    if (!r->hf_order)
        apply_top_k(r, v, shared);
}

/* ---- Choice ---- */

/* The lowest id with the largest logit. */
static __device__ int largest_token(const filter_view &v, float max, filter_shared *shared)
{
    if (threadIdx.x == 0)
        shared->first = v.count;
    __syncthreads();
    for (int i = (int)threadIdx.x; i < v.count; i += FILTER_THREADS)
        if (v.x[i] == max) {
            atomicMin(&shared->first, i);
            break;
        }
    __syncthreads();
    return shared->first < v.count ? shared->first : -1;
}

/* One draw over the tokens left, ids ascending: a warp has one thirty-second of the ids; then the block looks for the
 * token in the piece that the uniform number falls into. */
static __device__ int draw_left(const draw_row *r, const filter_view &v, filter_shared *shared)
{
    const float inv_temperature = r->scales_first ? 1.0f : r->inv_temperature;
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int piece = ((v.count + FILTER_WARPS - 1) / FILTER_WARPS + 3) / 4 * 4;
    running_sum own = {negative_infinity(), 0.0f};
    const int piece_end = (warp + 1) * piece < v.count ? (warp + 1) * piece : v.count;
    each_left(v, warp * piece + 4 * lane, 128, piece_end,
              [&](int, float logp) { add_exp(&own, logp * inv_temperature); });
    const whole_sum mine = warp_whole(own.max, (double)own.sum);
    __syncthreads();
    if (lane == 0) {
        shared->warp_max[warp] = mine.max;
        shared->warp_sum[warp] = mine.sum;
    }
    __syncthreads();
    if (warp == 0) {
        const float piece_max = shared->warp_max[lane];
        const float max = warp_max(piece_max);
        double weight = 0.0, ahead = 0.0;
        if (piece_max != negative_infinity())
            weight = exp((double)piece_max - (double)max) * shared->warp_sum[lane];
        const double whole = sum_in_order(weight, &ahead);
        const double wanted = draw_uniform(*r) * whole;
        const int picked = pick_lane(weight, ahead, wanted);
        if (lane == (picked >= 0 ? picked : 0)) {
            shared->found = picked;
            shared->wanted = wanted - ahead;
            shared->wanted_max = max;
            shared->first = v.count;
            shared->last = -1;
        }
    }
    __syncthreads();
    if (shared->found < 0)
        return -1;
    const int begin = shared->found * piece;
    const int end = begin + piece < v.count ? begin + piece : v.count;
    const float base = shared->warp_max[shared->found];
    const double wanted = shared->wanted / exp((double)base - (double)shared->wanted_max);
    const int each = (end - begin + FILTER_THREADS - 1) / FILTER_THREADS;
    const int from = begin + (int)threadIdx.x * each;
    const int to = from + each < end ? from + each : end;
    auto weight_of = [&](int id) {
        const float logp = v.x[id] - v.shift + 0.0f;
        if (!(logp > negative_infinity()) || !is_left(v, logp, id))
            return 0.0f;
        return expf(logp * inv_temperature - base);
    };
    double sum = 0.0;
    for (int id = from; id < to; id++)
        sum += (double)weight_of(id);
    const double through = warp_prefix(sum);
    __syncthreads(); /* warp_max and warp_sum have been read */
    if (lane == 31)
        shared->warp_sum[warp] = through;
    __syncthreads();
    const double below = __shfl_up_sync(0xffffffffu, through, 1u);
    sum = lane == 0 ? 0.0 : below;
    for (int w = 0; w < warp; w++)
        sum += shared->warp_sum[w];
    int last = -1;
    for (int id = from; id < to; id++) {
        const float weight = weight_of(id);
        if (!(weight > 0.0f))
            continue;
        sum += (double)weight;
        last = id;
        if (sum > wanted) {
            atomicMin(&shared->first, id);
            break;
        }
    }
    if (last >= 0)
        atomicMax(&shared->last, last);
    __syncthreads();
    return shared->first < v.count ? shared->first : shared->last;
}

/* The choice by way of penalties and filters; -1 if they leave no distribution. */
static __device__ int choose_changed(const draw_row *r, const float *logits, const draw_job &job, filter_shared *shared)
{
    filter_view v = {};
    v.x = logits;
    v.count = r->n_choosable;
    v.bound = NO_BOUND;
    v.xtc_cut = -negative_infinity();
    v.shared = shared;
    if (r->penalised) {
        const draw_work &work = job.decode != NULL ? job.decode->work : job.work;
        float *copy = work.copy + (int64_t)blockIdx.x * work.stride;
        process_row(r, logits, copy, work.seen + (int64_t)blockIdx.x * work.stride);
        if (r->scales_first && r->temperature != 0.0f)
            for (int i = (int)threadIdx.x; i < v.count; i += FILTER_THREADS)
                copy[i] *= r->inv_temperature;
        __syncthreads();
        v.x = copy;
    }
    v.wide = is_wide(v.x);
    running_sum own = {negative_infinity(), 0.0f};
    for (int i = 4 * (int)threadIdx.x; i < v.count; i += 4 * FILTER_THREADS) {
        const float4 x = load_logits4(v.x, i, v.count, v.wide);
        add_exp(&own, x.x);
        add_exp(&own, x.y);
        add_exp(&own, x.z);
        add_exp(&own, x.w);
    }
    const whole_sum whole = block_whole(own, shared);
    if (!(whole.sum > 0.0) || !(whole.max < INFINITY))
        return -1;
    if (r->temperature == 0.0f)
        return largest_token(v, whole.max, shared);
    apply_filters(r, whole, &v, shared);
    return draw_left(r, v, shared);
}

static __global__ void __launch_bounds__(FILTER_THREADS) filter_kernel(draw_job job)
{
    __shared__ filter_shared shared;
    start_dependents();
    wait_for_ahead();
    for (int i = (int)blockIdx.x; i < job.count; i += (int)gridDim.x) {
        draw_place place;
        if (!draw_place_of(job, i, &place) || !place.row->changes)
            continue;
        const draw_row *r = place.row;
        if (draw_stopped(place)) {
            if (threadIdx.x == 0)
                draw_done(job, i, draw_result{-1, 0.0f, 0.0f, 0.0f});
            continue;
        }
        __syncthreads(); /* the row before is done with */
        if (threadIdx.x < 32) {
            const logits_row row = row_statistics<1>(place.parts, job.n_parts);
            logits_row reported = row;
            float kept = 0.0f;
            if (r->allowed != NULL) {
                const logits_row allowed = row_statistics<1>(job.allowed_parts + (int64_t)i * job.n_parts, job.n_parts);
                kept = (float)(allowed.lse - row.lse);
                if (r->masked)
                    reported = allowed;
            }
            if (threadIdx.x == 0) {
                shared.lse = reported.lse;
                shared.entropy = reported.entropy;
                shared.kept = kept;
                shared.valid = row.valid;
            }
        }
        __syncthreads();
        int token = -1;
        if (shared.valid)
            token = choose_changed(r, place.logits, job, &shared);
        if (threadIdx.x != 0)
            continue;
        draw_result drawn = {token, not_a_number(), not_a_number(), 0.0f};
        if (token >= 0) {
            drawn.logp = row_logp(shared.lse, place.logits[token], r->inv_temperature);
            drawn.entropy = (float)shared.entropy;
            drawn.kept = shared.kept;
        }
        draw_done(job, i, drawn);
    }
}

extern "C" void cuda_filter_launch(struct backend *backend, const struct draw_job *job)
{
    struct cuda_state *s = cuda_state_of(backend);
    const int32_t limit = cuda_draw_copies(backend, job->count);
    if (job->count <= 0)
        return;
    LAUNCH_BEHIND(begins_early(s), filter_kernel, (unsigned)limit, FILTER_THREADS, 0, s->stream, *job);
    cuda_note(backend, "draw with filters", cudaSuccess);
}

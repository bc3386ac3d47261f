/* The statistics of one row of logits z = logit * (1 / temperature): the one set of functions behind head_stats and
 * every draw, so that the log-prob a token is sampled with is the one training computes, bit for bit (invariants I1,
 * I2).
 *
 * The vocabulary is cut into parts of LOGITS_PART entries. A block of threads gives a part's maximum and, relative to
 * it, the sums of exp and of exp * z. A warp combines a row's parts, in double. What is added to what, in which order,
 * is a function of the vocabulary alone. */
#ifndef COHORT_BACKEND_CUDA_HEAD_ROW_CUH
#define COHORT_BACKEND_CUDA_HEAD_ROW_CUH

#include "backend/cuda/cuda_device.cuh"

enum {
    LOGITS_PART = 2048,
    LOGITS_THREADS = 128, /* of a block that works on one part */
    LOGITS_WARPS = LOGITS_THREADS / 32,
    LOGITS_EACH = LOGITS_PART / LOGITS_THREADS /* entries of a thread */
};

/* exp(z) is nothing below this (less than 4e-44), so a log-prob may be raised to it wherever it is multiplied by its
 * probability: that keeps -inf * 0 out of the sums. */
#define LOG_OF_NOTHING (-100.0f)
#define LOG2_E         1.44269504088896341f

/* All -inf: max = -inf, sum 0. A NaN or +inf makes weighted NaN. */
struct logits_part {
    float max;
    float sum;      /* of exp(z - max) */
    float weighted; /* of exp(z - max) * (z - max) */
};

struct logits_row {
    /* A NaN, +inf or nothing but -inf among the logits: there is no distribution, and lse and
     * entropy are NaN. */
    bool valid;
    double lse; /* log sum exp z; rounded to float only on output */
    double entropy;
};

static __device__ __forceinline__ float negative_infinity() { return __int_as_float((int)0xff800000); }
static __device__ __forceinline__ float not_a_number() { return __int_as_float(0x7fc00000); }

/* exp(d) for d <= 0. The rounding of d * log2 e makes a term smaller by up to |d| 2^-24 of itself, far less than the
 * last place of a sum whose largest term is 1. */
static __device__ __forceinline__ float exp_of_part(float d) { return exp2_approximate(d * LOG2_E); }

/* Entries i .. i + 4 of n; -inf past the end. wide: the row is 16-byte aligned. */
static __device__ __forceinline__ float4 load_logits4(const float *row, int64_t i, int64_t n, bool wide)
{
    if (wide && i + 4 <= n)
        return *reinterpret_cast<const float4 *>(row + i);
    float4 x;
    x.x = i < n ? row[i] : negative_infinity();
    x.y = i + 1 < n ? row[i + 1] : negative_infinity();
    x.z = i + 2 < n ? row[i + 2] : negative_infinity();
    x.w = i + 3 < n ? row[i + 3] : negative_infinity();
    return x;
}

static __device__ __forceinline__ bool is_wide(const float *row) { return ((uintptr_t)row & 15u) == 0; }

/* Where entry 4 * v of this thread lies in a part: a warp has a quarter of it. */
static __device__ __forceinline__ int part_offset(int v)
{
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    return warp * (LOGITS_PART / LOGITS_WARPS) + v * 128 + lane * 4;
}

/* The thread's entries of the part that begins at begin; those from n on count as -inf. */
static __device__ __forceinline__ void load_part(float x[LOGITS_EACH], const float *row, int64_t begin, int64_t n)
{
    const bool wide = is_wide(row);
    const int64_t left = n - begin < LOGITS_PART ? n - begin : (int64_t)LOGITS_PART;
#pragma unroll
    for (int v = 0; v < LOGITS_EACH / 4; v++) {
        float4 four = load_logits4(row + begin, part_offset(v), left, wide);
        x[4 * v] = four.x;
        x[4 * v + 1] = four.y;
        x[4 * v + 2] = four.z;
        x[4 * v + 3] = four.w;
    }
}

/* The thread's entries that are not allowed, those of ids from n on among them, become -inf. */
static __device__ __forceinline__ void forbid_part(float x[LOGITS_EACH], const uint32_t *allowed, int64_t begin,
                                                   int64_t n)
{
#pragma unroll
    for (int v = 0; v < LOGITS_EACH / 4; v++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int64_t id = begin + part_offset(v) + j;
            if (id >= n || (allowed[id / 32] >> (id % 32) & 1u) == 0)
                x[4 * v + j] = negative_infinity();
        }
}

/* Of one part, whose logits (not yet scaled) the threads of the block hold as load_part gives them. shared: room for
 * LOGITS_WARPS parts; a barrier must stand between two calls with the same. Every thread gets the result. */
static __device__ __forceinline__ logits_part part_statistics(const float x[LOGITS_EACH], float inv_temperature,
                                                              logits_part *shared)
{
    float z[LOGITS_EACH];
    float max = negative_infinity();
#pragma unroll
    for (int i = 0; i < LOGITS_EACH; i++) {
        z[i] = x[i] * inv_temperature;
        max = fmaxf(max, z[i]); /* NaN is not seen here; the sums carry it */
    }
    max = warp_max(max);
    const float base = max == negative_infinity() ? 0.0f : max;
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    float weighted[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < LOGITS_EACH; i++) {
        float d = z[i] - base;
        float e = exp_of_part(d);
        sum[i % 4] += e;
        weighted[i % 4] = fmaf(e, fmaxf(d, LOG_OF_NOTHING), weighted[i % 4]);
    }
    float s = warp_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    float w = warp_sum((weighted[0] + weighted[1]) + (weighted[2] + weighted[3]));
    if (threadIdx.x % 32 == 0)
        shared[threadIdx.x / 32] = logits_part{max, s, w};
    __syncthreads();
    logits_part whole = {negative_infinity(), 0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < LOGITS_WARPS; i++)
        whole.max = fmaxf(whole.max, shared[i].max);
        /* Relative to the part's maximum: warp i scales by c = exp(max_i - max), and its sum of exp(z - max) * (z -
         * max) is c * (weighted + sum * (max_i - max)). */
#pragma unroll
    for (int i = 0; i < LOGITS_WARPS; i++) {
        const logits_part p = shared[i];
        if (p.max == negative_infinity()) {
            whole.weighted += p.weighted; /* 0 or NaN */
            continue;
        }
        const float shift = fmaxf(p.max - whole.max, LOG_OF_NOTHING);
        const float scale = exp_of_part(shift);
        whole.sum = fmaf(scale, p.sum, whole.sum);
        whole.weighted = fmaf(scale, fmaf(shift, p.sum, p.weighted), whole.weighted);
    }
    return whole;
}

static __device__ __forceinline__ void store4(uint16_t *to, const float d[4])
{
    uint2 packed = make_uint2(pack_bf16(d[0], d[1]), pack_bf16(d[2], d[3]));
    *reinterpret_cast<uint2 *>(to) = packed;
}
static __device__ __forceinline__ void store4(float *to, const float d[4])
{
    *reinterpret_cast<float4 *>(to) = make_float4(d[0], d[1], d[2], d[3]);
}

/* Entries i .. i + 4 of a row's part of which left are there. wide: out is aligned to four of them. */
template <typename T>
static __device__ __forceinline__ void store_logits4(T *out, int i, int64_t left, bool wide, const float d[4])
{
    if (wide && i + 4 <= left) {
        store4(out + i, d);
        return;
    }
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (i + j < left)
            store_element(out + i + j, d[j]);
}

static __device__ __forceinline__ float lane_value(float x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
static __device__ __forceinline__ double lane_value(double x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }

/* Each lane of a warp has ceil(n / 32) neighbouring parts, and reads AT_ONCE at a time: they are on their way together,
 * and their exps are computed side by side. Results do not depend on it. PARTS_AT_ONCE are all that a lane has of a
 * vocabulary up to 196608. */
enum { PARTS_AT_ONCE = 3 };
static __device__ __forceinline__ int parts_per_lane(int n) { return (n + 31) / 32; }

/* Parts b .. b + AT_ONCE of n, of which the last one lies at part[last]; those from end on
 * are empty. */
template <int AT_ONCE>
static __device__ __forceinline__ void load_parts(const logits_part *part, int b, int end, int n, int last,
                                                  logits_part p[AT_ONCE])
{
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++)
        p[i] = part[b + i < n - 1 ? b + i : last];
#pragma unroll
    for (int i = 0; i < AT_ONCE; i++)
        if (b + i >= end)
            p[i] = logits_part{negative_infinity(), 0.0f, 0.0f};
}

/* The row of n parts, by one warp; every lane gets the result. A lane adds its parts in ascending order, then the lanes
 * are added in ascending order. */
template <int AT_ONCE> static __device__ __forceinline__ logits_row row_statistics(const logits_part *part, int n)
{
    const int lane = (int)threadIdx.x % 32;
    const int each = parts_per_lane(n);
    const int begin = lane * each < n ? lane * each : n;
    const int end = begin + each < n ? begin + each : n;
    logits_part p[AT_ONCE];
    float max = negative_infinity();
#pragma unroll 1
    for (int j = 0; j < each; j += AT_ONCE) {
        load_parts<AT_ONCE>(part, begin + j, end, n, n - 1, p);
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            max = fmaxf(max, p[i].max);
    }
    max = warp_max(max);
    double own_sum = 0.0, own_weighted = 0.0;
#pragma unroll 1
    for (int j = 0; j < each; j += AT_ONCE) {
        if (each > AT_ONCE)
            load_parts<AT_ONCE>(part, begin + j, end, n, n - 1, p);
        double scale[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            scale[i] = exp((double)p[i].max - (double)max);
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const double sum = (double)p[i].sum, weighted = (double)p[i].weighted;
            const double shift = (double)p[i].max - (double)max;
            const bool empty = p[i].max == negative_infinity(); /* weighted: 0 or NaN */
            own_sum += empty ? 0.0 : scale[i] * sum;
            own_weighted += empty ? weighted : scale[i] * (weighted + shift * sum);
        }
    }
    double sum = 0.0, weighted = 0.0;
#pragma unroll 8
    for (int i = 0; i < 32; i++) {
        sum += lane_value(own_sum, i);
        weighted += lane_value(own_weighted, i);
    }
    logits_row row;
    row.valid = sum > 0.0 && weighted == weighted && max < INFINITY;
    row.lse = row.valid ? (double)max + log(sum) : (double)not_a_number();
    row.entropy = row.valid ? log(sum) - weighted / sum : (double)not_a_number();
    return row;
}

/* Log-prob of a token with this logit. */
static __device__ __forceinline__ float row_logp(double lse, float logit, float inv_temperature)
{
    return (float)((double)(logit * inv_temperature) - lse);
}

#endif

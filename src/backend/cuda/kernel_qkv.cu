/* From the fused projection to attention's q, k, v: per head RMS norm and rotary position, forward and backward. A
 * group of LANES lanes works on one head of one token. Invariant I2: lane l holds the pairs (i, i + D/2) with i / E mod
 * LANES = l, sums over them in ascending order in four (E) chains, and the group combines its lanes by a fixed tree; E,
 * LANES are functions of D alone. */
#include "backend/cuda/vector_access.cuh"
#include "backend/ops.h"

#include <assert.h>
#include <float.h>

enum { FORWARD_THREADS = 128, BACKWARD_THREADS = 256, MAX_HEAD_DIM = 256 };

/* A lane's share of a head: PER runs of E pairs. */
template <int E, int PER> struct half_runs {
    float low[PER][E], high[PER][E];
};

/* E elements at p, zeros unless valid. WHOLE: in one access. */
template <int E, bool WHOLE, typename T>
static __device__ __forceinline__ void load_run(const T *p, bool valid, float v[E])
{
    if constexpr (E == 4 && WHOLE) {
        load_vector4(p, valid, v);
    } else {
#pragma unroll
        for (int e = 0; e < E; e++)
            v[e] = valid ? load_element(p + e) : 0.0f;
    }
}
template <int E, bool WHOLE, typename T> static __device__ __forceinline__ void store_run(T *p, const float v[E])
{
    if constexpr (E == 4 && WHOLE) {
        store_vector4(p, v);
    } else {
#pragma unroll
        for (int e = 0; e < E; e++)
            store_element(p + e, v[e]);
    }
}

/* The lane's share of the head at p, zeros beyond half = D/2 and where there is no head. */
template <int E, int PER, int LANES, bool WHOLE, typename T>
static __device__ __forceinline__ void load_head(const T *p, int half, bool there, half_runs<E, PER> *x)
{
    const int lane = threadIdx.x % LANES;
#pragma unroll
    for (int j = 0; j < PER; j++) {
        const int i = (lane + j * LANES) * E;
        const bool valid = there && i < half;
        load_run<E, WHOLE>(p + i, valid, x->low[j]);
        load_run<E, WHOLE>(p + half + i, valid, x->high[j]);
    }
}
template <int E, int PER, int LANES, bool WHOLE, typename T>
static __device__ __forceinline__ void store_head(const half_runs<E, PER> *x, int half, bool there, T *p)
{
    const int lane = threadIdx.x % LANES;
#pragma unroll
    for (int j = 0; j < PER; j++) {
        const int i = (lane + j * LANES) * E;
        if (there && i < half) {
            store_run<E, WHOLE>(p + i, x->low[j]);
            store_run<E, WHOLE>(p + half + i, x->high[j]);
        }
    }
}

/* The head in 8 bits (KV8_HEAD_BYTES). All lanes of the warp must come. */
template <int E, int PER, int LANES>
static __device__ __forceinline__ void store_head_kv8(const half_runs<E, PER> *x, int half, bool there, int8_t *p)
{
    const int lane = threadIdx.x % LANES;
    float most = 0.0f;
    int finite = 1;
#pragma unroll
    for (int j = 0; j < PER; j++)
#pragma unroll
        for (int e = 0; e < E; e++) {
            const float a = fabsf(x->low[j][e]), b = fabsf(x->high[j][e]);
            finite = finite && a <= FLT_MAX && b <= FLT_MAX;
            most = fmaxf(most, fmaxf(a, b));
        }
#pragma unroll
    for (int o = LANES / 2; o > 0; o >>= 1) {
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, o));
        finite &= __shfl_xor_sync(0xffffffffu, finite, o);
    }
    const bool some = finite && most >= 1e-30f;
    const float inverse = some ? 127.0f / most : 0.0f;
#pragma unroll
    for (int j = 0; j < PER; j++)
#pragma unroll
        for (int e = 0; e < E; e++) {
            const int i = (lane + j * LANES) * E + e;
            if (there && i < half) {
                p[i] = (int8_t)(some ? rintf(x->low[j][e] * inverse) : 0.0f);
                p[half + i] = (int8_t)(some ? rintf(x->high[j][e] * inverse) : 0.0f);
            }
        }
    if (there && lane == 0)
        *(float *)(p + KV8_SCALE_AT(2 * half)) = finite ? (some ? most / 127.0f : 0.0f) : NAN;
}

/* The group's sum of a . b, in every lane of it. All lanes of the warp must come. */
template <int E, int PER, int LANES>
static __device__ __forceinline__ float head_dot(const half_runs<E, PER> *a, const half_runs<E, PER> *b)
{
    float chain[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int j = 0; j < PER; j++)
#pragma unroll
        for (int e = 0; e < E; e++) {
            float *sum = &chain[E == 1 ? j % 4 : e % 4];
            *sum = fmaf(a->low[j][e], b->low[j][e], *sum);
            *sum = fmaf(a->high[j][e], b->high[j][e], *sum);
        }
    float total = (chain[0] + chain[1]) + (chain[2] + chain[3]);
#pragma unroll
    for (int o = LANES / 2; o > 0; o >>= 1)
        total += __shfl_xor_sync(0xffffffffu, total, o);
    return total;
}

/* Cosines (low) and sines (high) of the lane's pairs at a position, which is negative in idle rows of decoding. */
template <int E, int PER, int LANES, bool WHOLE>
static __device__ __forceinline__ void load_angles(const struct qkv_forward &p, int32_t position, bool there,
                                                   half_runs<E, PER> *angles)
{
    const int lane = threadIdx.x % LANES, half = p.head_dim / 2;
    const int64_t row = (int64_t)(position < 0 ? 0 : position) * half;
#pragma unroll
    for (int j = 0; j < PER; j++) {
        const int i = (lane + j * LANES) * E;
        const bool valid = there && i < half;
        load_run<E, WHOLE>(p.cos_table + row + i, valid, angles->low[j]);
        load_run<E, WHOLE>(p.sin_table + row + i, valid, angles->high[j]);
    }
}

/* sign -1 turns back. */
template <int E, int PER>
static __device__ __forceinline__ void head_rotate(half_runs<E, PER> *x, const half_runs<E, PER> *angles, float sign)
{
#pragma unroll
    for (int j = 0; j < PER; j++)
#pragma unroll
        for (int e = 0; e < E; e++) {
            const float a = x->low[j][e], b = x->high[j][e];
            const float turn = angles->high[j][e] * sign;
            x->low[j][e] = a * angles->low[j][e] - b * turn;
            x->high[j][e] = b * angles->low[j][e] + a * turn;
        }
}

template <typename T, typename GAIN, int E, int PER, int LANES, bool WHOLE>
static __global__ void __launch_bounds__(FORWARD_THREADS) qkv_forward_kernel(struct qkv_forward p, float inverse)
{
    const int half = p.head_dim / 2;
    const uint32_t per_token = (uint32_t)(p.n_heads + 2 * p.n_kv_heads);
    const uint32_t n_items = (uint32_t)p.tokens * per_token;
    uint32_t item = blockIdx.x * (FORWARD_THREADS / LANES) + threadIdx.x / LANES;
    bool there = item < n_items;
    if (!there) /* lanes that only take part in the sums of the warp */
        item = n_items - 1;
    const int64_t token = item / per_token;
    const int head = (int)(item % per_token);
    const bool is_q = head < p.n_heads, is_v = head >= p.n_heads + p.n_kv_heads;
    start_dependents();
    half_runs<E, PER> x, angles, g;
    const GAIN *gain = (const GAIN *)(is_q ? p.q_gain : is_v ? NULL : p.k_gain);
    load_head<E, PER, LANES, WHOLE>(gain, half, gain != NULL, &g);
    wait_for_ahead();
    const int32_t position = p.position[token]; /* early: the angles wait for it */
    const int64_t kv_row = p.kv_row[token];
    load_head<E, PER, LANES, WHOLE>((const T *)p.qkv + (int64_t)item * p.head_dim, half, true, &x);
    load_angles<E, PER, LANES, WHOLE>(p, position, !is_v, &angles);
    const float square = head_dot<E, PER, LANES>(&x, &x);
    if (gain != NULL) {
        const float rstd = rsqrtf(fmaf(square, inverse, p.eps));
#pragma unroll
        for (int j = 0; j < PER; j++)
#pragma unroll
            for (int e = 0; e < E; e++) {
                x.low[j][e] = x.low[j][e] * rstd * g.low[j][e];
                x.high[j][e] = x.high[j][e] * rstd * g.high[j][e];
            }
    }
    if (!is_v)
        head_rotate(&x, &angles, 1.0f);
    if (is_q)
        store_head<E, PER, LANES, WHOLE>(&x, half, there, (T *)p.q + (token * p.n_heads + head) * p.head_dim);
    if (is_q && !p.kv8)
        return;
    there = there && !is_q && kv_row >= 0;
    void *const to = is_v ? p.v : p.k;
    const int64_t at = kv_row * p.n_kv_heads + head - p.n_heads - (is_v ? p.n_kv_heads : 0);
    if (p.kv8)
        store_head_kv8<E, PER, LANES>(&x, half, there, (int8_t *)to + at * KV8_HEAD_BYTES(p.head_dim));
    else
        store_head<E, PER, LANES, WHOLE>(&x, half, there, (T *)to + at * p.head_dim);
}

/* A head of a token: from dy, the gradient after rotation, to that of x, the head of the projection. With y = x * rstd:
 * dx = rstd * (g*dy - y * mean(g*dy*y)), d_gain += dy * y. gain and d_gain are not looked at without norm. */
template <typename T, int E, int PER, int LANES, bool WHOLE>
static __device__ __forceinline__ void head_backward(const struct qkv_forward &p, float inverse, int32_t position,
                                                     bool there, const T *x_at, const float *dy_at, T *dx_at, bool norm,
                                                     const half_runs<E, PER> &gain, half_runs<E, PER> &d_gain)
{
    const int half = p.head_dim / 2;
    half_runs<E, PER> g;
    load_head<E, PER, LANES, WHOLE>(dy_at, half, dy_at != NULL, &g);
    half_runs<E, PER> angles;
    load_angles<E, PER, LANES, WHOLE>(p, position, true, &angles);
    if (norm) {
        half_runs<E, PER> x, scaled;
        load_head<E, PER, LANES, WHOLE>(x_at, half, there, &x);
        head_rotate(&g, &angles, -1.0f);
#pragma unroll
        for (int j = 0; j < PER; j++)
#pragma unroll
            for (int e = 0; e < E; e++) {
                scaled.low[j][e] = g.low[j][e] * gain.low[j][e];
                scaled.high[j][e] = g.high[j][e] * gain.high[j][e];
            }
        const float square = head_dot<E, PER, LANES>(&x, &x);
        const float dot = head_dot<E, PER, LANES>(&scaled, &x);
        const float rstd = there ? rsqrtf(fmaf(square, inverse, p.eps)) : 0.0f;
        const float mean = dot * rstd * inverse;
#pragma unroll
        for (int j = 0; j < PER; j++)
#pragma unroll
            for (int e = 0; e < E; e++) {
                const float low = x.low[j][e] * rstd, high = x.high[j][e] * rstd;
                d_gain.low[j][e] = fmaf(g.low[j][e], low, d_gain.low[j][e]);
                d_gain.high[j][e] = fmaf(g.high[j][e], high, d_gain.high[j][e]);
                g.low[j][e] = rstd * (scaled.low[j][e] - low * mean);
                g.high[j][e] = rstd * (scaled.high[j][e] - high * mean);
            }
    } else {
        head_rotate(&g, &angles, -1.0f);
    }
    store_head<E, PER, LANES, WHOLE>(&g, half, there, dx_at);
}

/* part[c] = sum over the block's groups, ascending, of their d_gain. sums: [groups][D]. */
template <int E, int PER, int LANES>
static __device__ __forceinline__ void store_gain_part(const half_runs<E, PER> *d_gain, int half, float *sums,
                                                       float *part)
{
    const int group = threadIdx.x / LANES;
    __syncthreads(); /* sums may still be read */
    store_head<E, PER, LANES, false>(d_gain, half, true, sums + group * 2 * half);
    __syncthreads();
    for (int c = threadIdx.x; c < 2 * half; c += BACKWARD_THREADS) {
        float total = sums[c];
        for (int w = 1; w < BACKWARD_THREADS / LANES; w++)
            total += sums[w * 2 * half + c];
        part[c] = total;
    }
}

/* A block takes block_tokens consecutive tokens: its groups share out the tokens' q heads, then the k heads, then the v
 * heads. It leaves its gains' gradients in part[blockIdx.x][2][D]: of q, of k (unless NULL). */
template <typename T, typename GAIN, int E, int PER, int LANES, bool WHOLE>
static __global__ void __launch_bounds__(BACKWARD_THREADS, 4)
    qkv_backward_kernel(struct qkv_backward b, float inverse, int block_tokens, float *part)
{
    constexpr int GROUPS = BACKWARD_THREADS / LANES;
    __shared__ float sums[GROUPS * 2 * E * PER * LANES];
    const struct qkv_forward &p = b.forward;
    const int half = p.head_dim / 2, n_heads = p.n_heads, n_kv = p.n_kv_heads;
    const int64_t width = (int64_t)(n_heads + 2 * n_kv) * p.head_dim;
    const int64_t begin = (int64_t)blockIdx.x * block_tokens;
    const int n_tokens = (int)(p.tokens - begin < block_tokens ? p.tokens - begin : block_tokens);
    const int group = threadIdx.x / LANES;
#pragma unroll 1
    for (int which = 0; which < 2; which++) {
        const int n = which == 0 ? n_heads : n_kv;
        const GAIN *gain_at = (const GAIN *)(which == 0 ? p.q_gain : p.k_gain);
        half_runs<E, PER> gain = {}, d_gain;
#pragma unroll
        for (int j = 0; j < PER; j++)
#pragma unroll
            for (int e = 0; e < E; e++)
                d_gain.low[j][e] = d_gain.high[j][e] = 0.0f;
        if (gain_at != NULL)
            load_head<E, PER, LANES, WHOLE>(gain_at, half, true, &gain);
        for (int from = 0; from < n_tokens * n; from += GROUPS) {
            const bool there = from + group < n_tokens * n;
            const int item = there ? from + group : 0;
            const int64_t token = begin + item / n;
            const int head = item % n;
            const int64_t at = token * width + (int64_t)(which * n_heads + head) * p.head_dim;
            const float *dy = NULL;
            if (there && which == 0)
                dy = b.dq + (token * n_heads + head) * p.head_dim;
            else if (there && p.kv_row[token] >= 0)
                dy = b.dk + ((int64_t)p.kv_row[token] * n_kv + head) * p.head_dim;
            head_backward<T, E, PER, LANES, WHOLE>(p, inverse, p.position[token], there, (const T *)p.qkv + at, dy,
                                                   (T *)b.d_qkv + at, gain_at != NULL, gain, d_gain);
        }
        if (part != NULL && gain_at != NULL)
            store_gain_part<E, PER, LANES>(&d_gain, half, sums, part + ((int64_t)blockIdx.x * 2 + which) * p.head_dim);
    }
    for (int item = group; item < n_tokens * n_kv; item += GROUPS) {
        const int64_t token = begin + item / n_kv, kv_row = p.kv_row[token];
        const int head = item % n_kv;
        half_runs<E, PER> dv;
        load_head<E, PER, LANES, WHOLE>(b.dv + (kv_row * n_kv + head) * p.head_dim, half, kv_row >= 0, &dv);
        store_head<E, PER, LANES, WHOLE>(&dv, half, true,
                                         (T *)b.d_qkv + token * width + (int64_t)(n_heads + n_kv + head) * p.head_dim);
    }
}

/* Runs of four pairs where D/2 is a multiple of four, single pairs else. */
static bool runs_of_four(const struct qkv_forward *p) { return p->head_dim % 8 == 0; }

static bool gain_whole(const void *gain, enum dtype type)
{
    return gain == NULL || vector_aligned(gain, 4 * dtype_bytes(type));
}

/* Whether the runs of four can be read in one access. */
static bool forward_whole(const struct qkv_forward *p)
{
    return vector_aligned(p->qkv, 4 * dtype_bytes(p->act)) && vector_aligned(p->cos_table, 16) &&
           vector_aligned(p->sin_table, 16) && gain_whole(p->q_gain, p->gain_type) &&
           gain_whole(p->k_gain, p->gain_type);
}

template <typename T, typename GAIN>
static void forward_of(const struct cuda_state *s, const struct qkv_forward *p, bool whole)
{
    auto kernel = qkv_forward_kernel<T, GAIN, 1, 4, 32, false>;
    int lanes = 32;
    if (runs_of_four(p) && p->head_dim <= 128) {
        lanes = 16;
        kernel = whole ? qkv_forward_kernel<T, GAIN, 4, 1, 16, true> : qkv_forward_kernel<T, GAIN, 4, 1, 16, false>;
    } else if (runs_of_four(p)) {
        kernel = whole ? qkv_forward_kernel<T, GAIN, 4, 1, 32, true> : qkv_forward_kernel<T, GAIN, 4, 1, 32, false>;
    }
    const int64_t items = p->tokens * (p->n_heads + 2 * p->n_kv_heads);
    assert(items < INT32_MAX);
    LAUNCH_BEHIND(begins_early(s), kernel, dim3((unsigned)ceil_div(items, FORWARD_THREADS / lanes)),
                  dim3(FORWARD_THREADS), 0, s->stream, *p, 1.0f / (float)p->head_dim);
}

extern "C" void cuda_qkv_forward(struct backend *backend, const struct qkv_forward *p)
{
    assert(p->head_dim > 0 && p->head_dim <= MAX_HEAD_DIM && p->head_dim % 2 == 0);
    if (p->tokens == 0)
        return;
    const struct cuda_state *s = cuda_state_of(backend);
    const size_t run = 4 * dtype_bytes(p->act);
    const bool whole = forward_whole(p) && vector_aligned(p->q, run) &&
                       (p->kv8 || (vector_aligned(p->k, run) && vector_aligned(p->v, run)));
    if (p->act == DTYPE_F32 && p->gain_type == DTYPE_F32)
        forward_of<float, float>(s, p, whole);
    else if (p->act == DTYPE_F32)
        forward_of<float, uint16_t>(s, p, whole);
    else if (p->gain_type == DTYPE_F32)
        forward_of<uint16_t, float>(s, p, whole);
    else
        forward_of<uint16_t, uint16_t>(s, p, whole);
    cuda_note(backend, "qkv_forward", cudaSuccess);
}

template <typename T, typename GAIN>
static void backward_of(cudaStream_t stream, const struct qkv_backward *b, bool whole, int block_tokens, float *part)
{
    const struct qkv_forward *p = &b->forward;
    auto kernel = qkv_backward_kernel<T, GAIN, 1, 4, 32, false>;
    if (runs_of_four(p) && p->head_dim <= 128)
        kernel = whole ? qkv_backward_kernel<T, GAIN, 4, 1, 16, true> : qkv_backward_kernel<T, GAIN, 4, 1, 16, false>;
    else if (runs_of_four(p))
        kernel = whole ? qkv_backward_kernel<T, GAIN, 4, 1, 32, true> : qkv_backward_kernel<T, GAIN, 4, 1, 32, false>;
    LAUNCH(kernel, dim3((unsigned)ceil_div(p->tokens, block_tokens)), dim3(BACKWARD_THREADS), 0, stream, *b,
           1.0f / (float)p->head_dim, block_tokens, part);
}

extern "C" size_t cuda_qkv_scratch(int64_t tokens, int32_t head_dim)
{
    return (size_t)(row_blocks_most(tokens) * 2 * head_dim) * sizeof(float);
}

extern "C" void cuda_qkv_backward(struct backend *backend, const struct qkv_backward *b)
{
    const struct qkv_forward *p = &b->forward;
    const int32_t n = p->head_dim;
    assert(n > 0 && n <= MAX_HEAD_DIM && n % 2 == 0);
    if (p->tokens == 0)
        return;
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const int block_tokens = rows_per_block(p->tokens);
    const int64_t blocks = ceil_div(p->tokens, block_tokens);
    const bool q_wanted = p->q_gain != NULL && b->d_q_gain != NULL;
    const bool k_wanted = p->k_gain != NULL && b->d_k_gain != NULL;
    float *part = NULL;
    if (q_wanted || k_wanted) {
        part = (float *)cuda_scratch(backend, cuda_qkv_scratch(p->tokens, n));
        if (part == NULL)
            return;
    }
    const bool whole = forward_whole(p) && vector_aligned(b->dq, 16) && vector_aligned(b->dk, 16) &&
                       vector_aligned(b->dv, 16) && vector_aligned(b->d_qkv, 4 * dtype_bytes(p->act));
    if (p->act == DTYPE_F32 && p->gain_type == DTYPE_F32)
        backward_of<float, float>(stream, b, whole, block_tokens, part);
    else if (p->act == DTYPE_F32)
        backward_of<float, uint16_t>(stream, b, whole, block_tokens, part);
    else if (p->gain_type == DTYPE_F32)
        backward_of<uint16_t, float>(stream, b, whole, block_tokens, part);
    else
        backward_of<uint16_t, uint16_t>(stream, b, whole, block_tokens, part);
    if (q_wanted)
        launch_column_sums(stream, part, blocks, 2 * n, n, b->d_q_gain);
    if (k_wanted)
        launch_column_sums(stream, part + n, blocks, 2 * n, n, b->d_k_gain);
    cuda_note(backend, "qkv_backward", cudaSuccess);
}

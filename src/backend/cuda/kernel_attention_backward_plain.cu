/* Attention, backward, of any head size up to 256, in bf16 or fp32: one warp a row of dq, or of dk and dv, its vectors
 * spread over the lanes. Slow and simple; the order of every sum is that of kernel_attention_backward.cu. */
#include "backend/cuda/attention_backward.cuh"
#include "backend/cuda/attention_tile.cuh"
#include "backend/ops.h"

enum { WARPS = 4, LANE_MAX = 256 / 32 };

/* A vector of head_dim elements: element d is in lane d % 32, zeros beyond. */
template <class T> static __device__ __forceinline__ void vector_load(float x[LANE_MAX], const T *from, int head_dim)
{
#pragma unroll
    for (int i = 0; i < LANE_MAX; i++) {
        const int d = 32 * i + (threadIdx.x & 31);
        x[i] = d < head_dim ? load_element(from + d) : 0.0f;
    }
}

static __device__ __forceinline__ float vector_dot(const float a[LANE_MAX], const float b[LANE_MAX])
{
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < LANE_MAX; i++)
        sum = fmaf(a[i], b[i], sum);
    return warp_sum(sum);
}

/* Per (token, head), one warp: lse in base 2 and delta. */
template <class T>
static __global__ void __launch_bounds__(WARPS * 32) gradient_statistics_plain(const struct gradient g)
{
    const int64_t pair = (int64_t)blockIdx.x * WARPS + (threadIdx.x >> 5);
    if (pair >= g.n_pairs)
        return;
    const T *out = (const T *)g.out + pair * g.head_dim;
    const T *d_out = (const T *)g.d_out + pair * g.head_dim;
    float sum = 0.0f;
    for (int d = threadIdx.x & 31; d < g.head_dim; d += 32)
        sum = fmaf(load_element(d_out + d), load_element(out + d), sum);
    sum = warp_sum(sum);
    if ((threadIdx.x & 31) == 0)
        g.statistics[pair] = make_float2(g.lse[pair] * ATTENTION_LOG2_E, sum);
}

template <class T>
static __global__ void __launch_bounds__(WARPS * 32) gradient_of_queries_plain(const struct gradient g)
{
    const int64_t index = blockIdx.x / g.n_kv_heads;
    if (index >= *g.n_items)
        return;
    const struct cuda_item item = g.items[index];
    const struct cuda_seq seq = g.seqs[item.seq];
    const int kv_head = (int)(blockIdx.x % g.n_kv_heads), lane = threadIdx.x & 31;
    for (int r = threadIdx.x >> 5; r < item.n_queries * g.ratio; r += WARPS) {
        const int token = item.query_row + r / g.ratio;
        const int position = seq.first_position + token - seq.query_row;
        const int64_t pair = (int64_t)token * g.n_heads + kv_head * g.ratio + r % g.ratio;
        float q[LANE_MAX], d_out[LANE_MAX], dq[LANE_MAX] = {};
        vector_load(q, (const T *)g.q + pair * g.head_dim, g.head_dim);
        vector_load(d_out, (const T *)g.d_out + pair * g.head_dim, g.head_dim);
        const float lse = g.lse[pair], delta = g.statistics[pair].y;
        for (int j = attention_first(position, g.reach); j <= position; j++) {
            const struct cuda_chunk rows = g.chunks[seq.chunk_begin + j / ATTENTION_CHUNK];
            const int64_t row = attention_key_row(seq, rows, j);
            const int64_t at = (row * g.n_kv_heads + kv_head) * g.head_dim;
            float k[LANE_MAX], v[LANE_MAX];
            vector_load(k, (const T *)g.k + at, g.head_dim);
            vector_load(v, (const T *)g.v + at, g.head_dim);
            const float p = expf(fmaf(vector_dot(q, k), g.scale, -lse));
            const float ds = p * (vector_dot(d_out, v) - delta);
#pragma unroll
            for (int i = 0; i < LANE_MAX; i++)
                dq[i] = fmaf(ds, k[i], dq[i]);
        }
#pragma unroll
        for (int i = 0; i < LANE_MAX; i++)
            if (32 * i + lane < g.head_dim)
                g.dq[pair * g.head_dim + 32 * i + lane] = dq[i] * g.scale;
    }
}

template <class T> static __global__ void __launch_bounds__(WARPS * 32) gradient_of_keys_plain(const struct gradient g)
{
    const int64_t per_item = (int64_t)g.n_kv_heads * (ATTENTION_CHUNK / WARPS);
    const struct cuda_key_item item = g.key_items[blockIdx.x / per_item];
    const int rest = (int)(blockIdx.x % per_item), kv_head = rest % g.n_kv_heads;
    const int lane = threadIdx.x & 31;
    const int position = item.chunk * ATTENTION_CHUNK + rest / g.n_kv_heads * WARPS + (int)(threadIdx.x >> 5);
    const struct gradient_keys keys = gradient_keys_of(g, item);
    if (position < keys.begin || position >= keys.end)
        return;
    const int64_t at = ((keys.row + position) * g.n_kv_heads + kv_head) * g.head_dim;
    float k[LANE_MAX], v[LANE_MAX], dk[LANE_MAX] = {}, dv[LANE_MAX] = {};
    vector_load(k, (const T *)g.k + at, g.head_dim);
    vector_load(v, (const T *)g.v + at, g.head_dim);
    for (int s = item.seq_begin; s < item.seq_end; s++) {
        const struct cuda_seq seq = g.seqs[s];
        int t = 0;
        if (s == item.seq)
            t = position - seq.first_position;
        else if (position >= seq.first_position)
            continue;
        for (; t < seq.n_queries && seq.first_position + t - position <= g.reach; t++)
            for (int h = 0; h < g.ratio; h++) {
                const int64_t pair = ((int64_t)seq.query_row + t) * g.n_heads + kv_head * g.ratio + h;
                float q[LANE_MAX], d_out[LANE_MAX];
                vector_load(q, (const T *)g.q + pair * g.head_dim, g.head_dim);
                vector_load(d_out, (const T *)g.d_out + pair * g.head_dim, g.head_dim);
                const float p = expf(fmaf(vector_dot(q, k), g.scale, -g.lse[pair]));
                const float ds = p * (vector_dot(d_out, v) - g.statistics[pair].y);
#pragma unroll
                for (int i = 0; i < LANE_MAX; i++) {
                    dk[i] = fmaf(ds, q[i], dk[i]);
                    dv[i] = fmaf(p, d_out[i], dv[i]);
                }
            }
    }
#pragma unroll
    for (int i = 0; i < LANE_MAX; i++)
        if (32 * i + lane < g.head_dim) {
            g.dk[at + 32 * i + lane] = fmaf(dk[i], g.scale, g.dk[at + 32 * i + lane]);
            g.dv[at + 32 * i + lane] += dv[i];
        }
}

template <class T> static void run_plain(struct cuda_state *s, const struct gradient *g)
{
    const struct cuda_attention *plan = &s->attention;
    LAUNCH((gradient_statistics_plain<T>), (unsigned)((g->n_pairs + WARPS - 1) / WARPS), WARPS * 32, 0, s->stream, *g);
    if (plan->max_items > 0)
        LAUNCH((gradient_of_queries_plain<T>), (unsigned)((int64_t)plan->max_items * g->n_kv_heads), WARPS * 32, 0,
               s->stream, *g);
    if (plan->n_key_items > 0)
        LAUNCH((gradient_of_keys_plain<T>),
               (unsigned)((int64_t)plan->n_key_items * g->n_kv_heads * (ATTENTION_CHUNK / WARPS)), WARPS * 32, 0,
               s->stream, *g);
}

void cuda_attention_gradient_plain(struct cuda_state *s, const struct gradient *g, enum dtype act)
{
    if (act == DTYPE_BF16)
        run_plain<uint16_t>(s, g);
    else
        run_plain<float>(s, g);
}

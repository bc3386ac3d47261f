/* Embedding, forward and backward. The backward sorts the batch's tokens by id, keeping the order of equal ones, and
 * gives every id's row of the gradient to one block a range of columns, which adds the id's tokens in ascending order:
 * the sum of a loop over the tokens, without atomics. */
#include "backend/cuda/vector_access.cuh"
#include "base/rng.h"

#include <assert.h>

enum {
    COPY_THREADS = 256,
    SORT_WARPS = 8,
    DIGIT_BITS = 9, /* two passes sort ids below 2^18; larger ids only make the second grid larger */
    SUM_THREADS = 128,
    SUM_BATCH = 8 /* rows of one id read at a time */
};

template <typename T, bool WHOLE>
static __global__ void __launch_bounds__(COPY_THREADS)
    embed_forward_kernel(int width, const int32_t *token, const T *__restrict__ table, float *y)
{
    const int64_t t = blockIdx.x;
    start_dependents();
    wait_for_ahead();
    const int i = 4 * (int)(blockIdx.y * COPY_THREADS + threadIdx.x);
    const int32_t id = token[t]; /* negative in idle rows of decoding, whose result nobody reads */
    float v[4];
    load_part4<WHOLE>(table + (int64_t)(id < 0 ? 0 : id) * width, i, width, v);
    store_part4<WHOLE>(y + t * width, i, width, v);
}

extern "C" void cuda_embed_forward(struct backend *backend, const struct embed_forward *p)
{
    if (p->tokens == 0)
        return;
    const struct cuda_state *s = cuda_state_of(backend);
    const int64_t vectors = ceil_div(p->width, 4);
    const int64_t threads = vectors < COPY_THREADS ? ceil_div(vectors, 32) * 32 : (int64_t)COPY_THREADS;
    const dim3 grid((unsigned)p->tokens, (unsigned)ceil_div(vectors, COPY_THREADS));
    const bool in_fours = rows_in_fours(p->table, p->type, p->width) && rows_in_fours(p->y, DTYPE_F32, p->width);
    if (p->type == DTYPE_F32) {
        auto kernel = in_fours ? embed_forward_kernel<float, true> : embed_forward_kernel<float, false>;
        LAUNCH_BEHIND(begins_early(s), kernel, grid, dim3((unsigned)threads), 0, s->stream, (int)p->width, p->token,
                      (const float *)p->table, p->y);
    } else if (p->type == DTYPE_F16) {
        auto kernel = embed_forward_kernel<half_element, false>;
        LAUNCH_BEHIND(begins_early(s), kernel, grid, dim3((unsigned)threads), 0, s->stream, (int)p->width, p->token,
                      (const half_element *)p->table, p->y);
    } else {
        auto kernel = in_fours ? embed_forward_kernel<uint16_t, true> : embed_forward_kernel<uint16_t, false>;
        LAUNCH_BEHIND(begins_early(s), kernel, grid, dim3((unsigned)threads), 0, s->stream, (int)p->width, p->token,
                      (const uint16_t *)p->table, p->y);
    }
    cuda_note(backend, "embed_forward", cudaSuccess);
}

/* An element of the sort: x the id, y the token's index. */
template <bool FIRST> static __device__ __forceinline__ int digit_of(const int32_t *token, const int2 *in, int i)
{
    return FIRST ? token[i] & ((1 << DIGIT_BITS) - 1) : in[i].x >> DIGIT_BITS;
}

/* One pass of a stable radix sort. Block d writes the elements of digit d, in the order they have, behind all of
 * smaller digits; every block reads everything (the list is small and lies in the second-level cache). A warp takes one
 * section of the list. FIRST: by the low bits of token[]; else in[] by the bits above. */
template <bool FIRST>
static __global__ void __launch_bounds__(32 * SORT_WARPS)
    sort_pass(int n, const int32_t *__restrict__ token, const int2 *__restrict__ in, int2 *__restrict__ out)
{
    __shared__ int smaller_part[SORT_WARPS], equal_part[SORT_WARPS];
    const int digit = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int section = (n + 32 * SORT_WARPS - 1) / (32 * SORT_WARPS) * 32;
    const int begin = warp * section < n ? warp * section : n;
    const int end = section < n - begin ? begin + section : n;
    int smaller = 0, equal = 0;
#pragma unroll 8
    for (int i = begin + lane; i < end; i += 32) {
        const int d = digit_of<FIRST>(token, in, i);
        smaller += d < digit;
        equal += d == digit;
    }
    for (int o = 16; o > 0; o >>= 1) {
        smaller += __shfl_xor_sync(0xffffffffu, smaller, o);
        equal += __shfl_xor_sync(0xffffffffu, equal, o);
    }
    if (lane == 0) {
        smaller_part[warp] = smaller;
        equal_part[warp] = equal;
    }
    __syncthreads();
    int to = 0;
    for (int w = 0; w < SORT_WARPS; w++)
        to += smaller_part[w] + (w < warp ? equal_part[w] : 0);
    if (equal == 0)
        return;
#pragma unroll 4
    for (int i = begin; i < end; i += 32) {
        const int at = i + lane;
        const bool mine = at < end && digit_of<FIRST>(token, in, at) == digit;
        const unsigned all = __ballot_sync(0xffffffffu, mine);
        if (mine)
            out[to + __popc(all & ((1u << lane) - 1u))] = FIRST ? make_int2(token[at], at) : in[at];
        to += __popc(all);
    }
}

/* Block (p, range): where sorted[p] is the first of its id, adds the rows dy of that id's tokens to its row of
 * d_table. */
template <bool WHOLE>
static __global__ void __launch_bounds__(SUM_THREADS)
    embed_backward_kernel(int n, int width, const int2 *__restrict__ sorted, const float *__restrict__ dy,
                          float *__restrict__ d_table)
{
    const int first = blockIdx.x;
    const int id = sorted[first].x;
    if (first > 0 && sorted[first - 1].x == id)
        return;
    const int i = 4 * (int)(blockIdx.y * SUM_THREADS + threadIdx.x);
    float *row = d_table + (int64_t)id * width;
    float sum[4];
    load_part4<WHOLE>(row, i, width, sum);
    for (int begin = first;; begin += SUM_BATCH) {
        int t[SUM_BATCH];
        float v[SUM_BATCH][4];
#pragma unroll
        for (int b = 0; b < SUM_BATCH; b++) {
            const int2 element = sorted[begin + b < n ? begin + b : n - 1];
            t[b] = begin + b < n && element.x == id ? element.y : -1;
        }
#pragma unroll
        for (int b = 0; b < SUM_BATCH; b++)
            if (t[b] >= 0)
                load_part4<WHOLE>(dy + (int64_t)t[b] * width, i, width, v[b]);
#pragma unroll
        for (int b = 0; b < SUM_BATCH; b++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (t[b] >= 0)
                    sum[e] += v[b][e];
        if (t[SUM_BATCH - 1] < 0)
            break;
    }
    store_part4<WHOLE>(row, i, width, sum);
}

extern "C" size_t cuda_embed_scratch(int64_t tokens) { return 2 * (size_t)tokens * sizeof(int2); }

extern "C" void cuda_embed_backward(struct backend *backend, const struct embed_backward *p)
{
    if (p->tokens == 0)
        return;
    cuda_host_flush(backend); /* a tied head may have written to the same gradient */
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const int n = (int)p->tokens;
    int2 *sorted = (int2 *)cuda_scratch(backend, cuda_embed_scratch(p->tokens));
    if (sorted == NULL)
        return;
    int2 *half_sorted = sorted + n;
    const int64_t low_digits = p->vocab < 1 << DIGIT_BITS ? p->vocab : 1 << DIGIT_BITS;
    LAUNCH((sort_pass<true>), dim3((unsigned)low_digits), dim3(32 * SORT_WARPS), 0, stream, n, p->token,
           (const int2 *)NULL, half_sorted);
    LAUNCH((sort_pass<false>), dim3((unsigned)ceil_div(p->vocab, 1 << DIGIT_BITS)), dim3(32 * SORT_WARPS), 0, stream, n,
           (const int32_t *)NULL, (const int2 *)half_sorted, sorted);
    auto kernel = rows_in_fours(p->dy, DTYPE_F32, p->width) && rows_in_fours(p->d_table, DTYPE_F32, p->width)
                      ? embed_backward_kernel<true>
                      : embed_backward_kernel<false>;
    LAUNCH(kernel, dim3((unsigned)n, (unsigned)ceil_div(p->width, 4 * SUM_THREADS)), dim3(SUM_THREADS), 0, stream, n,
           (int)p->width, (const int2 *)sorted, p->dy, p->d_table);
    cuda_note(backend, "embed_backward", cudaSuccess);
}

enum { CHANGE_THREADS = 128, CHANGE_WARPS = CHANGE_THREADS / 32 };

static __device__ __forceinline__ float element(const float *p, int64_t i) { return p[i]; }
static __device__ __forceinline__ float element(const uint16_t *p, int64_t i)
{
    return __uint_as_float((uint32_t)p[i] << 16);
}

/* Block (t, part of the width): a thread has a column. */
template <typename T>
static __global__ void __launch_bounds__(CHANGE_THREADS) embed_change_kernel(embed_change_forward p)
{
    const int64_t t = blockIdx.x, c = (int64_t)blockIdx.y * CHANGE_THREADS + threadIdx.x;
    const int32_t id = p.token[t]; /* negative in idle rows, as above */
    if (c >= p.width || id < 0)
        return;
    const T *a = (const T *)p.a + (int64_t)id * p.r, *b = (const T *)p.b + c;
    float sum = 0.0f;
    for (int64_t j = 0; j < p.r; j++)
        sum = fmaf(element(a, j), element(b, j * p.width), sum);
    sum *= p.scale;
    if (sum != 0.0f)
        p.y[t * p.width + c] += sum;
}

extern "C" void cuda_embed_change_forward(struct backend *backend, const struct embed_change_forward *p)
{
    if (p->tokens == 0)
        return;
    const dim3 grid((unsigned)p->tokens, (unsigned)ceil_div(p->width, CHANGE_THREADS));
    auto kernel = p->type == DTYPE_F32 ? embed_change_kernel<float> : embed_change_kernel<uint16_t>;
    LAUNCH(kernel, grid, CHANGE_THREADS, 0, cuda_state_of(backend)->stream, *p);
    cuda_note(backend, "embed_change_forward", cudaSuccess);
}

/* Block (t, part of r): a warp has an element of d. Lane l sums the columns l, l + 32 ... */
template <typename T>
static __global__ void __launch_bounds__(CHANGE_THREADS) embed_change_inner_kernel(embed_change_backward p)
{
    const int64_t t = blockIdx.x, j = (int64_t)blockIdx.y * CHANGE_WARPS + threadIdx.x / 32;
    if (j >= p.r)
        return;
    const T *b = (const T *)p.b + j * p.width;
    const float *dy = p.dy + t * p.width;
    float sum = 0.0f;
    for (int64_t c = threadIdx.x % 32; c < p.width; c += 32)
        sum = fmaf(dy[c], element(b, c), sum);
    for (int o = 16; o > 0; o >>= 1)
        sum += __shfl_xor_sync(0xffffffffu, sum, o);
    if (threadIdx.x % 32 == 0)
        p.d[t * p.r + j] = p.scale * sum;
}

/* Block (part of the width, j): a thread has an element of db and walks the tokens. */
template <typename T>
static __global__ void __launch_bounds__(CHANGE_THREADS) embed_change_gradient_kernel(embed_change_backward p)
{
    const int64_t c = (int64_t)blockIdx.x * CHANGE_THREADS + threadIdx.x, j = blockIdx.y;
    if (c >= p.width)
        return;
    float sum = p.db[j * p.width + c];
    for (int64_t t = 0; t < p.tokens; t++)
        sum = fmaf(p.scale * element((const T *)p.a, p.token[t] * p.r + j), p.dy[t * p.width + c], sum);
    p.db[j * p.width + c] = sum;
}

extern "C" void cuda_embed_change_backward(struct backend *backend, const struct embed_change_backward *p)
{
    if (p->tokens == 0)
        return;
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const bool f32 = p->type == DTYPE_F32;
    auto inner = f32 ? embed_change_inner_kernel<float> : embed_change_inner_kernel<uint16_t>;
    auto gradient = f32 ? embed_change_gradient_kernel<float> : embed_change_gradient_kernel<uint16_t>;
    cuda_host_flush(backend);
    LAUNCH(inner, dim3((unsigned)p->tokens, (unsigned)ceil_div(p->r, CHANGE_WARPS)), CHANGE_THREADS, 0, stream, *p);
    LAUNCH(gradient, dim3((unsigned)ceil_div(p->width, CHANGE_THREADS), (unsigned)p->r), CHANGE_THREADS, 0, stream, *p);
    cuda_note(backend, "embed_change_backward", cudaSuccess);
    const struct embed_backward rows = {p->tokens, p->r, p->vocab, p->token, p->d, p->da};
    cuda_embed_backward(backend, &rows);
}

/* Block (t, part of the width); a thread has the four words of a Philox block. */
static __global__ void __launch_bounds__(COPY_THREADS) embed_noise_kernel(embed_noise p)
{
    const int64_t t = blockIdx.x;
    const int64_t c = 4 * ((int64_t)blockIdx.y * COPY_THREADS + threadIdx.x);
    if (c >= p.width)
        return;
    const uint64_t blocks = (uint64_t)(p.width + 3) / 4;
    const device_rng_block block =
        device_philox(p.seed, RNG_NOISE, p.stream[t], (uint64_t)p.position[t] * blocks + (uint64_t)c / 4);
    float *y = p.y + t * p.width;
    for (int i = 0; i < 4 && c + i < p.width; i++) {
        const float uniform = (float)(block.word[i] >> 8) * 0x1p-24f; /* rng_uniform */
        y[c + i] += p.scale[t] * (2.0f * uniform - 1.0f);
    }
}

extern "C" void cuda_embed_noise(struct backend *backend, const struct embed_noise *p)
{
    if (p->tokens == 0)
        return;
    const struct cuda_state *s = cuda_state_of(backend);
    const dim3 grid((unsigned)p->tokens, (unsigned)ceil_div(ceil_div(p->width, 4), COPY_THREADS));
    LAUNCH(embed_noise_kernel, grid, COPY_THREADS, 0, s->stream, *p);
    cuda_note(backend, "embed_noise", cudaSuccess);
}

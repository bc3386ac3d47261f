/* SGD, Lion and steps along a given direction, on split masters: the CPU's operations one by one, so that the bits are
 * the same. */
#include "backend/cuda/split_master.cuh"

#include <assert.h>

enum { THREADS = 256 };

/* The scalars of a step. */
struct step_factors {
    float scale, rate, keep, coupled_decay, momentum, mix, beta2, mix2;
    bool nesterov, fresh;
};

template <enum descent_rule RULE>
static __device__ __forceinline__ float stepped(const step_factors &f, float w, float d, float *m)
{
    if (RULE == DESCENT_SGD) {
        d = d * f.scale + f.coupled_decay * w;
        if (m != NULL) {
            const float m1 = f.fresh ? d : f.momentum * *m + f.mix * d;
            *m = m1;
            d = f.nesterov ? d + f.momentum * m1 : m1;
        }
        return w - f.rate * d;
    }
    if (RULE == DESCENT_LION) {
        const float g = d * f.scale, c = f.momentum * *m + f.mix * g;
        const float sign = c > 0.0f ? 1.0f : c < 0.0f ? -1.0f : 0.0f;
        *m = f.beta2 * *m + f.mix2 * g;
        return w * f.keep - f.rate * sign;
    }
    float step = f.rate * (d * f.scale);
    if (m != NULL)
        *m = step = f.momentum * *m + f.mix * step;
    return w * f.keep - step;
}

template <typename T, typename D, enum descent_rule RULE>
static __global__ void __launch_bounds__(THREADS)
    descent_kernel(int64_t count, T *__restrict__ weight, int16_t *__restrict__ low, const D *__restrict__ direction,
                   float *__restrict__ m, step_factors f)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const float w = load_master(weight, low, i);
    store_master(weight, low, i, stepped<RULE>(f, w, load_element(direction + i), m == NULL ? NULL : m + i));
}

template <typename T, typename D> static void launch_rule(cudaStream_t stream, const struct descent *p)
{
    const step_factors f = {p->scale,    p->rate,
                            p->keep,     p->coupled_decay,
                            p->momentum, p->rule == DESCENT_SGD ? 1.0f - p->dampening : 1.0f - p->momentum,
                            p->beta2,    1.0f - p->beta2,
                            p->nesterov, p->fresh};
    const dim3 grid((unsigned)ceil_div(p->count, THREADS)), block(THREADS);
    T *weight = (T *)p->weight;
    const D *direction = (const D *)p->direction;
    switch (p->rule) {
    case DESCENT_SGD:
        LAUNCH((descent_kernel<T, D, DESCENT_SGD>), grid, block, 0, stream, p->count, weight, p->low, direction, p->m,
               f);
        break;
    case DESCENT_LION:
        LAUNCH((descent_kernel<T, D, DESCENT_LION>), grid, block, 0, stream, p->count, weight, p->low, direction, p->m,
               f);
        break;
    case DESCENT_ALONG:
        LAUNCH((descent_kernel<T, D, DESCENT_ALONG>), grid, block, 0, stream, p->count, weight, p->low, direction, p->m,
               f);
        break;
    }
}

extern "C" void cuda_descent(struct backend *backend, const struct descent *p)
{
    cuda_host_flush(backend);
    const cudaStream_t stream = cuda_state_of(backend)->stream;
    const bool is_split = p->type == DTYPE_BF16, narrow = p->direction_type == DTYPE_BF16;
    assert(p->type == DTYPE_F32 || (is_split && p->low != NULL));
    assert(p->rule != DESCENT_LION || p->m != NULL);
    if (p->count == 0)
        return;
    if (is_split)
        narrow ? launch_rule<uint16_t, uint16_t>(stream, p) : launch_rule<uint16_t, float>(stream, p);
    else
        narrow ? launch_rule<float, uint16_t>(stream, p) : launch_rule<float, float>(stream, p);
    cuda_note(backend, "descent", cudaSuccess);
}

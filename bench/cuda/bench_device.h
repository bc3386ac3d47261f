/* Device code of the benchmarks. */
#ifndef COHORT_BENCH_DEVICE_H
#define COHORT_BENCH_DEVICE_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct bench_difference {
    unsigned long long count; /* elements whose bits differ */
    unsigned long long first; /* the lowest index of one, row * columns + column */
};

/* x[i] = uniform in (-scale, scale) of (seed, i), as bf16 or fp32. */
void bench_fill_bf16(void *x, int64_t count, float scale, uint32_t seed, cudaStream_t stream);
void bench_fill_f32(void *x, int64_t count, float scale, uint32_t seed, cudaStream_t stream);
/* Adds to *found (device memory) what differs between a and b, [rows, columns] of elements of size 2 or 4 bytes. */
void bench_compare(const void *a, const void *b, int64_t rows, int64_t columns, int size,
                   struct bench_difference *found, cudaStream_t stream);
/* Cycles from one to the next of a chain of matrix instructions that need each other's sums:
 * [0] mma.sync.m16n8k16, [1] wgmma.m64n8k16 (0 where there is none), and [2], [3] bits of the two
 * chains' results on the same numbers: equal if the instructions round alike. cycles: 4 floats of
 * device memory. */
void bench_chains(float *cycles, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif

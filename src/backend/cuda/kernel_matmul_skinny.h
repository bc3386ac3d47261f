/* How a product of few rows is spread over the device (kernel_matmul_skinny.cu). No choice here changes a bit of the
 * result; the measurements (bench/cuda) try several. */
#ifndef COHORT_BACKEND_CUDA_KERNEL_MATMUL_SKINNY_H
#define COHORT_BACKEND_CUDA_KERNEL_MATMUL_SKINNY_H

#include "backend/cuda/cuda_internal.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cuda_skinny_plan {
    bool resident; /* all of k of every warp's one tile at once, k a multiple of 128; else rings */
    int tile_rows; /* weight rows a warp works on at once: 8 or, if resident, 16 */
    int warps;     /* that multiply, in a block: 1 .. 8 */
    int blocks;
    int depth;     /* of a ring: stages of weights a warp keeps on their way: 4, 8 or 16 */
    bool overlap;  /* weights may be fetched before the kernel ahead in the stream has finished */
    size_t shared; /* bytes a block needs: cuda_skinny_finish computes it */
};

/* The plan of choice for m up to 8; false if none fits the device. */
bool cuda_skinny_choose(const struct cuda_state *, int64_t m, int64_t n, int64_t k, struct cuda_skinny_plan *plan);
/* Likewise, and whether a product of m rows of bf16 with weights [n, k] is one for this kernel: where it is the faster
 * one. */
bool cuda_skinny_takes(const struct cuda_state *, int64_t m, int64_t n, int64_t k, struct cuda_skinny_plan *plan);
/* Fills in the rest from resident, tile_rows (8 of a ring), warps and depth, lowering a ring's depth and then warps
 * until it fits; false if it never does. */
bool cuda_skinny_finish(const struct cuda_state *, int64_t m, int64_t n, int64_t k, struct cuda_skinny_plan *plan);
/* false, and nothing done, if the plan's kernel does not make the norm that the product names (it does where resident,
 * of one row in bf16). */
bool cuda_skinny_launch(struct backend *, const void *w, int64_t n, int64_t k, const struct matmul_forward *,
                        const struct cuda_skinny_plan *plan);

#ifdef __cplusplus
}
#endif

#endif

/* In place of the CUDA backend in a build without it. */
#include "backend/backend.h"

#ifndef COHORT_CUDA
cohort_status backend_cuda_create(struct backend **out, int device, cohort_error *err)
{
    (void)device;
    *out = NULL;
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "this cohort was built without CUDA; build it with cmake -DCOHORT_CUDA=ON "
                     "(CUDA 12.4 or newer), or use --device cpu");
}

bool backend_cuda_present(void) { return false; }
#endif

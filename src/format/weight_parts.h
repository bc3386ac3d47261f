/* Tensors as they lie in files, read and hashed in parts, by several threads where there are some: what every reader of
 * weights does once it knows which tensor is which param's. */
#ifndef COHORT_FORMAT_WEIGHT_PARTS_H
#define COHORT_FORMAT_WEIGHT_PARTS_H

#include "format/checkpoint.h"

struct weight_parts {
    const struct param_table *table;
    const struct safetensor *const *tensors;       /* [n_params]; NULL: the param is not read */
    const struct safetensors *const *tensor_files; /* [n_params], each one of files */
    const struct safetensors *files;
    size_t n_files;
    checkpoint_sink *sink;
    void *context;
    struct weight_files *hashes; /* NULL, or gets the files and their hashes */
    struct pool *pool;           /* NULL: the calling thread alone */
};
/* Hands every part on, converted. The error is that of the first part that has one. */
cohort_status weight_parts_read(const struct weight_parts *what, cohort_error *err);

/* Ends a file's hash and appends it. */
cohort_status weight_files_add(struct weight_files *files, const char *path, struct hash *hash, cohort_error *err);
/* The error about elements [first, first + count), of which one is not finite as want. */
cohort_status weight_not_finite(const struct safetensors *file, const struct safetensor *tensor, enum dtype want,
                                int64_t first, int64_t count, cohort_error *err);

#endif

/* The safetensors file format: 8 bytes little-endian header length, a JSON header, then the data. Everything read from
 * the file is checked before use: header length, JSON types, dtype names, that shape x dtype equals the extent, that
 * extents lie within the file, do not overlap and leave no gap that hides bytes. */
#ifndef COHORT_FORMAT_SAFETENSORS_H
#define COHORT_FORMAT_SAFETENSORS_H

#include "base/file.h"
#include "base/hash.h"
#include "tensor/dtype.h"

enum { SAFETENSORS_MAX_RANK = 8 };

struct safetensor {
    char *name;
    char dtype_name[8]; /* as in the file: "F32", "BF16", "I64", ... */
    bool has_dtype;     /* dtype is one of ours */
    enum dtype dtype;
    int32_t rank;
    int64_t shape[SAFETENSORS_MAX_RANK];
    int64_t count;
    const unsigned char *data; /* into the map */
    size_t bytes;
};

struct safetensors {
    struct file_map map;
    char *path;
    struct safetensor *tensors; /* sorted by name */
    size_t n_tensors;
};

cohort_status safetensors_open(struct safetensors *file, const char *path, cohort_error *err);
void safetensors_close(struct safetensors *file);
const struct safetensor *safetensors_find(const struct safetensors *file, const char *name);

/* What to write: data is asked for tensor by tensor, in parts, so that a file larger than memory can be written. */
struct safetensors_source {
    const char *name;
    const char *dtype_name; /* "F32", "BF16", "I16", ... */
    int32_t rank;
    int64_t shape[SAFETENSORS_MAX_RANK];
    size_t bytes;
    /* Puts bytes [offset, offset + length) of the tensor into to. */
    cohort_status (*read)(void *context, size_t offset, size_t length, void *to, cohort_error *err);
    void *context;
};
/* Writes path directly (no rename: the folder that holds it is what is renamed), fsyncs it, header padded so that data
 * is 8-byte aligned, "__metadata__": {"format": "pt"}. A failed write leaves no file. hex, if not NULL, gets the file's
 * SHA-256, computed while it is written. */
cohort_status safetensors_write(const char *path, const struct safetensors_source *tensors, size_t n_tensors,
                                char hex[HASH_HEX], cohort_error *err);

#endif

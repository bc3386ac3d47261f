#include "format/weight_parts.h"

#include "format/checkpoint_convert.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    PART_ELEMENTS = 1 << 20, /* handed on at a time */
    PIECE_ELEMENTS = 1 << 18 /* the same where several threads share the parts: what a core's cache holds */
};

static float element(const struct safetensor *tensor, int64_t i)
{
    uint16_t half = 0;
    float value = 0;
    if (tensor->dtype == DTYPE_F32) {
        memcpy(&value, tensor->data + 4 * i, sizeof value);
        return value;
    }
    memcpy(&half, tensor->data + 2 * i, sizeof half);
    return tensor->dtype == DTYPE_BF16 ? f32_from_bf16(half) : f32_from_f16(half);
}

cohort_status weight_not_finite(const struct safetensors *file, const struct safetensor *tensor, enum dtype want,
                                int64_t first, int64_t count, cohort_error *err)
{
    int64_t i = first;
    while (i < first + count - 1) {
        float value = element(tensor, i);
        if (want == DTYPE_BF16)
            value = f32_from_bf16(bf16_from_f32(value));
        if (want == DTYPE_F16)
            value = f32_from_f16(f16_from_f32(value));
        if (!isfinite(value))
            break;
        i++;
    }
    float value = element(tensor, i);
    return error_set(err, COHORT_ERR_NUMERIC,
                     "%s: tensor %.200s: element %" PRId64 " is %g, expected %s; the checkpoint is "
                     "damaged or its training diverged",
                     file->path, tensor->name, i, (double)value,
                     !isfinite(value)     ? "a finite number"
                     : want == DTYPE_BF16 ? "a value within BF16's range"
                                          : "a value within F16's range");
}

cohort_status weight_files_add(struct weight_files *files, const char *path, struct hash *hash, cohort_error *err)
{
    TRY(mem_grow(&files->files, &files->capacity, files->count + 1, sizeof *files->files, "hashes of weights", err));
    struct weight_file *file = &files->files[files->count];
    hash_end(hash, file->sha256);
    TRY(mem_strdup(&file->path, path, strlen(path), err));
    files->count++;
    return COHORT_OK;
}

/* Elements [first, first + count) of a param; count 0: what lies behind the last tensor of a file. */
struct part {
    const struct safetensors *file;
    size_t row;
    int64_t first, count;
};

/* Parts are taken by several threads, in the order in which they lie in the files. What is hashed is hashed in this
 * order too: by a thread that is done with a part, as far as everything before it is done, unless another does so. */
struct reading {
    const struct weight_parts *what;
    struct part *parts;
    size_t n_parts, capacity;
    char *room; /* [threads][room_bytes]: results of a conversion */
    size_t room_bytes;
    pthread_mutex_t lock;
    size_t failed; /* the first part that failed; n_parts: none did */
    cohort_error *err;
    cohort_status status;
    /* Of the hash. */
    pthread_mutex_t hash_lock;
    atomic_bool *done; /* [n_parts] */
    size_t hashed;
    const unsigned char *at;
    struct hash hash;
};

static const unsigned char *part_data(const struct reading *r, const struct part *part)
{
    const struct safetensor *tensor = r->what->tensors[part->row];
    return tensor->data + (size_t)part->first * dtype_bytes(tensor->dtype);
}

/* The order of the parts: the files one by one, and in each as they lie. */
struct placed {
    const struct safetensors *file;
    const unsigned char *data;
    size_t row;
};

static int compare_places(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return x->data < y->data ? -1 : x->data > y->data;
}

static cohort_status add_part(struct reading *r, const struct part *part, cohort_error *err)
{
    TRY(mem_grow(&r->parts, &r->capacity, r->n_parts + 1, sizeof *r->parts, "parts of weights", err));
    r->parts[r->n_parts++] = *part;
    return COHORT_OK;
}

/* Elements of a part: those of a matrix are rows as a whole, PARAM_PART_ROWS of them or a multiple. */
static int64_t part_of(const struct reading *r, const struct param *param)
{
    const int64_t most = r->what->pool != NULL ? PIECE_ELEMENTS : PART_ELEMENTS;
    const int64_t unit = param->rank == 2 ? PARAM_PART_ROWS * param_columns(param) : 1;
    return unit > most ? unit : most / unit * unit;
}

static cohort_status list_parts(struct reading *r, cohort_error *err)
{
    const struct weight_parts *what = r->what;
    const size_t n_rows = (size_t)what->table->n_params;
    struct placed *order = NULL;
    size_t n = 0, i = 0;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&order, n_rows, sizeof *order, "order of tensors", err));
    for (size_t row = 0; row < n_rows; row++)
        if (what->tensors[row] != NULL)
            order[n++] = (struct placed){what->tensor_files[row], what->tensors[row]->data, row};
    if (n > 1)
        qsort(order, n, sizeof *order, compare_places);
    for (size_t f = 0; f < what->n_files; f++) {
        const struct safetensors *file = &what->files[f];
        for (; i < n && order[i].file == file; i++) {
            const struct param *param = &what->table->params[order[i].row];
            const int64_t most = part_of(r, param);
            for (int64_t first = 0; first < param->count; first += most) {
                const int64_t left = param->count - first;
                const struct part part = {file, order[i].row, first, left < most ? left : most};
                TRY_GOTO(add_part(r, &part, err));
                const size_t bytes = storage_bytes(param->format, part.count);
                r->room_bytes = bytes > r->room_bytes ? bytes : r->room_bytes;
            }
        }
        TRY_GOTO(add_part(r, &(struct part){.file = file}, err));
    }
cleanup:
    mem_free(order);
    return status;
}

/* What needs no conversion is handed on as it lies in the file. */
static cohort_status read_part(const struct reading *r, const struct part *part, void *room, cohort_error *err)
{
    if (part->count == 0)
        return COHORT_OK;
    const struct param *param = &r->what->table->params[part->row];
    const enum dtype want = storage_dtype(param->format);
    const struct safetensor *tensor = r->what->tensors[part->row];
    const unsigned char *from = part_data(r, part);
    const bool as_it_is = tensor->dtype == want && (uintptr_t)from % dtype_bytes(want) == 0;
    if (as_it_is ? !checkpoint_finite(want, from, part->count)
                 : !checkpoint_convert(tensor->dtype, from, part->count, want, room))
        return weight_not_finite(part->file, tensor, want, part->first, part->count, err);
    return r->what->sink(r->what->context, param, part->first, part->count, as_it_is ? from : room, err);
}

static cohort_status hash_part(struct reading *r, const struct part *part, cohort_error *err)
{
    if (r->at == NULL) {
        hash_begin(&r->hash);
        r->at = part->file->map.data;
    }
    const unsigned char *end = part->file->map.data + part->file->map.size;
    if (part->count > 0)
        end = part_data(r, part) + (size_t)part->count * dtype_bytes(r->what->tensors[part->row]->dtype);
    hash_add(&r->hash, r->at, (size_t)(end - r->at));
    r->at = end;
    if (part->count > 0)
        return COHORT_OK;
    r->at = NULL;
    return weight_files_add(r->what->hashes, part->file->path, &r->hash, err);
}

/* Of several parts that fail, the first one's error is kept: what is said does not depend on who was faster. */
static void note_failure(struct reading *r, size_t i, cohort_status status, const cohort_error *err)
{
    pthread_mutex_lock(&r->lock);
    if (i < r->failed) {
        r->failed = i;
        r->status = status;
        error_set(r->err, status, "%s", err->message);
    }
    pthread_mutex_unlock(&r->lock);
}

static bool is_needless(struct reading *r, size_t i)
{
    pthread_mutex_lock(&r->lock);
    const bool needless = i > r->failed;
    pthread_mutex_unlock(&r->lock);
    return needless;
}

/* Holds hash_lock. */
static void hash_on(struct reading *r)
{
    cohort_error err = {.size = sizeof err};
    while (r->hashed < r->n_parts && atomic_load(&r->done[r->hashed]) &&
           (r->what->pool == NULL || !pool_stopped(r->what->pool))) {
        const cohort_status status = hash_part(r, &r->parts[r->hashed], &err);
        if (status != COHORT_OK)
            note_failure(r, r->hashed, status, &err);
        r->hashed++;
    }
}

static void read_parts(const void *context, int64_t begin, int64_t end, int thread)
{
    struct reading *r = *(struct reading *const *)context;
    cohort_error err = {.size = sizeof err};
    for (int64_t at = begin; at < end; at++) {
        const size_t i = (size_t)at;
        if (is_needless(r, i))
            return;
        const cohort_status status = read_part(r, &r->parts[i], r->room + (size_t)thread * r->room_bytes, &err);
        if (status != COHORT_OK) {
            note_failure(r, i, status, &err);
            return;
        }
        atomic_store(&r->done[i], true);
        if (r->what->hashes != NULL && pthread_mutex_trylock(&r->hash_lock) == 0) {
            hash_on(r);
            pthread_mutex_unlock(&r->hash_lock);
        }
    }
}

/* Whether all was read, by every thread. */
static cohort_status finish(struct reading *r, cohort_error *err)
{
    if (r->status == COHORT_OK && r->what->hashes != NULL)
        hash_on(r);
    if (r->status != COHORT_OK)
        return r->status;
    for (size_t i = 0; i < r->n_parts; i++)
        if (!atomic_load(&r->done[i]) || (r->what->hashes != NULL && r->hashed < r->n_parts))
            return error_set(err, COHORT_ERR_CANCELLED, "stopped on request");
    return COHORT_OK;
}

cohort_status weight_parts_read(const struct weight_parts *what, cohort_error *err)
{
    const size_t threads = what->pool == NULL ? 1 : (size_t)pool_threads(what->pool);
    cohort_error spare = {.size = sizeof spare};
    struct reading reading = {.what = what, .err = err != NULL ? err : &spare};
    struct reading *const r = &reading;
    cohort_status status = COHORT_OK;
    pthread_mutex_init(&r->lock, NULL);
    pthread_mutex_init(&r->hash_lock, NULL);
    TRY_GOTO(list_parts(r, err));
    r->failed = r->n_parts;
    TRY_GOTO(mem_alloc(&r->done, r->n_parts, sizeof *r->done, "parts of weights", err));
    TRY_GOTO(mem_alloc(&r->room, threads, r->room_bytes, "conversion buffer", err));
    pool_run(what->pool, (int64_t)r->n_parts, 1, read_parts, &r);
    TRY_GOTO(finish(r, err));
cleanup:
    pthread_mutex_destroy(&r->hash_lock);
    pthread_mutex_destroy(&r->lock);
    mem_free(r->room);
    mem_free(r->done);
    mem_free(r->parts);
    return status;
}

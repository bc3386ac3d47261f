#include "format/safetensors.h"

#include "base/file_output.h"
#include "base/json_text.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* As in Hugging Face's reader: a longer header is an attack or a mistake. */
static const uint64_t max_header_bytes = 100000000;

struct element_type {
    const char *name;
    size_t bytes;
};
static const struct element_type element_types[] = {
    {"F64", 8},     {"I64", 8},     {"U64", 8},  {"C64", 8}, {"F32", 4}, {"I32", 4},
    {"U32", 4},     {"F16", 2},     {"BF16", 2}, {"I16", 2}, {"U16", 2}, {"F8_E4M3", 1},
    {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"I8", 1},   {"U8", 1},  {"BOOL", 1}};

/* 0: not a type we know the size of. */
static size_t element_bytes(const char *name)
{
    for (size_t i = 0; i < sizeof element_types / sizeof *element_types; i++)
        if (strcmp(element_types[i].name, name) == 0)
            return element_types[i].bytes;
    return 0;
}

static void set_dtype(struct safetensor *tensor)
{
    static const enum dtype ours[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (strcmp(tensor->dtype_name, dtype_name(ours[i])) == 0) {
            tensor->has_dtype = true;
            tensor->dtype = ours[i];
        }
    }
}

/* ---- reading ---- */

static uint64_t load_u64_le(const unsigned char *bytes)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

static cohort_status parse_metadata(const json_t *metadata, const char *path, cohort_error *err)
{
    const char *key = NULL;
    json_t *value = NULL;
    if (json_is_null(metadata)) /* as MLX writes it where there is none */
        return COHORT_OK;
    if (!json_is_object(metadata))
        return error_set(err, COHORT_ERR_FORMAT, "%s: __metadata__ is not an object", path);
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
    {
        if (!json_is_string(value))
            return error_set(err, COHORT_ERR_FORMAT, "%s: __metadata__: \"%.100s\" is not a string", path, key);
    }
    return COHORT_OK;
}

static cohort_status parse_shape(struct safetensor *tensor, const json_t *shape, const char *path, cohort_error *err)
{
    if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_MAX_RANK)
        return error_set(err, COHORT_ERR_FORMAT, "%s: tensor %.200s: \"shape\" is not a list of at most %d sizes", path,
                         tensor->name, SAFETENSORS_MAX_RANK);
    tensor->rank = (int32_t)json_array_size(shape);
    tensor->count = 1;
    for (int32_t i = 0; i < tensor->rank; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return error_set(err, COHORT_ERR_FORMAT, "%s: tensor %.200s: shape[%d] is not a whole number >= 0", path,
                             tensor->name, i);
        tensor->shape[i] = json_integer_value(size);
        if (__builtin_mul_overflow(tensor->count, tensor->shape[i], &tensor->count))
            return error_set(err, COHORT_ERR_FORMAT, "%s: tensor %.200s: the product of its shape overflows 64 bits",
                             path, tensor->name);
    }
    return COHORT_OK;
}

static cohort_status parse_extent(struct safetensor *tensor, const json_t *offsets, const unsigned char *data,
                                  size_t data_bytes, const char *path, cohort_error *err)
{
    const json_t *first = json_array_get(offsets, 0);
    const json_t *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return error_set(err, COHORT_ERR_FORMAT, "%s: tensor %.200s: \"data_offsets\" is not [begin, end]", path,
                         tensor->name);
    json_int_t begin = json_integer_value(first);
    json_int_t end = json_integer_value(last);
    if (begin < 0 || end < begin || (uint64_t)end > data_bytes)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: tensor %.200s: data_offsets [%" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT
                         "] do not lie within the %zu bytes of data; the "
                         "file may be cut short: copy or download it again",
                         path, tensor->name, begin, end, data_bytes);
    tensor->data = data + begin;
    tensor->bytes = (size_t)(end - begin);
    size_t size = element_bytes(tensor->dtype_name);
    size_t wanted = 0;
    if (size == 0)
        return COHORT_OK;
    if (__builtin_mul_overflow((size_t)tensor->count, size, &wanted) || wanted != tensor->bytes)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: tensor %.200s: %" PRId64 " elements of %s do not fill its %zu bytes", path, tensor->name,
                         tensor->count, tensor->dtype_name, tensor->bytes);
    return COHORT_OK;
}

static cohort_status parse_tensor(struct safetensor *tensor, const char *name, const json_t *entry,
                                  const unsigned char *data, size_t data_bytes, const char *path, cohort_error *err)
{
    TRY(mem_strdup(&tensor->name, name, strlen(name), err));
    if (!json_is_object(entry))
        return error_set(err, COHORT_ERR_FORMAT, "%s: tensor %.200s: its entry is not an object", path, name);
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)entry, key, value)
    {
        if (strcmp(key, "dtype") != 0 && strcmp(key, "shape") != 0 && strcmp(key, "data_offsets") != 0)
            return error_set(err, COHORT_ERR_FORMAT,
                             "%s: tensor %.200s: unknown key \"%.100s\"; expected dtype, shape and "
                             "data_offsets",
                             path, name, key);
    }
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    if (type == NULL || *type == '\0' || strlen(type) >= sizeof tensor->dtype_name)
        return error_set(err, COHORT_ERR_FORMAT, "%s: tensor %.200s: \"dtype\" is not a type name such as \"BF16\"",
                         path, name);
    memcpy(tensor->dtype_name, type, strlen(type) + 1);
    set_dtype(tensor);
    TRY(parse_shape(tensor, json_object_get(entry, "shape"), path, err));
    return parse_extent(tensor, json_object_get(entry, "data_offsets"), data, data_bytes, path, err);
}

static int compare_name(const void *a, const void *b)
{
    const struct safetensor *left = a;
    const struct safetensor *right = b;
    return strcmp(left->name, right->name);
}

/* By begin, empty tensors before what begins at the same byte. */
static int compare_extent(const void *a, const void *b)
{
    const struct safetensor *left = *(const struct safetensor *const *)a;
    const struct safetensor *right = *(const struct safetensor *const *)b;
    if (left->data != right->data)
        return left->data < right->data ? -1 : 1;
    return (left->bytes > right->bytes) - (left->bytes < right->bytes);
}

/* Every byte of data belongs to one tensor: nothing overlaps and nothing is hidden. */
static cohort_status check_extents(const struct safetensors *file, const unsigned char *data, size_t data_bytes,
                                   cohort_error *err)
{
    const struct safetensor **order = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&order, file->n_tensors, sizeof(const struct safetensor *), "tensor order", err));
    for (size_t i = 0; i < file->n_tensors; i++)
        order[i] = &file->tensors[i];
    qsort(order, file->n_tensors, sizeof *order, compare_extent);
    size_t at = 0;
    for (size_t i = 0; i < file->n_tensors; i++) {
        size_t begin = (size_t)(order[i]->data - data);
        if (begin < at) {
            status = error_set(err, COHORT_ERR_FORMAT, "%s: tensors %.200s and %.200s overlap at byte %zu of the data",
                               file->path, order[i - 1]->name, order[i]->name, begin);
            goto cleanup;
        }
        if (begin > at) {
            status = error_set(err, COHORT_ERR_FORMAT,
                               "%s: bytes %zu to %zu of the data, before tensor %.200s, belong to "
                               "no tensor",
                               file->path, at, begin, order[i]->name);
            goto cleanup;
        }
        at = begin + order[i]->bytes;
    }
    if (at != data_bytes)
        status = error_set(err, COHORT_ERR_FORMAT,
                           "%s: the last %zu bytes belong to no tensor; expected the file to end "
                           "with its last tensor",
                           file->path, data_bytes - at);
cleanup:
    mem_free(order);
    return status;
}

static cohort_status parse_header(struct safetensors *file, const json_t *header, const unsigned char *data,
                                  size_t data_bytes, cohort_error *err)
{
    const char *name = NULL;
    json_t *entry = NULL;
    TRY(mem_alloc(&file->tensors, json_object_size(header), sizeof *file->tensors, "tensor list", err));
    json_object_foreach((json_t *)(uintptr_t)header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) {
            TRY(parse_metadata(entry, file->path, err));
            continue;
        }
        /* Counted first: a half-read tensor has a name to free. */
        struct safetensor *tensor = &file->tensors[file->n_tensors++];
        TRY(parse_tensor(tensor, name, entry, data, data_bytes, file->path, err));
    }
    TRY(check_extents(file, data, data_bytes, err));
    qsort(file->tensors, file->n_tensors, sizeof *file->tensors, compare_name);
    return COHORT_OK;
}

/* Whether the file begins as this format does: a length that fits, and an object. */
static bool has_header(const struct file_map *map)
{
    return map->size > 9 && load_u64_le(map->data) <= map->size - 8 && map->data[8] == '{';
}

cohort_status safetensors_open(struct safetensors *file, const char *path, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    json_t *header = NULL;
    const char *found = NULL;
    memset(file, 0, sizeof *file);
    TRY_GOTO(mem_strdup(&file->path, path, strlen(path), err));
    TRY_GOTO(file_map_open(&file->map, path, err));
    found = wrong_file(file->map.data, file->map.size, WRONG_FILE_WEIGHTS);
    if (found != NULL && !has_header(&file->map)) {
        status = error_set(err, COHORT_ERR_FORMAT, "%s: %s", path, found);
        goto cleanup;
    }
    if (file->map.size == 0) {
        status = error_set(err, COHORT_ERR_FORMAT, "%s: empty; the download or copy went wrong: fetch it again", path);
        goto cleanup;
    }
    if (file->map.size < 8) {
        status =
            error_set(err, COHORT_ERR_FORMAT, "%s: %zu bytes are too few for a safetensors file", path, file->map.size);
        goto cleanup;
    }
    uint64_t length = load_u64_le(file->map.data);
    if (length > file->map.size - 8 || length > max_header_bytes) {
        status = error_set(err, COHORT_ERR_FORMAT,
                           "%s: a header of %" PRIu64 " bytes does not fit the file of %zu bytes (or "
                           "the limit of %" PRIu64 "); not a safetensors file, or cut short",
                           path, length, file->map.size, max_header_bytes);
        goto cleanup;
    }
    const char *text = (const char *)file->map.data + 8;
    status = json_text_parse(&header, text, (size_t)length, path, 1, 0, err);
    if (status != COHORT_OK) {
        status = error_set(err, status, "%s (in the header of safetensors)", err == NULL ? "" : err->message);
        goto cleanup;
    }
    if (!json_is_object(header)) {
        status = error_set(err, COHORT_ERR_FORMAT, "%s: the header is not a JSON object", path);
        goto cleanup;
    }
    TRY_GOTO(parse_header(file, header, file->map.data + 8 + length, file->map.size - 8 - (size_t)length, err));
cleanup:
    json_decref(header);
    if (status != COHORT_OK)
        safetensors_close(file);
    return status;
}

void safetensors_close(struct safetensors *file)
{
    if (file == NULL)
        return;
    for (size_t i = 0; i < file->n_tensors; i++)
        mem_free(file->tensors[i].name);
    mem_free(file->tensors);
    mem_free(file->path);
    file_map_close(&file->map);
    memset(file, 0, sizeof *file);
}

const struct safetensor *safetensors_find(const struct safetensors *file, const char *name)
{
    size_t low = 0;
    size_t high = file->n_tensors;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, file->tensors[middle].name);
        if (order == 0)
            return &file->tensors[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ---- writing ---- */

static cohort_status check_source(const struct safetensors_source *source, const char *path, cohort_error *err)
{
    size_t size = element_bytes(source->dtype_name);
    if (size == 0)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: tensor %.200s: cannot write the type %.20s", path, source->name,
                         source->dtype_name);
    if (source->rank < 0 || source->rank > SAFETENSORS_MAX_RANK)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: tensor %.200s: rank %d is not between 0 and %d", path,
                         source->name, source->rank, SAFETENSORS_MAX_RANK);
    bool fits = true;
    for (int32_t i = 0; i < source->rank; i++)
        fits = fits && source->shape[i] >= 0 && !__builtin_mul_overflow(size, (size_t)source->shape[i], &size);
    if (!fits || size != source->bytes)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: tensor %.200s: its shape of %s does not make %zu bytes", path,
                         source->name, source->dtype_name, source->bytes);
    return COHORT_OK;
}

/* Adds the entry of one tensor, whose data begins at byte begin. */
static cohort_status header_add(json_t *header, const struct safetensors_source *source, size_t begin, const char *path,
                                cohort_error *err)
{
    if (json_object_get(header, source->name) != NULL)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: two tensors are named %.200s", path, source->name);
    json_t *shape = json_array();
    bool built = shape != NULL;
    for (int32_t i = 0; built && i < source->rank; i++)
        built = json_array_append_new(shape, json_integer(source->shape[i])) == 0;
    json_t *entry = NULL;
    if (built) /* takes over shape, also when it fails */
        entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", source->dtype_name, "shape", shape, "data_offsets",
                          (json_int_t)begin, (json_int_t)(begin + source->bytes));
    else
        json_decref(shape);
    if (json_object_set_new(header, source->name, entry) != 0)
        return error_set(err, COHORT_ERR_MEMORY, "%s: cannot build the header entry of %.200s", path, source->name);
    return COHORT_OK;
}

/* order[] lists the tensors by falling element size, so that every tensor is aligned to its
 * elements. */
static void order_sources(const struct safetensors_source *tensors, size_t n_tensors, size_t *order)
{
    size_t n = 0;
    for (size_t size = 8; size > 0; size /= 2)
        for (size_t i = 0; i < n_tensors; i++)
            if (element_bytes(tensors[i].dtype_name) == size)
                order[n++] = i;
}

/* The header as bytes, its length in front, padded with spaces to a multiple of 8. */
static cohort_status build_header(const struct safetensors_source *tensors, size_t n_tensors, const size_t *order,
                                  const char *path, struct text *out, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    struct text dump = {0};
    size_t begin = 0;
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    if (header == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "%s: cannot build the header", path);
    for (size_t i = 0; i < n_tensors; i++) {
        const struct safetensors_source *source = &tensors[order[i]];
        TRY_GOTO(header_add(header, source, begin, path, err));
        if (__builtin_add_overflow(begin, source->bytes, &begin)) {
            status = error_set(err, COHORT_ERR_ARGUMENT, "%s: the tensors' sizes overflow", path);
            goto cleanup;
        }
    }
    TRY_GOTO(json_text_write(header, JSON_COMPACT, &dump, err));
    size_t length = dump.length;
    size_t padded = (length + 7) / 8 * 8;
    char prefix[8];
    for (size_t i = 0; i < 8; i++)
        prefix[i] = (char)(unsigned char)((uint64_t)padded >> (8 * i));
    TRY_GOTO(text_append(out, prefix, sizeof prefix, err));
    TRY_GOTO(text_append(out, dump.data, length, err));
    TRY_GOTO(text_append(out, "       ", padded - length, err));
cleanup:
    text_free(&dump);
    json_decref(header);
    return status;
}

/* A tensor, in as many parts as the file has room for; no part divides an element: tensors come by falling element size
 * behind a header of a multiple of 8 bytes. */
static cohort_status write_tensor(struct file_output *output, const struct safetensors_source *source,
                                  cohort_error *err)
{
    for (size_t at = 0, length; at < source->bytes; at += length) {
        void *room = file_output_room(output, &length);
        length = source->bytes - at < length ? source->bytes - at : length;
        TRY(source->read(source->context, at, length, room, err));
        TRY(file_output_add(output, length, err));
    }
    return COHORT_OK;
}

static cohort_status write_header(struct file_output *output, const struct text *header, cohort_error *err)
{
    for (size_t at = 0, length; at < header->length; at += length) {
        void *room = file_output_room(output, &length);
        length = header->length - at < length ? header->length - at : length;
        memcpy(room, header->data + at, length);
        TRY(file_output_add(output, length, err));
    }
    return COHORT_OK;
}

cohort_status safetensors_write(const char *path, const struct safetensors_source *tensors, size_t n_tensors,
                                char hex[HASH_HEX], cohort_error *err)
{
    cohort_status status = COHORT_OK;
    struct text header = {0};
    size_t *order = NULL, bytes = 0;
    struct file_output *output = NULL;
    for (size_t i = 0; i < n_tensors; i++)
        TRY(check_source(&tensors[i], path, err));
    TRY_GOTO(mem_alloc(&order, n_tensors, sizeof *order, "tensor order", err));
    order_sources(tensors, n_tensors, order);
    TRY_GOTO(build_header(tensors, n_tensors, order, path, &header, err));
    bytes = header.length;
    for (size_t i = 0; i < n_tensors; i++)
        bytes += tensors[i].bytes; /* of which build_header found that they do not overflow */
    TRY_GOTO(file_output_open(&output, path, bytes, err));
    TRY_GOTO(write_header(output, &header, err));
    for (size_t i = 0; i < n_tensors; i++)
        TRY_GOTO(write_tensor(output, &tensors[order[i]], err));
    TRY_GOTO(file_output_end(output, hex, err));
cleanup:
    file_output_destroy(output);
    mem_free(order);
    text_free(&header);
    return status;
}

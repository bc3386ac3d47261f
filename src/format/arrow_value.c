/* From an Arrow file's arrays to JSON. */
#include "format/arrow_internal.h"

#include "base/json_text.h"
#include "base/utf8.h"
#include "tensor/dtype.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What is being read; row is for messages. */
struct reading {
    struct arrow_file *file;
    int64_t row;
};

static cohort_status value_error(const struct reading *r, int32_t node, const char *why, cohort_error *err)
{
    char path[ARROW_PATH_BYTES];
    arrow_path(r->file, node, path);
    return error_set(err, COHORT_ERR_FORMAT, "%s: column %s, row %" PRId64 ": %s", r->file->path, path, r->row + 1,
                     why);
}

static cohort_status out_of_memory(const struct reading *r, cohort_error *err)
{
    return error_set(err, COHORT_ERR_MEMORY, "%s: out of memory", r->file->path);
}

/* A number of 1, 2, 4 or 8 bytes. */
static int64_t signed_at(const uint8_t *at, uint32_t width)
{
    int8_t n1;
    int16_t n2;
    int32_t n4;
    int64_t n8;
    switch (width) {
    case 1: memcpy(&n1, at, 1); return n1;
    case 2: memcpy(&n2, at, 2); return n2;
    case 4: memcpy(&n4, at, 4); return n4;
    default: memcpy(&n8, at, 8); return n8;
    }
}

static uint64_t unsigned_at(const uint8_t *at, uint32_t width)
{
    uint64_t number = 0;
    memcpy(&number, at, width);
    return number;
}

static bool bit_at(const uint8_t *bits, int64_t i) { return (bits[i / 8] >> (i % 8) & 1) != 0; }

/* ---- numbers ---- */

static json_t *real_at(const uint8_t *at, uint32_t width)
{
    uint16_t half = 0;
    float single = 0;
    double real = 0;
    if (width == 2) {
        memcpy(&half, at, 2);
        return column_real((double)f32_from_f16(half));
    }
    if (width == 4) {
        memcpy(&single, at, 4);
        return column_real((double)single);
    }
    memcpy(&real, at, 8);
    return column_real(real);
}

static json_t *decimal_at(const uint8_t *at, const struct arrow_node *node)
{
    uint8_t bytes[COLUMN_DECIMAL_BYTES]; /* the lowest byte is stored first */
    for (uint32_t i = 0; i < node->width; i++)
        bytes[i] = at[node->width - 1 - i];
    return column_decimal(bytes, node->width, node->scale);
}

static json_t *date_at(const uint8_t *at, uint32_t width)
{
    const int64_t value = signed_at(at, width), day = INT64_C(86400000);
    return column_date(width == 4 ? value : value / day - (value % day < 0));
}

static json_t *number_at(const struct arrow_node *node, const uint8_t *at)
{
    switch (node->kind) {
    case ARROW_INT:
        return node->is_signed ? json_integer(signed_at(at, node->width))
                               : column_unsigned(unsigned_at(at, node->width));
    case ARROW_REAL: return real_at(at, node->width);
    case ARROW_DECIMAL: return decimal_at(at, node);
    case ARROW_DATE: return date_at(at, node->width);
    case ARROW_TIME: return column_time(signed_at(at, node->width), node->digits);
    default: return column_timestamp(signed_at(at, node->width), node->digits, node->utc);
    }
}

/* ---- bytes ---- */

static void lose(const struct reading *r, int32_t node)
{
    while (r->file->nodes[node].parent >= 0)
        node = r->file->nodes[node].parent;
    for (size_t i = 0; i < r->file->n_columns; i++)
        if (r->file->columns[i].node == node && r->file->columns[i].lost == COLUMN_WHOLE) {
            r->file->columns[i].lost = COLUMN_LOST;
            r->file->lost = true;
        }
}

/* What the text of a JSON value says. */
static cohort_status json_value(const struct reading *r, int32_t index, const uint8_t *bytes, size_t length,
                                json_t **out, cohort_error *err)
{
    char place[ARROW_PATH_BYTES + 64], path[ARROW_PATH_BYTES];
    arrow_path(r->file, index, path);
    snprintf(place, sizeof place, "column %s, row %" PRId64 ", JSON", path, r->row + 1);
    const cohort_status status = json_text_parse(out, (const char *)bytes, length, place, 1,
                                                 JSON_TEXT_ANY | JSON_TEXT_NUL | JSON_TEXT_NAN_NULL, err);
    if (status != COHORT_OK)
        error_context(err, "%s", r->file->path);
    return status;
}

static cohort_status bytes_value(const struct reading *r, int32_t index, const uint8_t *bytes, size_t length,
                                 json_t **out, cohort_error *err)
{
    const struct arrow_node *node = &r->file->nodes[index];
    if (node->meaning == ARROW_UUID) {
        *out = column_uuid(bytes);
        return *out != NULL ? COHORT_OK : out_of_memory(r, err);
    }
    r->file->row_bytes += length;
    if (r->file->row_bytes > ARROW_MAX_ROW_BYTES)
        return value_error(r, index, "the row has more than 268435456 bytes of text, which are not read", err);
    if (node->meaning == ARROW_JSON)
        return json_value(r, index, bytes, length, out, err);
    const bool text = utf8_check((const char *)bytes, length) == length;
    if (!text && node->meaning == ARROW_TEXT)
        return value_error(r, index, "its text is not UTF-8; write the column as text in UTF-8", err);
    if (!text)
        lose(r, index);
    *out = text ? json_stringn_nocheck(length == 0 ? "" : (const char *)bytes, length) : json_null();
    return *out != NULL ? COHORT_OK : out_of_memory(r, err);
}

/* 4 bytes of length, then up to 12 of content; or 4 of its beginning, 4 the buffer and 4 where in it. */
static cohort_status view_value(const struct reading *r, const struct arrow_batch *batch,
                                const struct arrow_array *array, int32_t index, const uint8_t *at, json_t **out,
                                cohort_error *err)
{
    enum { WITHIN = 12 };
    const int64_t length = signed_at(at, 4), buffer = signed_at(at + 8, 4), from = signed_at(at + 12, 4);
    if (length >= 0 && length <= WITHIN)
        return bytes_value(r, index, at + 4, (size_t)length, out, err);
    if (length < 0 || buffer < 0 || buffer >= array->n_more || from < 0)
        return value_error(r, index, "it points outside of its buffers; the file is damaged", err);
    const struct arrow_bytes *bytes = &batch->more[array->more + (uint64_t)buffer];
    if ((uint64_t)from > bytes->length || (uint64_t)length > bytes->length - (uint64_t)from)
        return value_error(r, index, "it points outside of its buffers; the file is damaged", err);
    return bytes_value(r, index, bytes->at + from, (size_t)length, out, err);
}

/* ---- what has values within ---- */

/* Offsets i and i + 1; false: they do not lie within most. */
static bool range_at(const struct arrow_node *node, const struct arrow_array *array, int64_t i, uint64_t most,
                     int64_t *from, int64_t *to)
{
    *from = signed_at(array->first.at + (uint64_t)i * node->width, node->width);
    *to = signed_at(array->first.at + ((uint64_t)i + 1) * node->width, node->width);
    return *from >= 0 && *to >= *from && (uint64_t)*to <= most;
}

static cohort_status read_value(const struct reading *r, const struct arrow_batch *batch, int32_t index, int64_t i,
                                json_t **out, cohort_error *err);

static cohort_status read_struct(const struct reading *r, const struct arrow_batch *batch, int32_t index, int64_t i,
                                 json_t *object, cohort_error *err)
{
    const struct arrow_node *nodes = r->file->nodes;
    for (int32_t child = index + 1; child < nodes[index].next; child = nodes[child].next) {
        json_t *value = NULL;
        TRY(read_value(r, batch, child, i, &value, err));
        if (json_object_setn_new_nocheck(object, nodes[child].name, nodes[child].name_length, value) != 0)
            return out_of_memory(r, err);
    }
    return COHORT_OK;
}

/* An item of a map: into the object, or as a pair into the array. */
static cohort_status read_pair(const struct reading *r, const struct arrow_batch *batch, int32_t index, int64_t i,
                               json_t *map, cohort_error *err)
{
    const int32_t key_node = index + 2, value_node = r->file->nodes[key_node].next;
    json_t *key = NULL, *value = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(read_value(r, batch, key_node, i, &key, err));
    TRY_GOTO(read_value(r, batch, value_node, i, &value, err));
    const char *why = column_map_refuses(map, key);
    if (why != NULL)
        status = value_error(r, key_node, why, err);
    else if (!column_map_put(map, key, value))
        status = out_of_memory(r, err);
cleanup:
    json_decref(key);
    json_decref(value);
    return status;
}

static cohort_status read_items(const struct reading *r, const struct arrow_batch *batch, int32_t index, int64_t from,
                                int64_t to, json_t *list, cohort_error *err)
{
    const bool is_map = r->file->nodes[index].kind == ARROW_MAP;
    for (int64_t i = from; i < to; i++) {
        json_t *value = NULL;
        if (is_map) {
            TRY(read_pair(r, batch, index, i, list, err));
            continue;
        }
        TRY(read_value(r, batch, index + 1, i, &value, err));
        if (json_array_append_new(list, value) != 0)
            return out_of_memory(r, err);
    }
    return COHORT_OK;
}

/* The items of value i; the child must have them. */
static bool find_items(const struct arrow_node *node, const struct arrow_array *array, int64_t i, int64_t most,
                       int64_t *from, int64_t *to)
{
    if (node->kind == ARROW_FIXED_LIST) {
        *from = i * (int64_t)node->width; /* the child's length was checked when the batch was loaded */
        *to = *from + (int64_t)node->width;
        return true;
    }
    if (node->kind != ARROW_LIST_VIEW)
        return range_at(node, array, i, (uint64_t)most, from, to);
    const int64_t size = signed_at(array->second.at + (uint64_t)i * node->width, node->width);
    *from = signed_at(array->first.at + (uint64_t)i * node->width, node->width);
    *to = *from + (size < 0 || size > most ? 0 : size);
    return size >= 0 && size <= most && *from >= 0 && *from <= most - size;
}

static cohort_status read_list(const struct reading *r, const struct arrow_batch *batch, int32_t index, int64_t i,
                               json_t **out, cohort_error *err)
{
    const struct arrow_node *nodes = r->file->nodes, *node = &nodes[index];
    const struct arrow_array *array = &batch->arrays[index - batch->first_node];
    const int64_t most = batch->arrays[index + 1 - batch->first_node].length;
    const struct arrow_node *key = node->kind == ARROW_MAP ? &nodes[index + 2] : NULL;
    const bool text = key != NULL && key->meaning == ARROW_TEXT;
    int64_t from = 0, to = 0;
    if (!find_items(node, array, i, most, &from, &to))
        return value_error(r, index, "it points outside of its items; the file is damaged", err);
    *out = text ? json_object() : json_array();
    return *out == NULL ? out_of_memory(r, err) : read_items(r, batch, index, from, to, *out, err);
}

static cohort_status read_indexed(const struct reading *r, const struct arrow_array *array, int32_t index, int64_t i,
                                  json_t **out, cohort_error *err)
{
    const struct arrow_node *node = &r->file->nodes[index];
    const uint8_t *at = array->first.at + (uint64_t)i * node->width;
    const uint64_t wide = unsigned_at(at, node->width);
    int64_t value = node->is_signed ? signed_at(at, node->width) : wide > INT64_MAX ? -1 : (int64_t)wide;
    const struct arrow_batch *chunk = arrow_dictionary_chunk(&r->file->dictionaries[node->dictionary], &value);
    if (chunk == NULL)
        return value_error(r, index, "a value points outside of its dictionary; the file is damaged", err);
    return read_value(r, chunk, index + 1, value, out, err);
}

static cohort_status read_bytes(const struct reading *r, const struct arrow_array *array, int32_t index, int64_t i,
                                json_t **out, cohort_error *err)
{
    int64_t from = 0, to = 0;
    if (!range_at(&r->file->nodes[index], array, i, array->second.length, &from, &to))
        return value_error(r, index, "it points outside of its bytes; the file is damaged", err);
    return bytes_value(r, index, array->second.at + from, (size_t)(to - from), out, err);
}

static cohort_status read_present(const struct reading *r, const struct arrow_batch *batch, int32_t index, int64_t i,
                                  json_t **out, cohort_error *err)
{
    const struct arrow_node *node = &r->file->nodes[index];
    const struct arrow_array *array = &batch->arrays[index - batch->first_node];
    const uint8_t *at = array->first.at; /* of value 0 */
    switch (node->kind) {
    case ARROW_NULL: *out = json_null(); break;
    case ARROW_BOOL: *out = json_boolean(bit_at(at, i)); break;
    case ARROW_BYTES: return read_bytes(r, array, index, i, out, err);
    case ARROW_FIXED_BYTES:
        return bytes_value(r, index, node->width == 0 ? at : at + (uint64_t)i * node->width, node->width, out, err);
    case ARROW_VIEW: return view_value(r, batch, array, index, at + (uint64_t)i * node->width, out, err);
    case ARROW_LIST:
    case ARROW_LIST_VIEW:
    case ARROW_FIXED_LIST:
    case ARROW_MAP: return read_list(r, batch, index, i, out, err);
    case ARROW_STRUCT:
        *out = json_object();
        return *out == NULL ? out_of_memory(r, err) : read_struct(r, batch, index, i, *out, err);
    case ARROW_DICTIONARY: return read_indexed(r, array, index, i, out, err);
    default: *out = number_at(node, at + (uint64_t)i * node->width);
    }
    return *out != NULL ? COHORT_OK : out_of_memory(r, err);
}

/* i is less than the array's length. *out is NULL on failure. */
static cohort_status read_value(const struct reading *r, const struct arrow_batch *batch, int32_t index, int64_t i,
                                json_t **out, cohort_error *err)
{
    const struct arrow_array *array = &batch->arrays[index - batch->first_node];
    *out = NULL;
    if (++r->file->row_values > ARROW_MAX_ROW_VALUES)
        return error_set(err, COHORT_ERR_FORMAT, "%s: row %" PRId64 " has more than %d values, which are not read",
                         r->file->path, r->row + 1, ARROW_MAX_ROW_VALUES);
    if (array->validity.at != NULL && !bit_at(array->validity.at, i)) {
        *out = json_null();
        return COHORT_OK;
    }
    const cohort_status status = read_present(r, batch, index, i, out, err);
    if (status != COHORT_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}

cohort_status arrow_value(struct arrow_file *file, const struct arrow_batch *batch, int32_t node, int64_t i,
                          int64_t row, json_t **out, cohort_error *err)
{
    const struct reading r = {file, row};
    return read_value(&r, batch, node, i, out, err);
}

/* The schema of an Arrow file: from its tables to the tree that readers see (github.com/apache/arrow,
 * format/Schema.fbs). */
#include "format/arrow_internal.h"

#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* By number, as in the format. */
enum type {
    TYPE_NULL = 1,
    TYPE_INT,
    TYPE_FLOATING_POINT,
    TYPE_BINARY,
    TYPE_UTF8,
    TYPE_BOOL,
    TYPE_DECIMAL,
    TYPE_DATE,
    TYPE_TIME,
    TYPE_TIMESTAMP,
    TYPE_INTERVAL,
    TYPE_LIST,
    TYPE_STRUCT,
    TYPE_UNION,
    TYPE_FIXED_SIZE_BINARY,
    TYPE_FIXED_SIZE_LIST,
    TYPE_MAP,
    TYPE_DURATION,
    TYPE_LARGE_BINARY,
    TYPE_LARGE_UTF8,
    TYPE_LARGE_LIST,
    TYPE_RUN_END_ENCODED,
    TYPE_BINARY_VIEW,
    TYPE_UTF8_VIEW,
    TYPE_LIST_VIEW,
    TYPE_LARGE_LIST_VIEW
};

/* Fields of the tables, by number. */
enum { FIELD_NAME, FIELD_NULLABLE, FIELD_TYPE_KIND, FIELD_TYPE, FIELD_DICTIONARY, FIELD_CHILDREN, FIELD_METADATA };
enum { SCHEMA_ENDIANNESS, SCHEMA_FIELDS };
enum { DICTIONARY_ID, DICTIONARY_INDEX };

struct building {
    struct arrow_file *file;
    struct flatbuffer *in;
    uint64_t at; /* of the metadata in the file */
};

static cohort_status refuse(const struct building *b, int32_t node, cohort_status status, const char *why,
                            cohort_error *err)
{
    char path[ARROW_PATH_BYTES];
    arrow_path(b->file, node, path);
    return error_set(err, status, "%s: column %s: %s", b->file->path, path, why);
}

static cohort_status damaged(const struct building *b, int32_t node, cohort_error *err)
{
    if (b->in->wrong != NULL)
        return arrow_flat_error(b->file, b->in, b->at, err);
    return refuse(b, node, COHORT_ERR_FORMAT, "its type is not one of the format's; the file is damaged", err);
}

void arrow_path(const struct arrow_file *file, int32_t node, char out[ARROW_PATH_BYTES])
{
    int32_t up[2 * ARROW_MAX_DEPTH + 2]; /* a dictionary is two nodes */
    size_t n_up = 0, n = 0;
    for (; node >= 0 && n_up < sizeof up / sizeof *up; node = file->nodes[node].parent)
        up[n_up++] = node;
    out[0] = '\0';
    while (n_up-- > 0 && n < ARROW_PATH_BYTES) {
        const struct arrow_node *is = &file->nodes[up[n_up]];
        const enum arrow_kind within = is->parent < 0 ? ARROW_NULL : file->nodes[is->parent].kind;
        const enum arrow_kind above = is->parent < 0 || file->nodes[is->parent].parent < 0
                                          ? ARROW_NULL
                                          : file->nodes[file->nodes[is->parent].parent].kind;
        if (is->parent < 0)
            n += (size_t)snprintf(out + n, ARROW_PATH_BYTES - n, "%s", is->name);
        else if (above == ARROW_MAP)
            n += (size_t)snprintf(out + n, ARROW_PATH_BYTES - n,
                                  up[n_up] == is->parent + 1 ? " (its keys)" : " (its values)");
        else if (within == ARROW_STRUCT)
            n += (size_t)snprintf(out + n, ARROW_PATH_BYTES - n, ".%s", is->name);
        else if (within != ARROW_DICTIONARY && within != ARROW_MAP)
            n += (size_t)snprintf(out + n, ARROW_PATH_BYTES - n, "[]");
    }
}

/* ---- types ---- */

static bool set_integer(struct building *b, const struct flat_table *type, struct arrow_node *node)
{
    const int64_t bits = flat_number(b->in, type, 0, 4, 0);
    node->kind = ARROW_INT;
    node->width = (uint32_t)(bits / 8);
    node->is_signed = flat_number(b->in, type, 1, 1, 0) != 0;
    return bits == 8 || bits == 16 || bits == 32 || bits == 64;
}

static bool set_decimal(struct building *b, const struct flat_table *type, struct arrow_node *node)
{
    const int64_t bits = flat_number(b->in, type, 2, 4, 128);
    node->kind = ARROW_DECIMAL;
    node->width = (uint32_t)(bits / 8);
    node->scale = (int32_t)flat_number(b->in, type, 1, 4, 0);
    return (bits == 32 || bits == 64 || bits == 128 || bits == 256) && node->scale >= 0 &&
           node->scale <= COLUMN_DECIMAL_SCALE;
}

/* Seconds, milli-, micro- or nanoseconds. */
static bool set_unit(struct building *b, const struct flat_table *type, enum arrow_kind kind, int64_t absent,
                     struct arrow_node *node)
{
    const int64_t unit = flat_number(b->in, type, 0, 2, absent);
    node->kind = kind;
    node->width = 8;
    node->is_signed = true;
    node->digits = (uint8_t)(3 * (unit & 3));
    return unit >= 0 && unit <= 3;
}

static bool set_time(struct building *b, const struct flat_table *type, struct arrow_node *node)
{
    const int64_t bits = flat_number(b->in, type, 1, 4, 32);
    const bool known = set_unit(b, type, ARROW_TIME, 1, node);
    node->width = (uint32_t)(bits / 8);
    return known && bits == (node->digits > 3 ? 64 : 32);
}

/* What a field of fixed width or of a single other number is; false: damaged. */
static bool set_numbers(struct building *b, int64_t kind, const struct flat_table *type, struct arrow_node *node)
{
    size_t length = 0;
    int64_t number = 0;
    switch (kind) {
    case TYPE_INT: return set_integer(b, type, node);
    case TYPE_DECIMAL: return set_decimal(b, type, node);
    case TYPE_TIME: return set_time(b, type, node);
    case TYPE_DURATION: return set_unit(b, type, ARROW_INT, 1, node);
    case TYPE_TIMESTAMP:
        node->utc = flat_text(b->in, type, 1, &length) != NULL && length > 0;
        return set_unit(b, type, ARROW_TIMESTAMP, 0, node);
    case TYPE_FLOATING_POINT:
        number = flat_number(b->in, type, 0, 2, 0);
        node->kind = ARROW_REAL;
        node->width = 2u << (number & 3);
        return number >= 0 && number <= 2;
    case TYPE_DATE: /* days in 4 bytes, or milliseconds in 8 */
        number = flat_number(b->in, type, 0, 2, 1);
        node->kind = ARROW_DATE;
        node->width = number == 0 ? 4 : 8;
        return number == 0 || number == 1;
    case TYPE_FIXED_SIZE_BINARY:
    case TYPE_FIXED_SIZE_LIST:
        number = flat_number(b->in, type, 0, 4, 0);
        node->kind = kind == TYPE_FIXED_SIZE_LIST ? ARROW_FIXED_LIST : ARROW_FIXED_BYTES;
        node->width = (uint32_t)number;
        return number >= 0;
    default: return false;
    }
}

static void set_bytes(struct arrow_node *node, enum arrow_kind kind, uint32_t width, enum arrow_meaning meaning)
{
    node->kind = kind;
    node->width = width;
    node->meaning = meaning;
}

static cohort_status set_type(struct building *b, int32_t index, const struct flat_table *field, uint32_t n_children,
                              cohort_error *err)
{
    static const char unions[] =
        "its type is a union, which is not read; write the column as one type, or leave it out";
    static const char intervals[] = "its type is an interval, which is not read; leave the column out";
    static const char runs[] = "it is run-end encoded, which is not read; write it plain";
    struct arrow_node *node = &b->file->nodes[index];
    const int64_t kind = flat_number(b->in, field, FIELD_TYPE_KIND, 1, 0);
    const struct flat_table type = flat_within(b->in, field, FIELD_TYPE);
    uint32_t wanted = 0;
    bool known = true;
    switch (kind) {
    case TYPE_NULL: node->kind = ARROW_NULL; break;
    case TYPE_BOOL: node->kind = ARROW_BOOL; break;
    case TYPE_BINARY: set_bytes(node, ARROW_BYTES, 4, ARROW_PLAIN); break;
    case TYPE_LARGE_BINARY: set_bytes(node, ARROW_BYTES, 8, ARROW_PLAIN); break;
    case TYPE_UTF8: set_bytes(node, ARROW_BYTES, 4, ARROW_TEXT); break;
    case TYPE_LARGE_UTF8: set_bytes(node, ARROW_BYTES, 8, ARROW_TEXT); break;
    case TYPE_BINARY_VIEW: set_bytes(node, ARROW_VIEW, 16, ARROW_PLAIN); break;
    case TYPE_UTF8_VIEW: set_bytes(node, ARROW_VIEW, 16, ARROW_TEXT); break;
    case TYPE_LIST: set_bytes(node, ARROW_LIST, 4, ARROW_PLAIN); break;
    case TYPE_LARGE_LIST: set_bytes(node, ARROW_LIST, 8, ARROW_PLAIN); break;
    case TYPE_LIST_VIEW: set_bytes(node, ARROW_LIST_VIEW, 4, ARROW_PLAIN); break;
    case TYPE_LARGE_LIST_VIEW: set_bytes(node, ARROW_LIST_VIEW, 8, ARROW_PLAIN); break;
    case TYPE_MAP: set_bytes(node, ARROW_MAP, 4, ARROW_PLAIN); break;
    case TYPE_STRUCT: node->kind = ARROW_STRUCT; break;
    case TYPE_UNION: return refuse(b, index, COHORT_ERR_UNSUPPORTED, unions, err);
    case TYPE_INTERVAL: return refuse(b, index, COHORT_ERR_UNSUPPORTED, intervals, err);
    case TYPE_RUN_END_ENCODED: return refuse(b, index, COHORT_ERR_UNSUPPORTED, runs, err);
    default: known = set_numbers(b, kind, &type, node);
    }
    wanted = node->kind == ARROW_STRUCT ? n_children
             : node->kind == ARROW_LIST || node->kind == ARROW_LIST_VIEW || node->kind == ARROW_FIXED_LIST ||
                     node->kind == ARROW_MAP
                 ? 1
                 : 0;
    return known && n_children == wanted && b->in->wrong == NULL ? COHORT_OK : damaged(b, index, err);
}

/* What the metadata of a field say of text and bytes. */
static void set_extension(struct building *b, const struct flat_table *field, struct arrow_node *node)
{
    static const char name[] = "ARROW:extension:name";
    const struct flat_vector pairs = flat_items(b->in, field, FIELD_METADATA, 4);
    for (uint32_t i = 0; i < pairs.count && b->in->wrong == NULL; i++) {
        const struct flat_table pair = flat_item_table(b->in, pairs, i);
        size_t n_key = 0, n_value = 0;
        const char *key = flat_text(b->in, &pair, 0, &n_key), *value = flat_text(b->in, &pair, 1, &n_value);
        if (key == NULL || value == NULL || n_key != sizeof name - 1 || memcmp(key, name, n_key) != 0)
            continue;
        if (node->meaning == ARROW_TEXT && n_value == 10 && memcmp(value, "arrow.json", 10) == 0)
            node->meaning = ARROW_JSON;
        if (node->kind == ARROW_FIXED_BYTES && node->width == 16 && n_value == 10 &&
            memcmp(value, "arrow.uuid", 10) == 0)
            node->meaning = ARROW_UUID;
    }
}

/* ---- the tree ---- */

static cohort_status add_node(struct building *b, int32_t parent, const char *name, size_t length, int32_t *index,
                              cohort_error *err)
{
    struct arrow_file *file = b->file;
    if (file->n_nodes == ARROW_MAX_FIELDS || file->name_bytes + length > ARROW_MAX_NAMES)
        return error_set(err, COHORT_ERR_FORMAT, "%s: its schema has more than %d fields, or %d bytes of names",
                         file->path, ARROW_MAX_FIELDS, ARROW_MAX_NAMES);
    TRY(mem_grow(&file->nodes, &file->node_capacity, file->n_nodes + 1, sizeof *file->nodes, "the schema", err));
    *index = (int32_t)file->n_nodes++;
    struct arrow_node *node = &file->nodes[*index];
    *node = (struct arrow_node){.parent = parent, .name_length = length};
    file->name_bytes += length;
    return mem_strdup(&node->name, length == 0 ? "" : name, length, err);
}

/* The node is one of indices, whose dictionary has the type that the field says: that becomes a node below it. */
static cohort_status add_dictionary(struct building *b, const struct flat_table *field, int32_t *index,
                                    cohort_error *err)
{
    struct arrow_file *file = b->file;
    const struct flat_table encoding = flat_within(b->in, field, FIELD_DICTIONARY);
    struct arrow_node *node = &file->nodes[*index];
    if (encoding.at == 0)
        return COHORT_OK;
    const struct flat_table type = flat_within(b->in, &encoding, DICTIONARY_INDEX);
    if (type.at == 0) { /* as the format has it */
        node->width = 4;
        node->is_signed = true;
    } else if (!set_integer(b, &type, node)) {
        return damaged(b, *index, err);
    }
    node->kind = ARROW_DICTIONARY;
    node->dictionary = file->n_dictionaries;
    TRY(mem_grow(&file->dictionaries, &file->dictionary_capacity, file->n_dictionaries + 1, sizeof *file->dictionaries,
                 "dictionaries", err));
    file->dictionaries[file->n_dictionaries++] =
        (struct arrow_dictionary){.node = *index, .id = flat_number(b->in, &encoding, DICTIONARY_ID, 8, 0)};
    return add_node(b, *index, "", 0, index, err);
}

static cohort_status build(struct building *b, const struct flat_table *field, int32_t parent, int depth,
                           cohort_error *err)
{
    struct arrow_file *file = b->file;
    size_t length = 0;
    int32_t top = 0, index = 0;
    const char *name = flat_text(b->in, field, FIELD_NAME, &length);
    const struct flat_vector children = flat_items(b->in, field, FIELD_CHILDREN, 4);
    TRY(add_node(b, parent, name, length, &top, err));
    if (b->in->wrong != NULL)
        return damaged(b, top, err);
    if (length > 0 && (memchr(name, '\0', length) != NULL || utf8_check(name, length) != length))
        return refuse(b, top, COHORT_ERR_FORMAT, "its name is not text in UTF-8", err);
    if (depth == ARROW_MAX_DEPTH)
        return refuse(b, parent, COHORT_ERR_FORMAT, "it has more than 64 columns within each other", err);
    index = top;
    TRY(add_dictionary(b, field, &index, err));
    TRY(set_type(b, index, field, children.count, err));
    set_extension(b, field, &file->nodes[index]);
    for (uint32_t i = 0; i < children.count; i++) {
        const struct flat_table child = flat_item_table(b->in, children, i);
        if (child.at == 0)
            return damaged(b, index, err);
        TRY(build(b, &child, index, depth + 1, err));
    }
    file->nodes[index].next = file->nodes[top].next = (int32_t)file->n_nodes;
    if (file->nodes[index].kind == ARROW_MAP) {
        const struct arrow_node *pair = &file->nodes[index + 1];
        const bool two = pair->kind == ARROW_STRUCT && pair->next > index + 2 &&
                         file->nodes[index + 2].next < pair->next &&
                         file->nodes[file->nodes[index + 2].next].next == pair->next;
        if (!two)
            return refuse(b, index, COHORT_ERR_FORMAT, "a map without keys and values", err);
    }
    return b->in->wrong == NULL ? COHORT_OK : damaged(b, top, err);
}

/* ---- types in words ---- */

static const char *leaf_type(const struct arrow_node *node)
{
    static const char *const is_signed[] = {"int8", "int16", "int32", "int64"};
    static const char *const is_unsigned[] = {"uint8", "uint16", "uint32", "uint64"};
    static const char *const names[] = {
        [ARROW_NULL] = "null",          [ARROW_BOOL] = "bool",   [ARROW_BYTES] = "binary",
        [ARROW_FIXED_BYTES] = "binary", [ARROW_VIEW] = "binary", [ARROW_DECIMAL] = "decimal",
        [ARROW_DATE] = "date",          [ARROW_TIME] = "time",   [ARROW_TIMESTAMP] = "timestamp"};
    static const char *const meanings[] = {
        [ARROW_PLAIN] = NULL, [ARROW_TEXT] = "string", [ARROW_JSON] = "json", [ARROW_UUID] = "uuid"};
    const size_t size = node->width == 1 ? 0 : node->width == 2 ? 1 : node->width == 4 ? 2 : 3;
    if (node->kind == ARROW_INT)
        return node->is_signed ? is_signed[size] : is_unsigned[size];
    if (node->kind == ARROW_REAL)
        return node->width == 2 ? "float16" : node->width == 4 ? "float" : "double";
    return meanings[node->meaning] != NULL ? meanings[node->meaning] : names[node->kind];
}

static cohort_status write_type(const struct arrow_file *file, int32_t index, struct text *out, cohort_error *err)
{
    const struct arrow_node *node = &file->nodes[index];
    if (node->kind == ARROW_DICTIONARY)
        return write_type(file, index + 1, out, err);
    if (node->kind < ARROW_LIST)
        return text_printf(out, err, "%s", leaf_type(node));
    TRY(text_printf(out, err, "%s<", node->kind == ARROW_STRUCT ? "struct" : node->kind == ARROW_MAP ? "map" : "list"));
    const int32_t first = index + (node->kind == ARROW_MAP ? 2 : 1); /* a map's key and value lie in a struct */
    for (int32_t child = first; child < node->next; child = file->nodes[child].next) {
        if (child > first)
            TRY(text_append(out, ", ", 2, err));
        if (node->kind == ARROW_STRUCT)
            TRY(text_printf(out, err, "%s: ", file->nodes[child].name));
        TRY(write_type(file, child, out, err));
    }
    return text_append(out, ">", 1, err);
}

/* The fields of a struct, or the columns. */
static cohort_status check_names(const struct arrow_file *file, int32_t first, int32_t end, cohort_error *err)
{
    json_t *seen = json_object();
    cohort_status status = COHORT_OK;
    for (int32_t i = first; i < end && status == COHORT_OK; i = file->nodes[i].next)
        status = column_name_once(seen, file->nodes[i].name, file->path, err);
    json_decref(seen);
    return status;
}

static int by_id(const void *a, const void *b)
{
    const int64_t x = ((const struct arrow_dictionary_id *)a)->id, y = ((const struct arrow_dictionary_id *)b)->id;
    return (x > y) - (x < y);
}

/* The ids of the dictionaries, each once. */
static cohort_status gather_ids(struct arrow_file *file, cohort_error *err)
{
    size_t n = 0;
    TRY(mem_alloc(&file->ids, file->n_dictionaries, sizeof *file->ids, "dictionaries", err));
    for (size_t i = 0; i < file->n_dictionaries; i++)
        file->ids[i].id = file->dictionaries[i].id;
    qsort(file->ids, file->n_dictionaries, sizeof *file->ids, by_id);
    for (size_t i = 0; i < file->n_dictionaries; i++)
        if (n == 0 || file->ids[n - 1].id != file->ids[i].id)
            file->ids[n++].id = file->ids[i].id;
    file->n_ids = n;
    return COHORT_OK;
}

cohort_status arrow_schema_read(struct arrow_file *file, struct flatbuffer *in, const struct flat_table *schema,
                                uint64_t at, cohort_error *err)
{
    struct building b = {file, in, at};
    const struct flat_vector fields = flat_items(in, schema, SCHEMA_FIELDS, 4);
    if (flat_number(in, schema, SCHEMA_ENDIANNESS, 2, 0) != 0)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: was written on a big-endian machine, which is not read",
                         file->path);
    for (uint32_t i = 0; i < fields.count; i++) {
        const struct flat_table field = flat_item_table(in, fields, i);
        const int32_t node = (int32_t)file->n_nodes;
        struct text type = {0};
        if (field.at == 0)
            return arrow_flat_error(file, in, at, err);
        TRY(build(&b, &field, -1, 0, err));
        TRY(mem_grow(&file->columns, &file->column_capacity, file->n_columns + 1, sizeof *file->columns, "the columns",
                     err));
        struct arrow_column *column = &file->columns[file->n_columns++];
        *column = (struct arrow_column){.node = node};
        const cohort_status status = write_type(file, node, &type, err);
        column->type = type.data; /* the file's from here on, error or not */
        TRY(status);
    }
    if (in->wrong != NULL)
        return arrow_flat_error(file, in, at, err);
    if (file->n_columns == 0)
        return error_set(err, COHORT_ERR_FORMAT, "%s: the schema has no columns", file->path);
    TRY(check_names(file, 0, (int32_t)file->n_nodes, err));
    for (size_t i = 0; i < file->n_nodes; i++)
        if (file->nodes[i].kind == ARROW_STRUCT)
            TRY(check_names(file, (int32_t)i + 1, file->nodes[i].next, err));
    return gather_ids(file, err);
}

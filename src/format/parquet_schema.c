/* The schema: from the format's list of elements to the tree that readers see. The rules for lists and maps, with those
 * for files of older writers, are in the format's page on logical types (github.com/apache/parquet-format). */
#include "format/parquet_internal.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

enum repetition { REQUIRED, OPTIONAL, REPEATED };

/* By number, as in the format. */
enum converted {
    CONVERTED_NONE = -1,
    CONVERTED_UTF8,
    CONVERTED_MAP,
    CONVERTED_MAP_KEY_VALUE,
    CONVERTED_LIST,
    CONVERTED_ENUM,
    CONVERTED_DECIMAL,
    CONVERTED_DATE,
    CONVERTED_TIME_MILLIS,
    CONVERTED_TIME_MICROS,
    CONVERTED_TIMESTAMP_MILLIS,
    CONVERTED_TIMESTAMP_MICROS,
    CONVERTED_UINT_8,
    CONVERTED_UINT_16,
    CONVERTED_UINT_32,
    CONVERTED_UINT_64,
    CONVERTED_INT_8,
    CONVERTED_INT_16,
    CONVERTED_INT_32,
    CONVERTED_INT_64,
    CONVERTED_JSON,
    CONVERTED_BSON,
    CONVERTED_INTERVAL
};
enum logical {
    LOGICAL_NONE = 0,
    LOGICAL_STRING = 1,
    LOGICAL_MAP = 2,
    LOGICAL_LIST = 3,
    LOGICAL_ENUM = 4,
    LOGICAL_DECIMAL = 5,
    LOGICAL_DATE = 6,
    LOGICAL_TIME = 7,
    LOGICAL_TIMESTAMP = 8,
    LOGICAL_INTEGER = 10,
    LOGICAL_UNKNOWN = 11,
    LOGICAL_JSON = 12,
    LOGICAL_BSON = 13,
    LOGICAL_UUID = 14,
    LOGICAL_FLOAT16 = 15
};

/* A SchemaElement. */
struct element {
    int32_t physical; /* -1: a group */
    int32_t type_length, repetition, n_children, converted, scale, precision, logical;
    int32_t bits, digits;
    bool is_signed, utc;
    const char *name;
    size_t name_length;
};

/* ---- elements ---- */

static void read_unit(struct thrift *in, enum thrift_type type, struct element *element)
{
    struct thrift_field field = {0};
    if (!thrift_struct(in, type))
        return;
    while (thrift_field(in, &field)) {
        if (field.id >= 1 && field.id <= 3)
            element->digits = 3 * field.id;
        thrift_skip(in, field.type);
    }
}

static void read_logical_fields(struct thrift *in, enum thrift_type type, struct element *element)
{
    struct thrift_field field = {0};
    if (!thrift_struct(in, type))
        return;
    while (thrift_field(in, &field)) {
        const int32_t what = element->logical * 10 + field.id;
        switch (what) {
        case LOGICAL_DECIMAL * 10 + 1: element->scale = thrift_i32(in, field.type); break;
        case LOGICAL_DECIMAL * 10 + 2: element->precision = thrift_i32(in, field.type); break;
        case LOGICAL_TIME * 10 + 1:
        case LOGICAL_TIMESTAMP * 10 + 1: element->utc = thrift_bool(in, field.type); break;
        case LOGICAL_TIME * 10 + 2:
        case LOGICAL_TIMESTAMP * 10 + 2: read_unit(in, field.type, element); break;
        case LOGICAL_INTEGER * 10 + 1: element->bits = thrift_i8(in, field.type); break;
        case LOGICAL_INTEGER * 10 + 2: element->is_signed = thrift_bool(in, field.type); break;
        default: thrift_skip(in, field.type);
        }
    }
}

static void read_logical(struct thrift *in, enum thrift_type type, struct element *element)
{
    struct thrift_field field = {0};
    if (!thrift_struct(in, type))
        return;
    while (thrift_field(in, &field)) {
        if (field.id > 0 && field.id < 100 && field.type == THRIFT_STRUCT) {
            element->logical = field.id;
            read_logical_fields(in, field.type, element);
        } else {
            thrift_skip(in, field.type);
        }
    }
}

static void read_element(struct thrift *in, enum thrift_type type, struct element *element)
{
    struct thrift_field field = {0};
    *element = (struct element){.physical = -1, .converted = CONVERTED_NONE, .is_signed = true, .name = ""};
    if (!thrift_struct(in, type))
        return;
    while (thrift_field(in, &field)) {
        switch (field.id) {
        case 1: element->physical = thrift_i32(in, field.type); break;
        case 2: element->type_length = thrift_i32(in, field.type); break;
        case 3: element->repetition = thrift_i32(in, field.type); break;
        case 4: element->name = thrift_binary(in, field.type, &element->name_length); break;
        case 5: element->n_children = thrift_i32(in, field.type); break;
        case 6: element->converted = thrift_i32(in, field.type); break;
        case 7: element->scale = thrift_i32(in, field.type); break;
        case 8: element->precision = thrift_i32(in, field.type); break;
        case 10: read_logical(in, field.type, element); break;
        default: thrift_skip(in, field.type);
        }
    }
}

/* ---- leaves ---- */

struct building {
    struct parquet_file *file;
    struct element *elements;
    size_t n_elements, at;
    struct text path;
    int32_t column;
};

static cohort_status refuse(const struct building *b, const char *why, cohort_error *err)
{
    return error_set(err, COHORT_ERR_FORMAT, "%s: the schema's column %.200s: %s", b->file->path,
                     b->path.data != NULL ? b->path.data : "", why);
}

/* What an integer means. */
static void set_integer(struct parquet_leaf *leaf, const struct element *e)
{
    leaf->meaning = MEANS_SIGNED;
    leaf->bits = leaf->physical == PARQUET_INT32 ? 32 : 64;
    if (e->logical == LOGICAL_INTEGER && (e->bits == 8 || e->bits == 16 || e->bits == 32 || e->bits == 64)) {
        leaf->meaning = e->is_signed ? MEANS_SIGNED : MEANS_UNSIGNED;
        leaf->bits = e->bits <= leaf->bits ? (uint8_t)e->bits : leaf->bits;
    } else if (e->converted >= CONVERTED_UINT_8 && e->converted <= CONVERTED_INT_64) {
        const int32_t bits = 8 << (e->converted - CONVERTED_UINT_8) % 4;
        leaf->meaning = e->converted <= CONVERTED_UINT_64 ? MEANS_UNSIGNED : MEANS_SIGNED;
        leaf->bits = bits <= leaf->bits ? (uint8_t)bits : leaf->bits;
    } else if (e->logical == LOGICAL_DATE || e->converted == CONVERTED_DATE) {
        leaf->meaning = leaf->physical == PARQUET_INT32 ? MEANS_DATE : MEANS_SIGNED;
    } else if ((e->logical == LOGICAL_TIME || e->logical == LOGICAL_TIMESTAMP) && e->digits > 0) {
        leaf->meaning = e->logical == LOGICAL_TIME ? MEANS_TIME : MEANS_TIMESTAMP;
        leaf->digits = (uint8_t)e->digits;
        leaf->utc = e->utc;
    } else if (e->converted == CONVERTED_TIME_MILLIS || e->converted == CONVERTED_TIME_MICROS) {
        leaf->meaning = MEANS_TIME;
        leaf->digits = e->converted == CONVERTED_TIME_MILLIS ? 3 : 6;
    } else if (e->converted == CONVERTED_TIMESTAMP_MILLIS || e->converted == CONVERTED_TIMESTAMP_MICROS) {
        leaf->meaning = MEANS_TIMESTAMP;
        leaf->digits = e->converted == CONVERTED_TIMESTAMP_MILLIS ? 3 : 6;
        leaf->utc = true;
    }
}

static cohort_status set_meaning(const struct building *b, struct parquet_leaf *leaf, const struct element *e,
                                 cohort_error *err)
{
    static const uint8_t widths[PARQUET_N_PHYSICAL] = {1, 4, 8, 12, 4, 8, 0, 0};
    enum { MAX_WIDTH = 1 << 20 };
    if (e->physical < 0 || e->physical >= PARQUET_N_PHYSICAL)
        return refuse(b, "its type is not one of the format's; the file is damaged or newer than this reader", err);
    leaf->physical = (enum parquet_physical)e->physical;
    leaf->width = widths[e->physical];
    if (leaf->physical == PARQUET_FIXED_LEN_BYTE_ARRAY) {
        if (e->type_length < 1 || e->type_length > MAX_WIDTH)
            return refuse(b, "the length of its values is not between 1 and 1048576", err);
        leaf->width = (uint32_t)e->type_length;
    }
    const bool is_bytes = leaf->physical == PARQUET_BYTE_ARRAY || leaf->physical == PARQUET_FIXED_LEN_BYTE_ARRAY;
    const bool is_integer = leaf->physical == PARQUET_INT32 || leaf->physical == PARQUET_INT64;
    switch (leaf->physical) {
    case PARQUET_BOOLEAN: leaf->meaning = MEANS_BOOLEAN; break;
    case PARQUET_INT32:
    case PARQUET_INT64: set_integer(leaf, e); break;
    case PARQUET_INT96: leaf->meaning = MEANS_INT96; break;
    case PARQUET_FLOAT: leaf->meaning = MEANS_FLOAT; break;
    case PARQUET_DOUBLE: leaf->meaning = MEANS_DOUBLE; break;
    default:
        leaf->meaning = MEANS_BYTES;
        if (e->logical == LOGICAL_STRING || e->logical == LOGICAL_ENUM || e->converted == CONVERTED_UTF8 ||
            e->converted == CONVERTED_ENUM)
            leaf->meaning = MEANS_TEXT;
        else if (e->logical == LOGICAL_JSON || e->converted == CONVERTED_JSON)
            leaf->meaning = MEANS_JSON;
        else if (e->logical == LOGICAL_UUID && leaf->width == 16)
            leaf->meaning = MEANS_UUID;
        else if (e->logical == LOGICAL_FLOAT16 && leaf->width == 2)
            leaf->meaning = MEANS_FLOAT16;
    }
    if ((e->logical == LOGICAL_DECIMAL || e->converted == CONVERTED_DECIMAL) && (is_bytes || is_integer)) {
        if (e->scale < 0 || e->scale > COLUMN_DECIMAL_SCALE)
            return refuse(b, "its decimals have a scale that is not between 0 and 1000", err);
        leaf->meaning = MEANS_DECIMAL;
        leaf->scale = e->scale;
    }
    if (e->logical == LOGICAL_UNKNOWN)
        leaf->meaning = MEANS_NULL;
    return COHORT_OK;
}

/* ---- the tree ---- */

/* The levels at a place in the schema. */
struct levels {
    int32_t definition, repetition, depth;
};

static cohort_status add_node(struct building *b, enum parquet_kind kind, const struct element *named, size_t *index,
                              cohort_error *err)
{
    struct parquet_file *file = b->file;
    TRY(mem_grow(&file->nodes, &file->node_capacity, file->n_nodes + 1, sizeof *file->nodes, "the schema", err));
    *index = file->n_nodes++;
    struct parquet_node *node = &file->nodes[*index];
    *node = (struct parquet_node){.kind = kind, .first_leaf = (int32_t)file->n_leaves};
    node->name_length = named->name_length;
    return mem_strdup(&node->name, named->name, named->name_length, err);
}

static void end_node(struct building *b, size_t index)
{
    b->file->nodes[index].next = (int32_t)b->file->n_nodes;
    b->file->nodes[index].end_leaf = (int32_t)b->file->n_leaves;
}

static bool is_list(const struct element *e)
{
    return e->logical == LOGICAL_LIST || (e->logical == LOGICAL_NONE && e->converted == CONVERTED_LIST);
}

static bool is_map(const struct element *e)
{
    return e->logical == LOGICAL_MAP ||
           (e->logical == LOGICAL_NONE && (e->converted == CONVERTED_MAP || e->converted == CONVERTED_MAP_KEY_VALUE));
}

/* Whether the one repeated group of a list is its element, as older writers have it, and not just around it. */
static bool group_is_element(const struct element *list, const struct element *group, const struct element *child)
{
    static const char tuple[] = "_tuple";
    const size_t n = sizeof tuple - 1;
    if (group->n_children != 1 || child->repetition == REPEATED)
        return true;
    if (group->name_length == 5 && memcmp(group->name, "array", 5) == 0)
        return true;
    return group->name_length == list->name_length + n && memcmp(group->name, list->name, list->name_length) == 0 &&
           memcmp(group->name + list->name_length, tuple, n) == 0;
}

static cohort_status build(struct building *b, struct levels levels, bool is_item, cohort_error *err);

static cohort_status build_leaf(struct building *b, size_t node, const struct element *e, struct levels levels,
                                cohort_error *err)
{
    struct parquet_file *file = b->file;
    TRY(mem_grow(&file->leaves, &file->leaf_capacity, file->n_leaves + 1, sizeof *file->leaves, "the columns", err));
    struct parquet_leaf *leaf = &file->leaves[file->n_leaves];
    *leaf = (struct parquet_leaf){.column = b->column, .node = (int32_t)node, .current = -1};
    leaf->max_definition = (uint8_t)levels.definition;
    leaf->max_repetition = (uint8_t)levels.repetition;
    TRY(set_meaning(b, leaf, e, err));
    file->n_leaves++;
    end_node(b, node);
    return COHORT_OK;
}

/* The element of a list: the repeated child of the list's group, or what lies in it. */
static cohort_status build_element(struct building *b, const struct element *list, struct levels levels,
                                   cohort_error *err)
{
    const struct element *repeated = &b->elements[b->at];
    if (repeated->physical < 0 && b->at + 1 < b->n_elements &&
        !group_is_element(list, repeated, &b->elements[b->at + 1])) {
        const size_t before = b->path.length;
        TRY(text_printf(&b->path, err, ".%.*s", (int)repeated->name_length, repeated->name));
        b->at++;
        TRY(build(b, levels, false, err));
        b->path.length = before;
        b->path.data[before] = '\0';
        return COHORT_OK;
    }
    return build(b, levels, true, err);
}

static cohort_status build_map(struct building *b, struct levels levels, cohort_error *err)
{
    const struct element *repeated = &b->elements[b->at];
    const size_t before = b->path.length;
    TRY(text_printf(&b->path, err, ".%.*s", (int)repeated->name_length, repeated->name));
    b->at++;
    for (int i = 0; i < 2; i++)
        TRY(build(b, levels, false, err));
    b->path.length = before;
    b->path.data[before] = '\0';
    return COHORT_OK;
}

static cohort_status build_group(struct building *b, const struct element *e, struct levels levels, size_t node,
                                 cohort_error *err)
{
    const struct element *child = b->at < b->n_elements ? &b->elements[b->at] : NULL;
    const bool one_repeated = e->n_children == 1 && child != NULL && child->repetition == REPEATED;
    const bool as_map = is_map(e) && one_repeated && child->physical < 0 && child->n_children == 2;
    if (as_map || ((is_list(e) || is_map(e)) && one_repeated)) {
        struct parquet_node *list = &b->file->nodes[node];
        levels.definition++;
        levels.repetition++;
        list->kind = as_map ? PARQUET_MAP : PARQUET_LIST;
        list->item_level = (uint8_t)levels.definition;
        list->repetition = (uint8_t)levels.repetition;
        TRY(as_map ? build_map(b, levels, err) : build_element(b, e, levels, err));
    } else {
        for (int32_t i = 0; i < e->n_children; i++)
            TRY(build(b, levels, false, err));
    }
    end_node(b, node);
    return COHORT_OK;
}

static cohort_status check_name(const struct building *b, const struct element *e, cohort_error *err)
{
    if (memchr(e->name, '\0', e->name_length) != NULL || utf8_check(e->name, e->name_length) != e->name_length)
        return refuse(b, "its name is not text in UTF-8", err);
    return COHORT_OK;
}

/* Builds the node of the next element and all below it. is_item: the element's own repetition is the list's. */
static cohort_status build(struct building *b, struct levels levels, bool is_item, cohort_error *err)
{
    size_t node = 0, list = 0;
    if (b->at >= b->n_elements)
        return refuse(b, "it has fewer fields than it states", err);
    const struct element *e = &b->elements[b->at++];
    const size_t before = b->path.length;
    TRY(check_name(b, e, err));
    TRY(text_printf(&b->path, err, "%s%.*s", before > 0 ? "." : "", (int)e->name_length, e->name));
    if (++levels.depth > PARQUET_MAX_DEPTH)
        return refuse(b, "its groups lie too deep within each other (more than 64)", err);
    if (e->repetition < REQUIRED || e->repetition > REPEATED)
        return refuse(b, "it is neither required, optional nor repeated", err);
    if (e->physical < 0 && e->n_children < 1)
        return refuse(b, "it is a group without fields", err);
    const bool bare = e->repetition == REPEATED && !is_item; /* a list without a group around it */
    if (e->repetition == OPTIONAL)
        levels.definition++;
    if (bare) {
        TRY(add_node(b, PARQUET_LIST, e, &list, err));
        struct parquet_node *repeated = &b->file->nodes[list];
        repeated->null_level = (uint8_t)levels.definition;
        repeated->item_level = (uint8_t)++levels.definition;
        repeated->repetition = (uint8_t)++levels.repetition;
    }
    TRY(add_node(b, e->physical >= 0 ? PARQUET_LEAF : PARQUET_STRUCT, e, &node, err));
    b->file->nodes[node].null_level = (uint8_t)levels.definition;
    TRY(e->physical >= 0 ? build_leaf(b, node, e, levels, err) : build_group(b, e, levels, node, err));
    if (bare)
        end_node(b, list);
    b->path.length = before;
    b->path.data[before] = '\0';
    return COHORT_OK;
}

/* ---- types in words ---- */

static const char *leaf_type(const struct parquet_leaf *leaf)
{
    static const char *const is_signed[] = {"int8", "int16", "int32", "int64"};
    static const char *const is_unsigned[] = {"uint8", "uint16", "uint32", "uint64"};
    static const char *const names[] = {
        [MEANS_BOOLEAN] = "bool",        [MEANS_FLOAT16] = "float16", [MEANS_FLOAT] = "float",
        [MEANS_DOUBLE] = "double",       [MEANS_TEXT] = "string",     [MEANS_BYTES] = "binary",
        [MEANS_UUID] = "uuid",           [MEANS_DECIMAL] = "decimal", [MEANS_DATE] = "date",
        [MEANS_TIME] = "time",           [MEANS_NULL] = "null",       [MEANS_INT96] = "timestamp",
        [MEANS_TIMESTAMP] = "timestamp", [MEANS_JSON] = "json"};
    const size_t size = leaf->bits == 8 ? 0 : leaf->bits == 16 ? 1 : leaf->bits == 32 ? 2 : 3;
    if (leaf->meaning == MEANS_SIGNED)
        return is_signed[size];
    return leaf->meaning == MEANS_UNSIGNED ? is_unsigned[size] : names[leaf->meaning];
}

static cohort_status write_type(const struct parquet_file *file, int32_t index, struct text *out, cohort_error *err)
{
    const struct parquet_node *node = &file->nodes[index];
    static const char *const names[] = {[PARQUET_STRUCT] = "struct", [PARQUET_LIST] = "list", [PARQUET_MAP] = "map"};
    if (node->kind == PARQUET_LEAF)
        return text_printf(out, err, "%s", leaf_type(&file->leaves[node->first_leaf]));
    TRY(text_printf(out, err, "%s<", names[node->kind]));
    for (int32_t child = index + 1; child < node->next; child = file->nodes[child].next) {
        if (child > index + 1)
            TRY(text_append(out, ", ", 2, err));
        if (node->kind == PARQUET_STRUCT)
            TRY(text_printf(out, err, "%s: ", file->nodes[child].name));
        TRY(write_type(file, child, out, err));
    }
    return text_append(out, ">", 1, err);
}

void parquet_path(const struct parquet_file *file, int32_t leaf, char out[PARQUET_PATH_BYTES])
{
    int32_t node = file->columns[file->leaves[leaf].column].node;
    size_t n = (size_t)snprintf(out, PARQUET_PATH_BYTES, "%s", file->nodes[node].name);
    while (file->nodes[node].kind != PARQUET_LEAF && n < PARQUET_PATH_BYTES) {
        const enum parquet_kind kind = file->nodes[node].kind;
        const int32_t first = ++node;
        while (file->nodes[node].end_leaf <= leaf)
            node = file->nodes[node].next;
        if (kind == PARQUET_LIST)
            n += (size_t)snprintf(out + n, PARQUET_PATH_BYTES - n, "[]");
        else if (kind == PARQUET_MAP)
            n += (size_t)snprintf(out + n, PARQUET_PATH_BYTES - n, node == first ? " (its keys)" : " (its values)");
        else
            n += (size_t)snprintf(out + n, PARQUET_PATH_BYTES - n, ".%s", file->nodes[node].name);
    }
}

/* The fields of a struct, or the columns. */
static cohort_status check_names(const struct parquet_file *file, int32_t first, int32_t end, cohort_error *err)
{
    json_t *seen = json_object();
    cohort_status status = COHORT_OK;
    for (int32_t i = first; i < end && status == COHORT_OK; i = file->nodes[i].next)
        status = column_name_once(seen, file->nodes[i].name, file->path, err);
    json_decref(seen);
    return status;
}

/* ---- all of it ---- */

static cohort_status build_columns(struct building *b, const struct element *root, cohort_error *err)
{
    struct parquet_file *file = b->file;
    for (int32_t i = 0; i < root->n_children; i++) {
        const int32_t node = (int32_t)file->n_nodes;
        struct text type = {0};
        b->column = i;
        TRY(build(b, (struct levels){0, 0, 0}, false, err));
        TRY(mem_grow(&file->columns, &file->column_capacity, file->n_columns + 1, sizeof *file->columns, "the columns",
                     err));
        struct parquet_column *column = &file->columns[file->n_columns++];
        *column = (struct parquet_column){.node = node, .read = true};
        cohort_status status = write_type(file, node, &type, err);
        column->type = type.data; /* the file's from here on, error or not */
        TRY(status);
    }
    TRY(check_names(file, 0, (int32_t)file->n_nodes, err));
    for (size_t i = 0; i < file->n_nodes; i++)
        if (file->nodes[i].kind == PARQUET_STRUCT)
            TRY(check_names(file, (int32_t)i + 1, file->nodes[i].next, err));
    return COHORT_OK;
}

cohort_status parquet_schema_read(struct parquet_file *file, struct thrift *in, enum thrift_type type,
                                  cohort_error *err)
{
    struct building b = {.file = file};
    cohort_status status = COHORT_OK;
    size_t capacity = 0;
    const size_t count = thrift_list(in, type, THRIFT_STRUCT);
    if (count > PARQUET_MAX_ELEMENTS)
        thrift_fail(in, "it has more than 1048576 elements");
    for (size_t i = 0; i < count && in->wrong == NULL; i++) {
        TRY_GOTO(mem_grow(&b.elements, &capacity, i + 1, sizeof *b.elements, "the schema", err));
        read_element(in, THRIFT_STRUCT, &b.elements[i]);
    }
    b.n_elements = count;
    b.at = 1;
    if (in->wrong != NULL) {
        status = parquet_thrift_error(file, in, "its schema", err);
    } else if (count == 0 || b.elements[0].physical >= 0 || b.elements[0].n_children < 1) {
        status = error_set(err, COHORT_ERR_FORMAT, "%s: the schema has no columns", file->path);
    } else {
        TRY_GOTO(build_columns(&b, &b.elements[0], err));
        if (b.at != count)
            status = error_set(err, COHORT_ERR_FORMAT, "%s: the schema has %zu elements, its columns take %zu",
                               file->path, count, b.at);
    }
cleanup:
    mem_free(b.elements);
    text_free(&b.path);
    return status;
}

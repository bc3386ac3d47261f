#include "format/parquet_internal.h"

#include <inttypes.h>
#include <string.h>

cohort_status parquet_open(struct parquet_file **out, const char *path, cohort_error *err)
{
    struct parquet_file *file = NULL;
    *out = NULL;
    TRY(mem_alloc(&file, 1, sizeof *file, "a Parquet file", err));
    cohort_status status = COHORT_OK;
    file->cache_bytes = PARQUET_CACHE_BYTES;
    TRY_GOTO(mem_strdup(&file->path, path, strlen(path), err));
    TRY_GOTO(file_map_open(&file->map, path, err));
    TRY_GOTO(parquet_footer_read(file, err));
cleanup:
    if (status != COHORT_OK)
        parquet_close(file);
    else
        *out = file;
    return status;
}

void parquet_close(struct parquet_file *file)
{
    if (file == NULL)
        return;
    parquet_pages_free(file);
    unpacker_free(&file->unpacker);
    for (size_t i = 0; i < file->n_nodes; i++)
        mem_free(file->nodes[i].name);
    for (size_t i = 0; i < file->n_columns; i++)
        mem_free(file->columns[i].type);
    for (size_t i = 0; i < file->n_chunks; i++)
        mem_free(file->chunks[i].pages);
    mem_free(file->nodes);
    mem_free(file->leaves);
    mem_free(file->columns);
    mem_free(file->groups);
    mem_free(file->chunks);
    file_map_close(&file->map);
    mem_free(file->path);
    mem_free(file);
}

int64_t parquet_n_rows(const struct parquet_file *file) { return file->n_rows; }

int32_t parquet_n_columns(const struct parquet_file *file) { return (int32_t)file->n_columns; }

const char *parquet_column_name(const struct parquet_file *file, int32_t column)
{
    return file->nodes[file->columns[column].node].name;
}

const char *parquet_column_type(const struct parquet_file *file, int32_t column) { return file->columns[column].type; }

const char *parquet_lost(struct parquet_file *file)
{
    for (size_t i = 0; file->lost && i < file->n_columns; i++)
        if (file->columns[i].lost == COLUMN_LOST) {
            file->columns[i].lost = COLUMN_LOST_NAMED;
            return parquet_column_name(file, (int32_t)i);
        }
    file->lost = false;
    return NULL;
}

void parquet_column_read(struct parquet_file *file, int32_t column, bool read) { file->columns[column].read = read; }

/* ---- rows ---- */

/* The row being read: in the file, and its group. */
struct reading {
    struct parquet_file *file;
    int64_t row;
    int32_t group;
};

static cohort_status out_of_memory(const struct reading *r, cohort_error *err)
{
    return error_set(err, COHORT_ERR_MEMORY, "%s: out of memory", r->file->path);
}

static cohort_status wrong_value(const struct reading *r, int32_t leaf, const char *why, cohort_error *err)
{
    char name[PARQUET_PATH_BYTES];
    parquet_path(r->file, leaf, name);
    return error_set(err, COHORT_ERR_FORMAT, "%s: column %s, row %" PRId64 ": %s", r->file->path, name, r->row + 1,
                     why);
}

static cohort_status disagree(const struct reading *r, int32_t leaf, cohort_error *err)
{
    return wrong_value(r, leaf, "its nesting is not that of the columns beside it; the file is damaged", err);
}

static const struct parquet_slot *current(const struct reading *r, int32_t leaf)
{
    return r->file->slots[r->file->leaves[leaf].current];
}

static uint8_t definition(const struct reading *r, int32_t leaf)
{
    const struct parquet_slot *slot = current(r, leaf);
    return slot->definitions != NULL ? slot->definitions[r->file->leaves[leaf].entry] : 0;
}

static uint8_t repetition(const struct reading *r, int32_t leaf)
{
    const struct parquet_slot *slot = current(r, leaf);
    return slot->repetitions != NULL ? slot->repetitions[r->file->leaves[leaf].entry] : 0;
}

/* Moves a leaf behind its entry. */
static cohort_status take_entry(const struct reading *r, int32_t leaf, cohort_error *err)
{
    bool more = false;
    if (++r->file->row_values > PARQUET_MAX_ROW_VALUES)
        return error_set(err, COHORT_ERR_FORMAT, "%s: row %" PRId64 " has more than %d values, which are not read",
                         r->file->path, r->row + 1, PARQUET_MAX_ROW_VALUES);
    TRY(parquet_advance(r->file, leaf, r->group, &more, err));
    r->file->leaves[leaf].ended = !more;
    return COHORT_OK;
}

/* Whether the leaf stands before an entry of this row with this repetition level, and at least this definition level. */
static bool stands_at(const struct reading *r, int32_t leaf, uint8_t repeated, uint8_t least)
{
    return !r->file->leaves[leaf].ended && repetition(r, leaf) == repeated && definition(r, leaf) >= least;
}

/* Takes the entry by which each leaf below a node says that the value there is null or empty. */
static cohort_status take_absent(const struct reading *r, const struct parquet_node *node, uint8_t repeated,
                                 uint8_t level, cohort_error *err)
{
    for (int32_t leaf = node->first_leaf; leaf < node->end_leaf; leaf++) {
        if (!stands_at(r, leaf, repeated, level) || definition(r, leaf) != level)
            return disagree(r, leaf, err);
        TRY(take_entry(r, leaf, err));
    }
    return COHORT_OK;
}

static cohort_status read_node(const struct reading *r, int32_t index, uint8_t repeated, uint8_t least, json_t **out,
                               cohort_error *err);

static cohort_status read_struct(const struct reading *r, int32_t index, uint8_t repeated, uint8_t least, json_t **out,
                                 cohort_error *err)
{
    const struct parquet_node *nodes = r->file->nodes;
    *out = json_object();
    if (*out == NULL)
        return out_of_memory(r, err);
    for (int32_t child = index + 1; child < nodes[index].next; child = nodes[child].next) {
        json_t *value = NULL;
        TRY(read_node(r, child, repeated, least, &value, err));
        if (json_object_setn_new_nocheck(*out, nodes[child].name, nodes[child].name_length, value) != 0)
            return out_of_memory(r, err);
    }
    return COHORT_OK;
}

/* An item of a map: into the object, or as a pair into the array. */
static cohort_status read_pair(const struct reading *r, int32_t index, uint8_t repeated, uint8_t least, json_t *map,
                               cohort_error *err)
{
    const int32_t key_node = index + 1, value_node = r->file->nodes[key_node].next;
    json_t *key = NULL, *value = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(read_node(r, key_node, repeated, least, &key, err));
    TRY_GOTO(read_node(r, value_node, repeated, least, &value, err));
    const char *why = column_map_refuses(map, key);
    if (why != NULL)
        status = wrong_value(r, r->file->nodes[key_node].first_leaf, why, err);
    else if (!column_map_put(map, key, value))
        status = out_of_memory(r, err);
cleanup:
    json_decref(key);
    json_decref(value);
    return status;
}

static bool keys_are_text(const struct parquet_file *file, int32_t map)
{
    const struct parquet_node *key = &file->nodes[map + 1];
    return key->kind == PARQUET_LEAF && file->leaves[key->first_leaf].meaning == MEANS_TEXT;
}

/* A list or map that is not null: its first leaf says where it ends. */
static cohort_status read_items(const struct reading *r, int32_t index, uint8_t repeated, json_t **out,
                                cohort_error *err)
{
    const struct parquet_node *node = &r->file->nodes[index];
    const int32_t first = node->first_leaf;
    const bool is_map = node->kind == PARQUET_MAP;
    *out = is_map && keys_are_text(r->file, index) ? json_object() : json_array();
    if (*out == NULL)
        return out_of_memory(r, err);
    if (definition(r, first) < node->item_level)
        return take_absent(r, node, repeated, definition(r, first), err);
    do {
        json_t *value = NULL;
        if (is_map) {
            TRY(read_pair(r, index, repeated, node->item_level, *out, err));
        } else {
            TRY(read_node(r, index + 1, repeated, node->item_level, &value, err));
            if (json_array_append_new(*out, value) != 0)
                return out_of_memory(r, err);
        }
        repeated = node->repetition;
    } while (!r->file->leaves[first].ended && repetition(r, first) == node->repetition);
    return COHORT_OK;
}

static cohort_status read_leaf(const struct reading *r, int32_t leaf, json_t **out, cohort_error *err)
{
    TRY(parquet_value(r->file, leaf, current(r, leaf), r->file->leaves[leaf].value, r->row, out, err));
    return take_entry(r, leaf, err);
}

/* *out = the value of a node, whose entries must begin with the level repeated, and whose group around it is there from
 * the definition level least on. NULL on failure. */
static cohort_status read_node(const struct reading *r, int32_t index, uint8_t repeated, uint8_t least, json_t **out,
                               cohort_error *err)
{
    const struct parquet_node *node = &r->file->nodes[index];
    cohort_status status = COHORT_OK;
    *out = NULL;
    if (!stands_at(r, node->first_leaf, repeated, least))
        return disagree(r, node->first_leaf, err);
    const uint8_t level = definition(r, node->first_leaf);
    if (level < node->null_level) {
        *out = json_null();
        status = take_absent(r, node, repeated, level, err);
    } else if (node->kind == PARQUET_LEAF) {
        status = read_leaf(r, node->first_leaf, out, err);
    } else if (node->kind == PARQUET_STRUCT) {
        status = read_struct(r, index, repeated, node->null_level, out, err);
    } else {
        status = read_items(r, index, repeated, out, err);
    }
    if (status != COHORT_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}

static cohort_status read_column(const struct reading *r, int32_t index, int64_t row_in_group, json_t **out,
                                 cohort_error *err)
{
    struct parquet_file *file = r->file;
    const struct parquet_node *node = &file->nodes[index];
    file->pinned_begin = node->first_leaf;
    file->pinned_end = node->end_leaf;
    for (int32_t leaf = node->first_leaf; leaf < node->end_leaf; leaf++) {
        TRY(parquet_seek(file, leaf, r->group, row_in_group, err));
        file->leaves[leaf].ended = false;
    }
    TRY(read_node(r, index, 0, 0, out, err));
    for (int32_t leaf = node->first_leaf; leaf < node->end_leaf; leaf++)
        if (!file->leaves[leaf].ended)
            return disagree(r, leaf, err);
    return COHORT_OK;
}

/* The row group that holds a row. */
static int32_t find_group(const struct parquet_file *file, int64_t row)
{
    size_t low = 0, high = file->n_groups;
    const struct parquet_group *last = &file->groups[file->group];
    if (row >= last->first_row && row - last->first_row < last->n_rows)
        return file->group;
    while (high - low > 1) { /* the last group that begins at row or before: empty groups begin with the next one */
        const size_t middle = low + (high - low) / 2;
        if (file->groups[middle].first_row <= row)
            low = middle;
        else
            high = middle;
    }
    return (int32_t)low;
}

cohort_status parquet_row(struct parquet_file *file, int64_t row, json_t **out, cohort_error *err)
{
    cohort_status status = COHORT_OK;
    *out = NULL;
    if (row < 0 || row >= file->n_rows)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: row %" PRId64 " of %" PRId64 " rows", file->path, row,
                         file->n_rows);
    file->group = find_group(file, row);
    file->row_values = file->row_bytes = 0;
    const struct reading r = {file, row, file->group};
    json_t *object = json_object();
    if (object == NULL)
        return out_of_memory(&r, err);
    for (size_t i = 0; i < file->n_columns; i++) {
        const int32_t index = file->columns[i].node;
        json_t *value = NULL;
        if (!file->columns[i].read)
            continue;
        status = read_column(&r, index, row - file->groups[r.group].first_row, &value, err);
        if (status != COHORT_OK) {
            json_decref(value);
            break;
        }
        if (json_object_setn_new_nocheck(object, file->nodes[index].name, file->nodes[index].name_length, value) != 0) {
            status = out_of_memory(&r, err);
            break;
        }
    }
    if (status == COHORT_OK)
        *out = object;
    else
        json_decref(object);
    return status;
}

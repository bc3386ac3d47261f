#include "format/arrow_internal.h"

#include <inttypes.h>
#include <string.h>

static const char MAGIC[] = "ARROW1";
enum { MAGIC_BYTES = 6, FILE_HEAD = 8 };

/* ---- opening ---- */

static cohort_status add_batch(struct arrow_file *file, struct arrow_message *message, cohort_error *err)
{
    /* A row of any column but of null takes a bit at least, so that a few bytes cannot claim to be rows without end. Of
     * compressed ones the length is checked when they are unpacked. */
    enum { FREE_ROWS = 1 << 20, COMPRESSION = 3, MOST_RATIO = 1 << 15 };
    const int64_t rows = flat_number(&message->meta, &message->head, 0, 8, 0);
    const struct flat_table compression = flat_within(&message->meta, &message->head, COMPRESSION);
    const uint64_t ratio = compression.at == 0 ? 1 : MOST_RATIO;
    if (message->meta.wrong != NULL || rows < 0)
        return arrow_flat_error(file, &message->meta, message->at, err);
    if ((uint64_t)rows / (8 * ratio) > message->body.length + FREE_ROWS || rows > INT64_MAX - file->n_rows)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: the batch at byte %" PRIu64 " states more rows than its bytes can hold", file->path,
                         message->at);
    TRY(mem_grow(&file->batches, &file->batch_capacity, file->n_batches + 1, sizeof *file->batches, "record batches",
                 err));
    file->batches[file->n_batches++] = (struct arrow_place){message->at, file->n_rows};
    file->n_rows += rows;
    return COHORT_OK;
}

/* The stream's messages, up to its end mark. */
static cohort_status pass_stream(struct arrow_file *file, cohort_error *err)
{
    struct arrow_message message;
    TRY(arrow_message_read(file, 0, &message, err));
    if (message.kind != ARROW_MESSAGE_SCHEMA)
        return error_set(err, COHORT_ERR_FORMAT, "%s: not an Arrow stream: it does not begin with a schema",
                         file->path);
    TRY(arrow_schema_read(file, &message.meta, &message.head, message.at, err));
    do {
        TRY(arrow_message_read(file, message.end, &message, err));
        if (message.kind == ARROW_MESSAGE_BATCH)
            TRY(add_batch(file, &message, err));
        else if (message.kind == ARROW_MESSAGE_DICTIONARY)
            TRY(arrow_dictionary_add(file, &message, err));
        else if (message.kind == ARROW_MESSAGE_SCHEMA)
            return error_set(err, COHORT_ERR_FORMAT, "%s: has a second schema at byte %" PRIu64, file->path,
                             message.at);
    } while (message.kind != ARROW_MESSAGE_END);
    if (message.end == file->map.size)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_FORMAT,
                     "%s: goes on at byte %" PRIu64 " behind its end mark; several streams are several files",
                     file->path, message.end);
}

/* The messages that the footer's blocks name: {offset: 8 bytes, length of the head: 4, 4 unused, of the body: 8}. */
static cohort_status pass_blocks(struct arrow_file *file, struct flatbuffer *footer, struct flat_vector blocks,
                                 bool dictionaries, cohort_error *err)
{
    enum { BLOCK_BYTES = 24 };
    for (uint32_t i = 0; i < blocks.count; i++) {
        struct arrow_message message;
        const int64_t at = flat_item_number(footer, blocks, i, BLOCK_BYTES, 0);
        if (at < FILE_HEAD)
            return error_set(err, COHORT_ERR_FORMAT, "%s: its footer names a place that is none; the file is damaged",
                             file->path);
        TRY(arrow_message_read(file, (uint64_t)at, &message, err));
        if (message.kind != (dictionaries ? ARROW_MESSAGE_DICTIONARY : ARROW_MESSAGE_BATCH))
            return error_set(err, COHORT_ERR_FORMAT,
                             "%s: at byte %" PRId64 " is not what its footer says; the file is damaged", file->path,
                             at);
        TRY(dictionaries ? arrow_dictionary_add(file, &message, err) : add_batch(file, &message, err));
    }
    return COHORT_OK;
}

static cohort_status pass_file(struct arrow_file *file, cohort_error *err)
{
    enum { TAIL = MAGIC_BYTES + 4, FOOTER_SCHEMA = 1, FOOTER_DICTIONARIES, FOOTER_BATCHES };
    const uint8_t *bytes = file->map.data;
    const size_t size = file->map.size;
    uint32_t length = 0;
    if (size < FILE_HEAD + TAIL || memcmp(bytes + size - MAGIC_BYTES, MAGIC, MAGIC_BYTES) != 0)
        return error_set(
            err, COHORT_ERR_FORMAT,
            "%s: an Arrow file that does not end like one (ARROW1), so that it was cut short; get it again",
            file->path);
    memcpy(&length, bytes + size - TAIL, 4);
    if (length > size - TAIL - FILE_HEAD)
        return error_set(err, COHORT_ERR_FORMAT, "%s: its footer of %" PRIu32 " bytes does not lie within the file",
                         file->path, length);
    const uint64_t at = size - TAIL - length;
    struct flatbuffer footer = {.bytes = bytes + at, .size = length};
    const struct flat_table root = flat_root(&footer), schema = flat_within(&footer, &root, FOOTER_SCHEMA);
    const struct flat_vector dictionaries = flat_items(&footer, &root, FOOTER_DICTIONARIES, 24),
                             batches = flat_items(&footer, &root, FOOTER_BATCHES, 24);
    if (footer.wrong != NULL || schema.at == 0)
        return arrow_flat_error(file, &footer, at, err);
    TRY(arrow_schema_read(file, &footer, &schema, at, err));
    TRY(pass_blocks(file, &footer, dictionaries, true, err));
    return pass_blocks(file, &footer, batches, false, err);
}

cohort_status arrow_open(struct arrow_file **out, const char *path, cohort_error *err)
{
    struct arrow_file *file = NULL;
    *out = NULL;
    TRY(mem_alloc(&file, 1, sizeof *file, "an Arrow file", err));
    cohort_status status = COHORT_OK;
    file->cache_bytes = ARROW_CACHE_BYTES;
    TRY_GOTO(mem_strdup(&file->path, path, strlen(path), err));
    TRY_GOTO(file_map_open(&file->map, path, err));
    const bool framed = file->map.size >= MAGIC_BYTES && memcmp(file->map.data, MAGIC, MAGIC_BYTES) == 0;
    TRY_GOTO(framed ? pass_file(file, err) : pass_stream(file, err));
cleanup:
    if (status != COHORT_OK)
        arrow_close(file);
    else
        *out = file;
    return status;
}

void arrow_close(struct arrow_file *file)
{
    if (file == NULL)
        return;
    for (size_t i = 0; i < file->n_slots; i++)
        arrow_batch_free(&file->slots[i]);
    arrow_dictionaries_free(file);
    unpacker_free(&file->unpacker);
    for (size_t i = 0; i < file->n_nodes; i++)
        mem_free(file->nodes[i].name);
    for (size_t i = 0; i < file->n_columns; i++)
        mem_free(file->columns[i].type);
    mem_free(file->nodes);
    mem_free(file->columns);
    mem_free(file->batches);
    file_map_close(&file->map);
    mem_free(file->path);
    mem_free(file);
}

int64_t arrow_n_rows(const struct arrow_file *file) { return file->n_rows; }

int32_t arrow_n_columns(const struct arrow_file *file) { return (int32_t)file->n_columns; }

const char *arrow_column_name(const struct arrow_file *file, int32_t column)
{
    return file->nodes[file->columns[column].node].name;
}

const char *arrow_column_type(const struct arrow_file *file, int32_t column) { return file->columns[column].type; }

const char *arrow_lost(struct arrow_file *file)
{
    for (size_t i = 0; file->lost && i < file->n_columns; i++)
        if (file->columns[i].lost == COLUMN_LOST) {
            file->columns[i].lost = COLUMN_LOST_NAMED;
            return arrow_column_name(file, (int32_t)i);
        }
    file->lost = false;
    return NULL;
}

/* ---- batches ---- */

/* The record batch that holds a row. */
static size_t find_batch(const struct arrow_file *file, int64_t row)
{
    size_t low = 0, high = file->n_batches;
    while (high - low > 1) { /* the last that begins at row or before: empty ones begin with the next one */
        const size_t middle = low + (high - low) / 2;
        if (file->batches[middle].first <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Frees the batch that was used longest ago. */
static void give_up_one(struct arrow_file *file)
{
    size_t oldest = 0;
    for (size_t i = 1; i < file->n_slots; i++)
        if (file->slots[i].used < file->slots[oldest].used)
            oldest = i;
    file->slot_bytes -= file->slots[oldest].bytes;
    arrow_batch_free(&file->slots[oldest]);
    file->slots[oldest] = file->slots[--file->n_slots];
}

static cohort_status load_batch(struct arrow_file *file, size_t index, struct arrow_batch *batch, cohort_error *err)
{
    struct arrow_message message;
    TRY(arrow_message_read(file, file->batches[index].at, &message, err));
    if (message.kind != ARROW_MESSAGE_BATCH)
        return error_set(err, COHORT_ERR_STATE, "%s: was changed while it is in use", file->path);
    return arrow_batch_load(file, &message, &message.head, 0, (int32_t)file->n_nodes, ARROW_MAX_BATCH_BYTES, batch,
                            err);
}

static cohort_status open_batch(struct arrow_file *file, size_t index, const struct arrow_batch **out,
                                cohort_error *err)
{
    struct arrow_batch batch = {.index = index};
    for (size_t i = 0; i < file->n_slots; i++)
        if (file->slots[i].index == index) {
            file->slots[i].used = ++file->clock;
            *out = &file->slots[i];
            return COHORT_OK;
        }
    const cohort_status status = load_batch(file, index, &batch, err);
    if (status != COHORT_OK) {
        arrow_batch_free(&batch);
        return status;
    }
    while (file->n_slots > 0 && (file->n_slots == ARROW_SLOTS || file->slot_bytes + batch.bytes > file->cache_bytes))
        give_up_one(file);
    batch.index = index;
    batch.used = ++file->clock;
    file->slot_bytes += batch.bytes;
    file->slots[file->n_slots] = batch;
    *out = &file->slots[file->n_slots++];
    return COHORT_OK;
}

cohort_status arrow_row(struct arrow_file *file, int64_t row, json_t **out, cohort_error *err)
{
    const struct arrow_batch *batch = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    if (row < 0 || row >= file->n_rows)
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: row %" PRId64 " of %" PRId64 " rows", file->path, row,
                         file->n_rows);
    const size_t index = find_batch(file, row);
    TRY(arrow_dictionaries_load(file, index, err));
    TRY(open_batch(file, index, &batch, err));
    file->row_values = file->row_bytes = 0;
    json_t *object = json_object();
    if (object == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "%s: out of memory", file->path);
    for (size_t i = 0; i < file->n_columns && status == COHORT_OK; i++) {
        const struct arrow_node *node = &file->nodes[file->columns[i].node];
        json_t *value = NULL;
        status = arrow_value(file, batch, file->columns[i].node, row - file->batches[index].first, row, &value, err);
        if (status == COHORT_OK && json_object_setn_new_nocheck(object, node->name, node->name_length, value) != 0)
            status = error_set(err, COHORT_ERR_MEMORY, "%s: out of memory", file->path);
    }
    if (status == COHORT_OK)
        *out = object;
    else
        json_decref(object);
    return status;
}

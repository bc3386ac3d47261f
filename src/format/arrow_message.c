/* Messages of an Arrow file (github.com/apache/arrow, format/Message.fbs), and from a record batch's to arrays. */
#include "format/arrow_internal.h"

#include <inttypes.h>
#include <string.h>

/* Fields of the tables, by number. */
enum { MESSAGE_VERSION, MESSAGE_KIND, MESSAGE_HEAD, MESSAGE_BODY_LENGTH };
enum { BATCH_LENGTH, BATCH_NODES, BATCH_BUFFERS, BATCH_COMPRESSION, BATCH_VARIADIC };
enum { NODE_BYTES = 16, BUFFER_BYTES = 16 };

cohort_status arrow_flat_error(const struct arrow_file *file, const struct flatbuffer *in, uint64_t at,
                               cohort_error *err)
{
    return error_set(err, COHORT_ERR_FORMAT, "%s: its metadata at byte %" PRIu64 " are damaged: %s", file->path, at,
                     in->wrong != NULL ? in->wrong : "a part of them is missing");
}

static cohort_status cut_short(const struct arrow_file *file, uint64_t at, cohort_error *err)
{
    return error_set(err, COHORT_ERR_FORMAT,
                     "%s: ends within what begins at byte %" PRIu64
                     ", or before its end mark: it was cut short, or its writer was not closed; get it again",
                     file->path, at);
}

cohort_status arrow_message_read(const struct arrow_file *file, uint64_t at, struct arrow_message *message,
                                 cohort_error *err)
{
    enum { VERSION_4 = 3, VERSION_5 = 4, KIND_SCHEMA = 1, KIND_DICTIONARY = 2, KIND_BATCH = 3 };
    const uint8_t *bytes = file->map.data;
    const uint64_t size = file->map.size;
    uint32_t length = 0;
    uint64_t from = at;
    *message = (struct arrow_message){.at = at};
    if (at > size || size - at < 4)
        return cut_short(file, at, err);
    memcpy(&length, bytes + from, 4);
    from += 4;
    if (length == UINT32_MAX) { /* since version 0.15 a mark stands before the length */
        if (size - from < 4)
            return cut_short(file, at, err);
        memcpy(&length, bytes + from, 4);
        from += 4;
    }
    message->end = from;
    if (length == 0)
        return COHORT_OK;
    if (length > INT32_MAX || length > size - from)
        return cut_short(file, at, err);
    message->meta = (struct flatbuffer){.bytes = bytes + from, .size = length};
    const struct flat_table root = flat_root(&message->meta);
    const int64_t version = flat_number(&message->meta, &root, MESSAGE_VERSION, 2, 0);
    const int64_t kind = flat_number(&message->meta, &root, MESSAGE_KIND, 1, 0);
    const int64_t body = flat_number(&message->meta, &root, MESSAGE_BODY_LENGTH, 8, 0);
    message->head = flat_within(&message->meta, &root, MESSAGE_HEAD);
    if (message->meta.wrong != NULL || message->head.at == 0 || body < 0)
        return arrow_flat_error(file, &message->meta, at, err);
    if (version != VERSION_4 && version != VERSION_5)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: has metadata of version %" PRId64 ", expected 4 or 5: write it again with a library of "
                         "these years",
                         file->path, version + 1);
    if (kind != KIND_SCHEMA && kind != KIND_DICTIONARY && kind != KIND_BATCH)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: a message at byte %" PRIu64
                         " is neither rows nor a schema nor a dictionary (but a tensor, "
                         "perhaps), which is not read",
                         file->path, at);
    from += length;
    if ((uint64_t)body > size - from)
        return cut_short(file, at, err);
    message->kind = kind == KIND_SCHEMA       ? ARROW_MESSAGE_SCHEMA
                    : kind == KIND_DICTIONARY ? ARROW_MESSAGE_DICTIONARY
                                              : ARROW_MESSAGE_BATCH;
    message->body = (struct arrow_bytes){bytes + from, (uint64_t)body};
    message->end = from + (uint64_t)body;
    return COHORT_OK;
}

/* ---- a record batch ---- */

enum { NOT_COMPRESSED = -1, COMPRESSED_LZ4, COMPRESSED_ZSTD };

struct loading {
    struct arrow_file *file;
    struct arrow_message *message;
    struct arrow_batch *batch;
    struct flat_vector nodes, buffers, variadic;
    uint32_t node, buffer, view; /* the next of each */
    int64_t codec;
    uint64_t at; /* in batch->unpacked */
};

static cohort_status damaged(const struct loading *l, int32_t node, const char *why, cohort_error *err)
{
    char path[ARROW_PATH_BYTES];
    if (l->message->meta.wrong != NULL)
        return arrow_flat_error(l->file, &l->message->meta, l->message->at, err);
    arrow_path(l->file, node, path);
    return error_set(err, COHORT_ERR_FORMAT, "%s: column %s, batch at byte %" PRIu64 ": %s; the file is damaged",
                     l->file->path, path, l->message->at, why);
}

/* Buffer i as it is stored; false: it lies outside. */
static bool stored_buffer(const struct loading *l, uint32_t i, struct arrow_bytes *out)
{
    const struct arrow_bytes body = l->message->body;
    const int64_t from = flat_item_number(&l->message->meta, l->buffers, i, BUFFER_BYTES, 0);
    const int64_t length = flat_item_number(&l->message->meta, l->buffers, i, BUFFER_BYTES, 8);
    if (from < 0 || length < 0 || (uint64_t)from > body.length || (uint64_t)length > body.length - (uint64_t)from)
        return false;
    *out = (struct arrow_bytes){body.at + from, (uint64_t)length};
    return true;
}

/* How many bytes a compressed buffer unpacks to, which it begins with; -1: it is not compressed after all. */
static int64_t stated_length(const struct arrow_bytes *stored)
{
    int64_t length = 0;
    memcpy(&length, stored->at, sizeof length);
    return length;
}

/* Takes memory for all that is compressed, if it can be as much as it states. */
static cohort_status reserve(struct loading *l, size_t most, cohort_error *err)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; l->codec != NOT_COMPRESSED && i < l->buffers.count; i++) {
        struct arrow_bytes stored = {0};
        if (!stored_buffer(l, i, &stored) || (stored.length > 0 && stored.length < 8))
            return damaged(l, l->batch->first_node, "a buffer lies outside of it", err);
        const int64_t length = stored.length == 0 ? -1 : stated_length(&stored);
        if (length < -1)
            return damaged(l, l->batch->first_node, "a buffer states a negative length", err);
        if (length <= 0)
            continue;
        const char *wrong = l->codec == COMPRESSED_ZSTD
                                ? unpack_check(PARQUET_ZSTD, stored.at + 8, (size_t)stored.length - 8, (size_t)length)
                            : (uint64_t)length / LZ4_MOST > stored.length
                                ? "its data cannot unpack to as many bytes as its head states"
                                : NULL;
        if (wrong != NULL)
            return damaged(l, l->batch->first_node, wrong, err);
        sum += (uint64_t)length; /* each is less than 2^48: the file is mapped */
        if (sum > most)
            return error_set(err, COHORT_ERR_UNSUPPORTED,
                             "%s: the batch at byte %" PRIu64 " unpacks to more than 1 GB; write the file with smaller "
                             "batches (write_feather: chunksize), or not compressed",
                             l->file->path, l->message->at);
    }
    l->batch->bytes += (size_t)sum;
    return mem_alloc(&l->batch->unpacked, (size_t)sum, 1, "a record batch", err);
}

static cohort_status take_buffer(struct loading *l, int32_t node, struct arrow_bytes *out, cohort_error *err)
{
    struct arrow_bytes stored = {0};
    if (l->buffer >= l->buffers.count)
        return damaged(l, node, "it has too few buffers", err);
    if (!stored_buffer(l, l->buffer++, &stored))
        return damaged(l, node, "a buffer lies outside of it", err);
    *out = stored;
    if (l->codec == NOT_COMPRESSED || stored.length == 0)
        return COHORT_OK;
    const int64_t length = stated_length(&stored);
    stored = (struct arrow_bytes){stored.at + 8, stored.length - 8};
    *out = stored;
    if (length < 0)
        return COHORT_OK;
    uint8_t *to = l->batch->unpacked + l->at;
    *out = (struct arrow_bytes){to, (uint64_t)length};
    l->at += (uint64_t)length;
    if (length == 0)
        return COHORT_OK;
    const char *wrong = NULL;
    if (l->codec == COMPRESSED_ZSTD)
        wrong = unpack_bytes(&l->file->unpacker, PARQUET_ZSTD, stored.at, (size_t)stored.length, to, (size_t)length);
    else if (!lz4_frame_unpack(stored.at, (size_t)stored.length, to, (size_t)length))
        wrong = "its data are not compressed with LZ4";
    if (wrong == UNPACK_NO_MEMORY)
        return error_set(err, COHORT_ERR_MEMORY, "%s: out of memory", l->file->path);
    return wrong == NULL ? COHORT_OK : damaged(l, node, wrong, err);
}

static cohort_status take_validity(struct loading *l, int32_t node, int64_t nulls, struct arrow_array *array,
                                   cohort_error *err)
{
    struct arrow_bytes bits = {0};
    TRY(take_buffer(l, node, &bits, err));
    if (bits.length == 0 && nulls == 0)
        return COHORT_OK;
    if (bits.length < ((uint64_t)array->length + 7) / 8)
        return damaged(l, node, "its bits that say which values are null are too few", err);
    if (array->length > 0)
        array->validity = bits;
    return COHORT_OK;
}

/* The buffers of a view: their number stands apart. */
static cohort_status take_views(struct loading *l, int32_t node, struct arrow_array *array, cohort_error *err)
{
    const int64_t n = flat_item_number(&l->message->meta, l->variadic, l->view, 8, 0);
    struct arrow_batch *batch = l->batch;
    if (l->view >= l->variadic.count || n < 0 || n > l->buffers.count - l->buffer)
        return damaged(l, node, "its number of buffers is not that of the batch", err);
    l->view++;
    array->more = (uint32_t)batch->n_more;
    array->n_more = (uint32_t)n;
    TRY(mem_grow(&batch->more, &batch->more_capacity, batch->n_more + (size_t)n, sizeof *batch->more, "buffers", err));
    for (int64_t i = 0; i < n; i++)
        TRY(take_buffer(l, node, &batch->more[batch->n_more++], err));
    return COHORT_OK;
}

/* Whether bytes hold count values of width bytes. */
static bool holds(const struct arrow_bytes *bytes, int64_t count, uint32_t width)
{
    return width == 0 || (uint64_t)count <= bytes->length / width;
}

static cohort_status take_buffers(struct loading *l, int32_t index, struct arrow_array *array, cohort_error *err)
{
    const struct arrow_node *node = &l->file->nodes[index];
    bool enough = true;
    switch (node->kind) {
    case ARROW_NULL:
    case ARROW_STRUCT:
    case ARROW_FIXED_LIST: return COHORT_OK;
    case ARROW_BOOL:
        TRY(take_buffer(l, index, &array->first, err));
        enough = ((uint64_t)array->length + 7) / 8 <= array->first.length;
        break;
    case ARROW_BYTES:
    case ARROW_LIST:
    case ARROW_MAP: /* one offset more than values; none where there are none */
        TRY(take_buffer(l, index, &array->first, err));
        enough = array->length == 0 || holds(&array->first, array->length + 1, node->width);
        if (node->kind == ARROW_BYTES)
            TRY(take_buffer(l, index, &array->second, err));
        break;
    case ARROW_LIST_VIEW:
        TRY(take_buffer(l, index, &array->first, err));
        TRY(take_buffer(l, index, &array->second, err));
        enough = holds(&array->first, array->length, node->width) && holds(&array->second, array->length, node->width);
        break;
    case ARROW_VIEW:
        TRY(take_buffer(l, index, &array->first, err));
        TRY(take_views(l, index, array, err));
        enough = holds(&array->first, array->length, node->width);
        break;
    default: TRY(take_buffer(l, index, &array->first, err)); enough = holds(&array->first, array->length, node->width);
    }
    return enough ? COHORT_OK : damaged(l, index, "its values are fewer than it states", err);
}

/* An array must have as many values as the one around it asks for. */
static cohort_status check_length(const struct loading *l, int32_t index, int64_t rows, cohort_error *err)
{
    const struct arrow_batch *batch = l->batch;
    const struct arrow_node *node = &l->file->nodes[index];
    const int64_t length = batch->arrays[index - batch->first_node].length;
    int64_t least = 0;
    if (index == batch->first_node || node->parent < batch->first_node) {
        least = rows;
    } else {
        const struct arrow_node *parent = &l->file->nodes[node->parent];
        const int64_t around = batch->arrays[node->parent - batch->first_node].length;
        if (parent->kind == ARROW_STRUCT)
            least = around;
        else if (parent->kind == ARROW_FIXED_LIST && parent->width > 0)
            least = around > INT64_MAX / parent->width ? INT64_MAX : around * parent->width;
    }
    return length >= least ? COHORT_OK : damaged(l, index, "it has fewer values than the column around it", err);
}

static cohort_status load_arrays(struct loading *l, int32_t first, int32_t end, int64_t rows, cohort_error *err)
{
    struct arrow_batch *batch = l->batch;
    for (int32_t i = first, next; i < end; i = next) {
        const struct arrow_node *node = &l->file->nodes[i];
        struct arrow_array *array = &batch->arrays[i - first];
        next = node->kind == ARROW_DICTIONARY ? node->next : i + 1; /* its values come in batches of their own */
        if (l->node >= l->nodes.count)
            return damaged(l, i, "it has too few columns", err);
        array->length = flat_item_number(&l->message->meta, l->nodes, l->node, NODE_BYTES, 0);
        const int64_t nulls = flat_item_number(&l->message->meta, l->nodes, l->node++, NODE_BYTES, 8);
        if (array->length < 0 || array->length >= INT64_MAX - 8)
            return damaged(l, i, "a wrong number of values", err);
        TRY(check_length(l, i, rows, err));
        if (node->kind != ARROW_NULL)
            TRY(take_validity(l, i, nulls, array, err));
        TRY(take_buffers(l, i, array, err));
    }
    return COHORT_OK;
}

cohort_status arrow_batch_load(struct arrow_file *file, struct arrow_message *message, const struct flat_table *record,
                               int32_t first, int32_t end, size_t unpacked, struct arrow_batch *batch,
                               cohort_error *err)
{
    struct flatbuffer *meta = &message->meta;
    struct loading l = {.file = file, .message = message, .batch = batch, .codec = NOT_COMPRESSED};
    const struct flat_table compression = flat_within(meta, record, BATCH_COMPRESSION);
    const int64_t rows = flat_number(meta, record, BATCH_LENGTH, 8, 0);
    l.nodes = flat_items(meta, record, BATCH_NODES, NODE_BYTES);
    l.buffers = flat_items(meta, record, BATCH_BUFFERS, BUFFER_BYTES);
    l.variadic = flat_items(meta, record, BATCH_VARIADIC, 8);
    if (compression.at != 0)
        l.codec = flat_number(meta, &compression, 0, 1, COMPRESSED_LZ4);
    const bool known = compression.at == 0 || l.codec == COMPRESSED_LZ4 || l.codec == COMPRESSED_ZSTD;
    batch->first_node = first;
    if (meta->wrong != NULL || record->at == 0 || rows < 0)
        return arrow_flat_error(file, meta, message->at, err);
    if (!known)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: is compressed with an unknown codec (%" PRId64 "); write it with LZ4 or ZSTD, or not "
                         "compressed",
                         file->path, l.codec);
    batch->n_arrays = (size_t)(end - first);
    TRY(mem_alloc(&batch->arrays, batch->n_arrays, sizeof *batch->arrays, "a record batch", err));
    batch->bytes = batch->n_arrays * sizeof *batch->arrays;
    TRY(reserve(&l, unpacked, err));
    TRY(load_arrays(&l, first, end, rows, err));
    batch->bytes += batch->more_capacity * sizeof *batch->more;
    return COHORT_OK;
}

void arrow_batch_free(struct arrow_batch *batch)
{
    mem_free(batch->arrays);
    mem_free(batch->more);
    mem_free(batch->unpacked);
    memset(batch, 0, sizeof *batch);
}

/* Pages: their heads, and what becomes of their bytes. */
#include "format/parquet_page.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

/* By number, as in the format. */
enum encoding {
    ENCODING_PLAIN = 0,
    ENCODING_PLAIN_DICTIONARY = 2,
    ENCODING_RLE = 3,
    ENCODING_BIT_PACKED = 4,
    ENCODING_DELTA_BINARY_PACKED = 5,
    ENCODING_DELTA_LENGTH_BYTE_ARRAY = 6,
    ENCODING_DELTA_BYTE_ARRAY = 7,
    ENCODING_RLE_DICTIONARY = 8,
    ENCODING_BYTE_STREAM_SPLIT = 9
};

cohort_status page_error(const struct parquet_file *file, int32_t leaf, uint64_t at, const char *why, cohort_error *err)
{
    char name[PARQUET_PATH_BYTES];
    parquet_path(file, leaf, name);
    if (why == UNPACK_NO_MEMORY)
        return error_set(err, COHORT_ERR_MEMORY, "%s: column %s: out of memory while unpacking", file->path, name);
    return error_set(err, COHORT_ERR_FORMAT, "%s: column %s, page at byte %" PRIu64 ": %s", file->path, name, at, why);
}

/* ---- heads ---- */

static void read_data_head(struct thrift *in, enum thrift_type type, struct page_head *head)
{
    struct thrift_field field = {0};
    if (!thrift_struct(in, type))
        return;
    while (thrift_field(in, &field)) {
        switch (field.id) {
        case 1: head->n_values = thrift_i32(in, field.type); break;
        case 2: head->encoding = thrift_i32(in, field.type); break;
        case 3: head->definition_encoding = thrift_i32(in, field.type); break;
        case 4: head->repetition_encoding = thrift_i32(in, field.type); break;
        default: thrift_skip(in, field.type);
        }
    }
}

static void read_dictionary_head(struct thrift *in, enum thrift_type type, struct page_head *head)
{
    struct thrift_field field = {0};
    if (!thrift_struct(in, type))
        return;
    while (thrift_field(in, &field)) {
        if (field.id == 1)
            head->n_values = thrift_i32(in, field.type);
        else if (field.id == 2)
            head->encoding = thrift_i32(in, field.type);
        else
            thrift_skip(in, field.type);
    }
}

static void read_data_head_v2(struct thrift *in, enum thrift_type type, struct page_head *head)
{
    struct thrift_field field = {0};
    head->is_packed = true;
    if (!thrift_struct(in, type))
        return;
    while (thrift_field(in, &field)) {
        switch (field.id) {
        case 1: head->n_values = thrift_i32(in, field.type); break;
        case 3: head->n_rows = thrift_i32(in, field.type); break;
        case 4: head->encoding = thrift_i32(in, field.type); break;
        case 5: head->definition_bytes = thrift_i32(in, field.type); break;
        case 6: head->repetition_bytes = thrift_i32(in, field.type); break;
        case 7: head->is_packed = thrift_bool(in, field.type); break;
        default: thrift_skip(in, field.type);
        }
    }
}

static const char *check_head(const struct page_head *head)
{
    const bool is_data = head->type == PAGE_DATA || head->type == PAGE_DATA_V2;
    if (head->unpacked < 0 || head->packed < 0)
        return "its size is missing or negative; the file is damaged";
    if (!is_data && head->type != PAGE_DICTIONARY)
        return NULL;
    if (head->n_values < 0)
        return "its number of values is missing or negative; the file is damaged";
    if (head->unpacked > PARQUET_MAX_PAGE_BYTES)
        return "it unpacks to more than 1073741824 bytes, which are not read; write the file with smaller pages";
    if (head->n_values > PARQUET_MAX_PAGE_VALUES)
        return "it has more than 67108864 values, which are not read; write the file with smaller pages";
    if (head->type == PAGE_DATA_V2 && (head->n_rows < 0 || head->definition_bytes < 0 || head->repetition_bytes < 0 ||
                                       (int64_t)head->definition_bytes + head->repetition_bytes > head->packed ||
                                       (int64_t)head->definition_bytes + head->repetition_bytes > head->unpacked))
        return "its levels have an impossible size; the file is damaged";
    return NULL;
}

cohort_status page_head_read(const struct parquet_file *file, int32_t leaf, uint64_t at, uint64_t end,
                             struct page_head *head, cohort_error *err)
{
    const unsigned char *data = file->map.data;
    struct thrift in = {.at = data + at, .end = data + end};
    struct thrift_field field = {0};
    *head = (struct page_head){
        .at = at, .type = -1, .packed = -1, .unpacked = -1, .n_values = -1, .n_rows = -1, .encoding = -1};
    while (thrift_field(&in, &field)) {
        switch (field.id) {
        case 1: head->type = thrift_i32(&in, field.type); break;
        case 2: head->unpacked = thrift_i32(&in, field.type); break;
        case 3: head->packed = thrift_i32(&in, field.type); break;
        case 4:
            head->crc = (uint32_t)thrift_i32(&in, field.type);
            head->has_crc = true;
            break;
        case 5: read_data_head(&in, field.type, head); break;
        case 7: read_dictionary_head(&in, field.type, head); break;
        case 8: read_data_head_v2(&in, field.type, head); break;
        default: thrift_skip(&in, field.type);
        }
    }
    if (in.wrong != NULL)
        return page_error(file, leaf, at, in.wrong, err);
    const char *wrong = check_head(head);
    if (wrong == NULL && (uint64_t)head->packed > (uint64_t)(in.end - in.at))
        wrong = "it reaches behind the column's pages; the file is cut short or damaged";
    head->bytes = in.at;
    head->end = (uint64_t)(in.at - data) + (uint64_t)head->packed;
    return wrong == NULL ? COHORT_OK : page_error(file, leaf, at, wrong, err);
}

bool page_has_indices(const struct page_head *head)
{
    return head->encoding == ENCODING_PLAIN_DICTIONARY || head->encoding == ENCODING_RLE_DICTIONARY;
}

/* ---- memory ---- */

cohort_status slot_need(struct parquet_file *file, struct parquet_slot *slot, struct parquet_buffer *buffer,
                        size_t bytes, cohort_error *err)
{
    if (bytes <= buffer->capacity && buffer->data != NULL)
        return COHORT_OK;
    mem_free(buffer->data);
    slot->bytes -= buffer->capacity;
    file->slot_bytes -= buffer->capacity;
    *buffer = (struct parquet_buffer){0};
    TRY(mem_alloc(&buffer->data, bytes, 1, "a page of a Parquet file", err));
    buffer->capacity = bytes;
    slot->bytes += bytes;
    file->slot_bytes += bytes;
    return COHORT_OK;
}

/* ---- values ---- */

/* A page or dictionary while it is decoded. */
struct decoding {
    struct parquet_file *file;
    int32_t leaf;
    const struct page_head *head;
    struct parquet_slot *slot;
    const struct parquet_slot *dictionary; /* NULL: it has none */
};

static cohort_status wrong_page(const struct decoding *d, const char *why, cohort_error *err)
{
    return why == NULL ? COHORT_OK : page_error(d->file, d->leaf, d->head->at, why, err);
}

/* Unpacks bytes, or points at them where they are not packed. */
static cohort_status unpack_page(const struct decoding *d, const uint8_t *bytes, size_t length, size_t unpacked,
                                 int32_t codec, struct byte_range *out, cohort_error *err)
{
    TRY(wrong_page(d, unpack_check(codec, bytes, length, unpacked), err));
    if (codec == PARQUET_UNCOMPRESSED) {
        *out = (struct byte_range){bytes, bytes + length};
        return COHORT_OK;
    }
    TRY(slot_need(d->file, d->slot, &d->slot->unpacked, unpacked, err));
    uint8_t *to = d->slot->unpacked.data;
    TRY(wrong_page(d, unpack_bytes(&d->file->unpacker, codec, bytes, length, to, unpacked), err));
    *out = (struct byte_range){to, to + unpacked};
    return COHORT_OK;
}

static cohort_status decode_booleans(const struct decoding *d, int32_t encoding, struct byte_range in, size_t count,
                                     cohort_error *err)
{
    uint32_t length = 0;
    TRY(slot_need(d->file, d->slot, &d->slot->made, count, err));
    d->slot->values.bytes = d->slot->made.data;
    if (encoding == ENCODING_PLAIN)
        return wrong_page(d, plain_booleans(in, count, d->slot->made.data), err);
    if (in.end - in.at < 4)
        return wrong_page(d, "its bytes end before its values", err);
    memcpy(&length, in.at, 4);
    in.at += 4;
    if (length > (size_t)(in.end - in.at))
        return wrong_page(d, "its values are longer than the page", err);
    in.end = in.at + length;
    return wrong_page(d, rle_levels(in, 1, count, d->slot->made.data), err);
}

static cohort_status decode_plain(const struct decoding *d, struct byte_range in, size_t count, cohort_error *err)
{
    const struct parquet_leaf *leaf = &d->file->leaves[d->leaf];
    d->slot->values.bytes = in.at;
    if (leaf->width != 0)
        return count <= (size_t)(in.end - in.at) / leaf->width ? COHORT_OK
                                                               : wrong_page(d, "its bytes end before its values", err);
    /* Each value has 4 bytes for its length: no memory for more values than that allows. */
    if (count > (size_t)(in.end - in.at) / 4)
        return wrong_page(d, "its bytes end before its values", err);
    TRY(slot_need(d->file, d->slot, &d->slot->spans, count * sizeof(struct byte_span), err));
    d->slot->values.spans = d->slot->spans.data;
    return wrong_page(d, plain_spans(in, count, d->slot->spans.data), err);
}

static cohort_status decode_indices(const struct decoding *d, struct byte_range in, size_t count, cohort_error *err)
{
    uint32_t most = 0;
    if (d->dictionary == NULL)
        return wrong_page(d, "its values point into a dictionary, and the column has none", err);
    if (in.at == in.end || *in.at > 32)
        return wrong_page(d, "its indices have an impossible width", err);
    TRY(slot_need(d->file, d->slot, &d->slot->indices, count * sizeof(uint32_t), err));
    uint32_t *indices = d->slot->indices.data;
    const unsigned width = *in.at++;
    TRY(wrong_page(d, rle_indices(in, width, count, indices), err));
    for (size_t i = 0; i < count; i++)
        most = indices[i] > most ? indices[i] : most;
    if (most >= d->dictionary->values.count)
        return wrong_page(d, "a value points behind the end of the dictionary", err);
    d->slot->values.indices = indices;
    return COHORT_OK;
}

/* DELTA_BYTE_ARRAY, of byte arrays and of values of one width. */
static cohort_status decode_front_coded(const struct decoding *d, struct byte_range in, size_t count, cohort_error *err)
{
    const size_t width = d->file->leaves[d->leaf].width;
    struct parquet_slot *slot = d->slot;
    size_t bytes = 0;
    TRY(slot_need(d->file, slot, &slot->indices, count * sizeof(uint32_t), err));
    TRY(slot_need(d->file, slot, &slot->spans, count * sizeof(struct byte_span), err));
    uint32_t *prefixes = slot->indices.data;
    struct byte_span *spans = slot->spans.data;
    TRY(wrong_page(d, delta_prefixes(in, count, prefixes, spans, &bytes), err));
    if (bytes > PARQUET_MAX_PAGE_BYTES)
        return wrong_page(d, "its values have more than 1073741824 bytes, which are not read; write smaller pages",
                          err);
    for (size_t i = 0; i < count && width != 0; i++)
        if ((size_t)prefixes[i] + spans[i].length != width)
            return wrong_page(d, "a value has not the length that the schema gives it", err);
    TRY(slot_need(d->file, slot, &slot->made, bytes, err));
    delta_join(in.at, count, prefixes, spans, slot->made.data);
    slot->values.bytes = slot->made.data;
    slot->values.spans = width == 0 ? spans : NULL;
    return COHORT_OK;
}

static cohort_status wrong_encoding(const struct decoding *d, cohort_error *err)
{
    static const char *const names[] = {
        "PLAIN",          "GROUP_VAR_INT",       "PLAIN_DICTIONARY",        "RLE",
        "BIT_PACKED",     "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY",
        "RLE_DICTIONARY", "BYTE_STREAM_SPLIT"};
    char why[128];
    const int32_t encoding = d->head->encoding;
    if (encoding >= 0 && encoding < (int32_t)(sizeof names / sizeof *names))
        snprintf(why, sizeof why, "values of this type are not read in the encoding %s", names[encoding]);
    else
        snprintf(why, sizeof why, "an unknown encoding (%" PRId32 ")", encoding);
    return wrong_page(d, why, err);
}

static cohort_status decode_values(const struct decoding *d, struct byte_range in, size_t count, cohort_error *err)
{
    const struct parquet_leaf *leaf = &d->file->leaves[d->leaf];
    const enum parquet_physical physical = leaf->physical;
    struct parquet_slot *slot = d->slot;
    slot->values = (struct parquet_values){.count = count, .bytes = in.at};
    if (count == 0)
        return COHORT_OK;
    if (page_has_indices(d->head) && d->head->type != PAGE_DICTIONARY)
        return decode_indices(d, in, count, err);
    /* A dictionary's own values are plain, whatever that is called. */
    switch (d->head->type == PAGE_DICTIONARY ? ENCODING_PLAIN : d->head->encoding) {
    case ENCODING_PLAIN:
        return physical == PARQUET_BOOLEAN ? decode_booleans(d, ENCODING_PLAIN, in, count, err)
                                           : decode_plain(d, in, count, err);
    case ENCODING_RLE:
        if (physical == PARQUET_BOOLEAN)
            return decode_booleans(d, ENCODING_RLE, in, count, err);
        break;
    case ENCODING_DELTA_BINARY_PACKED:
        if (physical != PARQUET_INT32 && physical != PARQUET_INT64)
            break;
        TRY(slot_need(d->file, slot, &slot->made, count * leaf->width, err));
        slot->values.bytes = slot->made.data;
        return wrong_page(d, delta_integers(&in, leaf->width, count, slot->made.data), err);
    case ENCODING_DELTA_LENGTH_BYTE_ARRAY:
        if (physical != PARQUET_BYTE_ARRAY)
            break;
        TRY(slot_need(d->file, slot, &slot->spans, count * sizeof(struct byte_span), err));
        slot->values.spans = slot->spans.data;
        return wrong_page(d, delta_spans(in, count, slot->spans.data), err);
    case ENCODING_DELTA_BYTE_ARRAY:
        if (physical == PARQUET_BYTE_ARRAY || physical == PARQUET_FIXED_LEN_BYTE_ARRAY)
            return decode_front_coded(d, in, count, err);
        break;
    case ENCODING_BYTE_STREAM_SPLIT:
        if (physical == PARQUET_BOOLEAN || physical == PARQUET_INT96 || physical == PARQUET_BYTE_ARRAY)
            break;
        if (count > (size_t)(in.end - in.at) / leaf->width)
            return wrong_page(d, "its bytes end before its values", err);
        TRY(slot_need(d->file, slot, &slot->made, count * leaf->width, err));
        slot->values.bytes = slot->made.data;
        return wrong_page(d, split_streams(in, leaf->width, count, slot->made.data), err);
    default: break;
    }
    return wrong_encoding(d, err);
}

/* ---- levels ---- */

static unsigned bits_for(unsigned level)
{
    unsigned bits = 0;
    for (; level > 0; level >>= 1)
        bits++;
    return bits;
}

/* The levels of a version 1 page, at the start of *in, which moves behind them. */
static cohort_status decode_levels(const struct decoding *d, struct byte_range *in, int32_t encoding, uint8_t most,
                                   uint8_t *out, cohort_error *err)
{
    const size_t count = (size_t)d->head->n_values;
    uint32_t length = 0;
    if (encoding == ENCODING_BIT_PACKED)
        return wrong_page(d, packed_levels(in, bits_for(most), count, out), err);
    if (encoding != ENCODING_RLE)
        return wrong_page(d, "its levels have an encoding that is not read (neither RLE nor BIT_PACKED)", err);
    if (in->end - in->at < 4)
        return wrong_page(d, "it ends within its levels", err);
    memcpy(&length, in->at, 4);
    in->at += 4;
    if (length > (size_t)(in->end - in->at))
        return wrong_page(d, "it ends within its levels", err);
    const struct byte_range levels = {in->at, in->at + length};
    in->at += length;
    return wrong_page(d, rle_levels(levels, bits_for(most), count, out), err);
}

/* Whether no level is higher than most; *n_zero: how many are 0. */
static bool levels_fit(const uint8_t *levels, size_t count, uint8_t most, uint32_t *n_zero)
{
    uint8_t highest = 0;
    uint32_t zeros = 0;
    for (size_t i = 0; i < count; i++) {
        highest = levels[i] > highest ? levels[i] : highest;
        zeros += levels[i] == 0;
    }
    *n_zero = zeros;
    return highest <= most;
}

/* From the levels: where rows begin, and how many values the page has. */
static cohort_status count_rows(const struct decoding *d, size_t *n_present, cohort_error *err)
{
    const struct parquet_leaf *leaf = &d->file->leaves[d->leaf];
    struct parquet_slot *slot = d->slot;
    const size_t count = slot->n_entries;
    const uint8_t *definitions = slot->definitions, *repetitions = slot->repetitions;
    uint32_t rows = (uint32_t)count, values = 0, n_null = 0;
    if ((definitions != NULL && !levels_fit(definitions, count, leaf->max_definition, &n_null)) ||
        (repetitions != NULL && !levels_fit(repetitions, count, leaf->max_repetition, &rows)))
        return wrong_page(d, "a level is higher than the schema allows", err);
    slot->n_rows = rows;
    slot->row_entries = slot->row_values = NULL;
    *n_present = count;
    if (definitions == NULL)
        return COHORT_OK; /* repeated values always have definition levels */
    TRY(slot_need(d->file, slot, &slot->counts, rows * sizeof(uint32_t), err));
    uint32_t *row_values = slot->counts.data;
    const uint8_t present = leaf->max_definition;
    if (repetitions == NULL) {
        for (size_t i = 0; i < count; i++) {
            row_values[i] = values;
            values += definitions[i] == present;
        }
    } else {
        TRY(slot_need(d->file, slot, &slot->entries, rows * sizeof(uint32_t), err));
        uint32_t *row_entries = slot->entries.data;
        uint32_t row = 0;
        for (size_t i = 0; i < count; i++) {
            if (repetitions[i] == 0) {
                row_entries[row] = (uint32_t)i;
                row_values[row++] = values;
            }
            values += definitions[i] == present;
        }
        slot->row_entries = row_entries;
    }
    slot->row_values = row_values;
    *n_present = values;
    return COHORT_OK;
}

/* ---- pages ---- */

static cohort_status check_crc(const struct decoding *d, cohort_error *err)
{
    const struct page_head *head = d->head;
    if (head->has_crc && (uint32_t)crc32(0, head->bytes, (uInt)head->packed) != head->crc)
        return wrong_page(d, "its checksum does not fit its bytes; the file is damaged: copy or download it again",
                          err);
    return COHORT_OK;
}

cohort_status page_decode(struct parquet_file *file, int32_t leaf, int32_t codec, const struct page_head *head,
                          const struct parquet_slot *dictionary, struct parquet_slot *slot, cohort_error *err)
{
    const struct decoding d = {file, leaf, head, slot, dictionary};
    const uint8_t max_definition = file->leaves[leaf].max_definition,
                  max_repetition = file->leaves[leaf].max_repetition;
    const size_t count = (size_t)head->n_values, packed = (size_t)head->packed, unpacked = (size_t)head->unpacked;
    struct byte_range in = {0};
    size_t n_present = 0;
    slot->values = (struct parquet_values){0};
    slot->definitions = slot->repetitions = NULL;
    slot->n_entries = (uint32_t)count;
    TRY(check_crc(&d, err));
    if (head->type == PAGE_DICTIONARY) {
        TRY(unpack_page(&d, head->bytes, packed, unpacked, codec, &in, err));
        return decode_values(&d, in, count, err);
    }
    if (max_repetition > 0) {
        TRY(slot_need(file, slot, &slot->repetition_levels, count, err));
        slot->repetitions = slot->repetition_levels.data;
    }
    if (max_definition > 0) {
        TRY(slot_need(file, slot, &slot->definition_levels, count, err));
        slot->definitions = slot->definition_levels.data;
    }
    if (head->type == PAGE_DATA) {
        TRY(unpack_page(&d, head->bytes, packed, unpacked, codec, &in, err));
        if (max_repetition > 0)
            TRY(decode_levels(&d, &in, head->repetition_encoding, max_repetition, slot->repetition_levels.data, err));
        if (max_definition > 0)
            TRY(decode_levels(&d, &in, head->definition_encoding, max_definition, slot->definition_levels.data, err));
    } else {
        const uint8_t *definitions = head->bytes + head->repetition_bytes;
        const uint8_t *values = definitions + head->definition_bytes;
        const size_t levels = (size_t)(values - head->bytes);
        const struct byte_range repetition = {head->bytes, definitions}, definition = {definitions, values};
        if (max_repetition > 0)
            TRY(wrong_page(&d, rle_levels(repetition, bits_for(max_repetition), count, slot->repetition_levels.data),
                           err));
        if (max_definition > 0)
            TRY(wrong_page(&d, rle_levels(definition, bits_for(max_definition), count, slot->definition_levels.data),
                           err));
        TRY(unpack_page(&d, values, packed - levels, unpacked - levels, head->is_packed ? codec : PARQUET_UNCOMPRESSED,
                        &in, err));
    }
    TRY(count_rows(&d, &n_present, err));
    if (head->type == PAGE_DATA_V2 && (uint32_t)head->n_rows != slot->n_rows)
        return wrong_page(&d, "it has another number of rows than its head states", err);
    return decode_values(&d, in, n_present, err);
}

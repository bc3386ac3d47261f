/* The format is https://github.com/apache/parquet-format (its README and its file for Thrift). */
#include "format/parquet_write.h"

#include "format/parquet_thrift.h"

#include <string.h>

enum { GROUP_BYTES = 64 << 20, GROUP_ROWS = 1 << 20 };
enum { TYPE_INT64 = 2, TYPE_DOUBLE = 5, TYPE_BYTE_ARRAY = 6, OPTIONAL = 1, UTF8 = 0, PLAIN = 0, RLE = 3 };

/* A column of the present row group: its values as they will stand in the page, and which rows have one. */
struct parquet_chunk {
    struct text values;
    struct text levels; /* runs: varint of 2 x count, then 0 or 1 */
    int64_t run;        /* rows of the run that goes on */
    bool present;       /* what they are */
    bool put;           /* the present row has a value */
};

/* ---- Thrift's compact protocol, as parquet_thrift.h reads it ---- */

static uint64_t zigzag(int64_t value) { return ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0); }

static cohort_status byte(struct text *out, int value, cohort_error *err)
{
    const char one = (char)value;
    return text_append(out, &one, 1, err);
}

/* The head of a field whose id follows that of the field before it by less than 16. */
static cohort_status field(struct text *out, int *last, int id, enum thrift_type type, cohort_error *err)
{
    cohort_status status = byte(out, (id - *last) << 4 | (int)type, err);
    *last = id;
    return status;
}

static cohort_status number_field(struct text *out, int *last, int id, enum thrift_type type, int64_t value,
                                  cohort_error *err)
{
    TRY(field(out, last, id, type, err));
    return text_append_varint(out, zigzag(value), err);
}

static cohort_status put_string(struct text *out, const char *text, cohort_error *err)
{
    TRY(text_append_varint(out, strlen(text), err));
    return text_append(out, text, strlen(text), err);
}

static cohort_status list_head(struct text *out, enum thrift_type element, size_t n, cohort_error *err)
{
    if (n < 15)
        return byte(out, (int)n << 4 | (int)element, err);
    TRY(byte(out, 0xf0 | (int)element, err));
    return text_append_varint(out, n, err);
}

/* ---- pages ---- */

static cohort_status take(struct parquet_writer *writer, const struct text *bytes, cohort_error *err)
{
    TRY(writer->take(writer->context, bytes->data, bytes->length, err));
    writer->written += (int64_t)bytes->length;
    return COHORT_OK;
}

static cohort_status end_run(struct parquet_chunk *chunk, cohort_error *err)
{
    if (chunk->run > 0) {
        TRY(text_append_varint(&chunk->levels, (uint64_t)chunk->run << 1, err));
        TRY(byte(&chunk->levels, chunk->present ? 1 : 0, err));
    }
    chunk->run = 0;
    return COHORT_OK;
}

static void little_endian(uint32_t value, char out[4])
{
    for (int i = 0; i < 4; i++)
        out[i] = (char)(value >> (8 * i));
}

static int type_of(enum parquet_kind kind)
{
    return kind == PARQUET_INTEGER ? TYPE_INT64 : kind == PARQUET_NUMBER ? TYPE_DOUBLE : TYPE_BYTE_ARRAY;
}

/* The page's head: a data page of version 1. */
static cohort_status page_head(struct text *out, int64_t n_rows, size_t size, cohort_error *err)
{
    int last = 0, inner = 0;
    TRY(number_field(out, &last, 1, THRIFT_I32, 0, err)); /* DATA_PAGE */
    TRY(number_field(out, &last, 2, THRIFT_I32, (int64_t)size, err));
    TRY(number_field(out, &last, 3, THRIFT_I32, (int64_t)size, err));
    TRY(field(out, &last, 5, THRIFT_STRUCT, err));
    TRY(number_field(out, &inner, 1, THRIFT_I32, n_rows, err));
    TRY(number_field(out, &inner, 2, THRIFT_I32, PLAIN, err));
    TRY(number_field(out, &inner, 3, THRIFT_I32, RLE, err));
    TRY(number_field(out, &inner, 4, THRIFT_I32, RLE, err));
    TRY(byte(out, THRIFT_STOP, err));
    return byte(out, THRIFT_STOP, err);
}

/* The chunk's entry in the footer. */
static cohort_status chunk_entry(struct text *out, const struct parquet_column *column, int64_t offset, int64_t size,
                                 int64_t n_rows, cohort_error *err)
{
    int last = 0, inner = 0;
    TRY(number_field(out, &last, 2, THRIFT_I64, offset, err));
    TRY(field(out, &last, 3, THRIFT_STRUCT, err));
    TRY(number_field(out, &inner, 1, THRIFT_I32, type_of(column->kind), err));
    TRY(field(out, &inner, 2, THRIFT_LIST, err));
    TRY(list_head(out, THRIFT_I32, 2, err));
    TRY(text_append_varint(out, zigzag(PLAIN), err));
    TRY(text_append_varint(out, zigzag(RLE), err));
    TRY(field(out, &inner, 3, THRIFT_LIST, err));
    TRY(list_head(out, THRIFT_BINARY, 1, err));
    TRY(put_string(out, column->name, err));
    TRY(number_field(out, &inner, 4, THRIFT_I32, 0, err)); /* uncompressed */
    TRY(number_field(out, &inner, 5, THRIFT_I64, n_rows, err));
    TRY(number_field(out, &inner, 6, THRIFT_I64, size, err));
    TRY(number_field(out, &inner, 7, THRIFT_I64, size, err));
    TRY(number_field(out, &inner, 9, THRIFT_I64, offset, err));
    TRY(byte(out, THRIFT_STOP, err));
    return byte(out, THRIFT_STOP, err);
}

static cohort_status write_chunk(struct parquet_writer *writer, size_t column, cohort_error *err)
{
    struct parquet_chunk *chunk = &writer->chunks[column];
    struct text head = {0};
    char levels[4];
    const int64_t offset = writer->written;
    cohort_status status = COHORT_OK;
    TRY(end_run(chunk, err));
    TRY_GOTO(page_head(&head, writer->n_group_rows, sizeof levels + chunk->levels.length + chunk->values.length, err));
    little_endian((uint32_t)chunk->levels.length, levels);
    TRY_GOTO(text_append(&head, levels, sizeof levels, err));
    TRY_GOTO(take(writer, &head, err));
    TRY_GOTO(take(writer, &chunk->levels, err));
    if (chunk->values.length > 0)
        TRY_GOTO(take(writer, &chunk->values, err));
    TRY_GOTO(chunk_entry(&writer->groups, &writer->columns[column], offset, writer->written - offset,
                         writer->n_group_rows, err));
    chunk->levels.length = chunk->values.length = 0;
cleanup:
    text_free(&head);
    return status;
}

static cohort_status end_group(struct parquet_writer *writer, cohort_error *err)
{
    const int64_t begin = writer->written;
    int last = 0;
    if (writer->n_group_rows == 0)
        return COHORT_OK;
    TRY(field(&writer->groups, &last, 1, THRIFT_LIST, err));
    TRY(list_head(&writer->groups, THRIFT_STRUCT, writer->n_columns, err));
    for (size_t c = 0; c < writer->n_columns; c++)
        TRY(write_chunk(writer, c, err));
    TRY(number_field(&writer->groups, &last, 2, THRIFT_I64, writer->written - begin, err));
    TRY(number_field(&writer->groups, &last, 3, THRIFT_I64, writer->n_group_rows, err));
    TRY(byte(&writer->groups, THRIFT_STOP, err));
    writer->n_groups++;
    writer->n_group_rows = 0;
    writer->group_bytes = 0;
    return COHORT_OK;
}

/* ---- rows ---- */

static const char magic[] = "PAR1";

cohort_status parquet_writer_open(struct parquet_writer *writer, const struct parquet_column *columns, size_t n,
                                  parquet_take *taker, void *context, cohort_error *err)
{
    memset(writer, 0, sizeof *writer);
    *writer = (struct parquet_writer){.columns = columns, .n_columns = n, .take = taker, .context = context};
    TRY(mem_alloc(&writer->chunks, n, sizeof *writer->chunks, "columns", err));
    TRY(taker(context, magic, 4, err));
    writer->written = 4;
    return COHORT_OK;
}

void parquet_writer_close(struct parquet_writer *writer)
{
    for (size_t c = 0; writer->chunks != NULL && c < writer->n_columns; c++) {
        text_free(&writer->chunks[c].values);
        text_free(&writer->chunks[c].levels);
    }
    mem_free(writer->chunks);
    text_free(&writer->groups);
    memset(writer, 0, sizeof *writer);
}

static cohort_status put(struct parquet_writer *writer, size_t column, const void *bytes, size_t length,
                         cohort_error *err)
{
    struct parquet_chunk *chunk = &writer->chunks[column];
    TRY(text_append(&chunk->values, bytes, length, err));
    chunk->put = true;
    writer->group_bytes += length;
    return COHORT_OK;
}

static cohort_status put_eight(struct parquet_writer *writer, size_t column, uint64_t bits, cohort_error *err)
{
    char bytes[8];
    little_endian((uint32_t)bits, bytes);
    little_endian((uint32_t)(bits >> 32), bytes + 4);
    return put(writer, column, bytes, sizeof bytes, err);
}

cohort_status parquet_put_integer(struct parquet_writer *writer, size_t column, int64_t value, cohort_error *err)
{
    return put_eight(writer, column, (uint64_t)value, err);
}

cohort_status parquet_put_number(struct parquet_writer *writer, size_t column, double value, cohort_error *err)
{
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    return put_eight(writer, column, bits, err);
}

cohort_status parquet_put_text(struct parquet_writer *writer, size_t column, const char *bytes, size_t length,
                               cohort_error *err)
{
    char size[4];
    little_endian((uint32_t)length, size);
    if (length > INT32_MAX)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "a text of %zu bytes is too long for a Parquet file", length);
    TRY(put(writer, column, size, sizeof size, err));
    return put(writer, column, bytes, length, err);
}

cohort_status parquet_end_row(struct parquet_writer *writer, cohort_error *err)
{
    for (size_t c = 0; c < writer->n_columns; c++) {
        struct parquet_chunk *chunk = &writer->chunks[c];
        if (chunk->run > 0 && chunk->present != chunk->put)
            TRY(end_run(chunk, err));
        chunk->present = chunk->put;
        chunk->run++;
        chunk->put = false;
    }
    writer->n_rows++;
    writer->n_group_rows++;
    return writer->group_bytes >= GROUP_BYTES || writer->n_group_rows >= GROUP_ROWS ? end_group(writer, err)
                                                                                    : COHORT_OK;
}

/* ---- the footer ---- */

static cohort_status schema(const struct parquet_writer *writer, struct text *out, cohort_error *err)
{
    int last = 0;
    TRY(list_head(out, THRIFT_STRUCT, writer->n_columns + 1, err));
    TRY(field(out, &last, 4, THRIFT_BINARY, err));
    TRY(put_string(out, "schema", err));
    TRY(number_field(out, &last, 5, THRIFT_I32, (int64_t)writer->n_columns, err));
    TRY(byte(out, THRIFT_STOP, err));
    for (size_t c = 0; c < writer->n_columns; c++) {
        const struct parquet_column *column = &writer->columns[c];
        last = 0;
        TRY(number_field(out, &last, 1, THRIFT_I32, type_of(column->kind), err));
        TRY(number_field(out, &last, 3, THRIFT_I32, OPTIONAL, err));
        TRY(field(out, &last, 4, THRIFT_BINARY, err));
        TRY(put_string(out, column->name, err));
        if (column->kind == PARQUET_TEXT) {
            TRY(number_field(out, &last, 6, THRIFT_I32, UTF8, err));
            TRY(field(out, &last, 10, THRIFT_STRUCT, err)); /* LogicalType: its field 1, STRING, an empty struct */
            TRY(byte(out, 1 << 4 | THRIFT_STRUCT, err));
            TRY(byte(out, THRIFT_STOP, err));
            TRY(byte(out, THRIFT_STOP, err));
        }
        TRY(byte(out, THRIFT_STOP, err));
    }
    return COHORT_OK;
}

cohort_status parquet_finish(struct parquet_writer *writer, cohort_error *err)
{
    struct text footer = {0};
    char size[4];
    int last = 0;
    cohort_status status = COHORT_OK;
    TRY_GOTO(end_group(writer, err));
    TRY_GOTO(number_field(&footer, &last, 1, THRIFT_I32, 1, err)); /* version */
    TRY_GOTO(field(&footer, &last, 2, THRIFT_LIST, err));
    TRY_GOTO(schema(writer, &footer, err));
    TRY_GOTO(number_field(&footer, &last, 3, THRIFT_I64, writer->n_rows, err));
    TRY_GOTO(field(&footer, &last, 4, THRIFT_LIST, err));
    TRY_GOTO(list_head(&footer, THRIFT_STRUCT, (size_t)writer->n_groups, err));
    if (writer->groups.length > 0)
        TRY_GOTO(text_append(&footer, writer->groups.data, writer->groups.length, err));
    TRY_GOTO(field(&footer, &last, 6, THRIFT_BINARY, err));
    TRY_GOTO(put_string(&footer, "cohort", err));
    TRY_GOTO(byte(&footer, THRIFT_STOP, err));
    little_endian((uint32_t)footer.length, size);
    TRY_GOTO(text_append(&footer, size, sizeof size, err));
    TRY_GOTO(text_append(&footer, magic, 4, err));
    TRY_GOTO(take(writer, &footer, err));
cleanup:
    text_free(&footer);
    return status;
}

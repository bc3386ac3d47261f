/* From a stored value to JSON. */
#include "format/parquet_internal.h"

#include "base/json_text.h"
#include "base/utf8.h"
#include "tensor/dtype.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- numbers ---- */

static int64_t stored_integer(const struct parquet_leaf *leaf, const uint8_t *bytes)
{
    int32_t narrow = 0;
    int64_t wide = 0;
    if (leaf->physical != PARQUET_INT32) {
        memcpy(&wide, bytes, sizeof wide);
        return wide;
    }
    memcpy(&narrow, bytes, sizeof narrow);
    return narrow;
}

static json_t *integer_value(const struct parquet_leaf *leaf, int64_t value)
{
    uint8_t bytes[8];
    switch (leaf->meaning) {
    case MEANS_DATE: return column_date(value);
    case MEANS_TIMESTAMP: return column_timestamp(value, leaf->digits, leaf->utc);
    case MEANS_TIME: return column_time(value, leaf->digits);
    case MEANS_DECIMAL:
        for (int i = 0; i < 8; i++)
            bytes[i] = (uint8_t)((uint64_t)value >> (56 - 8 * i));
        return column_decimal(bytes, sizeof bytes, leaf->scale);
    case MEANS_UNSIGNED:
        switch (leaf->bits) {
        case 8: return column_unsigned((uint8_t)value);
        case 16: return column_unsigned((uint16_t)value);
        case 32: return column_unsigned((uint32_t)value);
        default: return column_unsigned((uint64_t)value);
        }
    default:
        switch (leaf->bits) {
        case 8: return json_integer((int8_t)value);
        case 16: return json_integer((int16_t)value);
        default: return json_integer(value);
        }
    }
}

/* ---- bytes ---- */

static cohort_status value_error(const struct parquet_file *file, int32_t leaf, int64_t row, const char *why,
                                 cohort_error *err)
{
    char name[PARQUET_PATH_BYTES];
    parquet_path(file, leaf, name);
    return error_set(err, COHORT_ERR_FORMAT, "%s: column %s, row %" PRId64 ": %s", file->path, name, row + 1, why);
}

static cohort_status text_value(struct parquet_file *file, int32_t leaf, const uint8_t *bytes, size_t length,
                                int64_t row, json_t **out, cohort_error *err)
{
    file->row_bytes += length;
    if (file->row_bytes > PARQUET_MAX_ROW_BYTES)
        return value_error(file, leaf, row, "the row has more than 268435456 bytes of text, which are not read", err);
    *out = json_stringn_nocheck((const char *)bytes, length);
    return *out != NULL ? COHORT_OK : error_set(err, COHORT_ERR_MEMORY, "%s: out of memory", file->path);
}

/* What the text of a JSON value says. */
static cohort_status json_value(struct parquet_file *file, int32_t leaf, const uint8_t *bytes, size_t length,
                                int64_t row, json_t **out, cohort_error *err)
{
    char place[PARQUET_PATH_BYTES + 64], name[PARQUET_PATH_BYTES];
    file->row_bytes += length;
    if (file->row_bytes > PARQUET_MAX_ROW_BYTES)
        return value_error(file, leaf, row, "the row has more than 268435456 bytes of text, which are not read", err);
    parquet_path(file, leaf, name);
    snprintf(place, sizeof place, "column %s, row %" PRId64 ", JSON", name, row + 1);
    cohort_status status = json_text_parse(out, (const char *)bytes, length, place, 1,
                                           JSON_TEXT_ANY | JSON_TEXT_NUL | JSON_TEXT_NAN_NULL, err);
    if (status != COHORT_OK)
        error_context(err, "%s", file->path);
    return status;
}

cohort_status parquet_value(struct parquet_file *file, int32_t index, const struct parquet_slot *slot, uint32_t value,
                            int64_t row, json_t **out, cohort_error *err)
{
    const struct parquet_leaf *leaf = &file->leaves[index];
    const struct parquet_values *values = &slot->values;
    if (values->indices != NULL) {
        value = values->indices[value];
        values = &file->slots[slot->dictionary]->values;
    }
    const struct byte_span span = values->spans != NULL ? values->spans[value] : (struct byte_span){0, leaf->width};
    const uint8_t *bytes = values->bytes + (values->spans != NULL ? span.offset : (size_t)value * leaf->width);
    uint16_t half = 0;
    float single = 0;
    double real = 0;
    switch (leaf->meaning) {
    case MEANS_NULL: *out = json_null(); break;
    case MEANS_BOOLEAN: *out = json_boolean(*bytes != 0); break;
    case MEANS_FLOAT16:
        memcpy(&half, bytes, sizeof half);
        *out = column_real((double)f32_from_f16(half));
        break;
    case MEANS_FLOAT:
        memcpy(&single, bytes, sizeof single);
        *out = column_real((double)single);
        break;
    case MEANS_DOUBLE:
        memcpy(&real, bytes, sizeof real);
        *out = column_real(real);
        break;
    case MEANS_INT96: *out = column_int96(bytes); break;
    case MEANS_UUID: *out = column_uuid(bytes); break;
    case MEANS_TEXT:
        if (utf8_check((const char *)bytes, span.length) != span.length)
            return value_error(file, index, row, "its text is not UTF-8; write the column as text in UTF-8", err);
        return text_value(file, index, bytes, span.length, row, out, err);
    case MEANS_JSON: return json_value(file, index, bytes, span.length, row, out, err);
    case MEANS_BYTES:
        if (utf8_check((const char *)bytes, span.length) == span.length)
            return text_value(file, index, bytes, span.length, row, out, err);
        if (file->columns[leaf->column].lost == COLUMN_WHOLE) {
            file->columns[leaf->column].lost = COLUMN_LOST;
            file->lost = true;
        }
        *out = json_null();
        break;
    case MEANS_DECIMAL:
        if (leaf->physical != PARQUET_INT32 && leaf->physical != PARQUET_INT64) {
            if (span.length > COLUMN_DECIMAL_BYTES)
                return value_error(file, index, row, "a decimal has more than 64 bytes", err);
            *out = column_decimal(bytes, span.length, leaf->scale);
            break;
        }
        *out = integer_value(leaf, stored_integer(leaf, bytes));
        break;
    default: *out = integer_value(leaf, stored_integer(leaf, bytes));
    }
    return *out != NULL ? COHORT_OK : error_set(err, COHORT_ERR_MEMORY, "%s: out of memory", file->path);
}

/* From a stored value to JSON. */
#include "format/parquet_internal.h"

#include "base/json_text.h"
#include "base/utf8.h"
#include "tensor/dtype.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DAY_SECONDS = 86400, TEXT_BYTES = 80 };

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
static int64_t floor_mod(int64_t a, int64_t b) { return a % b < 0 ? a % b + b : a % b; }

/* ---- times ---- */

/* Days since 1970-01-01 in the proleptic Gregorian calendar, by Howard Hinnant's formulas: years begin in March, so that
 * the leap day is the last one, and repeat after 400. False beyond the years 0000 to 9999. */
static bool write_date(char out[TEXT_BYTES], int64_t days)
{
    const int64_t first = -719528, last = 2932896;
    if (days < first || days > last)
        return false;
    const int64_t shifted = days + 719468; /* since 0000-03-01 */
    const int64_t era = floor_div(shifted, 146097), day_of_era = floor_mod(shifted, 146097);
    const int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    const int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const int64_t month_from_march = (5 * day_of_year + 2) / 153;
    const int64_t day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    const int64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    const int64_t year = year_of_era + era * 400 + (month <= 2);
    snprintf(out, TEXT_BYTES, "%04" PRId64 "-%02" PRId64 "-%02" PRId64, year, month, day);
    return true;
}

/* A time of day in 10^-digits seconds; the fraction is left out if it is 0. */
static void write_time(char *out, size_t size, int64_t time, unsigned digits)
{
    const int64_t unit = digits == 3 ? 1000 : digits == 6 ? 1000000 : 1000000000;
    const int64_t seconds = time / unit, fraction = time % unit;
    int n =
        snprintf(out, size, "%02" PRId64 ":%02" PRId64 ":%02" PRId64, seconds / 3600, seconds / 60 % 60, seconds % 60);
    if (fraction != 0)
        snprintf(out + n, size - (size_t)n, ".%0*" PRId64, (int)digits, fraction);
}

static bool write_timestamp(char out[TEXT_BYTES], int64_t days, int64_t time, unsigned digits, bool utc)
{
    if (!write_date(out, days))
        return false;
    size_t n = strlen(out);
    out[n++] = 'T';
    write_time(out + n, TEXT_BYTES - n, time, digits);
    if (utc)
        strcat(out, "Z");
    return true;
}

static json_t *time_value(const struct parquet_leaf *leaf, int64_t value)
{
    char text[TEXT_BYTES];
    const int64_t unit = leaf->digits == 3 ? 1000 : leaf->digits == 6 ? 1000000 : 1000000000;
    const int64_t day = DAY_SECONDS * unit;
    if (leaf->meaning == MEANS_DATE
            ? write_date(text, value)
            : write_timestamp(text, floor_div(value, day), floor_mod(value, day), leaf->digits, leaf->utc))
        return json_string_nocheck(text);
    return json_integer(value);
}

static json_t *time_of_day(const struct parquet_leaf *leaf, int64_t value)
{
    char text[TEXT_BYTES];
    const int64_t unit = leaf->digits == 3 ? 1000 : leaf->digits == 6 ? 1000000 : 1000000000;
    if (value < 0 || value >= DAY_SECONDS * unit)
        return json_integer(value);
    write_time(text, sizeof text, value, leaf->digits);
    return json_string_nocheck(text);
}

static json_t *int96_value(const uint8_t *bytes)
{
    char text[TEXT_BYTES];
    int64_t nanoseconds = 0;
    uint32_t julian = 0;
    const int64_t day = DAY_SECONDS * INT64_C(1000000000), julian_1970 = 2440588;
    memcpy(&nanoseconds, bytes, 8);
    memcpy(&julian, bytes + 8, 4);
    const int64_t days = (int64_t)julian - julian_1970 + floor_div(nanoseconds, day);
    if (write_timestamp(text, days, floor_mod(nanoseconds, day), 9, false))
        return json_string_nocheck(text);
    snprintf(text, sizeof text, "day %" PRIu32 " + %" PRId64 " ns", julian, nanoseconds);
    return json_string_nocheck(text);
}

/* ---- numbers ---- */

static json_t *real_value(double value)
{
    if (isnan(value))
        return json_null();
    if (isinf(value))
        return json_string_nocheck(value < 0 ? "-Infinity" : "Infinity");
    return json_real(value);
}

static json_t *unsigned_value(uint64_t value)
{
    return value <= INT64_MAX ? json_integer((json_int_t)value) : json_real((double)value);
}

/* An integer in two's complement, the highest byte first, times 10^-scale, with all its digits. NULL: out of memory, or
 * more bytes than a decimal may have. */
static json_t *decimal_value(const uint8_t *bytes, size_t length, int32_t scale)
{
    enum { MOST = 64, LIMBS = MOST / 4 + 1, DIGITS = 160, MOST_SCALE = 1000 };
    uint32_t limbs[LIMBS] = {0}; /* of the magnitude, the highest first */
    char digits[DIGITS + MOST_SCALE + 4];
    char *at = digits + sizeof digits - 1;
    const bool negative = length > 0 && (bytes[0] & 0x80) != 0;
    uint32_t carry = negative;
    if (length > MOST)
        return NULL;
    for (size_t i = 0; i < length; i++) { /* from the lowest byte on */
        const uint32_t byte = (uint32_t)(negative ? (uint8_t)~bytes[length - 1 - i] : bytes[length - 1 - i]) + carry;
        carry = byte >> 8;
        limbs[LIMBS - 1 - i / 4] |= (byte & 0xff) << i % 4 * 8;
    }
    if (carry != 0)
        limbs[LIMBS - 1 - length / 4] |= 1u << length % 4 * 8;
    *at = '\0';
    int32_t n = 0;
    for (bool more = true; more || n <= scale; n++) {
        uint64_t remainder = 0;
        more = false;
        for (size_t i = 0; i < LIMBS; i++) {
            const uint64_t part = remainder << 32 | limbs[i];
            limbs[i] = (uint32_t)(part / 10);
            remainder = part % 10;
            more = more || limbs[i] != 0;
        }
        if (n == scale && scale > 0)
            *--at = '.';
        *--at = (char)('0' + remainder);
    }
    if (negative)
        *--at = '-';
    return json_string_nocheck(at);
}

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
    case MEANS_DATE:
    case MEANS_TIMESTAMP: return time_value(leaf, value);
    case MEANS_TIME: return time_of_day(leaf, value);
    case MEANS_DECIMAL:
        for (int i = 0; i < 8; i++)
            bytes[i] = (uint8_t)((uint64_t)value >> (56 - 8 * i));
        return decimal_value(bytes, sizeof bytes, leaf->scale);
    case MEANS_UNSIGNED:
        switch (leaf->bits) {
        case 8: return unsigned_value((uint8_t)value);
        case 16: return unsigned_value((uint16_t)value);
        case 32: return unsigned_value((uint32_t)value);
        default: return unsigned_value((uint64_t)value);
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

static json_t *uuid_value(const uint8_t *bytes)
{
    char text[TEXT_BYTES];
    size_t n = 0;
    for (int i = 0; i < 16; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                              bytes[i]);
    return json_string_nocheck(text);
}

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
        *out = real_value((double)f32_from_f16(half));
        break;
    case MEANS_FLOAT:
        memcpy(&single, bytes, sizeof single);
        *out = real_value((double)single);
        break;
    case MEANS_DOUBLE:
        memcpy(&real, bytes, sizeof real);
        *out = real_value(real);
        break;
    case MEANS_INT96: *out = int96_value(bytes); break;
    case MEANS_UUID: *out = uuid_value(bytes); break;
    case MEANS_TEXT:
        if (utf8_check((const char *)bytes, span.length) != span.length)
            return value_error(file, index, row, "its text is not UTF-8; write the column as text in UTF-8", err);
        return text_value(file, index, bytes, span.length, row, out, err);
    case MEANS_JSON: return json_value(file, index, bytes, span.length, row, out, err);
    case MEANS_BYTES:
        if (utf8_check((const char *)bytes, span.length) == span.length)
            return text_value(file, index, bytes, span.length, row, out, err);
        *out = json_null();
        break;
    case MEANS_DECIMAL:
        if (leaf->physical != PARQUET_INT32 && leaf->physical != PARQUET_INT64) {
            if (span.length > 64)
                return value_error(file, index, row, "a decimal has more than 64 bytes", err);
            *out = decimal_value(bytes, span.length, leaf->scale);
            break;
        }
        *out = integer_value(leaf, stored_integer(leaf, bytes));
        break;
    default: *out = integer_value(leaf, stored_integer(leaf, bytes));
    }
    return *out != NULL ? COHORT_OK : error_set(err, COHORT_ERR_MEMORY, "%s: out of memory", file->path);
}

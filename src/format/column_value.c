#include "format/column_value.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DAY_SECONDS = 86400, TEXT_BYTES = 80 };

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
static int64_t floor_mod(int64_t a, int64_t b) { return a % b < 0 ? a % b + b : a % b; }

/* ---- times ---- */

static int64_t unit_of(unsigned digits)
{
    return digits == 0 ? 1 : digits == 3 ? 1000 : digits == 6 ? 1000000 : 1000000000;
}

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
    const int64_t unit = unit_of(digits);
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

json_t *column_date(int64_t days)
{
    char text[TEXT_BYTES];
    return write_date(text, days) ? json_string_nocheck(text) : json_integer(days);
}

json_t *column_timestamp(int64_t value, unsigned digits, bool utc)
{
    char text[TEXT_BYTES];
    const int64_t day = DAY_SECONDS * unit_of(digits);
    if (write_timestamp(text, floor_div(value, day), floor_mod(value, day), digits, utc))
        return json_string_nocheck(text);
    return json_integer(value);
}

json_t *column_time(int64_t value, unsigned digits)
{
    char text[TEXT_BYTES];
    if (value < 0 || value >= DAY_SECONDS * unit_of(digits))
        return json_integer(value);
    write_time(text, sizeof text, value, digits);
    return json_string_nocheck(text);
}

json_t *column_int96(const uint8_t *bytes)
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

json_t *column_real(double value)
{
    if (isnan(value))
        return json_null();
    if (isinf(value))
        return json_string_nocheck(value < 0 ? "-Infinity" : "Infinity");
    return json_real(value);
}

json_t *column_unsigned(uint64_t value)
{
    return value <= INT64_MAX ? json_integer((json_int_t)value) : json_real((double)value);
}

json_t *column_decimal(const uint8_t *bytes, size_t length, int32_t scale)
{
    enum { LIMBS = COLUMN_DECIMAL_BYTES / 4 + 1, DIGITS = 160 };
    uint32_t limbs[LIMBS] = {0}; /* of the magnitude, the highest first */
    char digits[DIGITS + COLUMN_DECIMAL_SCALE + 4];
    char *at = digits + sizeof digits - 1;
    const bool negative = length > 0 && (bytes[0] & 0x80) != 0;
    uint32_t carry = negative;
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

json_t *column_uuid(const uint8_t *bytes)
{
    char text[TEXT_BYTES];
    size_t n = 0;
    for (int i = 0; i < 16; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                              bytes[i]);
    return json_string_nocheck(text);
}

cohort_status column_name_once(json_t *seen, const char *name, const char *path, cohort_error *err)
{
    if (json_object_get(seen, name) != NULL)
        return error_set(err, COHORT_ERR_FORMAT, "%s: two columns or fields are named \"%.200s\"", path, name);
    if (json_object_set_new_nocheck(seen, name, json_true()) != 0)
        return error_set(err, COHORT_ERR_MEMORY, "%s: out of memory", path);
    return COHORT_OK;
}

const char *column_map_refuses(const json_t *map, const json_t *key)
{
    if (!json_is_object(map))
        return NULL;
    if (!json_is_string(key))
        return "a key is null";
    return strlen(json_string_value(key)) == json_string_length(key)
               ? NULL
               : "a key holds a NUL byte, which no key of a JSON object may here; write the column without it";
}

bool column_map_put(json_t *map, json_t *key, json_t *value)
{
    if (json_is_object(map))
        return json_object_setn_nocheck(map, json_string_value(key), json_string_length(key), value) == 0;
    json_t *pair = json_array();
    const bool put = pair != NULL && json_array_append(pair, key) == 0 && json_array_append(pair, value) == 0 &&
                     json_array_append(map, pair) == 0;
    json_decref(pair);
    return put;
}

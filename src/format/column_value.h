/* Values of columnar files (Parquet, Arrow) as JSON. Each returns a new reference, NULL where memory is out. */
#ifndef COHORT_FORMAT_COLUMN_VALUE_H
#define COHORT_FORMAT_COLUMN_VALUE_H

#include "base/error.h"

#include <jansson.h>

/* NaN: null; an infinity: "Infinity" or "-Infinity". */
json_t *column_real(double value);
/* Beyond int64: the double next to it. */
json_t *column_unsigned(uint64_t value);
/* Days since 1970: "2024-02-29"; beyond the years 0000 to 9999 the number. */
json_t *column_date(int64_t days);
/* In 10^-digits seconds (0, 3, 6 or 9) of day, and since 1970; utc: an instant, which ends with "Z". What no clock or
 * calendar of the years 0000 to 9999 shows is its number. */
json_t *column_time(int64_t value, unsigned digits);
json_t *column_timestamp(int64_t value, unsigned digits, bool utc);
/* Nanoseconds of day in 8 bytes, then the Julian day in 4. */
json_t *column_int96(const uint8_t *bytes);
/* An integer in two's complement, the highest byte first, times 10^-scale, with all its digits. */
enum { COLUMN_DECIMAL_BYTES = 64, COLUMN_DECIMAL_SCALE = 1000 }; /* most of each: the caller has checked */
json_t *column_decimal(const uint8_t *bytes, size_t length, int32_t scale);
/* 16 bytes: "00112233-4455-6677-8899-aabbccddeeff". */
json_t *column_uuid(const uint8_t *bytes);

/* Why a key cannot be one of the map, an object or an array of pairs; NULL: it can. */
const char *column_map_refuses(const json_t *map, const json_t *key);
/* Puts an item of a map into an object, whose last of equal keys counts, or as a pair into an array. false: no memory. */
bool column_map_put(json_t *map, json_t *key, json_t *value);

/* Whether a value of a column was bytes that are not UTF-8, which JSON has no form for. */
enum column_loss { COLUMN_WHOLE, COLUMN_LOST, COLUMN_LOST_NAMED };

/* Names of columns, and of the fields of a struct, become keys: one that seen (an object; NULL: no memory) has already
 * is an error of the file at path. */
cohort_status column_name_once(json_t *seen, const char *name, const char *path, cohort_error *err);

#endif

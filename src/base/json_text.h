/* JSON text. The library reads and writes JSON through here alone, in whatever locale the host program has set. Read it
 * is as every reader of JSON here takes it: UTF-8, a byte order mark skipped, the place of a mistake in the message,
 * out of memory told apart from a mistake, and numbers that neither an int64 nor a double holds made harmless in place
 * of refused, because files of other tools hold them where nobody looks. */
#ifndef COHORT_BASE_JSON_TEXT_H
#define COHORT_BASE_JSON_TEXT_H

#include "base/memory.h"
#include "base/wrong_file.h"

#include <jansson.h>

enum json_text_flags {
    JSON_TEXT_ANY = 1,      /* a text, number, true, false or null may stand alone too */
    JSON_TEXT_NUL = 2,      /* \u0000 may stand in texts */
    JSON_TEXT_REPEATED = 4, /* the last of equal keys counts; else they are an error */
    JSON_TEXT_NAN_NULL = 8  /* NaN becomes null: in rows of pandas and datasets it is the missing value */
};

/* *out is a new reference. Numbers that do not fit:
 *  - a whole number beyond int64 becomes the double next to it, as in pandas and datasets;
 *  - a number beyond double, and Python's Infinity, -Infinity and NaN, become the text that stands
 *    there. A JSON value cannot hold them, a reader that wants a number refuses a text by name, and
 *    a program that is handed the row still sees what the file said.
 * A byte order mark is skipped at the start of line 1. Messages begin with origin:line:column (from first_line, 1 for
 * whole files). Errors: COHORT_ERR_MEMORY, else COHORT_ERR_FORMAT. text may be NULL if length is 0. */
cohort_status json_text_parse(json_t **out, const char *text, size_t length, const char *origin, int64_t first_line,
                              unsigned flags, cohort_error *err);

/* Appends json as text, as json_dumps writes it with these flags of jansson's, in any locale. COHORT_ERR_MEMORY is the
 * only error; out is then as it was. json NULL: what the caller could not build is that error too. */
cohort_status json_text_write(const json_t *json, size_t jansson_flags, struct text *out, cohort_error *err);

/* A text as a JSON value, NULs too; each byte that is not UTF-8 becomes U+FFFD (a completion may end within a character).
 * A new reference; NULL: out of memory. text may be NULL if length is 0. */
json_t *json_text_value(const char *text, size_t length);

/* For values that are built without a look at each part: value, which is taken over, joins *list or *object. What fails
 * frees *list or *object and makes it NULL, of which json_pack makes NULL in turn. */
void json_text_add(json_t **list, json_t *value);
void json_text_set(json_t **object, const char *key, json_t *value);

/* A whole file of at most limit bytes (0: any size). What is no JSON is named if it is a known other kind of file
 * (wrong_file). */
cohort_status json_text_read(json_t **out, const char *path, size_t limit, unsigned flags, cohort_error *err);

/* Where the value of a key of a JSON text's outermost object lies: [*from, *to). The text is valid JSON; false if it has
 * no such key. Of equal keys the last counts. */
bool json_text_member(const char *json, size_t length, const char *key, size_t *from, size_t *to);

/* Where the object or array that begins at byte at of a text ends, by its brackets and strings alone; 0: nowhere. */
size_t json_text_end(const char *text, size_t length, size_t at);

#endif

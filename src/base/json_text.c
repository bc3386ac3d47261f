#include "base/json_text.h"

#include "base/file.h"
#include "base/number.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* ---- jansson, watched ---- */

/* jansson's lexer passes over a failed allocation: a text then lacks a byte, and nobody is told. So malloc is watched
 * while it parses, through the hook that jansson has for a whole process. Ours is malloc that notes a failure for its
 * own thread, so a host program that uses jansson meanwhile is not affected; one that has set an allocator of its own
 * keeps it, unwatched. Of two threads that parse at once the one that ends first takes the watch away.
 *
 * Where the byte that is lacking is the quote that ends a text, jansson 2.14 reads and writes on behind its buffer. So
 * the first allocation that fails gets a block that was put by. */
static _Thread_local bool allocation_failed;
static _Thread_local void *put_by;
static _Thread_local size_t put_by_bytes;

static void *watched_malloc(size_t size)
{
    void *block = malloc(size);
    if (block != NULL)
        return block;
    allocation_failed = true;
    if (size <= put_by_bytes) {
        block = put_by;
        put_by = NULL;
        put_by_bytes = 0;
    }
    return block;
}

static void watch(bool on)
{
    json_malloc_t allocate = NULL;
    json_free_t release = NULL;
    json_get_alloc_funcs(&allocate, &release);
    if (allocate == (on ? malloc : watched_malloc))
        json_set_alloc_funcs(on ? watched_malloc : malloc, release);
}

/* json_loadb under the C locale: NULL and out of memory for every failed allocation. */
static json_t *load(const char *bytes, size_t length, size_t flags, json_error_t *where)
{
    const size_t room = 2 * length + 256; /* a buffer that grows doubles; a text is not longer than all of it */
    put_by = malloc(room);
    put_by_bytes = put_by == NULL ? 0 : room;
    allocation_failed = put_by == NULL;
    json_t *json = NULL;
    if (!allocation_failed) {
        struct number_scope scope = number_scope_begin();
        watch(true);
        json = json_loadb(bytes, length, flags, where);
        watch(false);
        number_scope_end(scope);
    }
    free(put_by);
    put_by = NULL;
    put_by_bytes = 0;
    if (!allocation_failed)
        return json;
    json_decref(json);
    where->text[sizeof where->text - 1] = json_error_out_of_memory; /* where json_error_code looks */
    return NULL;
}

/* ---- numbers that do not fit ---- */

/* Copies text and rewrites the numbers that do not fit. With stop, works out only where an error lies: added is how
 * many bytes the rewriting has put into the line of output byte stop before it. */
struct rewriting {
    const char *text;
    size_t length, at;
    unsigned flags;
    struct text *out; /* or NULL: only count */
    size_t written, stop, added;
};

static cohort_status emit(struct rewriting *r, const char *bytes, size_t length, cohort_error *err)
{
    r->written += length;
    return r->out == NULL ? COHORT_OK : text_append(r->out, bytes, length, err);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool fits_int64(const char *token, size_t length)
{
    bool negative = *token == '-';
    const char *most = negative ? "9223372036854775808" : "9223372036854775807";
    size_t digits = length - negative;
    return digits < 19 || (digits == 19 && memcmp(token + negative, most, 19) <= 0);
}

/* Whether a token of JSON's number grammar has a finite double next to it. From 2^1024 - 2^970 on,
 * 1.79769313486231580793...e308, rounding gives infinity; 30 digits of it tell. */
static bool fits_double(const char *token, size_t length)
{
    static const char limit[] = "179769313486231580793728971405";
    enum { DIGITS = sizeof limit - 1, MOST = 400000000 };
    char digits[DIGITS + 1] = {0};
    size_t n = 0, i = *token == '-';
    int64_t exponent = -1, stated = 0; /* of the first digit that is not 0 */
    bool point = false, started = false;
    for (; i < length && (is_digit(token[i]) || token[i] == '.'); i++) {
        if (token[i] == '.') {
            point = true;
            continue;
        }
        started = started || token[i] != '0';
        if (started && n < DIGITS)
            digits[n++] = token[i];
        if (started && !point)
            exponent++;
        else if (!started && point)
            exponent--;
    }
    if (!started)
        return true;
    bool negative = false;
    if (i < length && (token[i] == 'e' || token[i] == 'E'))
        i++;
    if (i < length && (token[i] == '-' || token[i] == '+'))
        negative = token[i++] == '-';
    for (; i < length; i++)
        stated = stated < MOST ? stated * 10 + (token[i] - '0') : stated;
    exponent += negative ? -stated : stated;
    while (n < DIGITS)
        digits[n++] = '0';
    return exponent < 308 || (exponent == 308 && memcmp(digits, limit, DIGITS) < 0);
}

/* The length of the token of JSON's number grammar at text, 0 if there is none; *whole: it has neither fraction nor
 * exponent. */
static size_t number_length(const char *text, size_t length, bool *whole)
{
    size_t i = length > 0 && *text == '-';
    size_t first = i;
    while (i < length && is_digit(text[i]))
        i++;
    if (i == first || (text[first] == '0' && i > first + 1))
        return 0;
    *whole = true;
    if (i + 1 < length && text[i] == '.' && is_digit(text[i + 1])) {
        *whole = false;
        for (i++; i < length && is_digit(text[i]);)
            i++;
    }
    if (i < length && (text[i] == 'e' || text[i] == 'E')) {
        size_t e = i + 1;
        if (e < length && (text[e] == '+' || text[e] == '-'))
            e++;
        if (e >= length || !is_digit(text[e]))
            return 0;
        *whole = false;
        for (i = e; i < length && is_digit(text[i]);)
            i++;
    }
    return i;
}

/* Python's names for what JSON has no number for. */
static size_t constant_length(const char *text, size_t length)
{
    static const char *const names[] = {"NaN", "Infinity", "-Infinity"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (length >= strlen(names[i]) && memcmp(text, names[i], strlen(names[i])) == 0)
            return strlen(names[i]);
    return 0;
}

static cohort_status quote(struct rewriting *r, const char *token, size_t length, cohort_error *err)
{
    r->added += 2;
    TRY(emit(r, "\"", 1, err));
    TRY(emit(r, token, length, err));
    return emit(r, "\"", 1, err);
}

static cohort_status rewrite_value(struct rewriting *r, cohort_error *err)
{
    const char *token = r->text + r->at;
    size_t left = r->length - r->at, n = constant_length(token, left);
    bool whole = false;
    if (n > 0) {
        r->at += n;
        if (n == 3 && (r->flags & JSON_TEXT_NAN_NULL) != 0) {
            r->added++;
            return emit(r, "null", 4, err);
        }
        return quote(r, token, n, err);
    }
    n = number_length(token, left, &whole);
    r->at += n > 0 ? n : 1;
    if (n == 0)
        return emit(r, token, 1, err);
    if (!fits_double(token, n))
        return quote(r, token, n, err);
    TRY(emit(r, token, n, err));
    if (!whole || fits_int64(token, n))
        return COHORT_OK;
    r->added += 2;
    return emit(r, ".0", 2, err);
}

static cohort_status rewrite(struct rewriting *r, cohort_error *err)
{
    while (r->at < r->length && r->written < r->stop) {
        const char *from = r->text + r->at;
        size_t n = 1;
        if (*from == '-' || *from == 'N' || *from == 'I' || is_digit(*from)) {
            TRY(rewrite_value(r, err));
            continue;
        }
        if (*from == '"') {
            while (r->at + n < r->length && from[n] != '"' && from[n] != '\n')
                n += from[n] == '\\' && r->at + n + 1 < r->length ? 2 : 1;
            n += r->at + n < r->length && from[n] == '"';
        }
        if (*from == '\n')
            r->added = 0;
        TRY(emit(r, from, n, err));
        r->at += n;
    }
    return COHORT_OK;
}

/* ---- parsing ---- */

/* NaN and Infinity are an invalid token to jansson, which names no code for that alone. */
static bool is_number_error(const char *text, size_t length, const json_error_t *where)
{
    if (json_error_code(where) == json_error_numeric_overflow)
        return true;
    if (json_error_code(where) != json_error_invalid_syntax)
        return false;
    return strstr(where->text, "NaN") != NULL || strstr(where->text, "Infinity") != NULL ||
           (length > 0 && strstr(where->text, "'-'") != NULL && memchr(text, 'I', length) != NULL);
}

static size_t jansson_flags(unsigned flags)
{
    return ((flags & JSON_TEXT_ANY) != 0 ? (size_t)JSON_DECODE_ANY : 0) |
           ((flags & JSON_TEXT_NUL) != 0 ? (size_t)JSON_ALLOW_NUL : 0) |
           ((flags & JSON_TEXT_REPEATED) != 0 ? 0 : (size_t)JSON_REJECT_DUPLICATES);
}

cohort_status json_text_parse(json_t **out, const char *text, size_t length, const char *origin, int64_t first_line,
                              unsigned flags, cohort_error *err)
{
    json_error_t where = {0};
    struct text rewritten = {0};
    size_t added = 0;
    cohort_status status = COHORT_OK;
    if (first_line == 1 && length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        length -= 3;
    }
    *out = load(length == 0 ? "" : text, length, jansson_flags(flags), &where);
    if (*out == NULL && is_number_error(text, length, &where)) {
        struct rewriting r = {.text = text, .length = length, .flags = flags, .out = &rewritten, .stop = SIZE_MAX};
        TRY_GOTO(rewrite(&r, err));
        *out = load(rewritten.data, rewritten.length, jansson_flags(flags), &where);
        if (*out == NULL && where.position > 0) {
            r.at = r.written = r.added = 0;
            r.out = NULL;
            r.stop = (size_t)where.position;
            TRY_GOTO(rewrite(&r, err));
            added = r.added;
        }
    }
    if (*out != NULL)
        goto cleanup;
    const int64_t line = first_line + (where.line > 0 ? where.line - 1 : 0);
    if (json_error_code(&where) == json_error_out_of_memory) {
        status = error_set(err, COHORT_ERR_MEMORY, "%s: out of memory while reading JSON", origin);
    } else {
        int64_t column = (int64_t)where.column - (int64_t)added;
        status = error_set(err, COHORT_ERR_FORMAT, "%s:%lld:%lld: %s", origin, (long long)line,
                           (long long)(column > 0 ? column : 1), where.text);
    }
cleanup:
    text_free(&rewritten);
    return status;
}

cohort_status json_text_read(json_t **out, const char *path, size_t limit, unsigned flags, cohort_error *err)
{
    struct text content = {0};
    *out = NULL;
    cohort_status status = file_read(path, limit, &content, err);
    if (status == COHORT_OK) {
        status = json_text_parse(out, content.data, content.length, path, 1, flags, err);
        const char *found = wrong_file(content.data, content.length, WRONG_FILE_JSON);
        if (status == COHORT_ERR_FORMAT && found != NULL)
            status = error_set(err, status, "%s: %s", path, found);
    }
    text_free(&content);
    return status;
}

/* ---- writing ---- */

struct writing {
    struct text *out;
    cohort_error *err;
    cohort_status status; /* jansson passes over some of our failures */
};

static int write_piece(const char *bytes, size_t length, void *context)
{
    struct writing *w = context;
    if (w->status == COHORT_OK)
        w->status = text_append(w->out, bytes, length, w->err);
    return w->status == COHORT_OK ? 0 : -1;
}

cohort_status json_text_write(const json_t *json, size_t jansson_flags, struct text *out, cohort_error *err)
{
    struct writing w = {.out = out, .err = err};
    const size_t before = out->length;
    if (json == NULL) /* what could not be built */
        return error_set(err, COHORT_ERR_MEMORY, "out of memory while building JSON");
    struct number_scope scope = number_scope_begin();
    int code = json_dump_callback(json, write_piece, &w, jansson_flags);
    number_scope_end(scope);
    if (w.status == COHORT_OK && code != 0)
        w.status = error_set(err, COHORT_ERR_MEMORY, "out of memory while writing JSON");
    if (w.status != COHORT_OK && out->data != NULL) {
        out->length = before;
        out->data[before] = '\0';
    }
    return w.status;
}

/* ---- places in a text ---- */

/* The byte behind the string that begins at byte at; length if it does not end. */
static size_t string_end(const char *text, size_t length, size_t at)
{
    for (at++; at < length; at++) {
        if (text[at] == '"')
            return at + 1;
        at += text[at] == '\\';
    }
    return length;
}

bool json_text_member(const char *json, size_t length, const char *key, size_t *from, size_t *to)
{
    const size_t n = strlen(key);
    int depth = 0;
    bool ours = false, named = false, found = false; /* the last string at depth 1 is the key; its value comes */
    size_t begin = 0;
    for (size_t i = 0; i < length; i++) {
        const char c = json[i];
        if (c == '"') {
            const size_t end = string_end(json, length, i);
            if (depth == 1 && !named)
                ours = end - i == n + 2 && memcmp(json + i + 1, key, n) == 0;
            i = end - 1;
        } else if (c == ':' && depth == 1) {
            named = true;
            begin = i + 1;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == ',' && depth == 1) || c == '}' || c == ']') {
            if (depth == 1 && ours && named) {
                *from = begin;
                *to = i;
                found = true;
            }
            named = named && depth > 1;
            depth -= c != ',';
        }
    }
    return found;
}

size_t json_text_end(const char *text, size_t length, size_t at)
{
    int64_t depth = 0;
    while (at < length) {
        const char c = text[at];
        if (c == '"') {
            at = string_end(text, length, at);
            continue;
        }
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        at++;
        if (depth == 0)
            return at;
    }
    return 0;
}

void json_text_add(json_t **list, json_t *value)
{
    if (json_array_append_new(*list, value) == 0)
        return;
    json_decref(*list);
    *list = NULL;
}

void json_text_set(json_t **object, const char *key, json_t *value)
{
    if (json_object_set_new(*object, key, value) == 0)
        return;
    json_decref(*object);
    *object = NULL;
}

json_t *json_text_value(const char *text, size_t length)
{
    json_t *json = json_stringn(length == 0 ? "" : text, length);
    if (json != NULL)
        return json;
    struct text clean = {0};
    bool good = text_append(&clean, "", 0, NULL) == COHORT_OK;
    while (good && length > 0) {
        const size_t valid = utf8_check(text, length);
        good = text_append(&clean, text, valid, NULL) == COHORT_OK &&
               (valid == length || text_append(&clean, "\xef\xbf\xbd", 3, NULL) == COHORT_OK);
        const size_t used = valid == length ? valid : valid + 1;
        text += used;
        length -= used;
    }
    json = good ? json_stringn(clean.data, clean.length) : NULL;
    text_free(&clean);
    return json;
}

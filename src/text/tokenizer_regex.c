/* Regular expressions of tokenizer.json. They are in the dialect of Oniguruma, which Hugging Face runs them with; PCRE2
 * reads nearly all of it alike. What it would read otherwise is translated here, or refused. */
#include "text/tokenizer_internal.h"

#include <string.h>

/* Oniguruma's \s is White_Space. PCRE2's has U+180E besides, which lost the property in
 * Unicode 6.3. */
static const char WHITE_SPACE[] = "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
                                  "\\x{202f}\\x{205f}\\x{3000}";

static cohort_status append(struct text *text, const char *piece, cohort_error *err)
{
    return text_append(text, piece, strlen(piece), err);
}

/* \p{L} or \p{N} with the code points that the library may not know; outside a class also their
 * complements. */
static cohort_status append_property(struct text *out, bool negated, char property, bool in_class, cohort_error *err)
{
    const uint32_t(*ranges)[2] = property == 'L' ? char_new_letters : char_new_numbers;
    size_t count = property == 'L' ? char_n_new_letters : char_n_new_numbers;
    if (!in_class)
        TRY(append(out, negated ? "[^" : "[", err));
    TRY(text_printf(out, err, "\\p{%c}", property));
    for (size_t i = 0; i < count; i++)
        TRY(text_printf(out, err, "\\x{%x}-\\x{%x}", (unsigned)ranges[i][0], (unsigned)ranges[i][1]));
    return in_class ? COHORT_OK : append(out, "]", err);
}

static cohort_status translate_escape(struct text *out, char escaped, bool in_class, const char *place,
                                      cohort_error *err)
{
    if (escaped == 's' && in_class)
        return append(out, WHITE_SPACE, err);
    if (escaped == 's' || (escaped == 'S' && !in_class)) {
        TRY(append(out, escaped == 's' ? "[" : "[^", err));
        TRY(append(out, WHITE_SPACE, err));
        return append(out, "]", err);
    }
    /* Letters that mean one thing in Oniguruma and another in PCRE2. \S in a class would need a
     * difference of sets. */
    const char *differing = in_class ? "SwWhHRXKGbB" : "wWbBhHRXKGQECNgk";
    if (escaped != '\0' && strchr(differing, escaped) != NULL)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: the regex has \\%c%s, which is not supported", place,
                         escaped, in_class ? " within a character class" : "");
    char copy[2] = {'\\', escaped};
    return text_append(out, copy, 2, err);
}

static cohort_status translate(struct text *out, const char *pattern, size_t length, const char *place,
                               cohort_error *err)
{
    bool in_class = false;
    size_t class_start = 0; /* where a ']' would be a plain character */
    for (size_t i = 0; i < length; i++) {
        char c = pattern[i];
        if (c == '\\' && i + 1 < length) {
            i++;
            bool negated = pattern[i] == 'P';
            if ((pattern[i] == 'p' || (negated && !in_class)) && length - i > 3 && pattern[i + 1] == '{' &&
                (pattern[i + 2] == 'L' || pattern[i + 2] == 'N') && pattern[i + 3] == '}') {
                TRY(append_property(out, negated, pattern[i + 2], in_class, err));
                i += 3;
                continue;
            }
            TRY(translate_escape(out, pattern[i], in_class, place, err));
            continue;
        }
        if (in_class) {
            if (c == '[' || (c == '&' && i + 1 < length && pattern[i + 1] == '&'))
                return error_set(err, COHORT_ERR_UNSUPPORTED,
                                 "%s: the regex has sets within a character class at "
                                 "byte %zu, which is not supported",
                                 place, i);
            in_class = c != ']' || i == class_start;
        } else if (c == '[') {
            in_class = true;
            class_start = i + 1;
            if (i + 1 < length && pattern[i + 1] == '^') {
                TRY(text_append(out, &c, 1, err));
                c = '^';
                i++;
                class_start++;
            }
        } else if (c == '(' && i + 1 < length && pattern[i + 1] == '*') {
            return error_set(err, COHORT_ERR_UNSUPPORTED,
                             "%s: the regex has \"(*\" at byte %zu, which is not supported", place, i);
        }
        TRY(text_append(out, &c, 1, err));
    }
    return COHORT_OK;
}

cohort_status regex_compile(pcre2_code **out, const char *pattern, size_t length, bool literal, const char *origin,
                            const char *place, cohort_error *err)
{
    struct text translated = {0}, where = {0};
    pcre2_compile_context *context = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    TRY_GOTO(text_printf(&where, err, "%s: %s", origin, place));
    if (utf8_check(pattern, length) != length) {
        status = error_set(err, COHORT_ERR_FORMAT, "%s: the regex is not UTF-8", where.data);
        goto cleanup;
    }
    if (literal)
        TRY_GOTO(text_append(&translated, pattern, length, err));
    else
        TRY_GOTO(translate(&translated, pattern, length, where.data, err));
    context = pcre2_compile_context_create(NULL);
    if (context == NULL) {
        status = error_set(err, COHORT_ERR_MEMORY, "cannot allocate a regex context");
        goto cleanup;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code = 0;
    PCRE2_SIZE at = 0;
    const uint32_t options = PCRE2_UTF | PCRE2_NO_UTF_CHECK;
    /* In Oniguruma's Ruby syntax ^ and $ match at lines. */
    *out = pcre2_compile((PCRE2_SPTR)(translated.data == NULL ? "" : translated.data), translated.length,
                         literal ? options | PCRE2_LITERAL
                                 : options | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                         &code, &at, context);
    if (*out == NULL) {
        PCRE2_UCHAR reason[160];
        pcre2_get_error_message(code, reason, sizeof reason);
        status =
            error_set(err, COHORT_ERR_FORMAT, "%s: the regex does not compile: %s", where.data, (const char *)reason);
        goto cleanup;
    }
    /* Where the machine has no JIT, matching is slower and gives the same. */
    (void)pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE);
cleanup:
    pcre2_compile_context_free(context);
    text_free(&translated);
    text_free(&where);
    return status;
}

/* ---- matching ---- */

void regex_run_free(struct regex_run *run)
{
    pcre2_match_data_free(run->match);
    pcre2_match_context_free(run->context);
    memset(run, 0, sizeof *run);
}

static cohort_status prepare(struct regex_run *run, cohort_error *err)
{
    if (run->context != NULL)
        return COHORT_OK;
    run->match = pcre2_match_data_create(1, NULL);
    run->context = run->match == NULL ? NULL : pcre2_match_context_create(NULL);
    if (run->context == NULL) {
        regex_run_free(run);
        return error_set(err, COHORT_ERR_MEMORY, "cannot allocate regex match data");
    }
    /* A hostile pattern fails instead of running for ever. */
    pcre2_set_match_limit(run->context, 10000000);
    pcre2_set_heap_limit(run->context, 1 << 20); /* KiB */
    return COHORT_OK;
}

static int match_at(struct regex_run *run, const pcre2_code *code, const char *text, size_t length, size_t start)
{
    int n = pcre2_match(code, (PCRE2_SPTR)text, length, start, PCRE2_NO_UTF_CHECK, run->match, run->context);
    /* The interpreter keeps its state on the heap, so deep backtracking costs time there instead of
     * failing. */
    if (n == PCRE2_ERROR_JIT_STACKLIMIT)
        n = pcre2_match(code, (PCRE2_SPTR)text, length, start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, run->match,
                        run->context);
    return n;
}

cohort_status regex_next(struct regex_run *run, const pcre2_code *code, const char *text, size_t length,
                         struct regex_cursor *cursor, bool *found, size_t *from, size_t *to, cohort_error *err)
{
    *found = false;
    TRY(prepare(run, err));
    while (cursor->start <= length) {
        int n = match_at(run, code, text, length, cursor->start);
        if (n == PCRE2_ERROR_NOMATCH)
            break;
        if (n < 0) {
            PCRE2_UCHAR reason[160];
            pcre2_get_error_message(n, reason, sizeof reason);
            return error_set(err, COHORT_ERR_FORMAT,
                             "the tokenizer's split regex fails at byte %zu of a piece of %zu bytes: %s", cursor->start,
                             length, (const char *)reason);
        }
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(run->match);
        *from = span[0];
        *to = span[1];
        /* \K in a lookaround can give a span that runs backwards or overlaps; the pattern is the file's. */
        if (*from < (cursor->last_end == SIZE_MAX ? 0 : cursor->last_end) || *to < *from || *to > length)
            return error_set(err, COHORT_ERR_FORMAT, "the tokenizer's split regex gives overlapping matches");
        const bool touches = *from == *to && *from == cursor->last_end;
        cursor->last_end = cursor->start = *to;
        if (*from == *to) {
            uint32_t skipped = 0;
            cursor->start = *to == length ? length + 1 : *to + utf8_decode(text + *to, &skipped);
        }
        if (!touches) {
            *found = true;
            return COHORT_OK;
        }
    }
    cursor->start = length + 1;
    return COHORT_OK;
}

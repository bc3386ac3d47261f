/* The split regex. tokenizer.json's pattern is in the dialect of Oniguruma, which Hugging Face runs
 * it with; PCRE2 reads nearly all of it alike. What it would read otherwise is translated here, or
 * refused. */
#include "format/tokenizer_internal.h"

#include <string.h>

/* Oniguruma's \s is White_Space. PCRE2's has U+180E besides, which lost the property in
 * Unicode 6.3. */
static const char WHITE_SPACE[] =
    "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
    "\\x{202f}\\x{205f}\\x{3000}";

static cohort_status append(struct text *text, const char *piece, cohort_error *err)
{
    return text_append(text, piece, strlen(piece), err);
}

static cohort_status translate_escape(struct text *out, char escaped, bool in_class,
                                      const char *origin, cohort_error *err)
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
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: pre_tokenizer: the split regex has \\%c%s, which is not supported",
                         origin, escaped, in_class ? " within a character class" : "");
    char copy[2] = {'\\', escaped};
    return text_append(out, copy, 2, err);
}

static cohort_status translate(struct text *out, const char *pattern, size_t length,
                               const char *origin, cohort_error *err)
{
    bool in_class = false;
    size_t class_start = 0; /* where a ']' would be a plain character */
    for (size_t i = 0; i < length; i++) {
        char c = pattern[i];
        if (c == '\\' && i + 1 < length) {
            TRY(translate_escape(out, pattern[++i], in_class, origin, err));
            continue;
        }
        if (in_class) {
            if (c == '[' || (c == '&' && i + 1 < length && pattern[i + 1] == '&'))
                return error_set(
                    err, COHORT_ERR_UNSUPPORTED,
                    "%s: pre_tokenizer: the split regex has sets within a character class at "
                    "byte %zu, which is not supported",
                    origin, i);
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
            return error_set(
                err, COHORT_ERR_UNSUPPORTED,
                "%s: pre_tokenizer: the split regex has \"(*\" at byte %zu, which is not supported",
                origin, i);
        }
        TRY(text_append(out, &c, 1, err));
    }
    return COHORT_OK;
}

cohort_status split_compile(pcre2_code **out, const char *pattern, size_t length,
                            const char *origin, cohort_error *err)
{
    struct text translated = {0};
    pcre2_compile_context *context = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    if (utf8_check(pattern, length) != length) {
        status = error_set(err, COHORT_ERR_FORMAT,
                           "%s: pre_tokenizer: the split regex is not UTF-8", origin);
        goto cleanup;
    }
    TRY_GOTO(translate(&translated, pattern, length, origin, err));
    context = pcre2_compile_context_create(NULL);
    if (context == NULL) {
        status = error_set(err, COHORT_ERR_MEMORY, "cannot allocate a regex context");
        goto cleanup;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code = 0;
    PCRE2_SIZE at = 0;
    /* In Oniguruma's Ruby syntax ^ and $ match at lines. */
    *out = pcre2_compile(
        (PCRE2_SPTR)(translated.data == NULL ? "" : translated.data), translated.length,
        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_UTF_CHECK,
        &code, &at, context);
    if (*out == NULL) {
        PCRE2_UCHAR reason[160];
        pcre2_get_error_message(code, reason, sizeof reason);
        status = error_set(err, COHORT_ERR_FORMAT,
                           "%s: pre_tokenizer: the split regex does not compile: %s", origin,
                           (const char *)reason);
        goto cleanup;
    }
    /* Where the machine has no JIT, matching is slower and gives the same. */
    (void)pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE);
cleanup:
    pcre2_compile_context_free(context);
    text_free(&translated);
    return status;
}

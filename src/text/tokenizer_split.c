/* The split regex. tokenizer.json's pattern is in the dialect of Oniguruma, which Hugging Face runs
 * it with; PCRE2 reads nearly all of it alike. What it would read otherwise is translated here, or
 * refused. */
#include "text/tokenizer_internal.h"

#include <string.h>

/* Oniguruma's \s is White_Space. PCRE2's has U+180E besides, which lost the property in
 * Unicode 6.3. */
static const char WHITE_SPACE[] = "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
                                  "\\x{202f}\\x{205f}\\x{3000}";

/* Letters and numbers that Unicode 15 to 16 added. Oniguruma (of tokenizers 0.23) has them, the
 * PCRE2 at hand may be older (10.42: Unicode 14), and ids must not depend on that. Adding them to a
 * newer \p{L} changes nothing. Made by oracle/tokenizer_hf.py --ranges. */
static const uint32_t NEW_LETTERS[][2] = {
    {0x1c89, 0x1c8a},   {0xa7cb, 0xa7cd},   {0xa7da, 0xa7dc},   {0x105c0, 0x105f3}, {0x10d4a, 0x10d65},
    {0x10d6f, 0x10d85}, {0x10ec2, 0x10ec4}, {0x1123f, 0x11240}, {0x11380, 0x11389}, {0x1138b, 0x1138b},
    {0x1138e, 0x1138e}, {0x11390, 0x113b5}, {0x113b7, 0x113b7}, {0x113d1, 0x113d1}, {0x113d3, 0x113d3},
    {0x11bc0, 0x11be0}, {0x11f02, 0x11f02}, {0x11f04, 0x11f10}, {0x11f12, 0x11f33}, {0x1342f, 0x1342f},
    {0x13441, 0x13446}, {0x13460, 0x143fa}, {0x16100, 0x1611d}, {0x16d40, 0x16d6c}, {0x18cff, 0x18cff},
    {0x1b132, 0x1b132}, {0x1b155, 0x1b155}, {0x1df25, 0x1df2a}, {0x1e030, 0x1e06d}, {0x1e4d0, 0x1e4eb},
    {0x1e5d0, 0x1e5ed}, {0x1e5f0, 0x1e5f0}, {0x2b739, 0x2b739}, {0x2ebf0, 0x2ee5d}, {0x31350, 0x323af},
};
static const uint32_t NEW_NUMBERS[][2] = {
    {0x10d40, 0x10d49}, {0x116d0, 0x116e3}, {0x11bf0, 0x11bf9}, {0x11f50, 0x11f59}, {0x16130, 0x16139},
    {0x16d70, 0x16d79}, {0x1ccf0, 0x1ccf9}, {0x1d2c0, 0x1d2d3}, {0x1e4f0, 0x1e4f9}, {0x1e5f1, 0x1e5fa},
};

static cohort_status append(struct text *text, const char *piece, cohort_error *err)
{
    return text_append(text, piece, strlen(piece), err);
}

/* \p{L} or \p{N} with the code points that the library may not know; outside a class also their
 * complements. */
static cohort_status append_property(struct text *out, bool negated, char property, bool in_class, cohort_error *err)
{
    const uint32_t(*ranges)[2] = property == 'L' ? NEW_LETTERS : NEW_NUMBERS;
    size_t count =
        property == 'L' ? sizeof NEW_LETTERS / sizeof NEW_LETTERS[0] : sizeof NEW_NUMBERS / sizeof NEW_NUMBERS[0];
    if (!in_class)
        TRY(append(out, negated ? "[^" : "[", err));
    TRY(text_printf(out, err, "\\p{%c}", property));
    for (size_t i = 0; i < count; i++)
        TRY(text_printf(out, err, "\\x{%x}-\\x{%x}", (unsigned)ranges[i][0], (unsigned)ranges[i][1]));
    return in_class ? COHORT_OK : append(out, "]", err);
}

static cohort_status translate_escape(struct text *out, char escaped, bool in_class, const char *origin,
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
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: pre_tokenizer: the split regex has \\%c%s, which is not supported", origin, escaped,
                         in_class ? " within a character class" : "");
    char copy[2] = {'\\', escaped};
    return text_append(out, copy, 2, err);
}

static cohort_status translate(struct text *out, const char *pattern, size_t length, const char *origin,
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
            TRY(translate_escape(out, pattern[i], in_class, origin, err));
            continue;
        }
        if (in_class) {
            if (c == '[' || (c == '&' && i + 1 < length && pattern[i + 1] == '&'))
                return error_set(err, COHORT_ERR_UNSUPPORTED,
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
            return error_set(err, COHORT_ERR_UNSUPPORTED,
                             "%s: pre_tokenizer: the split regex has \"(*\" at byte %zu, which is not supported",
                             origin, i);
        }
        TRY(text_append(out, &c, 1, err));
    }
    return COHORT_OK;
}

cohort_status split_compile(pcre2_code **out, const char *pattern, size_t length, const char *origin, cohort_error *err)
{
    struct text translated = {0};
    pcre2_compile_context *context = NULL;
    cohort_status status = COHORT_OK;
    *out = NULL;
    if (utf8_check(pattern, length) != length) {
        status = error_set(err, COHORT_ERR_FORMAT, "%s: pre_tokenizer: the split regex is not UTF-8", origin);
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
    *out = pcre2_compile((PCRE2_SPTR)(translated.data == NULL ? "" : translated.data), translated.length,
                         PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_UTF_CHECK, &code,
                         &at, context);
    if (*out == NULL) {
        PCRE2_UCHAR reason[160];
        pcre2_get_error_message(code, reason, sizeof reason);
        status = error_set(err, COHORT_ERR_FORMAT, "%s: pre_tokenizer: the split regex does not compile: %s", origin,
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

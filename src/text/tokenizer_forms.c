/* Unicode's normal forms. utf8proc does the work; what differs from Hugging Face's tables, which are those of Unicode 9,
 * is kept from it. */
#include "text/tokenizer_internal.h"

#include <string.h>
#include <utf8proc.h>

void form_buffer_free(struct form_buffer *buffer)
{
    mem_free(buffer->code_points);
    text_free(&buffer->text);
    memset(buffer, 0, sizeof *buffer);
}

/* Marks that Unicode has had since version 10. Hugging Face's NFC has the tables of version 9, where they are
 * characters like any other: they stay where they are. Ids must be those that it gives, also with a newer utf8proc.
 * Made by oracle/tokenizer_hf.py --marks. */
static const uint32_t NEW_MARKS[][2] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},     {0xc3c, 0xc3c},
    {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},   {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},
    {0xa82c, 0xa82c},   {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50},
    {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a},
    {0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47},
    {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42},
    {0x16ff0, 0x16ff1}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef},
    {0x1e4ec, 0x1e4ef},
};
/* Of Unicode 13: U+11935 U+11930 composed. */
enum { NEW_COMPOSED = 0x11938, NEW_SECOND = 0x11930 };
/* Characters that got a compatibility decomposition later than in version 9: they stay what they are. Made by
 * oracle/tokenizer_classes.py. */
static const uint32_t NEW_COMPATIBLE[][2] = {
    {0x32ff, 0x32ff},   {0xa7f2, 0xa7f4},   {0xab69, 0xab69},   {0x10781, 0x10785}, {0x10787, 0x107b0},
    {0x107b2, 0x107ba}, {0x1e030, 0x1e06d}, {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9},
};

static bool is_new_mark(int32_t code_point)
{
    return char_in_ranges(NEW_MARKS, sizeof NEW_MARKS / sizeof NEW_MARKS[0], (uint32_t)code_point);
}

static int combining_class(int32_t code_point)
{
    int order = utf8proc_get_property(code_point)->combining_class;
    return order != 0 && is_new_mark(code_point) ? 0 : order;
}

/* Whether code_point is a starter that composes with nothing where utf8proc holds otherwise. U+11A7 is one: it lies
 * before Hangul's finals, and utf8proc takes it for one, so that U+AC00 U+11A7 would become U+AC00
 * (JuliaStrings/utf8proc#317). What stands before it and behind it can be composed apart. */
static bool composes_apart(int32_t code_point)
{
    return code_point == 0x11A7 || code_point == NEW_SECOND ||
           (utf8proc_get_property(code_point)->combining_class != 0 && is_new_mark(code_point));
}

/* Sorts a run of marks by combining class, keeping the order of equal ones. utf8proc's own ordering
 * is a bubble sort, quadratic on the long runs that hostile text has; long runs are counted here
 * instead. */
static cohort_status order_marks(int32_t *marks, size_t count, cohort_error *err)
{
    if (count <= 32) {
        for (size_t i = 1; i < count; i++) {
            int32_t mark = marks[i];
            int order = combining_class(mark);
            size_t k = i;
            for (; k > 0 && combining_class(marks[k - 1]) > order; k--)
                marks[k] = marks[k - 1];
            marks[k] = mark;
        }
        return COHORT_OK;
    }
    size_t starts[257] = {0};
    for (size_t i = 0; i < count; i++)
        starts[(combining_class(marks[i]) & 0xFF) + 1]++;
    for (size_t order = 0; order < 256; order++)
        starts[order + 1] += starts[order];
    int32_t *sorted = NULL;
    TRY(mem_alloc(&sorted, count, sizeof *sorted, "combining marks", err));
    for (size_t i = 0; i < count; i++)
        sorted[starts[combining_class(marks[i]) & 0xFF]++] = marks[i];
    memcpy(marks, sorted, count * sizeof *marks);
    mem_free(sorted);
    return COHORT_OK;
}

/* Composes *count decomposed code points where they are. */
static cohort_status compose(int32_t *code_points, size_t *count, cohort_error *err)
{
    size_t kept = 0;
    for (size_t i = 0; i < *count;) {
        size_t end = i;
        while (end < *count && !composes_apart(code_points[end]))
            end++;
        utf8proc_ssize_t n = 0;
        if (end > i)
            n = utf8proc_normalize_utf32(code_points + i, (utf8proc_ssize_t)(end - i),
                                         UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (n < 0)
            return error_set(err, COHORT_ERR_INTERNAL, "cannot normalise text: %s", utf8proc_errmsg(n));
        memmove(code_points + kept, code_points + i, (size_t)n * sizeof *code_points);
        kept += (size_t)n;
        if (end < *count)
            code_points[kept++] = code_points[end];
        i = end + 1;
    }
    *count = kept;
    return COHORT_OK;
}

/* One character decomposed to where it has room for MOST code points; their number, or less than 0. */
enum { MOST = 32 }; /* 18 in Unicode 15 */
static utf8proc_ssize_t decompose(enum normal_form form, int32_t code_point, int32_t *to)
{
    int boundary = 0;
    bool compatible = form == FORM_NFKC || form == FORM_NFKD;
    if (code_point == NEW_COMPOSED ||
        (compatible &&
         char_in_ranges(NEW_COMPATIBLE, sizeof NEW_COMPATIBLE / sizeof NEW_COMPATIBLE[0], (uint32_t)code_point))) {
        to[0] = code_point;
        return 1;
    }
    int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    if (compatible)
        options |= UTF8PROC_COMPAT;
    return utf8proc_decompose_char(code_point, to, MOST, (utf8proc_option_t)options, &boundary);
}

/* Appends the form of text to out. */
static cohort_status append_form(enum normal_form form, const char *text, size_t length, struct form_buffer *buffer,
                                 struct text *out, cohort_error *err)
{
    size_t count = 0, run = 0; /* run: where the marks since the last starter begin */
    for (size_t i = 0; i < length;) {
        uint32_t code_point = 0;
        i += utf8_decode(text + i, &code_point);
        TRY(mem_grow(&buffer->code_points, &buffer->capacity, count + MOST + 1, sizeof *buffer->code_points,
                     "text to normalise", err));
        utf8proc_ssize_t n = decompose(form, (int32_t)code_point, buffer->code_points + count);
        if (n < 0 || n > MOST)
            return error_set(err, COHORT_ERR_INTERNAL, "cannot normalise U+%04X: %s", (unsigned)code_point,
                             n < 0 ? utf8proc_errmsg(n) : "decomposition too long");
        for (utf8proc_ssize_t k = 0; k < n; k++, count++) {
            if (combining_class(buffer->code_points[count]) != 0)
                continue;
            TRY(order_marks(buffer->code_points + run, count - run, err));
            run = count + 1;
        }
    }
    TRY(order_marks(buffer->code_points + run, count - run, err));
    if (form == FORM_NFC || form == FORM_NFKC)
        TRY(compose(buffer->code_points, &count, err));
    TRY(mem_grow(&out->data, &out->capacity, out->length + count * 4 + 1, 1, "normalised text", err));
    for (size_t i = 0; i < count; i++)
        out->length += utf8_encode((uint32_t)buffer->code_points[i], out->data + out->length);
    out->data[out->length] = '\0';
    return COHORT_OK;
}

cohort_status form_normalize(enum normal_form form, const char *text, size_t length, struct form_buffer *buffer,
                             const char **normal, size_t *normal_length, cohort_error *err)
{
    size_t ascii = 0;
    *normal = text;
    *normal_length = length;
    while (ascii < length && (unsigned char)text[ascii] < 0x80)
        ascii++;
    if (ascii == length)
        return COHORT_OK;
    buffer->text.length = 0;
    TRY(append_form(form, text, length, buffer, &buffer->text, err));
    *normal = buffer->text.data;
    *normal_length = buffer->text.length;
    return COHORT_OK;
}

void nfc_table_fill(unsigned char *table)
{
    int32_t parts[MOST];
    for (int32_t c = 0; c < CHAR_TABLED; c++)
        table[c] = c >= 0x1160 && c <= 0x11FF ? NFC_UNSURE : (unsigned char)combining_class(c);
    /* All of Unicode, in which every pair that composes is a decomposition. */
    for (int32_t c = 0; c < 0x30000; c++) {
        if ((c >= 0xAC00 && c < 0xE000) || utf8proc_get_property(c)->decomp_seqindex == UINT16_MAX)
            continue;
        utf8proc_ssize_t n = decompose(FORM_NFC, c, parts);
        if (n < 1 || (n == 1 && parts[0] == c))
            continue;
        if (n > 1 && parts[n - 1] < CHAR_TABLED)
            table[parts[n - 1]] = NFC_UNSURE; /* it may compose with what stands before it */
        size_t count = (size_t)n;
        if (c < CHAR_TABLED && (compose(parts, &count, NULL) != COHORT_OK || count != 1 || parts[0] != c))
            table[c] = NFC_UNSURE; /* a singleton, or what is never composed */
    }
}

/* What the table says of a character, with those beyond it. */
static unsigned nfc_of(const unsigned char *table, uint32_t code_point)
{
    if (code_point < CHAR_TABLED)
        return table[code_point];
    return code_point < 0x30000 && utf8proc_get_property((int32_t)code_point)->decomp_seqindex == UINT16_MAX
               ? 0
               : NFC_UNSURE;
}

cohort_status nfc_normalize(const unsigned char *table, const char *text, size_t length, struct form_buffer *buffer,
                            struct text *out, const char **normal, size_t *normal_length, cohort_error *err)
{
    size_t copied = 0, start = 0; /* start: of the character that may be cut before */
    unsigned last = 0;
    *normal = text;
    *normal_length = length;
    out->length = 0;
    for (size_t i = 0; i < length;) {
        uint32_t code_point = 0;
        if ((unsigned char)text[i] < 0xCC) { /* below U+0300 */
            uint64_t eight = 0;
            last = 0;
            start = i;
            i += (unsigned char)text[i] < 0x80 ? 1 : 2;
            while (length - i > sizeof eight) {
                memcpy(&eight, text + i, sizeof eight);
                if ((eight & 0x8080808080808080u) != 0)
                    break;
                i += sizeof eight;
                start = i - 1;
            }
            continue;
        }
        size_t n = utf8_decode(text + i, &code_point);
        unsigned what = nfc_of(table, code_point);
        if (what == 0) {
            last = 0;
            start = i;
            i += n;
            continue;
        }
        if (what != NFC_UNSURE && what >= last) {
            last = what;
            i += n;
            continue;
        }
        /* From the last character that text may be cut before to the next one. */
        size_t end = i + n;
        while (end < length && nfc_of(table, (n = utf8_decode(text + end, &code_point), code_point)) != 0)
            end += n;
        TRY(text_append(out, text + copied, start - copied, err));
        TRY(append_form(FORM_NFC, text + start, end - start, buffer, out, err));
        copied = start = i = end;
        last = 0;
    }
    if (copied == 0)
        return COHORT_OK;
    TRY(text_append(out, text + copied, length - copied, err));
    *normal = out->data;
    *normal_length = out->length;
    return COHORT_OK;
}

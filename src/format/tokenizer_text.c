/* UTF-8, the byte-level alphabet and NFC. */
#include "format/tokenizer_internal.h"

#include <string.h>
#include <utf8proc.h>

size_t utf8_check(const char *text, size_t length)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    while (i < length) {
        unsigned char lead = s[i];
        if (lead < 0x80) {
            i++;
            continue;
        }
        /* Table 3-7 of the Unicode standard: only the second byte's range depends on the first. */
        unsigned char low = 0x80, high = 0xBF;
        size_t more = 0;
        if (lead >= 0xC2 && lead <= 0xDF)
            more = 1;
        else if (lead >= 0xE0 && lead <= 0xEF)
            more = 2;
        else if (lead >= 0xF0 && lead <= 0xF4)
            more = 3;
        else
            return i;
        if (lead == 0xE0)
            low = 0xA0;
        else if (lead == 0xED)
            high = 0x9F;
        else if (lead == 0xF0)
            low = 0x90;
        else if (lead == 0xF4)
            high = 0x8F;
        if (length - i <= more || s[i + 1] < low || s[i + 1] > high)
            return i;
        for (size_t k = 2; k <= more; k++)
            if ((s[i + k] & 0xC0) != 0x80)
                return i;
        i += more + 1;
    }
    return length;
}

size_t utf8_decode(const char *text, uint32_t *code_point)
{
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) {
        *code_point = s[0];
        return 1;
    }
    if (s[0] < 0xE0) {
        *code_point = (uint32_t)(s[0] & 0x1F) << 6 | (uint32_t)(s[1] & 0x3F);
        return 2;
    }
    if (s[0] < 0xF0) {
        *code_point =
            (uint32_t)(s[0] & 0x0F) << 12 | (uint32_t)(s[1] & 0x3F) << 6 | (uint32_t)(s[2] & 0x3F);
        return 3;
    }
    *code_point = (uint32_t)(s[0] & 0x07) << 18 | (uint32_t)(s[1] & 0x3F) << 12 |
                  (uint32_t)(s[2] & 0x3F) << 6 | (uint32_t)(s[3] & 0x3F);
    return 4;
}

size_t utf8_encode(uint32_t code_point, char *to)
{
    unsigned char *s = (unsigned char *)to;
    if (code_point < 0x80) {
        s[0] = (unsigned char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        s[0] = (unsigned char)(0xC0 | code_point >> 6);
        s[1] = (unsigned char)(0x80 | (code_point & 0x3F));
        return 2;
    }
    if (code_point < 0x10000) {
        s[0] = (unsigned char)(0xE0 | code_point >> 12);
        s[1] = (unsigned char)(0x80 | (code_point >> 6 & 0x3F));
        s[2] = (unsigned char)(0x80 | (code_point & 0x3F));
        return 3;
    }
    s[0] = (unsigned char)(0xF0 | code_point >> 18);
    s[1] = (unsigned char)(0x80 | (code_point >> 12 & 0x3F));
    s[2] = (unsigned char)(0x80 | (code_point >> 6 & 0x3F));
    s[3] = (unsigned char)(0x80 | (code_point & 0x3F));
    return 4;
}

/* GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards in
 * their order. */
uint32_t byte_level_char(unsigned char byte)
{
    if (byte <= 0x20)
        return 0x100u + byte;
    if (byte >= 0x7F && byte <= 0xA0)
        return 0x121u + (uint32_t)(byte - 0x7F);
    if (byte == 0xAD)
        return 0x143;
    return byte;
}

int32_t byte_level_byte(uint32_t code_point)
{
    if (code_point >= 0x100 && code_point <= 0x120)
        return (int32_t)(code_point - 0x100);
    if (code_point >= 0x121 && code_point <= 0x142)
        return (int32_t)(code_point - 0x121 + 0x7F);
    if (code_point == 0x143)
        return 0xAD;
    if (code_point > 0xFF || byte_level_char((unsigned char)code_point) != code_point)
        return -1;
    return (int32_t)code_point;
}

void nfc_buffer_free(struct nfc_buffer *buffer)
{
    mem_free(buffer->code_points);
    text_free(&buffer->text);
    memset(buffer, 0, sizeof *buffer);
}

static int combining_class(int32_t code_point)
{
    return utf8proc_get_property(code_point)->combining_class;
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

static bool nfc_unchanged(const char *text, size_t length)
{
    /* Everything below U+0300 (lead byte 0xCC) is in NFC, whatever it stands beside. */
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] >= 0xCC)
            return false;
    return true;
}

/* Composes *count decomposed code points where they are. Hangul's syllables and their finals make
 * syllables with finals, and utf8proc takes U+11A7, which lies before the finals, for one: U+AC00
 * U+11A7 would become U+AC00 (JuliaStrings/utf8proc#317). It is a starter that composes with nothing,
 * so that what stands before it and behind it can be composed apart. */
static cohort_status compose(int32_t *code_points, size_t *count, cohort_error *err)
{
    enum { BEFORE_FINALS = 0x11A7 };
    size_t kept = 0;
    for (size_t i = 0; i < *count;) {
        size_t end = i;
        while (end < *count && code_points[end] != BEFORE_FINALS)
            end++;
        utf8proc_ssize_t n = 0;
        if (end > i)
            n = utf8proc_normalize_utf32(code_points + i, (utf8proc_ssize_t)(end - i),
                                         UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (n < 0)
            return error_set(err, COHORT_ERR_INTERNAL, "cannot normalise text: %s",
                             utf8proc_errmsg(n));
        memmove(code_points + kept, code_points + i, (size_t)n * sizeof *code_points);
        kept += (size_t)n;
        if (end < *count)
            code_points[kept++] = BEFORE_FINALS;
        i = end + 1;
    }
    *count = kept;
    return COHORT_OK;
}

cohort_status nfc_normalize(const char *text, size_t length, struct nfc_buffer *buffer,
                            const char **normal, size_t *normal_length, cohort_error *err)
{
    *normal = text;
    *normal_length = length;
    if (nfc_unchanged(text, length))
        return COHORT_OK;

    enum { MOST = 32 }; /* code points one character decomposes into: 4 in Unicode 15 */
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    size_t count = 0, run = 0; /* run: where the marks since the last starter begin */
    for (size_t i = 0; i < length;) {
        uint32_t code_point = 0;
        i += utf8_decode(text + i, &code_point);
        TRY(mem_grow(&buffer->code_points, &buffer->capacity, count + MOST + 1,
                     sizeof *buffer->code_points, "text to normalise", err));
        int boundary = 0;
        utf8proc_ssize_t n = utf8proc_decompose_char(
            (int32_t)code_point, buffer->code_points + count, MOST, options, &boundary);
        if (n < 0 || n > MOST)
            return error_set(err, COHORT_ERR_INTERNAL, "cannot normalise U+%04X: %s",
                             (unsigned)code_point,
                             n < 0 ? utf8proc_errmsg(n) : "decomposition too long");
        for (utf8proc_ssize_t k = 0; k < n; k++, count++) {
            if (combining_class(buffer->code_points[count]) != 0)
                continue;
            TRY(order_marks(buffer->code_points + run, count - run, err));
            run = count + 1;
        }
    }
    TRY(order_marks(buffer->code_points + run, count - run, err));
    TRY(compose(buffer->code_points, &count, err));

    buffer->text.length = 0;
    TRY(mem_grow(&buffer->text.data, &buffer->text.capacity, count * 4 + 1, 1,
                 "normalised text", err));
    for (size_t i = 0; i < count; i++)
        buffer->text.length +=
            utf8_encode((uint32_t)buffer->code_points[i], buffer->text.data + buffer->text.length);
    buffer->text.data[buffer->text.length] = '\0';
    *normal = buffer->text.data;
    *normal_length = buffer->text.length;
    return COHORT_OK;
}

/* Strings while a template is rendered. A string is bytes and, for each of them, who wrote it (its tag): operations
 * that keep bytes keep their tags. Most strings have one tag; others have segments. */
#include "text/jinja_internal.h"

#include <string.h>
#include <utf8proc.h>

/* ---- building ---- */

enum { CHUNK_HEADER = (sizeof(struct jinja_chunk) + 15) / 16 * 16 };

static char *chunk_end(const struct jinja_chunk *chunk)
{
    return (char *)(uintptr_t)chunk + CHUNK_HEADER + chunk->used;
}

/* Adds [.., end) with tag to the scratch segments, joined with the last one where the tag is the same. */
static cohort_status mark(struct jinja_run *run, size_t end, uint8_t tag)
{
    if (run->n_scratch > 0 && run->scratch[run->n_scratch - 1].tag == tag) {
        run->scratch[run->n_scratch - 1].end = end;
        return COHORT_OK;
    }
    TRY(jinja_spend(run, sizeof *run->scratch));
    TRY(mem_grow(&run->scratch, &run->scratch_capacity, run->n_scratch + 1, sizeof *run->scratch, "a chat template",
                 run->err));
    run->scratch[run->n_scratch++] = (struct jinja_segment){.end = end, .tag = tag};
    return COHORT_OK;
}

/* The segment that holds byte at of a string that has segments: the first one that ends behind it. */
static size_t segment_at(const struct jinja_string *string, size_t at)
{
    size_t low = 0, high = string->n_segments - 1;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (string->segments[middle].end > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

void jinja_build(struct jinja_builder *builder, struct jinja_run *run)
{
    struct jinja_chunk *chunk = run->bytes.last;
    *builder = (struct jinja_builder){.run = run};
    run->n_scratch = 0;
    if (chunk != NULL) {
        builder->bytes = chunk_end(chunk);
        builder->room = chunk->capacity - chunk->used;
    }
}

/* A new chunk with room for n bytes more, the string so far moved there. */
static cohort_status grow(struct jinja_builder *builder, size_t n)
{
    struct jinja_arena *arena = &builder->run->bytes;
    char *block = NULL;
    size_t wanted = 0;
    if (__builtin_add_overflow(builder->length, n, &wanted) || wanted > SIZE_MAX / 4)
        return jinja_fail(builder->run, "a string of more bytes than memory has is made");
    TRY(jinja_arena_take(arena, &block, wanted * 2, builder->run->err));
    arena->last->used -= (wanted * 2 + 15) / 16 * 16;
    if (builder->length > 0)
        memcpy(block, builder->bytes, builder->length);
    builder->bytes = block;
    builder->room = arena->last->capacity - arena->last->used;
    return COHORT_OK;
}

cohort_status jinja_build_bytes(struct jinja_builder *builder, const char *bytes, size_t length, uint8_t tag)
{
    if (length == 0)
        return COHORT_OK;
    TRY(jinja_spend(builder->run, length));
    if (builder->room - builder->length < length)
        TRY(grow(builder, length));
    memcpy(builder->bytes + builder->length, bytes, length);
    builder->length += length;
    return mark(builder->run, builder->length, tag);
}

cohort_status jinja_build_part(struct jinja_builder *builder, const struct jinja_string *string, size_t from, size_t to)
{
    if (string->segments == NULL)
        return jinja_build_bytes(builder, string->bytes + from, to - from, string->tag);
    for (size_t i = segment_at(string, from); i < string->n_segments && from < to; i++) {
        const size_t end = string->segments[i].end < to ? string->segments[i].end : to;
        TRY(jinja_build_bytes(builder, string->bytes + from, end - from, string->segments[i].tag));
        from = end;
    }
    return COHORT_OK;
}

cohort_status jinja_build_string(struct jinja_builder *builder, const struct jinja_string *string)
{
    return jinja_build_part(builder, string, 0, string->length);
}

cohort_status jinja_build_character(struct jinja_builder *builder, uint32_t code_point, uint8_t tag)
{
    char bytes[4];
    return jinja_build_bytes(builder, bytes, utf8_encode(code_point, bytes), tag);
}

/* *out = length bytes with the scratch segments. */
static cohort_status make_string(struct jinja_run *run, const char *bytes, size_t length, struct jinja_value *out)
{
    struct jinja_string *string = NULL;
    TRY(jinja_take(run, &string, 1, sizeof *string));
    *string = (struct jinja_string){.bytes = length > 0 ? bytes : "", .length = length, .characters = UNCOUNTED};
    if (run->n_scratch == 1) {
        string->tag = run->scratch[0].tag;
    } else if (run->n_scratch > 1) {
        struct jinja_segment *segments = NULL;
        TRY(jinja_step(run, run->n_scratch / 8));
        TRY(jinja_take(run, &segments, run->n_scratch, sizeof *segments));
        memcpy(segments, run->scratch, run->n_scratch * sizeof *segments);
        string->segments = segments;
        string->n_segments = run->n_scratch;
    }
    *out = jinja_string_value(string);
    return COHORT_OK;
}

cohort_status jinja_build_end(struct jinja_builder *builder, struct jinja_value *out)
{
    struct jinja_run *run = builder->run;
    TRY(jinja_step(run, builder->length / 64));
    if (builder->length > 0)
        run->bytes.last->used += builder->length;
    return make_string(run, builder->bytes, builder->length, out);
}

cohort_status jinja_string_literal(struct jinja_run *run, const char *bytes, size_t length, uint8_t tag,
                                   struct jinja_value *out)
{
    run->n_scratch = 0;
    if (length > 0)
        TRY(mark(run, length, tag));
    return make_string(run, bytes, length, out);
}

/* ---- parts ---- */

uint8_t jinja_tag_at(const struct jinja_string *string, size_t at)
{
    return string->segments == NULL ? string->tag : string->segments[segment_at(string, at)].tag;
}

static cohort_status mark_part(struct jinja_run *run, const struct jinja_string *string, size_t from, size_t to,
                               size_t at)
{
    if (string->segments == NULL)
        return from < to ? mark(run, at + to - from, string->tag) : COHORT_OK;
    for (size_t i = segment_at(string, from); i < string->n_segments && from < to; i++) {
        const size_t end = string->segments[i].end < to ? string->segments[i].end : to;
        at += end - from;
        from = end;
        TRY(mark(run, at, string->segments[i].tag));
    }
    return COHORT_OK;
}

cohort_status jinja_string_part(struct jinja_run *run, const struct jinja_string *string, size_t from, size_t to,
                                struct jinja_value *out)
{
    if (from == 0 && to == string->length) {
        *out = jinja_string_value(string);
        return COHORT_OK;
    }
    run->n_scratch = 0;
    TRY(mark_part(run, string, from, to, 0));
    TRY(make_string(run, string->bytes + from, to - from, out));
    if (string->safe) {
        struct jinja_string *part = (struct jinja_string *)(uintptr_t)out->u.string; /* just made */
        part->safe = true;
    }
    return COHORT_OK;
}

cohort_status jinja_string_concat(struct jinja_run *run, const struct jinja_string *a, const struct jinja_string *b,
                                  struct jinja_value *out)
{
    struct jinja_chunk *chunk = run->bytes.last;
    if (chunk != NULL && a->length > 0 && a->bytes + a->length == chunk_end(chunk) &&
        chunk->capacity - chunk->used >= b->length) { /* a is the last string that was made: it can grow in place */
        TRY(jinja_spend(run, b->length));
        TRY(jinja_step(run, b->length / 64));
        if (b->length > 0)
            memcpy(chunk_end(chunk), b->bytes, b->length);
        chunk->used += b->length;
        run->n_scratch = 0;
        TRY(mark_part(run, a, 0, a->length, 0));
        TRY(mark_part(run, b, 0, b->length, a->length));
        return make_string(run, a->bytes, a->length + b->length, out);
    }
    struct jinja_builder builder;
    jinja_build(&builder, run);
    TRY(jinja_build_string(&builder, a));
    TRY(jinja_build_string(&builder, b));
    return jinja_build_end(&builder, out);
}

/* ---- characters ---- */

size_t jinja_characters(const struct jinja_string *string)
{
    if (string->characters == UNCOUNTED) {
        size_t n = 0;
        for (size_t i = 0; i < string->length; i++)
            n += ((unsigned char)string->bytes[i] & 0xc0u) != 0x80u;
        /* Kept: what is not counted yet was made by this rendering, and only its thread sees it. */
        ((struct jinja_string *)(uintptr_t)string)->characters = n;
    }
    return string->characters;
}

size_t jinja_character_at(const struct jinja_string *string, size_t index)
{
    size_t at = 0;
    if (jinja_characters(string) == string->length)
        return index < string->length ? index : string->length;
    for (; at < string->length && index > 0; index--)
        do
            at++;
        while (at < string->length && ((unsigned char)string->bytes[at] & 0xc0u) == 0x80u);
    return at;
}

bool jinja_string_equal(const struct jinja_string *a, const struct jinja_string *b)
{
    return a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0;
}

int jinja_string_order(const struct jinja_string *a, const struct jinja_string *b)
{
    const size_t n = a->length < b->length ? a->length : b->length;
    const int order = memcmp(a->bytes, b->bytes, n); /* UTF-8 orders as its code points do */
    return order != 0 ? order : a->length < b->length ? -1 : a->length > b->length;
}

size_t jinja_string_find(const struct jinja_string *a, const struct jinja_string *b, size_t at)
{
    if (at > a->length)
        return SIZE_MAX;
    const char *found = memmem(a->bytes + at, a->length - at, b->bytes, b->length);
    return found == NULL ? SIZE_MAX : (size_t)(found - a->bytes);
}

bool jinja_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Whether strip takes the character [at, at + n). */
static bool is_stripped(const struct jinja_string *string, const struct jinja_string *characters, size_t at, size_t n)
{
    if (characters != NULL)
        return memmem(characters->bytes, characters->length, string->bytes + at, n) != NULL;
    uint32_t code_point = 0;
    utf8_decode(string->bytes + at, &code_point);
    return jinja_is_space(code_point);
}

cohort_status jinja_string_strip(struct jinja_run *run, const struct jinja_string *string,
                                 const struct jinja_string *characters, bool left, bool right, struct jinja_value *out)
{
    size_t from = 0, to = string->length;
    while (left && from < to) {
        uint32_t code_point = 0;
        const size_t n = utf8_decode(string->bytes + from, &code_point);
        if (!is_stripped(string, characters, from, n))
            break;
        from += n;
    }
    while (right && from < to) {
        size_t last = to - 1;
        while (((unsigned char)string->bytes[last] & 0xc0u) == 0x80u)
            last--;
        if (!is_stripped(string, characters, last, to - last))
            break;
        to = last;
    }
    TRY(jinja_step(run, (string->length - (to - from)) / 4 * (characters == NULL ? 1 : 1 + characters->length / 16)));
    return jinja_string_part(run, string, from, to, out);
}

/* ---- case ---- */

static bool is_cased(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT: return true;
    default: return false;
    }
}

/* Python's upper case (or title case) of one character. */
static cohort_status build_upper(struct jinja_builder *builder, uint32_t c, bool title, uint8_t tag)
{
    uint32_t more[3];
    const size_t n = jinja_special_upper(c, title, more);
    for (size_t i = 0; i < n; i++)
        TRY(jinja_build_character(builder, more[i], tag));
    if (n > 0)
        return COHORT_OK;
    const utf8proc_int32_t upper =
        title ? utf8proc_totitle((utf8proc_int32_t)c) : utf8proc_toupper((utf8proc_int32_t)c);
    return jinja_build_character(builder, (uint32_t)upper, tag);
}

/* A capital sigma at the end of a word has a lower-case form of its own. What is in lower case begins at from. */
static bool is_final_sigma(const struct jinja_string *string, size_t from, size_t at, size_t behind)
{
    uint32_t c = 0;
    bool before = false;
    while (at > from && !before) {
        do
            at--;
        while (((unsigned char)string->bytes[at] & 0xc0u) == 0x80u);
        utf8_decode(string->bytes + at, &c);
        before = is_cased(c);
        if (!before && c != '\'' && c != 0xb7 && utf8proc_category((utf8proc_int32_t)c) != UTF8PROC_CATEGORY_MN)
            return false;
    }
    while (before && behind < string->length) {
        behind += utf8_decode(string->bytes + behind, &c);
        if (is_cased(c))
            return false;
        if (c != '\'' && c != 0xb7 && utf8proc_category((utf8proc_int32_t)c) != UTF8PROC_CATEGORY_MN)
            return true;
    }
    return before;
}

static cohort_status build_lower(struct jinja_builder *builder, const struct jinja_string *string, size_t from,
                                 size_t at, size_t length, uint32_t c, uint8_t tag)
{
    if (c == 0x130) { /* I with a dot keeps it as a mark */
        TRY(jinja_build_character(builder, 'i', tag));
        return jinja_build_character(builder, 0x307, tag);
    }
    if (c == 0x3a3)
        return jinja_build_character(builder, is_final_sigma(string, from, at, at + length) ? 0x3c2 : 0x3c3, tag);
    return jinja_build_character(builder, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c), tag);
}

/* The run of ASCII letters at at that have one tag, all in upper or lower case: most text. Returns its length. */
static size_t ascii_case(const struct jinja_string *string, size_t at, bool upper, char to[64])
{
    size_t end = string->length - at < 64 ? string->length : at + 64, n = 0;
    if (string->segments != NULL && string->segments[segment_at(string, at)].end < end)
        end = string->segments[segment_at(string, at)].end;
    for (; at + n < end && (unsigned char)string->bytes[at + n] < 0x80; n++) {
        const char c = string->bytes[at + n];
        const bool changes = upper ? c >= 'a' && c <= 'z' : c >= 'A' && c <= 'Z';
        to[n] = changes ? (char)(c ^ 0x20) : c;
    }
    return n;
}

cohort_status jinja_string_case(struct jinja_run *run, const struct jinja_string *string, enum jinja_case how,
                                struct jinja_value *out)
{
    struct jinja_builder builder;
    bool in_word = false;
    size_t from = 0;
    jinja_build(&builder, run);
    TRY(jinja_step(run, string->length / 2));
    for (size_t at = 0; at < string->length;) {
        uint32_t c = 0;
        char ascii[64];
        const size_t n_ascii = how <= CASE_UPPER ? ascii_case(string, at, how == CASE_UPPER, ascii) : 0;
        if (n_ascii > 0) {
            TRY(jinja_build_bytes(&builder, ascii, n_ascii, jinja_tag_at(string, at)));
            at += n_ascii;
            continue;
        }
        const size_t n = utf8_decode(string->bytes + at, &c);
        const uint8_t tag = jinja_tag_at(string, at);
        bool upper = how == CASE_UPPER, title = false;
        if (how == CASE_CAPITALIZE || how == CASE_TITLE)
            upper = title = how == CASE_CAPITALIZE ? at == 0 : !in_word;
        if (how == CASE_WORDS && !in_word) { /* jinja2 lowers the rest of each word apart */
            upper = true;
            from = at + n;
        }
        if (how == CASE_SWAP)
            upper = utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_LL;
        in_word = how == CASE_WORDS ? !jinja_is_space(c) && (c >= 0x80 || c == 0 || strchr("({[<-", (int)c) == NULL)
                                    : is_cased(c);
        TRY(upper ? build_upper(&builder, c, title, tag) : build_lower(&builder, string, from, at, n, c, tag));
        at += n;
    }
    TRY(jinja_build_end(&builder, out));
    return string->safe ? jinja_string_safe(run, out) : COHORT_OK;
}

/* ---- replace, lines, escapes ---- */

cohort_status jinja_string_safe(struct jinja_run *run, struct jinja_value *value)
{
    struct jinja_string *copy = NULL;
    TRY(jinja_take(run, &copy, 1, sizeof *copy));
    *copy = *value->u.string;
    copy->safe = true;
    value->u.string = copy;
    return COHORT_OK;
}

cohort_status jinja_string_replace(struct jinja_run *run, const struct jinja_string *string,
                                   const struct jinja_string *from, const struct jinja_string *to, int64_t limit,
                                   struct jinja_value *out)
{
    struct jinja_builder builder;
    size_t at = 0;
    if (limit == 0 || (from->length > 0 && jinja_string_find(string, from, 0) == SIZE_MAX)) {
        TRY(jinja_step(run, string->length / 64));
        *out = jinja_string_value(string);
        return COHORT_OK;
    }
    jinja_build(&builder, run);
    for (int64_t n = 0; limit < 0 || n < limit; n++) {
        if (from->length == 0) { /* before every character, and at the end */
            size_t next = at;
            TRY(jinja_step(run, 4));
            TRY(jinja_build_string(&builder, to));
            if (at == string->length)
                break;
            do
                next++;
            while (next < string->length && ((unsigned char)string->bytes[next] & 0xc0u) == 0x80u);
            TRY(jinja_build_part(&builder, string, at, next));
            at = next;
            continue;
        }
        const size_t found = jinja_string_find(string, from, at);
        if (found == SIZE_MAX)
            break;
        TRY(jinja_step(run, 2));
        TRY(jinja_build_part(&builder, string, at, found));
        TRY(jinja_build_string(&builder, to));
        at = found + from->length;
    }
    TRY(jinja_build_part(&builder, string, at, string->length));
    TRY(jinja_build_end(&builder, out));
    return string->safe ? jinja_string_safe(run, out) : COHORT_OK;
}

cohort_status jinja_string_pad(struct jinja_run *run, const struct jinja_string *string, int64_t width,
                               const char *fill, enum jinja_pad where, struct jinja_value *out)
{
    struct jinja_builder builder;
    const int64_t n = (int64_t)jinja_characters(string), all = width > n ? width - n : 0;
    /* Python puts the odd one to the left where the width is odd. */
    const int64_t left = where == PAD_LEFT ? all : where == PAD_RIGHT ? 0 : all / 2 + (all & width & 1);
    if (all == 0) {
        *out = jinja_string_value(string);
        return COHORT_OK;
    }
    if (width > run->bytes_left)
        return jinja_spend(run, SIZE_MAX);
    jinja_build(&builder, run);
    for (int64_t i = 0; i < all + 1; i++) {
        if (i == left)
            TRY(jinja_build_string(&builder, string));
        if (i < all)
            TRY(jinja_build_bytes(&builder, fill, strlen(fill), JINJA_TEMPLATE));
        TRY(jinja_step(run, 1));
    }
    TRY(jinja_build_end(&builder, out));
    return string->safe ? jinja_string_safe(run, out) : COHORT_OK;
}

/* The length of the line end at at, or 0. */
static size_t line_end(const struct jinja_string *string, size_t at)
{
    uint32_t c = (unsigned char)string->bytes[at];
    if (c >= 0x20 && c < 0x80)
        return 0;
    const size_t n = utf8_decode(string->bytes + at, &c);
    if (c == '\r')
        return at + 1 < string->length && string->bytes[at + 1] == '\n' ? 2 : 1;
    return (c >= 0x0a && c <= 0x0c) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029 ? n : 0;
}

cohort_status jinja_string_lines(struct jinja_run *run, const struct jinja_string *string, bool keep_ends,
                                 struct jinja_value *out)
{
    size_t n = 0;
    TRY(jinja_step(run, string->length / 8));
    for (int pass = 0; pass < 2; pass++) {
        size_t from = 0, count = 0;
        for (size_t at = 0; at < string->length;) {
            uint32_t c = 0;
            const size_t end = line_end(string, at);
            if (end == 0) {
                at += utf8_decode(string->bytes + at, &c);
                if (at < string->length)
                    continue;
            }
            const size_t to = keep_ends || end == 0 ? at + end : at;
            if (pass == 1)
                TRY(jinja_string_part(run, string, from, to, &out->u.list->items[count]));
            count++;
            at += end;
            from = at;
        }
        n = count;
        if (pass == 0)
            TRY(jinja_list_new(run, SHAPE_LIST, n, out));
    }
    return COHORT_OK;
}

cohort_status jinja_string_escape(struct jinja_run *run, const struct jinja_string *string, struct jinja_value *out)
{
    static const char characters[] = "&<>'\"";
    static const char *const references[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    struct jinja_builder builder;
    size_t from = 0;
    jinja_build(&builder, run);
    TRY(jinja_step(run, string->length / 16));
    for (size_t at = 0; at < string->length; at++) {
        const char *found = string->bytes[at] == '\0' ? NULL : strchr(characters, string->bytes[at]);
        if (found == NULL)
            continue;
        const char *reference = references[found - characters];
        TRY(jinja_build_part(&builder, string, from, at));
        TRY(jinja_build_bytes(&builder, reference, strlen(reference), jinja_tag_at(string, at)));
        from = at + 1;
    }
    TRY(jinja_build_part(&builder, string, from, string->length));
    TRY(jinja_build_end(&builder, out));
    return jinja_string_safe(run, out);
}

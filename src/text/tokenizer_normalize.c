/* The steps of the normaliser. Each makes a new text of the one before it, in one of two pages in turn, or leaves it. */
#include "text/tokenizer_internal.h"

#include <string.h>

void normal_scratch_free(struct normal_scratch *scratch)
{
    text_free(&scratch->pages[0]);
    text_free(&scratch->pages[1]);
    form_buffer_free(&scratch->forms);
    regex_run_free(&scratch->regex);
}

struct state {
    const struct tokenizer *tokenizer;
    struct normal_scratch *scratch;
    struct normal_ends ends;
    const char *text; /* so far */
    size_t length;
    size_t most;     /* bytes that the steps may make of it */
    int page;        /* free for the next step */
    bool start_lost; /* the first character went without another in its place */
};

/* Steps that lengthen a text could go on doubling it. */
static cohort_status check_length(const struct state *s, size_t length, cohort_error *err)
{
    if (length <= s->most)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_ARGUMENT, "the tokenizer's normalizer makes more than %zu bytes of a text",
                     s->most);
}

static struct text *take_page(struct state *s)
{
    struct text *page = &s->scratch->pages[s->page];
    page->length = 0;
    return page;
}

static void turn_page(struct state *s)
{
    const struct text *page = &s->scratch->pages[s->page];
    s->text = page->data == NULL ? "" : page->data;
    s->length = page->length;
    s->page = 1 - s->page;
}

static cohort_status apply_form(struct state *s, enum normal_form form, cohort_error *err)
{
    const char *normal = NULL;
    size_t length = 0;
    if (form == FORM_NFC) {
        struct text *page = take_page(s);
        TRY(nfc_normalize(s->tokenizer->tables.nfc, s->text, s->length, &s->scratch->forms, page, &normal, &length,
                          err));
        if (normal == page->data)
            turn_page(s);
        return COHORT_OK;
    }
    TRY(form_normalize(form, s->text, s->length, &s->scratch->forms, &normal, &length, err));
    if (normal == s->text)
        return COHORT_OK;
    TRY(text_append(take_page(s), normal, length, err));
    turn_page(s);
    return COHORT_OK;
}

static cohort_status lowercase(struct state *s, cohort_error *err)
{
    struct text *page = take_page(s);
    TRY(mem_grow(&page->data, &page->capacity, s->length * 2 + 1, 1, "text in lower case", err));
    for (size_t i = 0; i < s->length;) {
        uint32_t code_point = 0;
        i += utf8_decode(s->text + i, &code_point);
        if (code_point == 0x130) { /* the one character whose lower case is two */
            memcpy(page->data + page->length, "i\xCC\x87", 3);
            page->length += 3;
            continue;
        }
        page->length += utf8_encode(char_lower(code_point), page->data + page->length);
    }
    page->data[page->length] = '\0';
    turn_page(s);
    return COHORT_OK;
}

static cohort_status strip_accents(struct state *s, cohort_error *err)
{
    struct text *page = take_page(s);
    size_t copied = 0;
    for (size_t i = 0; i < s->length;) {
        uint32_t code_point = 0;
        size_t n = utf8_decode(s->text + i, &code_point);
        if (code_point >= 0x300 && char_is_mark(code_point)) {
            s->start_lost = s->start_lost || i == 0;
            TRY(text_append(page, s->text + copied, i - copied, err));
            copied = i + n;
        }
        i += n;
    }
    if (copied == 0)
        return COHORT_OK;
    TRY(text_append(page, s->text + copied, s->length - copied, err));
    turn_page(s);
    return COHORT_OK;
}

static void strip(struct state *s, bool left, bool right)
{
    uint32_t code_point = 0;
    while (left && s->length > 0) {
        size_t n = utf8_decode(s->text, &code_point);
        if ((char_classes(code_point) & CHAR_SPACE) == 0)
            break;
        s->text += n;
        s->length -= n;
        s->start_lost = true;
    }
    while (right && s->length > 0) {
        size_t at = utf8_before(s->text, s->length);
        utf8_decode(s->text + at, &code_point);
        if ((char_classes(code_point) & CHAR_SPACE) == 0)
            break;
        s->length = at;
    }
}

static cohort_status replace(struct state *s, const struct normal_step *step, cohort_error *err)
{
    struct text *page = take_page(s);
    struct regex_cursor cursor = {0, SIZE_MAX};
    size_t done = 0, from = 0, to = 0;
    bool found = false, any = false;
    for (;;) {
        TRY(regex_next(&s->scratch->regex, step->pattern, s->text, s->length, &cursor, &found, &from, &to, err));
        if (!found)
            break;
        any = true;
        s->start_lost = s->start_lost || (from == 0 && to > 0 && step->content.length == 0);
        TRY(text_append(page, s->text + done, from - done, err));
        TRY(text_append(page, step->content.data, step->content.length, err));
        done = to;
        TRY(check_length(s, page->length, err));
    }
    if (!any)
        return COHORT_OK;
    TRY(text_append(page, s->text + done, s->length - done, err));
    turn_page(s);
    return COHORT_OK;
}

static cohort_status byte_level(struct state *s, cohort_error *err)
{
    struct text *page = take_page(s);
    TRY(mem_grow(&page->data, &page->capacity, s->length * 2 + 1, 1, "byte-level text", err));
    for (size_t i = 0; i < s->length; i++)
        page->length += utf8_encode(byte_level_char((unsigned char)s->text[i]), page->data + page->length);
    page->data[page->length] = '\0';
    turn_page(s);
    return COHORT_OK;
}

static cohort_status apply(struct state *s, const struct normal_step *step, cohort_error *err)
{
    switch (step->kind) {
    case NORMAL_FORM: return apply_form(s, step->form, err);
    case NORMAL_LOWERCASE: return lowercase(s, err);
    case NORMAL_STRIP: strip(s, step->left && s->ends.left, step->right && s->ends.right); return COHORT_OK;
    case NORMAL_STRIP_ACCENTS: return strip_accents(s, err);
    case NORMAL_REPLACE: return replace(s, step, err);
    case NORMAL_BYTE_LEVEL: return byte_level(s, err);
    case NORMAL_PREPEND: break;
    }
    if (s->length == 0 || !s->ends.left)
        return COHORT_OK;
    struct text *page = take_page(s);
    TRY(text_append(page, step->content.data, step->content.length, err));
    TRY(text_append(page, s->text, s->length, err));
    turn_page(s);
    return COHORT_OK;
}

cohort_status normalizer_run(const struct tokenizer *tokenizer, const char *text, size_t length,
                             struct normal_ends ends, struct normal_scratch *scratch, const char **normal,
                             size_t *normal_length, bool *start_lost, cohort_error *err)
{
    enum { LONGER = 64, SHORT = 1 << 16 }; /* no sound normaliser makes so much of a text */
    struct state s = {.tokenizer = tokenizer, .scratch = scratch, .ends = ends, .text = text, .length = length};
    s.most = length < INT32_MAX / LONGER ? length * LONGER + SHORT : INT32_MAX;
    for (size_t i = 0; i < tokenizer->n_normal; i++) {
        TRY(apply(&s, &tokenizer->normal_steps[i], err));
        TRY(check_length(&s, s.length, err));
    }
    *normal = s.text;
    *normal_length = s.length;
    *start_lost = s.start_lost;
    return COHORT_OK;
}

/* The steps of the pre-tokenizer. Each cuts or changes a piece of text and hands what comes of it to the next; behind
 * the last one pieces are words, and are byte pair encoded. */
#include "text/tokenizer_internal.h"

#include <string.h>

void piece_scratch_free(struct piece_scratch *scratch)
{
    for (size_t i = 0; i < TOKENIZER_MAX_STEPS; i++)
        text_free(&scratch->pages[i]);
    regex_run_free(&scratch->regex);
    bpe_scratch_free(&scratch->bpe);
}

struct run {
    const struct tokenizer *tokenizer;
    struct piece_scratch *scratch;
    struct token_list *out;
    cohort_error *err;
};

static cohort_status run_steps(const struct run *run, size_t at, const char *text, size_t length,
                               enum text_start start);

/* The matches of a step and what lies between them come one by one; one piece is held until it is known whether the
 * next belongs to it. */
struct splitter {
    const struct run *run;
    const struct piece_step *step;
    size_t next; /* step */
    const char *text;
    enum text_start start;
    bool held, match; /* there is a piece in hand; the last event was a match */
    size_t from, to;  /* of the piece in hand */
};

static cohort_status hand_on(const struct splitter *s, size_t from, size_t to)
{
    return from == to ? COHORT_OK
                      : run_steps(s->run, s->next, s->text + from, to - from, from == 0 ? s->start : START_WITHIN);
}

static cohort_status flush(struct splitter *s)
{
    const bool held = s->held;
    s->held = false;
    return held ? hand_on(s, s->from, s->to) : COHORT_OK;
}

static cohort_status event(struct splitter *s, size_t from, size_t to, bool match)
{
    bool joins = false;
    if (s->step->invert)
        match = !match;
    switch (s->step->behavior) {
    case SPLIT_ISOLATED: return hand_on(s, from, to);
    case SPLIT_REMOVED: return match ? COHORT_OK : hand_on(s, from, to);
    case SPLIT_CONTIGUOUS: joins = match == s->match; break;
    case SPLIT_MERGED_WITH_PREVIOUS: joins = match && !s->match; break;
    case SPLIT_MERGED_WITH_NEXT: joins = !match && s->match; break;
    }
    s->match = match;
    if (s->held && joins) {
        s->to = to;
        return COHORT_OK;
    }
    TRY(flush(s));
    s->held = true;
    s->from = from;
    s->to = to;
    return COHORT_OK;
}

static cohort_status split_regex(struct splitter *s, size_t length)
{
    struct regex_cursor cursor = {0, SIZE_MAX};
    size_t done = 0, from = 0, to = 0;
    bool found = false;
    for (;;) {
        TRY(regex_next(&s->run->scratch->regex, s->step->pattern, s->text, length, &cursor, &found, &from, &to,
                       s->run->err));
        if (!found)
            break;
        if (done != from)
            TRY(event(s, done, from, false));
        TRY(event(s, from, to, true));
        done = to;
    }
    if (done != length)
        TRY(event(s, done, length, false));
    return flush(s);
}

static cohort_status split_known(struct splitter *s, size_t length)
{
    const unsigned char *classes = s->run->tokenizer->tables.classes;
    for (size_t at = 0; at < length;) {
        size_t end = known_split_match(s->step->known, classes, s->text, length, at);
        TRY(event(s, at, end, true));
        at = end;
    }
    return flush(s);
}

static unsigned classes_at(const struct splitter *s, size_t at, size_t *n)
{
    uint32_t code_point = 0;
    *n = utf8_decode(s->text + at, &code_point);
    return code_point < CHAR_TABLED ? s->run->tokenizer->tables.classes[code_point] : char_classes(code_point);
}

/* Matches of one character each. */
static cohort_status split_characters(struct splitter *s, size_t length)
{
    const struct text *content = &s->step->content;
    size_t done = 0, n = 0;
    for (size_t at = 0; at < length; at += n) {
        bool match = false;
        if (s->step->kind == PIECE_CLASS) {
            match = (classes_at(s, at, &n) & s->step->classes) != 0;
        } else {
            uint32_t code_point = 0;
            n = utf8_decode(s->text + at, &code_point);
            match = n == content->length && memcmp(s->text + at, content->data, n) == 0;
        }
        if (!match)
            continue;
        if (done < at)
            TRY(event(s, done, at, false));
        TRY(event(s, at, at + n, true));
        done = at + n;
    }
    if (done < length)
        TRY(event(s, done, length, false));
    return flush(s);
}

/* Runs of word characters, and of what is neither a word's nor white space, are matches. */
static cohort_status split_words(struct splitter *s, size_t length)
{
    size_t n = 0, end = 0;
    for (size_t at = 0; at < length; at = end) {
        const unsigned kind = classes_at(s, at, &n) & (CHAR_WORD | CHAR_SPACE);
        for (end = at + n; end < length && (classes_at(s, end, &n) & (CHAR_WORD | CHAR_SPACE)) == kind;)
            end += n;
        TRY(event(s, at, end, kind != CHAR_SPACE));
    }
    return flush(s);
}

/* Pieces that begin with content, where it does not follow another. */
static cohort_status split_word_starts(struct splitter *s, size_t length)
{
    const struct text *content = &s->step->content;
    size_t done = 0, behind = 0; /* behind the last content */
    for (size_t at = 0; at < length;) {
        const char *found = memchr(s->text + at, content->data[0], length - at);
        at = found == NULL ? length : (size_t)(found - s->text);
        if (length - at < content->length || memcmp(s->text + at, content->data, content->length) != 0) {
            at++;
            continue;
        }
        if (at > behind) {
            TRY(hand_on(s, done, at));
            done = at;
        }
        at += content->length;
        behind = at;
    }
    return hand_on(s, done, length);
}

static cohort_status change_spaces(const struct run *run, size_t at, const char *text, size_t length,
                                   enum text_start start)
{
    const struct text *content = &run->tokenizer->piece_steps[at].content;
    struct text *page = &run->scratch->pages[at];
    size_t copied = 0;
    page->length = 0;
    for (const char *space = memchr(text, ' ', length); space != NULL;
         space = memchr(text + copied, ' ', length - copied)) {
        TRY(text_append(page, text + copied, (size_t)(space - text) - copied, run->err));
        TRY(text_append(page, content->data, content->length, run->err));
        copied = (size_t)(space - text) + 1;
    }
    if (copied == 0)
        return run_steps(run, at + 1, text, length, start);
    TRY(text_append(page, text + copied, length - copied, run->err));
    return run_steps(run, at + 1, page->data, page->length, start);
}

static cohort_status prepend(const struct run *run, size_t at, const char *text, size_t length, enum text_start start)
{
    const struct piece_step *step = &run->tokenizer->piece_steps[at];
    const struct text *content = &step->content;
    struct text *page = &run->scratch->pages[at];
    if (start == START_GOES_ON || (step->first_only && start != START_OF_ALL) ||
        (length >= content->length && memcmp(text, content->data, content->length) == 0))
        return run_steps(run, at + 1, text, length, start);
    page->length = 0;
    TRY(text_append(page, content->data, content->length, run->err));
    TRY(text_append(page, text, length, run->err));
    return run_steps(run, at + 1, page->data, page->length, start);
}

static cohort_status to_byte_level(const struct run *run, size_t at, const char *text, size_t length,
                                   enum text_start start)
{
    struct text *page = &run->scratch->pages[at];
    page->length = 0;
    TRY(mem_grow(&page->data, &page->capacity, length * 2 + 1, 1, "byte-level text", run->err));
    for (size_t i = 0; i < length; i++)
        page->length += utf8_encode(byte_level_char((unsigned char)text[i]), page->data + page->length);
    page->data[page->length] = '\0';
    return run_steps(run, at + 1, page->data, page->length, start);
}

static cohort_status run_steps(const struct run *run, size_t at, const char *text, size_t length, enum text_start start)
{
    const struct tokenizer *tokenizer = run->tokenizer;
    if (at == tokenizer->n_pieces)
        return bpe_encode(tokenizer, text, length, &run->scratch->bpe, run->out, run->err);
    const struct piece_step *step = &tokenizer->piece_steps[at];
    struct splitter splitter = {.run = run, .step = step, .next = at + 1, .text = text, .start = start};
    switch (step->kind) {
    case PIECE_REGEX:
        return step->known == SPLIT_REGEX ? split_regex(&splitter, length) : split_known(&splitter, length);
    case PIECE_CLASS:
    case PIECE_CHARACTER: return split_characters(&splitter, length);
    case PIECE_WORDS: return split_words(&splitter, length);
    case PIECE_WORD_STARTS: return split_word_starts(&splitter, length);
    case PIECE_SPACES: return change_spaces(run, at, text, length, start);
    case PIECE_PREPEND: return prepend(run, at, text, length, start);
    case PIECE_BYTE_LEVEL: break;
    }
    return to_byte_level(run, at, text, length, start);
}

cohort_status pieces_encode(const struct tokenizer *tokenizer, struct piece_scratch *scratch, const char *text,
                            size_t length, enum text_start start, struct token_list *out, cohort_error *err)
{
    const struct run run = {tokenizer, scratch, out, err};
    return length == 0 ? COHORT_OK : run_steps(&run, 0, text, length, start);
}

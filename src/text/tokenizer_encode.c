/* Text to ids, in Hugging Face's order: added tokens that are not normalised are taken out of the raw text, each piece
 * between is normalised, normalised added tokens are taken out of it, the pre-tokenizer makes words of what is left, and
 * each word is byte pair encoded. Content is encoded with what stands around it,
 * only that the control tokens in it are passed over: its words are cut and merged as in any text. */
#include "text/tokenizer_internal.h"

#include <string.h>

struct encoder {
    const struct tokenizer *tokenizer;
    bool parse_added;
    const char *text;                 /* all of it, which the spans are of */
    const struct content_span *spans; /* [n_spans], ascending */
    size_t n_spans, passed;           /* spans that end before the piece in hand */
    struct content_spans piece_spans; /* of the piece in hand, in its normal form */
    const char *normal;               /* of the piece in hand */
    enum text_start start;            /* of the text */
    enum text_start piece_start; /* of the piece in hand: the text's if it is its beginning and nothing went there */
    struct normal_scratch normalizer, side;
    struct piece_scratch pieces;
    struct token_list *out;
};

static cohort_status encode_words(struct encoder *encoder, const char *text, size_t length, cohort_error *err)
{
    return pieces_encode(encoder->tokenizer, &encoder->pieces, text, length,
                         text == encoder->normal ? encoder->piece_start : START_WITHIN, encoder->out, err);
}

/* The model's own words may be the added token id. */
static bool may_write(const struct token_list *markers, int32_t id, uint32_t flags)
{
    if (markers == NULL)
        return (flags & TOKEN_SPECIAL) == 0;
    for (size_t i = 0; i < markers->count; i++)
        if (markers->ids[i] == id)
            return false;
    return true;
}

/* What stands at [from, to) of a text with these spans may be the added token id. */
static bool may_match(const struct tokenizer *tokenizer, const struct content_spans *spans, size_t from, size_t to,
                      int32_t id)
{
    size_t low = 0, high = spans->count; /* the first span that ends behind from */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (spans->items[middle].to <= from)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == spans->count || spans->items[low].from >= to)
        return true;
    const struct content_span *span = &spans->items[low];
    const uint32_t flags = tokenizer->entries[id].flags;
    if (from < span->from || to > span->to)
        return false;
    return span->kind == CONTENT_ASSISTANT ? may_write(spans->markers, id, flags) : (flags & TOKEN_WORD) != 0;
}

/* The longest content of the set that may stand at byte at of text, or -1. Contents are sorted, so those that share the
 * bytes read so far are one range, narrowed byte by byte. */
static int32_t longest_added(const struct encoder *encoder, const struct added_set *set,
                             const struct content_spans *spans, const char *text, size_t length, size_t at,
                             size_t *matched)
{
    size_t low = 0, high = set->count;
    int32_t found = -1;
    for (size_t depth = 0; depth < length - at && low < high; depth++) {
        unsigned char byte = (unsigned char)text[at + depth];
        size_t bounds[2];
        for (int k = 0; k < 2; k++) { /* first content whose byte here is >= byte, then > byte */
            size_t a = low, b = high;
            while (a < b) {
                size_t middle = a + (b - a) / 2;
                const struct text *content = &set->contents[middle];
                int here = content->length > depth ? (unsigned char)content->data[depth] : -1;
                if (here < byte + k)
                    a = middle + 1;
                else
                    b = middle;
            }
            bounds[k] = a;
        }
        low = bounds[0];
        high = bounds[1];
        if (low < high && set->contents[low].length == depth + 1 &&
            may_match(encoder->tokenizer, spans, at, at + depth + 1, set->ids[low])) {
            found = set->ids[low];
            *matched = depth + 1;
        }
    }
    return found;
}

typedef cohort_status piece_encoder(struct encoder *encoder, const char *text, size_t length, cohort_error *err);

static unsigned classes_at(const char *text)
{
    uint32_t code_point = 0;
    utf8_decode(text, &code_point);
    return char_classes(code_point);
}

/* Whether no word character touches [from, to). */
static bool is_single_word(const char *text, size_t length, size_t from, size_t to)
{
    return (from == 0 || (classes_at(text + utf8_before(text, from)) & CHAR_WORD) == 0) &&
           (to == length || (classes_at(text + to) & CHAR_WORD) == 0);
}

/* Cuts text at the set's tokens, leftmost first and longest of those; rest encodes what is between. */
static cohort_status split_added(struct encoder *encoder, const struct added_set *set,
                                 const struct content_spans *spans, const char *text, size_t length,
                                 piece_encoder *rest, cohort_error *err)
{
    size_t done = 0;
    for (size_t i = 0; encoder->parse_added && set->count > 0 && i < length;) {
        size_t matched = 0;
        int32_t id = -1;
        if (set->first[(unsigned char)text[i]])
            id = longest_added(encoder, set, spans, text, length, i, &matched);
        if (id < 0) {
            i++;
            continue;
        }
        const uint32_t flags = encoder->tokenizer->entries[id].flags;
        size_t from = i, to = i + matched;
        i = to; /* the next is looked for from here, whatever the token takes along */
        if ((flags & TOKEN_SINGLE) != 0 && !is_single_word(text, length, from, to))
            continue;
        while ((flags & TOKEN_LSTRIP) != 0 && from > done &&
               (classes_at(text + utf8_before(text, from)) & CHAR_SPACE) != 0)
            from = utf8_before(text, from);
        while ((flags & TOKEN_RSTRIP) != 0 && to < length && (classes_at(text + to) & CHAR_SPACE) != 0) {
            uint32_t code_point = 0;
            to += utf8_decode(text + to, &code_point);
        }
        if (from > done)
            TRY(rest(encoder, text + done, from - done, err));
        TRY(token_list_push(encoder->out, id, err));
        done = to;
    }
    return done < length ? rest(encoder, text + done, length - done, err) : COHORT_OK;
}

/* How many bytes of text have no say in normal but for themselves, counted from one of its ends: a border of content
 * there lies at the same distance from that end in both. */
static size_t common_bytes(const char *a, size_t a_length, const char *b, size_t b_length, bool from_end)
{
    size_t n = 0, most = a_length < b_length ? a_length : b_length;
    while (n < most && (from_end ? a[a_length - 1 - n] == b[b_length - 1 - n] : a[n] == b[n]))
        n++;
    return n;
}

/* Whether a piece is the beginning of a text that goes on behind another. */
static bool goes_on(const struct encoder *encoder, const char *piece)
{
    return piece == encoder->text && encoder->start == START_GOES_ON;
}

/* Where the spans of a piece (bytes [start, start + length) of the text) lie in its normal form. A character that
 * composes across a border belongs to the content. */
static cohort_status map_spans(struct encoder *encoder, size_t start, const char *text, size_t length,
                               const char *normal, size_t normal_length, cohort_error *err)
{
    const struct normal_ends to_left = {!goes_on(encoder, text), false}, to_right = {false, true};
    bool lost = false;
    encoder->piece_spans.count = 0;
    while (encoder->passed < encoder->n_spans && encoder->spans[encoder->passed].to <= start)
        encoder->passed++;
    for (size_t i = encoder->passed; i < encoder->n_spans; i++) {
        const struct content_span *span = &encoder->spans[i];
        if (span->from >= start + length)
            break;
        size_t from = span->from > start ? span->from - start : 0;
        size_t to = span->to < start + length ? span->to - start : length;
        if (normal != text) {
            const char *side = NULL;
            size_t n = 0;
            TRY(normalizer_run(encoder->tokenizer, text + to, length - to, to_right, &encoder->side, &side, &n, &lost,
                               err));
            n = common_bytes(side, n, normal, normal_length, true);
            to = normal_length - n;
            TRY(normalizer_run(encoder->tokenizer, text, from, to_left, &encoder->side, &side, &n, &lost, err));
            from = common_bytes(side, n, normal, normal_length, false);
        }
        struct content_spans *spans = &encoder->piece_spans;
        if (spans->count > 0 && spans->items[spans->count - 1].to > from)
            from = spans->items[spans->count - 1].to;
        if (from < to)
            TRY(content_spans_push(spans, from, to, span->kind, err));
    }
    return COHORT_OK;
}

static cohort_status encode_piece(struct encoder *encoder, const char *text, size_t length, cohort_error *err)
{
    const struct tokenizer *tokenizer = encoder->tokenizer;
    const struct normal_ends whole = {!goes_on(encoder, text), true};
    const char *normal = text;
    size_t normal_length = length;
    bool lost = false;
    if (tokenizer->n_normal > 0)
        TRY(normalizer_run(tokenizer, text, length, whole, &encoder->normalizer, &normal, &normal_length, &lost, err));
    if (encoder->n_spans > 0 && tokenizer->normalized.count > 0)
        TRY(map_spans(encoder, (size_t)(text - encoder->text), text, length, normal, normal_length, err));
    encoder->normal = normal;
    encoder->piece_start = text != encoder->text || (lost && !goes_on(encoder, text)) ? START_WITHIN : encoder->start;
    return split_added(encoder, &tokenizer->normalized, &encoder->piece_spans, normal, normal_length, encode_words,
                       err);
}

static cohort_status encode(const struct tokenizer *tokenizer, const char *text, size_t length, enum text_start start,
                            bool parse_added, const struct content_spans *spans, struct token_list *out,
                            cohort_error *err)
{
    static const struct content_spans none = {0};
    if (spans == NULL)
        spans = &none;
    size_t valid = utf8_check(text, length);
    if (valid != length)
        return error_set(err, COHORT_ERR_FORMAT, "text is not UTF-8 at byte %zu (0x%02x)", valid,
                         (unsigned)(unsigned char)text[valid]);
    if (length > INT32_MAX / 4) /* normalising may lengthen it; word positions are int32_t */
        return error_set(err, COHORT_ERR_ARGUMENT, "text of %zu bytes is too long to encode at once (at most %d)",
                         length, INT32_MAX / 4);
    struct encoder encoder = {.tokenizer = tokenizer,
                              .parse_added = parse_added,
                              .text = text,
                              .start = start,
                              .spans = spans->items,
                              .n_spans = spans->count,
                              .piece_spans = {.markers = spans->markers},
                              .out = out};
    const size_t count_before = out->count;
    cohort_status status = split_added(&encoder, &tokenizer->raw, spans, text, length, encode_piece, err);
    if (status != COHORT_OK)
        out->count = count_before;
    normal_scratch_free(&encoder.normalizer);
    normal_scratch_free(&encoder.side);
    piece_scratch_free(&encoder.pieces);
    content_spans_free(&encoder.piece_spans);
    return status;
}

cohort_status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length, bool parse_added,
                               struct token_list *out, cohort_error *err)
{
    return encode(tokenizer, text, length, START_OF_ALL, parse_added, NULL, out, err);
}

cohort_status tokenizer_encode_content(const struct tokenizer *tokenizer, const char *text, size_t length,
                                       const struct content_spans *spans, struct token_list *out, cohort_error *err)
{
    return encode(tokenizer, text, length, START_OF_ALL, true, spans, out, err);
}

cohort_status tokenizer_encode_more(const struct tokenizer *tokenizer, const char *text, size_t length,
                                    const struct content_spans *spans, struct token_list *out, cohort_error *err)
{
    enum text_start start = START_OF_ALL;
    if (out->count > 0)
        start = tokenizer->entries[out->ids[out->count - 1]].flags & TOKEN_ADDED ? START_WITHIN : START_GOES_ON;
    return encode(tokenizer, text, length, start, true, spans, out, err);
}

static cohort_status push_all(const struct token_list *list, struct token_list *out, cohort_error *err)
{
    for (size_t i = 0; i < list->count; i++)
        TRY(token_list_push(out, list->ids[i], err));
    return COHORT_OK;
}

cohort_status tokenizer_encode_text(const struct tokenizer *tokenizer, const char *text, size_t length, bool goes_on,
                                    struct token_list *out, cohort_error *err)
{
    const size_t count_before = out->count;
    cohort_status status = push_all(&tokenizer->prefix, out, err);
    if (status == COHORT_OK)
        status = encode(tokenizer, text, length, START_OF_ALL, true, NULL, out, err);
    if (status == COHORT_OK && !goes_on)
        status = push_all(&tokenizer->suffix, out, err);
    if (status != COHORT_OK)
        out->count = count_before;
    return status;
}

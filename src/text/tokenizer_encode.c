/* Text to ids, in Hugging Face's order: added tokens that are not normalised are taken out of the raw text, each piece
 * between is normalised, normalised added tokens are taken out of it, the regex splits what is left into words (text
 * between matches is a word too), and each word is byte pair encoded. Content is encoded with what stands around it,
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
    pcre2_match_data *match;
    pcre2_match_context *context;
    struct nfc_buffer nfc;
    struct bpe_scratch bpe;
    struct token_list *out;
};

static cohort_status encode_word(struct encoder *encoder, const char *word, size_t length, cohort_error *err)
{
    if (length == 0)
        return COHORT_OK;
    return bpe_encode(encoder->tokenizer, (const unsigned char *)word, length, &encoder->bpe, encoder->out, err);
}

static int match_at(struct encoder *encoder, const char *text, size_t length, size_t start)
{
    const pcre2_code *split = encoder->tokenizer->split;
    int code =
        pcre2_match(split, (PCRE2_SPTR)text, length, start, PCRE2_NO_UTF_CHECK, encoder->match, encoder->context);
    /* The interpreter keeps its state on the heap, so deep backtracking costs time there instead of
     * failing. */
    if (code == PCRE2_ERROR_JIT_STACKLIMIT)
        code = pcre2_match(split, (PCRE2_SPTR)text, length, start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, encoder->match,
                           encoder->context);
    return code;
}

static cohort_status split_words(struct encoder *encoder, const char *text, size_t length, cohort_error *err)
{
    size_t done = 0; /* everything before is encoded */
    size_t start = 0;
    size_t last_end = SIZE_MAX;
    while (start <= length) {
        int code = match_at(encoder, text, length, start);
        if (code == PCRE2_ERROR_NOMATCH)
            break;
        if (code < 0) {
            PCRE2_UCHAR reason[160];
            pcre2_get_error_message(code, reason, sizeof reason);
            return error_set(err, COHORT_ERR_FORMAT,
                             "the tokenizer's split regex fails at byte %zu of a piece of %zu bytes: %s", start, length,
                             (const char *)reason);
        }
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(encoder->match);
        size_t from = span[0], to = span[1];
        /* \K in a lookaround can give a span that runs backwards or overlaps; the pattern is the
         * file's. */
        if (from < done || to < from || to > length)
            return error_set(err, COHORT_ERR_FORMAT, "the tokenizer's split regex gives overlapping matches");
        if (from == to) {
            /* An empty match cuts the text, unless it touches the match before it. */
            if (from != last_end) {
                TRY(encode_word(encoder, text + done, from - done, err));
                done = from;
            }
            last_end = to;
            if (to == length)
                break;
            uint32_t skipped = 0;
            start = to + utf8_decode(text + to, &skipped);
            continue;
        }
        TRY(encode_word(encoder, text + done, from - done, err));
        TRY(encode_word(encoder, text + from, to - from, err));
        done = start = last_end = to;
    }
    return encode_word(encoder, text + done, length - done, err);
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

/* Cuts text at the set's tokens, leftmost first and longest of those; rest encodes what is between.
 */
static cohort_status split_added(struct encoder *encoder, const struct added_set *set,
                                 const struct content_spans *spans, const char *text, size_t length,
                                 piece_encoder *rest, cohort_error *err)
{
    size_t done = 0;
    if (encoder->parse_added && set->count > 0) {
        for (size_t i = 0; i < length;) {
            size_t matched = 0;
            int32_t id = -1;
            if (set->first[(unsigned char)text[i]])
                id = longest_added(encoder, set, spans, text, length, i, &matched);
            if (id < 0) {
                i++;
                continue;
            }
            if (i > done)
                TRY(rest(encoder, text + done, i - done, err));
            TRY(token_list_push(encoder->out, id, err));
            i += matched;
            done = i;
        }
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

/* Where the spans of a piece (bytes [start, start + length) of the text) lie in its normal form. A character that
 * composes across a border belongs to the content. */
static cohort_status map_spans(struct encoder *encoder, size_t start, const char *text, size_t length,
                               const char *normal, size_t normal_length, cohort_error *err)
{
    struct nfc_buffer part = {0};
    cohort_status status = COHORT_OK;
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
            TRY_GOTO(nfc_normalize(text + to, length - to, &part, &side, &n, err));
            n = common_bytes(side, n, normal, normal_length, true);
            to = normal_length - n;
            TRY_GOTO(nfc_normalize(text, from, &part, &side, &n, err));
            from = common_bytes(side, n, normal, normal_length, false);
        }
        struct content_spans *spans = &encoder->piece_spans;
        if (spans->count > 0 && spans->items[spans->count - 1].to > from)
            from = spans->items[spans->count - 1].to;
        if (from < to)
            TRY_GOTO(content_spans_push(spans, from, to, span->kind, err));
    }
cleanup:
    nfc_buffer_free(&part);
    return status;
}

static cohort_status encode_piece(struct encoder *encoder, const char *text, size_t length, cohort_error *err)
{
    const char *normal = text;
    size_t normal_length = length;
    if (encoder->tokenizer->nfc)
        TRY(nfc_normalize(text, length, &encoder->nfc, &normal, &normal_length, err));
    if (encoder->n_spans > 0 && encoder->tokenizer->normalized.count > 0)
        TRY(map_spans(encoder, (size_t)(text - encoder->text), text, length, normal, normal_length, err));
    return split_added(encoder, &encoder->tokenizer->normalized, &encoder->piece_spans, normal, normal_length,
                       split_words, err);
}

static cohort_status encode(const struct tokenizer *tokenizer, const char *text, size_t length, bool parse_added,
                            const struct content_spans *spans, struct token_list *out, cohort_error *err)
{
    static const struct content_spans none = {0};
    if (spans == NULL)
        spans = &none;
    size_t valid = utf8_check(text, length);
    if (valid != length)
        return error_set(err, COHORT_ERR_FORMAT, "text is not UTF-8 at byte %zu (0x%02x)", valid,
                         (unsigned)(unsigned char)text[valid]);
    if (length > INT32_MAX / 4) /* NFC at most triples it; word positions are int32_t */
        return error_set(err, COHORT_ERR_ARGUMENT, "text of %zu bytes is too long to encode at once (at most %d)",
                         length, INT32_MAX / 4);
    struct encoder encoder = {.tokenizer = tokenizer,
                              .parse_added = parse_added,
                              .text = text,
                              .spans = spans->items,
                              .n_spans = spans->count,
                              .piece_spans = {.markers = spans->markers},
                              .out = out};
    cohort_status status = COHORT_OK;
    size_t count_before = out->count;
    encoder.match = pcre2_match_data_create(1, NULL);
    encoder.context = pcre2_match_context_create(NULL);
    if (encoder.match == NULL || encoder.context == NULL) {
        status = error_set(err, COHORT_ERR_MEMORY, "cannot allocate regex match data");
        goto cleanup;
    }
    /* A hostile pattern fails instead of running for ever. */
    pcre2_set_match_limit(encoder.context, 10000000);
    pcre2_set_heap_limit(encoder.context, 1 << 20); /* KiB */
    TRY_GOTO(split_added(&encoder, &tokenizer->raw, spans, text, length, encode_piece, err));
cleanup:
    if (status != COHORT_OK)
        out->count = count_before;
    pcre2_match_data_free(encoder.match);
    pcre2_match_context_free(encoder.context);
    nfc_buffer_free(&encoder.nfc);
    bpe_scratch_free(&encoder.bpe);
    content_spans_free(&encoder.piece_spans);
    return status;
}

cohort_status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length, bool parse_added,
                               struct token_list *out, cohort_error *err)
{
    return encode(tokenizer, text, length, parse_added, NULL, out, err);
}

cohort_status tokenizer_encode_content(const struct tokenizer *tokenizer, const char *text, size_t length,
                                       const struct content_spans *spans, struct token_list *out, cohort_error *err)
{
    return encode(tokenizer, text, length, true, spans, out, err);
}

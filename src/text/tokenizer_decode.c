/* Ids to text. Decoding at once and decoding as a stream are the same automaton: bytes go in one at
 * a time, and a character goes out when it is whole. Bytes that are not UTF-8 become one U+FFFD for
 * each maximal subpart (Unicode standard, section 3.9), as Python's "replace" and Rust's
 * from_utf8_lossy do. */
#include "text/tokenizer_internal.h"

#include <string.h>

static const char REPLACEMENT[] = "\xEF\xBF\xBD";

/* How many bytes the character that lead begins has; 0: none begins so. */
static size_t sequence_length(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2 || lead > 0xF4)
        return 0;
    return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

static bool continues(const unsigned char *held, size_t n_held, unsigned char byte)
{
    unsigned char low = 0x80, high = 0xBF;
    if (n_held == 1) {
        if (held[0] == 0xE0)
            low = 0xA0;
        else if (held[0] == 0xED)
            high = 0x9F;
        else if (held[0] == 0xF0)
            low = 0x90;
        else if (held[0] == 0xF4)
            high = 0x8F;
    }
    return byte >= low && byte <= high;
}

/* held has the beginning of a character: n_held < its length. */
static cohort_status push_byte(struct token_stream *stream, unsigned char byte, struct text *out, cohort_error *err)
{
    if (stream->n_held > 0 && !continues(stream->held, stream->n_held, byte)) {
        stream->n_held = 0;
        TRY(text_append(out, REPLACEMENT, 3, err));
    }
    if (stream->n_held == 0 && sequence_length(byte) == 0)
        return text_append(out, REPLACEMENT, 3, err);
    stream->held[stream->n_held++] = byte;
    if (stream->n_held < sequence_length(stream->held[0]))
        return COHORT_OK;
    size_t length = stream->n_held;
    stream->n_held = 0;
    return text_append(out, (const char *)stream->held, length, err);
}

cohort_status token_stream_push(struct token_stream *stream, const struct tokenizer *tokenizer, int32_t id,
                                bool skip_special, struct text *out, cohort_error *err)
{
    if (id < 0 || id >= tokenizer->size)
        return COHORT_OK;
    const struct token_entry *entry = &tokenizer->entries[id];
    if ((entry->flags & TOKEN_PRESENT) == 0 || (skip_special && (entry->flags & TOKEN_SPECIAL) != 0))
        return COHORT_OK;
    const char *bytes = tokenizer->arena.data + entry->bytes;
    size_t length = entry->bytes_length;
    if (stream->n_held == 0 && utf8_check(bytes, length) == length) /* the common case, at once */
        return text_append(out, bytes, length, err);
    for (size_t i = 0; i < length; i++)
        TRY(push_byte(stream, (unsigned char)bytes[i], out, err));
    return COHORT_OK;
}

cohort_status token_stream_finish(struct token_stream *stream, struct text *out, cohort_error *err)
{
    bool cut = stream->n_held > 0;
    stream->n_held = 0;
    return cut ? text_append(out, REPLACEMENT, 3, err) : COHORT_OK;
}

cohort_status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special,
                               struct text *out, cohort_error *err)
{
    struct token_stream stream = {0};
    TRY(text_append(out, "", 0, err)); /* data is a string even when no id has text */
    for (size_t i = 0; i < count; i++)
        TRY(token_stream_push(&stream, tokenizer, ids[i], skip_special, out, err));
    return token_stream_finish(&stream, out, err);
}

/* Ids to text. Decoding at once and decoding as a stream are the same automaton: bytes go in one at
 * a time, and a character goes out when it is whole. Bytes that are not UTF-8 become one U+FFFD for
 * each maximal subpart (Unicode standard, section 3.9), as Python's "replace" and Rust's
 * from_utf8_lossy do. A run of <0x..> tokens is text or, if it is not UTF-8 in whole, one U+FFFD for each byte, so it
 * goes out when it has ended. */
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

/* What the steps make of the text so far goes out here: behind what is stripped off its start. */
static cohort_status emit(struct token_stream *stream, const struct decoder *decoder, const char *text, size_t length,
                          struct text *out, cohort_error *err)
{
    const struct text *strip = &decoder->strip;
    while (stream->n_stripped < decoder->n_strip && length > 0) {
        if (length < strip->length || memcmp(text, strip->data, strip->length) != 0) {
            stream->n_stripped = decoder->n_strip;
            break;
        }
        text += strip->length;
        length -= strip->length;
        stream->n_stripped++;
    }
    return text_append(out, text, length, err);
}

/* held has the beginning of a character: n_held < its length. */
static cohort_status push_byte(struct token_stream *stream, const struct decoder *decoder, unsigned char byte,
                               struct text *out, cohort_error *err)
{
    if (stream->n_held > 0 && !continues(stream->held, stream->n_held, byte)) {
        stream->n_held = 0;
        TRY(emit(stream, decoder, REPLACEMENT, 3, out, err));
    }
    if (stream->n_held == 0 && sequence_length(byte) == 0)
        return emit(stream, decoder, REPLACEMENT, 3, out, err);
    stream->held[stream->n_held++] = byte;
    if (stream->n_held < sequence_length(stream->held[0]))
        return COHORT_OK;
    size_t length = stream->n_held;
    stream->n_held = 0;
    return emit(stream, decoder, (const char *)stream->held, length, out, err);
}

static cohort_status push_bytes(struct token_stream *stream, const struct decoder *decoder, const char *bytes,
                                size_t length, struct text *out, cohort_error *err)
{
    if (stream->n_held == 0 && utf8_check(bytes, length) == length) /* the common case, at once */
        return emit(stream, decoder, bytes, length, out, err);
    for (size_t i = 0; i < length; i++)
        TRY(push_byte(stream, decoder, (unsigned char)bytes[i], out, err));
    return COHORT_OK;
}

/* The run of <0x..> tokens has ended. */
static cohort_status end_run(struct token_stream *stream, const struct decoder *decoder, struct text *out,
                             cohort_error *err)
{
    struct text *run = &stream->run;
    const size_t length = run->length;
    run->length = 0;
    if (utf8_check(run->data, length) == length)
        return emit(stream, decoder, run->data, length, out, err);
    for (size_t i = 0; i < length; i++)
        TRY(emit(stream, decoder, REPLACEMENT, 3, out, err));
    return COHORT_OK;
}

void token_stream_free(struct token_stream *stream)
{
    text_free(&stream->run);
    memset(stream, 0, sizeof *stream);
}

cohort_status token_stream_push(struct token_stream *stream, const struct tokenizer *tokenizer, int32_t id,
                                bool skip_special, struct text *out, cohort_error *err)
{
    const struct decoder *decoder = &tokenizer->decoder;
    if (id < 0 || id >= tokenizer->size)
        return COHORT_OK;
    const struct token_entry *entry = &tokenizer->entries[id];
    if ((entry->flags & TOKEN_PRESENT) == 0 || (skip_special && (entry->flags & TOKEN_SPECIAL) != 0))
        return COHORT_OK;
    struct text first = {0};
    const char *bytes = tokenizer->arena.data + entry->bytes;
    size_t length = entry->bytes_length;
    cohort_status status = COHORT_OK;
    if (!stream->begun && decoder->n_steps > 0 && (entry->flags & TOKEN_BYTE) == 0) {
        TRY_GOTO(
            decoder_token(decoder, tokenizer->arena.data + entry->source, entry->source_length, true, &first, err));
        bytes = first.data;
        length = first.length;
    }
    stream->begun = true;
    if ((entry->flags & TOKEN_BYTE) != 0) {
        TRY_GOTO(text_append(&stream->run, bytes, length, err));
        goto cleanup;
    }
    if (stream->run.length > 0)
        TRY_GOTO(end_run(stream, decoder, out, err));
    if (decoder->byte_level)
        TRY_GOTO(push_bytes(stream, decoder, bytes, length, out, err));
    else
        TRY_GOTO(emit(stream, decoder, bytes, length, out, err));
cleanup:
    text_free(&first);
    return status;
}

cohort_status token_stream_finish(struct token_stream *stream, const struct tokenizer *tokenizer, struct text *out,
                                  cohort_error *err)
{
    const struct decoder *decoder = &tokenizer->decoder;
    const bool cut = stream->n_held > 0;
    stream->n_held = 0;
    if (stream->run.length > 0)
        TRY(end_run(stream, decoder, out, err));
    return cut ? emit(stream, decoder, REPLACEMENT, 3, out, err) : COHORT_OK;
}

cohort_status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special,
                               struct text *out, cohort_error *err)
{
    struct token_stream stream = {0};
    cohort_status status = text_append(out, "", 0, err); /* data is a string even when no id has text */
    for (size_t i = 0; i < count && status == COHORT_OK; i++)
        status = token_stream_push(&stream, tokenizer, ids[i], skip_special, out, err);
    if (status == COHORT_OK)
        status = token_stream_finish(&stream, tokenizer, out, err);
    token_stream_free(&stream);
    return status;
}

/* ---- steps on a token alone ---- */

static cohort_status step_replace(const struct decode_step *step, const struct text *text, struct text *out,
                                  cohort_error *err)
{
    struct regex_run run = {0};
    struct regex_cursor cursor = {0, SIZE_MAX};
    size_t done = 0, from = 0, to = 0;
    bool found = true;
    cohort_status status = COHORT_OK;
    for (;;) {
        TRY_GOTO(regex_next(&run, step->pattern, text->data, text->length, &cursor, &found, &from, &to, err));
        if (!found)
            break;
        TRY_GOTO(text_append(out, text->data + done, from - done, err));
        TRY_GOTO(text_append(out, step->content.data, step->content.length, err));
        done = to;
    }
    TRY_GOTO(text_append(out, text->data + done, text->length - done, err));
cleanup:
    regex_run_free(&run);
    return status;
}

/* White space for each content; of the first token nothing, if it has been put before the text. */
static cohort_status step_metaspace(const struct decode_step *step, const struct text *text, bool first,
                                    struct text *out, cohort_error *err)
{
    const size_t length = step->content.length;
    for (size_t i = 0; i < text->length;) {
        if (text->length - i >= length && memcmp(text->data + i, step->content.data, length) == 0) {
            TRY(text_append(out, " ", first && step->drop_first ? 0 : 1, err));
            i += length;
        } else {
            TRY(text_append(out, text->data + i++, 1, err));
        }
    }
    return COHORT_OK;
}

static cohort_status step_strip(const struct decode_step *step, const struct text *text, struct text *out,
                                cohort_error *err)
{
    const size_t length = step->content.length;
    size_t from = 0, to = text->length;
    for (size_t n = 0; n < step->start && to - from >= length; n++, from += length)
        if (memcmp(text->data + from, step->content.data, length) != 0)
            break;
    for (size_t n = 0; n < step->stop && to - from >= length; n++, to -= length)
        if (memcmp(text->data + to - length, step->content.data, length) != 0)
            break;
    return text_append(out, text->data + from, to - from, err);
}

/* Appends the bytes that text decodes to: each byte-level character its byte; a text with any other
 * character is itself, as Hugging Face's ByteLevel decoder has it. */
static cohort_status append_decoded(struct text *out, const char *text, size_t length, cohort_error *err)
{
    const size_t start = out->length;
    for (size_t i = 0; i < length;) {
        uint32_t code_point = 0;
        i += utf8_decode(text + i, &code_point);
        int32_t byte = byte_level_byte(code_point);
        if (byte < 0) {
            out->length = start;
            return text_append(out, text, length, err);
        }
        char c = (char)(unsigned char)byte;
        TRY(text_append(out, &c, 1, err));
    }
    return text_append(out, "", 0, err);
}

cohort_status decoder_token(const struct decoder *decoder, const char *text, size_t length, bool first,
                            struct text *out, cohort_error *err)
{
    struct text now = {0}, next = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(text_append(&now, text, length, err));
    for (size_t i = 0; i < decoder->n_steps; i++) {
        const struct decode_step *step = &decoder->steps[i];
        next.length = 0;
        TRY_GOTO(text_append(&next, "", 0, err));
        if (step->kind == DECODE_REPLACE)
            TRY_GOTO(step_replace(step, &now, &next, err));
        else if (step->kind == DECODE_METASPACE)
            TRY_GOTO(step_metaspace(step, &now, first, &next, err));
        else
            TRY_GOTO(step_strip(step, &now, &next, err));
        struct text old = now;
        now = next;
        next = old;
        if (now.length > TOKENIZER_MAX_BYTES) {
            status = error_set(err, COHORT_ERR_FORMAT, "the tokenizer's decoder makes more than %d bytes of a token",
                               TOKENIZER_MAX_BYTES);
            goto cleanup;
        }
    }
    if (decoder->byte_level)
        TRY_GOTO(append_decoded(out, now.data, now.length, err));
    else
        TRY_GOTO(text_append(out, now.data, now.length, err));
cleanup:
    text_free(&now);
    text_free(&next);
    return status;
}

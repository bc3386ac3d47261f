#include "format/parquet_encoding.h"

#include <string.h>

static const char too_short[] = "its bytes end before its values";

static size_t left(struct byte_range in) { return (size_t)(in.end - in.at); }

static const char *read_varint(struct byte_range *in, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && in->at < in->end; shift += 7) {
        uint8_t byte = *in->at++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return NULL;
    }
    return in->at < in->end ? "a number has more than 64 bits" : too_short;
}

static const char *read_zigzag(struct byte_range *in, int64_t *value)
{
    uint64_t zigzag = 0;
    const char *wrong = read_varint(in, &zigzag);
    *value = (int64_t)(zigzag >> 1) ^ -(int64_t)(zigzag & 1);
    return wrong;
}

/* The 8 bytes at byte, as far as they lie before end. */
static uint64_t load_word(const uint8_t *byte, const uint8_t *end)
{
    uint64_t word = 0;
    if (end - byte >= 8)
        memcpy(&word, byte, 8);
    else
        memcpy(&word, byte, (size_t)(end - byte));
    return word;
}

/* The number of width bits (0 to 64) that begins at bit; all of it lies before end. */
static uint64_t unpack(const uint8_t *bits, uint64_t bit, unsigned width, const uint8_t *end)
{
    if (width == 0)
        return 0;
    const uint8_t *byte = bits + bit / 8;
    const unsigned shift = bit % 8;
    uint64_t value = load_word(byte, end) >> shift;
    if (shift + width > 64)
        value |= (uint64_t)byte[8] << (64 - shift);
    return width == 64 ? value : value & ((1ull << width) - 1);
}

/* ---- runs and bit-packed groups ---- */

struct rle_run {
    size_t count;
    const uint8_t *bits; /* NULL: count times value */
    uint32_t value;
};

static const char *next_run(struct byte_range *in, unsigned width, size_t wanted, struct rle_run *run)
{
    uint64_t head = 0;
    const char *wrong = read_varint(in, &head);
    if (wrong != NULL)
        return wrong;
    uint64_t count = head >> 1;
    if (head == 0 || count > UINT32_MAX)
        return "a run has an impossible length";
    if ((head & 1) != 0) {
        if (count == 0)
            return "a run has an impossible length";
        /* The last group may be cut short behind the values. */
        size_t most = count * 8 < wanted ? (size_t)count * 8 : wanted;
        if ((most * width + 7) / 8 > left(*in))
            return too_short;
        run->count = most;
        run->bits = in->at;
        in->at += count * width < left(*in) ? count * width : left(*in);
        return NULL;
    }
    const size_t bytes = (width + 7) / 8;
    if (bytes > left(*in))
        return too_short;
    run->count = count < wanted ? (size_t)count : wanted;
    run->bits = NULL;
    run->value = 0;
    for (size_t i = 0; i < bytes; i++)
        run->value |= (uint32_t)*in->at++ << 8 * i;
    if (width < 32 && run->value >> width != 0)
        return "a run's value has more bits than stated";
    return NULL;
}

const char *rle_levels(struct byte_range in, unsigned width, size_t count, uint8_t *out)
{
    struct rle_run run = {0};
    for (size_t done = 0; done < count; done += run.count) {
        const char *wrong = next_run(&in, width, count - done, &run);
        if (wrong != NULL)
            return wrong;
        if (run.bits == NULL)
            memset(out + done, (int)run.value, run.count);
        else
            for (size_t i = 0; i < run.count; i++)
                out[done + i] = (uint8_t)unpack(run.bits, i * width, width, in.end);
    }
    return NULL;
}

const char *rle_indices(struct byte_range in, unsigned width, size_t count, uint32_t *out)
{
    struct rle_run run = {0};
    for (size_t done = 0; done < count; done += run.count) {
        const char *wrong = next_run(&in, width, count - done, &run);
        if (wrong != NULL)
            return wrong;
        for (size_t i = 0; i < run.count; i++)
            out[done + i] = run.bits == NULL ? run.value : (uint32_t)unpack(run.bits, i * width, width, in.end);
    }
    return NULL;
}

const char *packed_levels(struct byte_range *in, unsigned width, size_t count, uint8_t *out)
{
    const size_t bytes = (count * width + 7) / 8;
    if (bytes > left(*in))
        return too_short;
    for (size_t i = 0; i < count; i++) {
        unsigned value = 0;
        for (size_t bit = i * width; bit < (i + 1) * width; bit++)
            value = value << 1 | (unsigned)(in->at[bit / 8] >> (7 - bit % 8) & 1);
        out[i] = (uint8_t)value;
    }
    in->at += bytes;
    return NULL;
}

/* ---- plain ---- */

const char *plain_booleans(struct byte_range in, size_t count, uint8_t *out)
{
    if (count / 8 + (count % 8 != 0) > left(in))
        return too_short;
    for (size_t i = 0; i < count; i++)
        out[i] = in.at[i / 8] >> i % 8 & 1;
    return NULL;
}

const char *plain_spans(struct byte_range in, size_t count, struct byte_span *out)
{
    const uint8_t *at = in.at;
    for (size_t i = 0; i < count; i++) {
        uint32_t length = 0;
        if (in.end - at < 4)
            return too_short;
        memcpy(&length, at, 4);
        at += 4;
        if (length > (size_t)(in.end - at))
            return "a value is longer than the page";
        out[i] = (struct byte_span){(uint32_t)(at - in.at), length};
        at += length;
    }
    return NULL;
}

/* ---- differences ---- */

static void store(void *out, size_t width, size_t i, uint64_t value)
{
    const uint32_t low = (uint32_t)value;
    if (width == 4)
        memcpy((char *)out + i * 4, &low, 4);
    else
        memcpy((char *)out + i * 8, &value, 8);
}

/* Arithmetic wraps: differences are modulo 2^64, and narrowing to 4 bytes makes them modulo 2^32. */
const char *delta_integers(struct byte_range *in, size_t width, size_t count, void *out)
{
    uint64_t block = 0, minis = 0, total = 0;
    int64_t number = 0;
    const char *wrong = NULL;
    if ((wrong = read_varint(in, &block)) != NULL || (wrong = read_varint(in, &minis)) != NULL ||
        (wrong = read_varint(in, &total)) != NULL || (wrong = read_zigzag(in, &number)) != NULL)
        return wrong;
    if (minis == 0 || block == 0 || block > 1u << 24 || block % minis != 0 || block / minis % 8 != 0)
        return "the blocks of its differences have an impossible size";
    if (total != count)
        return "it has another number of values than its head states";
    if (count == 0)
        return NULL;
    const size_t per_mini = (size_t)(block / minis);
    uint64_t value = (uint64_t)number;
    store(out, width, 0, value);
    for (size_t done = 1; done < count;) {
        if ((wrong = read_zigzag(in, &number)) != NULL)
            return wrong;
        if (minis > left(*in))
            return too_short;
        const uint8_t *widths = in->at;
        in->at += minis;
        for (size_t mini = 0; mini < minis && done < count; mini++) {
            const unsigned bits = widths[mini];
            if (bits > 64)
                return "a difference has more than 64 bits";
            const size_t bytes = per_mini / 8 * bits;
            if (bytes > left(*in))
                return too_short;
            const size_t n = count - done < per_mini ? count - done : per_mini;
            for (size_t i = 0; i < n; i++) {
                value += (uint64_t)number + unpack(in->at, (uint64_t)i * bits, bits, in->end);
                store(out, width, done + i, value);
            }
            in->at += bytes;
            done += n;
        }
    }
    return NULL;
}

/* Reads count lengths into spans[].length. *in moves behind them. */
static const char *read_lengths(struct byte_range *in, size_t count, uint32_t *out, size_t stride)
{
    /* In place: the numbers stand one behind the other first, then are moved to their places from the last on. */
    const char *wrong = delta_integers(in, 4, count, out);
    if (wrong != NULL)
        return wrong;
    for (size_t i = count; i-- > 0;) {
        if (out[i] > INT32_MAX)
            return "a length is negative";
        out[i * stride] = out[i];
    }
    return NULL;
}

const char *delta_spans(struct byte_range in, size_t count, struct byte_span *out)
{
    struct byte_range rest = in;
    const char *wrong = read_lengths(&rest, count, &out->offset, 2);
    if (wrong != NULL)
        return wrong;
    size_t offset = (size_t)(rest.at - in.at);
    for (size_t i = 0; i < count; i++) {
        const uint32_t length = out[i].offset;
        if (length > left(in) - offset)
            return "a value is longer than the page";
        out[i] = (struct byte_span){(uint32_t)offset, length};
        offset += length;
    }
    return NULL;
}

const char *delta_prefixes(struct byte_range in, size_t count, uint32_t *prefixes, struct byte_span *spans,
                           size_t *bytes)
{
    struct byte_range rest = in;
    const char *wrong = read_lengths(&rest, count, prefixes, 1);
    if (wrong == NULL)
        wrong = delta_spans(rest, count, spans);
    if (wrong != NULL)
        return wrong;
    size_t before = 0;
    *bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (prefixes[i] > before)
            return "a value takes more from the one before than that has";
        spans[i].offset += (uint32_t)(rest.at - in.at);
        before = (size_t)prefixes[i] + spans[i].length;
        *bytes += before;
    }
    return NULL;
}

void delta_join(const uint8_t *suffixes, size_t count, const uint32_t *prefixes, struct byte_span *spans, uint8_t *out)
{
    uint8_t *at = out;
    const uint8_t *before = out;
    for (size_t i = 0; i < count; i++) {
        memcpy(at, before, prefixes[i]);
        memcpy(at + prefixes[i], suffixes + spans[i].offset, spans[i].length);
        before = at;
        spans[i] = (struct byte_span){(uint32_t)(at - out), prefixes[i] + spans[i].length};
        at += spans[i].length;
    }
}

const char *split_streams(struct byte_range in, size_t width, size_t count, uint8_t *out)
{
    if (width != 0 && count > left(in) / width)
        return too_short;
    for (size_t byte = 0; byte < width; byte++)
        for (size_t i = 0; i < count; i++)
            out[i * width + byte] = in.at[byte * count + i];
    return NULL;
}

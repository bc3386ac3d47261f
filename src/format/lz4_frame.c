#include "format/lz4_frame.h"

#include <string.h>

/* What is left to read. */
struct input {
    const uint8_t *at, *end;
};

static bool take(struct input *in, size_t n, const uint8_t **bytes)
{
    if ((size_t)(in->end - in->at) < n)
        return false;
    *bytes = in->at;
    in->at += n;
    return true;
}

/* A length of 4 bits, and where these are all set the bytes that follow, up to one that is not 255. */
static bool take_length(struct input *in, unsigned nibble, size_t *length)
{
    *length = nibble;
    while (nibble == 15) {
        if (in->at == in->end)
            return false;
        *length += *in->at;
        if (*in->at++ != 255)
            break;
    }
    return true;
}

/* Pairs of literals and a copy of what was unpacked before; the last pair has literals alone. *n of the most bytes at to
 * are unpacked, also of blocks before this one. */
static bool unpack_block(struct input in, uint8_t *to, size_t *n, size_t most)
{
    enum { LEAST_COPY = 4 };
    while (in.at < in.end) {
        const uint8_t token = *in.at++, *bytes = NULL;
        size_t length = 0;
        if (!take_length(&in, token >> 4, &length) || !take(&in, length, &bytes) || length > most - *n)
            return false;
        memcpy(to + *n, bytes, length);
        *n += length;
        if (in.at == in.end)
            return true;
        if (!take(&in, 2, &bytes))
            return false;
        const size_t back = bytes[0] | (size_t)bytes[1] << 8;
        if (!take_length(&in, token & 15, &length))
            return false;
        length += LEAST_COPY;
        if (back == 0 || back > *n || length > most - *n)
            return false;
        if (back >= length) {
            memcpy(to + *n, to + *n - back, length);
        } else {
            for (size_t i = 0; i < length; i++) /* what is copied may be what was just written */
                to[*n + i] = to[*n + i - back];
        }
        *n += length;
    }
    return false;
}

bool lz4_frame_unpack(const uint8_t *bytes, size_t length, uint8_t *to, size_t unpacked)
{
    enum { VERSION = 0xc0, VERSION_1 = 0x40, BLOCK_SUM = 0x10, SIZE = 8, SUM = 4, DICTIONARY = 1 };
    static const uint8_t magic[] = {0x04, 0x22, 0x4d, 0x18};
    struct input in = {bytes, bytes + length};
    const uint8_t *head = NULL, *unused = NULL, *block = NULL;
    size_t n = 0;
    if (!take(&in, 4, &head) || memcmp(head, magic, sizeof magic) != 0 || !take(&in, 2, &head))
        return false;
    const uint8_t flags = head[0];
    if ((flags & VERSION) != VERSION_1 || (flags & DICTIONARY) != 0)
        return false;
    if (!take(&in, (flags & SIZE) != 0 ? 9 : 1, &unused)) /* the content's size, and the head's checksum */
        return false;
    for (;;) {
        uint32_t stated = 0;
        if (!take(&in, 4, &head))
            return false;
        memcpy(&stated, head, sizeof stated);
        if (stated == 0)
            break;
        const size_t size = stated & 0x7fffffff;
        if (!take(&in, size, &block))
            return false;
        if (stated >> 31 != 0) {
            if (size > unpacked - n)
                return false;
            memcpy(to + n, block, size);
            n += size;
        } else if (!unpack_block((struct input){block, block + size}, to, &n, unpacked)) {
            return false;
        }
        if ((flags & BLOCK_SUM) != 0 && !take(&in, 4, &unused))
            return false;
    }
    return n == unpacked && ((flags & SUM) == 0 || take(&in, 4, &unused)) && in.at == in.end;
}

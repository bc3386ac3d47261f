#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

size_t utf8_check(const char *text, size_t length)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    while (i < length) {
        unsigned char lead = s[i];
        if (lead < 0x80) {
            i++;
            for (uint64_t eight = 0; length - i >= sizeof eight; i += sizeof eight) {
                memcpy(&eight, s + i, sizeof eight);
                if ((eight & 0x8080808080808080u) != 0)
                    break;
            }
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
        *code_point = (uint32_t)(s[0] & 0x0F) << 12 | (uint32_t)(s[1] & 0x3F) << 6 | (uint32_t)(s[2] & 0x3F);
        return 3;
    }
    *code_point = (uint32_t)(s[0] & 0x07) << 18 | (uint32_t)(s[1] & 0x3F) << 12 | (uint32_t)(s[2] & 0x3F) << 6 |
                  (uint32_t)(s[3] & 0x3F);
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

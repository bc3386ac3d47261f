/* The byte-level alphabet, and the way back through UTF-8. */
#include "text/tokenizer_internal.h"

/* GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards in
 * their order. */
uint32_t byte_level_char(unsigned char byte)
{
    if (byte <= 0x20)
        return 0x100u + byte;
    if (byte >= 0x7F && byte <= 0xA0)
        return 0x121u + (uint32_t)(byte - 0x7F);
    if (byte == 0xAD)
        return 0x143;
    return byte;
}

int32_t byte_level_byte(uint32_t code_point)
{
    if (code_point >= 0x100 && code_point <= 0x120)
        return (int32_t)(code_point - 0x100);
    if (code_point >= 0x121 && code_point <= 0x142)
        return (int32_t)(code_point - 0x121 + 0x7F);
    if (code_point == 0x143)
        return 0xAD;
    if (code_point > 0xFF || byte_level_char((unsigned char)code_point) != code_point)
        return -1;
    return (int32_t)code_point;
}

size_t utf8_before(const char *text, size_t end)
{
    do
        end--;
    while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80);
    return end;
}

bool byte_level_bytes(const char *text, size_t length, char *bytes, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < length;) {
        uint32_t code_point = 0;
        if (text[i] > 0x20 && text[i] < 0x7F && *n < TOKENIZER_KEY_BYTES) { /* stands for itself */
            bytes[(*n)++] = text[i++];
            continue;
        }
        i += utf8_decode(text + i, &code_point);
        int32_t byte = byte_level_byte(code_point);
        if (byte < 0 || *n == TOKENIZER_KEY_BYTES)
            return false;
        bytes[(*n)++] = (char)(unsigned char)byte;
    }
    return true;
}

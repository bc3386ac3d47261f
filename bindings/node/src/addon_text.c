#include "addon.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void addon_text_free(struct addon_text *text)
{
    free(text->data);
    memset(text, 0, sizeof *text);
}

void addon_text_add(struct addon_text *text, const char *bytes, size_t length)
{
    if (text->failed)
        return;
    if (text->room - text->length <= length) {
        size_t room = text->room == 0 ? 256 : text->room;
        while (room - text->length <= length && room < SIZE_MAX / 2)
            room *= 2;
        char *data = room - text->length > length ? realloc(text->data, room) : NULL;
        if (data == NULL) {
            addon_text_free(text);
            text->failed = true;
            return;
        }
        text->data = data;
        text->room = room;
    }
    if (length > 0)
        memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = '\0';
}

void addon_text_say(struct addon_text *text, const char *string) { addon_text_add(text, string, strlen(string)); }

void addon_text_json(struct addon_text *text, const char *bytes, size_t length)
{
    size_t from = 0;
    if (bytes == NULL) {
        addon_text_say(text, "null");
        return;
    }
    addon_text_say(text, "\"");
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)bytes[i];
        char escape[8];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        addon_text_add(text, bytes + from, i - from);
        snprintf(escape, sizeof escape, c < 0x20 ? "\\u%04x" : "\\%c", (unsigned)c);
        addon_text_say(text, escape);
        from = i + 1;
    }
    addon_text_add(text, bytes + from, length - from);
    addon_text_say(text, "\"");
}

void addon_text_string(struct addon_text *text, const char *string)
{
    addon_text_json(text, string, string == NULL ? 0 : strlen(string));
}

void addon_text_number(struct addon_text *text, double value)
{
    char digits[40];
    if (!isfinite(value)) {
        addon_text_say(text, "null");
        return;
    }
    snprintf(digits, sizeof digits, "%.17g", value);
    char *comma = strchr(digits, ','); /* of a locale that the host program has set */
    if (comma != NULL)
        *comma = '.';
    addon_text_say(text, digits);
}

void addon_text_key(struct addon_text *text, const char *name)
{
    if (text->length > 0 && text->data[text->length - 1] != '{')
        addon_text_say(text, ",");
    addon_text_string(text, name);
    addon_text_say(text, ":");
}

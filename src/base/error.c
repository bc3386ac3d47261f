#include "base/error.h"
#include "base/number.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first byte of the character that holds text[at], or the byte behind it if after. */
static size_t character_edge(const char *text, size_t at, bool after)
{
    if (after)
        while (((unsigned char)text[at] & 0xc0u) == 0x80u)
            at++;
    else
        while (at > 0 && ((unsigned char)text[at] & 0xc0u) == 0x80u)
            at--;
    return at;
}

/* Copies whole, which does not fit, into to[size] without a part of its middle: of its longest word (a path, mostly)
 * where that is long enough, so that the reason behind it stays. */
static void shorten(char *to, size_t size, const char *whole)
{
    static const char mark[] = "...";
    enum { LEAST = 32 }; /* bytes of a word that stay on either side */
    size_t length = strlen(whole), over = length + sizeof mark - size;
    size_t first = 0, last = length;
    for (size_t at = 0, best = 0; at < length;) {
        size_t n = strcspn(whole + at, " \n");
        if (n > best && n >= over + 2 * (size_t)LEAST) {
            best = n;
            first = at;
            last = at + n;
        }
        at += n + 1;
    }
    /* Two thirds of what stays lie behind the cut: there stand the file's name and the reason. */
    size_t from = character_edge(whole, first + (last - first - over) / 3, false);
    size_t until = character_edge(whole, from + over, true);
    memcpy(to, whole, from);
    memcpy(to + from, mark, sizeof mark - 1);
    strcpy(to + from + sizeof mark - 1, whole + until);
}

enum {
    MESSAGE_SIZE = sizeof((cohort_error *)0)->message,
    MESSAGE_LEAST = 16 /* bytes that something can be said in */
};

/* Bytes that err, whose size the caller's header set, has for its message; 0 is the first version, which had as many as
 * this one. */
static size_t message_room(const cohort_error *err)
{
    const size_t before = offsetof(cohort_error, message);
    if (err->size == 0 || err->size >= before + MESSAGE_SIZE)
        return MESSAGE_SIZE;
    return err->size > before ? err->size - before : 0;
}

/* Copies a text into err's message, shortened where it is too long for it. */
static void set_message(cohort_error *err, const char *text)
{
    const size_t room = message_room(err);
    if (room < MESSAGE_LEAST)
        return;
    if (strlen(text) < room)
        strcpy(err->message, text);
    else
        shorten(err->message, room, text);
}

/* Formats and copies to[MESSAGE_SIZE], shortened where it is too long for it. Without memory for the whole text its end
 * is cut. */
static void format_message(char *to, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = number_vformat(to, MESSAGE_SIZE, format, args);
    if (n >= MESSAGE_SIZE) {
        char *whole = malloc((size_t)n + 1);
        if (whole != NULL) {
            number_vformat(whole, (size_t)n + 1, format, again);
            shorten(to, MESSAGE_SIZE, whole);
        }
        free(whole);
    }
    va_end(again);
}

#undef error_set /* the macro for clang-tidy */
cohort_status error_set(cohort_error *err, cohort_status status, const char *format, ...)
{
    if (err != NULL) {
        char message[MESSAGE_SIZE]; /* the arguments may point into the one that is replaced */
        va_list args;
        va_start(args, format);
        format_message(message, format, args);
        va_end(args);
        if (err->size == 0 || err->size >= offsetof(cohort_error, message))
            err->status = status;
        set_message(err, message);
    }
    return status;
}

void error_context(cohort_error *err, const char *format, ...)
{
    if (err == NULL || message_room(err) < MESSAGE_LEAST)
        return;
    char context[MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    format_message(context, format, args);
    va_end(args);
    char whole[2 * MESSAGE_SIZE + 2];
    snprintf(whole, sizeof whole, "%s: %s", context, err->message);
    set_message(err, whole);
}

const char *cohort_status_name(cohort_status status)
{
    switch (status) {
    case COHORT_OK: return "ok";
    case COHORT_ERR_ARGUMENT: return "invalid argument";
    case COHORT_ERR_IO: return "input/output error";
    case COHORT_ERR_FORMAT: return "malformed file";
    case COHORT_ERR_UNSUPPORTED: return "unsupported";
    case COHORT_ERR_MEMORY: return "out of memory";
    case COHORT_ERR_STATE: return "wrong state";
    case COHORT_ERR_REWARD: return "reward failed";
    case COHORT_ERR_NUMERIC: return "numeric error";
    case COHORT_ERR_CANCELLED: return "cancelled";
    case COHORT_ERR_INTERNAL: return "internal error";
    case COHORT_ERR_DIVERGED: return "diverged";
    }
    return "unknown status";
}

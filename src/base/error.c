#include "base/error.h"
#include "base/number.h"

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

/* Formats into err's message, shortened where it is too long for it. Without memory for the whole text its end is
 * cut. */
static void set_message(cohort_error *err, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = number_vformat(err->message, sizeof err->message, format, args);
    if (n >= (int)sizeof err->message) {
        char *whole = malloc((size_t)n + 1);
        if (whole != NULL) {
            number_vformat(whole, (size_t)n + 1, format, again);
            shorten(err->message, sizeof err->message, whole);
        }
        free(whole);
    }
    va_end(again);
}

#undef error_set /* the macro for clang-tidy */
cohort_status error_set(cohort_error *err, cohort_status status, const char *format, ...)
{
    if (err != NULL) {
        /* The arguments may point into the message that is replaced. */
        cohort_error fresh = {.status = status};
        va_list args;
        va_start(args, format);
        set_message(&fresh, format, args);
        va_end(args);
        *err = fresh;
    }
    return status;
}

void error_context(cohort_error *err, const char *format, ...)
{
    if (err == NULL)
        return;
    cohort_error context = {0};
    va_list args;
    va_start(args, format);
    set_message(&context, format, args);
    va_end(args);
    char whole[sizeof context.message + 2 + sizeof err->message];
    snprintf(whole, sizeof whole, "%s: %s", context.message, err->message);
    if (strlen(whole) < sizeof err->message)
        strcpy(err->message, whole);
    else
        shorten(err->message, sizeof err->message, whole);
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
    }
    return "unknown status";
}

/* Text for a terminal of some columns: broken between words, never within one. */
#include "cli.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { UNKNOWN = 80 }; /* columns of a terminal that does not say */

int cli_columns(int fd)
{
    struct winsize size;
    if (isatty(fd) != 1)
        return 0;
    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : UNKNOWN;
}

/* Characters of a word: bytes but those that continue one. */
static size_t cells(const char *word, size_t length)
{
    size_t n = 0;
    for (size_t i = 0; i < length; i++)
        n += ((unsigned char)word[i] & 0xc0) != 0x80 ? 1 : 0;
    return n;
}

void cli_print_wrapped(FILE *to, const char *text, int columns)
{
    const size_t room = columns > 1 ? (size_t)columns - 1 : 0, indent = 2;
    size_t column = 0, blanks = strspn(text, " ");
    if (room < 10 || cells(text, strlen(text)) <= room) {
        fprintf(to, "%s\n", text);
        return;
    }
    for (const char *at = text; *at != '\0';) {
        const size_t gap = strspn(at, " "), length = strcspn(at + gap, " "), width = cells(at + gap, length);
        if (column > indent + blanks && column + gap + width > room) {
            fprintf(to, "\n%*s", (int)(indent + blanks), "");
            column = indent + blanks;
        } else {
            fprintf(to, "%*s", (int)gap, "");
            column += gap;
        }
        fprintf(to, "%.*s", (int)length, at + gap);
        column += width;
        at += gap + length;
    }
    fputc('\n', to);
}

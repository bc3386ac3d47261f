#include "report/html.h"

#include "base/hash.h"
#include "base/utf8.h"

#include <nettle/base64.h>
#include <string.h>

static bool steers(uint32_t c)
{
    return (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

static const char *entity(uint32_t c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

cohort_status html_text(struct text *out, const char *bytes, size_t length, cohort_error *err)
{
    for (size_t done = 0; done < length;) {
        const size_t valid = done + utf8_check(bytes + done, length - done);
        size_t plain = done;
        while (done < valid) {
            uint32_t c = 0;
            const size_t size = utf8_decode(bytes + done, &c);
            const char *name = entity(c);
            if (name != NULL || steers(c)) {
                TRY(text_append(out, bytes + plain, done - plain, err));
                TRY(name != NULL ? text_append(out, name, strlen(name), err)
                                 : text_printf(out, err, c < 0x100 ? "\\x%02x" : "\\u%04x", (unsigned)c));
                plain = done + size;
            }
            done += size;
        }
        TRY(text_append(out, bytes + plain, done - plain, err));
        if (done < length) {
            TRY(text_append(out, "\xef\xbf\xbd", 3, err));
            done++;
        }
    }
    return COHORT_OK;
}

cohort_status html_string(struct text *out, const char *string, cohort_error *err)
{
    return string == NULL ? COHORT_OK : html_text(out, string, strlen(string), err);
}

size_t html_cut(const char *bytes, size_t length, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < n && at < length; i++) {
        uint32_t c = 0;
        const size_t left = length - at < 4 ? length - at : 4, valid = utf8_check(bytes + at, left);
        at += valid > 0 ? utf8_decode(bytes + at, &c) : 1;
    }
    return at;
}

cohort_status html_style_hash(struct text *out, const char *style, size_t length, cohort_error *err)
{
    struct sha256_ctx state;
    uint8_t digest[SHA256_DIGEST_SIZE];
    char text[BASE64_ENCODE_RAW_LENGTH(SHA256_DIGEST_SIZE) + 1] = "";
    sha256_init(&state);
    sha256_update(&state, length, (const uint8_t *)style);
    sha256_digest(&state, sizeof digest, digest);
    base64_encode_raw(text, sizeof digest, digest);
    return text_printf(out, err, "sha256-%s", text);
}

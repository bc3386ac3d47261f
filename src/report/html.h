/* Text in a page: whatever a model, a data set or a file name holds stands there as characters, never as markup. */
#ifndef COHORT_REPORT_HTML_H
#define COHORT_REPORT_HTML_H

#include "base/memory.h"

/* Appends bytes with & < > " ' escaped, bytes that are not UTF-8 as U+FFFD, and what steers a terminal or the direction
 * of text (controls but newline and tab, U+202A to U+202E, U+2066 to U+2069) as its number: \x1b, \u202e. */
cohort_status html_text(struct text *out, const char *bytes, size_t length, cohort_error *err);
/* The same of a string; NULL: nothing. */
cohort_status html_string(struct text *out, const char *string, cohort_error *err);
/* Bytes of text up to which at most n characters fit; never inside one. */
size_t html_cut(const char *bytes, size_t length, size_t n);
/* The page's own style by the hash that a Content-Security-Policy names: "sha256-" and base64. */
cohort_status html_style_hash(struct text *out, const char *style, size_t length, cohort_error *err);

#endif

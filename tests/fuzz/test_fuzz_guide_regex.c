/* Any bytes as a regular expression: refused with its place, or it guides texts (guide_fuzz.h). */
#include "support/guide_fuzz.h"

static bool taken(const uint8_t *data, size_t size) { return guide_fuzz_one(GUIDE_REGEX, data, size, NULL); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)taken(data, size);
    return 0;
}

#ifndef COHORT_LIBFUZZER
static const char *const texts[] = {"^(a|b+?)*c{2,30}[^\\d\\s]\\p{Lu}?$", "(?i)straße|\\x{1F600}[\\w-]{0,5}.",
                                    "(?s:.)(?:ab){1000}\\u00e9[a-f0-9]", "((((a?)*)+)?|b){3,}",
                                    "[^\\x00-\\x1f\"\\\\]*\\cA|\\n\\t"};
static const char *const words[] = {"(",           ")",     "[",        "]",   "{0,99999}", "{3,}",   "*",     "+",
                                    "?",           "|",     "\\d",      "\\W", "\\p{L}",    "\\P{N}", "(?i)",  "(?s)",
                                    "(?:",         "\\x41", "[^a]",     "^",   "$",         "\\b",    "(?=a)", "\\1",
                                    "\\u{10FFFF}", ".",     "\xC3\xA9", "{",   "}"};

int main(int argc, char **argv)
{
    const struct fuzz_target target = {.name = "guide_regex",
                                       .one = LLVMFuzzerTestOneInput,
                                       .accepted = taken,
                                       .words = words,
                                       .n_words = sizeof words / sizeof words[0],
                                       .max_size = 200};
    return fuzz_run_texts(&target, texts, sizeof texts / sizeof texts[0], argc, argv);
}
#endif

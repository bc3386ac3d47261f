/* Any bytes as an expected answer and a completion: the comparison ends within its bounds, gives the same result twice,
 * and finds every answer that is not blank equal to itself. An input is the expected answer, a line end, and the
 * completion. */
#include "support/fuzz.h"

#include "reward/answer_internal.h"

#include <stdlib.h>
#include <string.h>

static bool equal(struct span stated, struct span expected)
{
    bool same = false;
    cohort_error err = {0};
    if (answer_equal(stated, expected, &same, &err) != COHORT_OK)
        abort();
    return same;
}

static bool is_blank(struct span s)
{
    struct text cleaned = {0};
    if (answer_clean(s, &cleaned, NULL) != COHORT_OK)
        abort();
    const bool blank = cleaned.length == 0;
    text_free(&cleaned);
    return blank;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    const size_t length = end != NULL ? (size_t)(end - data) : size;
    const struct span expected = answer_expected((struct span){(const char *)data, length});
    const struct span completion = {(const char *)data + length, size - length};
    const struct found_answer found = answer_find(completion);
    if (equal(found.whole, expected) != equal(found.whole, expected))
        abort();
    for (int i = 0; i < found.n_cut; i++)
        (void)equal(found.cut[i], expected);
    if (!is_blank(expected) && !equal(expected, expected))
        abort();
    return 0;
}

#ifndef COHORT_LIBFUZZER
static const char *const texts[] = {
    "\\frac{1}{2}\n\\boxed{0.5}",
    "(-\\infty,0)\\cup[1,2]\nx<0",
    "2\\frac{3}{4}\n11/4",
    "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}\n\\boxed{\\frac12\\begin{bmatrix}2&4\\\\6&8\\end{bmatrix}}",
    "\\{1,\\{2,3\\}\\}\n1 and 2",
    "\\pm\\sqrt[3]{5}\nx = 1, y = 2",
    "\\sin^2 x+\\log_2 8!\n|x-1|",
    "y=2x+1\n2y = 4x+2",
    "12\\%\n0.12 cm^2",
    "101_2\n\\mathbb{R}\\setminus\\{0\\}",
    "0.1\\overline{6}\n1e-3",
    "\\binom{5}{2}\n\\gcd(4,6) \\max(1,2)",
    "(A) 42\nThe answer is **A**.",
    "1<x\\le 3\n(1,3]",
    "\\$1,234.50\n\\boxed{2}, \\boxed{3}"};
static const char *const words[] = {"\\frac",
                                    "{",
                                    "}",
                                    "(",
                                    ")",
                                    "[",
                                    "]",
                                    "\\{",
                                    "\\}",
                                    "|",
                                    ",",
                                    "=",
                                    "<",
                                    "\\le ",
                                    "^",
                                    "_",
                                    "!",
                                    "%",
                                    "\\sqrt",
                                    "\\cup ",
                                    "\\pm ",
                                    "\\infty",
                                    "\\pi",
                                    "e",
                                    "i",
                                    "x",
                                    "1",
                                    "99",
                                    ".",
                                    "\\log_",
                                    "\\sin ",
                                    "&",
                                    "\\\\",
                                    "\\begin{pmatrix}",
                                    "\\end{pmatrix}",
                                    "and ",
                                    " cm",
                                    "\xc2\xb0",
                                    "\\overline{",
                                    "\\lfloor ",
                                    "\\rfloor",
                                    "/",
                                    "-",
                                    ":"};

int main(int argc, char **argv)
{
    const struct fuzz_target target = {.name = "answers",
                                       .one = LLVMFuzzerTestOneInput,
                                       .words = words,
                                       .n_words = sizeof words / sizeof words[0],
                                       .max_size = 600};
    return fuzz_run_texts(&target, texts, sizeof texts / sizeof texts[0], argc, argv);
}
#endif

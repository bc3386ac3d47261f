/* Any bytes as a grammar, GBNF or Lark: refused with its line, or it guides texts (guide_fuzz.h). */
#include "support/guide_fuzz.h"

static bool taken(const uint8_t *data, size_t size) { return guide_fuzz_one(GUIDE_GRAMMAR, data, size, NULL); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)taken(data, size);
    return 0;
}

#ifndef COHORT_LIBFUZZER
static const char *const texts[] = {
    "root ::= \"a\" [b-d]* | x{2,3}\nx ::= \"\\x41\" \"\\u00e9\"? | \"(\" root # a comment\n",
    "root ::= list <call>?\nlist ::= \"[\" (item (\",\" item)*)? \"]\"\nitem ::= list | [^\\]a]{1,2} | !<call>\n",
    "expr ::= expr [+*] term | term\nterm ::= . | \"(\" expr \")\"\nroot ::= expr\n",
    "start: a+ (\"b\"i | C)~1..3 /[a-z]+?/is // one\n?a: \"x\"..\"z\" -> it\n  | [C]\nC: \"c\" | D\nD: /d/\n%ignore \" "
    "\"\n",
    "%import common.INT\n%import common (WS, ESCAPED_STRING)\n%ignore WS\nstart: INT ESCAPED_STRING? <call>\n",
    "start: %json {\"type\": \"array\", \"items\": {\"enum\": [1, \"a\"]}} x\n"
    "x: \"b\" %regex {\"substring_chars\": \"abc\"} x?\n"};
static const char *const words[] = {"::=",       "root",      "start:",  "\n",       "|",
                                    "(",         ")",         "[",       "]",        "{2,}",
                                    "{0,99999}", "~3",        "~0..9",   "*",        "+",
                                    "?",         "\"a\"",     "\\x00",   "/a|b/",    "<call>",
                                    "<[3]>",     "!",         "%json {", "%ignore ", "%import common.NUMBER\n",
                                    "//",        "#",         ".",       "-> x",     "[^a-\\xff]",
                                    "\xC3\xA9",  "\\\xC3\xA9"};

int main(int argc, char **argv)
{
    const struct fuzz_target target = {.name = "guide_grammar",
                                       .one = LLVMFuzzerTestOneInput,
                                       .accepted = taken,
                                       .words = words,
                                       .n_words = sizeof words / sizeof words[0],
                                       .max_size = 400};
    return fuzz_run_texts(&target, texts, sizeof texts / sizeof texts[0], argc, argv);
}
#endif

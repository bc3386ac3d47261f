/* guided_grammar in Lark's notation: what is read, what is refused by name and line, and texts that llguidance was asked about
 * (tests/fixtures/guided_lark.jsonl, oracle/guided_lark.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/json_text.h"
#include "guide/grammar_tables.h"
#include "support/accepts.h"
#include "support/guide_test.h"

#include <jansson.h>

static struct tokenizer *toy;
static struct guide_vocabulary *words;

static int setup(void **state)
{
    static const char *const tokens[] = {"a", "b", "ab"}, *const special[] = {"<end>", "<|call|>"};
    (void)state;
    toy = guide_test_tokenizer(tokens, 3, special, 2);
    return guide_vocabulary_create(&words, toy, 0, NULL) == COHORT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    guide_vocabulary_destroy(words);
    tokenizer_destroy(toy);
    return 0;
}

static cohort_status compile(struct grammar_tables *tables, const char *text, cohort_error *err)
{
    static const struct guide_options options = {.after = -1};
    struct grammar grammar = {0};
    cohort_status status = guide_read(&grammar, words, GUIDE_GRAMMAR, text, strlen(text), &options, "test", NULL, err);
    if (status == COHORT_OK)
        status = grammar_compile(tables, &grammar, "test", err);
    grammar_free(&grammar);
    return status;
}

static void test_read(void **state)
{
    (void)state;
    static const struct {
        const char *grammar, *in[6], *out[6];
    } cases[] = {
        {"start: \"a\" (\"b\" | C)* // a comment\nC: \"c\"..\"e\" # another\n", {"a", "abcdeb"}, {"", "b", "af"}},
        {"?start: x -> one\n  | y -> two\nx: \"x\"i\ny: \"\\x41\\u00e9\\\"\"~2\n",
         {"x", "X", "A\xC3\xA9\"A\xC3\xA9\""},
         {"y", "A\xC3\xA9\""}},
        {"start: /[a-c]+\\/d/ /E.F/is\n", {"ab/deXf", "c/dE\nF"}, {"ab/d", "a/dEF"}},
        {"start: /a\\/[\\/x]/ \"/\"\n", {"a///", "a/x/"}, {"a//"}},
        {"start: NAME (\"=\" NUM)~0..2 [\";\"]\nNAME: LET+\nLET: /[a-z]/\nNUM: \"0\"..\"9\"{1,3}\n",
         {"x", "abc=1=22", "x=123;", "x;"},
         {"x=", "x=1234", "x=1=2=3", ";"}},
        {"start: a\na: a \"+\" b | b\nb: \"1\" | \"(\" a \")\"\n", {"1+1", "(1+1)+1"}, {"", "+1", "1+"}},
        {"start: A B\nA: /a+/\nB: /ab/\n", {"aab", "aaab"}, {"ab"}}, /* no terminal is greedy */
        {"start: \"a\" \"b\"+\n%ignore \" \"\n%ignore /#[^\\n]*\\n/\n", {"ab", "a b  b", "a#x\nb", " ab"}, {"a b "}},
        {"start: A\nA: \"a\" \"b\"\n%ignore \" \"\n", {"ab", " ab"}, {"a b"}}, /* not within a terminal */
        {"%import common.INT\n%import common.WS_INLINE -> _S\n%import common (CNAME, ESCAPED_STRING)\n"
         "start: CNAME _S INT ESCAPED_STRING?\n",
         {"x_1 12", "a\t3\"b\\\"c\""},
         {"1 2", "x 1\"", "x"}},
        {"%import common.SIGNED_NUMBER\nstart: SIGNED_NUMBER\n", {"1", "-1.5e+3", "+.5", "7."}, {"", ".", "1e", "e1"}},
        {"%import common.FLOAT\nstart: FLOAT\n", {"1e5", "1.", ".5e-1"}, {"1", "."}},
        {"%import common.C_COMMENT\nstart: C_COMMENT\n", {"/**/", "/* * / **/"}, {"/*/", "/* */ */"}},
        {"start: \"v=\" %json {\"type\": \"object\", \"properties\": {\"}\": {\"const\": \"\\\"{\"}}, "
         "\"additionalProperties\": false} \".\"\n",
         {"v={}.", "v={\"}\": \"\\\"{\"}."},
         {"v={\"a\": 1}.", "v={}"}},
        {"start: %regex {\"substring_chars\": \"a\xC3\xA9z\"} \"!\"\n",
         {"!", "a!", "a\xC3\xA9!", "z!", "\xC3\xA9z!"},
         {"az!", "\xC3!"}},
        {"start: %regex {\"substring_chunks\": [\"ab\", \"c\", \"d\"]}\n", {"", "ab", "cd", "abcd"}, {"b", "abd"}},
        {"start: (\"a\"\n  | \"b\"\n) \"c\"\n\n\nother: \"unused\"\n", {"ac", "bc"}, {"c"}},
        {"start: | \"a\"", {"", "a"}, {"b"}},
        {"start: \"::=\" /=+/", {"::==", "::==="}, {"::="}}, /* evidently Lark all the same */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct grammar_tables tables;
        cohort_error err = {0};
        if (compile(&tables, cases[i].grammar, &err) != COHORT_OK)
            fail_msg("%s: %s", cases[i].grammar, err.message);
        for (size_t k = 0; k < 6; k++) {
            if (cases[i].in[k] != NULL && !accepts(&tables, cases[i].in[k], strlen(cases[i].in[k])))
                fail_msg("%s: %s", cases[i].grammar, cases[i].in[k]);
            if (cases[i].out[k] != NULL && accepts(&tables, cases[i].out[k], strlen(cases[i].out[k])))
                fail_msg("%s: not %s", cases[i].grammar, cases[i].out[k]);
        }
        grammar_tables_free(&tables);
    }
}

static void test_tokens(void **state)
{
    (void)state;
    static const char text[] = "start: \"a\" <|call|> <[1]>\n";
    const int32_t call = tokenizer_find(toy, "<|call|>");
    const struct guide_options options = {.after = -1};
    struct guide *guide = NULL;
    struct guide_state *s = NULL;
    assert_int_equal(guide_create(&guide, words, GUIDE_GRAMMAR, text, sizeof text - 1, &options, "test", NULL, NULL),
                     COHORT_OK);
    assert_int_equal(guide_start(&s, guide, 20, 0, NULL), COHORT_OK);
    assert_false(guide_test_bit(guide_mask(s), call));
    assert_true(guide_accept(s, 0));
    assert_true(guide_test_bit(guide_mask(s), call));
    assert_true(guide_accept(s, call) && guide_accept(s, 1) && guide_must_end(s));
    guide_stop(s);
    guide_release(guide);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"x: \"a\"\n%ignore \" \"", "the grammar has no rule 'start'"},
        {"start: x\n", "line 1: rule 'x' is not defined"},
        {"start: \"a\"\n\nstart: \"b\"\n", "line 3: this name is defined already"},
        {"start: \"a", "line 1: a text without its closing"},
        {"start: /a\n", "line 1: a regular expression without its closing '/'"},
        {"start: (\"a\"", "a bracket is not closed"},
        {"start: \"a\")", "line 1: expected a text, an expression"},
        {"start \"a\"\nstart: \"a\"", "line 1: expected NAME: and what it is"},
        {"start: A\nA: \"x\" b\nb: \"c\"", "line 2: a terminal cannot contain a rule"},
        {"start: A\n\nA: \"a\" B\nB: \"b\" A?\n", "terminal 'A' contains itself"},
        {"start.2: \"a\"\n%ignore /x/", "line 1: a priority: this is not supported"},
        {"start: a{\"x\"}\na{b}: b", "line 1: a template, name{...}: this is not supported"},
        {"start: a\na[stop=\"x\"]: /b*/", "line 2: attributes of a rule, name[...]: this is not supported"},
        {"%import python.NAME\nstart: NAME", "line 1: an import from anywhere but common: this is not supported"},
        {"\n%import common.NOPE\nstart: NOPE", "line 2: common.NOPE: this is not supported"},
        {"%declare X\nstart: X", "line 1: %declare: this is not supported"},
        {"%llguidance {}\nstart: \"x\"", "line 1: %llguidance: this is not supported"},
        {"start: \"a\" & \"b\"", "line 1: '&': this is not supported"},
        {"start: ~\"a\"", "line 1: '~' before an expression: this is not supported"},
        {"start: @other", "line 1: '@': this is not supported"},
        {"start: A\nA: %json {}", "line 2: %json in a terminal: this is not supported"},
        {"start: %json {\"not\": {}}", "at #/not: this keyword cannot be enforced"},
        {"start: %json [1]", "line 1: expected a JSON object"},
        {"start: %json {\"a\"", "test:1:"},
        {"start: %regex {\"substring_words\": \"a b\"}", "line 1: %regex with anything but substring_chars"},
        {"start: /a/x", "line 1: a flag of a regular expression beside i, s and u: this is not supported"},
        {"start: \"b\"\n  /(?=a)/", "line 2: expected a rule or terminal, NAME: and what it is"},
        {"start: \"b\"\nx: /(?=a)/", "line 2: "},
        {"start: \"ab\"..\"c\"", "line 1: a range is of two characters, the smaller one first"},
        {"start: \"a\"~3..2", "line 1: expected ~least..most"},
        {"start: <[123456]>", "line 1: the vocabulary has no token of this id"},
        {"start: \"a\" start", "no text meets this"},
        {"start: a \"x\" | \"y\"\na: start \"z\"", "begins with itself"},
        {"start: \"\xFF\"", "this is not UTF-8"},
        {"what is this", "neither GBNF (root ::= ...) nor Lark (start: ...)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct grammar_tables tables;
        cohort_error err = {0};
        if (compile(&tables, cases[i].text, &err) == COHORT_OK)
            fail_msg("%s is taken", cases[i].text);
        if (strstr(err.message, cases[i].message) == NULL)
            fail_msg("%s: %s, expected %s", cases[i].text, err.message, cases[i].message);
    }
}

static const char *texts_file = COHORT_SOURCE_DIR "/tests/fixtures/guided_lark.jsonl";

static void test_llguidance(void **state)
{
    (void)state;
    char line[1 << 16];
    FILE *file = fopen(texts_file, "rb");
    int64_t texts = 0, accepted = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        json_t *row = json_loads(line, 0, NULL), *text = NULL;
        struct grammar_tables tables;
        cohort_error err = {0};
        size_t i = 0;
        assert_non_null(row);
        const char *grammar = json_string_value(json_object_get(row, "grammar"));
        if (compile(&tables, grammar, &err) != COHORT_OK)
            fail_msg("%s: %s", grammar, err.message);
        for (int in = 0; in < 2; in++)
            json_array_foreach(json_object_get(row, in ? "in" : "out"), i, text)
            {
                if (accepts(&tables, json_string_value(text), json_string_length(text)) != (in == 1))
                    fail_msg("%s: %s: llguidance says %d", grammar, json_string_value(text), in);
                texts++;
                accepted += in;
            }
        grammar_tables_free(&tables);
        json_decref(row);
    }
    fclose(file);
    print_message("%lld texts, %lld of them members\n", (long long)texts, (long long)accepted);
    assert_true(texts >= 2000 && accepted >= 500 && texts - accepted >= 500);
}

/* Usage: test_guide_lark [TEXTS.jsonl], of oracle/guided_lark.py with another seed. */
int main(int argc, char **argv)
{
    if (argc > 1)
        texts_file = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_read), cmocka_unit_test(test_tokens),
                                       cmocka_unit_test(test_refused), cmocka_unit_test(test_llguidance)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

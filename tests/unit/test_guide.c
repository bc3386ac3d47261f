/* Guides: regular expressions against PCRE2, masks against the tokens one by one, where a text may and must end, the cache that forgets,
 * thinking, closing, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/rng.h"
#include "support/accepts.h"
#include "support/guide_test.h"

#include <time.h>

#include <unistd.h>

static struct tokenizer *toy, *qwen;
static struct guide_vocabulary *toy_words, *qwen_words;
static const char *const toy_tokens[] = {"a", "b", "c", "ab", "bc", "abc", "ca", "aa", "1", "12", "123"};
static const char *const toy_special[] = {"<end>", "<stop>", "</think>"};

static struct guide_options toy_options(int32_t eos[2])
{
    eos[0] = tokenizer_find(toy, "<end>");
    eos[1] = tokenizer_find(toy, "<stop>");
    return (struct guide_options){.eos_ids = eos, .n_eos = 2, .after = -1};
}

static struct guide *make(const struct guide_vocabulary *words, enum guide_kind kind, const char *text,
                          const struct guide_options *options)
{
    struct guide *guide = NULL;
    cohort_error err = {0};
    if (guide_create(&guide, words, kind, text, strlen(text), options, "test", NULL, &err) != COHORT_OK)
        fail_msg("%s: %s", text, err.message);
    return guide;
}

/* ---- Regular expressions ---- */

static bool pcre_matches(pcre2_code *code, const char *text, size_t length)
{
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    const int found = pcre2_match(code, (PCRE2_SPTR)text, length, 0, PCRE2_ANCHORED | PCRE2_ENDANCHORED, match, NULL);
    pcre2_match_data_free(match);
    return found >= 0;
}

static void test_regex(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "abc",         "a|bc|",       "a*b+c?",    "(ab)*c",          "[ab]{2,3}",
        "[^a]*",       "a{2}|b{3,}",  "(a|b)*abb", "(a|ab)(c|bcd)",   "\\d+",
        "[\\d,]+-?",   "\\w\\W",      ".{1,3}",    "\\u00e9a",        "[\\x{e0}-\\x{ff}]+",
        "\\p{L}+",     "\\P{L}",      "(?i)aB[c]", "(?i:a)b",         "(?s).\\n",
        "^a$",         "(^a|b$)",     "a.c",       "[a\\-c]",         "[]a]b",
        "(a{2,3}){2}", "(?:ab){30,}", "(a?){40}b", "[a-c]{50,70}",    "\\$\\^\\.",
        "a{,3}",       "x{1",         "(?<n>a)b",  "\\p{Lu}\\p{Ll}*",
    };
    static const char *const letters[] = {"a", "b",  "c",        "A",        "B", "1", ",",
                                          "-", "\n", "\xC3\xA9", "\xC3\x80", "$", " ", "{"};
    int matched = 0;
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
        struct grammar grammar = {0};
        struct grammar_tables tables;
        cohort_error err = {0};
        int number = 0;
        size_t offset = 0;
        const struct guide_options options = {.after = -1};
        pcre2_code *code = pcre2_compile((PCRE2_SPTR)patterns[p], PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_ALT_BSUX,
                                         &number, &offset, NULL);
        if (code == NULL) /* \x{..} is not ALT_BSUX's */
            code = pcre2_compile((PCRE2_SPTR)patterns[p], PCRE2_ZERO_TERMINATED, PCRE2_UTF, &number, &offset, NULL);
        if (strstr(patterns[p], "\\x{") != NULL) {
            pcre2_code_free(code);
            code = pcre2_compile((PCRE2_SPTR)patterns[p], PCRE2_ZERO_TERMINATED, PCRE2_UTF, &number, &offset, NULL);
        }
        assert_non_null(code);
        if (guide_read(&grammar, toy_words, GUIDE_REGEX, patterns[p], strlen(patterns[p]), &options, "test", NULL,
                       &err) != COHORT_OK ||
            grammar_compile(&tables, &grammar, "test", &err) != COHORT_OK)
            fail_msg("%s: %s", patterns[p], err.message);
        for (uint64_t i = 0; i < 1500; i++) {
            char text[400] = "";
            const uint32_t n = rng_philox(p, RNG_TEST, i, 99).word[0] % (i % 10 == 0 ? 80 : 6);
            const uint32_t few = i % 3 == 0 ? 3 : sizeof letters / sizeof *letters;
            for (uint32_t k = 0; k < n; k++)
                strcat(text, letters[rng_philox(p, RNG_TEST, i, k).word[0] % few]);
            const bool want = pcre_matches(code, text, strlen(text));
            if (accepts(&tables, text, strlen(text)) != want)
                fail_msg("%s and \"%s\": PCRE2 says %d", patterns[p], text, want);
            matched += want;
        }
        pcre2_code_free(code);
        grammar_tables_free(&tables);
        grammar_free(&grammar);
    }
    assert_true(matched > 2000);
}

/* What `pattern` looks for: random expressions whose anchors stand anywhere, in all texts of a, b and c up to five of them. */
struct scribe {
    uint64_t stream, counter;
    char text[200];
};

static uint32_t pick(struct scribe *s, uint32_t below)
{
    return rng_philox(11, RNG_TEST, s->stream, s->counter++).word[0] % below;
}

static void write_search(struct scribe *s, int depth)
{
    static const char *const atoms[] = {"a", "b", "^", "$", ".", "[ab]", "", "c", "^^", "a$"};
    static const char *const counts[] = {"*", "+", "?", "{2}"};
    const uint32_t kind = depth > 0 && strlen(s->text) < 80 ? pick(s, 8) : 4;
    if (kind == 0) {
        strcat(s->text, "(");
        write_search(s, depth - 1);
        strcat(s->text, "|");
        write_search(s, depth - 1);
        strcat(s->text, ")");
    } else if (kind == 1) {
        strcat(s->text, "(");
        write_search(s, depth - 1);
        strcat(s->text, ")");
        strcat(s->text, counts[pick(s, 4)]);
    } else if (kind < 4) {
        write_search(s, depth - 1);
        write_search(s, depth - 1);
    } else {
        strcat(s->text, atoms[pick(s, sizeof atoms / sizeof *atoms)]);
    }
}

static void test_search(void **state)
{
    (void)state;
    enum { PATTERNS = 2000, LONGEST = 5 };
    int read = 0, found = 0, passed_over = 0;
    for (uint64_t p = 0; p < PATTERNS; p++) {
        struct scribe s = {.stream = p};
        struct automaton automaton = {0};
        cohort_error err = {0};
        int number = 0;
        size_t offset = 0;
        write_search(&s, 4);
        if (regex_search_automaton(&automaton, s.text, strlen(s.text), "test", &err) != COHORT_OK) {
            assert_non_null(strstr(err.message, "repetition of nothing"));
            passed_over++;
            continue;
        }
        pcre2_code *code = pcre2_compile((PCRE2_SPTR)s.text, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_DOLLAR_ENDONLY,
                                         &number, &offset, NULL);
        pcre2_match_data *match = pcre2_match_data_create(1, NULL);
        assert_true(code != NULL && match != NULL);
        for (int length = 0, all = 1; length <= LONGEST; length++, all *= 3)
            for (int i = 0; i < all; i++) {
                char text[LONGEST + 1] = "";
                uint32_t points[LONGEST + 1];
                for (int k = 0, rest = i; k < length; k++, rest /= 3)
                    points[k] = (uint32_t)(text[k] = (char)('a' + rest % 3));
                const bool want = pcre2_match(code, (PCRE2_SPTR)text, (size_t)length, 0, 0, match, NULL) >= 0;
                if (automaton_accepts(&automaton, points, (size_t)length) != want)
                    fail_msg("%s in \"%s\": PCRE2 says %d", s.text, text, want);
                found += want;
            }
        read++;
        pcre2_match_data_free(match);
        pcre2_code_free(code);
        automaton_free(&automaton);
    }
    print_message("%d expressions, %d passed over, %d texts found\n", read, passed_over, found);
    assert_true(read > PATTERNS / 2 && found > 10000);
}

/* ---- GBNF ---- */

static void test_gbnf(void **state)
{
    (void)state;
    static const struct {
        const char *grammar, *in[6], *out[6];
    } cases[] = {
        {"root ::= \"a\" [b-d]* | x\nx ::= \"\\x41\" \"\\u00e9\"? # a comment\n",
         {"a", "abcd", "A", "A\xC3\xA9"},
         {"", "ae", "x", "A\xC3"}},
        {"root ::= (\"a\" |\n  \"b\"){2,3} end\nend ::= \".\"+\n", {"ab.", "aaa.."}, {"a.", "aaaa.", "ab"}},
        {"# JSON lists\nroot ::= list\nlist ::= \"[\" (item (\",\" item)*)? \"]\"\nitem ::= list | [0-9]{1,2}\n",
         {"[]", "[1,[22,[]]]"},
         {"[", "[1,]", "[123]"}},
        {"expr ::= expr [+*] term | term\nterm ::= [0-9] | \"(\" expr \")\"\nroot ::= expr\n", /* left recursion */
         {"1", "1+2*3", "(1+2)*3"},
         {"", "1+", "+1", "(1"}},
        {"root ::= [^a\\n] . \"\" ", {"bb", "\xC3\xA9\n"}, {"ab", "b"}},
        {"root ::= \"x\"{3} \"y\"{2,} \"z\"{0,1}", {"xxxyy", "xxxyyyz"}, {"xxyy", "xxxy", "xxxyyzz"}},
        {"root ::= \"\\\xC3\xA9\" [\\\xC3\xA9y]",
         {"\xC3\xA9\xC3\xA9", "\xC3\xA9y"},
         {"\xC3\xA9", "\xC3y"}}, /* needless backslashes */
        {"root ::= r{300}\nr ::= \"a\" | \"b\"", {NULL}, {"ab"}},
    };
    const struct guide_options options = {.after = -1};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct grammar grammar = {0};
        struct grammar_tables tables;
        cohort_error err = {0};
        if (guide_read(&grammar, toy_words, GUIDE_GRAMMAR, cases[i].grammar, strlen(cases[i].grammar), &options, "test",
                       NULL, &err) != COHORT_OK ||
            grammar_compile(&tables, &grammar, "test", &err) != COHORT_OK)
            fail_msg("%s: %s", cases[i].grammar, err.message);
        for (size_t k = 0; k < 6; k++) {
            if (cases[i].in[k] != NULL && !accepts(&tables, cases[i].in[k], strlen(cases[i].in[k])))
                fail_msg("%s: %s", cases[i].grammar, cases[i].in[k]);
            if (cases[i].out[k] != NULL && accepts(&tables, cases[i].out[k], strlen(cases[i].out[k])))
                fail_msg("%s: not %s", cases[i].grammar, cases[i].out[k]);
        }
        grammar_tables_free(&tables);
        grammar_free(&grammar);
    }
    /* Tokens by name and by id. */
    int32_t eos[2];
    const struct guide_options with_eos = toy_options(eos);
    struct guide *guide = make(toy_words, GUIDE_GRAMMAR, "root ::= \"a\"* </think> (<[2]> | \"b\")", &with_eos);
    struct guide_state *s = NULL;
    const int32_t think = tokenizer_find(toy, "</think>");
    assert_int_equal(guide_start(&s, guide, 20, 0, NULL), COHORT_OK);
    assert_true(guide_test_bit(guide_mask(s), 0) && guide_test_bit(guide_mask(s), think));
    assert_false(guide_test_bit(guide_mask(s), 2));
    assert_true(guide_accept(s, 7) && guide_accept(s, think));
    assert_true(guide_test_bit(guide_mask(s), 2) && guide_test_bit(guide_mask(s), 1));
    assert_false(guide_test_bit(guide_mask(s), think));
    assert_true(guide_accept(s, 2) && guide_must_end(s));
    guide_stop(s);
    guide_release(guide);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        enum guide_kind kind;
        const char *text, *message;
    } cases[] = {
        {GUIDE_REGEX, "a(b", "at byte 4 of the regular expression: '(' without ')'"},
        {GUIDE_REGEX, "a)b", "')' without '('"},
        {GUIDE_REGEX, "*a", "a repetition of nothing"},
        {GUIDE_REGEX, "a{3,2}", "expected {least,most}"},
        {GUIDE_REGEX, "[a", "'[' without ']'"},
        {GUIDE_REGEX, "[b-a]", "ends before it begins"},
        {GUIDE_REGEX, "(?=a)", "looking ahead and behind is not supported"},
        {GUIDE_REGEX, "(?<!a)", "looking ahead and behind is not supported"},
        {GUIDE_REGEX, "(a)\\1", "back references are not supported"},
        {GUIDE_REGEX, "\\bа", "word boundaries"},
        {GUIDE_REGEX, "a++", "possessive"},
        {GUIDE_REGEX, "a^b", "'^' within an expression is not supported"},
        {GUIDE_REGEX, "a$b", "'$' within an expression is not supported"},
        {GUIDE_REGEX, "\\p{Greek}", "knows general categories alone"},
        {GUIDE_REGEX, "[[:alpha:]]", "are not supported"},
        {GUIDE_REGEX, "\\xZZ", "hexadecimal"},
        {GUIDE_REGEX, "a\xFF", "this is not UTF-8"},
        {GUIDE_REGEX, "[^\\x{0}-\\x{10ffff}]", "no text meets this"},
        {GUIDE_REGEX, "(?>a)", "this kind of group is not supported"},
        {GUIDE_GRAMMAR, "root ::= a", "line 1: rule 'a' is not defined"},
        {GUIDE_GRAMMAR, "a ::= \"b\"", "no rule 'root'"},
        {GUIDE_GRAMMAR, "root ::= \"b\nx ::= \"a\"", "line 1: a text without its closing"},
        {GUIDE_GRAMMAR, "root ::= (\"b\"", "'(' without ')'"},
        {GUIDE_GRAMMAR, "root ::= [b", "'[' without ']'"},
        {GUIDE_GRAMMAR, "root ::= \"b\"{3,2}", "expected {least,most}"},
        {GUIDE_GRAMMAR, "root ::= \"b\"\nroot ::= \"a\"", "line 2: this rule is defined already"},
        {GUIDE_GRAMMAR, "root = \"b\"", "neither GBNF (root ::= ...) nor Lark"},
        {GUIDE_GRAMMAR, "root ::= \"b\"\nx = \"b\"", "line 2: expected NAME ::="},
        {GUIDE_GRAMMAR, "root ::= <nothing>", "no token of this text"},
        {GUIDE_GRAMMAR, "root ::= <[99999]>", "no token of this id"},
        {GUIDE_GRAMMAR, "root ::= a | \"x\"\na ::= root \"b\"", "begins with itself"},
        {GUIDE_GRAMMAR, "root ::= \"a\" root", "no text meets this"},
        {GUIDE_CHOICE, "[]", "expected a list of texts, at least one"},
        {GUIDE_CHOICE, "[1]", "choice 1 is not a text"},
    };
    int32_t eos[2];
    const struct guide_options options = toy_options(eos);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct guide *guide = NULL;
        cohort_error err = {0};
        assert_int_not_equal(guide_create(&guide, toy_words, cases[i].kind, cases[i].text, strlen(cases[i].text),
                                          &options, "guided_x", NULL, &err),
                             COHORT_OK);
        assert_null(guide);
        if (strstr(err.message, cases[i].message) == NULL || strncmp(err.message, "guided_x", 8) != 0)
            fail_msg("%s: %s", cases[i].text, err.message);
    }
}

/* ---- Masks ---- */

/* Every bit of the mask is what the token alone says. */
static void expect_mask(struct guide *guide, const struct guide_vocabulary *words, const int32_t *tokens, size_t n)
{
    struct guide_state *state = NULL;
    assert_int_equal(guide_start(&state, guide, 1000, 0, NULL), COHORT_OK);
    for (size_t i = 0; i < n; i++)
        assert_true(guide_accept(state, tokens[i]));
    uint32_t *mask = calloc(words->n_words, sizeof *mask);
    memcpy(mask, guide_mask(state), words->n_words * sizeof *mask);
    for (int32_t id = 0; id < words->size; id++) {
        guide_rewind(state, 0);
        for (size_t i = 0; i < n; i++)
            assert_true(guide_accept(state, tokens[i]));
        if (guide_accept(state, id) != guide_test_bit(mask, id))
            fail_msg("token %d behind %zu tokens: the mask says %d", (int)id, n, guide_test_bit(mask, id));
    }
    free(mask);
    guide_stop(state);
}

static void walk_text(const char *pattern, const char *text)
{
    const int32_t eos[2] = {tokenizer_find(qwen, "<|im_end|>"), tokenizer_find(qwen, "<|endoftext|>")};
    const struct guide_options options = {.eos_ids = eos, .n_eos = 2, .after = -1};
    struct guide *guide = make(qwen_words, GUIDE_REGEX, pattern, &options), *small = NULL;
    struct token_list list = {0};
    struct guide_state *a = NULL, *b = NULL;
    assert_int_equal(tokenizer_encode(qwen, text, strlen(text), false, &list, NULL), COHORT_OK);
    for (size_t n = 0; n <= list.count; n += n < 3 || n + 2 >= list.count ? 1 : 2)
        expect_mask(guide, qwen_words, list.ids, n);
    /* A cache that forgets at every step says the same. */
    small = make(qwen_words, GUIDE_REGEX, pattern, &options);
    guide_set_bound(small, 1);
    assert_int_equal(guide_start(&a, guide, 1000, 0, NULL), COHORT_OK);
    assert_int_equal(guide_start(&b, small, 1000, 0, NULL), COHORT_OK);
    for (size_t n = 0; n <= list.count; n++) {
        assert_memory_equal(guide_mask(a), guide_mask(b), qwen_words->n_words * sizeof(uint32_t));
        if (n < list.count)
            assert_true(guide_accept(a, list.ids[n]) && guide_accept(b, list.ids[n]));
    }
    assert_true(guide_can_end(a) && guide_can_end(b));
    assert_true(guide_accept(a, eos[1]));
    assert_false(guide_accept(a, eos[1]));
    assert_true(guide_stats(small).flushes > 0 && guide_stats(guide).flushes == 0);
    guide_stop(a);
    guide_stop(b);
    guide_release(small);
    guide_release(guide);
    token_list_free(&list);
}

static void test_qwen_masks(void **state)
{
    (void)state;
    if (qwen == NULL) {
        print_message("the Qwen3 tokenizer is absent: skipped (set COHORT_TEST_DATA)\n");
        skip();
    }
    /* Slices: any number of characters, as many as a count leaves, a rest that is smaller than any slice; and none. */
    walk_text("\"([^\"\\\\\\x00-\\x1f]|\\\\[\"n])*\"!?", "\"Hello, \\\"w\xC3\xB6rld\\n \xE4\xBD\xA0\xE5\xA5\xBD\"!");
    walk_text("\"[^\"\\\\\\x00-\\x1f]{0,40}\"", "\"Hello world, forty characters are few.\"");
    walk_text("[^\"\\\\\\x00-\\x1f]{35}", "Counted: exactly thirty-five of....");
    walk_text("(yes|no|maybe), [0-9]{1,3}( \xF0\x9F\x98\x80)?", "maybe, 42 \xF0\x9F\x98\x80");
}

/* ---- Ends, thinking, closing ---- */

static void test_ends(void **state)
{
    (void)state;
    int32_t eos[2];
    struct guide_options options = toy_options(eos);
    struct guide *guide = make(toy_words, GUIDE_CHOICE, "[\"ab\", \"abc\", \"\"]", &options);
    struct guide_state *s = NULL;
    assert_int_equal(guide_start(&s, guide, 10, 0, NULL), COHORT_OK);
    assert_true(guide_can_end(s) && !guide_must_end(s));
    assert_true(guide_test_bit(guide_mask(s), eos[0]) && guide_test_bit(guide_mask(s), eos[1]));
    assert_true(guide_test_bit(guide_mask(s), 5) && guide_test_bit(guide_mask(s), 3) &&
                guide_test_bit(guide_mask(s), 0));
    assert_false(guide_test_bit(guide_mask(s), 1) || guide_test_bit(guide_mask(s), tokenizer_find(toy, "</think>")));
    assert_true(guide_accept(s, 0));
    assert_false(guide_can_end(s) || guide_test_bit(guide_mask(s), eos[0]));
    assert_true(guide_accept(s, 4)); /* bc: over the border of the first choice */
    assert_true(guide_can_end(s) && guide_must_end(s));
    assert_true(guide_accept(s, eos[1]));
    assert_true(guide_can_end(s));
    assert_false(guide_test_bit(guide_mask(s), eos[0]));
    guide_rewind(s, 0);
    assert_true(guide_accept(s, 3));
    assert_true(guide_can_end(s) && !guide_must_end(s));
    assert_false(guide_accept(s, 3));
    assert_false(guide_accept(s, 2)); /* nothing is, from there on */
    assert_null(guide_problem(guide));
    guide_stop(s);
    guide_release(guide);
}

static void test_thinking(void **state)
{
    (void)state;
    int32_t eos[2];
    struct guide_options options = toy_options(eos);
    options.after = tokenizer_find(toy, "</think>");
    struct guide *guide = make(toy_words, GUIDE_REGEX, "12", &options);
    struct guide_state *s = NULL;
    const int32_t newline = tokenizer_find(toy, "\xC4\x8A");
    assert_true(newline >= 0);
    assert_int_equal(guide_start(&s, guide, 20, 6, NULL), COHORT_OK);
    assert_true(guide_test_bit(guide_mask(s), 2) && guide_test_bit(guide_mask(s), options.after));
    assert_false(guide_test_bit(guide_mask(s), eos[0]) || guide_test_bit(guide_mask(s), eos[1]));
    for (int i = 0; i < 14; i++)
        assert_true(guide_accept(s, 2));
    for (int32_t id = 0; id < toy_words->size; id++) /* six are left: the thinking ends */
        assert_true(guide_test_bit(guide_mask(s), id) == (id == options.after));
    guide_rewind(s, 0);
    assert_true(guide_accept(s, 2) && guide_accept(s, options.after));
    assert_true(guide_test_bit(guide_mask(s), newline) && guide_test_bit(guide_mask(s), 9));
    assert_false(guide_test_bit(guide_mask(s), 2));
    assert_true(guide_accept(s, newline) && guide_accept(s, newline));
    assert_false(guide_test_bit(guide_mask(s), newline));
    assert_true(guide_accept(s, 9) && guide_must_end(s));
    guide_stop(s);
    guide_release(guide);
}

static void test_closing(void **state)
{
    (void)state;
    int32_t eos[2];
    struct guide_options options = toy_options(eos);
    struct guide *guide = make(toy_words, GUIDE_REGEX, "(a|b)*123(c{4}|ca)", &options);
    struct guide_state *s = NULL;
    assert_int_equal(guide_start(&s, guide, 10, 6, NULL), COHORT_OK);
    for (int i = 0; i < 4; i++) {
        assert_true(guide_test_bit(guide_mask(s), 0) && guide_test_bit(guide_mask(s), 8));
        assert_true(guide_accept(s, 0));
    }
    /* Five bytes and the end fit into six tokens: any cut of 123ca. */
    const uint32_t *mask = guide_mask(s);
    assert_false(guide_test_bit(mask, 0) || guide_test_bit(mask, 1));
    assert_true(guide_test_bit(mask, 8) && guide_test_bit(mask, 9) && guide_test_bit(mask, 10));
    assert_true(guide_accept(s, 8) && guide_accept(s, tokenizer_find(toy, "2")));
    mask = guide_mask(s);
    assert_true(guide_test_bit(mask, tokenizer_find(toy, "3")) && !guide_test_bit(mask, 8));
    assert_true(guide_accept(s, tokenizer_find(toy, "3")));
    mask = guide_mask(s);
    assert_true(guide_test_bit(mask, 2) && guide_test_bit(mask, 6)); /* c, or ca at once */
    assert_true(guide_accept(s, 2));
    mask = guide_mask(s);
    assert_true(guide_test_bit(mask, 0) && !guide_test_bit(mask, 2));
    assert_true(guide_accept(s, 0));
    mask = guide_mask(s);
    assert_true(guide_test_bit(mask, eos[0]) && !guide_test_bit(mask, 0));
    guide_stop(s);
    /* Too few tokens for single bytes: the longest ones. */
    assert_int_equal(guide_start(&s, guide, 3, 6, NULL), COHORT_OK);
    mask = guide_mask(s);
    assert_true(guide_test_bit(mask, 10));
    assert_false(guide_test_bit(mask, 8) || guide_test_bit(mask, 9));
    assert_true(guide_accept(s, 10));
    assert_true(guide_test_bit(guide_mask(s), 6) && !guide_test_bit(guide_mask(s), 2));
    assert_true(guide_accept(s, 6) && guide_can_end(s));
    guide_stop(s);
    guide_release(guide);
}

static int set_up(void **state)
{
    (void)state;
    char dir[1024], path[1100];
    cohort_error err = {0};
    const char *given = getenv("COHORT_TEST_DATA");
    snprintf(dir, sizeof dir, "%s/qwen3-tokenizer", given != NULL ? given : COHORT_SOURCE_DIR "/../shared/data");
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    if (access(path, F_OK) == 0 && (tokenizer_load(&qwen, dir, &err) != COHORT_OK ||
                                    guide_vocabulary_create(&qwen_words, qwen, 151936, &err) != COHORT_OK))
        return 1;
    toy = guide_test_tokenizer(toy_tokens, sizeof toy_tokens / sizeof *toy_tokens, toy_special,
                               sizeof toy_special / sizeof *toy_special);
    return guide_vocabulary_create(&toy_words, toy, 0, &err) == COHORT_OK ? 0 : 1;
}

static int tear_down(void **state)
{
    (void)state;
    guide_vocabulary_destroy(toy_words);
    guide_vocabulary_destroy(qwen_words);
    tokenizer_destroy(toy);
    tokenizer_destroy(qwen);
    return 0;
}

/* Each ends within a second, as an error or as something that may be used. */
static void test_hostile(void **state)
{
    (void)state;
    enum { CASES = 9 };
    struct text texts[CASES] = {{0}};
    const enum guide_kind kinds[CASES] = {GUIDE_REGEX,   GUIDE_REGEX,   GUIDE_REGEX,   GUIDE_GRAMMAR, GUIDE_GRAMMAR,
                                          GUIDE_GRAMMAR, GUIDE_GRAMMAR, GUIDE_GRAMMAR, GUIDE_GRAMMAR};
    const struct guide_options options = {.after = -1};
    cohort_error err = {0};
    assert_int_equal(text_printf(&texts[0], &err, "a{1000}{1000}{1000}b"), COHORT_OK);
    assert_int_equal(text_printf(&texts[1], &err, "((((a|b)*|c)*|d)*(a?){999}){99999}"), COHORT_OK);
    for (int i = 0; i < 5000; i++) /* levels */
        assert_int_equal(text_printf(&texts[2], &err, "("), COHORT_OK);
    assert_int_equal(text_printf(&texts[3], &err, "root ::= "), COHORT_OK);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(text_printf(&texts[3], &err, "("), COHORT_OK);
    /* Rules that double. */
    assert_int_equal(text_printf(&texts[4], &err, "root ::= r0\n"), COHORT_OK);
    for (int i = 0; i < 200; i++)
        assert_int_equal(text_printf(&texts[4], &err, "r%d ::= r%d r%d\n", i, i + 1, i + 1), COHORT_OK);
    assert_int_equal(text_printf(&texts[4], &err, "r200 ::= \"a\"?\n"), COHORT_OK);
    /* A ring of rules that begin with each other. */
    assert_int_equal(text_printf(&texts[5], &err, "root ::= r0\n"), COHORT_OK);
    for (int i = 0; i < 2000; i++)
        assert_int_equal(text_printf(&texts[5], &err, "r%d ::= r%d \"a\" | \"b\"\n", i, (i + 1) % 2000), COHORT_OK);
    /* A NUL among the letters, and much text. */
    static const char nul[] = "root ::= \"a\0b\" x\nx ::= \"c\"\0";
    assert_int_equal(text_append(&texts[6], nul, sizeof nul - 1, &err), COHORT_OK);
    assert_int_equal(text_printf(&texts[7], &err, "start: A~100000\nA: B~100000\nB: C~100000\nC: /(x|y){9999}/"),
                     COHORT_OK);
    assert_int_equal(text_printf(&texts[8], &err, "start: \"x\""), COHORT_OK);
    for (int i = 0; i < 20000; i++)
        assert_int_equal(text_printf(&texts[8], &err, " | \"word number %d\"", i), COHORT_OK);
    for (int i = 0; i < CASES; i++) {
        struct guide *guide = NULL;
        const clock_t before = clock();
        const cohort_status status =
            guide_create(&guide, toy_words, kinds[i], texts[i].data, texts[i].length, &options, "test", NULL, &err);
        struct guide_state *s = NULL;
        if (status == COHORT_OK) {
            assert_int_equal(guide_start(&s, guide, 100, 50, NULL), COHORT_OK);
            for (int n = 0; n < 60; n++) { /* on the shortest way at the end */
                const uint32_t *mask = guide_mask(s);
                int32_t id = 0;
                while (id < toy_words->size && !guide_test_bit(mask, id))
                    id++;
                if (id == toy_words->size)
                    break;
                assert_true(guide_accept(s, id));
            }
        }
        const double seconds = (double)(clock() - before) / CLOCKS_PER_SEC;
        print_message("%d: %.2f s: %.100s\n", i, seconds,
                      status != COHORT_OK            ? err.message
                      : guide_problem(guide) != NULL ? guide_problem(guide)
                                                     : "compiled");
        assert_true(status == COHORT_OK || strncmp(err.message, "test", 4) == 0);
        assert_true(seconds < 10.0); /* optimised and alone: at most one */
        guide_stop(s);
        guide_release(guide);
        text_free(&texts[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_regex),    cmocka_unit_test(test_search),     cmocka_unit_test(test_gbnf),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_qwen_masks), cmocka_unit_test(test_ends),
        cmocka_unit_test(test_thinking), cmocka_unit_test(test_closing),    cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

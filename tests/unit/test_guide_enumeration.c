/* Guides against full enumeration: random grammars over {a, b}, whose languages up to 10 characters are worked out as sets of
 * texts, and the masks of a vocabulary of 40 tokens behind every text of up to 4 characters that may be gone on with.
 *
 * A token must be allowed exactly if some text of the language begins with what is there and the token. Where the guide
 * allows one and no text of up to 10 characters does, its distance to the end must say that all are longer.
 *
 * Usage: test_guide_enumeration [CASES [SEED]] */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/rng.h"
#include "support/guide_test.h"

enum {
    LONGEST = 10,
    CHECKED = 4,
    TEXTS = (1 << (LONGEST + 1)) - 1, /* of {a, b}, up to LONGEST */
    MOST_RULES = 4,
    TOKENS = 40
};

static int cases = 150;
static uint64_t seed = 1;

static uint64_t draws, stream;
static uint32_t draw(uint32_t n) { return rng_philox(seed, RNG_TEST, stream, draws++).word[0] % n; }

/* ---- Sets of texts: text number of length n and bits b is 2^n - 1 + b ---- */

struct texts {
    bool in[TEXTS];
};

static int length_of(int text)
{
    int n = 0;
    while (text + 1 >= 1 << (n + 1))
        n++;
    return n;
}

static int joined(int a, int b)
{
    const int n = length_of(a), m = length_of(b);
    if (n + m > LONGEST)
        return -1;
    return (1 << (n + m)) - 1 + ((a - ((1 << n) - 1)) << m) + (b - ((1 << m) - 1));
}

static void join(const struct texts *a, const struct texts *b, struct texts *out)
{
    memset(out, 0, sizeof *out);
    for (int i = 0; i < TEXTS; i++)
        for (int j = 0; a->in[i] && j < TEXTS && joined(i, j) >= 0; j++)
            if (b->in[j])
                out->in[joined(i, j)] = true;
}

/* ---- Random grammars as expressions, and what they mean ---- */

struct random_grammar {
    struct exprs exprs;
    uint32_t bodies[MOST_RULES];
    uint32_t n_rules;
};

static uint32_t random_expr(struct random_grammar *g, int depth, bool guarded)
{
    uint32_t parts[3], out = 0, n = 0;
    const uint32_t kind = draw(depth <= 0 ? 3 : 10);
    switch (kind) {
    case 0:
    case 1: assert_int_equal(expr_char(&g->exprs, draw(2) == 0 ? 'a' : 'b', &out, NULL), COHORT_OK); return out;
    case 2:
        if (guarded && g->n_rules > 1) { /* a rule behind a character: it cannot begin with itself */
            assert_int_equal(expr_rule(&g->exprs, draw(g->n_rules), &out, NULL), COHORT_OK);
            return out;
        }
        assert_int_equal(draw(2) == 0 ? expr_empty(&g->exprs, &out, NULL) : expr_char(&g->exprs, 'b', &out, NULL),
                         COHORT_OK);
        return out;
    case 3:
    case 4:
    case 5: /* what follows a character is guarded */
        assert_int_equal(expr_char(&g->exprs, draw(2) == 0 ? 'a' : 'b', &parts[0], NULL), COHORT_OK);
        for (n = 1; n < 2 + draw(2); n++)
            parts[n] = random_expr(g, depth - 1, true);
        assert_int_equal(expr_list(&g->exprs, EXPR_JOIN, parts, n, &out, NULL), COHORT_OK);
        return out;
    case 6:
    case 7:
        for (n = 0; n < 2 + draw(2); n++)
            parts[n] = random_expr(g, depth - 1, guarded);
        assert_int_equal(expr_list(&g->exprs, EXPR_EITHER, parts, n, &out, NULL), COHORT_OK);
        return out;
    default: {
        const uint32_t least = draw(3), part = random_expr(g, depth - 1, guarded);
        const uint32_t most = draw(2) == 0 ? REPEAT_FOREVER : least + draw(3);
        assert_int_equal(expr_repeat(&g->exprs, part, least, most, &out, NULL), COHORT_OK);
        if (stream % 2 == 0) /* as if it were large: it is counted, not copied */
            g->exprs.list[out].weight += 1000;
        return out;
    }
    }
}

static void meaning(const struct random_grammar *g, const struct texts *rules, uint32_t expr, struct texts *out)
{
    const struct expr *x = &g->exprs.list[expr];
    struct texts part, before;
    memset(out, 0, sizeof *out);
    switch (x->kind) {
    case EXPR_SET:
        for (uint32_t i = x->at; i < x->at + x->n; i++)
            out->in[g->exprs.ranges[i][0] == 'a' ? 1 : 2] = true;
        return;
    case EXPR_JOIN:
        out->in[0] = true;
        for (uint32_t i = x->at; i < x->at + x->n; i++) {
            before = *out;
            meaning(g, rules, g->exprs.parts[i], &part);
            join(&before, &part, out);
        }
        return;
    case EXPR_EITHER:
        for (uint32_t i = x->at; i < x->at + x->n; i++) {
            meaning(g, rules, g->exprs.parts[i], &part);
            for (int t = 0; t < TEXTS; t++)
                out->in[t] = out->in[t] || part.in[t];
        }
        return;
    case EXPR_REPEAT: {
        struct texts now = {.in = {true}};
        meaning(g, rules, x->rule, &part);
        for (uint32_t n = 0; n <= x->most && n <= LONGEST + 3; n++) { /* further rounds add nothing of this length */
            for (int t = 0; n >= x->least && t < TEXTS; t++)
                out->in[t] = out->in[t] || now.in[t];
            before = now;
            join(&before, &part, &now);
        }
        return;
    }
    case EXPR_RULE: *out = rules[x->rule]; return;
    default: out->in[0] = true; /* EXPR_EMPTY */
    }
}

static void language(const struct random_grammar *g, struct texts rules[MOST_RULES])
{
    memset(rules, 0, MOST_RULES * sizeof *rules);
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t r = 0; r < g->n_rules; r++) {
            struct texts now;
            meaning(g, rules, g->bodies[r], &now);
            changed = changed || memcmp(&now, &rules[r], sizeof now) != 0;
            rules[r] = now;
        }
    }
}

/* ---- Comparison ---- */

static char spelled[TOKENS][8];

static struct tokenizer *toy(void)
{
    const char *tokens[TOKENS];
    const char *special[] = {"<end>"};
    size_t n = 0;
    for (int length = 1; length <= 5 && n < TOKENS; length++)
        for (int bits = 0; bits < 1 << length && n < TOKENS; bits++) {
            for (int i = 0; i < length; i++)
                spelled[n][i] = (bits >> (length - 1 - i) & 1) != 0 ? 'b' : 'a';
            tokens[n] = spelled[n];
            n++;
        }
    return guide_test_tokenizer(tokens, TOKENS, special, 1);
}

static int number_of(const char *text, size_t length)
{
    int bits = 0;
    for (size_t i = 0; i < length; i++)
        bits = 2 * bits + (text[i] == 'b');
    return (1 << length) - 1 + bits;
}

/* Whether a text of the language begins with this one. */
static bool begins(const struct texts *language, int text)
{
    const int n = length_of(text);
    for (int t = text; t < TEXTS; t++)
        if (language->in[t] && length_of(t) >= n &&
            ((t + 1) >> (length_of(t) - n)) == text + 1) /* numbers + 1 are the bits behind a leading 1 */
            return true;
    return false;
}

static void compare(struct guide *guide, const struct texts *language, int32_t eos, int64_t *unknown)
{
    for (int text = 0; text < (1 << (CHECKED + 1)) - 1; text++) {
        struct guide_state *state = NULL, *next = NULL;
        const int n = length_of(text);
        bool alive = true;
        assert_int_equal(guide_start(&state, guide, 100, 0, NULL), COHORT_OK);
        for (int i = 0; i < n && alive; i++) /* tokens 0 and 1 are a and b */
            alive = guide_accept(state, (text + 1) >> (n - 1 - i) & 1);
        if (!alive) {
            assert_false(begins(language, text));
            guide_stop(state);
            continue;
        }
        const uint32_t *mask = guide_mask(state);
        if (guide_problem(guide) != NULL) { /* thousands of ways to read a text: it says so, and allows nothing */
            for (int32_t t = 0; t < TOKENS; t++)
                assert_false(guide_test_bit(mask, t));
            guide_stop(state);
            return;
        }
        assert_true(guide_can_end(state) == language->in[text]);
        assert_true(guide_test_bit(mask, eos) == language->in[text]);
        for (int32_t t = 0; t < TOKENS; t++) {
            const size_t length = strlen(spelled[t]);
            const int with = joined(text, number_of(spelled[t], length));
            const bool allowed = guide_test_bit(mask, t), known = with >= 0 && begins(language, with);
            if (allowed == known)
                continue;
            assert_true(allowed); /* what some text begins with is allowed */
            assert_int_equal(guide_start(&next, guide, 100, 0, NULL), COHORT_OK);
            for (int i = 0; i < n; i++)
                assert_true(guide_accept(next, (text + 1) >> (n - 1 - i) & 1));
            assert_true(guide_accept(next, t));
            assert_true((size_t)n + length + guide_distance(next) > LONGEST);
            guide_stop(next);
            (*unknown)++;
        }
        guide_stop(state);
    }
}

/* ---- The same grammar as text ---- */

static void write_expr(const struct random_grammar *g, uint32_t expr, bool lark, struct text *out)
{
    const struct expr *x = &g->exprs.list[expr];
    cohort_error err = {0};
    switch (x->kind) {
    case EXPR_SET:
        for (uint32_t i = x->at; i < x->at + x->n; i++) /* one: random_expr makes single characters */
            if (!lark || expr % 3 == 0)
                assert_int_equal(text_printf(out, &err, "\"%c\" ", (int)g->exprs.ranges[i][0]), COHORT_OK);
            else if (expr % 3 == 1)
                assert_int_equal(text_printf(out, &err, "/[%c]/ ", (int)g->exprs.ranges[i][0]), COHORT_OK);
            else
                assert_int_equal(text_printf(out, &err, "%c ", (int)g->exprs.ranges[i][0] - 'a' + 'A'), COHORT_OK);
        return;
    case EXPR_JOIN:
    case EXPR_EITHER:
        assert_int_equal(text_printf(out, &err, "("), COHORT_OK);
        for (uint32_t i = x->at; i < x->at + x->n; i++) {
            if (x->kind == EXPR_EITHER && i > x->at)
                assert_int_equal(text_printf(out, &err, expr % 2 == 0 ? " | " : "\n  | "), COHORT_OK);
            write_expr(g, g->exprs.parts[i], lark, out);
        }
        assert_int_equal(text_printf(out, &err, ") "), COHORT_OK);
        return;
    case EXPR_REPEAT:
        assert_int_equal(text_printf(out, &err, "("), COHORT_OK);
        write_expr(g, x->rule, lark, out);
        assert_int_equal(x->most == REPEAT_FOREVER && (!lark || x->least > 1)
                             ? text_printf(out, &err, "){%u,} ", x->least)
                         : x->most == REPEAT_FOREVER ? text_printf(out, &err, x->least == 0 ? ")* " : ")+ ")
                         : lark                      ? text_printf(out, &err, ")~%u..%u ", x->least, x->most)
                                                     : text_printf(out, &err, "){%u,%u} ", x->least, x->most),
                         COHORT_OK);
        return;
    case EXPR_RULE: assert_int_equal(text_printf(out, &err, "r%u ", x->rule), COHORT_OK); return;
    default: assert_int_equal(text_printf(out, &err, "\"\" "), COHORT_OK); /* EXPR_EMPTY */
    }
}

/* The reader of a notation understands by the text what the expressions mean. */
static void check_reader(const struct random_grammar *g, const struct texts *language, bool lark,
                         const struct guide_vocabulary *vocabulary, const struct guide_options *options, int i)
{
    struct text text = {0};
    struct guide *guide = NULL;
    int64_t unknown = 0;
    cohort_error err = {0};
    assert_int_equal(
        text_printf(&text, &err, lark ? "// one\nstart: r0\nA: \"a\"\nB: \"b\"\n" : "# one\nroot ::= r0\n"), COHORT_OK);
    for (uint32_t r = 0; r < g->n_rules; r++) {
        assert_int_equal(text_printf(&text, &err, lark ? "?r%u: " : "r%u ::= ", r), COHORT_OK);
        write_expr(g, g->bodies[r], lark, &text);
        assert_int_equal(text_printf(&text, &err, "\n"), COHORT_OK);
    }
    const cohort_status status =
        guide_create(&guide, vocabulary, GUIDE_GRAMMAR, text.data, text.length, options, "written", NULL, &err);
    if (status == COHORT_OK)
        compare(guide, language, options->eos_ids[0], &unknown);
    else if (strstr(err.message, "no text meets this") == NULL && strstr(err.message, "begins with itself") == NULL)
        fail_msg("case %d: %s\n%s", i, err.message, text.data);
    guide_release(guide);
    text_free(&text);
}

static void test_random_grammars(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = toy();
    struct guide_vocabulary *vocabulary = NULL;
    const int32_t eos = tokenizer_find(tokenizer, "<end>");
    const struct guide_options options = {.eos_ids = &eos, .n_eos = 1, .after = -1};
    int64_t unknown = 0, empty = 0, ambiguous = 0, readers = 0;
    assert_int_equal(guide_vocabulary_create(&vocabulary, tokenizer, 0, NULL), COHORT_OK);
    for (int i = 0; i < cases; i++) {
        static struct texts rules[MOST_RULES];
        struct random_grammar g = {0};
        struct grammar grammar = {0};
        struct guide *guide = NULL;
        cohort_error err = {0};
        stream = (uint64_t)i;
        draws = 0;
        g.n_rules = 1 + draw(MOST_RULES);
        for (uint32_t r = 0; r < g.n_rules; r++)
            g.bodies[r] = random_expr(&g, 3, false);
        language(&g, rules);
        for (uint32_t r = 0; r < g.n_rules; r++)
            (void)grammar_rule(&grammar, "rule", 4);
        for (uint32_t r = 0; r < g.n_rules; r++)
            grammar_end(&grammar, r, expr_to_rule(&g.exprs, g.bodies[r], &grammar, r, grammar_start(&grammar, r)));
        const cohort_status status = guide_of_grammar(&guide, vocabulary, &grammar, &options, "random", &err);
        if (status == COHORT_OK) {
            if (i % 3 == 0)
                guide_set_bound(guide, 1); /* forgets at every step */
            compare(guide, &rules[0], eos, &unknown);
            ambiguous += guide_problem(guide) != NULL;
        } else {
            if (status != COHORT_ERR_FORMAT) /* nothing to generate is the only reason */
                fail_msg("case %d: %s", i, err.message);
            for (int t = 0; t < TEXTS; t++)
                assert_false(rules[0].in[t]);
            empty++;
        }
        guide_release(guide);
        if (i % 2 == 0) {
            check_reader(&g, &rules[0], i % 4 == 0, vocabulary, &options, i);
            readers += status == COHORT_OK;
        }
        grammar_free(&grammar);
        exprs_free(&g.exprs);
    }
    assert_true(readers > cases / 4);
    print_message("%d grammars, %lld without a text, %lld too ambiguous, %lld tokens whose texts are longer\n", cases,
                  (long long)empty, (long long)ambiguous, (long long)unknown);
    assert_true(ambiguous <= cases / 50);
    guide_vocabulary_destroy(vocabulary);
    tokenizer_destroy(tokenizer);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_grammars)};
    if (argc > 1)
        cases = atoi(argv[1]);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What the readers of GBNF and Lark grammars share: a text under a cursor, names of rules, and left recursion, which becomes
 * a repetition. Nothing outside src/guide includes this. */
#ifndef COHORT_GUIDE_GUIDE_GRAMMAR_READER_H
#define COHORT_GUIDE_GUIDE_GRAMMAR_READER_H

#include "guide/guide_read.h"

enum { READER_DEPTH = 200, READER_MOST_REPEATS = 100000 };

struct named_rule {
    const char *name;
    size_t length;
    uint32_t rule; /* of the grammar */
    uint32_t body; /* an expression, once defined */
    bool defined;
    size_t used_at; /* the byte of its first use, for messages */
};

struct grammar_reader {
    struct guide_reading *reading;
    const char *text;
    size_t length, at;
    struct exprs exprs;
    struct named_rule *rules;
    size_t n_rules, rule_capacity;
    int depth;
};

/* An error at the cursor, with its line. */
cohort_status reader_wrong(const struct grammar_reader *r, cohort_status status, const char *what, cohort_error *err);
static inline bool reader_more(const struct grammar_reader *r) { return r->at < r->length; }
static inline char reader_here(const struct grammar_reader *r) { return r->at < r->length ? r->text[r->at] : '\0'; }
bool reader_eat(struct grammar_reader *r, const char *word);
/* A name of letters, digits and the characters of more; its length, 0: there is none. */
size_t reader_name(const struct grammar_reader *r, const char *more);
/* The rule of a name, which may be defined later. */
cohort_status reader_rule(struct grammar_reader *r, const char *name, size_t length, struct named_rule **out,
                          cohort_error *err);
/* {m}, {m,}, {m,n} with open '{', or Lark's ~m, ~m..n without. */
cohort_status reader_count(struct grammar_reader *r, uint32_t *count, cohort_error *err);
/* \n \r \t \\ and so on, \xHH, \uHHHH, \UHHHHHHHH; behind the backslash. */
cohort_status reader_escape(struct grammar_reader *r, uint32_t *c, cohort_error *err);
/* <[id]>, <text>, or their negation with '!' before: an expression of tokens. At the '<' or the '!'. */
cohort_status reader_token(struct grammar_reader *r, uint32_t *out, cohort_error *err);
/* Puts all rules into the grammar; root: the rule of the reading that the named one is. */
cohort_status reader_finish(struct grammar_reader *r, const char *start, uint32_t root, cohort_error *err);
void reader_free(struct grammar_reader *r);

#endif

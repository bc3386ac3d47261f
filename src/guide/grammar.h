/* Grammars: rules whose bodies are automata over bytes, other rules, counted repetitions and tokens. Regular expressions,
 * GBNF, Lark, JSON Schema and calls of tools all become one of these; grammar_tables.h is what runs.
 *
 * As with an nfa (automaton.h), the functions that build keep the first thing that goes wrong, and grammar_check tells. */
#ifndef COHORT_GUIDE_GRAMMAR_H
#define COHORT_GUIDE_GRAMMAR_H

#include "guide/automaton.h"

/* Labels of a rule's edges beyond bytes. Those of rules and repetitions are even: neighbours never become one range. */
#define LABEL_TOKEN  0x01000000u /* + id */
#define LABEL_RULE   0x02000000u /* + 2 * rule */
#define LABEL_REPEAT 0x03000000u /* + 2 * repetition */
static inline uint32_t rule_label(uint32_t rule) { return LABEL_RULE + 2 * rule; }
static inline uint32_t label_rule(uint32_t label) { return (label - LABEL_RULE) / 2; }
static inline uint32_t repeat_label(uint32_t repetition) { return LABEL_REPEAT + 2 * repetition; }
static inline uint32_t label_repeat(uint32_t label) { return (label - LABEL_REPEAT) / 2; }
#define REPEAT_FOREVER UINT32_MAX

struct rule {
    char *name; /* for messages; NULL: one of several parts of the rule before it */
    struct nfa nfa;
    uint32_t start, end;
};

/* A rule, least to most times. Counted while it runs: a large count costs no states. */
struct repetition {
    uint32_t rule, least, most;
};

struct grammar {
    struct rule **rules; /* rule 0 is what a text must be */
    size_t n_rules, rule_capacity;
    struct repetition *repetitions;
    size_t n_repetitions, repetition_capacity;
    struct nfa none; /* of a rule that there is no memory for */
    cohort_status status;
    cohort_error problem;
};
enum { GRAMMAR_MOST_RULES = 1 << 17 };

/* A new rule, empty: start and end are states of its nfa. name may be NULL. Never fails: with a problem it is rule 0. */
uint32_t grammar_rule(struct grammar *grammar, const char *name, size_t length);
/* Never NULL. */
struct nfa *grammar_nfa(struct grammar *grammar, uint32_t rule);
uint32_t grammar_start(const struct grammar *grammar, uint32_t rule);
/* Makes state the end of the rule. */
void grammar_end(struct grammar *grammar, uint32_t rule, uint32_t state);
/* An edge of a rule that reads another rule, or that several times; returns where it ends. */
uint32_t grammar_refer(struct grammar *grammar, uint32_t in, uint32_t from, uint32_t rule);
uint32_t grammar_repeat(struct grammar *grammar, uint32_t in, uint32_t from, uint32_t rule, uint32_t least,
                        uint32_t most);
/* Keeps a problem that a caller met. */
void grammar_fail(struct grammar *grammar, cohort_status status, const char *format, ...) PRINTF_LIKE(3, 4);
cohort_status grammar_check(const struct grammar *grammar, cohort_error *err);
void grammar_free(struct grammar *grammar);

/* ---- Expressions: what the readers of regular expressions and grammars make, before it becomes automata ---- */

enum expr_kind {
    EXPR_EMPTY,
    EXPR_SET,    /* one character of some ranges; of none: nothing */
    EXPR_JOIN,   /* parts one behind the other */
    EXPR_EITHER, /* one of the parts */
    EXPR_REPEAT,
    EXPR_RULE,
    EXPR_TOKENS, /* one token of some ranges of ids */
    EXPR_BEGIN,  /* the beginning and the end of the text, where an expression is searched for */
    EXPR_END
};
struct expr {
    enum expr_kind kind;
    uint32_t at, n;       /* parts, or ranges */
    uint32_t rule;        /* of EXPR_RULE; of EXPR_REPEAT the part */
    uint32_t least, most; /* of EXPR_REPEAT */
    uint64_t weight;      /* about how many edges it becomes */
};

/* A set of numbers as ranges [first, last]. */
struct range_set {
    uint32_t (*list)[2];
    size_t n, capacity;
};
cohort_status range_set_add(struct range_set *set, uint32_t first, uint32_t last, cohort_error *err);
/* Ascending, without overlap. */
void range_set_normalize(struct range_set *set);
/* Everything up to last that is not there. */
cohort_status range_set_invert(struct range_set *set, uint32_t last, cohort_error *err);
/* Both cases of every letter. */
cohort_status range_set_fold(struct range_set *set, cohort_error *err);
void range_set_free(struct range_set *set);

struct exprs {
    struct expr *list;
    size_t n, capacity;
    uint32_t *parts;
    size_t n_parts, part_capacity;
    uint32_t (*ranges)[2];
    size_t n_ranges, range_capacity;
};
void exprs_free(struct exprs *exprs);
cohort_status expr_empty(struct exprs *exprs, uint32_t *out, cohort_error *err);
cohort_status expr_set(struct exprs *exprs, const struct range_set *set, uint32_t *out, cohort_error *err);
cohort_status expr_char(struct exprs *exprs, uint32_t code_point, uint32_t *out, cohort_error *err);
/* UTF-8; fold: letters in both cases. */
cohort_status expr_text(struct exprs *exprs, const char *text, size_t length, bool fold, uint32_t *out,
                        cohort_error *err);
cohort_status expr_list(struct exprs *exprs, enum expr_kind kind, const uint32_t *parts, size_t n, uint32_t *out,
                        cohort_error *err);
cohort_status expr_repeat(struct exprs *exprs, uint32_t part, uint32_t least, uint32_t most, uint32_t *out,
                          cohort_error *err);
cohort_status expr_rule(struct exprs *exprs, uint32_t rule, uint32_t *out, cohort_error *err);
cohort_status expr_tokens(struct exprs *exprs, const struct range_set *ids, uint32_t *out, cohort_error *err);
cohort_status expr_mark(struct exprs *exprs, enum expr_kind kind, uint32_t *out, cohort_error *err);

/* Puts an expression behind from, a state of rule in, as UTF-8; returns where it ends. */
uint32_t expr_to_rule(const struct exprs *exprs, uint32_t expr, struct grammar *grammar, uint32_t in, uint32_t from);
/* The same in an nfa over code points, for expressions without rules and tokens; EXPR_BEGIN and EXPR_END are the labels
 * behind CODE_POINT_LAST. */
uint32_t expr_to_chars(const struct exprs *exprs, uint32_t expr, struct nfa *nfa, uint32_t from);

/* ---- Regular expressions (docs/GUIDED.md says which) ---- */

enum regex_dialect {
    REGEX_WHOLE, /* guided_regex: all of the text, as Rust's and PCRE's expressions are read */
    REGEX_SEARCH /* pattern of JSON Schema: found anywhere in a text, as ECMA-262's are read with the flag u */
};
enum regex_flags { REGEX_FOLD = 1, REGEX_DOT_ALL = 2 };
/* origin begins messages. */
cohort_status regex_parse(struct exprs *exprs, const char *text, size_t length, enum regex_dialect dialect,
                          unsigned flags, const char *origin, uint32_t *out, cohort_error *err);
/* The texts in which an expression is found, as a deterministic automaton over code points. */
cohort_status regex_search_automaton(struct automaton *out, const char *text, size_t length, const char *origin,
                                     cohort_error *err);
enum { AUTOMATON_MOST_STATES = 20000 }; /* of one over code points */

#endif

/* Finite automata whose edges are labelled with ranges of numbers: bytes, code points, or what a grammar refers to. The
 * one construction of subsets, product and difference behind regular expressions, keys, numbers and rules.
 *
 * An nfa is built edge by edge. Its functions return no status: the first thing that goes wrong (memory, or more edges
 * than a grammar may have) stays in it, later calls do nothing, and nfa_check tells. */
#ifndef COHORT_GUIDE_AUTOMATON_H
#define COHORT_GUIDE_AUTOMATON_H

#include "base/memory.h"

enum { CODE_POINT_LAST = 0x10FFFF };
#define NFA_NOTHING UINT32_MAX /* the label of an edge that reads nothing */

struct range_edge {
    uint32_t from, lo, hi, to; /* reads any label of lo .. hi */
};

struct nfa {
    struct range_edge *edges;
    size_t n_edges, edge_capacity;
    uint32_t n_states;
    cohort_status status;
    cohort_error problem;
};
enum { NFA_MOST_EDGES = 1 << 19 };
uint32_t nfa_state(struct nfa *nfa);
void nfa_edge(struct nfa *nfa, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to);
void nfa_skip(struct nfa *nfa, uint32_t from, uint32_t to);
/* A chain of bytes; returns where it ends. */
uint32_t nfa_bytes(struct nfa *nfa, uint32_t from, const char *bytes, size_t length);
/* The characters lo .. hi (surrogates left out) as UTF-8. */
void nfa_utf8(struct nfa *nfa, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to);
cohort_status nfa_check(const struct nfa *nfa, cohort_error *err);
void nfa_free(struct nfa *nfa);

/* States 0 .. n_states, the first one is the start; the edges of state q are edges[first[q]] .. edges[first[q + 1]],
 * ascending by lo, their field from unused. Every state is reached from the start and reaches an accepting one; an automaton
 * of nothing has no states. */
struct automaton {
    uint32_t n_states;
    uint32_t *first; /* [n_states + 1] */
    struct range_edge *edges;
    bool *accepts; /* [n_states] */
};
void automaton_free(struct automaton *automaton);

/* The deterministic automaton of what leads from start to end. *fits false, and *out empty: it would have more than limit
 * states. */
cohort_status automaton_determinize(struct automaton *out, const struct nfa *nfa, uint32_t start, uint32_t end,
                                    uint32_t limit, bool *fits, cohort_error *err);
/* The same language without determinism: edges that read nothing are taken out, no more. */
cohort_status automaton_plain(struct automaton *out, const struct nfa *nfa, uint32_t start, uint32_t end,
                              cohort_error *err);
/* Merges states that accept the same, of a deterministic automaton of at most limit states; a larger one stays. */
cohort_status automaton_minimize(struct automaton *automaton, uint32_t limit, cohort_error *err);

/* Of deterministic automata over code points: both (a AND b), or a without b. */
enum automaton_product { PRODUCT_BOTH, PRODUCT_WITHOUT };
cohort_status automaton_combine(struct automaton *out, const struct automaton *a, const struct automaton *b,
                                enum automaton_product product, uint32_t limit, bool *fits, cohort_error *err);
/* Whether it accepts these labels; it is deterministic. */
bool automaton_accepts(const struct automaton *automaton, const uint32_t *labels, size_t n);
/* Puts a copy behind from, whose labels stay as they are; returns where it ends. */
uint32_t nfa_automaton(struct nfa *nfa, uint32_t from, const struct automaton *automaton);

#endif

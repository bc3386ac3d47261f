/* Guided decoding: which tokens may come next for a text to become a member of a language, given as a regular expression,
 * a list of texts, a JSON schema, a grammar, or tools that may be called. docs/GUIDED.md describes the languages.
 *
 * A guide is a compiled grammar with its cache of configurations and masks; a guide_state is one text as far as it has
 * come. What they answer is a function of the grammar, the vocabulary and the tokens that were accepted, whatever else
 * the guide was used for (invariants I2, I3). States of a guide belong to one thread at a time.
 *
 * A guide constrains text, not the way in which it is cut into tokens: tokens that spell the same are all allowed. */
#ifndef COHORT_GUIDE_GUIDE_H
#define COHORT_GUIDE_GUIDE_H

#include "guide/grammar.h"
#include "guide/guide_kind_list.h"
#include "guide/guide_vocabulary.h"

#define GUIDE_KIND(constant, word) GUIDE_##constant,
enum guide_kind { GUIDE_KIND_LIST(GUIDE_KIND) GUIDE_KINDS };
#undef GUIDE_KIND
#define GUIDE_SPACE(constant, word) GUIDE_SPACE_##constant,
enum guide_whitespace { GUIDE_WHITESPACE_LIST(GUIDE_SPACE) GUIDE_SPACES };
#undef GUIDE_SPACE
#define GUIDE_UNSUPPORTED(constant, word) GUIDE_UNSUPPORTED_##constant,
enum guide_unsupported { GUIDE_UNSUPPORTED_LIST(GUIDE_UNSUPPORTED) };
#undef GUIDE_UNSUPPORTED

#define GUIDE_MODE(constant, word) GUIDE_TOOLS_##constant,
enum guide_tools { GUIDE_TOOLS_LIST(GUIDE_MODE) GUIDE_TOOLS_MODES };
#undef GUIDE_MODE
#define GUIDE_NOTATION(constant, word) GUIDE_NOTATION_##constant,
enum guide_notation { GUIDE_NOTATION_LIST(GUIDE_NOTATION) };
#undef GUIDE_NOTATION
#define GUIDE_LOGPROB(constant, word) GUIDE_LOGPROB_##constant,
enum guide_logprob { GUIDE_LOGPROB_LIST(GUIDE_LOGPROB) };
#undef GUIDE_LOGPROB

struct guide;
struct guide_state;

struct guide_options {
    const int32_t *eos_ids; /* what ends a completion: allowed where the text may end, and nowhere else */
    int32_t n_eos;
    int32_t after; /* a token, </think>: everything is allowed up to it, and the language begins behind; -1: at once */
    enum guide_whitespace whitespace;   /* of JSON */
    enum guide_unsupported unsupported; /* keywords of JSON Schema */
    enum guide_notation notation;       /* of a grammar */
};

/* What guided_KIND was given, as a grammar. text: of GUIDE_CHOICE a JSON list of texts, of GUIDE_TOOLS
 * {"form": enum response_form, "mode": enum guide_tools, "tools": [...]}. origin begins messages. ignored
 * gets, one a line, what guide_unsupported says to ignore; it may be NULL. */
cohort_status guide_read(struct grammar *grammar, const struct guide_vocabulary *vocabulary, enum guide_kind kind,
                         const char *text, size_t length, const struct guide_options *options, const char *origin,
                         struct text *ignored, cohort_error *err);

/* Whether a text is evidently a grammar in one of the notations. */
bool guide_looks_like_grammar(const char *text, size_t length);

/* The vocabulary is borrowed. The text is copied as far as it is needed. */
cohort_status guide_create(struct guide **out, const struct guide_vocabulary *vocabulary, enum guide_kind kind,
                           const char *text, size_t length, const struct guide_options *options, const char *origin,
                           struct text *ignored, cohort_error *err);
/* Of a grammar, which stays the caller's. */
cohort_status guide_of_grammar(struct guide **out, const struct guide_vocabulary *vocabulary,
                               const struct grammar *grammar, const struct guide_options *options, const char *origin,
                               cohort_error *err);
/* Another use of the same guide; every use ends with guide_release, which accepts NULL. States hold one of their own. */
struct guide *guide_share(struct guide *guide);
void guide_release(struct guide *guide);

/* A new text. close: from so many tokens before max_tokens on, only what is on a shortest way to the end is allowed; 0:
 * never. */
cohort_status guide_start(struct guide_state **out, struct guide *guide, int32_t max_tokens, int32_t close,
                          cohort_error *err);
void guide_stop(struct guide_state *state);
/* The tokens that may come next: a bit for each id of the vocabulary, the lowest first; borrowed until the next
 * guide_accept or guide_stop. None at all after a failure (guide_problem), or where the vocabulary has no token. */
const uint32_t *guide_mask(struct guide_state *state);
/* false: the token was not allowed, and nothing is from here on. */
bool guide_accept(struct guide_state *state, int32_t token);
/* The text may end here. */
bool guide_can_end(const struct guide_state *state);
/* It must: nothing may follow. */
bool guide_must_end(const struct guide_state *state);
/* The fewest bytes from here to where it may end. */
uint32_t guide_distance(const struct guide_state *state);
/* Whether completions have a token that ends them. */
bool guide_has_eos(const struct guide_state *state);
/* Back to the beginning, for a text to be read again, or for another one behind n_tokens of the same length. */
void guide_rewind(struct guide_state *state, int32_t n_tokens);
/* What went wrong while states were asked, or NULL. */
const char *guide_problem(const struct guide *guide);

/* For tests: the bound of what the cache holds, in bytes. */
void guide_set_bound(struct guide *guide, size_t bytes);
struct guide_stats {
    int64_t masks, remembered; /* asked for, and those of them that were known */
    int64_t configs, flushes;
    uint32_t states; /* of all rules */
};
struct guide_stats guide_stats(const struct guide *guide);

#endif

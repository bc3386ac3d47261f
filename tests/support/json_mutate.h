/* Mutations of a JSON tree: what comes out is valid JSON of nearly the right shape, so that a reader gets past its
 * parser and the damage reaches the code behind it. */
#ifndef COHORT_TESTS_SUPPORT_JSON_MUTATE_H
#define COHORT_TESTS_SUPPORT_JSON_MUTATE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* The bytes that choose; beyond their end all choices are 0. */
struct genome {
    const uint8_t *bytes;
    size_t size, at;
};
size_t genome_below(struct genome *genome, size_t limit); /* in [0, limit); limit at most 65536 */

/* Edits root (an object or array) in place, one to four times as the genome says: values
 * are removed, repeated, swapped, nested, replaced by others of their type or of another; keys are
 * renamed. words: texts to put in, the reader's own. */
void json_mutate(json_t *root, struct genome *genome, const char *const *words, size_t n_words);

#endif

/* Rotary position embeddings as config.json describes them, in the spelling of transformers 4 (rope_theta beside
 * rope_scaling {rope_type or type, factor, ...}) or 5 (rope_parameters {rope_type, rope_theta, factor, ...}).
 *
 * A position p turns the pair (i, i + D/2) of a head by p * f_i. With inv_i = theta^(-2i/D), as in transformers 5.24:
 * DEFAULT f = inv. LINEAR f = inv / factor. DYNAMIC f = inv up to max_position_embeddings; beyond it f would depend on
 * the longest length seen, so that keys that are kept would be wrong: such lengths are refused.
 * LLAMA3 (Llama 3.1), with the wavelength w = 2 pi / inv and n = original / w: inv / factor where n < low, inv where
 * n > high, between them inv * ((1 - s) / factor + s) with s = (n - low) / (high - low).
 * YARN (Peng et al. 2023): inv / factor * r + inv * (1 - r), r a ramp from 0 to 1 over i from the dimension that turns
 * beta_fast times within the original length to the one that turns beta_slow times; cos and sin are multiplied by
 * attention_factor. It changes short texts too. */
#ifndef COHORT_FORMAT_ROPE_CONFIG_H
#define COHORT_FORMAT_ROPE_CONFIG_H

#include "format/config_keys.h"

/* X(ID, the word of rope_type) */
#define ROPE_TYPE_LIST(X)                                                                                              \
    X(DEFAULT, "default") X(LINEAR, "linear") X(DYNAMIC, "dynamic") X(YARN, "yarn") X(LLAMA3, "llama3")

#define ROPE_TYPE(id, word) ROPE_##id,
enum rope_type { ROPE_TYPE_LIST(ROPE_TYPE) N_ROPE_TYPES };
#undef ROPE_TYPE
extern const char *const rope_type_names[N_ROPE_TYPES];

struct rope_config {
    enum rope_type type;
    double theta;
    double factor;               /* 1 where the type has none */
    double original;             /* LLAMA3, YARN: positions before the scaling */
    double low, high;            /* LLAMA3: low_freq_factor, high_freq_factor */
    double beta_fast, beta_slow; /* YARN */
    bool truncate;               /* YARN: the ends of the ramp are whole dimensions */
    double attention_factor;     /* of cos and sin */
};

/* Reads both spellings; where a file has both they must agree. absent_theta: the family's, for a file without one. Types,
 * keys and values that are not supported are refused by name. */
cohort_status rope_config_read(struct rope_config *rope, const struct config_source *source, double absent_theta,
                               int32_t max_positions);
/* Puts it into a config.json in the spelling of transformers 4, which 5 reads too; what the file said beside what is
 * read here is kept. False: no memory. */
bool rope_config_write(json_t *json, const struct rope_config *rope);
/* Why positions end at max_position_embeddings, for messages that refuse more: "" where it is no matter of rope. */
const char *rope_config_limit(const struct rope_config *rope);
/* The frequencies f_i, i = 0 .. head_dim / 2, each rounded once to fp32. */
void rope_config_frequencies(const struct rope_config *rope, int32_t head_dim, float *frequencies);

#endif

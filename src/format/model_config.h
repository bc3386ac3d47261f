/* config.json and generation_config.json of a Hugging Face checkpoint, as far as they describe the decoder. A key that
 * changes the mathematics and is not supported is refused by name (I7): other architectures, another hidden_act, another
 * rope type, biases where the family has none. Keys that do not change it are ignored, and kept for writing
 * back in the text of the files. Keys that are absent have the family's default (struct config_defaults). */
#ifndef COHORT_FORMAT_MODEL_CONFIG_H
#define COHORT_FORMAT_MODEL_CONFIG_H

#include "base/file.h"
#include "format/expert_config.h"
#include "format/rope_config.h"
#include "tensor/dtype.h"

enum { MODEL_MAX_EOS = 16, MODEL_MAX_LAYERS = 1 << 12 };

struct architecture;

/* Numbers, and the row of the family that they belong to: copied by assignment, nothing to free. */
struct model_config {
    const struct architecture *architecture;
    int32_t vocab_size, hidden_size, n_layers, n_heads, n_kv_heads, head_dim, intermediate_size, max_positions;
    float rms_norm_eps;
    struct rope_config rope;
    bool attention_bias, mlp_bias;           /* the family's bias tensors are there */
    int32_t window;                          /* of the layers that slide: a query sees so many keys, its own included */
    uint64_t sliding[MODEL_MAX_LAYERS / 64]; /* a bit for each layer: it slides (model_config_window) */
    int32_t n_labels;                        /* of a sequence classifier; 0: a language model */
    bool head_is_new;                        /* the files are a language model's: the scores' weights are drawn */
    double initializer_range;                /* standard deviation of initial weights */
    bool tie_embeddings;
    bool has_dtype;                 /* the config states one (dtype or torch_dtype) */
    enum dtype dtype;               /* the one that it states, else F32 */
    double attention_dropout;       /* read, never applied: callers that train say so */
    int32_t eos_ids[MODEL_MAX_EOS]; /* generation_config.json's, then config.json's */
    int64_t eos_beyond; /* an eos_token_id that was left out, because no row of the vocabulary has it; 0: none was */
    int32_t n_eos;
    int32_t pad_id, bos_id; /* -1: none */
    struct expert_config experts;
};

/* Whether the layer's feed-forward block is experts. */
bool model_config_sparse(const struct model_config *config, int32_t layer);
/* How many layers have experts. */
int32_t model_config_n_sparse(const struct model_config *config);

/* The window of a layer: how many keys a query sees at most, its own included; 0: all before it. */
int32_t model_config_window(const struct model_config *config, int32_t layer);

/* The two files as they were read, for who writes a checkpoint: model_config_save keeps what it does not know. Owned by
 * who asked for them; zero-initialise. */
struct config_files {
    struct text config, generation; /* of length 0: there is none */
};
void config_files_free(struct config_files *files);

/* Reads DIR/config.json and, if there is one, DIR/generation_config.json. All sizes are checked for sense and range
 * (products cannot overflow int64; heads divisible by kv heads; head_dim even; ids within the vocabulary). files: NULL,
 * or gets both texts (empty on failure). */
cohort_status model_config_load(struct model_config *config, struct config_files *files, const char *dir,
                                cohort_error *err);
/* From the text of a config.json alone (origin names it in messages). */
cohort_status model_config_parse(struct model_config *config, const char *text, size_t length, const char *origin,
                                 cohort_error *err);
/* Makes the config of a language model that of a reward model: a sequence classifier of one label, whose head is drawn
 * where the weights are read. A classifier of one label stays what it is; of several it is an error. dir: for messages. */
cohort_status model_config_score(struct model_config *config, const char *dir, cohort_error *err);
/* Writes config.json and generation_config.json into dir, in the form transformers 5 reads (and 4.51+), with dtype.
 * files: what is updated with config's numbers; NULL: nothing, only these are written. */
cohort_status model_config_save(const struct model_config *config, const struct config_files *files, enum dtype dtype,
                                const char *dir, cohort_error *err);

#endif

/* A checkpoint folder in Hugging Face layout: reading weights into the parameter buffer and writing
 * folders that are complete or absent (I6). */
#ifndef COHORT_FORMAT_CHECKPOINT_H
#define COHORT_FORMAT_CHECKPOINT_H

#include "format/model_config.h"
#include "format/safetensors.h"
#include "tensor/param.h"

/* Receives part of a tensor: elements [first, first + count) of param, converted to the wanted
 * type. */
typedef cohort_status checkpoint_sink(void *context, const struct param *param, int64_t first,
                                      int64_t count, const void *data, cohort_error *err);

/* Reads model.safetensors, or the shards of model.safetensors.index.json. Every param of the table
 * must be there once with its shape, as F32, F16 or BF16; every tensor there must be a param
 * (lm_head.weight of a tied model is accepted when its bytes equal the embedding's, and skipped;
 * *.rotary_emb.inv_freq is skipped). Messages name file, tensor, expected and found. A non-finite
 * weight is an error that names the tensor and the index. want: F32 or BF16; conversion rounds to
 * nearest even. */
cohort_status checkpoint_read(const char *dir, const struct param_table *table, enum dtype want,
                              checkpoint_sink *sink, void *context, cohort_error *err);

/* Gives elements [first, first + count) of param as type. */
typedef cohort_status checkpoint_fetch(void *context, const struct param *param, int64_t first,
                                       int64_t count, void *to, cohort_error *err);

/* Writes model.safetensors (one file; sharded with an index when over max_shard_bytes, 0: 5 GB)
 * into an existing folder. */
cohort_status checkpoint_write_weights(const char *dir, const struct param_table *table,
                                       enum dtype type, size_t max_shard_bytes,
                                       checkpoint_fetch *fetch, void *context, cohort_error *err);

/* Copies tokenizer.json, tokenizer_config.json, vocab.json, merges.txt, special_tokens_map.json,
 * added_tokens.json and chat_template.jinja where they exist. */
cohort_status checkpoint_copy_tokenizer(const char *from_dir, const char *to_dir,
                                        cohort_error *err);

/* A folder being written: content goes to a temporary sibling; commit fsyncs every file and the
 * folder and renames it into place (an existing target is replaced only by commit, and survives a
 * crash before it); abandon removes it. */
struct checkpoint_folder {
    char *target, *temporary;
};
cohort_status checkpoint_folder_begin(struct checkpoint_folder *folder, const char *target,
                                      cohort_error *err);
cohort_status checkpoint_folder_commit(struct checkpoint_folder *folder, cohort_error *err);
void checkpoint_folder_abandon(struct checkpoint_folder *folder);
/* Repairs and removes what crashed writers left in parent, whatever their targets; a parent that
 * does not exist is fine. */
cohort_status checkpoint_folders_recover(const char *parent, cohort_error *err);

/* Writes the initial weights transformers would draw: normal(0, initializer_range) for matrices and
 * the embedding, ones for the norm gains; element i of a tensor is a function of (seed, tensor
 * name, i) by Philox (Box-Muller). Same signature as a fetch: context is a struct checkpoint_init.
 */
struct checkpoint_init {
    uint64_t seed;
    float standard_deviation; /* config's initializer_range, 0.02 */
    enum dtype type;
    struct pool *pool; /* NULL: the calling thread alone */
};
cohort_status checkpoint_init_fetch(void *context, const struct param *param, int64_t first,
                                    int64_t count, void *to, cohort_error *err);

#endif

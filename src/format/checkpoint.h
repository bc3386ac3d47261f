/* A checkpoint folder in Hugging Face layout: reading weights into the parameter buffer and writing folders that are
 * complete or absent (I6). */
#ifndef COHORT_FORMAT_CHECKPOINT_H
#define COHORT_FORMAT_CHECKPOINT_H

#include "base/hash.h"
#include "base/pool.h"
#include "base/scratch.h"
#include "format/manifest.h"
#include "format/model_config.h"
#include "format/safetensors.h"
#include "tensor/param.h"

/* Whether the folder has model.safetensors or its index. */
cohort_status checkpoint_has_weights(const char *dir, bool *there, cohort_error *err);

/* How many of a table's tensors are stored in each type, by enum dtype. */
struct checkpoint_types {
    int32_t n[3];
};
/* Compares the headers of the files with the table, as checkpoint_read does, without reading a weight: before memory is
 * taken for a model that the files do not hold. types may be NULL. */
cohort_status checkpoint_look(const char *dir, const struct param_table *table, struct checkpoint_types *types,
                              cohort_error *err);
/* The type to compute in where the user names none: as transformers, what config.json states, else the tensors' own;
 * F16 is computed in F32, which holds its values, and so is a mixture for which config.json states nothing. */
enum dtype checkpoint_auto_type(const struct model_config *config, const struct checkpoint_types *types);
/* Whether it is an F16 checkpoint, by config.json, else by its tensors: it is computed in F32 and what is made of it is
 * written in F16. */
bool checkpoint_is_f16(const struct model_config *config, const struct checkpoint_types *types);
/* Appends a line for what a reader of the model might not expect: values that are rounded without having been asked to
 * (type is checkpoint_auto_type's), or computed in another type. writes: the model will be trained and written. Nothing
 * for most models. */
cohort_status checkpoint_type_notes(const char *dir, const struct model_config *config,
                                    const struct checkpoint_types *types, enum dtype type, bool writes,
                                    struct text *notes, cohort_error *err);

/* Receives part of a tensor: elements [first, first + count) of param in its format. Parts of a matrix of a checkpoint
 * begin at a multiple of PARAM_PART_ROWS rows. */
typedef cohort_status checkpoint_sink(void *context, const struct param *param, int64_t first, int64_t count,
                                      const void *data, cohort_error *err);

/* Reads model.safetensors, or the shards of model.safetensors.index.json. Every param of the table must be there once
 * with its shape, as F32, F16 or BF16; every tensor there must be a param (lm_head.weight of a tied model is accepted
 * when its bytes equal the embedding's, and skipped; *.rotary_emb.inv_freq is skipped; a param that is drawn must not be
 * there, and lm_head.weight, whose place it takes, is skipped). Messages name file, tensor,
 * expected and found. A non-finite weight is an error that names the tensor and the index. Conversion to a param's
 * format rounds to nearest even. */
cohort_status checkpoint_read(const char *dir, const struct param_table *table, checkpoint_sink *sink, void *context,
                              cohort_error *err);

/* The files that weights were read from, each with the SHA-256 of all its bytes, in the order of their names. Owned by
 * who asked for them; zero-initialise. */
struct weight_files {
    struct weight_file {
        char *path;
        char sha256[HASH_HEX];
    } * files;
    size_t count, capacity;
};
void weight_files_free(struct weight_files *files);
/* The same, and hashes the files as they are read (files not NULL): parts come in the order in which they lie, each is
 * hashed behind its conversion, and nothing is read twice. On failure files is empty. pool: NULL, or threads that share
 * the parts; then the sink is called on several at once, each with parts of its own, and must bear that. A stop of the
 * pool ends the reading with COHORT_ERR_CANCELLED. */
cohort_status checkpoint_read_hashed(const char *dir, const struct param_table *table, checkpoint_sink *sink,
                                     void *context, struct weight_files *files, struct pool *pool, cohort_error *err);
/* One file of a folder, by its name, whose tensors are called prefix and a param's name: those of an adapter. what: what
 * it should hold, for messages ("the file does not hold the ..."). */
cohort_status checkpoint_read_file(const char *dir, const char *name, const char *prefix, const char *what,
                                   const struct param_table *table, checkpoint_sink *sink, void *context,
                                   struct weight_files *files, cohort_error *err);
/* The hashes alone: for a folder whose weights are not wanted. */
cohort_status checkpoint_hash(const char *dir, struct weight_files *files, cohort_error *err);

/* Gives elements [first, first + count) of param in its format. */
typedef cohort_status checkpoint_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                       cohort_error *err);

/* An opened checkpoint that gives its tensors by demand, from maps of its files: for who makes another checkpoint of it
 * without holding it in memory. The table is that of its shape and must stay. */
struct checkpoint_source;
cohort_status checkpoint_source_open(struct checkpoint_source **out, const char *dir, const struct param_table *table,
                                     cohort_error *err);
void checkpoint_source_close(struct checkpoint_source *source);
/* A checkpoint_fetch; context is the source, param one of its table. */
cohort_status checkpoint_source_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                      cohort_error *err);

/* Writes every tensor in its format to model.safetensors (one file; sharded with an index when over max_shard_bytes, 0: 5 GB) into an existing
 * folder. manifest, if not NULL, gets the hashes of the weight files, taken while they are written. */
cohort_status checkpoint_write_weights(const char *dir, const struct param_table *table, size_t max_shard_bytes,
                                       checkpoint_fetch *fetch, void *context, struct manifest *manifest,
                                       cohort_error *err);

/* The same of a table in F32, with every tensor rounded to F16. A value that F16 does not hold (beyond 65504) is
 * COHORT_ERR_NUMERIC, by name. */
cohort_status checkpoint_write_weights_f16(const char *dir, const struct param_table *table, checkpoint_fetch *fetch,
                                           void *context, struct manifest *manifest, cohort_error *err);

/* The files of a tokenizer as they stand: tokenizer.json, tokenizer_config.json, vocab.json, merges.txt,
 * special_tokens_map.json, added_tokens.json, chat_template.jinja, chat_templates/NAME.jinja, those that exist. A run
 * reads them once, so that its checkpoints are complete whatever becomes of the folder they came from. */
struct tokenizer_file {
    char *name;
    struct text content;
};
struct tokenizer_files {
    struct tokenizer_file *items;
    size_t count, capacity;
};
cohort_status checkpoint_read_tokenizer(struct tokenizer_files *files, const char *dir, cohort_error *err);
/* Adds the licence and the like of a model folder (LICENSE, NOTICE, USE_POLICY..., up to 1 MiB each), which a model made of
 * it must keep. */
cohort_status checkpoint_read_documents(struct tokenizer_files *files, const char *dir, cohort_error *err);
cohort_status checkpoint_write_tokenizer(const struct tokenizer_files *files, const char *dir, cohort_error *err);
/* Another chat template in place of those that were read: what is written has it as chat_template.jinja. */
cohort_status checkpoint_set_template(struct tokenizer_files *files, const char *text, size_t length,
                                      cohort_error *err);
void tokenizer_files_free(struct tokenizer_files *files);
cohort_status checkpoint_copy_tokenizer(const char *from_dir, const char *to_dir, cohort_error *err);

/* A folder being written: content goes to a scratch folder beside the target (base/scratch.h); commit writes the
 * manifest, fsyncs every file and the folder and renames it into place (an existing target is replaced only by commit,
 * and survives a crash before it); abandon removes it. */
struct checkpoint_folder {
    char *target, *temporary;
    struct scratch scratch;
    struct manifest manifest; /* hashes that are known; commit computes the others */
    bool exclusive;           /* the caller may set it: a target that is there is an error */
    char *kept;               /* after commit: where a replaced folder with files that are not ours is now, or NULL;
                                 abandon frees it */
};
cohort_status checkpoint_folder_begin(struct checkpoint_folder *folder, const char *target, cohort_error *err);
/* After a failure, or for kept, call abandon. */
cohort_status checkpoint_folder_commit(struct checkpoint_folder *folder, cohort_error *err);
void checkpoint_folder_abandon(struct checkpoint_folder *folder);
/* Deletes a checkpoint so that a crash leaves it whole or gone: first its name, then its files. *stranger: a file in it
 * that is not its own (mem_free it); then nothing was done. */
cohort_status checkpoint_folder_remove(const char *target, char **stranger, cohort_error *err);

/* Writes the initial weights transformers would draw: normal(0, initializer_range) for matrices and the embedding, ones
 * for the norm gains; element i of a tensor is a function of (seed, tensor name, i) by Philox (Box-Muller). Same
 * signature as a fetch: context is a struct checkpoint_init. */
struct checkpoint_init {
    uint64_t seed;
    float standard_deviation; /* config's initializer_range, 0.02 */
    struct pool *pool;        /* NULL: the calling thread alone */
};
cohort_status checkpoint_init_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                    cohort_error *err);
/* The number of the stream of draws that belongs to a tensor's name, wherever it lies in a table. */
uint64_t checkpoint_init_stream(const char *name);

#endif

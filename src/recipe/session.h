/* What most commands begin with: a backend, a model and its tokenizer, opened as the options say. */
#ifndef COHORT_RECIPE_SESSION_H
#define COHORT_RECIPE_SESSION_H

#include "recipe/rollout_plan.h"
#include "recipe/session_adapter.h"
#include "recipe/session_draft.h"
#include "rollout/engine.h"
#include "text/chat_template.h"
#include "format/checkpoint.h"
#include "text/tokenizer.h"
#include "model/packing.h"
#include "run/dataset.h"
#include "run/dataset_order.h"
#include "run/options.h"
#include "train/metrics.h"
#include "train/optimizer.h"

/* Helpers that call the observer. They set the size field of progress. */
void observer_output(const cohort_observer *observer, const struct text *text);
/* Of the terminal that output goes to; 0: none. */
int observer_columns(const cohort_observer *observer);
void observer_message(const cohort_observer *observer, const char *format, ...) PRINTF_LIKE(2, 3);
bool observer_progress(const cohort_observer *observer, const cohort_progress *progress);
void observer_metrics(const cohort_observer *observer, const struct metrics *metrics);

enum session_need {
    SESSION_TOKENIZER = 1,
    SESSION_HASHED = 128, /* the weights are hashed as they are read */
    SESSION_TOKENIZER_IF_ANY = 2,
    SESSION_ADAPTED =
        256, /* it may get adapters later, of which DoRA's read the base's values as they lie in the file */
    SESSION_TRAINING = 4, /* gradient and optimizer will need room too, and the weights are left for session_read, after
                             the plan */
    SESSION_CLASSIFIER = 8, /* a sequence classifier is welcome; else it is refused */
    SESSION_DROPOUT = 16,   /* with SESSION_TRAINING: an adapter may train with dropout */
    SESSION_REWARD =
        32 /* a sequence classifier of one label is what is wanted: a language model becomes one, whose head
                               is drawn by the seed; a new adapter has it train beside itself */
};

struct session {
    struct backend *backend;
    char weights[HASH_HEX];           /* with SESSION_HASHED: a hash of those of their files */
    struct model *model;              /* with SESSION_TRAINING only open, until session_read */
    const char *dir;                  /* of the model, its base where there is an adapter; in adapter */
    struct session_adapter adapter;   /* the folders of all of it */
    uint64_t seed;                    /* of a new adapter's values */
    struct config_files config_files; /* of the model, for who writes it again */
    bool f16;                         /* its files are F16: what is made of it is written so in the end */
    bool kv8;                         /* its engine keeps keys and values in 8 bits (option kv_bits) */
    int32_t kv_pages;                 /* and of so many pages (max_kv_size); 0: all */
    struct text notes;                /* lines about how the model is read, sent to the observer when opened */
    struct tokenizer *tokenizer;      /* NULL if not asked for or absent */
    struct chat_template *chat;       /* with SESSION_TOKENIZER */
    struct arena arena;               /* the command's buffers */
    struct optimizer optimizer;       /* with SESSION_TRAINING: as the options say, before any update */
    /* Tokens, or -1: what SFT puts behind a text, and what ends a turn in the chat template. What ends a completion is
     * in model->config. */
    int32_t text_end, turn_end;
    const json_t *tools;         /* of conversations whose row has none, borrowed; NULL: none */
    struct session_draft *draft; /* after session_engine, with option draft_model; else NULL */
    size_t beside;               /* bytes that the command holds beside the model's, of a limit that was given */
};
/* Options used: model and adapter (or dir instead, if not NULL; session_adapter_find), dtype, isa, device, threads; eos_token and chat_template with
 * SESSION_TOKENIZER. The files are compared with config.json before memory is taken. observer, told the notes, may be NULL. */
cohort_status session_open(struct session *session, const struct options *options, const char *dir, unsigned need,
                           const cohort_observer *observer, cohort_error *err);
/* Whether the weights, and with training their gradient and optimizer state, can fit: before anything large is allocated. Called
 * by session_open, unless for training. */
cohort_status session_check_room(const struct session *session, const struct options *options, bool training,
                                 cohort_error *err);
/* files: NULL, or gets the files of the weights with their hashes; likewise adapter_files. */
cohort_status session_read(struct session *session, struct weight_files *files, struct weight_files *adapter_files,
                           cohort_error *err);
void session_close(struct session *session);
/* Creates the backend alone. */
cohort_status session_backend(struct backend **out, const struct options *options, cohort_error *err);
/* The type that option dtype selects for a model of this config: the one it names, or that of checkpoint_auto_type.
 * dir: the folder with its weights, whose headers are compared with config, if there are any; NULL: there is none.
 * types (may be NULL) gets what is stored there. Appends to notes. */
cohort_status session_type(const struct options *options, const struct model_config *config, const char *dir,
                           bool training, enum dtype *type, struct checkpoint_types *types, struct text *notes,
                           cohort_error *err);
/* Whether a model of this folder is written in F16 in the end: its checkpoint is F16, and no other type was asked for. */
bool session_writes_f16(const struct options *options, const struct model_config *config,
                        const struct checkpoint_types *types);
/* Of an opened model whose weights stay as they are: has it keep F16 matrices as they stand in the files, if all are, and
 * nothing of the adapter (NULL: none) is made of them. */
void session_store_f16(struct model *model, const struct checkpoint_types *types,
                       const struct adapter_settings *adapter);
/* Every line of notes as a message. observer may be NULL. */
void observer_notes(const cohort_observer *observer, const struct text *notes);

/* What is left of that beside the session's model, and what else is held. */
size_t session_room(const struct session *session, const struct options *options);
/* Memory that commands may plan with, in bytes: option memory_limit (GB) or what the machine has free now. */
size_t session_memory_limit(struct backend *backend, const struct options *options);

/* The value of option micro_batch_tokens, or what suits the backend for a model of this width; the type of option
 * moments_dtype. */
int64_t session_micro_tokens(const struct model *model, const struct options *options);
int64_t session_pass_tokens(const struct model *model); /* what suits the backend */
enum dtype session_moments(const struct options *options);
/* Option offload, as PARAM_OFFLOAD_* of the set that trains and of the frozen reference. */
unsigned session_offload(const struct options *options);
unsigned session_offload_reference(const struct options *options);
/* Reads the model of a folder as the session's reference, in the host's memory if option offload says so. files: as in
 * session_read. *out is for model_destroy, also after a failure. */
cohort_status session_load_reference(const struct session *session, const struct options *options, const char *dir,
                                     struct weight_files *files, struct model **out, cohort_error *err);

/* Chooses how a rollout runs beside weights (and training state) that are already allocated, within the memory limit
 * (rollout_choose). On a CPU, and where need is modest, more than half of the free memory is taken only if a single
 * completion needs it. What does not fit is COHORT_ERR_MEMORY with choice->refused set. Options used: memory_limit. */
cohort_status session_rollout(const struct session *session, const struct options *options,
                              const struct rollout_need *need, struct rollout_choice *choice, cohort_error *err);
/* Tokens of a completion that a step drafts, at most. Options used: speculative, speculative_tokens, draft_model. */
int32_t session_drafts(const struct session *session, const struct options *options);
/* Creates the engine for it, whose buffers are in session->arena, and with option draft_model what drafts for it. Once a
 * session; the engine is destroyed before the session is closed. */
cohort_status session_engine(struct session *session, const struct options *options, const struct rollout_need *need,
                             struct engine **out, cohort_error *err);

/* What the options say of every request: how it is drawn (XTC spares the newline and the EOS ids, as MLX-LM's does),
 * for how many tokens, from which ids, and what ends it. Prompt, n and stream are the caller's. Free with
 * session_request_free; session and options must stay. Options used: those of sampling, seed, max_completion_length,
 * stop. */
cohort_status session_request(const struct session *session, const struct options *options,
                              struct engine_request *request, cohort_error *err);
void session_request_free(struct engine_request *request);

/* The completions of a step, prompts_per_step times num_generations, checked against what a step can hold. */
cohort_status session_batch_size(const struct options *options, int32_t *n, cohort_error *err);

/* The type that option dtype names; false if it is auto. */
bool session_asked_type(const struct options *options, enum dtype *type);

/* 64-bit FNV-1a, to tell prompts apart by content. */
uint64_t content_hash(const void *bytes, size_t length);
/* The stream of a prompt's draws where nothing else tells prompts apart: a function of its ids, and of how many requests
 * before it had the same. */
uint64_t prompt_stream(const int32_t *ids, size_t count, uint64_t before);

#endif

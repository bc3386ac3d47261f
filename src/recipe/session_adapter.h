/* Which folders a session reads where an adapter is involved: a model named by --model, or by the adapter; an adapter
 * named by --adapter, by --model, or lying in the checkpoint that a run goes on from; or a new one, as the options say. */
#ifndef COHORT_RECIPE_SESSION_ADAPTER_H
#define COHORT_RECIPE_SESSION_ADAPTER_H

#include "format/adapter.h"
#include "model/model_adapter.h"
#include "run/options.h"

/* What becomes of an adapter. */
enum adapter_use {
    ADAPTER_COMPUTED,            /* it is computed with; the options do not ask for a new one */
    ADAPTER_TRAINED,             /* without dropout, so that training computes what sampling does */
    ADAPTER_TRAINED_WITH_DROPOUT /* if it is asked for */
};

struct session_adapter {
    bool there;      /* the model has an adapter: settings says which */
    char *base;      /* folder of the model */
    char *dir;       /* folder that the adapter is read from; NULL: a new one */
    char *start;     /* folder of the adapter that a run began with, dir or not; NULL: none */
    char *tokenizer; /* folder of the tokenizer's files: the adapter's, if it has any */
    struct adapter_settings settings;
};

/* dir: NULL, or a checkpoint that is read in place of what the options name. notes gets lines about how
 * adapter_config.json is read. Options used: model, adapter; use_peft and lora_* in training. Zeroed by the caller; free
 * with session_adapter_free, also after an error. */
cohort_status session_adapter_find(struct session_adapter *adapter, const struct options *options, const char *dir,
                                   enum adapter_use use, struct text *notes, cohort_error *err);
void session_adapter_free(struct session_adapter *adapter);
/* What the options use_peft and lora_* ask for. */
cohort_status session_adapter_settings(struct adapter_settings *settings, const struct options *options,
                                       enum adapter_use use, cohort_error *err);
/* The values of the model's adapter: of its folder, or start values by the seed. files as in model_read. */
cohort_status session_adapter_read(const struct session_adapter *adapter, struct model *model, uint64_t seed,
                                   struct weight_files *files, cohort_error *err);
/* Writes the model's adapter into an existing folder, as PEFT does; fetch gives the values, its context is the set. */
cohort_status session_adapter_write(const struct session_adapter *adapter, const struct model *model, const char *dir,
                                    checkpoint_fetch *fetch, struct manifest *manifest, cohort_error *err);

#endif

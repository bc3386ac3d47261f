/* The weights of a model with an adapter merged into them: W + s B A, with DoRA the rows scaled (of an embedding
 * the columns), computed in fp32 and rounded once, as PEFT's merge_and_unload does. A checkpoint is written of it tensor by
 * tensor. */
#ifndef COHORT_FORMAT_ADAPTER_MERGE_H
#define COHORT_FORMAT_ADAPTER_MERGE_H

#include "format/adapter.h"

struct adapter_merge {
    const struct param_table *base; /* borrowed */
    struct checkpoint_source *source;
    struct adapter_layout layout;
    unsigned char *values; /* of the layout's table, everything in F32 but saved tensors */
    float *factor; /* of a site with DoRA, once its first element was asked: m / |W + s B A| of each row or column */
    float *row;    /* [the widest K] */
    const struct adapter_site *factor_of; /* whose factors those are */
    /* In a tied model only one of embedding and head may have changed: the tensors asked are then those of a table of the
     * same model untied. */
    bool untied;
    const struct param *embedding; /* in base */
};

/* Opens both folders and reads the adapter. base, a table of config, must stay. After an error nothing is held. */
cohort_status adapter_merge_open(struct adapter_merge *merge, const char *base_dir, const struct param_table *base,
                                 const struct model_config *config, const char *adapter_dir,
                                 const struct adapter_settings *settings, cohort_error *err);
void adapter_merge_close(struct adapter_merge *merge);
/* A checkpoint_fetch of merged weights; context is the merge. */
cohort_status adapter_merge_fetch(void *context, const struct param *param, int64_t first, int64_t count, void *to,
                                  cohort_error *err);

#endif

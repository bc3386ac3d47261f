/* The config.json of a known shape, for models without a checkpoint. */
#ifndef COHORT_FORMAT_MODEL_PRESET_H
#define COHORT_FORMAT_MODEL_PRESET_H

#include "format/model_config.h"
#include "format/preset_list.h"

#define MODEL_PRESET(id, ...) PRESET_##id,
enum model_preset { PRESET_LIST(MODEL_PRESET) N_PRESETS };
#undef MODEL_PRESET
extern const char *const model_preset_names[N_PRESETS];

/* vocab_size: rows of the embedding; 0: those of the family's published models. With no fewer, config gets the ids of the
 * family's special tokens. files: as for model_config_load. */
cohort_status model_config_preset(struct model_config *config, struct config_files *files, enum model_preset preset,
                                  int32_t vocab_size, cohort_error *err);

#endif

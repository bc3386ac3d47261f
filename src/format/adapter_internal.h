/* What the files of format/adapter share. */
#ifndef COHORT_FORMAT_ADAPTER_INTERNAL_H
#define COHORT_FORMAT_ADAPTER_INTERNAL_H

#include "base/number.h"
#include "format/adapter.h"
#include "format/architecture.h"

/* dir/adapter_config.json of PEFT. */
cohort_status adapter_config_write(const char *dir, const struct adapter_settings *settings,
                                   const struct adapter_layout *layout, cohort_error *err);

/* Whether a path is this name or ends with it behind a dot. */
bool adapter_ends_at_dot(const char *path, const char *name);

/* Of a model with experts (adapter_experts.c): what the settings name there; an error where PEFT has one. On failure out
 * is freed. */
cohort_status adapter_targets_find(struct adapter_targets *out, const struct adapter_settings *settings,
                                   const struct param_table *base, const struct model_config *config,
                                   cohort_error *err);
void adapter_targets_free(struct adapter_targets *targets);
bool adapter_has_experts(const struct param_table *base);
/* The router, or the first role of a stack, that a tensor of experts belongs to; and PEFT's path of that parameter. */
enum tensor_role adapter_expert_role(const struct model_config *config, const struct param *param);
void adapter_expert_key(const struct param *param, enum tensor_role role, char out[sizeof param->name]);

#endif

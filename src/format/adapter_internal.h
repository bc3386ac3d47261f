/* What the files of format/adapter share. */
#ifndef COHORT_FORMAT_ADAPTER_INTERNAL_H
#define COHORT_FORMAT_ADAPTER_INTERNAL_H

#include "base/number.h"
#include "format/adapter.h"

/* dir/adapter_config.json of PEFT. */
cohort_status adapter_config_write(const char *dir, const struct adapter_settings *settings,
                                   const struct adapter_layout *layout, cohort_error *err);

#endif

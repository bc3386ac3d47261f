/* Single keys of config.json, and refusals that name file, key, value and what was expected (I7). */
#ifndef COHORT_FORMAT_CONFIG_KEYS_H
#define COHORT_FORMAT_CONFIG_KEYS_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* What is being read, for messages. */
struct config_source {
    const json_t *json; /* the whole file's object */
    const char *origin; /* its name */
    cohort_error *err;
};

/* NULL where the key is absent; JSON null counts as absent, as it does for transformers. */
const json_t *config_get(const json_t *object, const char *key);

/* An error with this status: "ORIGIN: "KEY" is VALUE, expected EXPECTED". value NULL: the key is missing. */
cohort_status config_refuse(const struct config_source *source, cohort_status status, const char *key,
                            const json_t *value, const char *expected);

/* A whole number from least to most; written 32.0 it is one too. absent: the value of a key that is not there. */
cohort_status config_size(const struct config_source *source, const char *key, int32_t least, int32_t most,
                          int32_t absent, int32_t *out);
cohort_status config_flag(const struct config_source *source, const char *key, bool absent, bool *out);
/* A flag that may only be false. */
cohort_status config_flag_off(const struct config_source *source, const char *key);
/* A number of object (a part of the file) that may only be this one. */
cohort_status config_number_only(const struct config_source *source, const json_t *object, const char *key,
                                 double only);

#endif

#include "format/config_keys.h"

#include "base/json_text.h"
#include "base/number.h"

#include <math.h>
#include <stdio.h>

const json_t *config_get(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* The value as it stands in the file, cut to fit a message. */
static const char *show(const json_t *value, char *buffer, size_t size)
{
    struct text text = {0};
    bool fits =
        json_text_write(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9), &text, NULL) == COHORT_OK &&
        text.length < size;
    snprintf(buffer, size, "%s", fits ? text.data : "a long value");
    text_free(&text);
    return buffer;
}

cohort_status config_refuse(const struct config_source *source, cohort_status status, const char *key,
                            const json_t *value, const char *expected)
{
    char shown[160];
    return error_set(source->err, status, "%s: \"%s\" is %s, expected %s", source->origin, key,
                     value == NULL ? "missing" : show(value, shown, sizeof shown), expected);
}

cohort_status config_size(const struct config_source *source, const char *key, int32_t least, int32_t most,
                          int32_t absent, int32_t *out)
{
    const json_t *value = json_object_get(source->json, key);
    double number = json_number_value(value);
    *out = absent;
    if (value == NULL)
        return COHORT_OK;
    if (!json_is_number(value) || !(number >= least) || !(number <= most) || number != floor(number)) {
        char expected[80];
        snprintf(expected, sizeof expected, "a whole number from %d to %d", least, most);
        return config_refuse(source, COHORT_ERR_FORMAT, key, value, expected);
    }
    *out = (int32_t)number;
    return COHORT_OK;
}

cohort_status config_flag(const struct config_source *source, const char *key, bool absent, bool *out)
{
    const json_t *value = config_get(source->json, key);
    if (value != NULL && !json_is_boolean(value))
        return config_refuse(source, COHORT_ERR_FORMAT, key, value, "true or false");
    *out = value == NULL ? absent : json_is_true(value);
    return COHORT_OK;
}

cohort_status config_flag_off(const struct config_source *source, const char *key)
{
    bool on = false;
    TRY(config_flag(source, key, false, &on));
    if (on)
        return config_refuse(source, COHORT_ERR_UNSUPPORTED, key, config_get(source->json, key),
                             "false: this version does not support it");
    return COHORT_OK;
}

cohort_status config_number_only(const struct config_source *source, const json_t *object, const char *key, double only)
{
    const json_t *value = config_get(object, key);
    if (value == NULL || (json_is_number(value) && json_number_value(value) == only))
        return COHORT_OK;
    char expected[80];
    number_format(expected, sizeof expected, "%g: this version supports no other", only);
    return config_refuse(source, COHORT_ERR_UNSUPPORTED, key, value, expected);
}

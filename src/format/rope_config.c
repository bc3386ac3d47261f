#include "format/rope_config.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define PI 3.14159265358979323846

#define ROPE_WORD(id, word) word,
const char *const rope_type_names[N_ROPE_TYPES] = {ROPE_TYPE_LIST(ROPE_WORD)};
#undef ROPE_WORD

/* One of the objects rope_scaling and rope_parameters, and what it is called in messages. */
struct part {
    const struct config_source *source;
    const json_t *rope;
    const char *where;
};

static cohort_status refuse(const struct part *part, cohort_status status, const char *key, const char *expected)
{
    char name[160];
    snprintf(name, sizeof name, "%s.%s", part->where, key);
    return config_refuse(part->source, status, name, config_get(part->rope, key), expected);
}

/* A positive number. absent 0: the key must be there. */
static cohort_status read_number(const struct part *part, const char *key, double absent, double *out)
{
    const json_t *value = config_get(part->rope, key);
    *out = absent;
    if (value == NULL && absent > 0.0)
        return COHORT_OK;
    *out = json_number_value(value);
    if (!json_is_number(value) || !(*out > 0.0) || !(*out <= 1e15))
        return refuse(part, COHORT_ERR_FORMAT, key, "a positive number");
    return COHORT_OK;
}

static cohort_status read_type(const struct part *part, enum rope_type *type)
{
    const char *key = config_get(part->rope, "rope_type") != NULL ? "rope_type" : "type";
    const json_t *value = config_get(part->rope, key);
    const char *word = value == NULL ? "default" : json_string_value(value);
    for (int i = 0; word != NULL && i < N_ROPE_TYPES; i++) {
        if (strcmp(word, rope_type_names[i]) == 0) {
            *type = (enum rope_type)i;
            return COHORT_OK;
        }
    }
    return refuse(part, COHORT_ERR_UNSUPPORTED, key,
                  "\"default\", \"linear\", \"dynamic\", \"yarn\" or \"llama3\": this version supports no other");
}

/* 0.1 m ln s + 1, which for s up to 1 is 1. */
static double magnitude(double scale, double m) { return scale <= 1.0 ? 1.0 : 0.1 * m * log(scale) + 1.0; }

static cohort_status read_yarn(struct rope_config *rope, const struct part *part, int32_t max_positions)
{
    double own = 1.0, all = 1.0;
    const json_t *truncate = config_get(part->rope, "truncate");
    if (json_object_get(part->rope, "factor") != NULL && config_get(part->rope, "factor") == NULL)
        rope->factor = max_positions / rope->original; /* null */
    else
        TRY(read_number(part, "factor", 0.0, &rope->factor));
    TRY(read_number(part, "beta_fast", 32.0, &rope->beta_fast));
    TRY(read_number(part, "beta_slow", 1.0, &rope->beta_slow));
    const bool both = config_get(part->rope, "mscale") != NULL && config_get(part->rope, "mscale_all_dim") != NULL;
    if (both) {
        TRY(read_number(part, "mscale", 0.0, &own));
        TRY(read_number(part, "mscale_all_dim", 0.0, &all));
    }
    const double usual =
        both ? magnitude(rope->factor, own) / magnitude(rope->factor, all) : magnitude(rope->factor, 1.0);
    TRY(read_number(part, "attention_factor", usual, &rope->attention_factor));
    if (truncate != NULL && !json_is_boolean(truncate))
        return refuse(part, COHORT_ERR_FORMAT, "truncate", "true or false");
    rope->truncate = truncate == NULL || json_is_true(truncate);
    return COHORT_OK;
}

static cohort_status read_llama3(struct rope_config *rope, const struct part *part)
{
    TRY(read_number(part, "factor", 0.0, &rope->factor));
    TRY(read_number(part, "low_freq_factor", 0.0, &rope->low));
    TRY(read_number(part, "high_freq_factor", 0.0, &rope->high));
    if (!(rope->high > rope->low))
        return refuse(part, COHORT_ERR_FORMAT, "high_freq_factor", "more than low_freq_factor");
    return COHORT_OK;
}

/* All but theta. */
static cohort_status read_part(struct rope_config *rope, const struct part *part, int32_t max_positions)
{
    static const char *const layers[] = {"full_attention", "sliding_attention"};
    const struct config_source *source = part->source;
    memset(rope, 0, sizeof *rope);
    rope->factor = rope->attention_factor = 1.0;
    rope->original = max_positions;
    if (part->rope == NULL)
        return COHORT_OK;
    if (!json_is_object(part->rope))
        return config_refuse(source, COHORT_ERR_FORMAT, part->where, part->rope, "an object or null");
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        if (config_get(part->rope, layers[i]) != NULL)
            return refuse(part, COHORT_ERR_UNSUPPORTED, layers[i],
                          "no such key: this version has one rotation for all layers");
    if (config_get(part->rope, "mrope_section") != NULL)
        return refuse(part, COHORT_ERR_UNSUPPORTED, "mrope_section",
                      "no such key: it belongs to models of text and images");
    TRY(config_number_only(source, part->rope, "partial_rotary_factor", 1.0));
    TRY(read_type(part, &rope->type));
    if (rope->type == ROPE_YARN || rope->type == ROPE_LLAMA3)
        TRY(read_number(part, "original_max_position_embeddings", max_positions, &rope->original));
    switch (rope->type) {
    case ROPE_DEFAULT:
    case N_ROPE_TYPES: break; /* other keys are read by nobody */
    case ROPE_LINEAR:
    case ROPE_DYNAMIC: return read_number(part, "factor", 0.0, &rope->factor);
    case ROPE_YARN: return read_yarn(rope, part, max_positions);
    case ROPE_LLAMA3: return read_llama3(rope, part);
    }
    return COHORT_OK;
}

cohort_status rope_config_read(struct rope_config *rope, const struct config_source *source, double absent_theta,
                               int32_t max_positions)
{
    const struct part parts[] = {{source, config_get(source->json, "rope_scaling"), "rope_scaling"},
                                 {source, config_get(source->json, "rope_parameters"), "rope_parameters"}};
    struct rope_config read[2] = {0};
    const json_t *theta = config_get(source->json, "rope_theta");
    const char *where = "rope_theta";
    for (size_t i = 0; i < 2; i++) {
        TRY(read_part(&read[i], &parts[i], max_positions));
        const json_t *inner = config_get(parts[i].rope, "rope_theta");
        if (inner != NULL && theta != NULL && json_number_value(inner) != json_number_value(theta))
            return error_set(source->err, COHORT_ERR_FORMAT,
                             "%s: \"%s.rope_theta\" is %g but \"%s\" is %g; expected one value", source->origin,
                             parts[i].where, json_number_value(inner), where, json_number_value(theta));
        if (theta == NULL)
            theta = inner;
    }
    const bool both = parts[0].rope != NULL && parts[1].rope != NULL;
    assert(read[0].type < N_ROPE_TYPES && read[1].type < N_ROPE_TYPES);
    if (both && (read[0].type != read[1].type || read[0].factor != read[1].factor ||
                 read[0].original != read[1].original || read[0].attention_factor != read[1].attention_factor))
        return error_set(source->err, COHORT_ERR_FORMAT,
                         "%s: \"rope_scaling\" (%s, factor %g) and \"rope_parameters\" (%s, factor %g) differ; "
                         "expected one of them",
                         source->origin, rope_type_names[read[0].type], read[0].factor, rope_type_names[read[1].type],
                         read[1].factor);
    *rope = parts[0].rope != NULL ? read[0] : read[1];
    rope->theta = theta == NULL ? absent_theta : json_number_value(theta);
    if ((theta != NULL && !json_is_number(theta)) || !(rope->theta >= 1.0) || !(rope->theta <= 1e15))
        return config_refuse(source, COHORT_ERR_FORMAT, where, theta, "a number from 1 to 1e15");
    return COHORT_OK;
}

/* What an object of the file becomes: a copy without theta, which stands beside it. NULL: no memory. */
static json_t *scaling_of(const json_t *kept, const struct rope_config *rope)
{
    json_t *scaling = json_is_object(kept) ? json_copy((json_t *)kept) : json_object();
    bool ok = scaling != NULL;
    json_object_del(scaling, "rope_theta");
    ok = ok && json_object_set_new(scaling, "rope_type", json_string(rope_type_names[rope->type])) == 0;
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"factor", rope->factor},
                   {"original_max_position_embeddings", rope->original},
                   {"low_freq_factor", rope->low},
                   {"high_freq_factor", rope->high},
                   {"beta_fast", rope->beta_fast},
                   {"beta_slow", rope->beta_slow},
                   {"attention_factor", rope->attention_factor}};
    /* A file's own numbers stay as it wrote them. */
    for (size_t i = 0; ok && kept == NULL && i < sizeof numbers / sizeof *numbers; i++) {
        const bool has = i == 0 || (i == 1 && (rope->type == ROPE_YARN || rope->type == ROPE_LLAMA3)) ||
                         (i >= 2 && i <= 3 && rope->type == ROPE_LLAMA3) || (i >= 4 && rope->type == ROPE_YARN);
        if (has)
            ok = json_object_set_new(scaling, numbers[i].key,
                                     i == 1 ? json_integer((json_int_t)numbers[i].value)
                                            : json_real(numbers[i].value)) == 0;
    }
    if (ok && kept == NULL && rope->type == ROPE_YARN && !rope->truncate)
        ok = json_object_set_new(scaling, "truncate", json_false()) == 0;
    if (!ok) {
        json_decref(scaling);
        return NULL;
    }
    return scaling;
}

bool rope_config_write(json_t *json, const struct rope_config *rope)
{
    const json_t *kept = config_get(json, "rope_scaling"), *newer = config_get(json, "rope_parameters");
    const json_t *theta = json_object_get(json, "rope_theta");
    json_t *scaling = rope->type == ROPE_DEFAULT ? json_null() : scaling_of(kept != NULL ? kept : newer, rope);
    bool ok = scaling != NULL && json_object_set_new(json, "rope_scaling", scaling) == 0;
    json_object_del(json, "rope_parameters");
    if (json_is_number(theta) && json_number_value(theta) == rope->theta)
        return ok; /* 1000000 stays an integer */
    return ok && json_object_set_new(json, "rope_theta", json_real(rope->theta)) == 0;
}

const char *rope_config_limit(const struct rope_config *rope)
{
    return rope->type == ROPE_DYNAMIC
               ? "; beyond max_position_embeddings the rope_type \"dynamic\" is not supported: keys that are kept "
                 "would depend on the longest length seen"
               : "";
}

/* The dimension, of head_dim, that turns so many times within the original length. */
static double dimension_of(const struct rope_config *rope, int32_t head_dim, double turns)
{
    return head_dim * log(rope->original / (turns * 2.0 * PI)) / (2.0 * log(rope->theta));
}

static void yarn_ramp(const struct rope_config *rope, int32_t head_dim, double *begin, double *end)
{
    *begin = dimension_of(rope, head_dim, rope->beta_fast);
    *end = dimension_of(rope, head_dim, rope->beta_slow);
    if (rope->truncate) {
        *begin = floor(*begin);
        *end = ceil(*end);
    }
    *begin = fmax(*begin, 0.0);
    *end = fmin(*end, head_dim - 1);
    if (*begin == *end)
        *end += 0.001; /* as transformers does, so that nothing is divided by 0 */
}

void rope_config_frequencies(const struct rope_config *rope, int32_t head_dim, float *frequencies)
{
    double begin = 0.0, end = 1.0;
    if (rope->type == ROPE_YARN)
        yarn_ramp(rope, head_dim, &begin, &end);
    for (int32_t i = 0; i < head_dim / 2; i++) {
        const double inverse = 1.0 / pow(rope->theta, 2.0 * i / head_dim);
        double f = inverse;
        if (rope->type == ROPE_LINEAR) {
            f = inverse / rope->factor;
        } else if (rope->type == ROPE_YARN) {
            const double ramp = fmin(fmax((i - begin) / (end - begin), 0.0), 1.0);
            f = inverse / rope->factor * ramp + inverse * (1.0 - ramp);
        } else if (rope->type == ROPE_LLAMA3) {
            const double turns = rope->original * inverse / (2.0 * PI);
            const double s = fmin(fmax((turns - rope->low) / (rope->high - rope->low), 0.0), 1.0);
            f = inverse * ((1.0 - s) / rope->factor + s);
        }
        frequencies[i] = (float)f;
    }
}

#include "format/expert_config.h"

#include "format/architecture.h"

enum {
    MAX_EXPERTS = 1 << 10, /* of a layer, and */
    MAX_CHOSEN = 32,       /* of them for a token: what backends have room for */
    MAX_SIZE = 1 << 22,
    MAX_STEP = 1 << 12
};

bool expert_config_sparse(const struct expert_config *experts, int32_t layer)
{
    if (experts->n == 0 || (layer + 1) % experts->sparse_step != 0)
        return false;
    for (int32_t i = 0; i < experts->n_dense; i++)
        if (experts->dense[i] == layer)
            return false;
    return true;
}

/* The layers of mlp_only_layers; others than the model's are passed over, as in transformers. */
static cohort_status read_dense_layers(struct expert_config *e, const struct config_source *source, int32_t n_layers)
{
    const json_t *list = config_get(source->json, "mlp_only_layers");
    if (list != NULL && !json_is_array(list))
        return config_refuse(source, COHORT_ERR_FORMAT, "mlp_only_layers", list, "a list of layers");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *layer = json_array_get(list, i);
        if (!json_is_integer(layer))
            return config_refuse(source, COHORT_ERR_FORMAT, "mlp_only_layers", list, "a list of layers");
        if (json_integer_value(layer) < 0 || json_integer_value(layer) >= n_layers)
            continue;
        if (e->n_dense == MODEL_MAX_DENSE)
            return error_set(source->err, COHORT_ERR_UNSUPPORTED, "%s: \"mlp_only_layers\" lists more than %d layers",
                             source->origin, MODEL_MAX_DENSE);
        e->dense[e->n_dense++] = (uint16_t)json_integer_value(layer);
    }
    return COHORT_OK;
}

/* transformers 5 writes num_local_experts for every family; num_experts is the older name of Qwen3-MoE's. */
static cohort_status read_count(struct expert_config *e, const struct config_source *source, int32_t absent)
{
    const bool both =
        config_get(source->json, "num_experts") != NULL && config_get(source->json, "num_local_experts") != NULL;
    int32_t local = 0;
    TRY(config_size(source, "num_experts", 0, MAX_EXPERTS, absent, &e->n));
    TRY(config_size(source, "num_local_experts", 0, MAX_EXPERTS, e->n, &local));
    if (both && local != e->n)
        return error_set(source->err, COHORT_ERR_FORMAT,
                         "%s: \"num_experts\" is %d but \"num_local_experts\" is %d; expected one value",
                         source->origin, e->n, local);
    e->n = local;
    return COHORT_OK;
}

cohort_status expert_config_read(struct expert_config *e, const struct config_source *source,
                                 const struct config_defaults *absent, int32_t n_layers, int32_t intermediate_size)
{
    const bool own_size = absent->expert_size > 0; /* Qwen's keys; Mixtral's experts are all that there is */
    *e = (struct expert_config){.sparse_step = 1, .normalised = true, .size = intermediate_size};
    if (absent->n_experts == 0)
        return COHORT_OK;
    TRY(read_count(e, source, absent->n_experts));
    if (e->n == 0 && !own_size)
        return config_refuse(source, COHORT_ERR_FORMAT, "num_local_experts",
                             config_get(source->json, "num_local_experts"), "at least 1");
    TRY(config_size(source, "num_experts_per_tok", 1, MAX_CHOSEN, absent->experts_chosen, &e->chosen));
    if (e->n > 0 && e->chosen > e->n)
        return error_set(source->err, COHORT_ERR_FORMAT,
                         "%s: \"num_experts_per_tok\" is %d, expected at most the number of experts, %d",
                         source->origin, e->chosen, e->n);
    if (own_size) {
        TRY(config_size(source, "moe_intermediate_size", 1, MAX_SIZE, absent->expert_size, &e->size));
        TRY(config_flag(source, "norm_topk_prob", false, &e->normalised));
        TRY(config_size(source, "decoder_sparse_step", 1, MAX_STEP, 1, &e->sparse_step));
        TRY(read_dense_layers(e, source, n_layers));
    } else {
        TRY(config_number_only(source, source->json, "router_jitter_noise", 0.0));
    }
    const json_t *coef = config_get(source->json, "router_aux_loss_coef");
    e->aux_coef = coef == NULL ? 0.001 : json_number_value(coef);
    if (coef != NULL && (!json_is_number(coef) || !(e->aux_coef >= 0.0) || !(e->aux_coef <= 1e6)))
        return config_refuse(source, COHORT_ERR_FORMAT, "router_aux_loss_coef", coef, "a number from 0 to 1e6");
    return COHORT_OK;
}

static bool set_number(json_t *json, const char *key, int32_t value)
{
    return json_object_set_new(json, key, json_integer(value)) == 0;
}

/* Under the names that were there; num_experts is what every transformers reads for Qwen3-MoE, and num_local_experts for
 * Mixtral, whose experts have no size of their own. */
bool expert_config_write(json_t *json, const struct expert_config *e, const struct config_defaults *absent)
{
    const bool own_size = absent->expert_size > 0, local = json_object_get(json, "num_local_experts") != NULL;
    bool ok = true;
    if (absent->n_experts == 0)
        return true;
    if (local || !own_size)
        ok = set_number(json, "num_local_experts", e->n);
    if (json_object_get(json, "num_experts") != NULL || (own_size && !local))
        ok = ok && set_number(json, "num_experts", e->n);
    ok = ok && set_number(json, "num_experts_per_tok", e->chosen);
    if (!own_size)
        return ok;
    json_t *dense = json_array();
    for (int32_t i = 0; ok && i < e->n_dense; i++)
        ok = json_array_append_new(dense, json_integer(e->dense[i])) == 0;
    ok = ok && set_number(json, "moe_intermediate_size", e->size) &&
         set_number(json, "decoder_sparse_step", e->sparse_step);
    ok = ok && json_object_set_new(json, "norm_topk_prob", json_boolean(e->normalised)) == 0;
    ok = ok && json_object_set(json, "mlp_only_layers", dense) == 0;
    json_decref(dense);
    return ok;
}

/* What the targets of an adapter come to in a model with experts, by PEFT's rules (0.21, with transformers 5).
 *
 * There the experts of a layer are two tensors of one module and the router is one, so that an adapter names them as
 * parameters (target_parameters). Names of modules that earlier versions had (gate_proj, up_proj, down_proj, in Mixtral
 * w1, w3, w2, and gate, the router) are turned into these, in every layer, and no longer name a module: neither
 * exclude_modules nor layers_to_transform applies to them, and layers without experts that have such modules get
 * nothing. gate_proj and up_proj together become gate_up_proj with twice the rank and twice alpha. */
#include "format/adapter_internal.h"
#include "format/architecture.h"

#include <stdio.h>
#include <string.h>

static const char ROUTER[] = "gate.weight", GATE_UP[] = "gate_up_proj", DOWN[] = "down_proj";

/* The last component of a tensor's pattern without its ".weight". */
static void leaf_of(const char *pattern, char out[32])
{
    snprintf(out, 32, "%s", pattern);
    const size_t length = strlen(pattern) - strlen(".weight");
    const char *end = pattern + length, *at = end;
    while (at > pattern && at[-1] != '.')
        at--;
    snprintf(out, 32, "%.*s", (int)(end - at), at);
}

bool adapter_has_experts(const struct param_table *base)
{
    for (int32_t i = 0; i < base->n_params; i++)
        if (base->params[i].expert)
            return true;
    return false;
}

enum tensor_role adapter_expert_role(const struct model_config *config, const struct param *param)
{
    char down[32];
    if (strstr(param->name, ".experts.") == NULL)
        return TENSOR_ROUTER;
    leaf_of(config->architecture->tensors[TENSOR_EXPERT_DOWN], down);
    char leaf[32];
    if (text_ends(param->name, ".weight"))
        leaf_of(param->name, leaf);
    return text_ends(param->name, DOWN) || (text_ends(param->name, ".weight") && strcmp(leaf, down) == 0)
               ? TENSOR_EXPERT_DOWN
               : TENSOR_EXPERT_GATE;
}

void adapter_expert_key(const struct param *param, enum tensor_role role, char out[sizeof param->name])
{
    const char *end = strstr(param->name, ".layers.") + strlen(".layers.");
    end = strchr(end, '.');
    snprintf(out, sizeof param->name, "%.*s.mlp.%s%s", (int)(end - param->name), param->name,
             role == TENSOR_ROUTER ? "" : "experts.",
             role == TENSOR_ROUTER        ? ROUTER
             : role == TENSOR_EXPERT_GATE ? GATE_UP
                                          : DOWN);
}

static bool has(const struct adapter_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->items[i], name) == 0)
            return true;
    return false;
}

static cohort_status add(struct adapter_names *names, const char *name, cohort_error *err)
{
    return has(names, name) ? COHORT_OK : adapter_names_add(names, name, err);
}

bool adapter_ends_at_dot(const char *path, const char *name)
{
    const size_t n = strlen(path), m = strlen(name);
    return n >= m && strcmp(path + n - m, name) == 0 && (n == m || path[n - m - 1] == '.');
}

/* The words of all-linear: those of every projection but the head, and the old names of what are parameters. */
static cohort_status add_all(struct adapter_names *words, const struct param_table *base, char old[4][32],
                             cohort_error *err)
{
    char leaf[32];
    for (int32_t i = 0; i < base->n_params; i++) {
        const struct param *param = &base->params[i];
        if (param->expert || param->kind != PARAM_MATRIX || !text_ends(param->name, ".weight"))
            continue;
        leaf_of(param->name, leaf);
        TRY(add(words, leaf, err));
    }
    for (int i = 0; i < 4; i++)
        if (old[i][0] != '\0')
            TRY(add(words, old[i], err));
    return COHORT_OK;
}

static cohort_status take_word(struct adapter_targets *out, const char *word, char old[4][32], bool *gate, bool *up,
                               cohort_error *err)
{
    static const char *const now[] = {ROUTER, GATE_UP, GATE_UP, DOWN};
    for (int i = 0; i < 4; i++)
        if (adapter_ends_at_dot(word, old[i])) {
            *gate = *gate || i == 1;
            *up = *up || i == 2;
            return add(&out->parameters, now[i], err);
        }
    return add(&out->modules, word, err);
}

static cohort_status resolve(struct adapter_targets *out, const struct adapter_settings *s,
                             const struct param_table *base, const struct model_config *config, cohort_error *err)
{
    const char *const *tensors = config->architecture->tensors;
    char old[4][32]; /* in PEFT's order, which is that in which an end of a path is looked for */
    bool gate = false, up = false;
    struct adapter_names words = {0};
    cohort_status status = COHORT_OK;
    leaf_of(tensors[TENSOR_ROUTER], old[0]);
    leaf_of(tensors[TENSOR_EXPERT_GATE], old[1]);
    leaf_of(tensors[TENSOR_EXPERT_UP], old[2]);
    leaf_of(tensors[TENSOR_EXPERT_DOWN], old[3]);
    for (size_t i = 0; i < s->parameters.count; i++)
        TRY_GOTO(add(&out->parameters, s->parameters.items[i], err));
    if (s->all_linear)
        TRY_GOTO(add_all(&words, base, old, err));
    for (size_t i = 0; i < s->targets.count; i++)
        TRY_GOTO(add(&words, s->targets.items[i], err));
    for (size_t i = 0; i < words.count; i++)
        TRY_GOTO(take_word(out, words.items[i], old, &gate, &up, err));
    out->doubled = gate && up;
    if (gate != up)
        status =
            error_set(err, COHORT_ERR_ARGUMENT,
                      "target_modules: '%s' without '%s': the two are one tensor of a layer's experts; name both, or "
                      "mlp.experts.gate_up_proj as a parameter (lora_target_parameters)",
                      old[gate ? 1 : 2], old[gate ? 2 : 1]);
    else if (out->modules.count + out->parameters.count == 0)
        status = error_set(err, COHORT_ERR_ARGUMENT,
                           "neither modules nor parameters are named, and PEFT has no targets of its own for %s: name "
                           "projections (q_proj, ...), or parameters (mlp.experts.gate_up_proj, mlp.experts.down_proj, "
                           "mlp.gate.weight), or all-linear",
                           config->architecture->model_type);
cleanup:
    adapter_names_free(&words);
    return status;
}

/* MLX-LM's keys: there experts are modules of each kind of projection (switch_mlp), gate and up apart. Two of them of rank
 * r are one of twice the rank here, whose B has the one's columns for its rows and the other's for the others, and 0
 * elsewhere. */
static cohort_status resolve_mlx(struct adapter_targets *out, const struct adapter_settings *s,
                                 const struct param_table *base, cohort_error *err)
{
    static const char *const kinds[] = {"switch_mlp.gate_proj", "switch_mlp.up_proj", "switch_mlp.down_proj"};
    bool named[3] = {s->all_linear, s->all_linear, s->all_linear}, router = s->all_linear;
    char none[4][32] = {"", "", "", ""};
    if (s->all_linear)
        TRY(add_all(&out->modules, base, none, err));
    for (size_t i = 0; i < s->targets.count; i++) {
        const char *key = s->targets.items[i];
        bool taken = adapter_ends_at_dot(key, "gate");
        router = router || taken;
        for (int k = 0; k < 3; k++)
            if (adapter_ends_at_dot(key, kinds[k]))
                named[k] = taken = true;
        if (!taken)
            TRY(add(&out->modules, key, err));
    }
    if (named[0] != named[1])
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "an adapter of MLX-LM has '%s' without '%s', which is not supported", kinds[named[0] ? 0 : 1],
                         kinds[named[0] ? 1 : 0]);
    out->doubled = named[0];
    if (router)
        TRY(add(&out->parameters, ROUTER, err));
    if (named[0])
        TRY(add(&out->parameters, GATE_UP, err));
    return named[2] ? add(&out->parameters, DOWN, err) : COHORT_OK;
}

cohort_status adapter_targets_find(struct adapter_targets *out, const struct adapter_settings *s,
                                   const struct param_table *base, const struct model_config *config, cohort_error *err)
{
    memset(out, 0, sizeof *out);
    out->experts = adapter_has_experts(base);
    if (!out->experts && s->parameters.count > 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "target_parameters: '%.100s': this model has no experts, whose tensors are what can be named "
                         "there; name projections in target_modules",
                         s->parameters.items[0]);
    if (!out->experts)
        return COHORT_OK;
    if (s->target_pattern != NULL)
        return error_set(
            err, COHORT_ERR_UNSUPPORTED,
            "target_modules: the pattern '%.100s': in a model with experts PEFT makes of it the last names "
            "of the paths that it matches, in every layer; list these names",
            s->target_pattern);
    out->mlx_block = strcmp(config->architecture->model_type, "mixtral") == 0 ? "block_sparse_moe" : "mlp";
    cohort_status status = s->mlx ? resolve_mlx(out, s, base, err) : resolve(out, s, base, config, err);
    if (status != COHORT_OK)
        adapter_targets_free(out);
    return status;
}

void adapter_targets_free(struct adapter_targets *targets)
{
    adapter_names_free(&targets->modules);
    adapter_names_free(&targets->parameters);
    memset(targets, 0, sizeof *targets);
}

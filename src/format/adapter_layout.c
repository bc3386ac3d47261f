/* Which tensors of a base an adapter changes: PEFT's rules for names, patterns and scales. */
#include "format/adapter_internal.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

/* MATCH_LIMIT: steps of one match; a path is short, a pattern with nested repeats may still take for ever. */
enum { MATCH_LIMIT = 20000, LONGEST_PATTERN = 4096 };

static const char WEIGHT[] = ".weight", BIAS[] = ".bias", HEAD[] = "lm_head", EMBEDDING_A[] = ".lora_embedding_A",
                  EMBEDDING_B[] = ".lora_embedding_B", MAGNITUDE[] = ".lora_magnitude_vector";
static const char *const default_targets[] = {"q_proj", "v_proj"}; /* PEFT's, for every family here */

/* ---- names ---- */

cohort_status adapter_names_add(struct adapter_names *names, const char *name, cohort_error *err)
{
    TRY(mem_grow(&names->items, &names->capacity, names->count + 1, sizeof *names->items, "adapter names", err));
    TRY(mem_strdup(&names->items[names->count], name, strlen(name), err));
    names->count++;
    return COHORT_OK;
}

/* The path of the module that a tensor is the weight of; false if it is none's. */
static bool module_of(const struct param *param, char path[sizeof param->name])
{
    const size_t n = strlen(param->name), m = sizeof WEIGHT - 1;
    if (n <= m || strcmp(param->name + n - m, WEIGHT) != 0)
        return false;
    memcpy(path, param->name, n - m);
    path[n - m] = '\0';
    return true;
}

void adapter_site_path(const struct adapter_site *site, char path[sizeof site->base->name])
{
    if (site->where == ADAPTER_OF_TIED_HEAD)
        memcpy(path, HEAD, sizeof HEAD);
    else
        module_of(site->base, path);
}

static bool in_list(const struct adapter_names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++)
        if (adapter_ends_at_dot(path, names->items[i]))
            return true;
    return false;
}

/* Whether name stands in the path as whole components. */
static bool has_component(const char *path, const char *name)
{
    const size_t m = strlen(name);
    for (const char *at = path; m > 0 && (at = strstr(at, name)) != NULL; at++)
        if ((at == path || at[-1] == '.') && (at[m] == '\0' || at[m] == '.'))
            return true;
    return false;
}

/* ---- patterns ---- */

/* What PCRE2 reads otherwise than Python's re, or has and re has not: the place of the first such syntax in a pattern,
 * with its length, or NULL. */
static const char *foreign_syntax(const char *pattern, int *length)
{
    static const char escapes[] = "AbBdDsSwWZafnrtvx0123456789";
    static const char *const groups[] = {"(?:",  "(?=", "(?!", "(?<=", "(?<!", "(?P<",
                                         "(?P=", "(?i", "(?s", "(?m",  "(?x"};
    static const char *const other[] = {"[:", "{,", "(*"};
    for (const char *at = pattern; *at != '\0'; at++) {
        bool known = true;
        *length = 2;
        for (size_t i = 0; i < sizeof other / sizeof *other; i++)
            known = known && strncmp(at, other[i], 2) != 0;
        if (strncmp(at, "(?", 2) == 0) {
            *length = at[2] == '\0' ? 2 : 3;
            known = false;
            for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
                known = known || strncmp(at, groups[i], strlen(groups[i])) == 0;
        }
        if (*at == '\\' && at[1] != '\0') {
            const int letter = at[1] | 0x20;
            known = strchr(escapes, at[1]) != NULL || letter < 'a' || letter > 'z';
            at += known;
        }
        if (!known)
            return at;
    }
    return NULL;
}

/* Matches from the start of the path, to its end if whole. number: NULL, or gets the group "idx" as a number, -1: it
 * has none. */
static cohort_status match(const char *pattern, const char *path, bool whole, bool *hit, int64_t *number,
                           cohort_error *err)
{
    cohort_status status = COHORT_OK;
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_match_data *data = NULL;
    pcre2_match_context *limits = NULL;
    int length = 0;
    const char *foreign = foreign_syntax(pattern, &length);
    *hit = false;
    if (foreign != NULL)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "the pattern '%.200s' has '%.*s', which is not supported",
                         pattern, length, foreign);
    if (strlen(pattern) > LONGEST_PATTERN)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "the pattern '%.100s...' is longer than %d bytes", pattern,
                         (int)LONGEST_PATTERN);
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                      PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C | (whole ? PCRE2_ENDANCHORED : 0), &code, &at, NULL);
    if (compiled == NULL) {
        PCRE2_UCHAR reason[160];
        pcre2_get_error_message(code, reason, sizeof reason);
        return error_set(err, COHORT_ERR_ARGUMENT, "the pattern '%.200s' does not compile at byte %zu: %s", pattern,
                         (size_t)at, (const char *)reason);
    }
    data = pcre2_match_data_create_from_pattern(compiled, NULL);
    limits = pcre2_match_context_create(NULL);
    if (data == NULL || limits == NULL) {
        status = error_set(err, COHORT_ERR_MEMORY, "cannot allocate the match of a pattern");
        goto cleanup;
    }
    pcre2_set_match_limit(limits, MATCH_LIMIT);
    const int groups = pcre2_match(compiled, (PCRE2_SPTR)path, strlen(path), 0, 0, data, limits);
    if (groups < 0 && groups != PCRE2_ERROR_NOMATCH) {
        status =
            error_set(err, COHORT_ERR_ARGUMENT, "the pattern '%.200s' takes too long to match '%s'", pattern, path);
        goto cleanup;
    }
    *hit = groups > 0;
    if (number != NULL) {
        const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(data);
        const int group = pcre2_substring_number_from_name(compiled, (PCRE2_SPTR) "idx");
        if (!*hit || group < 0 || ends[2 * group] == PCRE2_UNSET ||
            !number_read_integer(path + ends[2 * group], ends[2 * group + 1] - ends[2 * group], number))
            *number = -1;
    }
cleanup:
    pcre2_match_context_free(limits);
    pcre2_match_data_free(data);
    pcre2_code_free(compiled);
    return status;
}

/* ---- which modules ---- */

/* The first number that stands in a path as PEFT looks for it: not at its start. */
static cohort_status layer_of(const char *path, bool *hit, int64_t *layer, cohort_error *err)
{
    return match(".*?\\.[^.]*\\.(?P<idx>\\d+)\\.", path, false, hit, layer, err);
}

/* Layers_to_transform: the number in the path is that of a layer that was asked for. */
static cohort_status in_layers(const struct adapter_settings *s, const char *path, int64_t n_layers, bool *in,
                               cohort_error *err)
{
    int64_t layer = -1;
    bool hit = false;
    if (s->last_layers > 0) {
        TRY(layer_of(path, &hit, &layer, err));
        *in = !hit || layer >= n_layers - s->last_layers;
        return COHORT_OK;
    }
    *in = s->layers.count == 0;
    if (*in)
        return COHORT_OK;
    if (s->layer_names.count == 0)
        TRY(layer_of(path, &hit, &layer, err));
    for (size_t i = 0; i < s->layer_names.count && !hit; i++) {
        struct text pattern = {0};
        cohort_status status = text_printf(&pattern, err, "(?:^|.*?\\.)%s\\.(?P<idx>\\d+)\\.", s->layer_names.items[i]);
        if (status == COHORT_OK)
            status = match(pattern.data, path, false, &hit, &layer, err);
        text_free(&pattern);
        TRY(status);
    }
    for (size_t i = 0; hit && i < s->layers.count; i++)
        *in = *in || s->layers.items[i] == layer;
    return COHORT_OK;
}

static bool is_saved(const struct adapter_settings *s, const char *path)
{
    for (size_t i = 0; i < s->saved.count; i++)
        if (has_component(path, s->saved.items[i]))
            return true;
    return false;
}

/* Whether a name of modules_to_save is that of the module or of one around it: PEFT's rule, by which an end of the last
 * component is enough ("norm" names input_layernorm too). */
static bool is_named(const char *name, const char *path)
{
    const size_t m = strlen(name);
    for (size_t end = strlen(path); end > 0; end--)
        if ((path[end] == '\0' || path[end] == '.') && end >= m && memcmp(path + end - m, name, m) == 0)
            return true;
    return false;
}

static bool is_own(const struct adapter_settings *s, const char *path)
{
    for (size_t i = 0; i < s->saved.count; i++)
        if (is_named(s->saved.items[i], path))
            return true;
    return false;
}

static bool is_head(const char *path) { return strcmp(path, HEAD) == 0; }
static bool is_tied(const struct model_config *config) { return config->tie_embeddings && config->n_labels == 0; }
static bool is_embedding(const char *path) { return adapter_ends_at_dot(path, "embed_tokens"); }
static bool is_projection(const struct param *param, const char *path)
{
    return param->rank == 2 && !is_embedding(path) && !param->expert;
}

static cohort_status wanted(const struct adapter_settings *s, const struct adapter_targets *t,
                            const struct param *param, const char *path, int64_t n_layers, bool *yes, cohort_error *err)
{
    const struct adapter_names *names = t->experts ? &t->modules : &s->targets;
    bool in = true, excluded = in_list(&s->exclude, path);
    *yes = false;
    if (s->exclude_pattern != NULL)
        TRY(match(s->exclude_pattern, path, true, &excluded, NULL, err));
    if (excluded || is_saved(s, path))
        return COHORT_OK;
    if (s->target_pattern != NULL)
        return match(s->target_pattern, path, true, yes, NULL, err);
    if (s->all_linear && !t->experts) {
        *yes = is_projection(param, path) && !is_head(path);
    } else if (names->count == 0 && !t->experts) {
        for (size_t i = 0; i < sizeof default_targets / sizeof *default_targets; i++)
            *yes = *yes || adapter_ends_at_dot(path, default_targets[i]);
    } else {
        for (size_t i = 0; i < names->count; i++)
            if (strcmp(path, names->items[i]) == 0) {
                *yes = true;
                return COHORT_OK; /* an entry that is a whole path skips the filter of layers */
            }
        *yes = in_list(names, path);
    }
    if (*yes)
        TRY(in_layers(s, path, n_layers, &in, err));
    *yes = *yes && in;
    return COHORT_OK;
}

/* The value that the overrides give a module, or that of all. Files sort their keys, so that which of two that disagree
 * comes first would change when a file is written again. */
static cohort_status override(const struct adapter_overrides *overrides, const char *what, const char *path,
                              double *value, cohort_error *err)
{
    const struct adapter_override *taken = NULL;
    for (size_t i = 0; i < overrides->count; i++) {
        const struct adapter_override *item = &overrides->items[i];
        struct text pattern = {0};
        bool hit = false;
        cohort_status status = text_printf(&pattern, err, "(.*\\.)?(%s)$", item->pattern);
        if (status == COHORT_OK)
            status = match(pattern.data, path, false, &hit, NULL, err);
        text_free(&pattern);
        TRY(status);
        if (!hit)
            continue;
        if (taken != NULL && taken->value != item->value)
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "%s: '%.100s' and '%.100s' both name %s, with different values; let one of them name it",
                             what, taken->pattern, item->pattern, path);
        taken = taken == NULL ? item : taken;
    }
    if (taken != NULL)
        *value = taken->value;
    return COHORT_OK;
}

/* ---- the table ---- */

/* Until the table stands, a site's tensors are places in it. */
struct draft {
    struct adapter_site site;
    int32_t a, b, magnitude, b_bias; /* -1: none */
};

struct building {
    struct param_table table;
    size_t capacity;
    struct draft *drafts;
    size_t n_drafts, draft_capacity;
    struct adapter_targets targets;
    int32_t first_own; /* place of the first tensor that stands for one of the base; they follow each other */
};

static cohort_status add_param(struct building *to, const char *path, const char *suffix, int64_t rows, int64_t columns,
                               enum storage_format format, int32_t *place, cohort_error *err)
{
    const size_t n = (size_t)to->table.n_params;
    TRY(mem_grow(&to->table.params, &to->capacity, n + 1, sizeof *to->table.params, "adapter table", err));
    struct param *param = &to->table.params[n];
    const int length = snprintf(param->name, sizeof param->name, "%s%s", path, suffix);
    if (length >= (int)sizeof param->name)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s%s: the name is longer than %zu bytes", path, suffix,
                         sizeof param->name - 1);
    param->rank = columns > 0 ? 2 : 1;
    param->shape[0] = rows;
    param->shape[1] = columns > 0 ? columns : 1;
    param->count = rows * param->shape[1];
    param->format = format;
    param->kind = columns > 0 ? PARAM_MATRIX : PARAM_VECTOR;
    *place = to->table.n_params++;
    return COHORT_OK;
}

/* path: by which ranks and alphas are looked up. n_experts: 0, or of a stack, which lies in so many tensors. */
static cohort_status add_site(struct building *to, const struct adapter_settings *s, const struct param *base,
                              const char *path, int32_t n_experts, int32_t n_tensors, cohort_error *err)
{
    double r = s->r, alpha = s->alpha;
    int64_t layer = -1;
    bool in_layer = false;
    TRY(layer_of(base->name, &in_layer, &layer, err));
    if (to->targets.doubled && adapter_ends_at_dot(path, "gate_up_proj")) {
        r *= 2;
        alpha *= 2;
    }
    TRY(override(&s->ranks, "rank_pattern", path, &r, err));
    TRY(override(&s->alphas, "alpha_pattern", path, &alpha, err));
    if (!(r >= 1 && r <= (1 << 16) && r == floor(r)))
        return error_set(err, COHORT_ERR_ARGUMENT, "%s: a rank of %g; expected a whole number from 1", path, r);
    TRY(mem_grow(&to->drafts, &to->draft_capacity, to->n_drafts + 1, sizeof *to->drafts, "adapter sites", err));
    to->drafts[to->n_drafts++] = (struct draft){.site = {.base = base,
                                                         .r = (int32_t)r,
                                                         .scale = (float)(s->rslora ? alpha / sqrt(r) : alpha / r),
                                                         .layer = in_layer ? layer : -1,
                                                         .n_experts = n_experts,
                                                         .n_tensors = n_tensors},
                                                .a = -1,
                                                .b = -1,
                                                .magnitude = -1,
                                                .b_bias = -1};
    return COHORT_OK;
}

/* PEFT's path of the module whose A and B a site has. Of the two stacks of a layer the wrapper of gate_up_proj lies within
 * that of down_proj. */
static void site_path(const struct building *to, const struct model_config *config, const struct adapter_site *site,
                      char path[sizeof site->base->name])
{
    const struct param *base = site->base;
    char down[sizeof base->name];
    if (!base->expert) {
        adapter_site_path(site, path);
        return;
    }
    const enum tensor_role role = adapter_expert_role(config, base);
    adapter_expert_key(base, role, path);
    adapter_expert_key(base, TENSOR_EXPERT_DOWN, down);
    *strrchr(path, '.') = '\0';
    if (role == TENSOR_EXPERT_GATE && in_list(&to->targets.parameters, down))
        strcat(path, ".base_layer"); /* shorter than the names of the experts' own tensors */
}

/* Of one site, in the order of add_tensors. */
static cohort_status add_stack(struct building *to, struct draft *d, const char *path, enum storage_format format,
                               cohort_error *err)
{
    const struct param *base = d->site.base;
    int64_t rows = 0;
    for (int32_t i = 0; i < d->site.n_tensors; i++)
        rows += param_rows(base + i);
    const int64_t E = d->site.n_experts, n = rows / E, k = param_columns(base), r = d->site.r;
    for (int i = 0; i < 2; i++) {
        int32_t *place = i == 0 ? &d->a : &d->b;
        TRY(add_param(to, path, i == 0 ? ".lora_A.weight" : ".lora_B.weight", i == 0 ? E * r : E * n, i == 0 ? k : r,
                      format, place, err));
        struct param *param = &to->table.params[*place];
        param->rank = 3;
        param->shape[0] = E;
        param->shape[1] = i == 0 ? r : n;
        param->shape[2] = i == 0 ? k : r;
        param->kind = PARAM_VECTOR; /* no optimizer takes a stack as a matrix */
        param->decay = true;
    }
    return COHORT_OK;
}

static cohort_status add_embedding(struct building *to, struct draft *d, const char *path, bool dora,
                                   enum storage_format format, cohort_error *err)
{
    const int64_t V = d->site.base->shape[0], C = d->site.base->shape[1];
    TRY(add_param(to, path, EMBEDDING_B, d->site.r, C, format, &d->a, err));
    TRY(add_param(to, path, EMBEDDING_A, V, d->site.r, format, &d->b, err));
    if (dora)
        TRY(add_param(to, path, MAGNITUDE, C, 0, STORAGE_F32, &d->magnitude, err));
    for (struct param *param = &to->table.params[d->a]; param < &to->table.params[to->table.n_params]; param++) {
        param->kind = PARAM_VECTOR; /* as the embedding, no optimizer takes it as a matrix */
        param->decay = true;
    }
    return COHORT_OK;
}

/* The tensors of the sites from first: the parts of one fused projection. */
static cohort_status add_tensors(struct building *to, const struct adapter_settings *s, size_t first,
                                 const struct model_config *config, enum storage_format format, cohort_error *err)
{
    char path[sizeof to->table.params->name];
    for (int kind = 0; kind < 4; kind++)
        for (size_t i = first; i < to->n_drafts; i++) {
            struct draft *d = &to->drafts[i];
            const int64_t n = d->site.base->shape[0], k = d->site.base->shape[1], r = d->site.r;
            int32_t *const places[] = {&d->a, &d->b, &d->magnitude, &d->b_bias};
            site_path(to, config, &d->site, path);
            if (d->site.where == ADAPTER_OF_EMBEDDING) {
                if (kind == 0)
                    TRY(add_embedding(to, d, path, s->dora, format, err));
                continue;
            }
            if (d->site.n_experts > 0) {
                if (kind == 0)
                    TRY(add_stack(to, d, path, format, err));
                continue;
            }
            if (kind == 0)
                TRY(add_param(to, path, ".lora_A.weight", r, k, format, &d->a, err));
            else if (kind == 1)
                TRY(add_param(to, path, ".lora_B.weight", n, r, format, &d->b, err));
            else if (kind == 2 && s->dora)
                TRY(add_param(to, path, MAGNITUDE, n, 0, STORAGE_F32, &d->magnitude, err));
            else if (kind == 3 && s->bias)
                TRY(add_param(to, path, ".lora_B.bias", n, 0, format, &d->b_bias, err));
            if (*places[kind] < 0)
                continue;
            struct param *added = &to->table.params[*places[kind]];
            added->adjacent = kind == 0 && i > first;
            added->decay = kind != 3;
        }
    return COHORT_OK;
}

/* The router, or the stack that begins with the tensor, if the parameters name it. */
static cohort_status add_expert_site(struct building *to, const struct adapter_settings *s,
                                     const struct param_table *base, const struct model_config *config,
                                     const struct param *param, cohort_error *err)
{
    const enum tensor_role role = adapter_expert_role(config, param);
    const struct param *end = base->params + base->n_params, *last = param + 1;
    char key[sizeof param->name];
    bool in = true;
    adapter_expert_key(param, role, key);
    if (!in_list(&to->targets.parameters, key))
        return COHORT_OK;
    if (s->dora || s->bias)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: the targets name it, and %s does not go with adapters of experts and routers, as in PEFT",
                         key, s->dora ? "DoRA (use_dora)" : "lora_bias");
    if (s->mlx) /* layers count for them there */
        TRY(in_layers(s, param->name, config->n_layers, &in, err));
    if (!in)
        return COHORT_OK;
    while (last < end && last->adjacent)
        last++;
    TRY(add_site(to, s, param, key, role == TENSOR_ROUTER ? 0 : config->experts.n, (int32_t)(last - param), err));
    to->drafts[to->n_drafts - 1].site.pairs = role == TENSOR_EXPERT_GATE;
    return COHORT_OK;
}

/* Every name of a parameter is that of experts or a router. */
static cohort_status check_parameters(const struct building *to, const struct param_table *base,
                                      const struct model_config *config, cohort_error *err)
{
    const struct adapter_names *names = &to->targets.parameters;
    char key[sizeof base->params->name];
    for (size_t i = 0; i < names->count; i++) {
        bool found = false;
        for (int32_t p = 0; p < base->n_params && !found; p++) {
            const struct param *param = &base->params[p];
            if (!param->expert || param->adjacent)
                continue;
            adapter_expert_key(param, adapter_expert_role(config, param), key);
            found = adapter_ends_at_dot(key, names->items[i]);
        }
        if (!found)
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "target_parameters: '%.100s' names no experts and no router; the model's are like %s, "
                             "...experts.down_proj, ...gate.weight; projections are named in target_modules",
                             names->items[i], key);
    }
    return COHORT_OK;
}

/* A tied head would change with its embedding in the files of MLX-LM, in PEFT's with ensure_weight_tying. */
static cohort_status check_tied(const struct adapter_settings *s, const struct model_config *config, const char *path,
                                cohort_error *err)
{
    if (!is_tied(config) || !(s->mlx || s->ties))
        return COHORT_OK;
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "%s: the adapter changes it, and with %s this model's head, which is its embedding "
                     "(tie_word_embeddings), together with it, which is not supported",
                     path, s->mlx ? "MLX-LM" : "ensure_weight_tying");
}

static cohort_status add_embedding_site(struct building *to, const struct adapter_settings *s,
                                        const struct param *param, const char *path, const struct model_config *config,
                                        cohort_error *err)
{
    const char *no = s->bias             ? "lora_bias does not go, as in PEFT,"
                     : s->dora && s->mlx ? "MLX-LM's DoRA, with a magnitude of each token, is not supported"
                                         : NULL;
    if (no != NULL)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: the targets name it, and %s with an adapter of the embedding; leave one of them out",
                         path, no);
    TRY(check_tied(s, config, path, err));
    TRY(add_site(to, s, param, path, 0, 1, err));
    to->drafts[to->n_drafts - 1].site.where = ADAPTER_OF_EMBEDDING;
    return COHORT_OK;
}

/* The head of a model without a tensor for it: its embedding as a projection, which stays what it is as the embedding. */
static cohort_status add_tied_head(struct building *to, const struct adapter_settings *s,
                                   const struct param_table *base, const struct model_config *config, int64_t n_layers,
                                   enum storage_format format, cohort_error *err)
{
    const struct param *param = architecture_param(config, base, TENSOR_EMBEDDING, 0);
    const size_t first = to->n_drafts;
    bool yes = false;
    if (!is_tied(config) || s->all_linear)
        return COHORT_OK;
    TRY(wanted(s, &to->targets, param, HEAD, n_layers, &yes, err));
    if (!yes)
        return COHORT_OK;
    if (s->bias)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: the adapter gives it a bias (lora_bias), which this model has no tensor for", HEAD);
    TRY(check_tied(s, config, HEAD, err));
    TRY(add_site(to, s, param, HEAD, 0, 1, err));
    to->drafts[first].site.where = ADAPTER_OF_TIED_HEAD;
    to->drafts[first].site.layer = -1;
    return add_tensors(to, s, first, config, format, err);
}

static cohort_status add_sites(struct building *to, const struct adapter_settings *s, const struct param_table *base,
                               const struct model_config *config, enum storage_format format, cohort_error *err)
{
    char path[sizeof base->params->name];
    size_t group = 0;
    int64_t n_layers = 0, layer = -1;
    bool yes = false;
    for (int32_t i = 0; i < base->n_params; i++) {
        TRY(layer_of(base->params[i].name, &yes, &layer, err));
        n_layers = yes && layer >= n_layers ? layer + 1 : n_layers;
    }
    for (int32_t i = 0; i < base->n_params; i++) {
        const struct param *param = &base->params[i];
        if (!param->adjacent) {
            TRY(add_tensors(to, s, group, config, format, err));
            group = to->n_drafts;
        }
        if (param->expert) { /* in transformers 5 neither experts nor routers are modules */
            if (!param->adjacent)
                TRY(add_expert_site(to, s, base, config, param, err));
            continue;
        }
        if (!module_of(param, path))
            continue;
        TRY(wanted(s, &to->targets, param, path, n_layers, &yes, err));
        if (!yes)
            continue;
        if (is_embedding(path)) {
            TRY(add_embedding_site(to, s, param, path, config, err));
            continue;
        }
        if (!is_projection(param, path))
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "%s: the targets name it, but it is not a projection; name projections (q_proj, ...), or "
                             "all-linear for all of them",
                             path);
        if (s->bias && adapter_bias_of(base, param) == NULL)
            return error_set(err, COHORT_ERR_UNSUPPORTED,
                             "%s: the adapter gives it a bias (lora_bias), which this model has no tensor for", path);
        TRY(add_site(to, s, param, path, 0, 1, err));
    }
    TRY(add_tensors(to, s, group, config, format, err));
    return add_tied_head(to, s, base, config, n_layers, format, err);
}

static cohort_status no_target(const struct adapter_settings *s, const struct param_table *base, cohort_error *err)
{
    struct text text = {0};
    cohort_status status = COHORT_OK;
    char path[sizeof base->params->name];
    TRY_GOTO(text_printf(&text, err, "no projection of the model is named by %s",
                         s->target_pattern != NULL ? "the pattern " : "target_modules "));
    if (s->target_pattern != NULL)
        TRY_GOTO(text_printf(&text, err, "'%.200s' (it must match a whole path)", s->target_pattern));
    for (size_t i = 0; s->target_pattern == NULL && i < s->targets.count && i < 8; i++)
        TRY_GOTO(text_printf(&text, err, "%s'%.100s'", i > 0 ? ", " : "", s->targets.items[i]));
    TRY_GOTO(text_printf(&text, err, "; its projections are like "));
    for (int32_t i = 0, n = 0; i < base->n_params && n < 7; i++)
        if (module_of(&base->params[i], path) && is_projection(&base->params[i], path))
            TRY_GOTO(text_printf(&text, err, "%s%s", n++ > 0 ? ", " : "", path));
    status = error_set(err, COHORT_ERR_ARGUMENT, "%s", text.data);
cleanup:
    text_free(&text);
    return status;
}

/* The module of a tensor of the base. */
static void owner_of(const struct param *param, char path[sizeof param->name])
{
    snprintf(path, sizeof param->name, "%s", param->name);
    *strrchr(path, '.') = '\0';
}

/* Whole tensors beside the adapter. In a tied model the head is the embedding: PEFT would part the two. */
static cohort_status check_saved(const struct adapter_settings *s, const struct param_table *base,
                                 const struct model_config *config, cohort_error *err)
{
    char path[sizeof base->params->name];
    const bool tied = is_tied(config);
    for (size_t i = 0; i < s->saved.count; i++) {
        bool found = false;
        if (tied && (is_named(s->saved.items[i], "lm_head") || is_named(s->saved.items[i], "model.embed_tokens")))
            return error_set(err, COHORT_ERR_UNSUPPORTED,
                             "modules_to_save: '%s': this model's head is its embedding (tie_word_embeddings), and "
                             "training one of them apart from the other is not supported",
                             s->saved.items[i]);
        for (int32_t j = 0; j < base->n_params && !found; j++) {
            owner_of(&base->params[j], path);
            found = is_named(s->saved.items[i], path);
        }
        if (!found)
            return error_set(err, COHORT_ERR_ARGUMENT, "modules_to_save: the model has no module '%.100s'",
                             s->saved.items[i]);
    }
    return COHORT_OK;
}

static bool is_adapted(const struct building *to, const char *path)
{
    char module[sizeof to->table.params->name];
    for (size_t i = 0; i < to->n_drafts; i++) {
        adapter_site_path(&to->drafts[i].site, module);
        if (strcmp(module, path) == 0)
            return true;
    }
    return false;
}

/* The end of the name of the adapter's own tensor in place of a bias of the base, NULL: it has none. PEFT puts an adapted
 * projection into another module. */
static const char *own_bias(const struct building *to, const struct adapter_settings *s, const struct param *param)
{
    char path[sizeof param->name];
    owner_of(param, path);
    if (s->biases == ADAPTER_BIASES_NONE || !text_ends(param->name, BIAS))
        return NULL;
    if (is_adapted(to, path))
        return ".base_layer.bias";
    return s->biases == ADAPTER_BIASES_ALL ? BIAS : NULL;
}

static cohort_status add_own(struct building *to, struct adapter_layout *out, const struct adapter_settings *s,
                             const struct param_table *base, cohort_error *err)
{
    char path[sizeof base->params->name];
    TRY(mem_alloc(&out->saved, (size_t)base->n_params, sizeof *out->saved, "modules_to_save", err));
    for (int32_t j = 0; j < base->n_params; j++) {
        const struct param *param = &base->params[j];
        int32_t place = 0;
        owner_of(param, path);
        const bool saved = is_own(s, path);
        const char *bias = own_bias(to, s, param);
        if (saved && is_adapted(to, path))
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "%s: both target_modules and modules_to_save name it; let one of them name it", path);
        if (saved && param->rank == 3)
            return error_set(err, COHORT_ERR_UNSUPPORTED,
                             "modules_to_save: %s holds all experts of a layer, which is not supported", param->name);
        if (saved)
            TRY(add_param(to, param->name, "", param->shape[0], param->rank == 2 ? param->shape[1] : 0, param->format,
                          &place, err));
        else if (bias != NULL)
            TRY(add_param(to, path, bias, param->shape[0], 0, param->format, &place, err));
        else
            continue;
        struct param *copy = &to->table.params[place];
        copy->decay = param->decay;
        copy->start = param->start;
        copy->kind = param->kind;
        copy->adjacent = param->adjacent && out->n_saved > 0 && out->saved[out->n_saved - 1].base == param - 1;
        to->first_own = out->n_saved == 0 ? place : to->first_own;
        out->saved[out->n_saved++].base = param;
    }
    return COHORT_OK;
}

static cohort_status finish(struct building *from, struct adapter_layout *out, cohort_error *err)
{
    TRY(mem_alloc(&out->sites, from->n_drafts, sizeof *out->sites, "adapter sites", err));
    out->table = from->table;
    memset(&from->table, 0, sizeof from->table);
    param_table_layout(&out->table);
    const struct param *params = out->table.params;
    for (size_t i = 0; i < from->n_drafts; i++) {
        const struct draft *d = &from->drafts[i];
        out->sites[i] = d->site;
        out->sites[i].a = params + d->a;
        out->sites[i].b = params + d->b;
        out->sites[i].magnitude = d->magnitude < 0 ? NULL : params + d->magnitude;
        out->sites[i].b_bias = d->b_bias < 0 ? NULL : params + d->b_bias;
    }
    for (int32_t i = 0; i < out->n_saved; i++)
        out->saved[i].own = params + from->first_own + i;
    out->n_sites = (int32_t)from->n_drafts;
    return COHORT_OK;
}

cohort_status adapter_layout_open(struct adapter_layout *out, const struct adapter_settings *settings,
                                  const struct param_table *base, const struct model_config *config,
                                  enum storage_format format, cohort_error *err)
{
    struct building building = {0};
    cohort_status status = COHORT_OK;
    memset(out, 0, sizeof *out);
    TRY_GOTO(adapter_targets_find(&building.targets, settings, base, config, err));
    TRY_GOTO(check_parameters(&building, base, config, err));
    TRY_GOTO(add_sites(&building, settings, base, config, format, err));
    if (building.n_drafts == 0) {
        status = no_target(settings, base, err);
        goto cleanup;
    }
    TRY_GOTO(check_saved(settings, base, config, err));
    TRY_GOTO(add_own(&building, out, settings, base, err));
    TRY_GOTO(finish(&building, out, err));
    out->targets = building.targets;
    memset(&building.targets, 0, sizeof building.targets);
cleanup:
    adapter_targets_free(&building.targets);
    param_table_free(&building.table);
    mem_free(building.drafts);
    if (status != COHORT_OK)
        adapter_layout_free(out);
    return status;
}

const struct adapter_site *adapter_site_of(const struct adapter_layout *layout, const struct param *base, bool head,
                                           int64_t *first_row)
{
    for (int32_t i = 0; i < layout->n_sites; i++) {
        const struct adapter_site *site = &layout->sites[i];
        if (base < site->base || base >= site->base + site->n_tensors || head != (site->where == ADAPTER_OF_TIED_HEAD))
            continue;
        *first_row = 0;
        for (const struct param *before = site->base; before < base; before++)
            *first_row += param_rows(before);
        return site;
    }
    return NULL;
}

const struct param *adapter_saved_as(const struct adapter_layout *layout, const struct param *base)
{
    for (int32_t i = 0; i < layout->n_saved; i++)
        if (layout->saved[i].base == base)
            return layout->saved[i].own;
    return NULL;
}

const struct param *adapter_bias_of(const struct param_table *base, const struct param *weight)
{
    char name[sizeof weight->name];
    snprintf(name, sizeof name, "%s", weight->name);
    snprintf(strrchr(name, '.'), sizeof BIAS, "%s", BIAS);
    return param_find(base, name);
}

void adapter_layout_free(struct adapter_layout *layout)
{
    param_table_free(&layout->table);
    mem_free(layout->sites);
    mem_free(layout->saved);
    adapter_targets_free(&layout->targets);
    memset(layout, 0, sizeof *layout);
}

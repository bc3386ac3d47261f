#include "train/batch_file.h"

#include "base/json_text.h"
#include "format/safetensors.h"

#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

static const char TENSORS[] = "trainer/batch.safetensors", NUMBERS[] = "trainer/batch.json";

/* The batch's arrays, those of its rows behind each other. */
enum {
    PROMPT_LENGTHS, /* [n_prompts] */
    PROMPT_TOKENS,
    PROMPT_IDS, /* [n_prompts] */
    LENGTHS,    /* [n] tokens of the episodes */
    SAMPLED_LENGTHS,
    FINISH, /* [n] enum finish_reason */
    TOKENS,
    SAMPLED, /* 1 for each token that the model drew */
    LOGP,
    ENTROPY,
    ADVANTAGE,        /* [n] */
    REFERENCE,        /* as LOGP; only where there are log-probs of a reference */
    TOKEN_ADVANTAGES, /* as LOGP; only where there are rewards of tokens */
    ROUTES, /* of each completion with its prompt; only of a model with experts whose routes are taken again */
    ARRAYS
};
static const struct {
    const char *name, *type;
    size_t element;
} kinds[ARRAYS] = {{"prompt_lengths", "I32", 4},   {"prompt_tokens", "I32", 4},   {"prompt_ids", "U64", 8},
                   {"lengths", "I32", 4},          {"sampled_lengths", "I32", 4}, {"finish", "I32", 4},
                   {"tokens", "I32", 4},           {"sampled", "U8", 1},          {"logp", "F32", 4},
                   {"entropy", "F32", 4},          {"advantage", "F32", 4},       {"reference", "F32", 4},
                   {"token_advantages", "F32", 4}, {"routes", "I16", 2}};

/* Whether a batch may be without it. */
static bool is_optional(int k) { return k == REFERENCE || k == TOKEN_ADVANTAGES || k == ROUTES; }

struct arrays {
    struct {
        char *data;
        size_t count; /* elements */
    } of[ARRAYS];
    bool owned;
};

static void arrays_free(struct arrays *a)
{
    for (int k = 0; a->owned && k < ARRAYS; k++)
        mem_free(a->of[k].data);
}

/* Of completion i with its prompt: its tokens but the last. */
static size_t route_elements(const struct grpo_batch *batch, int32_t i)
{
    assert(batch->n_prompts > 0 && batch->n >= batch->n_prompts);
    const int32_t prompt = batch->prompts[i / (batch->n / batch->n_prompts)].n_tokens, n = batch->episodes[i].n_tokens;
    return n < 1 ? 0 : (size_t)(prompt + n - 1) * (size_t)batch->route_width;
}

static bool has_routes(const struct grpo_batch *batch)
{
    bool all = batch->route_width > 0;
    for (int32_t i = 0; all && i < batch->n; i++)
        all = batch->episodes[i].routes != NULL || batch->episodes[i].n_tokens < 1;
    return all;
}

/* Appends elements, for which there is room. */
static void put(struct arrays *a, int k, const void *from, size_t count)
{
    if (count > 0)
        memcpy(a->of[k].data + a->of[k].count * kinds[k].element, from, count * kinds[k].element);
    a->of[k].count += count;
}

static cohort_status arrays_alloc(struct arrays *a, const struct grpo_batch *batch, cohort_error *err)
{
    size_t room[ARRAYS] = {0}, tokens = 0, sampled = 0, prompts = 0;
    for (int32_t p = 0; p < batch->n_prompts; p++)
        prompts += (size_t)batch->prompts[p].n_tokens;
    for (int32_t i = 0; i < batch->n; i++) {
        tokens += (size_t)batch->episodes[i].n_tokens;
        sampled += (size_t)batch->episodes[i].n_sampled;
    }
    room[PROMPT_LENGTHS] = room[PROMPT_IDS] = (size_t)batch->n_prompts;
    room[PROMPT_TOKENS] = prompts;
    room[LENGTHS] = room[SAMPLED_LENGTHS] = room[FINISH] = room[ADVANTAGE] = (size_t)batch->n;
    room[TOKENS] = room[SAMPLED] = tokens;
    room[LOGP] = room[ENTROPY] = sampled;
    room[REFERENCE] = batch->reference == NULL ? 0 : sampled;
    for (int32_t i = 0; has_routes(batch) && i < batch->n; i++)
        room[ROUTES] += route_elements(batch, i);
    room[TOKEN_ADVANTAGES] = batch->token_advantages == NULL ? 0 : sampled;
    a->owned = true;
    for (int k = 0; k < ARRAYS; k++)
        TRY(mem_alloc(&a->of[k].data, room[k], kinds[k].element, "generation batch", err));
    return COHORT_OK;
}

static cohort_status arrays_gather(struct arrays *a, const struct grpo_batch *batch, cohort_error *err)
{
    TRY(arrays_alloc(a, batch, err));
    for (int32_t p = 0; p < batch->n_prompts; p++) {
        const struct grpo_prompt *prompt = &batch->prompts[p];
        put(a, PROMPT_LENGTHS, &prompt->n_tokens, 1);
        put(a, PROMPT_IDS, &prompt->id, 1);
        put(a, PROMPT_TOKENS, prompt->tokens, (size_t)prompt->n_tokens);
    }
    for (int32_t i = 0; i < batch->n; i++) {
        const struct episode *e = &batch->episodes[i];
        const int32_t finish = (int32_t)e->finish_reason;
        put(a, LENGTHS, &e->n_tokens, 1);
        put(a, SAMPLED_LENGTHS, &e->n_sampled, 1);
        put(a, FINISH, &finish, 1);
        put(a, TOKENS, e->tokens, (size_t)e->n_tokens);
        for (int32_t t = 0; t < e->n_tokens; t++)
            put(a, SAMPLED, &(unsigned char){e->sampled == NULL || e->sampled[t]}, 1);
        put(a, LOGP, e->logp, (size_t)e->n_sampled);
        put(a, ENTROPY, e->entropy, (size_t)e->n_sampled);
        if (batch->reference != NULL)
            put(a, REFERENCE, batch->reference[i], (size_t)e->n_sampled);
        if (has_routes(batch))
            put(a, ROUTES, e->routes, route_elements(batch, i));
        if (batch->token_advantages != NULL)
            put(a, TOKEN_ADVANTAGES, batch->token_advantages[i], (size_t)e->n_sampled);
    }
    put(a, ADVANTAGE, batch->advantage, (size_t)batch->n);
    return COHORT_OK;
}

static cohort_status read_array(void *context, size_t offset, size_t length, void *to, cohort_error *err)
{
    (void)err;
    memcpy(to, (const char *)context + offset, length);
    return COHORT_OK;
}

/* Seconds and speeds are of the process that measured them: two runs that are the same write the same. */
static bool is_measured(const char *name)
{
    return strncmp(name, "time/", 5) == 0 || strncmp(name, "throughput/", 11) == 0;
}

/* What a reader must know: 1, and 1 more with advantages of tokens, 2 more with guides. */
static int format_of(const struct grpo_batch *batch)
{
    return 1 + (batch->token_advantages != NULL ? 1 : 0) + (batch->prompts[0].masks != NULL ? 2 : 0);
}

/* What guided the completions of each prompt: the distinct texts, and which of them is each prompt's. */
static bool set_guides(json_t *json, const struct grpo_batch *batch)
{
    json_t *texts = json_array(), *of = json_array();
    bool whole = json_object_set_new(json, "guides", texts) == 0 && json_object_set_new(json, "guide_of", of) == 0;
    for (int32_t p = 0; whole && p < batch->n_prompts; p++) {
        const struct mask_replay *m = batch->prompts[p].masks;
        size_t i = 0;
        while (i < json_array_size(texts) &&
               (json_string_length(json_array_get(texts, i)) != m->text_length ||
                memcmp(json_string_value(json_array_get(texts, i)), m->text, m->text_length) != 0))
            i++;
        if (i == json_array_size(texts))
            whole = json_array_append_new(texts, json_stringn(m->text, m->text_length)) == 0;
        whole = whole && json_array_append_new(of, json_integer((json_int_t)i)) == 0;
    }
    return whole;
}

/* Numbers as they are, not as metrics.jsonl rounds them: a later step may take the mean of two batches. */
static cohort_status write_numbers(const char *path, const struct grpo_batch *batch, cohort_error *err)
{
    struct text text = {0};
    json_t *metrics = json_object(),
           *json = json_pack("{s:i, s:I, s:I, s:I, s:O}", "format", format_of(batch), "index", (json_int_t)batch->index,
                             "drawn_at", (json_int_t)batch->drawn_at, "tokens", (json_int_t)batch->tokens, "metrics",
                             metrics);
    bool whole = json != NULL && !batch->metrics.incomplete;
    if (whole && batch->prompts[0].masks != NULL)
        whole = set_guides(json, batch);
    cohort_status status = COHORT_OK;
    for (size_t i = 0; whole && i < batch->metrics.count; i++) {
        const double value = batch->metrics.items[i].value;
        if (!is_measured(batch->metrics.items[i].name))
            whole = json_object_set_new(metrics, batch->metrics.items[i].name,
                                        isfinite(value) ? json_real(value) : json_null()) == 0;
    }
    if (!whole) {
        status = error_set(err, COHORT_ERR_MEMORY, "generation batch: out of memory");
        goto cleanup;
    }
    TRY_GOTO(json_text_write(json, JSON_INDENT(2), &text, err));
    TRY_GOTO(file_write_atomic(path, text.data, text.length, err));
cleanup:
    json_decref(metrics);
    json_decref(json);
    text_free(&text);
    return status;
}

cohort_status batch_file_write(const char *dir, const struct grpo_batch *batch, struct manifest *manifest,
                               cohort_error *err)
{
    struct arrays arrays = {0};
    struct safetensors_source sources[ARRAYS];
    size_t n = 0;
    char *path = NULL, hex[HASH_HEX];
    cohort_status status = COHORT_OK;
    TRY_GOTO(arrays_gather(&arrays, batch, err));
    for (int k = 0; k < ARRAYS; k++) {
        if ((k == REFERENCE && batch->reference == NULL) ||
            (k == TOKEN_ADVANTAGES && batch->token_advantages == NULL) || (k == ROUTES && !has_routes(batch)))
            continue;
        sources[n++] = (struct safetensors_source){.name = kinds[k].name,
                                                   .dtype_name = kinds[k].type,
                                                   .rank = 1,
                                                   .shape = {(int64_t)arrays.of[k].count},
                                                   .bytes = arrays.of[k].count * kinds[k].element,
                                                   .read = read_array,
                                                   .context = arrays.of[k].data};
    }
    TRY_GOTO(file_join(&path, dir, TENSORS, err));
    TRY_GOTO(safetensors_write(path, sources, n, hex, err));
    if (manifest != NULL)
        TRY_GOTO(manifest_add(manifest, TENSORS, hex, err));
    mem_free(path);
    path = NULL;
    TRY_GOTO(file_join(&path, dir, NUMBERS, err));
    TRY_GOTO(write_numbers(path, batch, err));
cleanup:
    arrays_free(&arrays);
    mem_free(path);
    return status;
}

cohort_status batch_file_exists(const char *dir, bool *there, cohort_error *err)
{
    char *path = NULL;
    TRY(file_join(&path, dir, NUMBERS, err));
    cohort_status status = file_exists(path, there, err);
    mem_free(path);
    return status;
}

/* ---- reading ---- */

static cohort_status damaged(const char *path, const char *what, cohort_error *err)
{
    return error_set(err, COHORT_ERR_FORMAT, "%s: %s; the file is damaged: resume from another checkpoint", path, what);
}

/* batch->n_prompts is then their number. */
static cohort_status take_guides(const json_t *json, struct grpo_batch *batch, bool *good, cohort_error *err)
{
    const json_t *texts = json_object_get(json, "guides"), *of = json_object_get(json, "guide_of");
    const size_t n = json_array_size(of);
    *good = n > 0 && n <= INT32_MAX;
    if (!*good)
        return COHORT_OK;
    TRY(mem_alloc(&batch->guides, n, sizeof *batch->guides, "generation batch", err));
    batch->n_prompts = (int32_t)n;
    for (size_t p = 0; p < n && *good; p++) {
        const json_int_t i = json_integer_value(json_array_get(of, p));
        const json_t *text = i < 0 ? NULL : json_array_get(texts, (size_t)i);
        *good = json_is_string(text);
        if (*good)
            TRY(text_append(&batch->guides[p], json_string_value(text), json_string_length(text), err));
    }
    return COHORT_OK;
}

/* *listed: whether it has advantages of tokens. */
static cohort_status read_numbers(const char *path, struct grpo_batch *batch, bool *listed, cohort_error *err)
{
    json_t *json = NULL, *metrics = NULL, *value = NULL;
    json_int_t format = 0, index = 0, drawn_at = 0, tokens = 0;
    const char *name = NULL;
    bool guides_good = true;
    cohort_status status = COHORT_OK;
    enum { LARGEST = 1 << 28 }; /* guides may be long */
    TRY(json_text_read(&json, path, LARGEST, 0, err));
    if (json_unpack(json, "{s:I, s:I, s:I, s:I, s:o}", "format", &format, "index", &index, "drawn_at", &drawn_at,
                    "tokens", &tokens, "metrics", &metrics) != 0 ||
        format < 1 || format > 4 || index < 0 || drawn_at < 0 || tokens < 0 || !json_is_object(metrics)) {
        status = damaged(path, "not a batch as this version writes it (format, index, drawn_at, tokens, metrics)", err);
        goto cleanup;
    }
    *listed = (format - 1) % 2 == 1;
    if (format > 2)
        TRY_GOTO(take_guides(json, batch, &guides_good, err));
    if (!guides_good) {
        status = damaged(path, "its list of guides is not one of texts and of numbers of them", err);
        goto cleanup;
    }
    batch->index = index;
    batch->drawn_at = drawn_at;
    batch->tokens = tokens;
    json_object_foreach(metrics, name, value)
        metrics_set(&batch->metrics, name, json_is_number(value) ? json_number_value(value) : (double)NAN);
cleanup:
    json_decref(json);
    return status;
}

static cohort_status find_arrays(const struct safetensors *file, struct arrays *a, cohort_error *err)
{
    for (int k = 0; k < ARRAYS; k++) {
        const struct safetensor *tensor = safetensors_find(file, kinds[k].name);
        if (tensor == NULL && is_optional(k))
            continue;
        if (tensor == NULL || strcmp(tensor->dtype_name, kinds[k].type) != 0 || tensor->rank != 1)
            return error_set(err, COHORT_ERR_FORMAT,
                             "%s: tensor %s is missing or is not a list of type %s; the file is damaged: resume from "
                             "another checkpoint",
                             file->path, kinds[k].name, kinds[k].type);
        a->of[k].data = (char *)(uintptr_t)tensor->data;
        a->of[k].count = (size_t)tensor->count;
    }
    return COHORT_OK;
}

static int32_t integer_at(const struct arrays *a, int k, size_t i)
{
    int32_t value;
    memcpy(&value, a->of[k].data + 4 * i, sizeof value);
    return value;
}

/* The sum of lengths, each of least to most; -1: one is not. */
static int64_t sum_lengths(const struct arrays *a, int k, int32_t least, int32_t most)
{
    int64_t sum = 0;
    for (size_t i = 0; i < a->of[k].count; i++) {
        const int32_t length = integer_at(a, k, i);
        if (length < least || length > most)
            return -1;
        sum += length;
    }
    return sum;
}

static bool are_tokens(const struct arrays *a, int k, int32_t vocab_size)
{
    for (size_t i = 0; i < a->of[k].count; i++)
        if (integer_at(a, k, i) < 0 || integer_at(a, k, i) >= vocab_size)
            return false;
    return true;
}

static bool are_finite(const struct arrays *a, int k)
{
    for (size_t i = 0; i < a->of[k].count; i++) {
        float value;
        memcpy(&value, a->of[k].data + 4 * i, sizeof value);
        if (!isfinite(value))
            return false;
    }
    return true;
}

/* The routes have their number, and are of the model's experts. */
static bool are_routes(const struct arrays *a, const struct grpo_config *config)
{
    const size_t n = a->of[LENGTHS].count;
    int64_t wanted = 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t length = integer_at(a, LENGTHS, i);
        wanted += length < 1 ? 0 : integer_at(a, PROMPT_LENGTHS, i / (size_t)config->group) + length - 1;
    }
    for (size_t i = 0; i < a->of[ROUTES].count; i++) {
        uint16_t expert;
        memcpy(&expert, a->of[ROUTES].data + 2 * i, sizeof expert);
        if (expert >= config->n_experts)
            return false;
    }
    return (int64_t)a->of[ROUTES].count == wanted * config->route_width;
}

/* What is read is used as it stands: counts agree, ids are of the vocabulary. */
static const char *whats_wrong(const struct arrays *a, const struct grpo_config *config, int32_t vocab_size)
{
    const size_t n_prompts = a->of[PROMPT_LENGTHS].count, n = a->of[LENGTHS].count;
    if (n_prompts == 0 || n != n_prompts * (size_t)config->group || n > INT32_MAX ||
        a->of[PROMPT_IDS].count != n_prompts || a->of[SAMPLED_LENGTHS].count != n || a->of[FINISH].count != n ||
        a->of[ADVANTAGE].count != n)
        return "the lists of its prompts and completions do not have the lengths of this run's";
    const int64_t sampled = sum_lengths(a, SAMPLED_LENGTHS, 0, config->max_completion_length);
    if (sum_lengths(a, PROMPT_LENGTHS, 1, INT32_MAX) != (int64_t)a->of[PROMPT_TOKENS].count ||
        sum_lengths(a, LENGTHS, 0, INT32_MAX) != (int64_t)a->of[TOKENS].count ||
        a->of[SAMPLED].count != a->of[TOKENS].count || sampled != (int64_t)a->of[LOGP].count ||
        a->of[ENTROPY].count != a->of[LOGP].count ||
        (a->of[REFERENCE].data != NULL && a->of[REFERENCE].count != a->of[LOGP].count) ||
        (a->of[TOKEN_ADVANTAGES].data != NULL && a->of[TOKEN_ADVANTAGES].count != a->of[LOGP].count))
        return "the lengths of its prompts and completions do not make its tokens";
    if (!are_tokens(a, PROMPT_TOKENS, vocab_size) || !are_tokens(a, TOKENS, vocab_size))
        return "a token is not of the vocabulary";
    if (a->of[ROUTES].data != NULL && config->route_width > 0 && !are_routes(a, config))
        return "its routes are not those of its tokens through this model's experts";
    if (!are_finite(a, ADVANTAGE) || !are_finite(a, TOKEN_ADVANTAGES)) /* the loss looks at the others */
        return "an advantage is not finite";
    for (size_t i = 0; i < n; i++)
        if (integer_at(a, FINISH, i) < FINISH_EOS || integer_at(a, FINISH, i) > FINISH_CANCELLED)
            return "a completion ended for no reason that there is";
    size_t token = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t drawn = 0;
        for (int32_t t = 0; t < integer_at(a, LENGTHS, i); t++)
            drawn += a->of[SAMPLED].data[token++] != 0 ? 1 : 0;
        if (drawn != integer_at(a, SAMPLED_LENGTHS, i))
            return "the tokens that were drawn do not make the lengths of the completions";
    }
    return NULL;
}

static cohort_status take_prompts(const struct arrays *a, struct grpo_batch *batch, cohort_error *err)
{
    TRY(mem_alloc(&batch->prompts, (size_t)batch->n_prompts, sizeof *batch->prompts, "generation batch", err));
    TRY(mem_alloc(&batch->prompt_tokens, a->of[PROMPT_TOKENS].count, sizeof *batch->prompt_tokens, "generation batch",
                  err));
    memcpy(batch->prompt_tokens, a->of[PROMPT_TOKENS].data, a->of[PROMPT_TOKENS].count * sizeof *batch->prompt_tokens);
    const int32_t *at = batch->prompt_tokens;
    for (int32_t p = 0; p < batch->n_prompts; p++) {
        batch->prompts[p] = (struct grpo_prompt){.tokens = at, .n_tokens = integer_at(a, PROMPT_LENGTHS, (size_t)p)};
        memcpy(&batch->prompts[p].id, a->of[PROMPT_IDS].data + 8 * (size_t)p, 8);
        at += batch->prompts[p].n_tokens;
    }
    return COHORT_OK;
}

static cohort_status take_floats(const struct arrays *a, int k, size_t first, size_t n, float **out, cohort_error *err)
{
    TRY(mem_alloc(out, n, sizeof **out, "generation batch", err));
    if (n > 0)
        memcpy(*out, a->of[k].data + 4 * first, 4 * n);
    return COHORT_OK;
}

static cohort_status take_episodes(const struct arrays *a, struct grpo_batch *batch, cohort_error *err)
{
    size_t token = 0, drawn = 0, route = 0;
    TRY(mem_alloc(&batch->episodes, (size_t)batch->n, sizeof *batch->episodes, "generation batch", err));
    if (a->of[REFERENCE].data != NULL)
        TRY(mem_alloc(&batch->reference, (size_t)batch->n, sizeof *batch->reference, "generation batch", err));
    if (a->of[TOKEN_ADVANTAGES].data != NULL)
        TRY(mem_alloc(&batch->token_advantages, (size_t)batch->n, sizeof(float *), "generation batch", err));
    for (int32_t i = 0; i < batch->n; i++) {
        struct episode *e = &batch->episodes[i];
        const size_t n = (size_t)integer_at(a, LENGTHS, (size_t)i),
                     k = (size_t)integer_at(a, SAMPLED_LENGTHS, (size_t)i);
        TRY(mem_alloc(&e->tokens, n, sizeof *e->tokens, "generation batch", err));
        TRY(mem_alloc(&e->sampled, n, sizeof *e->sampled, "generation batch", err));
        TRY(mem_alloc(&e->logp, k, sizeof *e->logp, "generation batch", err));
        TRY(mem_alloc(&e->entropy, k, sizeof *e->entropy, "generation batch", err));
        e->n_tokens = (int32_t)n;
        e->n_sampled = (int32_t)k;
        e->token_capacity = n;
        e->sampled_capacity = k;
        e->finish_reason = (enum finish_reason)integer_at(a, FINISH, (size_t)i);
        for (size_t t = 0; t < n; t++, token++) {
            e->tokens[t] = integer_at(a, TOKENS, token);
            e->sampled[t] = a->of[SAMPLED].data[token] != 0;
        }
        if (k > 0) {
            memcpy(e->logp, a->of[LOGP].data + 4 * drawn, 4 * k);
            memcpy(e->entropy, a->of[ENTROPY].data + 4 * drawn, 4 * k);
        }
        if (batch->reference != NULL)
            TRY(take_floats(a, REFERENCE, drawn, k, &batch->reference[i], err));
        if (batch->token_advantages != NULL)
            TRY(take_floats(a, TOKEN_ADVANTAGES, drawn, k, &batch->token_advantages[i], err));
        drawn += k;
        const size_t routes = route_elements(batch, i);
        if (a->of[ROUTES].data != NULL && routes > 0) {
            TRY(mem_alloc(&e->routes, routes, sizeof *e->routes, "generation batch", err));
            memcpy(e->routes, a->of[ROUTES].data + 2 * route, 2 * routes);
            route += routes;
        }
    }
    return COHORT_OK;
}

cohort_status batch_file_read(const char *dir, const struct grpo_config *config, int32_t vocab_size,
                              struct grpo_batch *batch, cohort_error *err)
{
    struct safetensors file = {0};
    struct arrays a = {0};
    char *path = NULL, *tensors = NULL;
    bool tokens = false;
    cohort_status status = COHORT_OK;
    memset(batch, 0, sizeof *batch);
    TRY_GOTO(file_join(&path, dir, NUMBERS, err));
    TRY_GOTO(file_join(&tensors, dir, TENSORS, err));
    TRY_GOTO(read_numbers(path, batch, &tokens, err));
    TRY_GOTO(safetensors_open(&file, tensors, err));
    TRY_GOTO(find_arrays(&file, &a, err));
    const char *wrong = tokens != (a.of[TOKEN_ADVANTAGES].data != NULL)
                            ? "its advantages of tokens are missing, or are not those of this batch"
                        : batch->guides != NULL && (size_t)batch->n_prompts != a.of[PROMPT_LENGTHS].count
                            ? "its prompts are not those that batch.json has guides of"
                            : whats_wrong(&a, config, vocab_size);
    if (wrong != NULL) {
        status = damaged(tensors, wrong, err);
        goto cleanup;
    }
    batch->n_prompts = (int32_t)a.of[PROMPT_LENGTHS].count;
    batch->n = (int32_t)a.of[LENGTHS].count;
    batch->route_width = config->route_width;
    TRY_GOTO(take_prompts(&a, batch, err));
    TRY_GOTO(take_episodes(&a, batch, err));
    TRY_GOTO(mem_alloc(&batch->advantage, (size_t)batch->n, sizeof *batch->advantage, "generation batch", err));
    memcpy(batch->advantage, a.of[ADVANTAGE].data, (size_t)batch->n * sizeof *batch->advantage);
    TRY_GOTO(mem_alloc(&batch->order, (size_t)batch->n, sizeof *batch->order, "generation batch", err));
    step_plan_order(&config->plan, config->seed, batch->index, batch->n, batch->order);
    batch->scored = true;
cleanup:
    if (status != COHORT_OK)
        grpo_batch_free(batch);
    safetensors_close(&file);
    mem_free(path);
    mem_free(tensors);
    return status;
}

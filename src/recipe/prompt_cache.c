#include "recipe/prompt_cache.h"

#include "backend/ops.h"
#include "base/json_text.h"
#include "base/number.h"
#include "cohort.h"
#include "format/safetensors.h"
#include "rollout/engine.h"

#include <stdio.h>
#include <string.h>

/* What bits depend on beside the tokens. */
struct about {
    const char *name, *value, *what;
};
enum { N_ABOUT = 7 };

/* window: room for a number. */
static void describe(const struct session *session, struct about about[N_ABOUT], char window[NUMBER_BYTES])
{
    (void)number_format(window, NUMBER_BYTES, "%d", (int)session->kv_pages);
    const struct backend *be = session->backend;
    const char *kernels = session->model->type == DTYPE_BF16 ? be->provider_bf16 : be->provider_f32;
    const struct about list[N_ABOUT] = {
        {"weights", session->weights, "other weights"},
        {"dtype", dtype_name(session->model->type), "another dtype"},
        {"device", be->device == NULL ? "" : be->device, "another device"},
        {"kernels", kernels == NULL ? "" : kernels, "other kernels"},
        {"version", cohort_version(), "another version of cohort"},
        {"kv_bits", session->kv8 ? "8" : "0", "another kv_bits"},
        {"max_kv_pages", window, "another max_kv_size"},
    };
    memcpy(about, list, sizeof list);
}

static size_t page_bytes(const struct session *session)
{
    return engine_page_bytes(&session->model->config, session->model->type, session->kv8);
}

/* ---- Reading ---- */

static cohort_status refuse(const char *path, const char *why, cohort_error *err)
{
    return error_set(err, COHORT_ERR_FORMAT,
                     "%s: not a prompt cache of cohort: %s; name a file that is not there to write one", path, why);
}

static cohort_status check_about(const struct session *session, const struct safetensor *t, const char *path,
                                 cohort_error *err)
{
    struct about about[N_ABOUT];
    char window[NUMBER_BYTES];
    describe(session, about, window);
    json_t *json = NULL;
    cohort_error mistake;
    cohort_status status = json_text_parse(&json, (const char *)t->data, t->bytes, path, 1, 0, &mistake) == COHORT_OK
                               ? COHORT_OK
                               : refuse(path, "'about' is not JSON", err);
    for (int i = 0; i < N_ABOUT && status == COHORT_OK; i++) {
        const char *value = json_string_value(json_object_get(json, about[i].name));
        if (value == NULL)
            status = refuse(path, "'about' lacks a name", err);
        else if (strcmp(value, about[i].value) != 0)
            status =
                error_set(err, COHORT_ERR_FORMAT,
                          "%s: keys and values of %s (%s, here %s): remove the file to have it written anew, or name "
                          "another one",
                          path, about[i].what, value, about[i].value);
    }
    json_decref(json);
    return status;
}

static cohort_status check_tensors(const struct session *session, const struct safetensors *file, const char *path,
                                   cohort_error *err)
{
    const struct safetensor *about = safetensors_find(file, "about"), *tokens = safetensors_find(file, "tokens"),
                            *pages = safetensors_find(file, "pages");
    if (about == NULL || tokens == NULL || pages == NULL)
        return refuse(path, "it lacks one of about, tokens, pages", err);
    TRY(check_about(session, about, path, err));
    if (strcmp(about->dtype_name, "U8") != 0 || strcmp(tokens->dtype_name, "I32") != 0 ||
        strcmp(pages->dtype_name, "U8") != 0 || tokens->count % ATTENTION_CHUNK != 0 ||
        pages->bytes != (size_t)(tokens->count / ATTENTION_CHUNK) * page_bytes(session) || tokens->count > INT32_MAX)
        return refuse(path, "sizes or types are not those of a prompt", err);
    return COHORT_OK;
}

cohort_status prompt_cache_read(const struct session *session, struct engine *engine, const char *path,
                                int32_t *n_tokens, cohort_error *err)
{
    struct safetensors file = {0};
    int32_t *tokens = NULL;
    cohort_status status = COHORT_OK;
    *n_tokens = 0;
    TRY(safetensors_open(&file, path, err));
    TRY_GOTO(check_tensors(session, &file, path, err));
    const struct safetensor *ids = safetensors_find(&file, "tokens"), *pages = safetensors_find(&file, "pages");
    TRY_GOTO(mem_alloc(&tokens, (size_t)ids->count, sizeof *tokens, "prompt cache", err));
    memcpy(tokens, ids->data, ids->bytes);
    for (int32_t chunk = 0; chunk < (int32_t)(ids->count / ATTENTION_CHUNK); chunk++) {
        cohort_error full;
        const cohort_status known =
            engine_know_page(engine, tokens, chunk, pages->data + (size_t)chunk * page_bytes(session), &full);
        if (known == COHORT_ERR_STATE)
            break; /* more than the engine's pages hold, which are enough for what was asked */
        if (known != COHORT_OK) {
            status = error_set(err, known, "%s", full.message);
            goto cleanup;
        }
        *n_tokens += ATTENTION_CHUNK;
    }
cleanup:
    mem_free(tokens);
    safetensors_close(&file);
    return status;
}

/* ---- Writing ---- */

struct writing {
    struct engine *engine;
    const int32_t *tokens;
    char *page; /* number at, or -1 */
    int32_t at;
    size_t bytes; /* of a page */
};

static cohort_status read_pages(void *context, size_t offset, size_t length, void *to, cohort_error *err)
{
    struct writing *w = context;
    char *out = to;
    (void)err;
    while (length > 0) {
        const int32_t chunk = (int32_t)(offset / w->bytes);
        const size_t within = offset % w->bytes, rest = w->bytes - within, n = length < rest ? length : rest;
        if (chunk != w->at)
            engine_fetch_page(w->engine, w->tokens, chunk, w->page);
        w->at = chunk;
        memcpy(out, w->page + within, n);
        out += n;
        offset += n;
        length -= n;
    }
    return COHORT_OK;
}

static cohort_status read_bytes(void *context, size_t offset, size_t length, void *to, cohort_error *err)
{
    (void)err;
    memcpy(to, (const char *)context + offset, length);
    return COHORT_OK;
}

static cohort_status about_text(const struct session *session, struct text *out, cohort_error *err)
{
    struct about about[N_ABOUT];
    char window[NUMBER_BYTES];
    describe(session, about, window);
    json_t *json = json_object();
    for (int i = 0; i < N_ABOUT; i++)
        (void)json_object_set_new(json, about[i].name, json_string(about[i].value));
    const cohort_status status = json_text_write(json_object_size(json) == N_ABOUT ? json : NULL, 0, out, err);
    json_decref(json);
    return status;
}

cohort_status prompt_cache_write(const struct session *session, struct engine *engine, const int32_t *tokens, int32_t n,
                                 const char *path, int32_t *n_tokens, cohort_error *err)
{
    struct writing w = {.engine = engine, .tokens = tokens, .at = -1, .bytes = page_bytes(session)};
    struct text about = {0}, temporary = {0};
    int32_t *copy = NULL;
    cohort_status status = COHORT_OK;
    *n_tokens = engine_known(engine, tokens, n);
    if (*n_tokens == 0)
        return COHORT_OK;
    const size_t ids = (size_t)*n_tokens * sizeof *copy, pages = (size_t)(*n_tokens / ATTENTION_CHUNK);
    TRY_GOTO(mem_alloc(&w.page, w.bytes, 1, "prompt cache", err));
    TRY_GOTO(mem_alloc(&copy, (size_t)*n_tokens, sizeof *copy, "prompt cache", err));
    memcpy(copy, tokens, ids);
    TRY_GOTO(about_text(session, &about, err));
    TRY_GOTO(text_printf(&temporary, err, "%s.part", path));
    const struct safetensors_source sources[] = {
        {"about", "U8", 1, {(int64_t)about.length}, about.length, read_bytes, about.data},
        {"pages", "U8", 2, {(int64_t)pages, (int64_t)w.bytes}, pages * w.bytes, read_pages, &w},
        {"tokens", "I32", 1, {*n_tokens}, ids, read_bytes, copy}};
    TRY_GOTO(safetensors_write(temporary.data, sources, sizeof sources / sizeof sources[0], NULL, err));
    TRY_GOTO(backend_check(session->backend, err));
    if (rename(temporary.data, path) != 0) {
        status = error_set(err, COHORT_ERR_IO, "%s: cannot be put in place", path);
        (void)remove(temporary.data);
    }
cleanup:
    mem_free(w.page);
    mem_free(copy);
    text_free(&about);
    text_free(&temporary);
    return status;
}

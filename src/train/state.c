#include "train/state.h"

#include "base/json_text.h"
#include "format/safetensors.h"
#include "model/param_shard.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One tensor of the file: a state of a param. */
struct state_slice {
    const struct param_set *set;
    int32_t param;
    enum param_state state;
    struct param_state_tensor tensor;
    bool beside; /* read on another thread than the one that computes */
    char name[128];
};

/* All tensors that the state of a set consists of, kind by kind; *slices is for mem_free. */
static cohort_status state_slices(const struct param_set *set, struct state_slice **slices, size_t *n,
                                  cohort_error *err)
{
    struct param_state_tensor tensor;
    size_t count = 0;
    for (int32_t k = 0; k < N_PARAM_STATES; k++)
        for (int32_t i = 0; i < set->table.n_params; i++)
            count += param_state_get(set, i, (enum param_state)k, &tensor);
    *n = 0;
    TRY(mem_alloc(slices, count, sizeof **slices, "optimizer state", err));
    for (int32_t k = 0; k < N_PARAM_STATES; k++)
        for (int32_t i = 0; i < set->table.n_params; i++) {
            if (!param_state_get(set, i, (enum param_state)k, &tensor))
                continue;
            struct state_slice *s = &(*slices)[(*n)++];
            *s = (struct state_slice){.set = set, .param = i, .state = (enum param_state)k, .tensor = tensor};
            snprintf(s->name, sizeof s->name, "%s.%s", tensor.name, set->table.params[i].name);
        }
    return COHORT_OK;
}

static cohort_status read_slice(void *context, size_t offset, size_t length, void *to, cohort_error *err)
{
    const struct state_slice *s = context;
    if (s->beside)
        return backend_download_beside(s->set->backend, to, (const char *)s->tensor.data + offset, length, err);
    return param_state_fetch(s->set, s->param, (int)s->state, offset, length, to, err);
}

static cohort_status write_tensors(const char *path, const struct param_set *set, bool beside, char hex[HASH_HEX],
                                   cohort_error *err)
{
    struct state_slice *slices = NULL;
    struct safetensors_source *sources = NULL;
    size_t n = 0;
    cohort_status status = COHORT_OK;
    TRY(state_slices(set, &slices, &n, err));
    TRY_GOTO(mem_alloc(&sources, n, sizeof *sources, "optimizer state", err));
    for (size_t i = 0; i < n; i++) {
        slices[i].beside = beside;
        sources[i] = (struct safetensors_source){
            .name = slices[i].name,
            .dtype_name = slices[i].tensor.type,
            .rank = slices[i].tensor.rank,
            .shape = {slices[i].tensor.shape[0], slices[i].tensor.shape[1], slices[i].tensor.shape[2]},
            .bytes = slices[i].tensor.bytes,
            .read = read_slice,
            .context = &slices[i]};
    }
    TRY_GOTO(safetensors_write(path, sources, n, hex, err));
cleanup:
    mem_free(slices);
    mem_free(sources);
    return status;
}

/* More than any run will count; sums and products of these with a batch's size stay in 64 bits. */
#define MOST_STEPS  1000000000000ll       /* 1e12 */
#define MOST_TOKENS 1000000000000000000ll /* 1e18 */
#define MOST_SEED   9007199254740992ll    /* of option seed */

static bool within(json_int_t value, json_int_t most) { return value >= 0 && value <= most; }

/* The counters of state.json depend on each other: one that does not fit was not written by us, and arithmetic on it
 * could overflow. */
static cohort_status check_counters(const struct train_state *state, const char *path, cohort_error *err)
{
    const struct {
        const char *name;
        json_int_t value, most;
    } counters[] = {{"step", state->step, MOST_STEPS},
                    {"updates", state->updates, MOST_STEPS},
                    {"skipped", state->skipped, MOST_STEPS},
                    {"batches", state->batches, MOST_STEPS},
                    {"tokens_seen", state->tokens_seen, MOST_TOKENS},
                    {"seed", (json_int_t)state->seed, MOST_SEED}};
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
        if (!within(counters[i].value, counters[i].most))
            return error_set(err, COHORT_ERR_FORMAT,
                             "%s: \"%s\" is %lld, expected 0 to %lld; the file is damaged: resume "
                             "from another checkpoint",
                             path, counters[i].name, (long long)counters[i].value, (long long)counters[i].most);
    if (state->updates + state->skipped != state->step)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: %lld updates and %lld skipped do not make step %lld; the file is "
                         "damaged: resume from another checkpoint",
                         path, (long long)state->updates, (long long)state->skipped, (long long)state->step);
    /* Who takes rows takes one batch per step, and so does distillation; how many grpo takes, its options say. */
    static const char *const row_commands[] = {"sft", "dpo", "kto", "orpo", "cpo", "reward", "distill"};
    bool rows = false;
    for (size_t i = 0; i < sizeof row_commands / sizeof *row_commands; i++)
        rows = rows || strcmp(state->command, row_commands[i]) == 0;
    if (!rows && strcmp(state->command, "grpo") != 0 && strcmp(state->command, "rloo") != 0)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"command\" is '%s', expected that of a trainer; not a state this version wrote", path,
                         state->command);
    if (rows ? state->batches != state->step : (state->batches == 0) != (state->step == 0))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: %lld batches do not make step %lld; the file is damaged: resume from "
                         "another checkpoint",
                         path, (long long)state->batches, (long long)state->step);
    return COHORT_OK;
}

/* The controller of the entropy bonus, where there is one; JSON has no infinity: null is a step that was not yet. */
static cohort_status write_entropy(json_t *json, const struct train_state *state, cohort_error *err)
{
    if (!state->adapts_entropy)
        return COHORT_OK;
    json_t *last = isfinite(state->last_entropy) ? json_real(state->last_entropy) : json_null();
    if (json_object_set_new(json, "entropy_control",
                            json_pack("{s:f, s:o}", "coef", state->entropy_coef, "last_entropy", last)) != 0)
        return error_set(err, COHORT_ERR_MEMORY, "state of the trainer: out of memory");
    return COHORT_OK;
}

static cohort_status read_entropy(const json_t *json, struct train_state *state, const char *path, cohort_error *err)
{
    const json_t *control = json_object_get(json, "entropy_control");
    if (control == NULL)
        return COHORT_OK;
    const json_t *coef = json_object_get(control, "coef"), *last = json_object_get(control, "last_entropy");
    if (!json_is_number(coef) || !(json_is_number(last) || json_is_null(last)))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: \"entropy_control\" is not an object with a number \"coef\" and a number or null "
                         "\"last_entropy\"; the file is damaged: resume from another checkpoint",
                         path);
    state->adapts_entropy = true;
    state->entropy_coef = json_number_value(coef);
    state->last_entropy = json_is_null(last) ? (double)INFINITY : json_number_value(last);
    return COHORT_OK;
}

/* AdamW is not named: states that earlier versions wrote are its. */
static cohort_status write_optimizer(json_t *json, const struct param_set *set, cohort_error *err)
{
    const char *name = set->training.optimizer;
    if (strcmp(name, "adamw") == 0 || json_object_set_new(json, "optimizer", json_string(name)) == 0)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_MEMORY, "state of the trainer: out of memory");
}

static cohort_status check_optimizer(const json_t *json, const struct param_set *set, const char *path,
                                     cohort_error *err)
{
    const json_t *value = json_object_get(json, "optimizer");
    const char *name = value == NULL ? "adamw" : json_string_value(value);
    if (name != NULL && strcmp(name, set->training.optimizer) == 0)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_STATE,
                     "%s: the state is that of the optimizer %.40s, this run has %s, which keeps other numbers: resume "
                     "with the run's own optim, or start a new run from its weights (--model)",
                     path, name == NULL ? "(damaged)" : name, set->training.optimizer);
}

/* The evaluations so far, where there are any. */
static cohort_status write_best(json_t *json, const struct best *best, cohort_error *err)
{
    if (best->counted == 0)
        return COHORT_OK;
    json_t *value = best->step > 0 ? json_real(best->value) : json_null();
    if (json_object_set_new(json, "best",
                            json_pack("{s:I, s:I, s:o, s:I}", "counted", (json_int_t)best->counted, "step",
                                      (json_int_t)best->step, "value", value, "worse", (json_int_t)best->worse)) != 0)
        return error_set(err, COHORT_ERR_MEMORY, "state of the trainer: out of memory");
    return COHORT_OK;
}

static cohort_status read_best(const json_t *json, struct train_state *state, const char *path, cohort_error *err)
{
    const json_t *found = json_object_get(json, "best");
    json_int_t counted = 0, step = 0, worse = 0;
    json_t *value = NULL;
    if (found == NULL)
        return COHORT_OK;
    const bool read = json_unpack((json_t *)(uintptr_t)found, "{s:I, s:I, s:o, s:I}", "counted", &counted, "step",
                                  &step, "value", &value, "worse", &worse) == 0;
    if (!read || !within(counted, state->step) || counted == 0 || !within(step, counted) || !within(worse, counted) ||
        !(step > 0 ? json_is_number(value) : json_is_null(value)))
        return error_set(
            err, COHORT_ERR_FORMAT,
            "%s: \"best\" is not an object with \"counted\", \"step\" and \"worse\" up to step %lld, and "
            "a number \"value\" (null where step is 0); the file is damaged: resume from another checkpoint",
            path, (long long)state->step);
    state->best = (struct best){.counted = counted, .step = step, .worse = worse, .value = json_number_value(value)};
    return COHORT_OK;
}

static cohort_status read_tensors(const char *path, struct param_set *set, cohort_error *err)
{
    struct state_slice *slices = NULL;
    struct safetensors file = {0};
    struct backend *be = set->backend;
    size_t n = 0;
    cohort_status status = COHORT_OK;
    TRY(safetensors_open(&file, path, err));
    TRY_GOTO(state_slices(set, &slices, &n, err));
    if (file.n_tensors != n) {
        status = error_set(err, COHORT_ERR_STATE,
                           "%s: holds %zu tensors, this run needs %zu; it belongs to another model, "
                           "dtype or setting of the optimizer: resume with the checkpoint's own "
                           "model, --dtype, optim_args and ema_decay",
                           path, file.n_tensors, n);
        goto cleanup;
    }
    for (size_t i = 0; i < n; i++) {
        const struct state_slice *s = &slices[i];
        TRY_GOTO(stop_check(be->stop, err));
        const struct safetensor *tensor = safetensors_find(&file, s->name);
        if (tensor == NULL || strcmp(tensor->dtype_name, s->tensor.type) != 0 || tensor->count != s->tensor.count) {
            status = error_set(err, COHORT_ERR_STATE,
                               "%s: tensor %s is missing or is not %s with %lld elements; "
                               "resume with the checkpoint's own model",
                               path, s->name, s->tensor.type, (long long)s->tensor.count);
            goto cleanup;
        }
        if (s->tensor.data != NULL) /* else another rank holds it */
            be->ops->upload(be, s->tensor.data, tensor->data, tensor->bytes);
    }
cleanup:
    mem_free(slices);
    safetensors_close(&file);
    return status;
}

static const char TENSORS[] = "trainer/optimizer.safetensors";

cohort_status train_state_write_tensors(const char *dir, const struct param_set *set, bool beside,
                                        struct manifest *manifest, cohort_error *err)
{
    char *folder = NULL, *path = NULL, hex[HASH_HEX];
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&folder, dir, "trainer", err));
    TRY_GOTO(file_make_dirs(folder, err));
    TRY_GOTO(file_join(&path, dir, TENSORS, err));
    TRY_GOTO(write_tensors(path, set, beside, hex, err));
    if (manifest != NULL)
        TRY_GOTO(manifest_add(manifest, TENSORS, hex, err));
cleanup:
    mem_free(path);
    mem_free(folder);
    return status;
}

cohort_status train_state_write(const char *dir, const struct param_set *set, const struct train_state *state,
                                cohort_error *err)
{
    char *folder = NULL, *path = NULL;
    json_t *json = NULL;
    struct text text = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&folder, dir, "trainer", err));
    TRY_GOTO(file_make_dirs(folder, err));
    json = json_pack("{s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "format", 1, "command", state->command, "step",
                     (json_int_t)state->step, "updates", (json_int_t)state->updates, "skipped",
                     (json_int_t)state->skipped, "batches", (json_int_t)state->batches, "tokens_seen",
                     (json_int_t)state->tokens_seen, "seed", (json_int_t)state->seed);
    TRY_GOTO(write_optimizer(json, set, err));
    TRY_GOTO(write_entropy(json, state, err));
    TRY_GOTO(write_best(json, &state->best, err));
    TRY_GOTO(json_text_write(json, JSON_INDENT(2), &text, err));
    TRY_GOTO(file_join(&path, folder, "state.json", err));
    TRY_GOTO(file_write_atomic(path, text.data, text.length, err));
cleanup:
    text_free(&text);
    json_decref(json);
    mem_free(path);
    mem_free(folder);
    return status;
}

cohort_status train_state_read(const char *dir, struct param_set *set, struct train_state *state, cohort_error *err)
{
    char *path = NULL, *tensors = NULL;
    json_t *json = NULL;
    json_error_t where;
    bool there = false;
    cohort_status status = COHORT_OK;
    const char *command = NULL;
    json_int_t format = 0, step = 0, updates = 0, skipped = 0, batches = 0, tokens = 0, seed = 0;
    TRY_GOTO(file_join(&path, dir, "trainer/state.json", err));
    TRY_GOTO(file_exists(path, &there, err));
    if (!there) {
        status = error_set(err, COHORT_ERR_STATE,
                           "%s: not found; %s is no checkpoint of a cohort run (a model folder "
                           "alone cannot be resumed)",
                           path, dir);
        goto cleanup;
    }
    TRY_GOTO(json_text_read(&json, path, 1 << 20, 0, err));
    if (json_unpack_ex(json, &where, 0, "{s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "format", &format, "command",
                       &command, "step", &step, "updates", &updates, "skipped", &skipped, "batches", &batches,
                       "tokens_seen", &tokens, "seed", &seed) != 0) {
        status = error_set(err, COHORT_ERR_FORMAT, "%s: %s", path, where.text);
        goto cleanup;
    }
    if (format != 1 || strlen(command) >= sizeof state->command) {
        status = error_set(err, COHORT_ERR_FORMAT, "%s: not a state this version wrote (format %lld, expected 1)", path,
                           (long long)format);
        goto cleanup;
    }
    *state = (struct train_state){.step = step,
                                  .updates = updates,
                                  .skipped = skipped,
                                  .batches = batches,
                                  .tokens_seen = tokens,
                                  .seed = (uint64_t)seed};
    strcpy(state->command, command);
    TRY_GOTO(check_counters(state, path, err));
    TRY_GOTO(read_entropy(json, state, path, err));
    TRY_GOTO(check_optimizer(json, set, path, err));
    TRY_GOTO(read_best(json, state, path, err));
    TRY_GOTO(file_join(&tensors, dir, TENSORS, err));
    TRY_GOTO(read_tensors(tensors, set, err));
cleanup:
    json_decref(json);
    mem_free(path);
    mem_free(tensors);
    return status;
}

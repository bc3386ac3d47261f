#include "addon.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Errors ------------------------------------------------------------------------------------------------------ */

static const char *code_of(cohort_status status)
{
    static const char *const codes[] = {[COHORT_OK] = "ERR_COHORT_INTERNAL",
                                        [COHORT_ERR_ARGUMENT] = "ERR_COHORT_ARGUMENT",
                                        [COHORT_ERR_IO] = "ERR_COHORT_IO",
                                        [COHORT_ERR_FORMAT] = "ERR_COHORT_FORMAT",
                                        [COHORT_ERR_UNSUPPORTED] = "ERR_COHORT_UNSUPPORTED",
                                        [COHORT_ERR_MEMORY] = "ERR_COHORT_MEMORY",
                                        [COHORT_ERR_STATE] = "ERR_COHORT_STATE",
                                        [COHORT_ERR_REWARD] = "ERR_COHORT_REWARD",
                                        [COHORT_ERR_NUMERIC] = "ERR_COHORT_NUMERIC",
                                        [COHORT_ERR_CANCELLED] = "ERR_COHORT_CANCELLED",
                                        [COHORT_ERR_INTERNAL] = "ERR_COHORT_INTERNAL",
                                        [COHORT_ERR_DIVERGED] = "ERR_COHORT_DIVERGED"};
    return (size_t)status < sizeof codes / sizeof codes[0] ? codes[status] : "ERR_COHORT_INTERNAL";
}

void throw_pending(napi_env env, const char *call)
{
    bool pending = false;
    if (napi_is_exception_pending(env, &pending) == napi_ok && !pending)
        napi_throw_type_error(env, "ERR_COHORT_ARGUMENT", call);
}

napi_value make_error(napi_env env, struct addon *addon, cohort_status status, bool timed_out, const char *message)
{
    napi_value values[2], factory = NULL, global = NULL, error = NULL;
    const char *code = timed_out ? "ERR_COHORT_REWARD_TIMEOUT" : code_of(status);
    values[0] = text_value(env, code, strlen(code));
    values[1] = text_value(env, message, strlen(message));
    if (addon != NULL && addon->make_error != NULL &&
        napi_get_reference_value(env, addon->make_error, &factory) == napi_ok && factory != NULL &&
        napi_get_global(env, &global) == napi_ok &&
        napi_call_function(env, global, factory, 2, values, &error) == napi_ok)
        return error;
    napi_create_error(env, values[0], values[1], &error);
    return error;
}

void throw_error(napi_env env, cohort_status status, const char *message)
{
    napi_value error = make_error(env, addon_of(env), status, false, message);
    if (error != NULL)
        napi_throw(env, error);
}

/* ---- Values ------------------------------------------------------------------------------------------------------ */

struct addon *addon_of(napi_env env)
{
    void *data = NULL;
    napi_get_instance_data(env, &data);
    return data;
}

bool arguments(napi_env env, napi_callback_info info, size_t n, napi_value *values)
{
    size_t count = n;
    OK_OR(false, napi_get_cb_info(env, info, &count, values, NULL, NULL));
    return true;
}

char *string_of(napi_env env, napi_value value, size_t *length)
{
    size_t bytes = 0;
    OK_OR(NULL, napi_get_value_string_utf8(env, value, NULL, 0, &bytes));
    char *string = malloc(bytes + 1);
    if (string == NULL || napi_get_value_string_utf8(env, value, string, bytes + 1, &bytes) != napi_ok) {
        free(string);
        throw_error(env, COHORT_ERR_MEMORY, "a string could not be read");
        return NULL;
    }
    if (length != NULL)
        *length = bytes;
    return string;
}

bool number_of(napi_env env, napi_value value, double *number)
{
    OK_OR(false, napi_get_value_double(env, value, number));
    return true;
}

void strings_free(char **strings, size_t count)
{
    for (size_t i = 0; strings != NULL && i < count; i++)
        free(strings[i]);
    free(strings);
}

char **strings_of(napi_env env, napi_value array, size_t *count)
{
    uint32_t length = 0;
    OK_OR(NULL, napi_get_array_length(env, array, &length));
    char **strings = calloc((size_t)length + 1, sizeof *strings);
    if (strings == NULL) {
        throw_error(env, COHORT_ERR_MEMORY, "out of memory");
        return NULL;
    }
    for (uint32_t i = 0; i < length; i++) {
        napi_value item = NULL;
        if (napi_get_element(env, array, i, &item) != napi_ok || (strings[i] = string_of(env, item, NULL)) == NULL) {
            throw_pending(env, "a list of strings was expected");
            strings_free(strings, i);
            return NULL;
        }
    }
    *count = length;
    return strings;
}

cohort_status options_make(cohort_options **out, cohort_command command, char *const *pairs, size_t count,
                           cohort_error *err)
{
    cohort_status status = cohort_options_create(out, command, err);
    for (size_t i = 0; status == COHORT_OK && i + 1 < count; i += 2)
        status = cohort_options_set(*out, pairs[i], pairs[i + 1], pairs[i], err);
    return status;
}

napi_value typed_array(napi_env env, napi_typedarray_type type, const void *data, size_t count)
{
    const size_t width = type == napi_float64_array ? 8 : 4;
    napi_value buffer = NULL, array = NULL;
    void *bytes = NULL;
    OK_OR(NULL, napi_create_arraybuffer(env, count * width, &bytes, &buffer));
    if (count > 0)
        memcpy(bytes, data, count * width);
    OK_OR(NULL, napi_create_typedarray(env, type, count, buffer, 0, &array));
    return array;
}

napi_value text_value(napi_env env, const char *data, size_t length)
{
    napi_value value = NULL;
    OK_OR(NULL, napi_create_string_utf8(env, data == NULL ? "" : data, length, &value));
    return value;
}

napi_value result_text(napi_env env, struct job *job) { return text_value(env, job->text.data, job->text.length); }

napi_value pair(napi_env env, napi_value first, napi_value second)
{
    napi_value array = NULL;
    if (first == NULL || second == NULL)
        return NULL;
    OK_OR(NULL, napi_create_array_with_length(env, 2, &array));
    OK_OR(NULL, napi_set_element(env, array, 0, first));
    OK_OR(NULL, napi_set_element(env, array, 1, second));
    return array;
}

/* ---- The option table -------------------------------------------------------------------------------------------- */

static void write_strings(struct addon_text *text, const char *key, const char *const *strings, size_t n)
{
    addon_text_key(text, key);
    addon_text_say(text, "[");
    for (size_t i = 0; i < n; i++) {
        addon_text_say(text, i == 0 ? "" : ",");
        addon_text_string(text, strings[i]);
    }
    addon_text_say(text, "]");
}

static bool write_option(void *context, const cohort_option *option)
{
    struct addon_text *text = context;
    const struct {
        const char *key, *value;
    } fields[] = {{"name", option->name},
                  {"group", option->group},
                  {"help", option->help},
                  {"type", option->type},
                  {"fallback", option->fallback}};
    addon_text_say(text, text->length == 1 ? "{" : ",{");
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        addon_text_key(text, fields[i].key);
        addon_text_string(text, fields[i].value);
    }
    write_strings(text, "choices", option->choices, option->n_choices);
    write_strings(text, "names", option->names, option->n_names);
    addon_text_say(text, "}");
    return true;
}

/* The command that the first argument names; false with an exception. */
static bool command_of(napi_env env, napi_value value, cohort_command *command)
{
    char *name = string_of(env, value, NULL);
    if (name == NULL)
        return false;
    const bool found = cohort_command_find(name, command);
    free(name);
    if (!found)
        throw_error(env, COHORT_ERR_ARGUMENT, "there is no such command");
    return found;
}

static napi_value take_text(napi_env env, struct addon_text *text, cohort_status status, const cohort_error *err)
{
    napi_value value = NULL;
    if (status != COHORT_OK || text->failed)
        throw_error(env, status == COHORT_OK ? COHORT_ERR_MEMORY : status,
                    status == COHORT_OK ? "out of memory" : err->message);
    else
        value = text_value(env, text->data, text->length);
    addon_text_free(text);
    return value;
}

static napi_value options_list(napi_env env, napi_callback_info info)
{
    napi_value values[1];
    cohort_command command;
    struct addon_text text = {0};
    cohort_error err;
    cohort_error_init(&err);
    if (!arguments(env, info, 1, values) || !command_of(env, values[0], &command))
        return NULL;
    addon_text_say(&text, "[");
    const cohort_status status = cohort_options_list(command, write_option, &text, &err);
    addon_text_say(&text, "]");
    return take_text(env, &text, status, &err);
}

/* (command, pairs) -> sets them, and throws what is wrong with them. */
static napi_value options_check(napi_env env, napi_callback_info info)
{
    napi_value values[2];
    cohort_command command;
    size_t count = 0;
    cohort_options *options = NULL;
    cohort_error err;
    cohort_error_init(&err);
    if (!arguments(env, info, 2, values) || !command_of(env, values[0], &command))
        return NULL;
    char **pairs = strings_of(env, values[1], &count);
    if (pairs == NULL)
        return NULL;
    const cohort_status status = options_make(&options, command, pairs, count, &err);
    if (status != COHORT_OK)
        throw_error(env, status, err.message);
    cohort_options_destroy(options);
    strings_free(pairs, count);
    return NULL;
}

/* (command, name) -> {"text", "needless"}: what a name is that is no option */
static napi_value options_explain(napi_env env, napi_callback_info info)
{
    napi_value values[2];
    cohort_command command;
    cohort_options *options = NULL;
    struct addon_text text = {0};
    char *explained = NULL, *name = NULL;
    bool needless = false;
    cohort_error err;
    cohort_error_init(&err);
    if (!arguments(env, info, 2, values) || !command_of(env, values[0], &command) ||
        (name = string_of(env, values[1], NULL)) == NULL)
        return NULL;
    cohort_status status = cohort_options_create(&options, command, &err);
    if (status == COHORT_OK)
        status = cohort_options_explain(options, name, &explained, &needless, &err);
    addon_text_say(&text, "{");
    addon_text_key(&text, "text");
    addon_text_string(&text, explained);
    addon_text_key(&text, "needless");
    addon_text_say(&text, needless ? "true}" : "false}");
    cohort_free(explained);
    cohort_options_destroy(options);
    free(name);
    return take_text(env, &text, status, &err);
}

/* ---- A command at once ------------------------------------------------------------------------------------------- */

static void gather(void *context, const char *bytes, size_t length) { addon_text_add(context, bytes, length); }

/* (command, pairs) -> its output. On the JavaScript thread: for what takes a moment (rewards of a few completions). */
static napi_value run_now(napi_env env, napi_callback_info info)
{
    napi_value values[2];
    cohort_command command;
    size_t count = 0;
    cohort_options *options = NULL;
    struct addon_text text = {0};
    cohort_observer observer;
    cohort_error err;
    cohort_error_init(&err);
    if (!arguments(env, info, 2, values) || !command_of(env, values[0], &command))
        return NULL;
    char **pairs = strings_of(env, values[1], &count);
    if (pairs == NULL)
        return NULL;
    cohort_observer_init(&observer);
    observer.context = &text;
    observer.output = gather;
    cohort_status status = options_make(&options, command, pairs, count, &err);
    if (status == COHORT_OK)
        status = cohort_run(options, &observer, &err);
    cohort_options_destroy(options);
    strings_free(pairs, count);
    return take_text(env, &text, status, &err);
}

/* (text) -> what it says, as JSON */
static napi_value text_parse(napi_env env, napi_callback_info info)
{
    napi_value values[1], value = NULL;
    char *json = NULL;
    size_t length = 0, json_length = 0;
    cohort_error err;
    cohort_error_init(&err);
    char *string = arguments(env, info, 1, values) ? string_of(env, values[0], &length) : NULL;
    if (string == NULL)
        return NULL;
    const cohort_status status = cohort_text_parse(string, length, &json, &json_length, &err);
    if (status == COHORT_OK)
        value = text_value(env, json, json_length);
    else
        throw_error(env, status, err.message);
    cohort_free(json);
    free(string);
    return value;
}

/* ---- Worker handles ---------------------------------------------------------------------------------------------- */

static const unsigned ANY = 1u << WORKER_MODEL | 1u << WORKER_RUN | 1u << WORKER_TRAINER | 1u << WORKER_STORE;

static napi_value close_worker(napi_env env, napi_callback_info info)
{
    napi_value values[1];
    if (!arguments(env, info, 1, values))
        return NULL;
    struct worker *worker = worker_of(env, values[0], ANY);
    if (worker != NULL)
        worker_close(worker);
    return NULL;
}

/* ---- The module -------------------------------------------------------------------------------------------------- */

static void on_call(napi_env env, napi_value function, void *context, void *data)
{
    struct message *message = data;
    (void)function;
    (void)context;
    message->arrive(env, message);
}

static void on_environment_end(void *data) { workers_join(data); }

static void finalize_addon(napi_env env, void *data, void *hint)
{
    struct addon *addon = data;
    (void)env;
    (void)hint;
    if (--addon->holders == 0)
        free(addon);
}

bool export_function(napi_env env, napi_value exports, const char *name, napi_callback function)
{
    napi_value value = NULL;
    OK_OR(false, napi_create_function(env, name, NAPI_AUTO_LENGTH, function, NULL, &value));
    OK_OR(false, napi_set_named_property(env, exports, name, value));
    return true;
}

/* (function): makes the errors of the addon, of (code, message). */
static napi_value use_errors(napi_env env, napi_callback_info info)
{
    napi_value values[1];
    struct addon *addon = addon_of(env);
    if (arguments(env, info, 1, values) && addon->make_error == NULL)
        OK_OR(NULL, napi_create_reference(env, values[0], 1, &addon->make_error));
    return NULL;
}

static napi_value version(napi_env env, napi_callback_info info)
{
    (void)info;
    return text_value(env, cohort_version(), strlen(cohort_version()));
}

/* What Node looks for in the file (NAPI_MODULE_INIT, with prototypes). */
NAPI_MODULE_EXPORT int32_t node_api_module_get_api_version_v1(void);
NAPI_MODULE_EXPORT napi_value napi_register_module_v1(napi_env env, napi_value exports);

int32_t node_api_module_get_api_version_v1(void) { return NAPI_VERSION; }

napi_value napi_register_module_v1(napi_env env, napi_value exports)
{
    static const struct {
        const char *name;
        napi_callback function;
    } functions[] = {{"version", version},
                     {"useErrors", use_errors},
                     {"optionsList", options_list},
                     {"optionsCheck", options_check},
                     {"optionsExplain", options_explain},
                     {"runNow", run_now},
                     {"textParse", text_parse},
                     {"close", close_worker}};
    napi_value name = text_value(env, "cohort", 6);
    struct addon *addon = calloc(1, sizeof *addon);
    if (addon == NULL || name == NULL) {
        free(addon);
        napi_throw_error(env, "ERR_COHORT_MEMORY", "out of memory");
        return NULL;
    }
    addon->env = env;
    addon->holders = 1;
    if (napi_set_instance_data(env, addon, finalize_addon, NULL) != napi_ok) {
        free(addon);
        throw_pending(env, "napi_set_instance_data");
        return NULL;
    }
    OK_OR(NULL, napi_create_threadsafe_function(env, NULL, NULL, name, 0, 1, NULL, NULL, NULL, on_call, &addon->calls));
    OK_OR(NULL, napi_unref_threadsafe_function(env, addon->calls));
    /* Hooks run last to first: threads have ended before the function that they call goes. */
    OK_OR(NULL, napi_add_env_cleanup_hook(env, on_environment_end, addon));
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (!export_function(env, exports, functions[i].name, functions[i].function))
            return NULL;
    return model_exports(env, exports) && run_exports(env, exports) && store_exports(env, exports) ? exports : NULL;
}

/* json_schema: whether a completion is JSON of a schema (json_schema.h).
 *
 * The schema is --reward-schema, or the row's column "schema" (an object, or a text that holds one). The JSON is what
 * follows the reasoning (</think>) if all of it is JSON, blanks and a fence of ``` around it left out; else the longest
 * object or list in it. 1 if it is valid; else the share of the root's required properties that are there and valid, but
 * less than 1 (mlx-node looks for their names in the text); 0 where there is no JSON. */
#include "base/json_text.h"
#include "guide/json_schema.h"
#include "reward/reward_internal.h"

#include <string.h>

/* A completion that is not valid gets at most this. */
static const double MOST_OF_INVALID = 0.9;

/* Starts that are looked at for a longest piece: each may cost a walk to the end. */
enum { MOST_STARTS = 64, LARGEST_SCHEMA = 1 << 20 };

struct schema_state {
    json_t *schema; /* NULL: each row brings its own */
};

/* Of ```json ... ``` around the whole. */
static struct span without_fence(struct span s)
{
    static const char fence[] = "```";
    const char *line = memchr(s.at, '\n', s.length);
    if (s.length < 2 * 3 || memcmp(s.at, fence, 3) != 0 || memcmp(s.at + s.length - 3, fence, 3) != 0 || line == NULL)
        return s;
    const size_t start = (size_t)(line - s.at);
    return start + 3 > s.length ? s : reward_trim((struct span){line, s.length - start - 3});
}

/* The length of the object or list that begins the text, brackets outside of texts counted; 0: it does not end. */
static size_t bracketed(struct span s)
{
    size_t depth = 0;
    bool text = false;
    for (size_t i = 0; i < s.length; i++) {
        const char c = s.at[i];
        if (text) {
            i += c == '\\';
            text = c != '"';
        } else if (c == '"') {
            text = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && --depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

static struct span longest_piece(struct span s)
{
    struct span longest = {s.at, 0};
    int starts = 0;
    for (size_t i = 0; i < s.length && starts < MOST_STARTS;) {
        if (s.at[i] != '{' && s.at[i] != '[') {
            i++;
            continue;
        }
        const size_t length = bracketed((struct span){s.at + i, s.length - i});
        starts++;
        if (length > longest.length)
            longest = (struct span){s.at + i, length};
        i += length > 0 ? length : 1;
    }
    return longest;
}

/* NULL where the text is no JSON. */
static cohort_status read_json(struct span s, json_t **out, cohort_error *err)
{
    cohort_error mistake = {0};
    *out = NULL;
    if (s.length == 0)
        return COHORT_OK;
    const cohort_status status =
        json_text_parse(out, s.at, s.length, "completion", 1, JSON_TEXT_ANY | JSON_TEXT_REPEATED, &mistake);
    return status == COHORT_ERR_MEMORY ? error_set(err, status, "%s", mistake.message) : COHORT_OK;
}

static cohort_status read_completion(struct span completion, json_t **out, cohort_error *err)
{
    const struct span s = without_fence(reward_trim(reward_after_reasoning(completion)));
    TRY(read_json(s, out, err));
    return *out != NULL ? COHORT_OK : read_json(longest_piece(s), out, err);
}

static cohort_status read_row_schema(const struct reward_row *row, const char *name, json_t **out, cohort_error *err)
{
    const json_t *column = json_object_get(row->data, "schema");
    if (json_is_string(column)) {
        TRY(json_text_parse(out, json_string_value(column), json_string_length(column), "column 'schema'", 1, 0, err));
    } else if (json_is_object(column)) {
        *out = json_incref((json_t *)(uintptr_t)column);
    } else {
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "reward '%s': prompt %lld has no JSON schema in its column 'schema', an object or a text that "
                         "holds one; add it, or give --reward-schema",
                         name, (long long)row->prompt_index);
    }
    cohort_status status = json_schema_check(*out, "column 'schema'", err);
    if (status != COHORT_OK) {
        error_context(err, "reward '%s': prompt %lld", name, (long long)row->prompt_index);
        json_decref(*out);
        *out = NULL;
    }
    return status;
}

/* The share of the root's required properties that are there and valid. */
static cohort_status share_of_required(const json_t *schema, const json_t *value, double *share, cohort_error *err)
{
    const json_t *required = json_object_get(schema, "required"), *properties = json_object_get(schema, "properties");
    const size_t n = json_array_size(required);
    size_t good = 0;
    for (size_t i = 0; i < n; i++) {
        const char *key = json_string_value(json_array_get(required, i));
        const json_t *item = json_object_get(value, key), *part = json_object_get(properties, key);
        bool valid = item != NULL;
        if (valid && part != NULL)
            TRY(json_schema_valid(schema, part, item, &valid, err));
        good += valid;
    }
    *share = n == 0 ? 0.0 : (double)good / (double)n;
    return COHORT_OK;
}

static cohort_status score_row(const json_t *schema, const struct reward_row *row, double *reward, cohort_error *err)
{
    json_t *value = NULL;
    bool valid = false;
    cohort_status status = COHORT_OK;
    TRY(read_completion((struct span){row->completion, row->completion_length}, &value, err));
    *reward = 0.0;
    if (value == NULL)
        return COHORT_OK;
    TRY_GOTO(json_schema_valid(schema, schema, value, &valid, err));
    if (valid)
        *reward = 1.0;
    else
        TRY_GOTO(share_of_required(schema, value, reward, err));
    if (!valid && *reward > MOST_OF_INVALID)
        *reward = MOST_OF_INVALID;
cleanup:
    json_decref(value);
    return status;
}

static cohort_status schema_score(void *opaque, const char *name, const struct reward_row *rows, size_t n_rows,
                                  double *rewards, cohort_error *err)
{
    const struct schema_state *state = opaque;
    for (size_t i = 0; i < n_rows; i++) {
        json_t *schema = json_incref(state->schema);
        if (schema == NULL)
            TRY(read_row_schema(&rows[i], name, &schema, err));
        const cohort_status status = score_row(schema, &rows[i], &rewards[i], err);
        json_decref(schema);
        if (status != COHORT_OK)
            return status;
    }
    return COHORT_OK;
}

static void schema_destroy(void *opaque)
{
    struct schema_state *state = opaque;
    json_decref(state->schema);
    mem_free(state);
}

bool reward_schema_is_text(const char *schema) { return schema[strspn(schema, " \t\r\n")] == '{'; }

cohort_status reward_schema_create(void **out, const struct reward_options *options, cohort_error *err)
{
    struct schema_state *state = NULL;
    cohort_status status = COHORT_OK;
    TRY(mem_alloc(&state, 1, sizeof *state, "reward", err));
    if (options->schema != NULL) {
        const char *text = options->schema;
        const bool is_json = reward_schema_is_text(text);
        if (is_json)
            TRY_GOTO(json_text_parse(&state->schema, text, strlen(text), "--reward-schema", 1, 0, err));
        else
            TRY_GOTO(json_text_read(&state->schema, text, LARGEST_SCHEMA, JSON_TEXT_ANY, err));
        TRY_GOTO(json_schema_check(state->schema, is_json ? "--reward-schema" : text, err));
    }
    *out = state;
    return COHORT_OK;
cleanup:
    schema_destroy(state);
    return status;
}

const struct reward_kind reward_kind_schema = {.score = schema_score, .destroy = schema_destroy};

/* The embedded trainer makes the run that cohort grpo makes from the same rows, bit for bit: metrics, weights, and what its
 * model generates between steps; whichever way a step is made, and if it was stopped and made again. */
#include "support/test_backend.h"

#include "base/file.h"
#include "run/dataset.h"
#include "run/dataset_order.h"

#include <jansson.h>
#include <math.h>
#include <unistd.h>

enum { ROWS = 5, PER_STEP = 2, STEPS = 3, GROUP = 4, LENGTH = 12, SEED = 9, MAX_LINES = 16, MAX_METRICS = 64 };

static char folder[] = "/tmp/cohort_trainer_XXXXXX";
static char model_dir[64], data_path[64], held_out_path[64];

/* What an observer was told. */
struct told {
    struct {
        char names[MAX_METRICS][64];
        double values[MAX_METRICS];
        size_t n;
    } lines[MAX_LINES];
    size_t n;
    int progress, stop_at;    /* calls of progress; the one that stops, from 1 */
    int updates, stop_update; /* those of phase "train"; likewise */
    cohort_trainer *trainer;
};

static void keep_metrics(void *context, const cohort_metrics *metrics)
{
    struct told *told = context;
    assert_int_equal(metrics->size, sizeof *metrics);
    assert_true(told->n < MAX_LINES && metrics->count <= MAX_METRICS);
    for (size_t i = 0; i < metrics->count; i++) {
        snprintf(told->lines[told->n].names[i], sizeof told->lines[0].names[0], "%s", metrics->items[i].name);
        told->lines[told->n].values[i] = metrics->items[i].value;
    }
    told->lines[told->n++].n = metrics->count;
}

static bool keep_progress(void *context, const cohort_progress *progress)
{
    struct told *told = context;
    assert_int_equal(progress->size, sizeof *progress);
    if (strcmp(progress->phase, "train") == 0 && ++told->updates == told->stop_update)
        return false;
    return ++told->progress != told->stop_at;
}

static cohort_observer observe(struct told *told)
{
    cohort_observer observer;
    cohort_observer_init(&observer);
    observer.context = told;
    observer.metrics = keep_metrics;
    observer.progress = keep_progress;
    return observer;
}

static const char *device(void) { return test_options.cuda ? "cuda" : "cpu"; }

/* How the run looks: options beside those that all have. */
struct variant {
    const char *name, *num_iterations, *beta, *threads;
    bool of_tokens; /* rewards of tokens */
};
static const struct variant variants[] = {
    {"plain", "1", "0", "2", false}, {"twice", "2", "0.1", "1", false}, {"tokens", "2", "0", "2", true}};

static size_t n_variants(void) { return test_options.small ? 1 : sizeof variants / sizeof variants[0]; }

static void must(cohort_status status, const cohort_error *err)
{
    if (status != COHORT_OK)
        fail_msg("%s", err->message);
}

static void set(cohort_options *options, const char *name, const char *value)
{
    cohort_error err = {0};
    must(cohort_options_set(options, name, value, NULL, &err), &err);
}

static cohort_options *grpo_options(const struct variant *variant, const char *out)
{
    cohort_options *options = NULL;
    cohort_error err = {0};
    char path[128];
    const char *const pairs[][2] = {{"model", model_dir},
                                    {"device", device()},
                                    {"threads", variant->threads},
                                    {"num_iterations", variant->num_iterations},
                                    {"beta", variant->beta},
                                    {"prompts_per_step", "2"},
                                    {"num_generations", "4"},
                                    {"max_completion_length", "12"},
                                    {"max_prompt_length", "64"},
                                    {"learning_rate", "1e-3"},
                                    {"eval_steps", variant->num_iterations},
                                    {"save_steps", variant->num_iterations},
                                    {"log_completions", "true"},
                                    {"seed", "9"}};
    must(cohort_options_create(&options, COHORT_GRPO, &err), &err);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        set(options, pairs[i][0], pairs[i][1]);
    snprintf(path, sizeof path, "%s/%s", folder, out);
    set(options, "out", path);
    return options;
}

/* A number between 0 and 1 of row and completion, that differs within every group. */
static double score_of(const cohort_reward_row *row)
{
    unsigned sum = (unsigned)row->prompt_index * 7u;
    assert_int_equal(row->size, sizeof *row);
    for (int32_t t = 0; t < row->n_tokens; t++)
        sum = sum * 31u + (unsigned)row->tokens[t];
    return (double)(sum % 101u) / 100.0;
}

static cohort_status reward(void *context, const cohort_reward_row *const *rows, size_t n_rows, double *rewards,
                            cohort_error *err)
{
    (void)context, (void)err;
    for (size_t i = 0; i < n_rows; i++)
        rewards[i] = score_of(rows[i]);
    return COHORT_OK;
}

/* Rewards of tokens, some of them none; the place behind what there is, of another completion, is nobody's. */
static void score_tokens(const cohort_reward_row *row, double *to)
{
    for (int32_t t = 0; t < row->n_tokens; t++)
        to[t] = (row->tokens[t] + t) % 3 == 0 ? (double)NAN : (double)(row->tokens[t] % 11) / 10.0;
}

static cohort_status token_reward(void *context, const cohort_reward_row *const *rows, size_t n_rows,
                                  double *const *token_rewards, cohort_error *err)
{
    (void)context, (void)err;
    for (size_t i = 0; i < n_rows; i++) {
        for (int32_t t = 0; t < rows[i]->n_tokens; t++)
            assert_true(isnan(token_rewards[i][t]));
        score_tokens(rows[i], token_rewards[i]);
    }
    return COHORT_OK;
}

/* With a reward of ours, and evaluations by it. */
static cohort_options *rewarded_options(const struct variant *variant, const char *out)
{
    cohort_error err = {0};
    cohort_options *options = grpo_options(variant, out);
    set(options, "eval_data", held_out_path);
    must(variant->of_tokens ? cohort_options_add_token_reward(options, "scores", token_reward, NULL, &err)
                            : cohort_options_add_reward(options, "scores", reward, NULL, &err),
         &err);
    return options;
}

static void write_rows(const char *path, int n, const char *what)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < n; i++)
        fprintf(file, "{\"prompt\": \"%s %d, number %d\"}\n", what, i * i, i);
    fclose(file);
}

/* The run that all others are compared with. */
static struct told command_told[sizeof variants / sizeof variants[0]];

static int prepare(void **state)
{
    cohort_options *options = NULL;
    cohort_error err = {0};
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(model_dir, sizeof model_dir, "%s/nano", folder);
    snprintf(data_path, sizeof data_path, "%s/data.jsonl", folder);
    snprintf(held_out_path, sizeof held_out_path, "%s/held_out.jsonl", folder);
    write_rows(data_path, ROWS, "row");
    write_rows(held_out_path, 2, "held-out row");
    must(cohort_options_create(&options, COHORT_INIT, &err), &err);
    set(options, "preset", "nano");
    set(options, "tokenizer", "bytes");
    set(options, "seed", "3");
    set(options, "out", model_dir);
    must(cohort_run(options, NULL, &err), &err);
    cohort_options_destroy(options);
    for (size_t v = 0; v < n_variants(); v++) {
        char name[64], steps[16];
        cohort_observer observer = observe(&command_told[v]);
        snprintf(name, sizeof name, "%s-command", variants[v].name);
        snprintf(steps, sizeof steps, "%d", STEPS * atoi(variants[v].num_iterations));
        options = rewarded_options(&variants[v], name);
        set(options, "data", data_path);
        set(options, "steps", steps);
        must(cohort_run(options, &observer, &err), &err);
        cohort_options_destroy(options);
    }
    return 0;
}

static int clean_up(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* The rows of a step as cohort grpo takes them, with what keys their draws. */
struct step_rows {
    const char *rows[PER_STEP];
    int64_t indices[PER_STEP], epochs[PER_STEP];
    char texts[PER_STEP][64];
};

static cohort_batch batch_of(struct step_rows *rows, int step)
{
    struct dataset_order order;
    cohort_error err = {0};
    cohort_batch batch;
    must(dataset_order_create(&order, &(struct dataset_part){.n_rows = ROWS}, 1, SEED, true, &err), &err);
    for (int i = 0; i < PER_STEP; i++) {
        size_t row = 0;
        uint64_t draw = (uint64_t)(step * PER_STEP + i);
        must(dataset_order_at(&order, draw, &row, NULL, &err), &err);
        snprintf(rows->texts[i], sizeof rows->texts[i], "{\"prompt\": \"row %d, number %d\"}", (int)(row * row),
                 (int)row);
        rows->rows[i] = rows->texts[i];
        rows->indices[i] = (int64_t)row;
        rows->epochs[i] = (int64_t)(draw / ROWS);
    }
    dataset_order_free(&order);
    cohort_batch_init(&batch);
    batch.rows = rows->rows;
    batch.n_rows = PER_STEP;
    batch.indices = rows->indices;
    batch.epochs = rows->epochs;
    return batch;
}

static bool is_of_clock(const char *name)
{
    return strstr(name, "time") != NULL || strstr(name, "throughput/") != NULL;
}

/* Every line that the trainer told is the command's, but for what the clock says and the epoch, which only who knows the
 * number of rows can tell. */
static void compare_metrics(const struct told *command, const struct told *told)
{
    assert_int_equal(told->n, command->n);
    for (size_t l = 0; l < told->n; l++) {
        size_t k = 0, compared = 0;
        for (size_t i = 0; i < command->lines[l].n; i++) {
            const char *name = command->lines[l].names[i];
            if (strcmp(name, "epoch") == 0)
                continue;
            assert_true(k < told->lines[l].n);
            assert_string_equal(told->lines[l].names[k], name);
            if (!is_of_clock(name) &&
                memcmp(&told->lines[l].values[k], &command->lines[l].values[i], sizeof(double)) != 0)
                fail_msg("line %zu, %s: %.17g, the command has %.17g", l, name, told->lines[l].values[k],
                         command->lines[l].values[i]);
            compared += !is_of_clock(name);
            k++;
        }
        assert_int_equal(k, told->lines[l].n);
        assert_true(compared >= 5);
    }
}

/* metrics.jsonl has what the observer was told, in nine digits. */
static void compare_file(const char *out, const struct told *told)
{
    char path[128], line[8192];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", folder, out);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    for (; fgets(line, sizeof line, file) != NULL; n++) {
        json_t *json = json_loads(line, 0, NULL), *value = NULL;
        const char *name = NULL;
        size_t i = 0;
        assert_true(n < told->n);
        json_object_foreach(json, name, value)
        {
            const double ours = told->lines[n].values[i];
            assert_string_equal(told->lines[n].names[i++], name);
            if (json_is_null(value))
                assert_true(!isfinite(ours));
            else if (!(fabs(json_number_value(value) - ours) <= 1e-8 * fabs(ours)))
                fail_msg("line %zu, %s: %.17g, the file has %.17g", n, name, ours, json_number_value(value));
        }
        assert_int_equal(i, told->lines[n].n);
        json_decref(json);
    }
    fclose(file);
    assert_int_equal(n, told->n);
}

static void compare_files(const char *a, const char *b, const char *name)
{
    char path[200];
    struct text x = {0}, y = {0};
    cohort_error err = {0};
    snprintf(path, sizeof path, "%s/%s/%s", folder, a, name);
    must(file_read(path, 0, &x, &err), &err);
    snprintf(path, sizeof path, "%s/%s/%s", folder, b, name);
    must(file_read(path, 0, &y, &err), &err);
    assert_true(x.length > 0);
    assert_int_equal(x.length, y.length);
    if (memcmp(x.data, y.data, x.length) != 0)
        fail_msg("%s of %s and %s differ", name, a, b);
    text_free(&x);
    text_free(&y);
}

static void compare_runs(const struct variant *variant, const char *out)
{
    char command[64], name[100];
    snprintf(command, sizeof command, "%s-command", variant->name);
    for (int k = 1; k <= STEPS; k++) {
        const int step = k * atoi(variant->num_iterations);
        const char *const files[] = {"model.safetensors", "trainer/optimizer.safetensors", "trainer/state.json"};
        for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
            snprintf(name, sizeof name, "checkpoints/step-%d/%s", step, files[i]);
            compare_files(command, out, name);
        }
        snprintf(name, sizeof name, "eval-step-%d.jsonl", step);
        compare_files(command, out, name);
    }
    compare_files(command, out, "completions.jsonl");
    compare_files(command, out, "final/model.safetensors");
}

static cohort_trainer *open_trainer(cohort_options *options, struct told *told)
{
    cohort_trainer *trainer = NULL;
    cohort_error err = {0};
    cohort_observer observer = observe(told);
    must(cohort_trainer_open(&trainer, options, &observer, &err), &err);
    cohort_options_destroy(options); /* takes effect with the trainer */
    return told->trainer = trainer;
}

/* Asks model for sampled completions. */
static void sample(cohort_model *model, float temperature, cohort_completion *out, size_t n)
{
    cohort_request request;
    cohort_error err = {0};
    int64_t id = 0;
    size_t got = 0;
    bool found = true;
    int32_t *ids = NULL;
    cohort_request_init(&request);
    must(cohort_encode(model, "row 4, number 2", &ids, &request.n_prompt, &err), &err);
    request.prompt = ids;
    request.n = (int32_t)n;
    request.max_tokens = LENGTH;
    request.temperature = temperature;
    request.repetition_penalty = 1.1f;
    request.seed = 5;
    must(cohort_submit(model, &request, &id, &err), &err);
    cohort_free(ids);
    for (bool busy = true; busy;)
        must(cohort_step(model, &busy, &err), &err);
    while (found) {
        cohort_completion completion;
        cohort_completion_init(&completion);
        must(cohort_poll(model, &completion, &found, &err), &err);
        if (!found)
            break;
        assert_int_equal(completion.request, id);
        out[completion.index] = completion;
        got++;
    }
    assert_int_equal(got, n);
}

static void keep_output(void *context, const char *bytes, size_t length)
{
    must(text_append(context, bytes, length, NULL), &(cohort_error){.message = "memory"});
}

/* cohort generate from a checkpoint: the tokens of its one completion. */
static void compare_with_command(const char *checkpoint, const cohort_completion *completion)
{
    struct text text = {0};
    cohort_options *options = NULL;
    cohort_error err = {0};
    cohort_observer observer;
    cohort_observer_init(&observer);
    observer.context = &text;
    observer.output = keep_output;
    must(cohort_options_create(&options, COHORT_GENERATE, &err), &err);
    set(options, "model", checkpoint);
    set(options, "device", device());
    set(options, "prompt", "row 4, number 2");
    set(options, "chat", "false");
    set(options, "temperature", "0");
    set(options, "repetition_penalty", "1.1");
    set(options, "max_tokens", "12");
    set(options, "format", "jsonl");
    must(cohort_run(options, &observer, &err), &err);
    json_t *line = json_loads(text.data, JSON_ALLOW_NUL, NULL);
    const json_t *tokens = json_object_get(line, "tokens");
    assert_int_equal(json_array_size(tokens), completion->n_tokens);
    for (size_t i = 0; i < completion->n_tokens; i++)
        assert_int_equal(json_integer_value(json_array_get(tokens, i)), completion->tokens[i]);
    json_decref(line);
    text_free(&text);
    cohort_options_destroy(options);
}

/* The trainer's model generates what a model opened from its checkpoint does. */
static void compare_generation(cohort_trainer *trainer, const char *out)
{
    enum { N = 3 };
    cohort_completion ours[N], theirs[N], likely;
    cohort_options *options = NULL;
    cohort_model *model = NULL;
    cohort_error err = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/%s/checkpoints/step-%d", folder, out, (int)cohort_trainer_steps(trainer));
    must(cohort_options_create(&options, COHORT_GENERATE, &err), &err);
    set(options, "model", path);
    set(options, "device", device());
    must(cohort_model_open(&model, options, 64, &err), &err);
    cohort_options_destroy(options);
    sample(cohort_trainer_model(trainer), 1.0f, ours, N);
    sample(model, 1.0f, theirs, N);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(ours[i].n_tokens, theirs[i].n_tokens);
        assert_memory_equal(ours[i].tokens, theirs[i].tokens, ours[i].n_tokens * sizeof(int32_t));
        assert_memory_equal(ours[i].logprobs, theirs[i].logprobs, ours[i].n_tokens * sizeof(float));
        cohort_completion_free(&ours[i]);
        cohort_completion_free(&theirs[i]);
    }
    cohort_model_close(model);
    sample(cohort_trainer_model(trainer), 0.0f, &likely, 1);
    compare_with_command(path, &likely);
    cohort_completion_free(&likely);
}

static void test_steps(void **state)
{
    (void)state;
    for (size_t v = 0; v < n_variants(); v++) {
        struct told told = {0};
        struct step_rows rows;
        cohort_error err = {0};
        char out[64];
        snprintf(out, sizeof out, "%s-steps", variants[v].name);
        cohort_options *options = rewarded_options(&variants[v], out);
        cohort_trainer *trainer = open_trainer(options, &told);
        for (int k = 0; k < STEPS; k++) {
            cohort_batch batch = batch_of(&rows, k);
            must(cohort_trainer_step(trainer, &batch, &err), &err);
            assert_int_equal(cohort_trainer_steps(trainer), (k + 1) * atoi(variants[v].num_iterations));
            compare_generation(trainer, out);
        }
        must(cohort_trainer_save(trainer, &err), &err); /* is there already */
        must(cohort_trainer_save_final(trainer, &err), &err);
        cohort_trainer_close(trainer);
        assert_int_equal((int)told.n,
                         1 + STEPS * atoi(variants[v].num_iterations)); /* and the evaluation before them */
        compare_metrics(&command_told[v], &told);
        compare_file(out, &told);
        compare_runs(&variants[v], out);
    }
}

/* By scores of the caller's, with a rollout that is forgotten, generation between the halves, and a resume. */
static void scores_of(const struct variant *variant)
{
    const int updates = atoi(variant->num_iterations);
    struct told told = {0};
    struct step_rows rows;
    cohort_error err = {0};
    cohort_trainer *trainer = NULL;
    for (int k = 0; k < STEPS; k++) {
        cohort_batch batch = batch_of(&rows, k);
        const cohort_reward_row *const *completions = NULL;
        double scores[PER_STEP * GROUP], tokens[PER_STEP * GROUP][12];
        const double *of_tokens[PER_STEP * GROUP];
        size_t n = 0;
        if (trainer == NULL) { /* in the beginning, and for the last step again */
            char out[64];
            snprintf(out, sizeof out, "%s-scores", variant->name);
            cohort_options *options = grpo_options(variant, out);
            if (k > 0)
                set(options, "resume", "latest");
            trainer = open_trainer(options, &told);
            assert_int_equal(cohort_trainer_steps(trainer), k * updates);
        }
        must(cohort_trainer_rollout(trainer, &batch, &completions, &n, &err), &err);
        must(cohort_trainer_rollout(trainer, &batch, &completions, &n, &err), &err);
        assert_int_equal(n, PER_STEP * GROUP);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(completions[i]->prompt_index, rows.indices[i / GROUP]);
            assert_int_equal(completions[i]->completion_index, i % GROUP);
            assert_non_null(strstr(completions[i]->row_json, "number"));
            scores[i] = score_of(completions[i]);
            score_tokens(completions[i], tokens[i]);
            of_tokens[i] = tokens[i];
        }
        cohort_completion between;
        sample(cohort_trainer_model(trainer), 1.0f, &between, 1);
        cohort_completion_free(&between);
        must(variant->of_tokens ? cohort_trainer_update_tokens(trainer, of_tokens, n, &err)
                                : cohort_trainer_update(trainer, scores, n, &err),
             &err);
        if (k == 1) {
            cohort_trainer_close(trainer);
            trainer = NULL;
        }
    }
    must(cohort_trainer_save_final(trainer, &err), &err);
    cohort_trainer_close(trainer);
    char command[64], out[64], checkpoint[64];
    snprintf(command, sizeof command, "%s-command", variant->name);
    snprintf(out, sizeof out, "%s-scores", variant->name);
    snprintf(checkpoint, sizeof checkpoint, "checkpoints/step-%d/model.safetensors", STEPS * updates);
    compare_files(command, out, checkpoint);
    snprintf(checkpoint, sizeof checkpoint, "checkpoints/step-%d/trainer/optimizer.safetensors", STEPS * updates);
    compare_files(command, out, checkpoint);
    compare_files(command, out, "completions.jsonl");
}

static void test_scores(void **state)
{
    (void)state;
    for (size_t v = 0; v < n_variants(); v += 2)
        scores_of(&variants[v]);
}

/* What a completion says reaches a caller's reward taken apart, where the prompt is a conversation, and the run's record
 * has it. */
static cohort_status check_parsed(void *context, const cohort_reward_row *const *rows, size_t n_rows, double *rewards,
                                  cohort_error *err)
{
    static const char WANTED[] = "{\"thinking\":\"<think><think>\",\"content\":\"\",\"tool_calls\":[]}";
    (void)err;
    for (size_t i = 0; i < n_rows; i++) {
        const bool conversation = strstr(rows[i]->row_json, "role") != NULL;
        rewards[i] = 1.0;
        ++*(int *)context;
        if (conversation) {
            assert_string_equal(rows[i]->parsed_json, WANTED);
            assert_int_equal(rows[i]->parsed_length, sizeof WANTED - 1);
        } else {
            assert_null(rows[i]->parsed_json);
        }
    }
    return COHORT_OK;
}

static bool check_stored(void *context, const cohort_stored_completion *completion)
{
    ++*(int *)context;
    assert_null(completion->tool_calls);
    if (strstr(completion->prompt, "<|im_start|>") == NULL) {
        assert_null(completion->thinking);
        return true;
    }
    assert_string_equal(completion->thinking, "<think><think>");
    assert_int_equal(completion->thinking_length, 14);
    return true;
}

static void test_parsed(void **state)
{
    (void)state;
    static const char *const rows[] = {"{\"prompt\": \"text\"}",
                                       "{\"prompt\": [{\"role\": \"user\", \"content\": \"q\"}]}"};
    struct told told = {0};
    cohort_error err = {0};
    cohort_store *store = NULL;
    char path[128];
    int asked = 0, stored = 0;
    cohort_options *options = grpo_options(&variants[0], "parsed");
    set(options, "logit_bias", "259:1000"); /* <think> */
    set(options, "max_completion_length", "3");
    must(cohort_options_add_reward(options, "parsed", check_parsed, &asked, &err), &err);
    cohort_trainer *trainer = open_trainer(options, &told);
    cohort_batch batch;
    cohort_batch_init(&batch);
    batch.rows = rows;
    batch.n_rows = 2;
    must(cohort_trainer_step(trainer, &batch, &err), &err);
    cohort_trainer_close(trainer);
    assert_int_equal(asked, PER_STEP * GROUP);
    snprintf(path, sizeof path, "%s/parsed", folder);
    must(cohort_store_open(&store, path, &err), &err);
    must(cohort_store_completions(store, NULL, check_stored, &stored, &err), &err);
    cohort_store_close(store);
    assert_int_equal(stored, PER_STEP * GROUP);
}

/* A step that the observer stops, at each place where it is asked, and that is then made again. */
static void test_stopped_steps(void **state)
{
    (void)state;
    const struct variant *variant = &variants[0];
    struct told told = {0};
    struct step_rows rows;
    cohort_error err = {0};
    cohort_options *options = rewarded_options(variant, "stopped");
    cohort_trainer *trainer = open_trainer(options, &told);
    int stopped = 0;
    for (int k = 0; k < STEPS; k++) {
        cohort_batch batch = batch_of(&rows, k);
        for (int at = 1;; at += 3) {
            told.progress = 0;
            told.stop_at = at;
            cohort_status status = cohort_trainer_step(trainer, &batch, &err);
            if (status == COHORT_OK)
                break;
            assert_int_equal(status, COHORT_ERR_CANCELLED);
            if (cohort_trainer_steps(trainer) > k) { /* in the evaluation behind the update */
                must(cohort_trainer_save(trainer, &err), &err);
                break;
            }
            stopped++;
            told.stop_at = 0;
            cohort_completion between;
            sample(cohort_trainer_model(trainer), 1.0f, &between, 1);
            cohort_completion_free(&between);
        }
    }
    assert_true(stopped >= 6);
    told.stop_at = 0;
    must(cohort_trainer_save_final(trainer, &err), &err);
    cohort_trainer_close(trainer);
    compare_files("plain-command", "stopped", "checkpoints/step-3/model.safetensors");
    compare_files("plain-command", "stopped", "checkpoints/step-3/trainer/state.json");
    compare_files("plain-command", "stopped", "final/model.safetensors");
}

/* A batch whose second update is stopped stands between two checkpoints: nothing goes on from there but a resume. */
static void test_half_done(void **state)
{
    (void)state;
    struct told told = {.stop_update = 4}; /* one micro-batch an update, two updates a step */
    struct step_rows rows;
    cohort_error err = {0};
    cohort_trainer *trainer = open_trainer(rewarded_options(&variants[1], "half"), &told);
    cohort_batch batch = batch_of(&rows, 0);
    must(cohort_trainer_step(trainer, &batch, &err), &err);
    batch = batch_of(&rows, 1);
    assert_int_equal(cohort_trainer_step(trainer, &batch, &err), COHORT_ERR_CANCELLED);
    assert_int_equal(cohort_trainer_steps(trainer), 3); /* the batch's first update was done */
    assert_int_equal(cohort_trainer_step(trainer, &batch, &err), COHORT_ERR_STATE);
    assert_non_null(strstr(err.message, "resume"));
    assert_int_equal(cohort_trainer_update(trainer, NULL, 0, &err), COHORT_ERR_STATE);
    assert_int_equal(cohort_trainer_save(trainer, &err), COHORT_ERR_STATE);
    cohort_trainer_close(trainer);
    cohort_options *options = rewarded_options(&variants[1], "half");
    set(options, "resume", "latest");
    told.stop_update = 0;
    trainer = open_trainer(options, &told);
    for (int k = 1; k < STEPS; k++) {
        batch = batch_of(&rows, k);
        must(cohort_trainer_step(trainer, &batch, &err), &err);
    }
    must(cohort_trainer_save_final(trainer, &err), &err);
    cohort_trainer_close(trainer);
    compare_runs(&variants[1], "half");
}

int main(int argc, char **argv)
{
    test_arguments(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),         cmocka_unit_test(test_scores),    cmocka_unit_test(test_parsed),
        cmocka_unit_test(test_stopped_steps), cmocka_unit_test(test_half_done),
    };
    const struct CMUnitTest few[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_parsed),
    };
    return test_options.small ? cmocka_run_group_tests(few, prepare, clean_up)
                              : cmocka_run_group_tests(tests, prepare, clean_up);
}

#include "recipe/run_identity.h"

#include "reward/reward.h"

#include <stdio.h>
#include <string.h>

const char run_origin_name[] = "trainer/origin.json";

cohort_status run_identity_is_fork(const char *dir, bool *forked, cohort_error *err)
{
    char *path = NULL;
    TRY(file_join(&path, dir, run_origin_name, err));
    cohort_status status = file_exists(path, forked, err);
    mem_free(path);
    return status;
}

/* ---- gathering ---- */

static cohort_status add_file(struct run_inputs *inputs, enum input_kind kind, const char *dir, const char *name,
                              cohort_error *err)
{
    char *path = NULL;
    TRY(file_join(&path, dir, name, err));
    const cohort_status status = run_inputs_add_file(inputs, kind, path, err);
    mem_free(path);
    return status;
}

cohort_status run_identity_add_model(struct run_inputs *inputs, enum input_kind kind, const char *dir,
                                     const struct weight_files *files, cohort_error *err)
{
    TRY(add_file(inputs, kind, dir, "config.json", err));
    for (size_t i = 0; i < files->count; i++)
        TRY(run_inputs_add(inputs, kind, files->files[i].path, files->files[i].sha256, err));
    return COHORT_OK;
}

cohort_status run_identity_add_adapter(struct run_inputs *inputs, enum input_kind kind, const char *dir,
                                       cohort_error *err)
{
    static const char *const names[] = {"adapter_config.json", "adapter_model.safetensors", "adapters.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = NULL;
        bool there = false;
        TRY(file_join(&path, dir, names[i], err));
        cohort_status status = file_exists(path, &there, err);
        if (status == COHORT_OK && there)
            status = run_inputs_add_file(inputs, kind, path, err);
        mem_free(path);
        TRY(status);
    }
    return COHORT_OK;
}

cohort_status run_identity_add_tokenizer(struct run_inputs *inputs, const struct session *session, cohort_error *err)
{
    size_t length = 0, tools_length = 0;
    const char *template_text = chat_template_text(session->chat, false, &length),
               *tools_text = chat_template_text(session->chat, true, &tools_length);
    char *path = NULL;
    TRY(file_join(&path, session->adapter.tokenizer, "tokenizer.json", err));
    cohort_status status = run_inputs_add_file(inputs, INPUT_TOKENIZER, path, err);
    mem_free(path);
    TRY(status);
    inputs->read[INPUT_TEMPLATE] = true;
    if (template_text != NULL)
        TRY(run_inputs_add_text(inputs, INPUT_TEMPLATE, "chat template", template_text, length, err));
    return tools_text == NULL
               ? COHORT_OK
               : run_inputs_add_text(inputs, INPUT_TEMPLATE, "chat template for tools", tools_text, tools_length, err);
}

cohort_status run_identity_add_reward_model(struct run_inputs *inputs, const char *dir,
                                            const struct chat_template *chat, const struct weight_files *files,
                                            cohort_error *err)
{
    size_t length = 0;
    const char *text = chat_template_text(chat, false, &length);
    TRY(run_identity_add_model(inputs, INPUT_REWARD, dir, files, err));
    TRY(add_file(inputs, INPUT_REWARD, dir, "tokenizer.json", err));
    return text == NULL
               ? COHORT_OK
               : run_inputs_add_text(inputs, INPUT_REWARD, "chat template of a reward model", text, length, err);
}

/* FILE of FILE:FUNCTION. */
static cohort_status add_python_file(struct run_inputs *inputs, const char *spec, cohort_error *err)
{
    const char *end = strrchr(spec, ':');
    char *path = NULL;
    TRY(mem_strdup(&path, spec, end == NULL ? strlen(spec) : (size_t)(end - spec), err));
    cohort_status status = run_inputs_add_file(inputs, INPUT_REWARD, path, err);
    mem_free(path);
    return status;
}

/* Of a judge; a text is among the options. */
static cohort_status add_rubric(struct run_inputs *inputs, const char *rubric, cohort_error *err)
{
    bool is_file = false;
    if (rubric == NULL)
        return COHORT_OK;
    TRY(reward_judge_rubric_is_file(rubric, &is_file, err));
    return is_file ? run_inputs_add_file(inputs, INPUT_REWARD, rubric, err) : COHORT_OK;
}

cohort_status run_identity_add_rewards(struct run_inputs *inputs, const struct options *options, cohort_error *err)
{
    const char *schema = options_string(options, OPTION_REWARD_SCHEMA);
    const char *environment = options_string(options, OPTION_ENVIRONMENT);
    inputs->read[INPUT_REWARD] = true;
    const char *tools = options_string(options, OPTION_TOOLS);
    if (environment != NULL && strncmp(environment, "exec:", 5) == 0)
        TRY(run_inputs_add_command(inputs, INPUT_REWARD, environment + 5, err));
    else if (environment != NULL && strncmp(environment, "python:", 7) == 0)
        TRY(add_python_file(inputs, environment + 7, err));
    if (tools != NULL && strncmp(tools, "python:", 7) == 0)
        TRY(add_python_file(inputs, tools + 7, err));
    for (size_t i = 0; i < options_list_count(options, OPTION_REWARD); i++) {
        const char *spec = options_list_item(options, OPTION_REWARD, i);
        if (strncmp(spec, "exec:", 5) == 0)
            TRY(run_inputs_add_command(inputs, INPUT_REWARD, spec + 5, err));
        else if (strncmp(spec, "python:", 7) == 0)
            TRY(add_python_file(inputs, spec + 7, err));
        else if (strncmp(spec, "judge:", 6) == 0)
            TRY(add_rubric(inputs, options_string(options, OPTION_JUDGE_RUBRIC), err));
        else if (strcmp(spec, "json_schema") == 0 && schema != NULL && !reward_schema_is_text(schema))
            TRY(run_inputs_add_file(inputs, INPUT_REWARD, schema, err));
    }
    return COHORT_OK;
}

void run_identity_set_schedule(struct run_inputs *inputs, const struct options *options,
                               const struct schedule *schedule)
{
    inputs->schedule[0] = '\0';
    inputs->steps = 0;
    if (!schedule_needs_total(schedule, options_float(options, OPTION_WARMUP_STEPS)))
        return;
    snprintf(inputs->schedule, sizeof inputs->schedule, "%s", options_choice_word(options, OPTION_LR_SCHEDULER_TYPE));
    inputs->steps = schedule->total_steps;
}

/* ---- options ---- */

/* The option that a line of a configuration sets; NULL if this version has none of that name. */
static const struct option_spec *option_of(const char *line)
{
    return options_row(FOR_TRAIN, line, strcspn(line, ":\n"));
}

static bool is_free(const char *line)
{
    const struct option_spec *option = option_of(line);
    return option != NULL && (option->resume == RESUME_FREE || option->resume == RESUME_PLACE);
}

cohort_status run_identity_options(const char *yaml, struct text *out, cohort_error *err)
{
    TRY(text_append(out, "", 0, err));
    bool keep = true;
    for (const char *line = yaml; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        length += line[length] == '\n';
        if (line[0] != ' ' && line[0] != '-') /* the items of a list belong to their key */
            keep = line[0] != '#' && !is_free(line);
        if (keep)
            TRY(text_append(out, line, length, err));
        line += length;
    }
    return COHORT_OK;
}

static cohort_status our_options(const struct options *options, struct text *out, cohort_error *err)
{
    struct text yaml = {0};
    cohort_status status = options_write_yaml(options, &yaml, err);
    if (status == COHORT_OK)
        status = run_identity_options(yaml.data == NULL ? "" : yaml.data, out, err);
    text_free(&yaml);
    return status;
}

/* The line of text whose key is that of line, or NULL. */
static const char *same_key(const char *text, const char *line)
{
    size_t key = strcspn(line, ":\n");
    for (; *text != '\0'; text += strcspn(text, "\n"), text += *text == '\n')
        if (strcspn(text, ":\n") == key && strncmp(text, line, key) == 0)
            return text;
    return NULL;
}

static bool same_line(const char *a, const char *b)
{
    size_t n = strcspn(a, "\n");
    return b != NULL && strcspn(b, "\n") == n && strncmp(a, b, n) == 0;
}

/* What is being compared. */
struct check {
    struct training *t;
    bool hashed; /* the checkpoint has an inputs.json */
    bool accepted[INPUT_KINDS];
    struct text refused, words; /* what differs, and the words that would accept it */
};

static cohort_status tell(struct check *check, enum input_kind kind, const char *what, cohort_error *err)
{
    struct training *t = check->t;
    if (check->accepted[kind] || t->forked) {
        observer_message(t->observer, "accepted a change of %s: %s", input_kind_name(kind), what);
        return run_inputs_note_change(&t->inputs, t->state.step, kind, what, err);
    }
    /* A kind may differ in several ways; its word is listed once. */
    TRY(text_printf(&check->refused, err, "%s%s: %s", check->refused.length > 0 ? "; " : "", input_kind_name(kind),
                    what));
    const char *word = input_kind_name(kind);
    if (check->words.length == 0)
        return text_printf(&check->words, err, "%s", word);
    const char *last = strrchr(check->words.data, ',');
    last = last == NULL ? check->words.data : last + 1;
    return strcmp(last, word) == 0 ? COHORT_OK : text_printf(&check->words, err, ",%s", word);
}

/* One option that differs; either line may be NULL. */
static cohort_status option_differs(struct check *check, const char *theirs, const char *ours, cohort_error *err)
{
    const char *line = theirs != NULL ? theirs : ours;
    struct text what = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(text_printf(&what, err, "%s was made with%s '%.*s', this run says %s%.*s%s", check->t->resume_dir,
                         theirs != NULL ? "" : "out", (int)strcspn(line, theirs != NULL ? "\n" : ":\n"), line,
                         ours != NULL ? "'" : "nothing of it", ours != NULL ? (int)strcspn(ours, "\n") : 0,
                         ours != NULL ? ours : "", ours != NULL ? "'" : ""));
    const struct option_spec *option = option_of(line);
    const enum option_resume resume = option == NULL ? RESUME_KEPT : option->resume;
    if (resume == RESUME_HASHED && check->hashed)
        goto cleanup;
    if (resume == RESUME_HASHED || resume == RESUME_ACCEPTED)
        status = tell(check, option->input, what.data, err);
    else if (check->t->forked)
        observer_message(check->t->observer, "the fork differs: %s", what.data);
    else
        status = error_set(err, COHORT_ERR_STATE,
                           "%s: a resumed run must keep its options (only length, saving, evaluation "
                           "and machine may change)",
                           what.data);
cleanup:
    text_free(&what);
    return status;
}

/* An option that the checkpoint does not mention is one that its version did not know: with its default it is
 * unchanged. One default is not what earlier versions did: their KL in the loss was not corrected. */
static cohort_status defaults(const struct training *t, struct text *out, cohort_error *err)
{
    struct options *options = NULL;
    TRY(options_create(&options, (enum option_command)options_command(t->command), err));
    cohort_status status = COHORT_OK;
    if (strcmp(t->command, "grpo") == 0 && options_float(t->options, OPTION_BETA) != 0.0)
        status = options_set(options, "use_bias_correction_kl", "false", "an earlier version", err);
    if (status == COHORT_OK)
        status = options_set(options, "gradient_lanes", "1", "an earlier version", err);
    if (status == COHORT_OK)
        status = our_options(options, out, err);
    options_destroy(options);
    return status;
}

static cohort_status check_options(struct check *check, cohort_error *err)
{
    char *path = NULL;
    struct text theirs = {0}, ours = {0}, usual = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&path, check->t->resume_dir, "trainer/options.yaml", err));
    TRY_GOTO(file_read(path, 1 << 20, &theirs, err));
    TRY_GOTO(our_options(check->t->options, &ours, err));
    TRY_GOTO(defaults(check->t, &usual, err));
    for (const char *line = theirs.data; *line != '\0';) {
        const char *other = same_key(ours.data, line);
        if (!same_line(line, other))
            TRY_GOTO(option_differs(check, line, other, err));
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    for (const char *line = ours.data; *line != '\0';) {
        if (same_key(theirs.data, line) == NULL && !same_line(line, same_key(usual.data, line)))
            TRY_GOTO(option_differs(check, NULL, line, err));
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
cleanup:
    mem_free(path);
    text_free(&theirs);
    text_free(&ours);
    text_free(&usual);
    return status;
}

/* ---- inputs ---- */

/* A resumed run reads --model only for its reference. If that is another folder than the one the run began with, it is
 * read for its hash: a model that was moved is the same model. */
static cohort_status hash_moved_model(struct training *t, const struct run_inputs *before, cohort_error *err)
{
    const char *model = options_string(t->options, OPTION_MODEL);
    struct weight_files files = {0};
    char *config = NULL;
    bool moved = before->read[INPUT_MODEL] && model != NULL && !t->inputs.read[INPUT_MODEL];
    cohort_status status = COHORT_OK;
    if (!moved)
        return COHORT_OK;
    TRY(file_join(&config, model, "config.json", err));
    for (size_t i = 0; i < before->count; i++)
        moved = moved && (before->items[i].kind != INPUT_MODEL || strcmp(before->items[i].path, config) != 0);
    mem_free(config);
    if (!moved)
        return COHORT_OK;
    TRY(checkpoint_hash(model, &files, err));
    status = run_identity_add_model(&t->inputs, INPUT_MODEL, model, &files, err);
    weight_files_free(&files);
    return status;
}

static cohort_status check_inputs(struct check *check, const char *path, cohort_error *err)
{
    struct training *t = check->t;
    struct run_inputs before = {0};
    struct text differs[INPUT_KINDS] = {{0}};
    cohort_status status = COHORT_OK;
    TRY_GOTO(run_inputs_read(&before, path, err));
    TRY_GOTO(hash_moved_model(t, &before, err));
    TRY_GOTO(run_inputs_compare(&before, &t->inputs, differs, err));
    TRY_GOTO(run_inputs_inherit(&t->inputs, &before, err));
    for (int kind = 0; kind < INPUT_KINDS; kind++)
        if (differs[kind].length > 0)
            TRY_GOTO(tell(check, (enum input_kind)kind, differs[kind].data, err));
cleanup:
    for (int kind = 0; kind < INPUT_KINDS; kind++)
        text_free(&differs[kind]);
    run_inputs_free(&before);
    return status;
}

cohort_status run_identity_check(struct training *t, cohort_error *err)
{
    struct check check = {.t = t};
    char *path = NULL;
    cohort_status status = COHORT_OK;
    for (size_t i = 0; i < options_list_count(t->options, OPTION_ACCEPT_CHANGED); i++)
        check.accepted[options_list_choice(t->options, OPTION_ACCEPT_CHANGED, i)] = true;
    TRY_GOTO(file_join(&path, t->resume_dir, "trainer/inputs.json", err));
    TRY_GOTO(file_exists(path, &check.hashed, err));
    if (check.hashed)
        TRY_GOTO(check_inputs(&check, path, err));
    else
        observer_message(t->observer,
                         "note: %s was written by a version that kept no hashes of what a run "
                         "reads: whether data, model, rewards and schedule are still the same "
                         "cannot be told; checkpoints from here on have them",
                         t->resume_dir);
    TRY_GOTO(check_options(&check, err));
    if (check.refused.length > 0)
        status = error_set(err, COHORT_ERR_STATE,
                           "%s: this run is not the one that was stopped: %.800s. Put back what "
                           "it was, or go on knowingly with --accept-changed %s",
                           t->resume_dir, check.refused.data, check.words.data);
cleanup:
    mem_free(path);
    text_free(&check.refused);
    text_free(&check.words);
    return status;
}

cohort_status run_identity_write(const struct training *t, const char *dir, cohort_error *err)
{
    struct text inputs = {0}, options = {0};
    char *path = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(run_inputs_write(&t->inputs, &inputs, err));
    TRY_GOTO(file_join(&path, dir, "trainer/inputs.json", err));
    TRY_GOTO(file_write_atomic(path, inputs.data, inputs.length, err));
    mem_free(path);
    path = NULL;
    TRY_GOTO(our_options(t->options, &options, err));
    TRY_GOTO(file_join(&path, dir, "trainer/options.yaml", err));
    TRY_GOTO(file_write_atomic(path, options.data, options.length, err));
cleanup:
    text_free(&inputs);
    text_free(&options);
    mem_free(path);
    return status;
}

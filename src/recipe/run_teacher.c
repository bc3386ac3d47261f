#include "recipe/run_teacher.h"

#include "recipe/run_identity.h"

#include <string.h>

/* Both must mean the same by an id. A folder without a tokenizer says nothing about it. */
static cohort_status compare_tokens(const struct run_teacher *teacher, const struct training *t, cohort_error *err)
{
    const struct tokenizer *ours = t->session.tokenizer;
    struct tokenizer *theirs = NULL;
    char *path = NULL;
    bool there = false;
    cohort_status status = COHORT_OK;
    TRY_GOTO(file_join(&path, teacher->dir, "tokenizer.json", err));
    TRY_GOTO(file_exists(path, &there, err));
    if (!there) {
        observer_message(t->observer,
                         "note: %s has no tokenizer.json: that its tokens are those of the model is taken for granted",
                         teacher->dir);
        goto cleanup;
    }
    TRY_GOTO(tokenizer_load(&theirs, teacher->dir, err));
    const int32_t a = tokenizer_size(ours), b = tokenizer_size(theirs);
    for (int32_t id = 0; id < a && id < b; id++) {
        size_t n = 0, m = 0;
        const char *x = tokenizer_bytes(ours, id, &n), *y = tokenizer_bytes(theirs, id, &m);
        if (x == NULL || y == NULL || (n == m && memcmp(x, y, n) == 0)) /* of which one has none: it does not occur */
            continue;
        status = error_set(err, COHORT_ERR_ARGUMENT,
                           "%s: token %d is '%.*s', and '%.*s' in the model's vocabulary (%s); distributions can be "
                           "compared only over one vocabulary: use a teacher of the same family",
                           path, (int)id, (int)(m < 40 ? m : 40), y, (int)(n < 40 ? n : 40), x,
                           t->session.adapter.tokenizer);
        goto cleanup;
    }
cleanup:
    tokenizer_destroy(theirs);
    mem_free(path);
    return status;
}

cohort_status run_teacher_open(struct run_teacher *teacher, const struct training *t, cohort_error *err)
{
    const struct model *policy = t->session.model;
    struct model_config config = {0};
    struct text notes = {0};
    enum dtype type = DTYPE_F32;
    teacher->dir = options_string(t->options, OPTION_TEACHER_MODEL_NAME_OR_PATH);
    if (teacher->dir == NULL)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "no teacher given: pass --teacher-model DIR, the folder of a model with the same vocabulary");
    TRY(model_config_load(&config, NULL, teacher->dir, err));
    if (config.n_labels > 0)
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: a sequence classifier of %d labels gives no probabilities of tokens and cannot teach",
                         teacher->dir, (int)config.n_labels);
    if (config.vocab_size != policy->config.vocab_size)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "%s/config.json: vocab_size is %d, and %d in %s; distributions can be compared only over one "
                         "vocabulary: use a teacher of the same family and vocab_size",
                         teacher->dir, (int)config.vocab_size, (int)policy->config.vocab_size, t->session.dir);
    TRY(compare_tokens(teacher, t, err));
    cohort_status status = session_type(t->options, &config, teacher->dir, false, &type, NULL, &notes, err);
    if (status == COHORT_OK)
        observer_notes(t->observer, &notes);
    text_free(&notes);
    TRY(status);
    TRY(model_open(&teacher->model, policy->backend, &config, type, 0, err));
    param_set_offload(&teacher->model->base, session_offload_reference(t->options));
    teacher->pass.model = teacher->model;
    teacher->pass.beta = (float)options_float(t->options, OPTION_BETA);
    return COHORT_OK;
}

cohort_status run_teacher_check_length(const struct run_teacher *teacher, int32_t longest, cohort_error *err)
{
    if (longest <= teacher->model->max_context)
        return COHORT_OK;
    return error_set(err, COHORT_ERR_ARGUMENT,
                     "%s: the teacher's context is %d%s, and a prompt with its completion may take %d tokens; lower "
                     "--max-completion-length or --max-prompt-length",
                     teacher->dir, (int)teacher->model->max_context, rope_config_limit(&teacher->model->config.rope),
                     (int)longest);
}

cohort_status run_teacher_read(struct run_teacher *teacher, struct training *t, cohort_error *err)
{
    struct weight_files files = {0};
    cohort_status status = model_read(teacher->model, teacher->dir, &files, err);
    if (status == COHORT_OK)
        status = run_identity_add_model(&t->inputs, INPUT_TEACHER, teacher->dir, &files, err);
    weight_files_free(&files);
    return status;
}

void run_teacher_close(struct run_teacher *teacher)
{
    teacher_free(&teacher->pass);
    model_destroy(teacher->model);
    memset(teacher, 0, sizeof *teacher);
}

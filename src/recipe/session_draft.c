#include "recipe/session_draft.h"

#include "recipe/session.h"
#include "recipe/speculative_list.h"

#include <string.h>

struct session_draft {
    struct backend *backend; /* the session's */
    struct model *model;
    struct engine *engine;
    struct arena arena;
    bool kv8; /* the session's */
};

#define ID(id, word) SPECULATIVE_##id,
enum { SPECULATIVE_LIST(ID) };
#undef ID

/* The first token that the two have otherwise. */
static cohort_status compare(const char *dir, const char *of, const struct tokenizer *theirs,
                             const struct tokenizer *ours, cohort_error *err)
{
    static const char hint[] = "a draft model needs the vocabulary of the model, as smaller ones of its family have it";
    const int32_t n = tokenizer_size(ours);
    if (tokenizer_size(theirs) != n)
        return error_set(err, COHORT_ERR_FORMAT, "%s: a vocabulary of %d tokens, that of %s has %d; %s", dir,
                         (int)tokenizer_size(theirs), of, (int)n, hint);
    for (int32_t id = 0; id < n; id++) {
        size_t length[2] = {0, 0};
        const char *text[2] = {tokenizer_text(theirs, id, &length[0]), tokenizer_text(ours, id, &length[1])};
        if ((text[0] == NULL) != (text[1] == NULL) || length[0] != length[1] ||
            (text[0] != NULL && memcmp(text[0], text[1], length[0]) != 0))
            return error_set(err, COHORT_ERR_FORMAT, "%s: token %d is '%.*s', in %s '%.*s'; %s", dir, (int)id,
                             (int)length[0], text[0] != NULL ? text[0] : "", of, (int)length[1],
                             text[1] != NULL ? text[1] : "", hint);
    }
    return COHORT_OK;
}

static cohort_status check_vocabulary(const struct session *session, const char *dir, cohort_error *err)
{
    struct tokenizer *tokenizer = NULL;
    cohort_status status = COHORT_OK;
    TRY(tokenizer_load(&tokenizer, dir, err));
    status = compare(dir, session->dir, tokenizer, session->tokenizer, err);
    tokenizer_destroy(tokenizer);
    return status;
}

static cohort_status read_model(struct session_draft *draft, const struct session *session,
                                const struct options *options, const char *dir, cohort_error *err)
{
    struct model_config config = {0};
    struct checkpoint_types types = {0};
    struct text notes = {0};
    enum dtype type = DTYPE_F32;
    cohort_status status = COHORT_OK;
    TRY(model_config_load(&config, NULL, dir, err));
    if (config.n_labels > 0)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: a sequence classifier generates nothing to draft", dir);
    TRY(check_vocabulary(session, dir, err));
    TRY_GOTO(session_type(options, &config, dir, false, &type, &types, &notes, err));
    TRY_GOTO(model_open(&draft->model, session->backend, &config, type, 0, err));
    session_store_f16(draft->model, &types, NULL);
    model_pack_alone(draft->model);
    if (model_weight_bytes(draft->model) > session_room(session, options)) {
        status =
            error_set(err, COHORT_ERR_MEMORY, "%s: the weights of the draft model take %.2f GB, %.2f GB are there", dir,
                      (double)model_weight_bytes(draft->model) / 1e9, (double)session_room(session, options) / 1e9);
        goto cleanup;
    }
    TRY_GOTO(model_read(draft->model, dir, NULL, err));
cleanup:
    text_free(&notes);
    return status;
}

cohort_status session_draft_open(struct session_draft **out, const struct session *session,
                                 const struct options *options, cohort_error *err)
{
    *out = NULL;
    if (!options_has(options, "draft_model") || options_string(options, OPTION_DRAFT_MODEL) == NULL)
        return COHORT_OK;
    if (options_choice(options, OPTION_SPECULATIVE) > 0)
        return error_set(err, COHORT_ERR_ARGUMENT,
                         "draft_model says where drafts come from: leave speculative out, or it is auto");
    TRY(mem_alloc(out, 1, sizeof **out, "draft model", err));
    (*out)->backend = session->backend;
    (*out)->kv8 = session->kv8;
    const cohort_status status = read_model(*out, session, options, options_string(options, OPTION_DRAFT_MODEL), err);
    if (status != COHORT_OK) {
        session_draft_close(*out);
        *out = NULL;
    }
    return status;
}

void session_draft_close(struct session_draft *draft)
{
    if (draft == NULL)
        return;
    engine_destroy(draft->engine);
    arena_release(&draft->arena, draft->backend);
    model_destroy(draft->model);
    mem_free(draft);
}

size_t session_draft_bytes(const struct session_draft *draft) { return model_weight_bytes(draft->model); }

/* By what a page takes of each. */
size_t session_draft_leaves(const struct session_draft *draft, const struct session *session, size_t room)
{
    const double ours = (double)engine_page_bytes(&session->model->config, session->model->type, session->kv8),
                 theirs = (double)engine_page_bytes(&draft->model->config, draft->model->type, session->kv8);
    return (size_t)((double)room * ours / (ours + theirs));
}

cohort_status session_draft_engine(struct session_draft *draft, struct engine *engine, const struct rollout_need *need,
                                   size_t room, cohort_error *err)
{
    struct rollout_choice choice = {0};
    struct rollout_need own = *need;
    own.draft_tokens = own.n_adapters = 0;
    own.adapters = NULL;
    own.turns = true;
    own.kv8 = draft->kv8;
    own.kv_pages = 0; /* it goes back to tokens that would be left out */
    TRY(rollout_choose(draft->model, &own, room, NULL, &choice, err));
    if (choice.buffers + choice.working > room)
        return error_set(err, COHORT_ERR_MEMORY, "buffers of the draft model: %.4g GB are wanted, %.4g GB are there",
                         (double)(choice.buffers + choice.working) / 1e9, (double)room / 1e9);
    TRY(engine_create(&draft->engine, draft->model, NULL, &choice.config, err));
    TRY(engine_keep_prefixes(draft->engine, err));
    TRY(engine_plan(draft->engine, &draft->arena, err));
    TRY(arena_allocate(&draft->arena, draft->backend, "buffers of the draft model", err));
    TRY(engine_plan(draft->engine, &draft->arena, err));
    return engine_set_draft_model(engine, draft->engine, false, err);
}

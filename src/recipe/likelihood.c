#include "recipe/likelihood.h"

cohort_status likelihood_open(struct likelihood *l, struct session *session, int64_t pass, int64_t longest,
                              cohort_error *err)
{
    const struct model *model = session->model;
    l->session = session;
    l->tokens = longest > pass ? longest : pass;
    l->runner.logits_bytes = session->backend->sizes->logits_bytes;
    for (int i = 0; i < 2; i++) {
        TRY(tree_runner_plan(&l->runner, &session->arena, &model->config, model->type, l->tokens, l->tokens,
                             DECODER_INFER, err));
        if (i == 0)
            TRY(arena_allocate(&session->arena, session->backend, "activations", err));
    }
    return COHORT_OK;
}

void likelihood_close(struct likelihood *l) { tree_runner_free(&l->runner); }

cohort_status likelihood_of(struct likelihood *l, const struct tree *trees, int32_t n_trees, float temperature,
                            float *const *logp, cohort_error *err)
{
    return tree_runner_score(&l->runner, l->session->model, trees, n_trees, temperature, logp, NULL, err);
}

/* POST /v1/weights (--admin): other weights of the same shape, from a checkpoint folder of this machine, for trainers that use
 * the server for their rollouts. What is under way ends with the old ones first; what comes meanwhile waits. */
#include "base/json_text.h"
#include "format/checkpoint.h"
#include "model/model.h"
#include "serve/serve.h"

#include <stdio.h>
#include <string.h>

struct weights_errand {
    char *folder;
};

static void release(void *body)
{
    struct weights_errand *asked = body;
    mem_free(asked->folder);
}

static cohort_status read_weights(struct serve *s, const char *folder, struct fault *fault)
{
    struct model *model = s->session.model;
    TRY(checkpoint_look(folder, &model->base.table, NULL, &fault->err)); /* nothing is touched where it does not fit */
    if (checkpoint_read(folder, &model->base.table, model_store, model, &fault->err) != COHORT_OK) {
        cohort_error why = fault->err;
        serve_fail(s, &why); /* a part of them may be there */
        return fault_set(fault, 500, "weights_damaged", NULL, "%s", why.message);
    }
    model_refresh(model);
    s->n_weights++;
    serve_fingerprint(s);
    return COHORT_OK;
}

static void run(struct serve *s, const void *body, struct http_call *call)
{
    const struct weights_errand *asked = body;
    struct fault fault = {0};
    if (read_weights(s, asked->folder, &fault) != COHORT_OK)
        answer_fault(call, &fault, fault_value);
    else
        answer_json(call, 200,
                    json_pack("{s:s, s:I, s:s}", "status", "ok", "version", (json_int_t)s->n_weights,
                              "system_fingerprint", s->fingerprint));
}

static cohort_status read_body(struct serve *s, const json_t *json, void *body, struct fault *fault)
{
    static const char *const names[] = {"folder", NULL};
    struct weights_errand *out = body;
    const char *folder = NULL;
    if (!s->admin)
        return fault_set(fault, 403, "not_allowed", NULL, "the server was not started with --admin");
    if (s->session.model->adapter != NULL || s->adapters.n > 0)
        return fault_set(fault, 400, "unsupported_value", NULL,
                         "there are adapters: weights below them are not exchanged");
    TRY(ask_known(json, names, false, fault));
    TRY(ask_string(json, "folder", &folder, fault));
    if (folder == NULL)
        return fault_set(fault, 400, "missing_parameter", "folder", "folder: the field is required");
    return mem_strdup(&out->folder, folder, strlen(folder), &fault->err);
}

cohort_status serve_weights(struct serve *s, struct http_call *call, struct fault *fault)
{
    static const struct errand_kind kind = {sizeof(struct weights_errand), read_body, run, release, .alone = true};
    return serve_errand(s, call, &kind, fault);
}

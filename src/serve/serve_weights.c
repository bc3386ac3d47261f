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

static void forget(struct errand *errand)
{
    struct weights_errand *asked = errand->context;
    mem_free(asked->folder);
    http_release(errand->call);
    mem_free(asked);
    mem_free(errand);
}

static void drop(struct errand *errand, const struct fault *fault)
{
    answer_fault(errand->call, fault, fault_value);
    forget(errand);
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

static void run(struct serve *s, struct errand *errand)
{
    const struct weights_errand *asked = errand->context;
    struct fault fault = {0};
    if (read_weights(s, asked->folder, &fault) != COHORT_OK) {
        drop(errand, &fault);
        return;
    }
    answer_json(errand->call, 200,
                json_pack("{s:s, s:I, s:s}", "status", "ok", "version", (json_int_t)s->n_weights, "system_fingerprint",
                          s->fingerprint));
    forget(errand);
}

static cohort_status read_body(const struct serve *s, const json_t *body, struct weights_errand *out,
                               struct fault *fault)
{
    static const char *const names[] = {"folder", NULL};
    const char *folder = NULL;
    if (!s->admin)
        return fault_set(fault, 403, "not_allowed", NULL, "the server was not started with --admin");
    if (s->session.model->adapter != NULL || s->adapters.n > 0)
        return fault_set(fault, 400, "unsupported_value", NULL,
                         "there are adapters: weights below them are not exchanged");
    TRY(ask_known(body, names, false, fault));
    TRY(ask_string(body, "folder", &folder, fault));
    if (folder == NULL)
        return fault_set(fault, 400, "missing_parameter", "folder", "folder: the field is required");
    return mem_strdup(&out->folder, folder, strlen(folder), &fault->err);
}

cohort_status serve_weights(struct serve *s, struct http_call *call, struct fault *fault)
{
    struct errand *errand = NULL;
    struct weights_errand *asked = NULL;
    json_t *body = NULL;
    size_t length = 0;
    const char *bytes = http_body(call, &length);
    cohort_status status = COHORT_OK;
    http_hold(call);
    TRY_GOTO(ask_json(&body, bytes, length, fault));
    TRY_GOTO(mem_alloc(&errand, 1, sizeof *errand, "request", &fault->err));
    TRY_GOTO(mem_alloc(&asked, 1, sizeof *asked, "request", &fault->err));
    *errand = (struct errand){.run = run, .drop = drop, .call = call, .context = asked, .alone = true};
    TRY_GOTO(read_body(s, body, asked, fault));
    TRY_GOTO(serve_send(s, errand, fault));
    json_decref(body);
    return COHORT_OK;
cleanup:
    json_decref(body);
    if (asked != NULL)
        mem_free(asked->folder);
    mem_free(asked);
    mem_free(errand);
    http_release(call);
    return status;
}

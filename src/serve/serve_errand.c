/* Requests that ask something of the engine thread beside completions, from the body to the answer. */
#include "serve/serve.h"

/* The context of such an errand. */
struct asked {
    const struct errand_kind *kind;
    void *body; /* as kind->read left it */
};

static void forget(struct errand *errand)
{
    struct asked *asked = errand->context;
    if (asked->body != NULL)
        asked->kind->release(asked->body);
    mem_free(asked->body);
    http_release(errand->call);
    mem_free(asked);
    mem_free(errand);
}

static void run(struct serve *s, struct errand *errand)
{
    const struct asked *asked = errand->context;
    asked->kind->run(s, asked->body, errand->call);
    forget(errand);
}

static void drop(struct errand *errand, const struct fault *fault)
{
    answer_fault(errand->call, fault, fault_value);
    forget(errand);
}

cohort_status serve_errand(struct serve *s, struct http_call *call, const struct errand_kind *kind, struct fault *fault)
{
    struct errand *errand = NULL;
    struct asked *asked = NULL;
    json_t *body = NULL;
    size_t length = 0;
    const char *bytes = http_body(call, &length);
    cohort_status status = COHORT_OK;
    http_hold(call);
    TRY_GOTO(mem_alloc(&errand, 1, sizeof *errand, "request", &fault->err));
    TRY_GOTO(mem_alloc(&asked, 1, sizeof *asked, "request", &fault->err));
    asked->kind = kind;
    *errand = (struct errand){.run = run, .drop = drop, .call = call, .context = asked, .alone = kind->alone};
    TRY_GOTO(mem_alloc(&asked->body, 1, kind->body_bytes, "request", &fault->err));
    TRY_GOTO(ask_json(&body, bytes, length, fault));
    TRY_GOTO(kind->read(s, body, asked->body, fault));
    TRY_GOTO(serve_send(s, errand, fault));
cleanup:
    json_decref(body);
    if (status != COHORT_OK && asked != NULL) {
        forget(errand);
    } else if (status != COHORT_OK) {
        mem_free(errand);
        http_release(call);
    }
    return status;
}

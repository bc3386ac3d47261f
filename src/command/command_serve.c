/* cohort serve: a model over HTTP. */
#include "command/command.h"
#include "serve/serve.h"

cohort_status command_serve(struct options *options, const struct reward_list *extra, const cohort_observer *observer,
                            cohort_error *err)
{
    (void)extra;
    struct serve serve = {0};
    cohort_status status = serve_open(&serve, options, observer, err);
    if (status == COHORT_OK)
        status = serve_run(&serve, err);
    serve_close(&serve);
    return status;
}

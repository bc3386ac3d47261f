/* In a build without libcurl: creating a client says so, and nothing else is reached. */
#ifndef COHORT_JUDGE_FOUND

#include "base/http_client.h"

cohort_status http_client_create(struct http_client **out, cohort_error *err)
{
    *out = NULL;
    return error_set(err, COHORT_ERR_UNSUPPORTED,
                     "this build cannot ask a server: it was made without libcurl; install it (Debian: "
                     "libcurl4-openssl-dev, as scripts/install-deps does) and build again");
}

void http_client_destroy(struct http_client *client) { (void)client; }

cohort_status http_client_post(struct http_client *client, const struct http_post *post, struct http_answer *answer,
                               cohort_error *err)
{
    (void)client, (void)post, (void)answer;
    return error_set(err, COHORT_ERR_UNSUPPORTED, "this build was made without libcurl");
}

#else
typedef int http_client_is_there; /* a translation unit has something in it */
#endif

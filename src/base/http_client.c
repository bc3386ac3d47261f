#ifdef COHORT_JUDGE_FOUND

#include "base/http_client.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* The library is loaded by who asks, not with the program; it stays loaded then, for it has threads' data of its own. */
#define LIBRARY "libcurl.so.4"
#define FUNCTION_LIST(X)                                                                                               \
    X(curl_easy_init)                                                                                                  \
    X(curl_easy_cleanup)                                                                                               \
    X(curl_easy_reset)                                                                                                 \
    X(curl_easy_setopt)                                                                                                \
    X(curl_easy_perform)                                                                                               \
    X(curl_easy_getinfo)                                                                                               \
    X(curl_easy_strerror)                                                                                              \
    X(curl_slist_append)                                                                                               \
    X(curl_slist_free_all)
#undef curl_easy_setopt /* macros that check types by the functions' names */
#undef curl_easy_getinfo

struct curl_library {
#define FUNCTION(name) __typeof__(&(name)) name;
    FUNCTION_LIST(FUNCTION)
#undef FUNCTION
};

struct http_client {
    struct curl_library lib;
    CURL *curl;
    char error[CURL_ERROR_SIZE];
};

static cohort_status load(struct curl_library *library, cohort_error *err)
{
#define FUNCTION(name) #name,
    static const char *const names[] = {FUNCTION_LIST(FUNCTION)};
#undef FUNCTION
    void *const places[] = {
#define FUNCTION(name) &library->name,
        FUNCTION_LIST(FUNCTION)
#undef FUNCTION
    };
    void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (handle == NULL)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "asking a server needs " LIBRARY " (Debian: libcurl4): %s",
                         dlerror());
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *found = dlsym(handle, names[i]);
        if (found == NULL) {
            dlclose(handle);
            return error_set(err, COHORT_ERR_UNSUPPORTED, LIBRARY " has no %s: it is too old", names[i]);
        }
        memcpy(places[i], &found, sizeof found);
    }
    dlclose(handle); /* RTLD_NODELETE */
    return COHORT_OK;
}

/* What the callbacks of one request work with. */
struct request {
    const struct http_post *post;
    struct http_answer *answer;
    bool too_long, no_memory;
};

cohort_status http_client_create(struct http_client **out, cohort_error *err)
{
    struct http_client *client = NULL;
    *out = NULL;
    TRY(mem_alloc(&client, 1, sizeof *client, "HTTP client", err));
    cohort_status status = load(&client->lib, err);
    if (status != COHORT_OK) {
        mem_free(client);
        return status;
    }
    client->curl = client->lib.curl_easy_init(); /* it sets libcurl up at the first call, safely since 7.84 */
    if (client->curl == NULL) {
        mem_free(client);
        return error_set(err, COHORT_ERR_MEMORY, "an HTTP client: out of memory");
    }
    *out = client;
    return COHORT_OK;
}

void http_client_destroy(struct http_client *client)
{
    if (client == NULL)
        return;
    client->lib.curl_easy_cleanup(client->curl);
    mem_free(client);
}

static size_t take_bytes(char *bytes, size_t size, size_t n, void *context)
{
    struct request *request = context;
    struct text *body = &request->answer->body;
    const size_t length = size * n;
    if (length > request->post->most_bytes || body->length > request->post->most_bytes - length)
        request->too_long = true;
    else if (text_append(body, bytes, length, NULL) != COHORT_OK)
        request->no_memory = true;
    return request->too_long || request->no_memory ? 0 : length;
}

static int look_for_stop(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct request *request = context;
    (void)a, (void)b, (void)c, (void)d;
    return stop_requested(request->post->stop) ? 1 : 0;
}

/* The headers of a request; NULL: out of memory. */
static struct curl_slist *headers_of(const struct curl_library *lib, const struct http_post *post)
{
    struct curl_slist *list = lib->curl_slist_append(NULL, "Content-Type: application/json"), *more = NULL;
    struct text line = {0};
    if (list == NULL || post->key == NULL)
        return list;
    if (text_printf(&line, NULL, "Authorization: Bearer %s", post->key) == COHORT_OK)
        more = lib->curl_slist_append(list, line.data);
    if (line.data != NULL)
        memset(line.data, 0, line.length);
    text_free(&line);
    if (more == NULL)
        lib->curl_slist_free_all(list);
    return more;
}

static void configure(struct http_client *client, struct request *request, struct curl_slist *headers)
{
    CURL *curl = client->curl;
    const struct curl_library *lib = &client->lib;
    const struct http_post *post = request->post;
    lib->curl_easy_reset(curl); /* the connection stays */
    client->error[0] = '\0';
    lib->curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L); /* signals are the host's */
    lib->curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->error);
    lib->curl_easy_setopt(curl, CURLOPT_URL, post->url);
    lib->curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    lib->curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    if (post->ca != NULL)
        lib->curl_easy_setopt(curl, CURLOPT_CAINFO, post->ca);
    lib->curl_easy_setopt(curl, CURLOPT_USERAGENT, "cohort");
    lib->curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    lib->curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post->length);
    lib->curl_easy_setopt(curl, CURLOPT_POSTFIELDS, post->body);
    lib->curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(post->timeout_s * 1000.0) + 1L);
    lib->curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
    lib->curl_easy_setopt(curl, CURLOPT_WRITEDATA, request);
    lib->curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, look_for_stop);
    lib->curl_easy_setopt(curl, CURLOPT_XFERINFODATA, request);
    lib->curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
}

cohort_status http_client_post(struct http_client *client, const struct http_post *post, struct http_answer *answer,
                               cohort_error *err)
{
    const struct curl_library *lib = &client->lib;
    struct request request = {.post = post, .answer = answer};
    struct curl_slist *headers = headers_of(&client->lib, post);
    long code = 0;
    curl_off_t wait = 0;
    *answer = (struct http_answer){.retry_after_s = -1.0};
    if (headers == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "a request over HTTP: out of memory");
    configure(client, &request, headers);
    const CURLcode result = lib->curl_easy_perform(client->curl);
    lib->curl_slist_free_all(headers);
    if (request.no_memory || result == CURLE_OUT_OF_MEMORY)
        return error_set(err, COHORT_ERR_MEMORY, "an answer over HTTP: out of memory");
    TRY(stop_check(post->stop, err));
    if (request.too_long) {
        snprintf(answer->problem, sizeof answer->problem, "an answer of more than %zu bytes", post->most_bytes);
        return COHORT_OK;
    }
    if (result != CURLE_OK) {
        answer->untrusted = result == CURLE_PEER_FAILED_VERIFICATION || result == CURLE_SSL_CACERT_BADFILE;
        snprintf(answer->problem, sizeof answer->problem, "%s",
                 client->error[0] != '\0' ? client->error : lib->curl_easy_strerror(result));
        return COHORT_OK;
    }
    lib->curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &code);
    lib->curl_easy_getinfo(client->curl, CURLINFO_RETRY_AFTER, &wait);
    answer->code = (int)code;
    answer->retry_after_s = wait > 0 ? (double)wait : -1.0;
    return COHORT_OK;
}

#else
typedef int http_client_is_without; /* a translation unit has something in it */
#endif

#include "rollout/completion_pack.h"

#include "base/json_text.h"

#include <string.h>

struct head {
    int32_t index, n_prompt, n_tokens, finish_reason, n_top, route_width;
    uint32_t there; /* a bit for each of the arrays */
    uint64_t text_length, episode_length;
};

enum { N_ARRAYS = 9 };

struct array {
    void **at; /* of the completion */
    size_t bytes;
};

static void arrays_of(struct completion *c, int32_t route_width, struct array arrays[N_ARRAYS])
{
    const size_t n = (size_t)c->n_tokens, top = n * (size_t)c->n_top,
                 fed = c->n_prompt + c->n_tokens > 0 ? (size_t)c->n_prompt + n - 1 : 0;
    const struct array all[N_ARRAYS] = {{(void **)&c->tokens, n * sizeof *c->tokens},
                                        {(void **)&c->sampled, n * sizeof *c->sampled},
                                        {(void **)&c->logp, n * sizeof *c->logp},
                                        {(void **)&c->entropy, n * sizeof *c->entropy},
                                        {(void **)&c->kept, n * sizeof *c->kept},
                                        {(void **)&c->top_ids, top * sizeof *c->top_ids},
                                        {(void **)&c->top_logp, top * sizeof *c->top_logp},
                                        {(void **)&c->prompt_logp, (size_t)c->n_prompt * sizeof *c->prompt_logp},
                                        {(void **)&c->routes, fed * (size_t)route_width * sizeof *c->routes}};
    memcpy(arrays, all, sizeof all);
}

static cohort_status pack(const struct completion *completion, int32_t route_width, const struct text *episode,
                          struct text *out, cohort_error *err)
{
    struct completion copy = *completion;
    struct array arrays[N_ARRAYS];
    struct head head = {.index = copy.index,
                        .n_prompt = copy.n_prompt,
                        .n_tokens = copy.n_tokens,
                        .finish_reason = (int32_t)copy.finish_reason,
                        .n_top = copy.n_top,
                        .route_width = route_width,
                        .text_length = copy.text_length,
                        .episode_length = episode->length};
    arrays_of(&copy, route_width, arrays);
    for (int i = 0; i < N_ARRAYS; i++)
        head.there |= *arrays[i].at != NULL ? 1u << i : 0;
    head.there |= copy.text != NULL ? 1u << N_ARRAYS : 0;
    TRY(text_append(out, (const char *)&head, sizeof head, err));
    for (int i = 0; i < N_ARRAYS; i++)
        if (*arrays[i].at != NULL)
            TRY(text_append(out, *arrays[i].at, arrays[i].bytes, err));
    if (copy.text != NULL)
        TRY(text_append(out, copy.text, copy.text_length, err));
    return text_append(out, episode->data, episode->length, err);
}

cohort_status completion_pack(const struct completion *completion, int32_t route_width, struct text *out,
                              cohort_error *err)
{
    struct text episode = {0};
    cohort_status status =
        completion->episode == NULL ? COHORT_OK : json_text_write(completion->episode, 0, &episode, err);
    if (status == COHORT_OK)
        status = pack(completion, route_width, &episode, out, err);
    text_free(&episode);
    return status;
}

static cohort_status take(const struct text *bytes, size_t *at, void *to, size_t n, cohort_error *err)
{
    if (bytes->length - *at < n)
        return error_set(err, COHORT_ERR_INTERNAL, "completions of another rank end within one");
    if (n > 0)
        memcpy(to, bytes->data + *at, n);
    *at += n;
    return COHORT_OK;
}

static cohort_status take_episode(const struct text *bytes, size_t *at, size_t length, struct completion *out,
                                  cohort_error *err)
{
    if (bytes->length - *at < length)
        return error_set(err, COHORT_ERR_INTERNAL, "completions of another rank end within one");
    TRY(json_text_parse(&out->episode, bytes->data + *at, length, "episode of another rank", 1, JSON_TEXT_NUL, err));
    *at += length;
    return COHORT_OK;
}

cohort_status completion_unpack(const struct text *bytes, size_t *at, struct completion *out, cohort_error *err)
{
    struct head head = {0};
    struct array arrays[N_ARRAYS];
    memset(out, 0, sizeof *out);
    TRY(take(bytes, at, &head, sizeof head, err));
    out->request = -1;
    out->index = head.index;
    out->n_prompt = head.n_prompt;
    out->n_tokens = head.n_tokens;
    out->finish_reason = (enum finish_reason)head.finish_reason;
    out->n_top = head.n_top;
    arrays_of(out, head.route_width, arrays);
    for (int i = 0; i < N_ARRAYS; i++) {
        if ((head.there & 1u << i) == 0)
            continue;
        TRY(mem_alloc(arrays[i].at, arrays[i].bytes, 1, "completion of another rank", err));
        TRY(take(bytes, at, *arrays[i].at, arrays[i].bytes, err));
    }
    if ((head.there & 1u << N_ARRAYS) != 0) {
        TRY(mem_alloc(&out->text, (size_t)head.text_length + 1, 1, "completion of another rank", err));
        out->text_length = (size_t)head.text_length;
        TRY(take(bytes, at, out->text, out->text_length, err));
    }
    return head.episode_length == 0 ? COHORT_OK : take_episode(bytes, at, (size_t)head.episode_length, out, err);
}

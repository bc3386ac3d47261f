/* A request to generate, read and checked: which fields it has, what they mean for the engine, and its prompts as ids.
 * One struct for the four forms in which clients ask; where they differ is in ask_list.h and in the readers of messages.
 *
 * A field that is not known is refused by name, unless the server is lenient. What is known is honoured or refused,
 * never passed over, but for the fields that ask_list.h says are of no consequence. */
#ifndef COHORT_SERVE_ASK_H
#define COHORT_SERVE_ASK_H

#include "guide/guide.h"
#include "recipe/session.h"
#include "serve/fault.h"
#include "text/response.h"

enum ask_form { ASK_CHAT = 1, ASK_COMPLETION = 2, ASK_MESSAGES = 4, ASK_RESPONSES = 8 };

enum { ASK_MOST_N = 128, ASK_MOST_STOPS = 16, ASK_MOST_TOP = 20, ASK_MOST_PROMPTS = 256, ASK_DEPTH = 64 };

/* What a server knows when it reads a request. */
struct ask_context {
    const struct session *session;
    const struct engine_request *pattern;      /* what the options say of every request */
    const struct guide_vocabulary *vocabulary; /* NULL: nothing can be guided */
    const char *model;                         /* the name it is served by */
    int32_t context;                           /* tokens of prompt and answer together */
    int32_t max_tokens;                        /* of an answer that does not say; 0: what the context leaves */
    enum chat_thinking thinking;               /* where a request does not say */
    int32_t max_score; /* tokens of prompt and answer together of whose places alternatives are told */
    bool trust;        /* control tokens in content count */
    bool lenient;
    /* May there be an adapter of this name? NULL: no. */
    bool (*knows)(void *context, const char *name);
    void *knows_context;
};

struct ask_prompt {
    struct token_list ids;
    struct text text; /* what they are of; empty where ids were given */
};

/* Zero-initialise; free with ask_free. */
struct ask {
    enum ask_form form;
    json_t *body;      /* the request */
    json_t *messages;  /* of a conversation, in the form that templates expect */
    json_t *tools;     /* likewise; NULL: none */
    const char *model; /* what the client called it, or the server's name */
    struct ask_prompt *prompts;
    size_t n_prompts;
    struct sampling_params sampling; /* arrays: those of the pattern, or own */
    int32_t *bias_id;
    float *bias;
    bool has_seed;
    int64_t seed;
    int32_t n, max_tokens; /* max_tokens 0: what the context leaves */
    int32_t min_tokens;
    bool ignore_eos;
    struct repeat_limit repetition;
    const char **stop; /* [n_stop] within body */
    int32_t n_stop;
    int32_t *eos_ids; /* [n_eos] the model's and stop_token_ids */
    int32_t n_eos;
    bool stream, include_usage, logprobs, return_token_ids, echo;
    int32_t top_logprobs;    /* alternatives of each token */
    float logp_temperature;  /* of the log-probs that are told; 0: that of the draws */
    int32_t prompt_logprobs; /* alternatives of each of the prompt's tokens; -1: nothing is told of them */
    bool thinks;             /* the answer begins within a thinking block */
    bool calls;              /* calls of tools are looked for */
    bool forced;             /* at least one call: of any tool, or of forced_name (NULL: any), within body */
    const char *forced_name;
    bool special; /* the answer's text keeps special tokens, in which this family writes calls */
    enum response_form response;
    struct guide *guide; /* NULL: free; a use of it */
};
/* body: the bytes of a request. fault says what is wrong, with the place. */
cohort_status ask_read(struct ask *ask, enum ask_form form, const struct ask_context *context, const char *body,
                       size_t length, struct fault *fault);
void ask_free(struct ask *ask);

/* ---- For the readers of the forms, and for other routes ---- */

/* JSON of a request: at most ASK_DEPTH deep, an object. */
cohort_status ask_json(json_t **out, const char *body, size_t length, struct fault *fault);
/* Refuses fields that are not among names (ends with NULL). */
cohort_status ask_known(const json_t *object, const char *const *names, bool lenient, struct fault *fault);
/* The value of a field, NULL where it is absent or null. */
const json_t *ask_field(const json_t *object, const char *name);
cohort_status ask_bool(const json_t *object, const char *name, bool *out, struct fault *fault);
cohort_status ask_integer(const json_t *object, const char *name, int64_t least, int64_t most, int64_t *out,
                          struct fault *fault);
cohort_status ask_string(const json_t *object, const char *name, const char **out, struct fault *fault);
/* A list of ids of the model. Free *ids with mem_free. */
cohort_status ask_ids(const json_t *list, const char *name, int32_t vocab, struct token_list *out, struct fault *fault);
/* Whether the model is the server's; 404. */
cohort_status ask_model(const json_t *body, const struct ask_context *context, const char **model, struct fault *fault);

/* messages (and tools) of a conversation in OpenAI's form, as templates take them; ask->messages is set. */
cohort_status ask_chat_messages(struct ask *ask, const json_t *messages, struct fault *fault);
cohort_status ask_chat_tools(struct ask *ask, const json_t *tools, const json_t *choice, struct fault *fault);
/* Renders them and makes ids of the rendering. */
cohort_status ask_chat_prompt(struct ask *ask, const struct ask_context *context, struct fault *fault);
/* The conversations of ASK_MESSAGES and of ASK_RESPONSES: answer_anthropic.c, answer_responses.c. */
cohort_status ask_anthropic(struct ask *ask, const struct ask_context *context, struct fault *fault);
cohort_status ask_responses(struct ask *ask, const struct ask_context *context, struct fault *fault);
/* The prompts of ASK_COMPLETION. */
cohort_status ask_completion_prompts(struct ask *ask, const struct ask_context *context, struct fault *fault);
/* What constrains the answer where calls are forced: ask_calls.c. */
cohort_status ask_forced_calls(struct ask *ask, const struct ask_context *context, struct fault *fault);
/* What constrains the answer. */
cohort_status ask_guide(struct ask *ask, const struct ask_context *context, struct fault *fault);

#endif

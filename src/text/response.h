/* Completions parsed back: which bytes are thinking, which are content, and which are calls of tools, in the forms that
 * models are trained on. Nothing is lost: the parts cover every byte, and a call that is cut off or malformed is a call
 * with what is wrong with it. */
#ifndef COHORT_TEXT_RESPONSE_H
#define COHORT_TEXT_RESPONSE_H

#include "base/memory.h"

#include <jansson.h>

enum response_form {
    RESPONSE_PLAIN,  /* no calls; <think> is thinking, as in all forms */
    RESPONSE_HERMES, /* <tool_call>{"name": ..., "arguments": {...}}</tool_call> (Hermes, Qwen2.5, Qwen3) */
    RESPONSE_XML,    /* <tool_call><function=NAME><parameter=KEY>value</parameter></function></tool_call> (Qwen3-Coder,
                         Qwen3.5, Nemotron 3) */
    RESPONSE_LLAMA, /* {"name": ..., "parameters": {...}}, also behind <|python_tag|>, or there NAME.call(key="value") */
    RESPONSE_MISTRAL, /* [TOOL_CALLS][{"name": ..., "arguments": {...}}], or [TOOL_CALLS]NAME[ARGS]{...} */
    RESPONSE_FORMS
};

/* The form that a template has an assistant call tools in, told by what it writes. Zero-initialise, read its literals. */
struct response_signs {
    unsigned seen;
};
void response_form_read(struct response_signs *signs, const char *literal, size_t length);
enum response_form response_form_of(const struct response_signs *signs);

/* Whether a rendered prompt ends within a thinking block that it opens, so that the completion begins inside it. */
bool response_opens_thinking(const char *prompt, size_t length);

struct response_call {
    char *name; /* NULL: none could be read */
    char *id;   /* of Mistral's forms, or NULL */
    json_t *
        arguments; /* an object for a call as it should be, but whatever stood there is kept; NULL: none could be read */
    /* Bytes of the arguments as they were written, where they are one piece of JSON; else equal. */
    size_t arguments_from, arguments_to;
    char *error; /* what is wrong, or NULL */
    bool closed; /* its end was written: a call that is not may be one cut off by a limit of length */
};

enum response_kind { RESPONSE_THINKING, RESPONSE_CONTENT, RESPONSE_CALL };
struct response_part {
    enum response_kind kind;
    size_t from, to; /* bytes of the completion, tags and white space beside them included */
    size_t call;     /* index, of RESPONSE_CALL */
};

struct response {
    struct text thinking; /* without tags; several blocks are joined by an empty line */
    struct text content;  /* the parts of kind RESPONSE_CONTENT, as they stand */
    struct response_call *calls;
    size_t n_calls, calls_capacity;
    struct response_part *parts; /* ascending, each begins where the last one ended; they cover the completion */
    size_t n_parts, parts_capacity;
    bool thinking_open; /* it ended within thinking */
};

/* text: a completion, decoded with its special tokens and without the token that ended it. in_thinking: see
 * response_opens_thinking. tools (an array of schemas, or NULL) give arguments that were written as text their types, all of
 * RESPONSE_XML's among them; without, they stay text. Zero-initialise out; free it with response_free. Out of memory is the only error. */
cohort_status response_parse(struct response *out, const char *text, size_t length, enum response_form form,
                             bool in_thinking, const json_t *tools, cohort_error *err);
void response_free(struct response *response);

#endif

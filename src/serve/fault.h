/* What is wrong with a request, as its sender is told: a status of HTTP, and OpenAI's error object. */
#ifndef COHORT_SERVE_FAULT_H
#define COHORT_SERVE_FAULT_H

#include "base/memory.h"

#include <jansson.h>

struct fault {
    unsigned status;  /* of HTTP; 0: err is a library function's, whose status says which it is */
    const char *code; /* "context_length_exceeded"; NULL: none. Static */
    char param[96];   /* the field; "": none */
    cohort_error err;
};
/* Returns COHORT_ERR_ARGUMENT, so that "return fault_set(...)" reads well. */
cohort_status fault_set(struct fault *fault, unsigned status, const char *code, const char *param, const char *format,
                        ...) PRINTF_LIKE(5, 6);
/* The status of HTTP, also of a library function's error. */
unsigned fault_http(const struct fault *fault);
/* "invalid_request_error" and so on. Static. */
const char *fault_type(unsigned http);
/* {"error": {"message", "type", "code", "param"}}, a new reference; NULL: out of memory. */
json_t *fault_value(const struct fault *fault);
/* {"type": "error", "error": {"type", "message"}}: Anthropic's form of the same. */
json_t *fault_value_anthropic(const struct fault *fault);

#ifdef __clang_analyzer__ /* clang-tidy sees one file at a time: that the status comes back is said here */
#define fault_set(...) ((void)(fault_set)(__VA_ARGS__), COHORT_ERR_ARGUMENT)
#endif

#endif

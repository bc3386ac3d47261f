#include "serve/fault.h"

#include "base/json_text.h"
#include "base/number.h"

#include <stdio.h>
#include <string.h>

cohort_status(fault_set)(struct fault *fault, unsigned status, const char *code, const char *param, const char *format,
                         ...)
{
    va_list args;
    va_start(args, format);
    (void)number_vformat(fault->err.message, sizeof fault->err.message, format, args);
    va_end(args);
    fault->err.status = COHORT_ERR_ARGUMENT;
    fault->status = status;
    fault->code = code;
    snprintf(fault->param, sizeof fault->param, "%s", param == NULL ? "" : param);
    return COHORT_ERR_ARGUMENT;
}

unsigned fault_http(const struct fault *fault)
{
    if (fault->status != 0)
        return fault->status;
    switch (fault->err.status) {
    case COHORT_ERR_ARGUMENT:
    case COHORT_ERR_FORMAT:
    case COHORT_ERR_UNSUPPORTED: return 400;
    case COHORT_ERR_CANCELLED: return 503;
    default: return 500;
    }
}

const char *fault_type(unsigned http)
{
    switch (http) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    case 503: return "overloaded_error";
    default: return http >= 500 ? "server_error" : "invalid_request_error";
    }
}

static json_t *text_or_null(const char *text)
{
    return text == NULL || text[0] == '\0' ? json_null() : json_text_value(text, strlen(text));
}

json_t *fault_value(const struct fault *fault)
{
    return json_pack(
        "{s:{s:o, s:s, s:o, s:o}}", "error", "message", json_text_value(fault->err.message, strlen(fault->err.message)),
        "type", fault_type(fault_http(fault)), "code", text_or_null(fault->code), "param", text_or_null(fault->param));
}

json_t *fault_value_anthropic(const struct fault *fault)
{
    const unsigned http = fault_http(fault);
    const char *type = fault_type(http);
    return json_pack("{s:s, s:{s:s, s:o}}", "type", "error", "error", "type",
                     strcmp(type, "server_error") == 0 ? "api_error" : type, "message",
                     json_text_value(fault->err.message, strlen(fault->err.message)));
}

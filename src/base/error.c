#include "base/error.h"
#include "base/number.h"

#include <string.h>

cohort_status error_set(cohort_error *err, cohort_status status, const char *format, ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        err->status = status;
        number_vformat(err->message, sizeof err->message, format, args);
        va_end(args);
    }
    return status;
}

void error_context(cohort_error *err, const char *format, ...)
{
    if (err == NULL)
        return;
    char inner[sizeof err->message];
    memcpy(inner, err->message, sizeof inner);
    va_list args;
    va_start(args, format);
    int n = number_vformat(err->message, sizeof err->message, format, args);
    va_end(args);
    if (n < 0)
        n = 0;
    size_t used = (size_t)n < sizeof err->message ? (size_t)n : sizeof err->message - 1;
    size_t room = sizeof err->message - used;
    if (room > 3) {
        memcpy(err->message + used, ": ", 2);
        size_t length = strnlen(inner, sizeof inner - 1);
        if (length > room - 3)
            length = room - 3;
        memcpy(err->message + used + 2, inner, length);
        err->message[used + 2 + length] = '\0';
    }
}

const char *cohort_status_name(cohort_status status)
{
    switch (status) {
    case COHORT_OK: return "ok";
    case COHORT_ERR_ARGUMENT: return "invalid argument";
    case COHORT_ERR_IO: return "input/output error";
    case COHORT_ERR_FORMAT: return "malformed file";
    case COHORT_ERR_UNSUPPORTED: return "unsupported";
    case COHORT_ERR_MEMORY: return "out of memory";
    case COHORT_ERR_STATE: return "wrong state";
    case COHORT_ERR_REWARD: return "reward failed";
    case COHORT_ERR_NUMERIC: return "numeric error";
    case COHORT_ERR_CANCELLED: return "cancelled";
    case COHORT_ERR_INTERNAL: return "internal error";
    }
    return "unknown status";
}

/* The function that a preloaded one stands in front of. _GNU_SOURCE is defined before this is included. */
#ifndef COHORT_TESTS_REAL_H
#define COHORT_TESTS_REAL_H

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static void *real(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (function == NULL)
        abort();
    return function;
}

#define REAL(type, name, ...)                                                                                          \
    static type (*name##_real)(__VA_ARGS__);                                                                           \
    if (name##_real == NULL) {                                                                                         \
        void *found = real(#name);                                                                                     \
        memcpy(&name##_real, &found, sizeof found);                                                                    \
    }

#endif

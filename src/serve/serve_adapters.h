/* Adapters that a server offers beside its model, by name (--lora-modules NAME=DIR,NAME=DIR): a request's model says which one it
 * wears. All of them are in memory from the beginning, and what is asked of different ones shares the pages and takes turns
 * at the engine's steps (engine_set_adapters). Read-only once they are open, so that any thread may ask. */
#ifndef COHORT_SERVE_SERVE_ADAPTERS_H
#define COHORT_SERVE_SERVE_ADAPTERS_H

#include "model/model_adapter.h"
#include "recipe/session.h"

struct serve_adapter {
    char *name;
    const char *dir; /* of the option */
};
/* Zero-initialise. */
struct serve_adapters {
    struct serve_adapter *list; /* [n] */
    struct model_adapter **of;  /* [n] their values */
    int32_t n;
};
/* Reads those that the options name; the session is open. Adds what they take to session->beside. */
cohort_status serve_adapters_open(struct serve_adapters *adapters, struct session *session,
                                  const struct options *options, const char *served, const cohort_observer *observer,
                                  cohort_error *err);
void serve_adapters_close(struct serve_adapters *adapters);
/* The number of one, from 1; 0: none has this name. */
int32_t serve_adapters_find(const struct serve_adapters *adapters, const char *name);
/* The model wears what a request of this name does, or again what it usually does (NULL). On the engine's thread. */
void serve_adapters_wear(const struct serve_adapters *adapters, struct model *model, const char *name);

#endif

/* Lists of requests and of sequences, linked through them: nothing is allocated, and whoever is in one is taken out of it
 * wherever it is. */
#ifndef COHORT_ROLLOUT_REQUEST_QUEUE_H
#define COHORT_ROLLOUT_REQUEST_QUEUE_H

#include "rollout/sequence.h"

/* By previous and next: a request is in one list at a time. */
struct request_list {
    struct request *first, *last;
};
/* Inserts behind after; at the front where after is NULL. */
void request_list_insert(struct request_list *list, struct request *after, struct request *request);
void request_list_append(struct request_list *list, struct request *request);
void request_list_remove(struct request_list *list, struct request *request);

/* By next. */
struct sequence_list {
    struct sequence *first, *last;
};
void sequence_list_append(struct sequence_list *list, struct sequence *sequence);
/* Takes the first one out; NULL: the list is empty. */
struct sequence *sequence_list_pop(struct sequence_list *list);
/* Takes it out, if it is there. */
void sequence_list_remove(struct sequence_list *list, const struct sequence *sequence);

#endif

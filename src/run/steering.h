/* Steering a run from outside: a socket in its folder, at which its trainer says where the run stands and takes requests
 * to pause, to go on and to save a checkpoint.
 *
 * Only the folder's owner may connect: the socket is made with mode 0600, and a peer of another user (root aside) is hung
 * up on. One thread serves it and never touches the training: it copies where the run stands and notes what was asked,
 * under a mutex that is held for no longer than that. A client that hangs, floods or goes away costs a place among
 * STEERING_CLIENTS, which the next one gets, and never more than fifty answers a second.
 *
 * The socket is bound and found through the folder's descriptor, because the address of a socket holds 107 bytes and
 * paths may be longer. One that a dead trainer left is replaced; one at which somebody answers, or a file that is no
 * socket, is left alone. A trainer that cannot have one goes on without.
 *
 * Requests are words with a newline; answers are JSON objects, one a line (docs/RUN.md):
 *   status   {"phase": "rollout", "step": 3, ...}
 *   pause, resume, save   {"ok": true, "text": "..."} */
#ifndef COHORT_RUN_STEERING_H
#define COHORT_RUN_STEERING_H

#include "base/memory.h"

#include <jansson.h>

enum { STEERING_CLIENTS = 8, STEERING_WORD = 16 };
extern const char steering_socket_name[];

/* Where a run stands. */
struct steering_at {
    char phase[STEERING_WORD], unit[STEERING_WORD]; /* "rollout", "tokens" (cohort_progress) */
    int64_t step, steps, done, total;
    double per_second;
    int64_t ended, begun; /* completions of a rollout */
    int64_t saved_step;   /* of the newest checkpoint, -1: none */
};

/* ---- The trainer's end ---- */

struct steering;
/* folder exists, and is locked by the caller. Fails where no socket can be had. */
cohort_status steering_open(struct steering **out, const char *folder, cohort_error *err);
/* Ends the thread and removes the socket. Accepts NULL, as all that follow do. */
void steering_close(struct steering *steering);
/* In a child that was forked since: the socket stays its parent's. */
void steering_leave(struct steering *steering);
void steering_tell(struct steering *steering, const struct steering_at *at);
/* What is asked now: whether the run is to pause, and whether it is to save, which counts as taken with this call where
 * take is true. */
struct steering_asked {
    bool pause, save;
};
struct steering_asked steering_asked(struct steering *steering, bool take);
/* Says that the run pauses now, or goes on. */
void steering_set_paused(struct steering *steering, bool paused);
/* Waits until something is asked, for so many seconds at most. */
void steering_wait(struct steering *steering, double seconds);

/* ---- The other end (steering_client.c) ---- */

struct steering_client;
/* COHORT_ERR_STATE: nobody listens there (the run is not going on, or not on this machine). */
cohort_status steering_connect(struct steering_client **out, const char *folder, cohort_error *err);
void steering_disconnect(struct steering_client *client);
/* *answer: a new reference to the JSON object. Waits a second at most; after a failure the connection is useless. */
cohort_status steering_request(struct steering_client *client, const char *word, json_t **answer, cohort_error *err);

/* ---- What both need (steering_client.c) ---- */

/* A descriptor of the folder, and the address of the socket in it, good while that descriptor is open. */
struct sockaddr_un;
cohort_status steering_address(const char *folder, int *folder_fd, struct sockaddr_un *address, cohort_error *err);
/* A socket that does not block, above descriptor 2; -1 with errno. */
int steering_socket(void);

#endif

/* Owns the thread, the slots and the counts between them. Slot i holds part i, i + SLOTS, ...; parts [done, added) wait
 * for the thread. All counts are under the mutex; a slot's bytes belong to the writer alone from hash_behind_slot to
 * hash_behind_add, and are only read by both after that. */
#include "base/hash_behind.h"

#include <pthread.h>
#include <signal.h>

enum { SLOTS = 4 };

struct hash_behind {
    struct hash hash;
    unsigned char *room, *slots; /* slots: in the room, aligned */
    size_t slot_bytes, length[SLOTS];
    uint64_t added, done;
    bool threaded, ending;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
};

static void *work(void *context)
{
    struct hash_behind *b = context;
    pthread_mutex_lock(&b->mutex);
    for (;;) {
        while (b->done == b->added && !b->ending)
            pthread_cond_wait(&b->changed, &b->mutex);
        if (b->done == b->added)
            break;
        const size_t slot = (size_t)(b->done % SLOTS), length = b->length[slot];
        pthread_mutex_unlock(&b->mutex);
        hash_add(&b->hash, b->slots + slot * b->slot_bytes, length);
        pthread_mutex_lock(&b->mutex);
        b->done++;
        pthread_cond_signal(&b->changed);
    }
    pthread_mutex_unlock(&b->mutex);
    return NULL;
}

cohort_status hash_behind_create(struct hash_behind **out, size_t slot_bytes, cohort_error *err)
{
    struct hash_behind *b = NULL;
    *out = NULL;
    TRY(mem_alloc(&b, 1, sizeof *b, "hash of a file", err));
    cohort_status status = mem_alloc(&b->room, SLOTS * slot_bytes + HASH_BEHIND_ALIGN, 1, "write buffers", err);
    if (status != COHORT_OK) {
        mem_free(b);
        return status;
    }
    b->slots = b->room + HASH_BEHIND_ALIGN - (uintptr_t)b->room % HASH_BEHIND_ALIGN;
    b->slot_bytes = slot_bytes;
    hash_begin(&b->hash);
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->changed, NULL);
    /* The host's signals are not for this thread. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    b->threaded = pthread_create(&b->thread, NULL, work, b) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    *out = b;
    return COHORT_OK;
}

void *hash_behind_slot(struct hash_behind *b)
{
    if (b->threaded) {
        pthread_mutex_lock(&b->mutex);
        while (b->added - b->done >= SLOTS)
            pthread_cond_wait(&b->changed, &b->mutex);
        pthread_mutex_unlock(&b->mutex);
    }
    return b->slots + (size_t)(b->added % SLOTS) * b->slot_bytes;
}

void hash_behind_add(struct hash_behind *b, size_t length)
{
    if (!b->threaded) {
        hash_add(&b->hash, b->slots + (size_t)(b->added % SLOTS) * b->slot_bytes, length);
        b->added++;
        return;
    }
    pthread_mutex_lock(&b->mutex);
    b->length[b->added % SLOTS] = length;
    b->added++;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->mutex);
}

static void join(struct hash_behind *b)
{
    if (!b->threaded)
        return;
    pthread_mutex_lock(&b->mutex);
    b->ending = true;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->mutex);
    pthread_join(b->thread, NULL);
    b->threaded = false;
}

void hash_behind_end(struct hash_behind *b, char hex[HASH_HEX])
{
    join(b);
    hash_end(&b->hash, hex);
}

void hash_behind_destroy(struct hash_behind *b)
{
    if (b == NULL)
        return;
    join(b);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
    mem_free(b->room);
    mem_free(b);
}

#include "ranks/ranks.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

void ranks_close(struct ranks *ranks, int code)
{
    if (ranks == NULL)
        return;
    (void)ranks_device_settle(ranks, NULL);
    if (ranks->device_ops != NULL)
        ranks->device_ops->close(ranks);
    if (ranks->failed && ranks->hosts != NULL)
        ranks->ops->end(ranks, code);
    if (ranks->ops != NULL)
        ranks->ops->close(ranks);
    mem_free(ranks->hosts);
    mem_free(ranks);
}

bool ranks_speaks(const struct ranks *ranks)
{
    struct timespec left = {.tv_sec = 5};
    if (ranks_rank(ranks) == 0)
        return true;
    if (!ranks->failed)
        return false;
    while (nanosleep(&left, &left) != 0 && errno == EINTR) { /* rank 0's end of all is a signal here */
    }
    return true;
}

void ranks_set_timeout(struct ranks *ranks, double seconds)
{
    if (ranks != NULL)
        ranks->timeout = seconds;
}

/* ---- Exchanges ---- */

/* Nothing can be exchanged any more, for the reason in ranks->why. */
static cohort_status has_failed(struct ranks *ranks, cohort_status status, cohort_error *err)
{
    ranks->failed = true;
    ranks->why_status = status;
    /* Now, while what is under way still has the buffers that it comes into: telling makes it go on. */
    ranks_fail(ranks, status, &ranks->why);
    return error_set(err, status, "%s", ranks->why.message);
}

int ranks_pause(int polls)
{
    const struct timespec moment = {.tv_nsec = polls < 2 * RANKS_SPINS ? 50000 : 500000};
    if (polls >= RANKS_SPINS)
        nanosleep(&moment, NULL);
    return polls < 2 * RANKS_SPINS ? polls + 1 : polls;
}

cohort_status ranks_exchange(struct ranks *ranks, const struct ranks_message *sends, size_t n_sends,
                             const struct ranks_message *receives, size_t n_receives, cohort_error *err)
{
    if (ranks_count(ranks) == 1)
        return COHORT_OK;
    if (ranks->failed)
        return error_set(err, ranks->why_status, "%s", ranks->why.message);
    TRY(ranks_device_settle(ranks, err)); /* one kind of wait at a time */
    const cohort_status status = ranks->ops->exchange(ranks, sends, n_sends, receives, n_receives, &ranks->why);
    if (status == COHORT_OK)
        return COHORT_OK;
    return has_failed(ranks, status, err);
}

/* An exchange with everybody: message i is that of rank i, one's own is left out. */
static cohort_status exchange_all(struct ranks *ranks, struct ranks_message *sends, struct ranks_message *receives,
                                  cohort_error *err)
{
    size_t n = 0;
    for (int32_t r = 0; r < ranks->count; r++) {
        if (r == ranks->rank)
            continue;
        sends[n] = sends[r];
        receives[n] = receives[r];
        sends[n].peer = receives[n].peer = r;
        n++;
    }
    return ranks_exchange(ranks, sends, n, receives, n, err);
}

cohort_status ranks_broadcast(struct ranks *ranks, int32_t from, void *bytes, size_t n, cohort_error *err)
{
    struct ranks_message *sends = NULL;
    size_t n_sends = 0;
    if (ranks_count(ranks) == 1)
        return COHORT_OK;
    if (ranks->rank != from)
        return ranks_exchange(ranks, NULL, 0, &(struct ranks_message){from, bytes, n}, 1, err);
    TRY(mem_alloc(&sends, (size_t)ranks->count, sizeof *sends, "messages to ranks", err));
    for (int32_t r = 0; r < ranks->count; r++)
        if (r != from)
            sends[n_sends++] = (struct ranks_message){r, bytes, n};
    const cohort_status status = ranks_exchange(ranks, sends, n_sends, NULL, 0, err);
    mem_free(sends);
    return status;
}

static cohort_status text_room(struct text *text, size_t length, cohort_error *err)
{
    TRY(mem_grow(&text->data, &text->capacity, length + 1, 1, "bytes of other ranks", err));
    text->length = length;
    text->data[length] = '\0';
    return COHORT_OK;
}

cohort_status ranks_broadcast_text(struct ranks *ranks, int32_t from, struct text *text, cohort_error *err)
{
    uint64_t length = text->length;
    if (ranks_count(ranks) == 1)
        return COHORT_OK;
    TRY(ranks_broadcast(ranks, from, &length, sizeof length, err));
    if (ranks->rank != from)
        TRY(text_room(text, (size_t)length, err));
    return ranks_broadcast(ranks, from, text->data, (size_t)length, err);
}

cohort_status ranks_gather(struct ranks *ranks, const void *own, size_t n, void *all, cohort_error *err)
{
    struct ranks_message *messages = NULL;
    const size_t count = (size_t)ranks_count(ranks);
    memcpy((char *)all + (size_t)ranks_rank(ranks) * n, own, n);
    if (count == 1)
        return COHORT_OK;
    TRY(mem_alloc(&messages, 2 * count, sizeof *messages, "messages to ranks", err));
    for (size_t r = 0; r < count; r++) {
        messages[r] = (struct ranks_message){.bytes = (void *)(uintptr_t)own, .n = n};
        messages[count + r] = (struct ranks_message){.bytes = (char *)all + r * n, .n = n};
    }
    const cohort_status status = exchange_all(ranks, messages, messages + count, err);
    mem_free(messages);
    return status;
}

void ranks_texts_free(const struct ranks *ranks, struct text *all)
{
    for (int32_t r = 0; all != NULL && r < ranks_count(ranks); r++)
        text_free(&all[r]);
    mem_free(all);
}

cohort_status ranks_gather_texts(struct ranks *ranks, const struct text *own, struct text **all, cohort_error *err)
{
    struct ranks_message *messages = NULL;
    uint64_t *lengths = NULL, length = own->length;
    const size_t count = (size_t)ranks_count(ranks);
    cohort_status status = COHORT_OK;
    *all = NULL;
    TRY_GOTO(mem_alloc(all, count, sizeof **all, "bytes of other ranks", err));
    TRY_GOTO(mem_alloc(&lengths, count, sizeof *lengths, "bytes of other ranks", err));
    TRY_GOTO(ranks_gather(ranks, &length, sizeof length, lengths, err));
    TRY_GOTO(mem_alloc(&messages, 2 * count, sizeof *messages, "messages to ranks", err));
    for (size_t r = 0; r < count; r++) {
        TRY_GOTO(text_room(&(*all)[r], (size_t)lengths[r], err));
        messages[r] = (struct ranks_message){.bytes = own->data, .n = own->length};
        messages[count + r] = (struct ranks_message){.bytes = (*all)[r].data, .n = (size_t)lengths[r]};
    }
    if (own->length > 0)
        memcpy((*all)[ranks_rank(ranks)].data, own->data, own->length);
    if (count > 1)
        TRY_GOTO(exchange_all(ranks, messages, messages + count, err));
cleanup:
    mem_free(messages);
    mem_free(lengths);
    return status;
}

cohort_status ranks_barrier(struct ranks *ranks, cohort_error *err)
{
    char *all = NULL;
    const char own = 0;
    if (ranks_count(ranks) == 1)
        return COHORT_OK;
    TRY(mem_alloc(&all, (size_t)ranks->count, 1, "messages to ranks", err));
    const cohort_status status = ranks_gather(ranks, &own, 1, all, err);
    mem_free(all);
    return status;
}

/* ---- Exchanges of memory of GPUs ---- */

bool ranks_device(const struct ranks *ranks) { return ranks_count(ranks) > 1 && ranks->device_ops != NULL; }

cohort_status ranks_device_begin(struct ranks *ranks, void *stream, const struct ranks_message *sends, size_t n_sends,
                                 const struct ranks_message *receives, size_t n_receives, uint64_t *ticket,
                                 cohort_error *err)
{
    *ticket = 0;
    if (ranks->failed)
        return error_set(err, ranks->why_status, "%s", ranks->why.message);
    const cohort_status status =
        ranks->device_ops->begin(ranks, stream, sends, n_sends, receives, n_receives, ticket, &ranks->why);
    return status == COHORT_OK ? status : has_failed(ranks, status, err);
}

cohort_status ranks_device_after(struct ranks *ranks, void *stream, uint64_t ticket, cohort_error *err)
{
    if (ranks->failed)
        return error_set(err, ranks->why_status, "%s", ranks->why.message);
    const cohort_status status = ranks->device_ops->after(ranks, stream, ticket, &ranks->why);
    return status == COHORT_OK ? status : has_failed(ranks, status, err);
}

cohort_status ranks_device_settle(struct ranks *ranks, cohort_error *err)
{
    if (!ranks_device(ranks))
        return COHORT_OK;
    if (ranks->failed)
        return error_set(err, ranks->why_status, "%s", ranks->why.message);
    const cohort_status status = ranks->device_ops->settle(ranks, &ranks->why);
    return status == COHORT_OK ? status : has_failed(ranks, status, err);
}

/* ---- Failures ---- */

/* What a rank says of its failure, or of none. */
struct notice {
    int32_t rank, status;
    char message[sizeof((cohort_error){0}.message)];
};

static struct notice notice_of(const struct ranks *ranks, cohort_status status, const cohort_error *err)
{
    struct notice notice = {.rank = ranks->rank, .status = (int32_t)status};
    snprintf(notice.message, sizeof notice.message, "%s", status == COHORT_OK || err == NULL ? "" : err->message);
    return notice;
}

cohort_status ranks_told(struct ranks *ranks, const void *bytes, size_t n, cohort_error *err)
{
    struct notice notice = {0};
    memcpy(&notice, bytes, n < sizeof notice ? n : sizeof notice);
    notice.message[sizeof notice.message - 1] = '\0';
    ranks->failed = ranks->told = true;
    if (notice.rank < 0 || notice.rank >= ranks->count || notice.status == COHORT_OK)
        return error_set(err, COHORT_ERR_INTERNAL, "another rank gave a notice that makes no sense");
    return error_set(err, (cohort_status)notice.status, "rank %d of %d (%s): %s", (int)notice.rank, (int)ranks->count,
                     ranks->hosts[notice.rank], notice.message);
}

cohort_status ranks_agree(struct ranks *ranks, cohort_status status, const cohort_error *own, cohort_error *err)
{
    if (status == COHORT_OK)
        return ranks_barrier(ranks, err);
    ranks_fail(ranks, status, own);
    return status;
}

void ranks_fail(struct ranks *ranks, cohort_status status, const cohort_error *err)
{
    if (ranks_count(ranks) == 1 || ranks->told || ranks->agreed)
        return;
    const struct notice own = notice_of(ranks, status, err);
    ranks->failed = ranks->told = true;
    ranks->ops->notify(ranks, &own, sizeof own);
}

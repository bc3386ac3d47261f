/* A run is published by one word, the ticket: its number, how many pieces it has and which is the next to take. A
 * thread takes a piece by moving the ticket on from the value it has read, so whoever comes late, with a ticket of an
 * earlier run, takes nothing; and the ticket alone says whether there is one to take, because the fields that describe
 * the run may by then be the next run's. These change only when as many pieces are done as there are: until then they
 * belong to whoever can move the ticket. A thread that holds no piece is not waited for.
 *
 * Waiting: first a loop that looks at the word and pauses the core, for as long as lately paid; then a futex. The loop
 * is short because a thread that spins holds the core that a working one may need, and not zero because to wake a
 * sleeper takes tens of microseconds, as long as a product with one row. */
#include "base/pool.h"

#include "base/memory.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    STACK_BYTES = 1 << 20,
    INDEX_BITS = 13,            /* of the ticket: the next piece; above it as many for the number of pieces */
    RUN_SHIFT = 2 * INDEX_BITS, /* the other 38 count runs */
    MAX_PIECES = (1 << INDEX_BITS) - 1,
    PIECES_EACH = 4,       /* for each thread, where the caller leaves the grain to us */
    SPIN_MOST_NS = 200000, /* one wait spins for this long at most */
    SPIN_LEAST_NS = 2000,
    TAKEN_OFF_NS = 100000, /* between two looks at the clock: the core was given to another */
    SPIN_ROUNDS = 32       /* between two looks at the clock */
};

/* Where a thread may be taken off its core to harm: the test of the pool sleeps here at random. */
#ifndef POOL_DELAY
#define POOL_DELAY() ((void)0)
#endif

/* How long one thread spins before it sleeps: adapts. */
struct patience {
    int64_t spin_ns;
};

struct worker {
    struct pool *pool;
    pthread_t thread;
    int number;
};

struct pool {
    _Alignas(64) _Atomic uint64_t ticket; /* run, pieces, next piece */
    /* Pieces done in this run; its caller sleeps on it. */
    _Alignas(64) _Atomic uint32_t done;
    atomic_bool caller_sleeps;
    /* Moves when sleeping workers are woken; they sleep on it. */
    _Alignas(64) _Atomic uint32_t wake;
    atomic_int sleepers;
    atomic_bool closing;
    /* The run. */
    _Alignas(64) _Atomic(pool_fn *) fn;
    _Atomic(const void *) context;
    _Atomic int64_t items, grain;
    _Atomic(const struct stop *) stop;
    _Alignas(64) pthread_mutex_t lock; /* one run at a time */
    uint64_t run;
    struct patience patience; /* of the caller */
    int n_threads;            /* the caller is one of them */
    pid_t pid;
    struct worker worker[]; /* number 1 .. n_threads - 1 */
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void pause_core(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

/* Returns at once if *word is not value; may return for no reason. */
static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, (uint32_t *)word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int count)
{
    syscall(SYS_futex, (uint32_t *)word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* ---- Waiting ---- */

typedef bool ready_fn(struct pool *pool, uint64_t value);

/* Spins until ready. False: not within the time, and the thread should sleep. */
static inline bool spin(struct pool *pool, struct patience *patience, int64_t start, ready_fn *ready, uint64_t value)
{
    int64_t before = start;
    for (;;) {
        for (int i = 0; i < SPIN_ROUNDS; i++) {
            if (ready(pool, value))
                return true;
            pause_core();
        }
        const int64_t now = now_ns();
        if (now - before > TAKEN_OFF_NS) {
            patience->spin_ns = SPIN_LEAST_NS;
            return false;
        }
        if (now - start > patience->spin_ns)
            return false;
        before = now;
    }
}

/* After a wait that slept: would spinning have paid? */
static void learn(struct patience *patience, int64_t waited_ns)
{
    int64_t spin_ns = waited_ns < SPIN_MOST_NS ? 2 * patience->spin_ns : patience->spin_ns / 2;
    spin_ns = spin_ns < SPIN_MOST_NS ? spin_ns : SPIN_MOST_NS;
    patience->spin_ns = spin_ns > SPIN_LEAST_NS ? spin_ns : SPIN_LEAST_NS;
}

static bool run_is_new(struct pool *pool, uint64_t seen)
{
    return atomic_load(&pool->ticket) >> RUN_SHIFT != seen || atomic_load(&pool->closing);
}

/* Until there is another run than the one seen, or the pool closes. */
static void await_run(struct pool *pool, struct patience *patience, uint64_t seen)
{
    const int64_t start = now_ns();
    if (spin(pool, patience, start, run_is_new, seen))
        return;
    for (;;) {
        const uint32_t wake = atomic_load(&pool->wake);
        atomic_fetch_add(&pool->sleepers, 1);
        const bool ready = run_is_new(pool, seen);
        POOL_DELAY();
        if (!ready)
            futex_wait(&pool->wake, wake);
        atomic_fetch_sub(&pool->sleepers, 1);
        if (ready || run_is_new(pool, seen))
            break;
    }
    learn(patience, now_ns() - start);
}

static bool run_is_done(struct pool *pool, uint64_t pieces) { return atomic_load(&pool->done) == pieces; }

static void await_done(struct pool *pool, uint32_t pieces)
{
    if (run_is_done(pool, pieces))
        return;
    const int64_t start = now_ns();
    if (spin(pool, &pool->patience, start, run_is_done, pieces))
        return;
    atomic_store(&pool->caller_sleeps, true);
    for (uint32_t done; (done = atomic_load(&pool->done)) != pieces;) {
        POOL_DELAY();
        futex_wait(&pool->done, done);
    }
    atomic_store(&pool->caller_sleeps, false);
    learn(&pool->patience, now_ns() - start);
}

/* ---- Work ---- */

bool pool_stopped(struct pool *pool) { return stop_requested(atomic_load_explicit(&pool->stop, memory_order_relaxed)); }

static void do_piece(struct pool *pool, int64_t items, int64_t grain, int64_t piece, pool_fn *fn, const void *context,
                     int thread)
{
    const int64_t begin = piece * grain, end = items - begin < grain ? items : begin + grain;
    if (!pool_stopped(pool))
        fn(context, begin, end, thread);
}

/* Takes pieces of the run until there are none left. */
static void take_pieces(struct pool *pool, uint64_t run, int thread)
{
    uint64_t ticket = atomic_load(&pool->ticket);
    while (ticket >> RUN_SHIFT == run) {
        const uint64_t piece = ticket & MAX_PIECES, pieces = ticket >> INDEX_BITS & MAX_PIECES;
        if (piece == pieces)
            return;
        POOL_DELAY();
        pool_fn *fn = atomic_load_explicit(&pool->fn, memory_order_relaxed);
        const void *context = atomic_load_explicit(&pool->context, memory_order_relaxed);
        const int64_t items = atomic_load_explicit(&pool->items, memory_order_relaxed);
        const int64_t grain = atomic_load_explicit(&pool->grain, memory_order_relaxed);
        POOL_DELAY();
        if (!atomic_compare_exchange_strong(&pool->ticket, &ticket, ticket + 1))
            continue;
        do_piece(pool, items, grain, (int64_t)piece, fn, context, thread);
        if (atomic_fetch_add(&pool->done, 1) + 1 == pieces && atomic_load(&pool->caller_sleeps))
            futex_wake(&pool->done, 1);
        ticket = atomic_load(&pool->ticket);
    }
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    struct patience patience = {SPIN_MOST_NS};
    uint64_t seen = 0;
    for (;;) {
        await_run(pool, &patience, seen);
        if (atomic_load(&pool->closing))
            return NULL;
        seen = atomic_load(&pool->ticket) >> RUN_SHIFT;
        take_pieces(pool, seen, worker->number);
    }
}

static int64_t pieces_of(int64_t items, int64_t *grain, int threads)
{
    if (*grain <= 0)
        *grain = items / ((int64_t)PIECES_EACH * threads);
    if (*grain < (items - 1) / MAX_PIECES + 1)
        *grain = (items - 1) / MAX_PIECES + 1;
    return (items - 1) / *grain + 1;
}

void pool_run_alone(struct pool *pool, int64_t items, int64_t grain, pool_fn *fn, const void *context)
{
    if (items <= 0)
        return;
    const int64_t pieces = pieces_of(items, &grain, 1);
    for (int64_t piece = 0; piece < pieces; piece++)
        do_piece(pool, items, grain, piece, fn, context, 0);
}

static bool is_forked(const struct pool *pool) { return getpid() != pool->pid; }

void pool_run(struct pool *pool, int64_t items, int64_t grain, pool_fn *fn, const void *context)
{
    if (items <= 0)
        return;
    if (pool == NULL) {
        fn(context, 0, items, 0);
        return;
    }
    if (is_forked(pool)) { /* the lock may be held by a thread that is not here */
        if (pool->n_threads == 1)
            pool_run_alone(pool, items, grain, fn, context);
        return;
    }
    const int64_t pieces = pieces_of(items, &grain, pool->n_threads);
    pthread_mutex_lock(&pool->lock);
    if (pool->n_threads == 1 || pieces == 1) {
        pool_run_alone(pool, items, grain, fn, context);
        pthread_mutex_unlock(&pool->lock);
        return;
    }
    atomic_store_explicit(&pool->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&pool->context, context, memory_order_relaxed);
    atomic_store_explicit(&pool->items, items, memory_order_relaxed);
    atomic_store_explicit(&pool->grain, grain, memory_order_relaxed);
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    const uint64_t run = pool->run = (pool->run + 1) & (UINT64_MAX >> RUN_SHIFT);
    POOL_DELAY();
    atomic_store(&pool->ticket, run << RUN_SHIFT | (uint64_t)pieces << INDEX_BITS);
    /* A worker counts itself as a sleeper before it looks at the ticket for the last time. */
    const int sleepers = atomic_load(&pool->sleepers);
    if (sleepers > 0) {
        atomic_fetch_add(&pool->wake, 1);
        futex_wake(&pool->wake, sleepers < pieces ? sleepers : (int)pieces - 1);
    }
    take_pieces(pool, run, 0);
    await_done(pool, (uint32_t)pieces);
    pthread_mutex_unlock(&pool->lock);
}

void pool_set_stop(struct pool *pool, const struct stop *stop)
{
    atomic_store_explicit(&pool->stop, stop, memory_order_relaxed);
}

cohort_status pool_check(struct pool *pool, cohort_error *err)
{
    if (pool->n_threads > 1 && is_forked(pool))
        return error_set(err, COHORT_ERR_STATE,
                         "the model was opened before this process was forked, and its threads are "
                         "in the parent only; open it again in the child");
    return COHORT_OK;
}

/* ---- Life ---- */

int pool_threads(const struct pool *pool) { return pool->n_threads; }

/* Starts as many workers as the system gives. */
static void start_workers(struct pool *pool, int threads)
{
    pthread_attr_t attributes;
    sigset_t none, before;
    if (pthread_attr_init(&attributes) != 0)
        return;
    /* Signals are the host program's own; a fault must still end the process as it should. */
    sigfillset(&none);
    sigdelset(&none, SIGSEGV);
    sigdelset(&none, SIGBUS);
    sigdelset(&none, SIGFPE);
    sigdelset(&none, SIGILL);
    if (pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0 && pthread_sigmask(SIG_SETMASK, &none, &before) == 0) {
        while (pool->n_threads < threads) {
            struct worker *worker = &pool->worker[pool->n_threads - 1];
            *worker = (struct worker){.pool = pool, .number = pool->n_threads};
            if (pthread_create(&worker->thread, &attributes, work, worker) != 0)
                break;
            pool->n_threads++;
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attributes);
}

cohort_status pool_create(struct pool **out, int threads, cohort_error *err)
{
    struct pool *pool = NULL;
    *out = NULL;
    if (threads < 1 || threads > POOL_MAX_THREADS)
        return error_set(err, COHORT_ERR_ARGUMENT, "a pool has 1 to %d threads, not %d", POOL_MAX_THREADS, threads);
    TRY(mem_alloc(&pool, 1, sizeof *pool + (size_t)threads * sizeof *pool->worker, "thread pool", err));
    if (pthread_mutex_init(&pool->lock, NULL) != 0) {
        mem_free(pool);
        return error_set(err, COHORT_ERR_MEMORY, "the system has no lock for a thread pool");
    }
    pool->patience.spin_ns = SPIN_MOST_NS;
    pool->n_threads = 1;
    pool->pid = getpid();
    start_workers(pool, threads);
    *out = pool;
    return COHORT_OK;
}

void pool_destroy(struct pool *pool)
{
    if (pool == NULL)
        return;
    if (!is_forked(pool)) {
        atomic_store(&pool->closing, true);
        atomic_fetch_add(&pool->wake, 1);
        futex_wake(&pool->wake, INT_MAX);
        for (int i = 1; i < pool->n_threads; i++)
            pthread_join(pool->worker[i - 1].thread, NULL);
        pthread_mutex_destroy(&pool->lock);
    }
    mem_free(pool);
}

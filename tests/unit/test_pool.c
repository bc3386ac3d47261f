/* The thread pool: every item once, however it is cut, slept on, called, stopped, forked or starved; and how many cores
 * a process has. Also run under ThreadSanitizer (make tsan). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/cores.h"
#include "base/file.h"
/* The pool's own source, with threads that are held up at random in its narrow places. */
static void delay(void);
#define POOL_DELAY() delay()
#include "base/pool.c"
#include "support/sanitized.h"
#include "support/temporary_folder.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ITEMS = 600 };

static struct pool *open_pool(int threads)
{
    struct pool *pool = NULL;
    cohort_error err = {0};
    if (pool_create(&pool, threads, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(pool_threads(pool), threads);
    return pool;
}

static void sleep_us(long us)
{
    nanosleep(&(struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000}, NULL);
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* One in 16: sometimes long enough for the others to get through several runs. */
static void delay(void)
{
    static _Thread_local uint32_t seed;
    if (seed == 0)
        seed = (uint32_t)(uintptr_t)&seed >> 4;
    const uint32_t draw = next_random(&seed);
    if (draw % 256 == 0)
        sleep_us(draw / 256 % 300);
    else if (draw % 16 == 0)
        sched_yield();
}

struct count {
    int64_t items;
    int threads;
    uint32_t sleep_one_in;             /* pieces; 0: none sleeps */
    atomic_int bad;                    /* a range or a thread number that cannot be */
    atomic_int busy[POOL_MAX_THREADS]; /* a thread number is one thread's at a time */
    int done[MAX_ITEMS];               /* plain: the pool is what orders these */
};

static void count_items(const void *context, int64_t begin, int64_t end, int thread)
{
    struct count *count = (struct count *)(uintptr_t)context;
    if (begin < 0 || begin >= end || end > count->items || thread < 0 || thread >= count->threads ||
        atomic_fetch_add(&count->busy[thread], 1) != 0) {
        atomic_fetch_add(&count->bad, 1);
        return;
    }
    for (int64_t i = begin; i < end; i++)
        count->done[i]++;
    uint32_t seed = (uint32_t)(begin * 7 + thread);
    if (count->sleep_one_in > 0 && next_random(&seed) % count->sleep_one_in == 0)
        sleep_us(next_random(&seed) % 600);
    atomic_fetch_sub(&count->busy[thread], 1);
}

/* Random sizes: the caller reads what all threads wrote. */
static void count_runs(struct pool *pool, int runs, int most, uint32_t sleep_one_in, uint32_t seed)
{
    static _Thread_local struct count count;
    for (int run = 0; run < runs; run++) {
        const int64_t items = 1 + next_random(&seed) % (uint32_t)most;
        const int64_t grain = next_random(&seed) % 3 == 0 ? 0 : 1 + next_random(&seed) % 9;
        count.items = items;
        count.threads = pool_threads(pool);
        count.sleep_one_in = sleep_one_in;
        memset(count.done, 0, sizeof count.done);
        pool_run(pool, items, grain, count_items, &count);
        assert_int_equal(atomic_load(&count.bad), 0);
        for (int64_t i = 0; i < MAX_ITEMS; i++)
            assert_int_equal(count.done[i], i < items);
    }
}

static void test_every_item_once(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 8; threads++) {
        struct pool *pool = open_pool(threads);
        count_runs(pool, 300, MAX_ITEMS, 0, (uint32_t)threads);
        count_runs(pool, 60, 40, 3, (uint32_t)threads); /* threads come late, callers wait long */
        pool_run(pool, 0, 0, count_items, NULL);        /* nothing to do: fn is not called */
        pool_run(pool, -1, 0, count_items, NULL);
        pool_destroy(pool);
    }
    pool_destroy(NULL);
}

static void test_many_tiny_runs(void **state)
{
    (void)state;
    for (int threads = 2; threads <= 5; threads++) {
        struct pool *pool = open_pool(threads);
        count_runs(pool, SLOW ? 500 : 2000, 4, 0, (uint32_t)threads);
        for (int burst = 0; burst < 20; burst++) { /* workers sleep in between */
            count_runs(pool, 20, 6, 0, (uint32_t)burst);
            sleep_us(1000);
        }
        pool_destroy(pool);
    }
}

/* A run of few pieces, then one of more, over and over, with more threads than cores: a thread that is taken off its
 * core between looking at the end of one run and the beginning of the next must not take a piece of it that another has
 * too. */
static void test_fewer_then_more(void **state)
{
    (void)state;
    static struct count count;
    struct pool *pool = open_pool(4);
    count.threads = 4;
    for (int run = 0; run < (SLOW ? 2000 : 5000); run++) {
        count.items = run % 2 == 0 ? 2 : 64;
        memset(count.done, 0, (size_t)count.items * sizeof *count.done);
        pool_run(pool, count.items, 1, count_items, &count);
        assert_int_equal(atomic_load(&count.bad), 0);
        for (int64_t i = 0; i < count.items; i++)
            assert_int_equal(count.done[i], 1);
    }
    pool_destroy(pool);
}

static void test_create_and_destroy(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct pool *pool = open_pool(1 + i % 4);
        if (i % 3 == 0)
            count_runs(pool, 1 + i % 5, 8, 0, (uint32_t)i);
        if (i % 7 == 0)
            sleep_us(500);
        pool_destroy(pool);
    }
}

struct caller {
    struct pool *pool;
    uint32_t seed;
};

static void *call(void *argument)
{
    const struct caller *caller = argument;
    count_runs(caller->pool, 300, 60, caller->seed % 2 == 0 ? 40 : 0, caller->seed);
    return NULL;
}

static void test_concurrent_callers(void **state)
{
    (void)state;
    enum { CALLERS = 4 };
    pthread_t thread[CALLERS];
    struct caller caller[CALLERS];
    struct pool *pool = open_pool(3);
    for (uint32_t i = 0; i < CALLERS; i++) {
        caller[i] = (struct caller){pool, i};
        assert_int_equal(pthread_create(&thread[i], NULL, call, &caller[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++)
        pthread_join(thread[i], NULL);
    pool_destroy(pool);
}

/* ---- A thread that is off its core ---- */

static atomic_int others_done;

static void one_is_slow(const void *context, int64_t begin, int64_t end, int thread)
{
    atomic_int *held = (atomic_int *)(uintptr_t)context;
    (void)begin;
    (void)end;
    if (thread == 1 && atomic_fetch_add(held, 1) == 0)
        for (int i = 0; i < 2000 && atomic_load(&others_done) < 63; i++)
            sleep_us(1000);
    else
        sleep_us(100);
    atomic_fetch_add(&others_done, 1);
}

/* It holds up the one piece that it has begun: all others are done meanwhile. */
static void test_slow_thread(void **state)
{
    (void)state;
    struct pool *pool = open_pool(2);
    for (int run = 0; run < 3; run++) {
        atomic_int held = 0;
        atomic_store(&others_done, 0);
        pool_run(pool, 64, 1, one_is_slow, &held);
        assert_int_equal(atomic_load(&others_done), 64);
    }
    pool_destroy(pool);
}

/* ---- Stop ---- */

struct stopping {
    struct pool *pool;
    struct stop *stop;
    int at;
    atomic_int done;
};

static void stop_in_the_middle(const void *context, int64_t begin, int64_t end, int thread)
{
    struct stopping *s = (struct stopping *)(uintptr_t)context;
    (void)thread;
    if (atomic_fetch_add(&s->done, (int)(end - begin)) + (int)(end - begin) == s->at)
        atomic_store(&s->stop->requested, true);
    (void)begin;
}

static void test_stop(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        struct pool *pool = open_pool(threads);
        cohort_error err = {0};
        struct stop stop = {false};
        struct stopping s = {.pool = pool, .stop = &stop, .at = 20};
        pool_set_stop(pool, &stop);
        pool_run(pool, 1000, 1, stop_in_the_middle, &s);
        assert_in_range(atomic_load(&s.done), 20, 20 + threads);
        atomic_store(&s.done, 0);
        pool_run_alone(pool, 1000, 1, stop_in_the_middle, &s);
        assert_int_equal(atomic_load(&s.done), 0);
        assert_true(pool_stopped(pool));
        assert_int_equal(pool_check(pool, &err), COHORT_OK); /* whoever looks at stop knows */

        /* What must be finished runs without one. */
        pool_set_stop(pool, NULL);
        assert_false(pool_stopped(pool));
        pool_run(pool, 1000, 0, stop_in_the_middle, &s);
        pool_run_alone(pool, 1000, 0, stop_in_the_middle, &s);
        assert_int_equal(atomic_load(&s.done), 2000);
        pool_destroy(pool);
    }
}

/* ---- The process around it ---- */

static int child_status(pid_t child)
{
    int status = 0;
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* Neither hangs nor computes in a child; a pool without threads of its own works there. */
static void test_fork(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        struct pool *pool = open_pool(threads);
        count_runs(pool, 3, 50, 0, 1);
        const pid_t child = fork();
        if (child == 0) {
            cohort_error err = {0};
            struct stop stop = {false};
            struct stopping s = {.stop = &stop};
            alarm(20);
            pool_run(pool, 10, 1, stop_in_the_middle, &s);
            const cohort_status status = pool_check(pool, &err);
            const int done = atomic_load(&s.done);
            pool_destroy(pool);
            if (threads == 1)
                _exit(status == COHORT_OK && done == 10 ? 0 : 1);
            _exit(status == COHORT_ERR_STATE && done == 0 && strstr(err.message, "forked") ? 0 : 2);
        }
        assert_int_equal(child_status(child), 0);
        count_runs(pool, 3, 50, 0, 2);
        pool_destroy(pool);
    }
}

static void look_at_signals(const void *context, int64_t begin, int64_t end, int thread)
{
    atomic_int *seen = (atomic_int *)(uintptr_t)context;
    sigset_t set;
    (void)begin;
    (void)end;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    const int blocked = sigismember(&set, SIGTERM) && sigismember(&set, SIGHUP) && !sigismember(&set, SIGSEGV);
    atomic_fetch_or(seen, thread == 0 ? 1 : blocked ? 2 : 4);
    sleep_us(2000);
}

/* The host's signals are handled on its own threads. */
static void test_signals(void **state)
{
    (void)state;
    struct pool *pool = open_pool(2);
    atomic_int seen = 0;
    for (int run = 0; run < 200 && (atomic_load(&seen) & 2) == 0; run++)
        pool_run(pool, 8, 1, look_at_signals, &seen);
    assert_int_equal(atomic_load(&seen), 3);
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    assert_false(sigismember(&set, SIGTERM));
    pool_destroy(pool);
}

static size_t address_space(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    const int read = file == NULL ? 0 : fscanf(file, "%lu", &pages);
    if (file != NULL)
        fclose(file);
    return read == 1 ? pages * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

/* No room for all the stacks: a smaller pool that works, or none, with a status. */
static void test_too_few_threads(void **state)
{
    (void)state;
    if (SLOW)
        skip(); /* a sanitizer or an emulator wants all the address space */
    const pid_t child = fork();
    if (child == 0) {
        const size_t bytes = address_space() + ((size_t)5 << 20);
        struct pool *pool = NULL;
        cohort_error err = {0};
        struct stop stop = {false};
        struct stopping s = {.stop = &stop};
        alarm(20);
        setrlimit(RLIMIT_AS, &(struct rlimit){bytes, bytes});
        if (pool_create(&pool, 64, &err) != COHORT_OK)
            _exit(2);
        const int threads = pool_threads(pool);
        pool_run(pool, 1000, 1, stop_in_the_middle, &s);
        pool_destroy(pool);
        _exit(threads >= 1 && threads < 64 && atomic_load(&s.done) == 1000 ? 0 : 3);
    }
    assert_int_equal(child_status(child), 0);
    struct pool *pool = NULL;
    cohort_error err = {0};
    assert_int_equal(pool_create(&pool, 0, &err), COHORT_ERR_ARGUMENT);
    assert_int_equal(pool_create(&pool, POOL_MAX_THREADS + 1, &err), COHORT_ERR_ARGUMENT);
    assert_null(pool);
}

/* ---- Cores ---- */

static void make_folders(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s", in_folder(name));
    for (char *at = path + strlen(folder) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        mkdir(path, 0777);
        *at = '/';
    }
}

static void file(const char *name, const char *content)
{
    make_folders(name);
    put(name, content);
}

static void test_quota_v2(void **state)
{
    (void)state;
    assert_true(cores_quota(folder) == 0.0); /* nothing there */
    file("proc/self/cgroup", "0::/jobs/one\n");
    assert_true(cores_quota(folder) == 0.0);
    file("sys/fs/cgroup/jobs/one/cpu.max", "max 100000\n");
    assert_true(cores_quota(folder) == 0.0);
    file("sys/fs/cgroup/jobs/one/cpu.max", "150000 100000\n");
    assert_true(cores_quota(folder) == 1.5);
    file("sys/fs/cgroup/jobs/cpu.max", "50000 100000\n"); /* a group above has less */
    assert_true(cores_quota(folder) == 0.5);
    file("sys/fs/cgroup/jobs/cpu.max", "400000 100000\n");
    assert_true(cores_quota(folder) == 1.5);
    static const char *const broken[] = {"",           "\n",          "150000\n",     "x 100000\n",
                                         "150000 0\n", "-5 100000\n", "150000 1e5\n", "1 \n"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        file("sys/fs/cgroup/jobs/one/cpu.max", broken[i]);
        assert_true(cores_quota(folder) == 4.0);
    }
    /* In a container: the host's path, of which only the end is mounted here. */
    file("proc/self/cgroup", "0::/../../system.slice/docker-1.scope\n");
    file("sys/fs/cgroup/cpu.max", "250000 100000\n");
    assert_true(cores_quota(folder) == 2.5);
    file("proc/self/cgroup", "0::/\n");
    assert_true(cores_quota(folder) == 2.5);
}

static void test_quota_v1(void **state)
{
    (void)state;
    file("proc/self/cgroup", "9:memory:/x\n4:cpuset:/x\n2:cpu,cpuacct:/docker/abc\n0::/\n");
    assert_true(cores_quota(folder) == 0.0);
    file("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1\n");
    file("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
    assert_true(cores_quota(folder) == 0.0);
    file("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "325000\n");
    assert_true(cores_quota(folder) == 3.25);
    file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n"); /* as a container sees it */
    file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_true(cores_quota(folder) == 2.0);
    file("sys/fs/cgroup/cpu.max", "100000 100000\n"); /* both versions: the smaller */
    assert_true(cores_quota(folder) == 1.0);
    file("proc/self/cgroup", "4:cpuset:/\n3:cpuacct:/\n"); /* other controllers have no say */
    assert_true(cores_quota(folder) == 0.0);
    file("proc/self/cgroup", "garbage\n:\n::\n2:cpu\n");
    assert_true(cores_quota(folder) == 1.0); /* "::" is the root of version 2 */
}

static void test_cores(void **state)
{
    (void)state;
    struct cores cores = {0};
    cores_find(&cores);
    assert_in_range(cores.usable, 1, cores.affinity);
    assert_in_range(cores.affinity, 1, cores.online);
    assert_true(cores.quota >= 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_item_once),
        cmocka_unit_test(test_many_tiny_runs),
        cmocka_unit_test(test_fewer_then_more),
        cmocka_unit_test(test_create_and_destroy),
        cmocka_unit_test(test_concurrent_callers),
        cmocka_unit_test(test_slow_thread),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_too_few_threads),
        cmocka_unit_test_setup(test_quota_v2, setup),
        cmocka_unit_test_setup(test_quota_v1, setup),
        cmocka_unit_test(test_cores),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

/* Waits last as long as they should although somebody sets the date, and end early at a signal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/clock.h"

#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static time_t ahead; /* of the kernel's date, in seconds */

/* In place of libc's: the date that this program is told. */
int clock_gettime(clockid_t id, struct timespec *now)
{
    const long code = syscall(SYS_clock_gettime, id, now);
    if (id == CLOCK_REALTIME)
        now->tv_sec += ahead;
    return (int)code;
}

struct meeting {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
};

static void *signals(void *context)
{
    struct meeting *m = context;
    pthread_mutex_lock(&m->mutex);
    pthread_cond_signal(&m->changed);
    pthread_mutex_unlock(&m->mutex);
    return NULL;
}

static void test_wait(void **state)
{
    struct meeting m = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    pthread_t thread;
    (void)state;
    assert_int_equal(clock_condition(&m.changed), 0);
    pthread_mutex_lock(&m.mutex);
    for (int i = 0; i < 2; i++) {
        ahead = i == 0 ? 0 : 20; /* what a date was reckoned with is gone when it is set back */
        const double begin = clock_seconds();
        clock_wait(&m.changed, &m.mutex, 0.05);
        const double waited = clock_seconds() - begin;
        assert_true(waited > 0.04 && waited < 10.0);
    }
    assert_int_equal(pthread_create(&thread, NULL, signals, &m), 0); /* which waits for the mutex */
    const double begin = clock_seconds();
    clock_wait(&m.changed, &m.mutex, 60.0);
    assert_true(clock_seconds() - begin < 30.0);
    pthread_mutex_unlock(&m.mutex);
    pthread_join(thread, NULL);
    pthread_cond_destroy(&m.changed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_wait)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

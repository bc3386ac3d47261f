/* The socket of a run folder: who may connect, what is answered, and that nothing a client does disturbs the trainer or
 * other clients. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "run/steering.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/cohort-steering-XXXXXX";
static char run[600], socket_path[700];

/* A run folder whose path is longer than the address of a socket. */
static int make_folder(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL || chmod(folder, 0755) != 0)
        return -1;
    snprintf(run, sizeof run, "%s/%0120d/%0120d", folder, 1, 2);
    snprintf(socket_path, sizeof socket_path, "%s/%s", run, steering_socket_name);
    return file_make_dirs(run, NULL) == COHORT_OK ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return file_remove_all(folder, NULL) == COHORT_OK ? 0 : -1;
}

static struct steering *open_steering(void)
{
    struct steering *steering = NULL;
    cohort_error err = {0};
    if (steering_open(&steering, run, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return steering;
}

static struct steering_client *connect_client(void)
{
    struct steering_client *client = NULL;
    cohort_error err = {0};
    if (steering_connect(&client, run, &err) != COHORT_OK)
        fail_msg("%s", err.message);
    return client;
}

/* A client that this library did not make. */
static int raw(void)
{
    struct sockaddr_un address;
    int folder_fd = -1;
    assert_int_equal(steering_address(run, &folder_fd, &address, NULL), COHORT_OK);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(folder_fd);
    return fd;
}

static json_t *asked(struct steering_client *client, const char *word)
{
    json_t *answer = NULL;
    cohort_error err = {0};
    if (steering_request(client, word, &answer, &err) != COHORT_OK)
        fail_msg("%s: %s", word, err.message);
    return answer;
}

static bool says(struct steering_client *client, const char *word, const char *text)
{
    json_t *answer = asked(client, word);
    const char *said = json_string_value(json_object_get(answer, "text"));
    const bool same = said != NULL && strstr(said, text) != NULL;
    json_decref(answer);
    return same;
}

static void test_requests(void **state)
{
    (void)state;
    const mode_t mask = umask(0);
    struct steering *s = open_steering();
    umask(mask);
    struct stat st;
    assert_int_equal(lstat(socket_path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0600);
    struct steering_client *client = connect_client();
    const struct steering_at at = {.phase = "rollout",
                                   .unit = "tokens",
                                   .step = 7,
                                   .steps = 20,
                                   .done = 100,
                                   .total = 400,
                                   .ended = 3,
                                   .begun = 16,
                                   .saved_step = 5,
                                   .per_second = 12.5};
    steering_tell(s, &at);
    json_t *status = asked(client, "status");
    assert_string_equal(json_string_value(json_object_get(status, "phase")), "rollout");
    assert_int_equal(json_integer_value(json_object_get(status, "step")), 7);
    assert_int_equal(json_integer_value(json_object_get(status, "ended")), 3);
    assert_int_equal(json_integer_value(json_object_get(status, "saved_step")), 5);
    assert_true(json_is_false(json_object_get(status, "pausing")));
    assert_true(json_integer_value(json_object_get(status, "memory_bytes")) > 100000);
    json_decref(status);

    assert_false(steering_asked(s, true).pause);
    assert_true(says(client, "pause", "after this step"));
    assert_true(steering_asked(s, true).pause);
    assert_true(steering_asked(s, true).pause); /* until it is taken back */
    steering_set_paused(s, true);
    assert_true(says(client, "pause", "already"));
    status = asked(client, "status");
    assert_string_equal(json_string_value(json_object_get(status, "phase")), "paused");
    assert_true(json_is_true(json_object_get(status, "paused")));
    json_decref(status);
    assert_true(says(client, "save", "now"));
    assert_true(steering_asked(s, false).save);
    assert_true(steering_asked(s, true).save);
    assert_false(steering_asked(s, true).save); /* once */
    assert_true(says(client, "resume", "goes on"));
    assert_false(steering_asked(s, true).pause);
    assert_true(says(client, "resume", "does not pause"));
    assert_true(says(client, "status?", "a request is"));
    steering_disconnect(client);
    steering_close(s);
    assert_int_equal(lstat(socket_path, &st), -1);
    cohort_error err = {0};
    assert_int_equal(steering_connect(&client, run, &err), COHORT_ERR_STATE);
    assert_non_null(strstr(err.message, "no trainer listens"));
}

static void *ask_pause(void *client)
{
    usleep(50000);
    json_decref(asked(client, "pause"));
    return NULL;
}

/* A trainer that waits is woken by a request. */
static void test_wait(void **state)
{
    (void)state;
    struct steering *s = open_steering();
    struct steering_client *client = connect_client();
    pthread_t thread;
    const double begin = clock_seconds();
    assert_int_equal(pthread_create(&thread, NULL, ask_pause, client), 0);
    steering_wait(s, 20.0);
    assert_true(clock_seconds() - begin < 10.0);
    assert_true(steering_asked(s, true).pause);
    pthread_join(thread, NULL);
    steering_wait(s, 0.01);
    steering_disconnect(client);
    steering_close(s);
}

static void test_what_lies_there(void **state)
{
    (void)state;
    struct steering *s = open_steering(), *second = NULL;
    struct stat st;
    cohort_error err = {0};
    /* Somebody listens: it is left alone. */
    assert_int_equal(steering_open(&second, run, &err), COHORT_ERR_STATE);
    assert_non_null(strstr(err.message, "somebody else listens"));
    struct steering_client *client = connect_client();
    json_decref(asked(client, "status"));
    /* In a child the socket stays the parent's. */
    const pid_t child = fork();
    if (child == 0) {
        steering_leave(s);
        _exit(0);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    json_decref(asked(client, "status"));
    /* Another trainer's is not removed. */
    char aside[720];
    snprintf(aside, sizeof aside, "%s.aside", socket_path);
    assert_int_equal(rename(socket_path, aside), 0);
    assert_int_equal(steering_open(&second, run, &err), COHORT_OK);
    steering_close(s);
    assert_int_equal(lstat(socket_path, &st), 0);
    steering_disconnect(client);
    client = connect_client();
    json_decref(asked(client, "status"));
    steering_disconnect(client);
    steering_close(second);
    assert_int_equal(unlink(aside), 0);
    /* One that a dead trainer left is replaced. */
    const pid_t dead = fork();
    if (dead == 0) {
        _exit(steering_open(&s, run, NULL) == COHORT_OK ? 0 : 1);
    }
    int code = 1;
    assert_int_equal(waitpid(dead, &code, 0), dead);
    assert_int_equal(code, 0);
    assert_int_equal(lstat(socket_path, &st), 0);
    assert_int_equal(steering_connect(&client, run, &err), COHORT_ERR_STATE);
    s = open_steering();
    client = connect_client();
    json_decref(asked(client, "status"));
    steering_disconnect(client);
    steering_close(s);
    /* A file of somebody's is left alone. */
    assert_int_equal(file_write_atomic(socket_path, "mine", 4, NULL), COHORT_OK);
    assert_int_equal(steering_open(&s, run, &err), COHORT_ERR_STATE);
    assert_non_null(strstr(err.message, "no socket"));
    assert_int_equal(lstat(socket_path, &st), 0);
    assert_int_equal(st.st_size, 4);
    assert_int_equal(unlink(socket_path), 0);
    assert_int_equal(steering_open(&s, "/nowhere/at/all", &err), COHORT_ERR_IO);
}

/* Clients that do not read, do not end their lines, come in crowds, or go in the middle. */
static void test_bad_clients(void **state)
{
    (void)state;
    struct steering *s = open_steering();
    enum { CROWD = 3 * STEERING_CLIENTS };
    int fds[CROWD];
    /* One that asks for ever and reads nothing. */
    const int flood = raw();
    for (int i = 0; i < 20000; i++)
        if (send(flood, "status\n", 7, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
            break;
    struct steering_client *client = connect_client();
    const double begin = clock_seconds();
    for (int i = 0; i < 20; i++)
        json_decref(asked(client, "status"));
    const double each = (clock_seconds() - begin) / 20.0;
    assert_true(each < 0.5);
    assert_true(each > 0.01); /* and nobody gets more than fifty answers a second */
    /* A line that does not end is hung up on. */
    const int long_line = raw();
    char bytes[200];
    memset(bytes, 'x', sizeof bytes);
    (void)!send(long_line, bytes, sizeof bytes, MSG_NOSIGNAL);
    assert_int_equal(recv(long_line, bytes, sizeof bytes, 0) <= 0, true);
    /* One that goes before it was answered. */
    const int gone = raw();
    (void)!send(gone, "status\nstatus\nsta", 16, MSG_NOSIGNAL);
    close(gone);
    /* More than there are places for, all of them silent: the next one is served. */
    for (int i = 0; i < CROWD; i++) {
        fds[i] = raw();
        usleep(2000);
    }
    steering_disconnect(client);
    client = connect_client();
    json_decref(asked(client, "status"));
    /* The trainer's own calls wait for none of them. */
    const double told = clock_seconds();
    for (int i = 0; i < 1000; i++)
        steering_tell(s, &(struct steering_at){.phase = "train", .step = i});
    assert_true(clock_seconds() - told < 1.0);
    for (int i = 0; i < CROWD; i++)
        close(fds[i]);
    close(flood);
    close(long_line);
    steering_disconnect(client);
    steering_close(s);
}

/* Two requests in one packet, and one in two. */
static void test_lines(void **state)
{
    (void)state;
    struct steering *s = open_steering();
    const int fd = raw();
    char bytes[1000] = "";
    size_t n = 0;
    (void)!send(fd, "pause\r\nsa", 9, MSG_NOSIGNAL);
    usleep(30000);
    (void)!send(fd, "ve\n", 3, MSG_NOSIGNAL);
    while (n < sizeof bytes - 1) {
        const ssize_t got = recv(fd, bytes + n, sizeof bytes - 1 - n, 0);
        assert_true(got > 0);
        n += (size_t)got;
        const char *first = memchr(bytes, '\n', n);
        if (first != NULL && memchr(first + 1, '\n', n - (size_t)(first + 1 - bytes)) != NULL)
            break;
    }
    assert_non_null(strstr(bytes, "pauses after this step"));
    assert_non_null(strstr(bytes, "saved after this step"));
    const struct steering_asked asked_for = steering_asked(s, false);
    assert_true(asked_for.pause && asked_for.save);
    close(fd);
    steering_close(s);
}

/* Another user is refused by the mode of the socket, and where that was loosened by who they are. */
static void test_other_user(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    struct steering *s = open_steering();
    for (int loosened = 0; loosened < 2; loosened++) {
        assert_int_equal(chmod(socket_path, loosened ? 0666 : 0600), 0);
        const pid_t child = fork();
        if (child == 0) {
            struct steering_client *client = NULL;
            json_t *answer = NULL;
            cohort_error err = {0};
            if (setgid(65534) != 0 || setuid(65534) != 0)
                _exit(2);
            const cohort_status connected = steering_connect(&client, run, &err);
            if (!loosened)
                _exit(connected == COHORT_ERR_STATE && strstr(err.message, "only the user") != NULL ? 0 : 3);
            _exit(connected == COHORT_OK && steering_request(client, "pause", &answer, &err) == COHORT_ERR_IO ? 0 : 4);
        }
        int code = -1;
        assert_int_equal(waitpid(child, &code, 0), child);
        assert_int_equal(WEXITSTATUS(code), 0);
    }
    assert_false(steering_asked(s, false).pause);
    steering_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_requests),        cmocka_unit_test(test_wait),
                                       cmocka_unit_test(test_what_lies_there), cmocka_unit_test(test_bad_clients),
                                       cmocka_unit_test(test_lines),           cmocka_unit_test(test_other_user)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

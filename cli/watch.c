/* cohort watch, the view: a thread reads (watch_reader.c), this one draws and takes keys. Leaving it leaves the run alone;
 * no key ends a run. */
#define NCURSES_NOMACROS 1
#include "watch.h"

#include <curses.h>
#include <errno.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

enum { KEY_ESCAPE = 27, CTRL_L = 12, POLL_MS = 100 };

static bool is_true(const cohort_options *options, const char *name)
{
    char *value = NULL;
    const bool yes =
        cohort_options_get(options, name, 0, &value, NULL) == COHORT_OK && value != NULL && strcmp(value, "true") == 0;
    cohort_free(value);
    return yes;
}

/* ---- what keys do ---- */

static void ask(struct watch *watch, cohort_live_request request)
{
    const struct watch_run *run = &watch->runs[watch->current];
    if (watch->read_only || !run->live.there)
        return;
    watch->asked = true;
    watch->asked_run = watch->current;
    watch->request = request;
    pthread_cond_signal(&watch->wake);
}

/* Samples are asked for anew. */
static void requery(struct watch *watch, struct watch_look *look)
{
    watch->asked_query++;
    watch->query.shown = true;
    look->selected[WATCH_TAB_SAMPLES] = look->top[WATCH_TAB_SAMPLES] = 0;
    look->whole = false;
    pthread_cond_signal(&watch->wake);
}

static void go_to(struct watch *watch, struct watch_look *look, enum watch_tab tab)
{
    look->tab = tab;
    look->help = look->whole = false;
    if (tab == WATCH_TAB_SAMPLES && !watch->query.shown)
        requery(watch, look);
}

static void move_by(struct watch_look *look, long by)
{
    size_t *at = look->whole ? &look->whole_top : &look->selected[look->tab];
    const long most = look->rows == 0 ? 0 : (long)look->rows - 1;
    long to = (long)*at + by;
    to = to < 0 ? 0 : to > most ? most : to;
    *at = (size_t)to;
    if (!look->whole)
        look->at_end[look->tab] = to == most && look->tab != WATCH_TAB_SAMPLES && look->tab != WATCH_TAB_CONFIG;
}

static bool holds(const char *text, const char *found)
{
    const size_t n = strlen(found);
    for (; *text != '\0'; text++)
        if (strncasecmp(text, found, n) == 0)
            return true;
    return false;
}

/* The next row with the text that was looked for. */
static void find(const struct watch *watch, struct watch_look *look, int way)
{
    struct watch_lines rows = {0};
    watch_rows(watch, look, &rows);
    size_t *at = look->whole ? &look->whole_top : &look->selected[look->tab];
    for (size_t i = 1; i <= rows.n && look->found[0] != '\0'; i++) {
        const size_t row = (*at + (way > 0 ? i : rows.n - i % rows.n)) % rows.n;
        if (holds(rows.at[row], look->found)) {
            look->at_end[look->tab] = false;
            *at = row;
            break;
        }
    }
    watch_lines_free(&rows);
}

static void typed(struct watch *watch, struct watch_look *look)
{
    if (look->prompt == '/' && look->tab == WATCH_TAB_SAMPLES && !look->whole) {
        snprintf(watch->query.search, sizeof watch->query.search, "%s", look->typed);
        requery(watch, look);
    } else if (look->prompt == '/') {
        snprintf(look->found, sizeof look->found, "%s", look->typed);
        find(watch, look, 1);
    } else {
        char *end = NULL;
        const long long step = strtoll(look->typed, &end, 10);
        watch->query.step = strcmp(look->typed, "*") == 0                    ? -2
                            : *end == '\0' && end > look->typed && step >= 0 ? step
                                                                             : -1;
        requery(watch, look);
    }
    look->prompt = 0;
}

/* A key while a line is typed. */
static void type(struct watch *watch, struct watch_look *look, wint_t key, bool special)
{
    const size_t length = strlen(look->typed);
    if (special ? key == KEY_ENTER : key == '\n' || key == '\r')
        typed(watch, look);
    else if (!special && key == KEY_ESCAPE)
        look->prompt = 0;
    else if ((special && key == KEY_BACKSPACE) || (!special && (key == 127 || key == 8))) {
        size_t n = length;
        while (n > 0 && ((unsigned char)look->typed[n - 1] & 0xc0) == 0x80)
            n--;
        look->typed[n > 0 ? n - 1 : 0] = '\0';
    } else if (!special && key >= 32) {
        char bytes[MB_LEN_MAX + 1] = "";
        const int n = wctomb(bytes, (wchar_t)key);
        if (n > 0 && length + (size_t)n < sizeof look->typed) {
            memcpy(look->typed + length, bytes, (size_t)n);
            look->typed[length + (size_t)n] = '\0';
        }
    }
}

static void choose(struct watch *watch, struct watch_look *look, int by)
{
    const size_t n = watch->n;
    watch->current = (watch->current + n + (size_t)(by < 0 ? n - 1 : 1)) % n;
    memset(look->selected, 0, sizeof look->selected);
    memset(look->top, 0, sizeof look->top);
}

/* Keys that curses has a name for. */
static void special_key(struct watch *watch, struct watch_look *look, wint_t key)
{
    switch (key) {
    case KEY_UP: move_by(look, -1); break;
    case KEY_DOWN: move_by(look, 1); break;
    case KEY_PPAGE: move_by(look, -(long)look->page); break;
    case KEY_NPAGE: move_by(look, (long)look->page); break;
    case KEY_HOME: move_by(look, -(long)look->rows); break;
    case KEY_END: move_by(look, (long)look->rows); break;
    case KEY_LEFT:
        if (look->whole && look->tab == WATCH_TAB_SAMPLES)
            look->whole = false;
        else if (watch->n > 1)
            choose(watch, look, -1);
        break;
    case KEY_RIGHT:
        if (watch->n > 1 && !look->whole)
            choose(watch, look, 1);
        break;
    case KEY_ENTER:
        look->whole = look->tab == WATCH_TAB_SAMPLES || (look->tab == WATCH_TAB_RUN && watch->n > 1);
        look->whole_top = 0;
        break;
    case KEY_BTAB: go_to(watch, look, (look->tab + N_WATCH_TABS - 1) % N_WATCH_TABS); break;
    default: break;
    }
}

/* False: leave. */
static bool plain_key(struct watch *watch, struct watch_look *look, wint_t key)
{
    if (key >= '1' && key < '1' + N_WATCH_TABS) {
        go_to(watch, look, (enum watch_tab)(key - '1'));
        return true;
    }
    switch (key) {
    case 'q': return false;
    case '\t': go_to(watch, look, (look->tab + 1) % N_WATCH_TABS); break;
    case '\n':
    case '\r': special_key(watch, look, KEY_ENTER); break;
    case KEY_ESCAPE: look->whole = look->help = false; break;
    case '?':
    case 'h': look->help = !look->help; break;
    case 'p': ask(watch, COHORT_LIVE_PAUSE); break;
    case 'r': ask(watch, COHORT_LIVE_RESUME); break;
    case 's': ask(watch, COHORT_LIVE_SAVE); break;
    case ' ':
        watch->frozen = !watch->frozen;
        if (!watch->frozen)
            watch->asked_query++; /* everything is read anew */
        pthread_cond_signal(&watch->wake);
        break;
    case 'u': look->ascii = !look->ascii; break;
    case 'j': move_by(look, 1); break;
    case 'k': move_by(look, -1); break;
    case 'n': find(watch, look, 1); break;
    case 'N': find(watch, look, -1); break;
    case 'o':
        if (look->tab == WATCH_TAB_SAMPLES) {
            watch->query.order = (watch->query.order + 1) % N_WATCH_ORDERS;
            requery(watch, look);
        }
        break;
    case 'f':
        if (look->tab == WATCH_TAB_SAMPLES) {
            watch->query.finish = (watch->query.finish + 1) % N_WATCH_FINISHES;
            requery(watch, look);
        }
        break;
    case 'g':
    case '/':
        if (look->tab == WATCH_TAB_SAMPLES || (key == '/' && look->tab != WATCH_TAB_RUN)) {
            look->prompt = (int)key;
            look->typed[0] = '\0';
        }
        break;
    default: break;
    }
    return true;
}

/* ---- the loop ---- */

static bool terminal_is_gone(void)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&in, 1, 0) > 0 && (in.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

static void loop(struct watch *watch, struct watch_look *look)
{
    unsigned drawn = 0;
    double drawn_at = 0.0;
    bool dirty = true;
    for (bool going = true; going;) {
        wint_t key = 0;
        pthread_mutex_lock(&watch->mutex);
        /* What is new is drawn as often as it is looked for; a key's effect at once; the clock once a second. */
        const double now = watch_now();
        if (dirty || (watch->serial != drawn && now - drawn_at >= watch->pause) || now - drawn_at >= 1.0) {
            drawn = watch->serial;
            drawn_at = now;
            watch_draw(watch, look);
        }
        pthread_mutex_unlock(&watch->mutex);
        const int got = get_wch(&key);
        dirty = got != ERR;
        if (got == ERR) {
            going = !terminal_is_gone();
            continue;
        }
        pthread_mutex_lock(&watch->mutex);
        if (got == KEY_CODE_YES && key == KEY_RESIZE)
            ; /* drawn below */
        else if (look->prompt != 0)
            type(watch, look, key, got == KEY_CODE_YES);
        else if (got == KEY_CODE_YES)
            special_key(watch, look, key);
        else if (key == CTRL_L)
            clearok(stdscr, TRUE);
        else
            going = plain_key(watch, look, key);
        pthread_mutex_unlock(&watch->mutex);
    }
}

static void set_up_colours(struct watch_look *look)
{
    const char *none = getenv("NO_COLOR");
    if ((none != NULL && *none != '\0') || !has_colors() || start_color() != OK || use_default_colors() != OK)
        return;
    look->colour = init_pair(1, COLOR_GREEN, -1) == OK && init_pair(2, COLOR_YELLOW, -1) == OK &&
                   init_pair(3, COLOR_RED, -1) == OK;
}

static void say_goodbye(const struct watch *watch)
{
    for (size_t r = 0; r < watch->n; r++) {
        const struct watch_run *run = &watch->runs[r];
        if (run->live.there && run->live.paused)
            printf("%s is paused and stays so: cohort watch %s and r let it go on\n", run->name, run->name);
        else if (run->live.there || (run->snapshot != NULL && run->snapshot->status != NULL &&
                                     strcmp(run->snapshot->status, "running") == 0))
            printf("%s goes on: cohort watch %s shows it again\n", run->name, run->name);
    }
}

static bool find_runs(struct watch *watch, const cohort_options *options, cohort_error *err)
{
    char *runs = NULL, *name = NULL;
    bool good = cohort_options_get(options, "runs", 0, &runs, err) == COHORT_OK;
    while (good && (good = cohort_options_get(options, "run", watch->n, &name, err) == COHORT_OK) && name != NULL) {
        if (watch->n == WATCH_RUNS) {
            snprintf(err->message, sizeof err->message, "watch shows %d runs at most", WATCH_RUNS);
            good = false;
            break;
        }
        struct watch_run *run = &watch->runs[watch->n];
        good = cohort_run_find(runs, name, &run->folder, err) == COHORT_OK;
        if (!good)
            break;
        run->name = name;
        name = NULL;
        watch->n++;
    }
    cohort_free(name);
    cohort_free(runs);
    if (good && watch->n == 0) {
        snprintf(err->message, sizeof err->message,
                 "watch takes one to %d runs, as in: cohort watch NAME ('cohort runs' lists them)", WATCH_RUNS);
        good = false;
    }
    return good;
}

static bool can_draw(const cohort_options *options)
{
    const char *kind = getenv("TERM");
    return !is_true(options, "plain") && isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 && kind != NULL &&
           strcmp(kind, "dumb") != 0;
}

bool cli_watch(const cohort_options *options, int *code)
{
    static struct watch watch;
    struct watch_look look = {.at_end = {[WATCH_TAB_LOG] = true, [WATCH_TAB_WARNINGS] = true}};
    cohort_error err = {0};
    pthread_condattr_t monotonic;
    pthread_t reader;
    if (!can_draw(options))
        return false;
    *code = EXIT_USAGE;
    if (!find_runs(&watch, options, &err)) {
        fprintf(stderr, "cohort: %s\n", err.message);
        return true;
    }
    setlocale(LC_CTYPE, "");
    const char *codeset = nl_langinfo(CODESET);
    look.ascii = is_true(options, "ascii") || strcmp(codeset, "UTF-8") != 0;
    watch.read_only = is_true(options, "read_only");
    watch.pause = getenv("SSH_CONNECTION") != NULL ? 0.5 : 0.25;
    watch.query = (struct watch_query){.step = -1};
    watch.asked_query = 1;
    pthread_mutex_init(&watch.mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&watch.wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *code = EXIT_FAILED;
    if (pthread_create(&reader, NULL, watch_reader, &watch) != 0) {
        fprintf(stderr, "cohort: cannot start a thread\n");
        return true;
    }
    if (getenv("ESCDELAY") == NULL)
        set_escdelay(25);
    SCREEN *screen = newterm(NULL, stdout, stdin);
    if (screen == NULL) {
        fprintf(stderr, "cohort: the terminal '%s' is not known here; --plain prints lines\n", getenv("TERM"));
    } else {
        set_up_colours(&look);
        cbreak();
        noecho();
        keypad(stdscr, TRUE);
        wtimeout(stdscr, POLL_MS);
        loop(&watch, &look);
        endwin();
        delscreen(screen);
        *code = EXIT_OK;
    }
    pthread_mutex_lock(&watch.mutex);
    watch.ending = true;
    pthread_cond_signal(&watch.wake);
    pthread_mutex_unlock(&watch.mutex);
    pthread_join(reader, NULL);
    if (screen != NULL)
        say_goodbye(&watch);
    for (size_t r = 0; r < watch.n; r++) {
        watch_snapshot_free(watch.runs[r].snapshot);
        cohort_free(watch.runs[r].folder);
        cohort_free(watch.runs[r].name);
    }
    return true;
}

/* Drawing the view. Everything is drawn anew into curses' own picture of the screen, which sends what has changed. */
#define NCURSES_NOMACROS 1
#include "watch.h"

#include <curses.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

enum { LEAST_COLUMNS = 60, LEAST_ROWS = 16, WIDE = 120 };
enum { PLAIN = 0, GOOD = 1, CARE = 2, BAD = 3 }; /* pairs of colours; words say the same */

/* ---- text at a place ---- */

static bool ascii_only; /* of the drawing that is going on */

/* The next character of UTF-8 text that cohort_shown has checked. */
static wchar_t next_character(const char **at)
{
    const unsigned char *s = (const unsigned char *)*at;
    const int n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    uint32_t c = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));
    for (int i = 1; i < n; i++) {
        if (s[i] == '\0') {
            *at += i;
            return L'?';
        }
        c = c << 6 | (s[i] & 0x3fu);
    }
    *at += n;
    return (wchar_t)c;
}

/* Puts as much of the text as fits into so many cells and fills them with blanks; returns how many the text took. */
static int put(int y, int x, int cells, attr_t attributes, const char *text)
{
    wchar_t line[1024];
    int used = 0, n = 0;
    if (cells <= 0 || text == NULL)
        return 0;
    for (const char *at = text; *at != '\0' && n < (int)(sizeof line / sizeof *line) - 1;) {
        wchar_t c = next_character(&at);
        if (c < 0x20) /* a tab, an end of a line: a row has none */
            c = L' ';
        int width = c < 0x80 ? 1 : ascii_only ? -1 : wcwidth(c);
        if (width < 0) {
            c = L'?';
            width = 1;
        }
        if (used + width > cells)
            break;
        line[n++] = c;
        used += width;
    }
    const int took = used;
    while (used < cells && n < (int)(sizeof line / sizeof *line) - 1) {
        line[n++] = L' ';
        used++;
    }
    attrset((int)attributes);
    mvaddnwstr(y, x, line, n);
    attrset(A_NORMAL);
    return took;
}

static attr_t paint(const struct watch_look *look, int pair)
{
    return (look->colour && pair != PLAIN ? (attr_t)COLOR_PAIR(pair) : A_NORMAL) | (pair == PLAIN ? A_NORMAL : A_BOLD);
}

static void rule(int y, int columns)
{
    attrset(A_NORMAL);
    for (int x = 0; x < columns - 1; x++)
        mvaddnwstr(y, x, ascii_only ? L"-" : L"\u2500", 1);
}

static void bar(char *out, size_t cells, double share)
{
    const size_t filled = share >= 1.0 ? cells : share > 0.0 ? (size_t)(share * (double)cells) : 0;
    memset(out, '-', cells);
    memset(out, '#', filled);
    out[cells] = '\0';
}

/* The last points of a curve, a cell for each or for the mean of some. */
static void spark(const struct watch_curve *curve, int cells, char *out, size_t size)
{
    static const char *const blocks[] = {"\u2581", "\u2582", "\u2583", "\u2584",
                                         "\u2585", "\u2586", "\u2587", "\u2588"};
    static const char *const marks[] = {".", ":", "-", "=", "+", "*", "#", "#"};
    double low = INFINITY, high = -INFINITY;
    size_t used = 0;
    out[0] = '\0';
    if (curve->n == 0 || cells < 1)
        return;
    for (size_t i = 0; i < curve->n; i++)
        if (isfinite(curve->values[i])) {
            low = fmin(low, curve->values[i]);
            high = fmax(high, curve->values[i]);
        }
    const size_t n = (size_t)cells < curve->n ? (size_t)cells : curve->n;
    for (size_t c = 0; c < n; c++) {
        double sum = 0.0;
        int count = 0;
        for (size_t i = c * curve->n / n; i < (c + 1) * curve->n / n; i++)
            if (isfinite(curve->values[i])) {
                sum += curve->values[i];
                count++;
            }
        const double share = count == 0 ? 0.0 : high > low ? (sum / count - low) / (high - low) : 0.5;
        const int level = share >= 1.0 ? 7 : (int)(share * 8.0);
        const char *mark = count == 0 ? " " : ascii_only ? marks[level] : blocks[level];
        const int wrote = snprintf(out + used, size - used, "%s", mark);
        if (wrote < 0 || (size_t)wrote >= size - used)
            break;
        used += (size_t)wrote;
    }
}

/* ---- the page of one run ---- */

/* How long ago, in words that change at most once a minute. */
static void ago(double time, char out[32])
{
    char text[24];
    const double seconds = watch_time() - time;
    if (!(time > 0.0)) {
        snprintf(out, 32, "-");
        return;
    }
    if (seconds < 60.0) {
        snprintf(out, 32, "just now");
        return;
    }
    watch_duration(floor(seconds / 60.0) * 60.0, text);
    char *tail = strstr(text, " 00 s");
    if (tail != NULL)
        *tail = '\0';
    snprintf(out, 32, "%s ago", text);
}

static bool runs(const struct watch_snapshot *s) { return s->status != NULL && strcmp(s->status, "running") == 0; }

static const char *status_word(const struct watch_run *run, int *pair)
{
    static char upper[24];
    const struct watch_snapshot *s = run->snapshot;
    *pair = PLAIN;
    if (s == NULL || s->status == NULL)
        return "";
    if (run->live.there && run->live.paused) {
        *pair = CARE;
        return "PAUSED";
    }
    *pair = runs(s) ? GOOD : strcmp(s->status, "failed") == 0 || strcmp(s->status, "gone") == 0 ? BAD : PLAIN;
    snprintf(upper, sizeof upper, "%s", s->status);
    for (char *c = upper; *c != '\0'; c++)
        if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
    return upper;
}

static double seconds_left(const struct watch_snapshot *s)
{
    return s->steps > 0 && runs(s) ? s->step_time * (double)(s->steps - (s->step > 0 ? s->step : 0)) : (double)NAN;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL || slash[1] == '\0' ? path : slash + 1;
}

/* A model by the end of its path: of "runs/sft/final" the run too. */
static const char *model_word(const char *path)
{
    const char *word = last_part(path);
    if (strcmp(word, "final") != 0 && strncmp(word, "step-", 5) != 0)
        return word;
    while (word > path + 1 && word[-2] != '/')
        word--;
    return word > path + 1 ? word - 1 : path;
}

static void header(const struct watch *watch, const struct watch_look *look, int columns)
{
    const struct watch_run *run = &watch->runs[watch->current];
    const struct watch_snapshot *s = run->snapshot;
    char line[512], part[64], left[24], saved[32];
    int pair = PLAIN;
    const char *word = status_word(run, &pair);
    if (s->steps > 0)
        snprintf(part, sizeof part, "  step %lld/%lld  %.0f %%", (long long)(s->step < 0 ? 0 : s->step),
                 (long long)s->steps, 100.0 * (double)(s->step < 0 ? 0 : s->step) / (double)s->steps);
    else
        snprintf(part, sizeof part, "  step %lld", (long long)(s->step < 0 ? 0 : s->step));
    snprintf(line, sizeof line, "%s  %s  %s", last_part(run->name), s->model == NULL ? "" : model_word(s->model),
             s->command == NULL ? "" : s->command);
    const int right = (int)(strlen(word) + strlen(part)), room = columns - 1 - right;
    put(0, 0, room - 1, A_BOLD, line);
    put(0, room, (int)strlen(word), paint(look, pair) | A_BOLD, word);
    put(0, room + (int)strlen(word), (int)strlen(part), A_NORMAL, part);
    watch_duration(seconds_left(s), left);
    ago(s->saved_at, saved);
    /* What does not fit is left out whole: when it was saved, then the epoch, then how long a step takes. */
    for (int without = 0; without < 4; without++) {
        int n = 0;
        line[0] = '\0';
        if (isfinite(s->epoch) && without < 2)
            n += snprintf(line + n, sizeof line - (size_t)n, "epoch %.1f  ", s->epoch);
        if (isfinite(s->step_time) && without < 3)
            n += snprintf(line + n, sizeof line - (size_t)n, "%.3g s/step  ", s->step_time);
        if (runs(s))
            n += snprintf(line + n, sizeof line - (size_t)n, "left %s  ", left);
        if (s->saved_step >= 0)
            n += snprintf(line + n, sizeof line - (size_t)n, without < 1 ? "saved %lld (%s)  " : "saved %lld  ",
                          (long long)s->saved_step, saved);
        n += snprintf(line + n, sizeof line - (size_t)n, "warnings %zu", s->n_warnings);
        if (n < columns)
            break;
    }
    put(1, 0, columns - 1, A_NORMAL, line);
}

/* Where the present step is. */
static void progress_line(const struct watch_run *run, int y, int columns)
{
    const struct watch_live *live = &run->live;
    const struct watch_snapshot *s = run->snapshot;
    char line[512], gauge[40], wide[24];
    const size_t cells = columns >= 76 ? 16 : 8;
    if (!live->there) {
        put(y, 0, columns - 1, A_NORMAL,
            runs(s) ? "the trainer cannot be asked from here; what was recorded is shown"
                    : (s->message != NULL && s->message[0] != '\0' ? s->message : "the run is not going on"));
        return;
    }
    watch_duration(live->seconds, wide);
    if (live->paused) {
        snprintf(line, sizeof line, "paused after step %lld, for %s%s", (long long)live->step, wide,
                 live->saving ? ", saving" : "");
    } else if (strcmp(live->phase, "rollout") == 0 || strcmp(live->phase, "evaluate") == 0) {
        bar(gauge, cells, live->begun > 0 ? (double)live->ended / (double)live->begun : 0.0);
        snprintf(line, sizeof line, "%s [%s] %lld/%lld  %lld not ended  %.0f %s/s%s", live->phase, gauge,
                 (long long)live->ended, (long long)live->begun, (long long)(live->begun - live->ended),
                 live->per_second, live->unit, strcmp(live->phase, "rollout") == 0 ? "  update -" : "");
    } else if (strcmp(live->phase, "train") == 0 && strcmp(live->unit, "steps") != 0) {
        bar(gauge, cells, live->total > 0 ? (double)live->done / (double)live->total : 0.0);
        snprintf(line, sizeof line, "rollout done  update [%s] %lld/%lld %s", gauge, (long long)live->done,
                 (long long)live->total, live->unit);
    } else if (strcmp(live->phase, "train") == 0) {
        bar(gauge, cells, live->total > 0 ? (double)live->done / (double)live->total : 0.0);
        snprintf(line, sizeof line, "train [%s] %lld/%lld %s", gauge, (long long)live->done, (long long)live->total,
                 live->unit);
    } else if (strcmp(live->phase, "reward") == 0) {
        snprintf(line, sizeof line, "rollout done  reward of %lld rows, for %s  update -", (long long)live->total,
                 wide);
    } else {
        snprintf(line, sizeof line, "%s, for %s", live->phase[0] == '\0' ? "begins" : live->phase, wide);
    }
    const size_t used = strlen(line);
    if (!live->paused && (live->pausing || live->saving))
        snprintf(line + used, sizeof line - used, "  (%s%s%s after this step)", live->pausing ? "pauses" : "",
                 live->pausing && live->saving ? ", " : "", live->saving ? "saves" : "");
    put(y, 0, columns - 1, A_NORMAL, line);
}

/* A note is worth knowing, and no warning. */
static bool is_warning(const struct watch_event *e)
{
    return e->rule != NULL && e->rule[0] != '\0' && (e->severity == NULL || strcmp(e->severity, "note") != 0);
}

/* The newest warning about a curve within the last 50 steps. */
static bool is_warned(const struct watch_snapshot *s, const char *metric)
{
    static const struct {
        const char *metric, *rules;
    } about[] = {{"reward", " C3 U8 H3 "},
                 {"eval_reward", " H2 "},
                 {"entropy", " U2 U3 "},
                 {"kl", " U4 "},
                 {"grad_norm", " C7 U1 U7 "},
                 {"completions/mean_length", " H1 "},
                 {"completions/clipped_ratio", " C5 C6 "},
                 {"frac_reward_zero_std", " C1 C2 "},
                 {"eval_loss", " S1 "},
                 {"loss", " U1 "}};
    for (size_t i = 0; i < sizeof about / sizeof *about; i++) {
        if (strcmp(about[i].metric, metric) != 0)
            continue;
        for (size_t e = s->n_events; e-- > 0 && s->events[e].step >= s->step - 50;) {
            char rule_word[16];
            if (!is_warning(&s->events[e]))
                continue;
            snprintf(rule_word, sizeof rule_word, " %.8s ", s->events[e].rule);
            if (strstr(about[i].rules, rule_word) != NULL)
                return true;
        }
    }
    return false;
}

static void curve_row(const struct watch_snapshot *s, const struct watch_look *look, const struct watch_curve *curve,
                      int y, int columns)
{
    char name[64], now[24] = "", ten[40] = "", range[40] = "", picture[WATCH_POINTS * 4], low_text[16], high_text[16];
    double sum = 0.0, squares = 0.0, low = INFINITY, high = -INFINITY;
    int count = 0;
    const bool wide = columns >= 76, warned = is_warned(s, curve->metric == NULL ? "" : curve->metric);
    for (size_t i = 0; i < curve->n; i++)
        if (isfinite(curve->values[i])) {
            low = fmin(low, curve->values[i]);
            high = fmax(high, curve->values[i]);
            if (curve->n - i <= 10) {
                sum += curve->values[i];
                squares += curve->values[i] * curve->values[i];
                count++;
            }
        }
    snprintf(name, sizeof name, "%s%s", curve->indented ? " " : "", curve->label == NULL ? "" : curve->label);
    if (curve->n > 0)
        watch_number(curve->values[curve->n - 1], now, sizeof now);
    if (strncmp(curve->metric == NULL ? "" : curve->metric, "eval_", 5) == 0 && curve->n > 0) {
        snprintf(ten, sizeof ten, "at %lld", (long long)curve->steps[curve->n - 1]);
    } else if (count > 0) {
        char mean[24], spread[24] = "";
        watch_number(sum / count, mean, sizeof mean);
        if (strcmp(curve->label == NULL ? "" : curve->label, "reward") == 0 && count > 1)
            snprintf(spread, sizeof spread, "+-%.2f", sqrt(fmax(0.0, (squares - sum * sum / count) / (count - 1))));
        snprintf(ten, sizeof ten, "%s%s", mean, spread);
    }
    if (low <= high) {
        watch_number(low, low_text, sizeof low_text);
        watch_number(high, high_text, sizeof high_text);
        snprintf(range, sizeof range, "%s..%s", low_text, high_text);
    }
    int x = 19;
    (void)put(y, 0, x, warned ? paint(look, CARE) : A_NORMAL, name);
    put(y, x, 9, A_BOLD, now);
    x += 9;
    if (wide) {
        put(y, x, 13, A_NORMAL, ten);
        put(y, x + 13, 1, paint(look, CARE), warned ? "!" : " ");
        put(y, x + 15, 5, A_NORMAL, watch_trend(curve));
        x += 21;
    } else {
        put(y, x - 1, 1, paint(look, CARE), warned ? "!" : " ");
    }
    const int cells = columns - 1 - x - 15;
    spark(curve, cells, picture, sizeof picture);
    put(y, x, cells, A_NORMAL, picture);
    put(y, x + cells + 1, 14, A_NORMAL, range);
}

static void machine_rows(const struct watch_run *run, int y, int columns)
{
    const struct watch_snapshot *s = run->snapshot;
    char line[400];
    int n = snprintf(line, sizeof line, "tok/s");
    if (isfinite(s->rollout_rate))
        n += snprintf(line + n, sizeof line - (size_t)n, " rollout %.0f", s->rollout_rate);
    if (isfinite(s->train_rate))
        n += snprintf(line + n, sizeof line - (size_t)n, " train %.0f", s->train_rate);
    if (run->live.there && run->live.memory > 0.0)
        n += snprintf(line + n, sizeof line - (size_t)n, "   memory %.2f GB", run->live.memory / 1e9);
    if (s->device != NULL)
        snprintf(line + n, sizeof line - (size_t)n, "   %s", s->device);
    put(y, 0, columns - 1, A_NORMAL, line);
    n = snprintf(line, sizeof line, "time");
    double known = 0.0;
    const struct {
        const char *name;
        double seconds;
    } phases[] = {{"rollout", s->rollout}, {"reward", s->reward}, {"reference", s->reference}, {"update", s->train}};
    for (size_t i = 0; i < sizeof phases / sizeof *phases && s->step_last > 0.0; i++)
        if (isfinite(phases[i].seconds)) {
            known += phases[i].seconds;
            n += snprintf(line + n, sizeof line - (size_t)n, "  %s %.0f", phases[i].name,
                          100.0 * phases[i].seconds / s->step_last);
        }
    if (s->step_last > 0.0)
        snprintf(line + n, sizeof line - (size_t)n, "  other %.0f %%",
                 fmax(0.0, 100.0 * (s->step_last - known) / s->step_last));
    else
        snprintf(line + n, sizeof line - (size_t)n, "  -");
    put(y + 1, 0, columns - 1, A_NORMAL, line);
}

static void event_line(const struct watch_event *e, char *out, size_t size, bool dated)
{
    char when[24] = "";
    const time_t seconds = (time_t)e->time;
    struct tm parts;
    if (dated && e->time > 0.0 && localtime_r(&seconds, &parts) != NULL)
        strftime(when, sizeof when, "%m-%d %H:%M ", &parts);
    snprintf(out, size, "%s%s%lld %s %s", when, is_warning(e) ? "! " : "", (long long)e->step,
             e->rule != NULL && e->rule[0] != '\0' ? e->rule : (e->kind == NULL ? "" : e->kind),
             e->text == NULL ? "" : e->text);
}

static void sample_line(const struct watch_sample *sample, const char *word, char *out, size_t size)
{
    char reward[24];
    watch_number(sample->reward, reward, sizeof reward);
    snprintf(out, size, "%s %lld/%lld/%lld  %s  %lld tok %s  \"%s\"", word, (long long)sample->step,
             (long long)sample->group, (long long)sample->index, reward, (long long)sample->tokens,
             sample->finish == NULL ? "" : sample->finish, sample->line == NULL ? "" : sample->line);
}

static void page_of_run(const struct watch *watch, const struct watch_look *look, int rows, int columns)
{
    const struct watch_run *run = &watch->runs[watch->current];
    const struct watch_snapshot *s = run->snapshot;
    const bool beside = columns >= WIDE;
    const int left = beside ? 80 : columns;
    /* Above the metrics 5 rows, below them 3 and what was said last, and 2 at the bottom. */
    const int below = beside ? 3 : rows >= 22 ? 6 : 4;
    const int room = rows - 2 - 5 - below;
    char line[1024], tail[64];
    header(watch, look, columns);
    progress_line(run, 2, columns);
    rule(3, columns);
    snprintf(tail, sizeof tail, "last %d steps",
             s->step < WATCH_POINTS ? (int)(s->step < 0 ? 0 : s->step) : WATCH_POINTS);
    put(4, 19, 9, A_UNDERLINE, "now");
    if (left >= 76) {
        put(4, 28, 14, A_UNDERLINE, "10 steps");
        put(4, 43, 5, A_UNDERLINE, "trend");
    }
    const int x = left >= 76 ? 49 : 28, cells = left - 1 - x - 15;
    put(4, x, cells, A_UNDERLINE, tail);
    put(4, x + cells + 1, 14, A_UNDERLINE, "min..max");
    int y = 5;
    for (size_t i = 0; i < s->n_curves && y < 5 + room; i++)
        curve_row(s, look, &s->curves[i], y++, left);
    if (s->n_curves == 0)
        put(y++, 0, left - 1, A_NORMAL, "no step yet");
    machine_rows(run, y, left);
    y += 2;
    if (beside) {
        int side = 4;
        for (size_t i = 0; i < s->n_first && side < rows - 3; i++) {
            sample_line(&s->first[i], i == 0 ? "best " : "worst", line, sizeof line);
            put(side++, 81, columns - 82, A_NORMAL, line);
        }
        put(side++, 81, columns - 82, A_UNDERLINE, "events");
        const int fit = rows - 2 - side;
        size_t first = s->n_events > (size_t)(fit > 0 ? fit : 0) ? s->n_events - (size_t)fit : 0;
        for (size_t e = first; e < s->n_events && side < rows - 2; e++) {
            event_line(&s->events[e], line, sizeof line, true);
            put(side++, 81, columns - 82, is_warning(&s->events[e]) ? paint(look, CARE) : A_NORMAL, line);
        }
        return;
    }
    rule(y++, columns);
    for (size_t e = s->n_events; e-- > 0 && y < rows - 2;) {
        if (s->events[e].kind == NULL || (strcmp(s->events[e].kind, "warning") != 0 && e + 1 != s->n_events))
            continue;
        event_line(&s->events[e], line, sizeof line, false);
        put(y++, 0, columns - 1, is_warning(&s->events[e]) ? paint(look, CARE) : A_NORMAL, line);
        break;
    }
    for (size_t i = s->n_first; i-- > 0 && y < rows - 2;) {
        sample_line(&s->first[i], i == 0 ? "best " : "worst", line, sizeof line);
        put(y++, 0, columns - 1, A_NORMAL, line);
    }
}

/* ---- several runs beside each other ---- */

static void cell_of(const struct watch_run *run, const char *row, char *out, size_t size)
{
    const struct watch_snapshot *s = run->snapshot;
    out[0] = '\0';
    if (s == NULL)
        snprintf(out, size, "reading");
    else if (s->problem != NULL)
        snprintf(out, size, "?");
    else if (strcmp(row, "status") == 0) {
        int pair;
        snprintf(out, size, "%s", status_word(run, &pair));
    } else if (strcmp(row, "step") == 0)
        snprintf(out, size, s->steps > 0 ? "%lld/%lld" : "%lld", (long long)(s->step < 0 ? 0 : s->step),
                 (long long)s->steps);
    else if (strcmp(row, "left") == 0)
        watch_duration(seconds_left(s), out);
    else if (strcmp(row, "s/step") == 0 && isfinite(s->step_time))
        snprintf(out, size, "%.3g", s->step_time);
    else if (strcmp(row, "warnings") == 0)
        snprintf(out, size, "%zu", s->n_warnings);
    else
        for (size_t i = 0; i < s->n_curves; i++)
            if (s->curves[i].n > 0 && s->curves[i].label != NULL && strcmp(s->curves[i].label, row) == 0) {
                char value[16];
                watch_number(s->curves[i].values[s->curves[i].n - 1], value, sizeof value);
                snprintf(out, size, "%s %s", value, watch_trend(&s->curves[i]));
            }
}

static void page_of_runs(const struct watch *watch, struct watch_look *look, int rows, int columns)
{
    enum { NAME = 16, CELL = 15, MOST = 40 };
    const char *labels[MOST] = {"status", "step", "left", "s/step", "warnings"};
    size_t n = 5;
    for (size_t r = 0; r < watch->n; r++)
        for (size_t i = 0; watch->runs[r].snapshot != NULL && i < watch->runs[r].snapshot->n_curves; i++) {
            const char *label = watch->runs[r].snapshot->curves[i].label;
            bool there = label == NULL || n == MOST;
            for (size_t k = 0; k < n && !there; k++)
                there = strcmp(labels[k], label) == 0;
            if (!there)
                labels[n++] = label;
        }
    const size_t fit = (size_t)((columns - 1 - NAME) / CELL);
    const size_t first = watch->current < fit ? 0 : watch->current - fit + 1;
    char line[160];
    snprintf(line, sizeof line, "%zu runs; arrows choose one, Enter opens it", watch->n);
    put(0, 0, columns - 1, A_BOLD, line);
    rule(1, columns);
    for (size_t r = first; r < watch->n && r - first < fit; r++) {
        const int x = NAME + (int)(r - first) * CELL;
        char name[CELL];
        snprintf(name, sizeof name, "%s%.12s", r == watch->current ? ">" : " ", last_part(watch->runs[r].name));
        put(2, x, CELL - 1, r == watch->current ? A_REVERSE : A_UNDERLINE, name);
        if (r == watch->current) {
            look->cursor_y = 2;
            look->cursor_x = x;
        }
    }
    for (size_t k = 0; k < n && 3 + (int)k < rows - 2; k++) {
        put(3 + (int)k, 0, NAME - 1, A_NORMAL, labels[k]);
        for (size_t r = first; r < watch->n && r - first < fit; r++) {
            cell_of(&watch->runs[r], labels[k], line, sizeof line);
            put(3 + (int)k, NAME + (int)(r - first) * CELL + 1, CELL - 2, A_NORMAL, line);
        }
    }
}

/* ---- lists ---- */

/* Breaks lines at so many cells, so that a whole text can be read. */
static void wrap(struct watch_lines *lines, int cells)
{
    struct watch_lines broken = {0};
    for (size_t i = 0; i < lines->n; i++) {
        const char *from = lines->at[i], *at = from, *blank = NULL;
        int used = 0;
        while (*at != '\0') {
            const char *before = at;
            const wchar_t c = next_character(&at);
            const int width = c < 0x80 ? 1 : ascii_only || wcwidth(c) < 0 ? 1 : wcwidth(c);
            if (c == L' ')
                blank = at;
            if (used + width > cells) {
                const char *cut = blank != NULL && blank > from ? blank : before;
                watch_lines_add(&broken, from, (size_t)(cut - from));
                from = at = cut;
                blank = NULL;
                used = 0;
                continue;
            }
            used += width;
        }
        watch_lines_add(&broken, from, (size_t)(at - from));
    }
    watch_lines_free(lines);
    *lines = broken;
}

void watch_rows(const struct watch *watch, const struct watch_look *look, struct watch_lines *rows)
{
    const struct watch_snapshot *s = watch->runs[watch->current].snapshot;
    char line[1024];
    if (s == NULL)
        return;
    if (look->tab == WATCH_TAB_SAMPLES && look->whole) {
        if (look->selected[WATCH_TAB_SAMPLES] >= s->n_samples)
            return;
        const struct watch_sample *sample = &s->samples[look->selected[WATCH_TAB_SAMPLES]];
        char reward[24];
        watch_number(sample->reward, reward, sizeof reward);
        snprintf(line, sizeof line, "step %lld, prompt %lld, completion %lld: reward %s (%s), %lld tokens, %s",
                 (long long)sample->step, (long long)sample->group, (long long)sample->index, reward,
                 sample->rewards == NULL ? "" : sample->rewards, (long long)sample->tokens,
                 sample->finish == NULL ? "" : sample->finish);
        watch_lines_add(rows, line, strlen(line));
        watch_lines_add(rows, "--- prompt", 10);
        if (sample->prompt != NULL)
            watch_lines_add(rows, sample->prompt, sample->prompt_length);
        watch_lines_add(rows, "--- completion", 14);
        if (sample->text != NULL)
            watch_lines_add(rows, sample->text, sample->text_length);
    } else if (look->tab == WATCH_TAB_SAMPLES) {
        for (size_t i = 0; i < s->n_samples; i++) {
            sample_line(&s->samples[i], "", line, sizeof line);
            watch_lines_add(rows, line + 1, strlen(line) - 1);
        }
    } else if (look->tab == WATCH_TAB_CONFIG && s->config != NULL) {
        watch_lines_add(rows, s->config, strlen(s->config));
    } else {
        for (size_t e = 0; e < s->n_events; e++) {
            if (look->tab == WATCH_TAB_WARNINGS &&
                (s->events[e].kind == NULL || strcmp(s->events[e].kind, "warning") != 0))
                continue;
            event_line(&s->events[e], line, sizeof line, true);
            watch_lines_add(rows, line, strlen(line));
        }
    }
    if ((look->whole || look->tab == WATCH_TAB_WARNINGS) && look->columns > 2)
        wrap(rows, look->columns - 2);
}

static void page_of_list(const struct watch *watch, struct watch_look *look, int rows, int columns)
{
    static const char *const titles[N_WATCH_TABS] = {"", "samples", "log", "config", "warnings"};
    static const char *const orders[N_WATCH_ORDERS] = {"latest first", "best first", "worst first"};
    const struct watch_run *run = &watch->runs[watch->current];
    struct watch_lines lines = {0};
    char line[256];
    const int room = rows - 2 - 2;
    look->columns = columns;
    watch_rows(watch, look, &lines);
    size_t *top = look->whole ? &look->whole_top : &look->top[look->tab];
    size_t *selected = look->whole ? &look->whole_top : &look->selected[look->tab];
    look->rows = lines.n;
    look->page = room > 1 ? (size_t)room : 1;
    if (!look->whole && look->at_end[look->tab] && lines.n > 0)
        *selected = lines.n - 1;
    if (*selected >= lines.n)
        *selected = lines.n == 0 ? 0 : lines.n - 1;
    if (!look->whole) {
        if (*selected < *top)
            *top = *selected;
        if (*selected >= *top + look->page)
            *top = *selected - look->page + 1;
    }
    int n = snprintf(line, sizeof line, "%s  %s", last_part(run->name), titles[look->tab]);
    if (look->tab == WATCH_TAB_SAMPLES) {
        char step[40];
        if (watch->query.step >= 0)
            snprintf(step, sizeof step, "of step %lld", (long long)watch->query.step);
        else
            snprintf(step, sizeof step, "%s",
                     watch->query.step == -2 || watch->query.order == WATCH_LATEST ? "of all steps"
                                                                                   : "of the last step");
        n += snprintf(line + n, sizeof line - (size_t)n, " %s, %s, finish %s", step, orders[watch->query.order],
                      watch_finishes[watch->query.finish]);
        if (watch->query.search[0] != '\0')
            n += snprintf(line + n, sizeof line - (size_t)n, ", with '%.40s'", watch->query.search);
        if (run->answered != watch->asked_query)
            n += snprintf(line + n, sizeof line - (size_t)n, "  reading...");
    }
    snprintf(line + n, sizeof line - (size_t)n, "  %zu/%zu", lines.n == 0 ? 0 : *selected + 1, lines.n);
    put(0, 0, columns - 1, A_BOLD, line);
    rule(1, columns);
    if (lines.n == 0)
        put(2, 0, columns - 1, A_NORMAL, "nothing");
    for (size_t i = *top; i < lines.n && (int)(i - *top) < room; i++) {
        const bool here = !look->whole && i == *selected;
        const int y = 2 + (int)(i - *top);
        put(y, 0, 1, here ? A_REVERSE : A_NORMAL, here ? ">" : " ");
        put(y, 1, columns - 2, here ? A_REVERSE : A_NORMAL, lines.at[i]);
        if (here) {
            look->cursor_y = y;
            look->cursor_x = 0;
        }
    }
    watch_lines_free(&lines);
}

static void page_of_help(const struct watch *watch, int columns)
{
    static const char *const lines[] = {
        "1 to 5, Tab        run, samples, log, config, warnings",
        "arrows, PgUp, PgDn, Home, End   move; left and right choose another run",
        "Enter              the selected sample's whole text; Esc goes back",
        "o                  samples: latest, best, worst first",
        "f                  samples: only those that ended so (eos, length, stop)",
        "g                  samples: of a step; empty: the last, * all",
        "/ n N              find text; next, previous (samples: of all that were recorded)",
        "space              freeze, and go on",
        "u                  ASCII characters alone",
        "Ctrl-L             draw everything anew",
        "q                  leave; the run goes on",
    };
    put(0, 0, columns - 1, A_BOLD, "keys");
    rule(1, columns);
    int y = 2;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        put(y++, 0, columns - 1, A_NORMAL, lines[i]);
    if (!watch->read_only && watch->runs[watch->current].live.there) {
        put(y++, 0, columns - 1, A_NORMAL, "p r                pause after the present step; go on");
        put(y++, 0, columns - 1, A_NORMAL, "s                  save a checkpoint after the present step");
    }
}

static void bottom(const struct watch *watch, const struct watch_look *look, int rows, int columns)
{
    static const char *const names[N_WATCH_TABS] = {"Run", "Samples", "Log", "Config", "Warnings"};
    const struct watch_run *run = &watch->runs[watch->current];
    char line[256];
    if (look->prompt != 0) {
        snprintf(line, sizeof line, "%s%s", look->prompt == '/' ? "find: " : "step: ", look->typed);
        put(rows - 2, 0, columns - 1, A_NORMAL, line);
    } else if (watch->answer[0] != '\0' && watch_now() - watch->answered_at < 10.0) {
        put(rows - 2, 0, columns - 1, A_BOLD, watch->answer);
    } else if (watch->frozen) {
        put(rows - 2, 0, columns - 1, A_BOLD, "frozen; space goes on");
    }
    int x = 0;
    for (int t = 0; t < N_WATCH_TABS; t++) {
        const bool here = t == (int)look->tab;
        snprintf(line, sizeof line, "%d %s", t + 1, names[t]);
        put(rows - 1, x, (int)strlen(line), here ? A_REVERSE : A_NORMAL, line);
        x += (int)strlen(line) + 1;
    }
    const bool steers = run->live.there && !watch->read_only;
    const char *keys = steers ? (run->live.paused || run->live.pausing ? "r s ? q" : "p s ? q") : "? q";
    if (columns >= 76)
        keys = steers ? (run->live.paused || run->live.pausing ? "r go on  s save  ? help  q leave"
                                                               : "p pause  s save  ? help  q leave")
                      : "? help  q leave";
    const int length = (int)strlen(keys);
    if (columns - 1 - length > x)
        put(rows - 1, columns - 1 - length, length, A_NORMAL, keys);
}

void watch_draw(const struct watch *watch, struct watch_look *look)
{
    const int rows = getmaxy(stdscr), columns = getmaxx(stdscr);
    const struct watch_run *run = &watch->runs[watch->current];
    const struct watch_snapshot *s = run->snapshot;
    ascii_only = look->ascii;
    look->cursor_y = rows - 1;
    look->cursor_x = 0;
    erase();
    if (columns < LEAST_COLUMNS || rows < LEAST_ROWS) {
        char line[160];
        int pair = PLAIN;
        snprintf(line, sizeof line, "%s %s step %lld (60 x 16 shows more)", last_part(run->name),
                 s == NULL ? "" : status_word(run, &pair), (long long)(s == NULL || s->step < 0 ? 0 : s->step));
        put(0, 0, columns - 1, A_NORMAL, line);
        look->cursor_y = 0;
    } else if (look->help) {
        page_of_help(watch, columns);
        bottom(watch, look, rows, columns);
    } else if (s == NULL || s->problem != NULL) {
        put(0, 0, columns - 1, A_NORMAL, s == NULL ? "reading..." : s->problem);
        bottom(watch, look, rows, columns);
    } else {
        if (look->tab != WATCH_TAB_RUN)
            page_of_list(watch, look, rows, columns);
        else if (watch->n > 1 && !look->whole)
            page_of_runs(watch, look, rows, columns);
        else
            page_of_run(watch, look, rows, columns);
        bottom(watch, look, rows, columns);
    }
    move(look->cursor_y, look->cursor_x);
    wnoutrefresh(stdscr);
    doupdate();
}

#include "rollout/step_cost.h"

/* A step weighs half as much thirty steps later. */
static const double remembered = 0.977;
/* A step that took this many times what was expected was held up by something else. */
static const double most = 3.0;
/* What stands for rows that were not measured: the rows that the reading of the weights is worth, and the weight of that
 * guess. */
static const double guessed_rows = 6.0, guess_weight = 4.0;

double step_line_at(const struct step_line *line, double rows) { return line->fixed + line->row * rows; }

bool step_cost_line(const struct step_cost *c, struct step_line *line)
{
    if (c->weight <= 0.0)
        return false;
    const double rows = c->rows / c->weight, seconds = c->seconds / c->weight;
    const double spread = c->squares - c->weight * rows * rows, slope = c->products - c->weight * rows * seconds;
    double row = (slope + guess_weight * seconds / (rows + guessed_rows)) / (spread + guess_weight);
    row = row < 0.0 ? 0.0 : row * rows > seconds ? seconds / rows : row;
    *line = (struct step_line){.fixed = seconds - row * rows, .row = row};
    return true;
}

double step_cost_add(struct step_cost *c, int64_t n, double seconds)
{
    const double rows = (double)n;
    struct step_line line;
    if (step_cost_line(c, &line) && seconds > most * step_line_at(&line, rows))
        seconds = most * step_line_at(&line, rows);
    c->weight = remembered * c->weight + 1.0;
    c->rows = remembered * c->rows + rows;
    c->squares = remembered * c->squares + rows * rows;
    c->seconds = remembered * c->seconds + seconds;
    c->products = remembered * c->products + rows * seconds;
    return seconds;
}

/* What steps take, as it was measured: a line over the number of rows, which older steps weigh less and less in. Results
 * never depend on it; it says what is worth a row. */
#ifndef COHORT_ROLLOUT_STEP_COST_H
#define COHORT_ROLLOUT_STEP_COST_H

#include <stdbool.h>
#include <stdint.h>

struct step_cost {
    double weight, rows, squares, seconds, products; /* sums over steps */
};
/* Returns the seconds that it is taken to have needed: those in which something else held it up are left out. */
double step_cost_add(struct step_cost *cost, int64_t rows, double seconds);

struct step_line {
    double fixed, row; /* seconds */
};
/* False: no step was measured. Where all steps had as many rows, a row is taken to cost what it does on a machine that
 * waits for the weights of six rows. */
bool step_cost_line(const struct step_cost *cost, struct step_line *line);
double step_line_at(const struct step_line *line, double rows);

#endif

/* Folders for what is not finished yet, or on its way out: everything of ours that a crash may leave behind lies in
 * one.
 *
 * A scratch folder is .cohort-XXXXXXXXXXXXXXXX (16 random hexadecimal digits) beside what is written, with a marker
 * file "cohort-scratch" that says what it is and who made it, and that its owner keeps locked. Only a folder of such a
 * name, of our own user, with such a marker and a lock that nobody holds, is ever removed by another process; a name
 * alone is a sign of nothing, and whatever else lies in the parent is not ours to touch (invariant I13).
 *
 * scratch/old/NAME is something that had to make room for its successor: recovery gives it its name back where the
 * parent has none of that name. */
#ifndef COHORT_BASE_SCRATCH_H
#define COHORT_BASE_SCRATCH_H

#include "base/memory.h"

struct scratch {
    char *path; /* NULL: none */
    char *marker;
    int fd; /* of the marker */
};
cohort_status scratch_open(struct scratch *scratch, const char *parent, cohort_error *err);
/* Removes the folder with everything in it; what cannot be removed now waits for the next recovery. Accepts a zeroed
 * struct. */
void scratch_close(struct scratch *scratch);
/* Forgets it as a crash would: the next recovery repairs and removes. */
void scratch_leave(struct scratch *scratch);

/* Repairs and removes what crashed processes left in parent; a parent that does not exist is fine. */
cohort_status scratch_recover(const char *parent, cohort_error *err);

#endif

/* Which files the value of --data means.
 *
 *   -                       standard input
 *   FILE                    a data file
 *   FOLDER                  its data files, also those in folders within it, by name: the one split that it has
 *   FOLDER:SPLIT            those of a split
 *   ITEM,ITEM               one behind the other
 *   ITEM:0.7,ITEM:0.3       drawn from by weight
 *
 * A file of that name that exists is meant whatever stands in its name; "\," is a comma within an item.
 *
 * Splits are those of `datasets`: of a folder with data/NAME-00000-of-00002.* the names there; otherwise train,
 * validation or test, where a folder or a file is called by such a word (train, training; validation, valid, val, dev;
 * test, testing, eval, evaluation) or by one with - . _, a blank or a digit at it; otherwise all is train. Hidden files
 * and folders, and folders that begin with __, are passed over. */
#ifndef COHORT_RUN_DATA_PATHS_H
#define COHORT_RUN_DATA_PATHS_H

#include "base/memory.h"

struct data_item {
    double weight; /* 0: none given; all have one or none has */
    char **paths;  /* sorted by bytes; NULL within: standard input */
    size_t n_paths, capacity;
};

struct data_paths {
    struct data_item *items;
    size_t n_items, capacity;
};

/* Errors name the item and what to give. paths is overwritten; free it also after a failure. */
cohort_status data_paths_find(struct data_paths *paths, const char *spec, struct text *notes, cohort_error *err);
void data_paths_free(struct data_paths *paths);

#endif

/* Folders and files that people take for a model folder: what they are, and what to do. */
#ifndef COHORT_FORMAT_MODEL_FOLDER_H
#define COHORT_FORMAT_MODEL_FOLDER_H

#include "base/error.h"

/* The error for a path that is not a folder with what is missing ("no config.json"), or not a folder at all (missing
 * NULL): the message says what lies there instead: an adapter, a GGUF, weights of torch, a folder of the hub's cache, a
 * run folder, an unfinished download, a model one folder below. Returns COHORT_ERR_IO, or what failed while looking. */
cohort_status model_folder_refuse(const char *path, const char *missing, cohort_error *err);

#endif

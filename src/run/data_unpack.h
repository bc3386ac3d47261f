/* Streams of gzip and zstd. */
#ifndef COHORT_RUN_DATA_UNPACK_H
#define COHORT_RUN_DATA_UNPACK_H

#include "base/memory.h"

/* The packing that the first bytes of a file say: "gzip", "zstd" or NULL. */
const char *data_packing(const char *bytes, size_t length);

/* Gets the stored bytes: fills buffer (of size bytes) and *length, 0 at the end. */
typedef cohort_status data_source(void *context, char *buffer, size_t size, size_t *length, cohort_error *err);
typedef cohort_status data_sink(void *context, const char *bytes, size_t length, cohort_error *err);

/* Unpacks all members or frames of source into sink. path is for messages. What is damaged, cut off or followed by
 * other bytes is an error. */
cohort_status data_unpack(const char *packing, const char *path, data_source *source, data_sink *sink, void *context,
                          cohort_error *err);

#endif

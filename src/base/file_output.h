/* A file that is written once, from its beginning to its end, hashed on the way and durable when it is closed. What is
 * large goes past the system's page cache where the file system can (O_DIRECT): it is as fast as the disk, takes a tenth
 * of the processor time, and neither drives other files out of memory nor waits at the end for what was put off.
 *
 * Use: file_output_room gives the room that is left in the present part; fill a beginning of it and hand that over with
 * file_output_add, until all is written. */
#ifndef COHORT_BASE_FILE_OUTPUT_H
#define COHORT_BASE_FILE_OUTPUT_H

#include "base/hash.h"

struct file_output;
/* bytes: how long the file will be, for the size of the buffers. What lies at path is replaced. */
cohort_status file_output_open(struct file_output **out, const char *path, size_t bytes, cohort_error *err);
/* *length: at least 8, a multiple of 8 as long as what was added are multiples of 8. */
void *file_output_room(struct file_output *output, size_t *length);
/* The first length bytes of the room belong to the file. */
cohort_status file_output_add(struct file_output *output, size_t length, cohort_error *err);
/* Writes the rest, fsyncs and closes. hex, if not NULL, gets the hash. On failure the file is removed. */
cohort_status file_output_end(struct file_output *output, char hex[HASH_HEX], cohort_error *err);
/* Accepts NULL. Without a successful end before it the file is removed. */
void file_output_destroy(struct file_output *output);

#endif

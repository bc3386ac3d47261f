/* The bytes of a data file by their place, however they are stored: a plain file is read where it lies; standard input,
 * a pipe and a small compressed file are held in memory; a large compressed one is unpacked into a file beside it that
 * has no name any more, so that nothing of it is left whatever ends the process.
 *
 * A plain file may be closed between two reads (data_bytes_rest), so that a set of ten thousand shards needs one
 * descriptor. It must stay what it was while the set is in use: a change is an error and never other rows. */
#ifndef COHORT_RUN_DATA_BYTES_H
#define COHORT_RUN_DATA_BYTES_H

#include "base/hash.h"

#include <sys/stat.h>

enum {
    DATA_MEMORY_BYTES = 64 << 20, /* that unpacked files of a set take together before they go into files */
    DATA_BEGINNING = 4096         /* bytes by which a format is recognised */
};

struct data_bytes {
    char *path;          /* for messages; of a plain file also where it lies */
    int fd;              /* -1: not open */
    bool plain;          /* a file that can be opened again */
    const char *packing; /* "gzip", "zstd" or NULL */
    struct text held;    /* where fd is not used */
    size_t size;         /* in bytes, unpacked */
    struct stat seen;    /* of a plain file, when it was opened first */
    struct hash *hash;   /* gets the stored bytes as the first scan passes over them; NULL: it has them */
    const struct stop *stop;
};

/* What unpacking may take of memory, in bytes, and hands on from file to file. */
struct data_room {
    size_t memory;
};

/* path NULL: standard input. hash gets the bytes of the file as they are stored, at once or in the scan that follows.
 * An archive that is damaged or cut off, that would fill the disk, or that has no place beside it to be unpacked to is
 * an error that says what to do. *bytes is overwritten, and close it also after a failure. */
cohort_status data_bytes_open(struct data_bytes *bytes, const char *path, struct data_room *room, struct hash *hash,
                              const struct stop *stop, cohort_error *err);
void data_bytes_close(struct data_bytes *bytes);

/* Exactly length bytes from at on into out; they must be there. */
cohort_status data_bytes_read(struct data_bytes *bytes, size_t at, char *out, size_t length, cohort_error *err);
/* Closes a plain file until its next read. */
void data_bytes_rest(struct data_bytes *bytes);

/* Takes a piece of a file, which lies at at. */
typedef cohort_status data_piece(void *context, const char *piece, size_t length, size_t at, cohort_error *err);
/* Hands all bytes to take, in pieces; the first pass hashes them. take NULL: it is for the hash alone, and nothing is done
 * where that has been made. */
cohort_status data_bytes_pass(struct data_bytes *bytes, data_piece *take, void *context, cohort_error *err);

#endif

/* SHA256SUMS of a checkpoint folder: the hash of every file that a save wrote, in sha256sum's own format, so that
 * "sha256sum -c SHA256SUMS" checks it without us (invariant I11).
 *
 * It also says what in the folder is ours: files that somebody else put there are no damage, and a folder that holds
 * some is not deleted with its checkpoint (invariant I13). */
#ifndef COHORT_FORMAT_MANIFEST_H
#define COHORT_FORMAT_MANIFEST_H

#include "base/hash.h"

#define MANIFEST_NAME "SHA256SUMS"

struct manifest_entry {
    char *name; /* relative to the folder, '/' between parts */
    char hex[HASH_HEX];
};
/* Zero-initialise. */
struct manifest {
    struct manifest_entry *entries;
    size_t n, capacity;
};
void manifest_free(struct manifest *manifest);
/* A file whose hash is known since it was written. */
cohort_status manifest_add(struct manifest *manifest, const char *name, const char hex[HASH_HEX], cohort_error *err);
const struct manifest_entry *manifest_find(const struct manifest *manifest, const char *name);
/* Hashes the files of dir that are not listed yet and writes dir/SHA256SUMS, sorted by name. */
cohort_status manifest_write(struct manifest *manifest, const char *dir, cohort_error *err);
/* *found false: dir has no manifest, which is what older versions wrote. A manifest that cannot be understood, or that
 * names files outside dir, is an error. */
cohort_status manifest_read(struct manifest *manifest, const char *dir, bool *found, cohort_error *err);

struct manifest_report {
    bool found;      /* there is a manifest */
    int64_t n_files; /* listed */
    int64_t n_bad;   /* missing, unreadable or changed */
    struct text bad; /* a line for each: "FILE: what is wrong" */
};
/* Reads every listed file. Damage is in the report, not a failing status. needed (may be NULL, ends with NULL): files
 * that a whole manifest lists. stop (may be NULL) is looked at on the way. */
cohort_status manifest_verify(const char *dir, const char *const *needed, struct manifest_report *report,
                              const struct stop *stop, cohort_error *err);

/* Finds a file or folder in dir that is not the checkpoint's own: one that its manifest does not list, or, without a
 * manifest, whose name cohort never writes. *name is that name, or NULL if there is none. */
cohort_status manifest_stranger(const char *dir, char **name, cohort_error *err);

#endif

/* SHA-256, the hash by which a run knows what it reads (invariant I11). It is the hash that sha256sum prints and that
 * the Hugging Face hub shows for a file, so that a user can check ours with their own tools. */
#ifndef COHORT_BASE_HASH_H
#define COHORT_BASE_HASH_H

#include "base/memory.h"
#include "base/stop.h"

#include <nettle/sha2.h>
#include <stdint.h>

enum { HASH_BYTES = SHA256_DIGEST_SIZE, HASH_HEX = 2 * HASH_BYTES + 1 };

/* A hash that is being computed. It allocates nothing and may be copied. */
struct hash {
    struct sha256_ctx state;
};
void hash_begin(struct hash *hash);
void hash_add(struct hash *hash, const void *bytes, size_t length);
/* Adds the length, then the bytes: two lists of texts never hash alike because their boundaries moved. */
void hash_add_text(struct hash *hash, const char *bytes, size_t length);
/* hex: 64 lower-case digits and a NUL. The hash must be begun again before its next use. */
void hash_end(struct hash *hash, char hex[HASH_HEX]);

/* The hash of a file's bytes, as sha256sum prints it. stop (may be NULL) is looked at on the way. */
cohort_status hash_file(const char *path, char hex[HASH_HEX], const struct stop *stop, cohort_error *err);

#endif

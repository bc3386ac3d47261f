/* SHA-256 of what is being written, computed behind the writer by a thread of its own, so that a save takes as long as
 * the disk. Without a thread (none can be started) it is computed at once: slower, and the same hash.
 *
 * Use: slot = hash_behind_slot() gives a buffer that is not being read; fill it, hand it over with hash_behind_add, and
 * write it to the file meanwhile: reading the buffer goes on to be allowed. */
#ifndef COHORT_BASE_HASH_BEHIND_H
#define COHORT_BASE_HASH_BEHIND_H

#include "base/hash.h"

enum { HASH_BEHIND_ALIGN = 4096 };

struct hash_behind;
/* Buffers of slot_bytes, a multiple of HASH_BEHIND_ALIGN, at which they begin. */
cohort_status hash_behind_create(struct hash_behind **out, size_t slot_bytes, cohort_error *err);
/* The next buffer, [slot_bytes]; waits while the thread still reads it. */
void *hash_behind_slot(struct hash_behind *behind);
/* The first length bytes of the last slot belong to what is hashed. */
void hash_behind_add(struct hash_behind *behind, size_t length);
/* Waits for the rest and gives the hash. */
void hash_behind_end(struct hash_behind *behind, char hex[HASH_HEX]);
/* Accepts NULL; also before the end. */
void hash_behind_destroy(struct hash_behind *behind);

#endif

#include "base/hash.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void hash_begin(struct hash *hash) { sha256_init(&hash->state); }

void hash_add(struct hash *hash, const void *bytes, size_t length)
{
    if (length > 0)
        sha256_update(&hash->state, length, bytes);
}

void hash_add_text(struct hash *hash, const char *bytes, size_t length)
{
    unsigned char prefix[8];
    for (int i = 0; i < 8; i++)
        prefix[i] = (unsigned char)((uint64_t)length >> (8 * i));
    hash_add(hash, prefix, sizeof prefix);
    hash_add(hash, bytes, length);
}

void hash_end(struct hash *hash, char hex[HASH_HEX])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[HASH_BYTES];
    sha256_digest(&hash->state, sizeof digest, digest);
    for (int i = 0; i < HASH_BYTES; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[2 * HASH_BYTES] = '\0';
}

cohort_status hash_file(const char *path, char hex[HASH_HEX], const struct stop *stop, cohort_error *err)
{
    enum { CHUNK = 1 << 20 };
    unsigned char *chunk = NULL;
    struct hash hash;
    cohort_status status = COHORT_OK;
    int fd = file_open(path, O_RDONLY);
    if (fd < 0)
        return error_set(err, COHORT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    TRY_GOTO(mem_alloc(&chunk, CHUNK, 1, "file to hash", err));
    hash_begin(&hash);
    for (;;) {
        TRY_GOTO(stop_check(stop, err));
        ssize_t n = read(fd, chunk, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            status = error_set(err, COHORT_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
            goto cleanup;
        }
        if (n == 0)
            break;
        hash_add(&hash, chunk, (size_t)n);
    }
    hash_end(&hash, hex);
cleanup:
    mem_free(chunk);
    close(fd);
    return status;
}

/* The codecs of Parquet's pages. */
#ifndef COHORT_FORMAT_PARQUET_CODEC_H
#define COHORT_FORMAT_PARQUET_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* By number, as in the format. */
enum parquet_codec {
    PARQUET_UNCOMPRESSED,
    PARQUET_SNAPPY,
    PARQUET_GZIP,
    PARQUET_LZO,
    PARQUET_BROTLI,
    PARQUET_LZ4,
    PARQUET_ZSTD,
    PARQUET_LZ4_RAW,
    PARQUET_N_CODECS
};

/* "SNAPPY"; "an unknown codec" for other numbers. */
const char *parquet_codec_name(int32_t codec);
bool parquet_codec_is_read(int32_t codec);

/* What the codecs need between calls; zero-initialise. */
struct unpacker {
    void *zstd, *gzip;
};
void unpacker_free(struct unpacker *unpacker);

/* NULL, or why length bytes cannot become unpacked bytes: the caller asks before it takes memory for them, so that a
 * few bytes cannot claim to be gigabytes. */
const char *unpack_check(int32_t codec, const uint8_t *bytes, size_t length, size_t unpacked);
/* Unpacks exactly unpacked bytes. NULL, or what is wrong; UNPACK_NO_MEMORY is a pointer of its own. */
const char *unpack_bytes(struct unpacker *unpacker, int32_t codec, const uint8_t *bytes, size_t length, uint8_t *to,
                         size_t unpacked);
extern const char UNPACK_NO_MEMORY[];

#endif

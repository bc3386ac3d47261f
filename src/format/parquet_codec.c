#include "format/parquet_codec.h"

#include "base/memory.h"

#include <snappy-c.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

const char UNPACK_NO_MEMORY[] = "out of memory";

static const char not_its_size[] = "its data do not unpack to the size that its head states";
static const char too_many[] = "its data cannot unpack to as many bytes as its head states";

const char *parquet_codec_name(int32_t codec)
{
    static const char *const names[PARQUET_N_CODECS] = {"UNCOMPRESSED", "SNAPPY", "GZIP", "LZO",
                                                        "BROTLI",       "LZ4",    "ZSTD", "LZ4_RAW"};
    return codec >= 0 && codec < PARQUET_N_CODECS ? names[codec] : "an unknown codec";
}

bool parquet_codec_is_read(int32_t codec)
{
    return codec == PARQUET_UNCOMPRESSED || codec == PARQUET_SNAPPY || codec == PARQUET_GZIP || codec == PARQUET_ZSTD;
}

void unpacker_free(struct unpacker *unpacker)
{
    ZSTD_freeDCtx(unpacker->zstd);
    if (unpacker->gzip != NULL)
        inflateEnd(unpacker->gzip);
    mem_free(unpacker->gzip);
    memset(unpacker, 0, sizeof *unpacker);
}

const char *unpack_check(int32_t codec, const uint8_t *bytes, size_t length, size_t unpacked)
{
    /* How much a byte can become at most: deflate's longest match is 258 bytes in 2 bits, a block of zstd is 4 bytes
     * for 128 KiB, a copy of snappy 3 bytes for 64. */
    enum { MOST_SNAPPY = 22, MOST_GZIP = 1032, MOST_ZSTD = 1 << 15, SOME = 1 << 10 };
    size_t stated = 0;
    if (length == 0 && unpacked == 0)
        return NULL; /* the values of a page that has none */
    switch (codec) {
    case PARQUET_UNCOMPRESSED: return length == unpacked ? NULL : not_its_size;
    case PARQUET_SNAPPY:
        if (snappy_uncompressed_length((const char *)bytes, length, &stated) != SNAPPY_OK)
            return "its data are not compressed with SNAPPY";
        if (stated != unpacked)
            return not_its_size;
        return unpacked <= length * MOST_SNAPPY + SOME ? NULL : too_many;
    case PARQUET_GZIP: return unpacked <= length * MOST_GZIP + SOME ? NULL : too_many;
    case PARQUET_ZSTD: return unpacked <= length * MOST_ZSTD + SOME ? NULL : too_many;
    default: return "its codec is not read";
    }
}

/* Members of gzip, or zlib's own form, one behind the other. */
static const char *inflate_bytes(struct unpacker *unpacker, const uint8_t *bytes, size_t length, uint8_t *to,
                                 size_t unpacked)
{
    enum { WINDOW_OF_EITHER = 15 + 32 };
    z_stream *stream = unpacker->gzip;
    if (stream == NULL) {
        if (mem_alloc(&stream, 1, sizeof *stream, "the state of inflate", NULL) != COHORT_OK)
            return UNPACK_NO_MEMORY;
        if (inflateInit2(stream, WINDOW_OF_EITHER) != Z_OK) {
            mem_free(stream);
            return UNPACK_NO_MEMORY;
        }
        unpacker->gzip = stream;
    }
    stream->next_in = (Bytef *)(uintptr_t)bytes;
    stream->avail_in = (uInt)length;
    stream->next_out = to;
    stream->avail_out = (uInt)unpacked;
    do {
        if (inflateReset2(stream, WINDOW_OF_EITHER) != Z_OK)
            return UNPACK_NO_MEMORY;
        int code = inflate(stream, Z_FINISH);
        if (code == Z_MEM_ERROR)
            return UNPACK_NO_MEMORY;
        if (code != Z_STREAM_END)
            return stream->avail_out == 0 ? not_its_size : "its data are not compressed with GZIP";
    } while (stream->avail_out > 0 && stream->avail_in > 0);
    return stream->avail_out == 0 ? NULL : not_its_size;
}

const char *unpack_bytes(struct unpacker *unpacker, int32_t codec, const uint8_t *bytes, size_t length, uint8_t *to,
                         size_t unpacked)
{
    const char *wrong = unpack_check(codec, bytes, length, unpacked);
    size_t n = unpacked;
    if (wrong != NULL || length == 0)
        return wrong;
    switch (codec) {
    case PARQUET_SNAPPY:
        if (snappy_uncompress((const char *)bytes, length, (char *)to, &n) != SNAPPY_OK)
            return "its data are not compressed with SNAPPY";
        break;
    case PARQUET_GZIP: return inflate_bytes(unpacker, bytes, length, to, unpacked);
    case PARQUET_ZSTD:
        if (unpacker->zstd == NULL)
            unpacker->zstd = ZSTD_createDCtx();
        if (unpacker->zstd == NULL)
            return UNPACK_NO_MEMORY;
        n = ZSTD_decompressDCtx(unpacker->zstd, to, unpacked, bytes, length);
        if (ZSTD_isError(n))
            return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? UNPACK_NO_MEMORY
                                                                        : "its data are not compressed with ZSTD";
        break;
    default: memcpy(to, bytes, unpacked); break;
    }
    return n == unpacked ? NULL : not_its_size;
}

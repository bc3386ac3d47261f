#include "run/data_unpack.h"

#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { IN_BYTES = 1 << 16, OUT_BYTES = 1 << 17 };

static const char GZIP[] = "gzip", ZSTANDARD[] = "zstd";

const char *data_packing(const char *bytes, size_t length)
{
    if (length >= 2 && memcmp(bytes, "\x1f\x8b", 2) == 0)
        return GZIP;
    if (length >= 4 && memcmp(bytes, "\x28\xb5\x2f\xfd", 4) == 0)
        return ZSTANDARD;
    return NULL;
}

/* What is unpacked, from where to where. */
struct unpacking {
    const char *path;
    data_source *source;
    data_sink *sink;
    void *context;
    char *in, *out;
};

static cohort_status cut_off(const struct unpacking *u, const char *packing, cohort_error *err)
{
    return error_set(err, COHORT_ERR_FORMAT, "%s: the %s stream is cut off: the file is not whole; fetch it again",
                     u->path, packing);
}

static cohort_status damaged(const struct unpacking *u, const char *packing, const char *why, cohort_error *err)
{
    return error_set(err, COHORT_ERR_FORMAT, "%s: the %s stream is damaged (%s); fetch the file again", u->path,
                     packing, why);
}

static cohort_status unpack_gzip(struct unpacking *u, cohort_error *err)
{
    z_stream z = {0};
    cohort_status status = COHORT_OK;
    bool within = true; /* a member, which has not ended */
    if (inflateInit2(&z, 15 + 16) != Z_OK)
        return error_set(err, COHORT_ERR_MEMORY, "%s: no memory to unpack", u->path);
    for (;;) {
        size_t got = 0;
        if (z.avail_in == 0) {
            TRY_GOTO(u->source(u->context, u->in, IN_BYTES, &got, err));
            z.next_in = (unsigned char *)u->in;
            z.avail_in = (unsigned)got;
        }
        if (z.avail_in == 0)
            break;
        for (; !within && z.avail_in > 0 && *z.next_in == 0; z.avail_in--) /* padding behind a member */
            z.next_in++;
        if (z.avail_in == 0)
            continue;
        if (!within && inflateReset(&z) != Z_OK) {
            status = error_set(err, COHORT_ERR_MEMORY, "%s: no memory to unpack", u->path);
            goto cleanup;
        }
        z.next_out = (unsigned char *)u->out;
        z.avail_out = OUT_BYTES;
        const int code = inflate(&z, Z_NO_FLUSH);
        if (code == Z_MEM_ERROR) {
            status = error_set(err, COHORT_ERR_MEMORY, "%s: no memory to unpack", u->path);
            goto cleanup;
        }
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
            status = damaged(u, GZIP, z.msg == NULL ? "no gzip data" : z.msg, err);
            goto cleanup;
        }
        TRY_GOTO(u->sink(u->context, u->out, OUT_BYTES - z.avail_out, err));
        within = code != Z_STREAM_END;
    }
    if (within)
        status = cut_off(u, GZIP, err);
cleanup:
    inflateEnd(&z);
    return status;
}

static cohort_status unpack_zstd(struct unpacking *u, cohort_error *err)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    ZSTD_inBuffer in = {.src = u->in};
    cohort_status status = COHORT_OK;
    size_t left = 1; /* 0: the frame has ended */
    bool full = false;
    if (z == NULL)
        return error_set(err, COHORT_ERR_MEMORY, "%s: no memory to unpack", u->path);
    for (;;) {
        ZSTD_outBuffer out = {.dst = u->out, .size = OUT_BYTES};
        if (in.pos == in.size && !full) {
            in = (ZSTD_inBuffer){.src = u->in};
            TRY_GOTO(u->source(u->context, u->in, IN_BYTES, &in.size, err));
            if (in.size == 0)
                break;
        }
        left = ZSTD_decompressStream(z, &out, &in);
        if (ZSTD_isError(left)) {
            status = damaged(u, ZSTANDARD, ZSTD_getErrorName(left), err);
            goto cleanup;
        }
        TRY_GOTO(u->sink(u->context, u->out, out.pos, err));
        full = out.pos == out.size && left != 0; /* more may be waiting inside */
    }
    if (left != 0)
        status = cut_off(u, ZSTANDARD, err);
cleanup:
    ZSTD_freeDStream(z);
    return status;
}

cohort_status data_unpack(const char *packing, const char *path, data_source *source, data_sink *sink, void *context,
                          cohort_error *err)
{
    struct unpacking u = {.path = path, .source = source, .sink = sink, .context = context};
    cohort_status status = COHORT_OK;
    TRY_GOTO(mem_alloc(&u.in, IN_BYTES, 1, "unpacking", err));
    TRY_GOTO(mem_alloc(&u.out, OUT_BYTES, 1, "unpacking", err));
    status = packing == GZIP ? unpack_gzip(&u, err) : unpack_zstd(&u, err);
cleanup:
    mem_free(u.in);
    mem_free(u.out);
    return status;
}

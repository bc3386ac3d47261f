#include "run/event_file.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- protocol buffers ---- */

enum wire { VARINT = 0, EIGHT_BYTES = 1, BYTES = 2, FOUR_BYTES = 5 };

static cohort_status key(struct text *out, unsigned field, enum wire wire, cohort_error *err)
{
    return text_append_varint(out, field << 3 | (unsigned)wire, err);
}

static void little_endian(uint64_t value, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (char)(value >> (8 * i));
}

static cohort_status number(struct text *out, unsigned field, double value, cohort_error *err)
{
    uint64_t bits = 0;
    char bytes[8];
    memcpy(&bits, &value, sizeof bits);
    little_endian(bits, 8, bytes);
    TRY(key(out, field, EIGHT_BYTES, err));
    return text_append(out, bytes, 8, err);
}

static cohort_status single(struct text *out, unsigned field, float value, cohort_error *err)
{
    uint32_t bits = 0;
    char bytes[4];
    memcpy(&bits, &value, sizeof bits);
    little_endian(bits, 4, bytes);
    TRY(key(out, field, FOUR_BYTES, err));
    return text_append(out, bytes, 4, err);
}

static cohort_status integer(struct text *out, unsigned field, int64_t value, cohort_error *err)
{
    TRY(key(out, field, VARINT, err));
    return text_append_varint(out, (uint64_t)value, err);
}

static cohort_status bytes_of(struct text *out, unsigned field, const char *bytes, size_t length, cohort_error *err)
{
    TRY(key(out, field, BYTES, err));
    TRY(text_append_varint(out, length, err));
    return text_append(out, bytes, length, err);
}

static cohort_status message(struct text *out, unsigned field, const struct text *inner, cohort_error *err)
{
    return bytes_of(out, field, inner->length > 0 ? inner->data : "", inner->length, err);
}

/* ---- records: length, its checksum, content, its checksum ---- */

static void make_table(uint32_t table[256])
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = (c & 1) != 0 ? 0x82F63B78U ^ (c >> 1) : c >> 1;
        table[i] = c;
    }
}

/* CRC-32C, rotated and shifted by a constant, so that a checksum of a text that holds checksums is none by chance. */
static uint32_t masked_crc(const uint32_t table[256], const char *bytes, size_t n)
{
    uint32_t crc = 0xFFFFFFFFU;
    for (size_t i = 0; i < n; i++)
        crc = table[(crc ^ (unsigned char)bytes[i]) & 0xFF] ^ (crc >> 8);
    crc ^= 0xFFFFFFFFU;
    return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U;
}

static cohort_status write_record(struct event_file *file, const struct text *event, cohort_error *err)
{
    char head[12], tail[4];
    little_endian(event->length, 8, head);
    little_endian(masked_crc(file->crc, head, 8), 4, head + 8);
    little_endian(masked_crc(file->crc, event->data, event->length), 4, tail);
    file->record.length = 0;
    TRY(text_append(&file->record, head, sizeof head, err));
    TRY(text_append(&file->record, event->data, event->length, err));
    TRY(text_append(&file->record, tail, sizeof tail, err));
    return file_write_all(file->fd, file->path, file->record.data, file->record.length, err);
}

/* An event's fields: time 1, step 2, version of the file 3, summary 5, session 7. */
static cohort_status begin_event(struct text *event, double time, int64_t step, cohort_error *err)
{
    TRY(number(event, 1, time, err));
    return integer(event, 2, step, err);
}

/* ---- events ---- */

static cohort_status write_head(struct event_file *file, double time, int64_t step, cohort_error *err)
{
    static const char version[] = "brain.Event:2";
    struct text event = {0}, log = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(number(&event, 1, time, err));
    TRY_GOTO(bytes_of(&event, 3, version, sizeof version - 1, err));
    TRY_GOTO(write_record(file, &event, err));
    event.length = 0;
    TRY_GOTO(begin_event(&event, time, step, err));
    TRY_GOTO(integer(&log, 1, 1, err)); /* the session starts */
    TRY_GOTO(message(&event, 7, &log, err));
    TRY_GOTO(write_record(file, &event, err));
cleanup:
    text_free(&event);
    text_free(&log);
    return status;
}

cohort_status event_file_open(struct event_file *file, const char *dir, double time, int64_t step, cohort_error *err)
{
    char host[256] = "host";
    cohort_status status = COHORT_OK;
    memset(file, 0, sizeof *file);
    make_table(file->crc);
    if (gethostname(host, sizeof host) != 0)
        host[0] = '\0';
    host[sizeof host - 1] = '\0';
    for (int n = 0; file->fd <= 0; n++) {
        struct text path = {0};
        TRY_GOTO(text_printf(&path, err, "%s/events.out.tfevents.%010.0f.%s.%ld.%d", dir, floor(time),
                             host[0] == '\0' ? "host" : host, (long)getpid(), n));
        mem_free(file->path);
        file->path = path.data;
        file->fd = file_open(file->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND);
        if (file->fd < 0 && (errno != EEXIST || n > 1000)) {
            status = error_set(err, COHORT_ERR_IO, "%s: cannot create: %s", file->path, strerror(errno));
            goto cleanup;
        }
    }
    TRY_GOTO(write_head(file, time, step, err));
cleanup:
    if (status != COHORT_OK)
        event_file_close(file);
    return status;
}

void event_file_close(struct event_file *file)
{
    if (file->fd > 0)
        close(file->fd);
    mem_free(file->path);
    text_free(&file->record);
    memset(file, 0, sizeof *file);
}

cohort_status event_file_scalars(struct event_file *file, double time, int64_t step, const cohort_metric *metrics,
                                 size_t n, cohort_error *err)
{
    struct text event = {0}, summary = {0}, value = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(begin_event(&event, time, step, err));
    for (size_t i = 0; i < n; i++) { /* a summary's value 1: tag 1, number 2 */
        value.length = 0;
        TRY_GOTO(bytes_of(&value, 1, metrics[i].name, strlen(metrics[i].name), err));
        TRY_GOTO(single(&value, 2, (float)metrics[i].value, err));
        TRY_GOTO(message(&summary, 1, &value, err));
    }
    TRY_GOTO(message(&event, 5, &summary, err));
    TRY_GOTO(write_record(file, &event, err));
cleanup:
    text_free(&event);
    text_free(&summary);
    text_free(&value);
    return status;
}

cohort_status event_file_text(struct event_file *file, double time, int64_t step, const char *tag, const char *text,
                              size_t length, cohort_error *err)
{
    struct text event = {0}, summary = {0}, value = {0}, tensor = {0}, meta = {0}, plugin = {0};
    cohort_status status = COHORT_OK;
    TRY_GOTO(integer(&tensor, 1, 7, err)); /* a tensor of strings; its shape is {dim {size 1}} */
    TRY_GOTO(bytes_of(&tensor, 2, "\x12\x02\x08\x01", 4, err));
    TRY_GOTO(bytes_of(&tensor, 8, text, length, err));
    TRY_GOTO(bytes_of(&plugin, 1, "text", 4, err));
    TRY_GOTO(message(&meta, 1, &plugin, err));
    TRY_GOTO(integer(&meta, 4, 2, err)); /* its class: a tensor */
    TRY_GOTO(bytes_of(&value, 1, tag, strlen(tag), err));
    TRY_GOTO(message(&value, 8, &tensor, err));
    TRY_GOTO(message(&value, 9, &meta, err));
    TRY_GOTO(message(&summary, 1, &value, err));
    TRY_GOTO(begin_event(&event, time, step, err));
    TRY_GOTO(message(&event, 5, &summary, err));
    TRY_GOTO(write_record(file, &event, err));
cleanup:
    text_free(&event);
    text_free(&summary);
    text_free(&value);
    text_free(&tensor);
    text_free(&meta);
    text_free(&plugin);
    return status;
}

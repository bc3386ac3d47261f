/* The footer: FileMetaData with the schema, row groups and the places of column chunks. */
#include "format/parquet_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC_BYTES = 4, TAIL_BYTES = 8 }; /* the tail: the footer's length and the magic */

cohort_status parquet_thrift_error(const struct parquet_file *file, const struct thrift *in, const char *what,
                                   cohort_error *err)
{
    return error_set(err, COHORT_ERR_FORMAT, "%s: %s, at byte %zu: %s; the file is damaged: copy or download it again",
                     file->path, what, (size_t)(in->wrong_at - file->map.data), in->wrong);
}

/* A ColumnChunk with its ColumnMetaData, as far as it is looked at. */
struct stated_chunk {
    bool has_metadata, is_elsewhere, is_encrypted;
    int32_t physical, codec;
    int64_t n_values, bytes, data, dictionary;
};

static void read_metadata(struct thrift *in, enum thrift_type type, struct stated_chunk *chunk)
{
    struct thrift_field field = {0};
    chunk->has_metadata = true;
    if (!thrift_struct(in, type))
        return;
    while (thrift_field(in, &field)) {
        switch (field.id) {
        case 1: chunk->physical = thrift_i32(in, field.type); break;
        case 4: chunk->codec = thrift_i32(in, field.type); break;
        case 5: chunk->n_values = thrift_i64(in, field.type); break;
        case 7: chunk->bytes = thrift_i64(in, field.type); break;
        case 9: chunk->data = thrift_i64(in, field.type); break;
        case 11: chunk->dictionary = thrift_i64(in, field.type); break;
        default: thrift_skip(in, field.type);
        }
    }
}

static void read_chunk(struct thrift *in, struct stated_chunk *chunk)
{
    struct thrift_field field = {0};
    *chunk = (struct stated_chunk){.physical = -1, .codec = -1, .n_values = -1, .bytes = -1, .data = -1};
    while (thrift_field(in, &field)) {
        switch (field.id) {
        case 1: chunk->is_elsewhere = true; break;
        case 3: read_metadata(in, field.type, chunk); continue;
        case 8: chunk->is_encrypted = true; break;
        default: break;
        }
        thrift_skip(in, field.type);
    }
}

struct footer {
    struct parquet_file *file;
    struct thrift in;
    uint64_t begin; /* its place: chunks end before it */
    bool has_schema, is_encrypted;
    int64_t n_rows;
};

static cohort_status refuse_chunk(const struct footer *f, size_t leaf, const char *why, cohort_error *err)
{
    char name[PARQUET_PATH_BYTES];
    parquet_path(f->file, (int32_t)leaf, name);
    return error_set(err, COHORT_ERR_FORMAT, "%s: column %s, row group %zu: %s", f->file->path, name,
                     f->file->n_groups + 1, why);
}

static cohort_status add_chunk(struct footer *f, const struct stated_chunk *stated, size_t leaf, cohort_error *err)
{
    struct parquet_file *file = f->file;
    if (leaf >= file->n_leaves)
        return error_set(err, COHORT_ERR_FORMAT, "%s: row group %zu has more columns than the schema's %zu", file->path,
                         file->n_groups + 1, file->n_leaves);
    if (stated->is_encrypted)
        return refuse_chunk(f, leaf, "it is encrypted; write the file without encryption", err);
    if (stated->is_elsewhere)
        return refuse_chunk(f, leaf, "its data lie in another file; read the files that hold the rows themselves", err);
    if (!stated->has_metadata || stated->physical != (int32_t)file->leaves[leaf].physical)
        return refuse_chunk(f, leaf, "its type is not the schema's; the file is damaged", err);
    if (stated->n_values < 0 || stated->bytes < 0 || stated->data < 0)
        return refuse_chunk(f, leaf, "its place or size is missing or negative; the file is damaged", err);
    /* An empty chunk of pyarrow has a dictionary and no place of data pages. */
    const bool dictionary_first = stated->dictionary > 0 && (stated->dictionary < stated->data || stated->data == 0);
    const uint64_t begin = (uint64_t)(dictionary_first ? stated->dictionary : stated->data);
    if (stated->bytes > 0 && (begin < MAGIC_BYTES || begin > f->begin || (uint64_t)stated->bytes > f->begin - begin))
        return refuse_chunk(
            f, leaf, "its pages do not lie within the file, which may be cut short: copy or download it again", err);
    /* A page takes at least some bytes and holds at most so many values. */
    if (stated->n_values / PARQUET_MAX_PAGE_VALUES > stated->bytes / 8)
        return refuse_chunk(f, leaf, "it states more values than its bytes can hold; the file is damaged", err);
    TRY(mem_grow(&file->chunks, &file->chunk_capacity, file->n_chunks + 1, sizeof *file->chunks, "the columns' places",
                 err));
    file->chunks[file->n_chunks++] = (struct parquet_chunk){.begin = begin,
                                                            .end = begin + (uint64_t)stated->bytes,
                                                            .next = begin,
                                                            .n_values = stated->n_values,
                                                            .codec = stated->codec};
    return COHORT_OK;
}

static cohort_status read_chunks(struct footer *f, enum thrift_type type, cohort_error *err)
{
    const size_t count = thrift_list(&f->in, type, THRIFT_STRUCT);
    for (size_t i = 0; i < count && f->in.wrong == NULL; i++) {
        struct stated_chunk stated;
        read_chunk(&f->in, &stated);
        if (f->in.wrong == NULL)
            TRY(add_chunk(f, &stated, i, err));
    }
    if (f->in.wrong == NULL && count != f->file->n_leaves)
        return error_set(err, COHORT_ERR_FORMAT, "%s: row group %zu has %zu columns, the schema has %zu", f->file->path,
                         f->file->n_groups + 1, count, f->file->n_leaves);
    return COHORT_OK;
}

static cohort_status read_group(struct footer *f, cohort_error *err)
{
    struct parquet_file *file = f->file;
    struct thrift_field field = {0};
    struct parquet_group group = {.first_row = file->n_rows, .n_rows = -1};
    const size_t chunks_before = file->n_chunks;
    while (thrift_field(&f->in, &field)) {
        if (field.id == 1 && file->n_chunks == chunks_before)
            TRY(read_chunks(f, field.type, err));
        else if (field.id == 3)
            group.n_rows = thrift_i64(&f->in, field.type);
        else
            thrift_skip(&f->in, field.type);
    }
    if (f->in.wrong != NULL)
        return COHORT_OK; /* parquet_footer_read says so */
    if (file->n_chunks - chunks_before != file->n_leaves || group.n_rows < 0 ||
        __builtin_add_overflow(file->n_rows, group.n_rows, &file->n_rows))
        return error_set(err, COHORT_ERR_FORMAT, "%s: row group %zu has no columns, or an impossible number of rows",
                         file->path, file->n_groups + 1);
    for (size_t leaf = 0; leaf < file->n_leaves; leaf++) {
        const struct parquet_chunk *chunk = &file->chunks[chunks_before + leaf];
        const bool repeats = file->leaves[leaf].max_repetition > 0;
        if (repeats ? chunk->n_values < group.n_rows : chunk->n_values != group.n_rows)
            return refuse_chunk(f, leaf, "its number of values does not fit the number of rows; the file is damaged",
                                err);
    }
    TRY(mem_grow(&file->groups, &file->group_capacity, file->n_groups + 1, sizeof *file->groups, "the row groups",
                 err));
    file->groups[file->n_groups++] = group;
    return COHORT_OK;
}

static cohort_status read_groups(struct footer *f, enum thrift_type type, cohort_error *err)
{
    const size_t count = thrift_list(&f->in, type, THRIFT_STRUCT);
    for (size_t i = 0; i < count && f->in.wrong == NULL; i++)
        TRY(read_group(f, err));
    return COHORT_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct parquet_chunk *left = *(const struct parquet_chunk *const *)a;
    const struct parquet_chunk *right = *(const struct parquet_chunk *const *)b;
    return left->begin < right->begin ? -1 : left->begin > right->begin;
}

/* No byte belongs to two chunks. */
static cohort_status check_overlaps(const struct parquet_file *file, cohort_error *err)
{
    const struct parquet_chunk **sorted = NULL;
    cohort_status status = COHORT_OK;
    size_t n = 0;
    TRY(mem_alloc(&sorted, file->n_chunks, sizeof *sorted, "the columns' places", err));
    for (size_t i = 0; i < file->n_chunks; i++)
        if (file->chunks[i].end > file->chunks[i].begin)
            sorted[n++] = &file->chunks[i];
    qsort(sorted, n, sizeof *sorted, by_place);
    for (size_t i = 1; i < n && status == COHORT_OK; i++) {
        if (sorted[i]->begin >= sorted[i - 1]->end)
            continue;
        char name[PARQUET_PATH_BYTES];
        parquet_path(file, (int32_t)((size_t)(sorted[i] - file->chunks) % file->n_leaves), name);
        status = error_set(err, COHORT_ERR_FORMAT,
                           "%s: column %s: its pages at byte %" PRIu64
                           " lie within those of another column; the file is damaged",
                           file->path, name, sorted[i]->begin);
    }
    mem_free(sorted);
    return status;
}

static cohort_status read_file_metadata(struct footer *f, cohort_error *err)
{
    struct thrift_field field = {0};
    struct thrift groups = {0};
    enum thrift_type groups_type = THRIFT_STOP;
    f->n_rows = -1;
    while (thrift_field(&f->in, &field)) {
        switch (field.id) {
        case 2:
            if (!f->has_schema)
                TRY(parquet_schema_read(f->file, &f->in, field.type, err));
            else
                thrift_fail(&f->in, "it has two schemas");
            f->has_schema = true;
            break;
        case 3: f->n_rows = thrift_i64(&f->in, field.type); break;
        case 4: /* read below: the schema may stand behind them */
            groups = f->in;
            groups_type = field.type;
            thrift_skip(&f->in, field.type);
            break;
        case 8:
            f->is_encrypted = true;
            thrift_skip(&f->in, field.type);
            break;
        default: thrift_skip(&f->in, field.type);
        }
    }
    if (f->is_encrypted && f->in.wrong == NULL)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: it is encrypted; write the file without encryption",
                         f->file->path);
    if (f->in.wrong == NULL && !f->has_schema)
        thrift_fail(&f->in, "it has no schema");
    if (f->in.wrong == NULL && groups_type != THRIFT_STOP) {
        f->in = groups;
        TRY(read_groups(f, groups_type, err));
    }
    return f->in.wrong == NULL ? COHORT_OK : parquet_thrift_error(f->file, &f->in, "its footer", err);
}

cohort_status parquet_footer_read(struct parquet_file *file, cohort_error *err)
{
    const unsigned char *data = file->map.data;
    const size_t size = file->map.size;
    uint32_t length = 0;
    const char *found = wrong_file(data, size, WRONG_FILE_ROWS);
    if (size >= MAGIC_BYTES && memcmp(data, "PARE", MAGIC_BYTES) == 0)
        return error_set(err, COHORT_ERR_UNSUPPORTED, "%s: it is encrypted; write the file without encryption",
                         file->path);
    if (size < MAGIC_BYTES || memcmp(data, "PAR1", MAGIC_BYTES) != 0)
        return error_set(err, COHORT_ERR_FORMAT, "%s: %s", file->path,
                         found != NULL ? found : "not a Parquet file: it does not begin with PAR1");
    if (size < MAGIC_BYTES + TAIL_BYTES || memcmp(data + size - MAGIC_BYTES, "PAR1", MAGIC_BYTES) != 0)
        return error_set(
            err, COHORT_ERR_FORMAT,
            "%s: it begins like a Parquet file but does not end like one (PAR1), so that it was cut short: "
            "copy or download it again",
            file->path);
    memcpy(&length, data + size - TAIL_BYTES, sizeof length);
    if (length > size - MAGIC_BYTES - TAIL_BYTES)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: its footer of %" PRIu32
                         " bytes does not lie within the file of %zu; it was cut short or is "
                         "damaged: copy or download it again",
                         file->path, length, size);
    if (length > PARQUET_MAX_FOOTER)
        return error_set(err, COHORT_ERR_FORMAT, "%s: its footer has %" PRIu32 " bytes, more than %d are not read",
                         file->path, length, PARQUET_MAX_FOOTER);
    struct footer f = {.file = file, .begin = size - TAIL_BYTES - length};
    f.in = (struct thrift){.at = data + f.begin, .end = data + size - TAIL_BYTES};
    TRY(read_file_metadata(&f, err));
    if (f.n_rows != file->n_rows)
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s: it states %" PRId64 " rows, its row groups hold %" PRId64 "; the file is damaged",
                         file->path, f.n_rows, file->n_rows);
    return check_overlaps(file, err);
}

/* Which decoded pages are kept, how a row's page is found, and the walk from entry to entry. */
#include "format/parquet_page.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Current pages of columns that are not being read just now are given up, too, when all slots hold more than this. */
static const size_t most_bytes = (size_t)1 << 31;
enum { DICTIONARY = -1, MANY_SLOTS = 4096 };

static struct parquet_chunk *chunk_of(const struct parquet_file *file, int32_t leaf, int32_t group)
{
    return &file->chunks[(size_t)group * file->n_leaves + (size_t)leaf];
}

/* ---- slots ---- */

static void empty_slot(struct parquet_file *file, int32_t index)
{
    struct parquet_slot *slot = file->slots[index];
    if (slot->leaf >= 0 && file->leaves[slot->leaf].current == index)
        file->leaves[slot->leaf].current = -1;
    if (slot->dictionary >= 0)
        file->slots[slot->dictionary]->n_users--;
    slot->leaf = slot->dictionary = -1;
    slot->used = 0;
}

static void free_buffers(struct parquet_file *file, struct parquet_slot *slot)
{
    struct parquet_buffer *const buffers[] = {
        &slot->unpacked,          &slot->made,    &slot->spans, &slot->indices, &slot->definition_levels,
        &slot->repetition_levels, &slot->entries, &slot->counts};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        mem_free(buffers[i]->data);
        *buffers[i] = (struct parquet_buffer){0};
    }
    file->slot_bytes -= slot->bytes;
    slot->bytes = 0;
}

void parquet_pages_free(struct parquet_file *file)
{
    for (size_t i = 0; i < file->n_slots; i++) {
        free_buffers(file, file->slots[i]);
        mem_free(file->slots[i]);
    }
    mem_free(file->slots);
}

static int32_t find_slot(const struct parquet_file *file, int32_t leaf, int32_t group, int64_t page)
{
    for (size_t i = 0; i < file->n_slots; i++) {
        const struct parquet_slot *slot = file->slots[i];
        if (slot->leaf == leaf && slot->group == group && slot->page == page)
            return (int32_t)i;
    }
    return -1;
}

/* The slot that is given up next: one that is empty or not wanted any more, else the one not used for longest; of those
 * that hold memory, if with_memory. -1: none may be given up. */
static int32_t choose_victim(const struct parquet_file *file, bool with_memory)
{
    int32_t victim = -1;
    for (size_t i = 0; i < file->n_slots; i++) {
        const struct parquet_slot *slot = file->slots[i];
        const bool current = slot->leaf >= 0 && file->leaves[slot->leaf].current == (int32_t)i;
        if (slot->n_users > 0 || (with_memory && slot->bytes == 0) || (current && file->slot_bytes <= most_bytes) ||
            (current && slot->leaf >= file->pinned_begin && slot->leaf < file->pinned_end))
            continue;
        if (victim < 0 || slot->used < file->slots[victim]->used)
            victim = (int32_t)i;
    }
    return victim;
}

/* *index = a slot to decode into. */
static cohort_status take_slot(struct parquet_file *file, int32_t *index, cohort_error *err)
{
    while (file->slot_bytes > file->cache_bytes && (*index = choose_victim(file, true)) >= 0) {
        empty_slot(file, *index);
        if (file->slot_bytes - file->slots[*index]->bytes <= file->cache_bytes)
            return COHORT_OK; /* with its buffers */
        free_buffers(file, file->slots[*index]);
    }
    *index = choose_victim(file, false);
    if (*index >= 0 && (file->slots[*index]->used == 0 || file->n_slots >= MANY_SLOTS + 2 * file->n_leaves)) {
        empty_slot(file, *index);
        return COHORT_OK;
    }
    if (file->slot_bytes > 2 * most_bytes)
        return error_set(err, COHORT_ERR_MEMORY, "%s: the pages of a row take more than %zu bytes of memory, unpacked",
                         file->path, 2 * most_bytes);
    struct parquet_slot *slot = NULL;
    TRY(mem_grow(&file->slots, &file->slot_capacity, file->n_slots + 1, sizeof(struct parquet_slot *), "pages", err));
    TRY(mem_alloc(&slot, 1, sizeof *slot, "a page", err));
    slot->leaf = slot->dictionary = -1;
    *index = (int32_t)file->n_slots;
    file->slots[file->n_slots++] = slot;
    return COHORT_OK;
}

/* *index = the slot with this page, decoded. */
static cohort_status load(struct parquet_file *file, int32_t leaf, int32_t group, int64_t page, int32_t *index,
                          cohort_error *err)
{
    const struct parquet_chunk *chunk = chunk_of(file, leaf, group);
    const uint64_t at = page == DICTIONARY ? chunk->dictionary : chunk->pages[page].at;
    struct page_head head;
    int32_t dictionary = -1;
    *index = file->leaves[leaf].current;
    if (*index < 0 || file->slots[*index]->group != group || file->slots[*index]->page != page)
        *index = find_slot(file, leaf, group, page);
    if (*index >= 0) {
        file->slots[*index]->used = ++file->clock;
        return COHORT_OK;
    }
    if (!parquet_codec_is_read(chunk->codec)) {
        char name[PARQUET_PATH_BYTES];
        parquet_path(file, leaf, name);
        return error_set(err, COHORT_ERR_UNSUPPORTED,
                         "%s: column %s: compressed with %s, which is not read; write the file with SNAPPY, GZIP, ZSTD "
                         "or uncompressed",
                         file->path, name, parquet_codec_name(chunk->codec));
    }
    TRY(page_head_read(file, leaf, at, chunk->end, &head, err));
    if (page != DICTIONARY && page_has_indices(&head) && chunk->dictionary != 0) {
        TRY(load(file, leaf, group, DICTIONARY, &dictionary, err));
        file->slots[dictionary]->n_users++;
    }
    cohort_status status = take_slot(file, index, err);
    if (status != COHORT_OK) {
        if (dictionary >= 0)
            file->slots[dictionary]->n_users--;
        return status;
    }
    struct parquet_slot *slot = file->slots[*index];
    slot->leaf = leaf;
    slot->group = group;
    slot->page = page;
    slot->dictionary = dictionary;
    slot->used = ++file->clock;
    status = page_decode(file, leaf, chunk->codec, &head, dictionary >= 0 ? file->slots[dictionary] : NULL, slot, err);
    if (status != COHORT_OK)
        empty_slot(file, *index);
    return status;
}

/* Makes a page the leaf's current one. The page before it is not wanted any more: rows are read in ascending order. */
static cohort_status make_current(struct parquet_file *file, int32_t leaf, int32_t group, int64_t page,
                                  cohort_error *err)
{
    int32_t index = -1;
    TRY(load(file, leaf, group, page, &index, err));
    const int32_t before = file->leaves[leaf].current;
    if (before >= 0 && before != index) {
        struct parquet_slot *old = file->slots[before];
        if ((old->group == group && old->page == page - 1) || (old->group == group - 1 && page == 0))
            old->used = 0;
    }
    file->leaves[leaf].current = index;
    return COHORT_OK;
}

/* ---- which pages there are ---- */

static cohort_status wrong_chunk(const struct parquet_file *file, int32_t leaf, int32_t group, const char *what,
                                 int64_t has, int64_t wanted, cohort_error *err)
{
    char name[PARQUET_PATH_BYTES];
    parquet_path(file, leaf, name);
    return error_set(err, COHORT_ERR_FORMAT,
                     "%s: column %s, row group %" PRId32 ": its pages hold %" PRId64 " %s, expected %" PRId64
                     "; the file is damaged",
                     file->path, name, group + 1, has, what, wanted);
}

/* Looks at the next page of a chunk that has values. A page that is refused is met again by the next call. */
static cohort_status meet_page(struct parquet_file *file, int32_t leaf, int32_t group, cohort_error *err)
{
    struct parquet_chunk *chunk = chunk_of(file, leaf, group);
    const int64_t n_rows = file->groups[group].n_rows;
    struct page_head head;
    for (;;) {
        const uint64_t at = chunk->next;
        if (at >= chunk->end)
            return wrong_chunk(file, leaf, group, "values", chunk->known_values, chunk->n_values, err);
        TRY(page_head_read(file, leaf, at, chunk->end, &head, err));
        if (head.type == PAGE_DICTIONARY && (chunk->dictionary != 0 || chunk->n_pages > 0))
            return page_error(file, leaf, at, "a dictionary that is not the column's first page", err);
        if ((head.type == PAGE_DATA || head.type == PAGE_DATA_V2) && head.n_values > 0)
            break;
        if (head.type == PAGE_DICTIONARY)
            chunk->dictionary = at;
        chunk->next = head.end;
    }
    const int64_t known_values = chunk->known_values + head.n_values;
    int64_t known_rows = chunk->known_rows;
    if (known_values > chunk->n_values)
        return wrong_chunk(file, leaf, group, "values", known_values, chunk->n_values, err);
    TRY(mem_grow(&chunk->pages, &chunk->capacity, chunk->n_pages + 1, sizeof *chunk->pages, "pages", err));
    chunk->pages[chunk->n_pages] = (struct parquet_page){head.at, known_rows};
    if (file->leaves[leaf].max_repetition == 0) {
        known_rows += head.n_values;
    } else if (head.type == PAGE_DATA_V2) {
        known_rows += head.n_rows;
    } else { /* only its levels tell */
        TRY(make_current(file, leaf, group, (int64_t)chunk->n_pages, err));
        known_rows += file->slots[file->leaves[leaf].current]->n_rows;
    }
    if (known_rows > n_rows || (known_values == chunk->n_values && known_rows < n_rows))
        return wrong_chunk(file, leaf, group, "rows", known_rows, n_rows, err);
    chunk->n_pages++;
    chunk->next = head.end;
    chunk->known_values = known_values;
    chunk->known_rows = known_rows;
    return COHORT_OK;
}

/* *page = the page of the chunk in which a row begins. */
static cohort_status find_page(struct parquet_file *file, int32_t leaf, int32_t group, int64_t row, int64_t *page,
                               cohort_error *err)
{
    const struct parquet_chunk *chunk = chunk_of(file, leaf, group);
    while (chunk->known_rows <= row)
        TRY(meet_page(file, leaf, group, err));
    size_t low = 0, high = chunk->n_pages; /* the last page whose first row is not behind row */
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (chunk->pages[middle].first_row <= row)
            low = middle;
        else
            high = middle;
    }
    *page = (int64_t)low;
    return COHORT_OK;
}

/* ---- the walk ---- */

cohort_status parquet_seek(struct parquet_file *file, int32_t index, int32_t group, int64_t row, cohort_error *err)
{
    struct parquet_leaf *leaf = &file->leaves[index];
    const struct parquet_chunk *chunk = chunk_of(file, index, group);
    const struct parquet_slot *slot = leaf->current >= 0 ? file->slots[leaf->current] : NULL;
    int64_t page = 0;
    /* Mostly it is the page of the last row. (A page behind the known ones was refused.) */
    if (slot == NULL || slot->group != group || (size_t)slot->page >= chunk->n_pages ||
        row < chunk->pages[slot->page].first_row || row - chunk->pages[slot->page].first_row >= slot->n_rows) {
        TRY(find_page(file, index, group, row, &page, err));
        TRY(make_current(file, index, group, page, err));
        slot = file->slots[leaf->current];
    }
    const int64_t nth = row - chunk->pages[slot->page].first_row;
    if (nth >= slot->n_rows) /* the heads of version 2 pages were believed so far */
        return page_error(file, index, chunk->pages[slot->page].at, "it has fewer rows than its head states", err);
    if (row == 0 && slot->row_entries != NULL && slot->row_entries[0] != 0)
        return page_error(file, index, chunk->pages[slot->page].at, "the column begins within a row", err);
    leaf->entry = slot->row_entries != NULL ? slot->row_entries[nth] : (uint32_t)nth;
    leaf->value = slot->row_values != NULL ? slot->row_values[nth] : (uint32_t)nth;
    return COHORT_OK;
}

cohort_status parquet_advance(struct parquet_file *file, int32_t index, int32_t group, bool *more, cohort_error *err)
{
    struct parquet_leaf *leaf = &file->leaves[index];
    const struct parquet_slot *slot = file->slots[leaf->current];
    *more = false;
    if (slot->repetitions == NULL)
        return COHORT_OK; /* an entry a row */
    leaf->value += slot->definitions[leaf->entry] == leaf->max_definition;
    leaf->entry++;
    if (leaf->entry == slot->n_entries) { /* the row may go on in the next page */
        const struct parquet_chunk *chunk = chunk_of(file, index, group);
        const int64_t next = slot->page + 1;
        if ((size_t)next == chunk->n_pages && chunk->known_values == chunk->n_values)
            return COHORT_OK;
        if ((size_t)next == chunk->n_pages)
            TRY(meet_page(file, index, group, err));
        TRY(make_current(file, index, group, next, err));
        slot = file->slots[leaf->current];
        leaf->entry = leaf->value = 0;
    }
    *more = slot->repetitions[leaf->entry] > 0;
    return COHORT_OK;
}

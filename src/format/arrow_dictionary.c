/* Dictionaries of an Arrow file. In a stream they may be replaced between record batches, or added to. */
#include "format/arrow_internal.h"

enum { DICTIONARY_ID, DICTIONARY_DATA, DICTIONARY_IS_DELTA };

static struct arrow_dictionary_id *find_id(const struct arrow_file *file, int64_t id)
{
    size_t low = 0, high = file->n_ids;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (file->ids[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < file->n_ids && file->ids[low].id == id ? &file->ids[low] : NULL;
}

cohort_status arrow_dictionary_add(struct arrow_file *file, struct arrow_message *message, cohort_error *err)
{
    struct flatbuffer *meta = &message->meta;
    struct arrow_dictionary_id *is = find_id(file, flat_number(meta, &message->head, DICTIONARY_ID, 8, 0));
    const bool delta = flat_number(meta, &message->head, DICTIONARY_IS_DELTA, 1, 0) != 0;
    if (meta->wrong != NULL)
        return arrow_flat_error(file, meta, message->at, err);
    if (is == NULL)
        return COHORT_OK; /* of no column */
    TRY(mem_grow(&is->versions, &is->capacity, is->n_versions + 1, sizeof *is->versions, "dictionaries", err));
    const size_t n = is->n_versions++;
    is->versions[n] = (struct arrow_version){
        .at = message->at, .before = file->n_batches, .base = delta && n > 0 ? is->versions[n - 1].base : n};
    return COHORT_OK;
}

static void forget(struct arrow_file *file, struct arrow_dictionary *dictionary)
{
    for (size_t i = 0; i < dictionary->n_chunks; i++) {
        file->dictionary_bytes -= dictionary->chunks[i].bytes;
        arrow_batch_free(&dictionary->chunks[i]);
    }
    dictionary->n_chunks = dictionary->version = 0;
    dictionary->n_values = 0;
}

void arrow_dictionaries_free(struct arrow_file *file)
{
    for (size_t i = 0; i < file->n_dictionaries; i++) {
        forget(file, &file->dictionaries[i]);
        mem_free(file->dictionaries[i].chunks);
        mem_free(file->dictionaries[i].first);
    }
    for (size_t i = 0; i < file->n_ids; i++)
        mem_free(file->ids[i].versions);
    mem_free(file->dictionaries);
    mem_free(file->ids);
}

/* Adds the values of a message. */
static cohort_status load_chunk(struct arrow_file *file, struct arrow_dictionary *dictionary, uint64_t at,
                                cohort_error *err)
{
    struct arrow_message message;
    struct arrow_batch chunk = {0};
    const int32_t node = dictionary->node + 1;
    const size_t n = dictionary->n_chunks;
    cohort_status status = COHORT_OK;
    TRY(mem_grow(&dictionary->chunks, &dictionary->chunk_capacity, n + 1, sizeof chunk, "a dictionary", err));
    TRY(mem_grow(&dictionary->first, &dictionary->first_capacity, n + 1, sizeof(int64_t), "a dictionary", err));
    TRY(arrow_message_read(file, at, &message, err));
    if (message.kind != ARROW_MESSAGE_DICTIONARY)
        return error_set(err, COHORT_ERR_STATE, "%s: was changed while it is in use", file->path);
    const struct flat_table record = flat_within(&message.meta, &message.head, DICTIONARY_DATA);
    const size_t most =
        file->dictionary_bytes < ARROW_MAX_BATCH_BYTES ? ARROW_MAX_BATCH_BYTES - file->dictionary_bytes : 0;
    TRY_GOTO(arrow_batch_load(file, &message, &record, node, file->nodes[node].next, most, &chunk, err));
    if (chunk.arrays[0].length > INT64_MAX - dictionary->n_values) {
        status = arrow_flat_error(file, &message.meta, at, err);
        goto cleanup;
    }
    dictionary->first[n] = dictionary->n_values;
    dictionary->n_values += chunk.arrays[0].length;
    file->dictionary_bytes += chunk.bytes;
    dictionary->chunks[n] = chunk;
    dictionary->n_chunks++;
    return COHORT_OK;
cleanup:
    arrow_batch_free(&chunk);
    return status;
}

static cohort_status load(struct arrow_file *file, struct arrow_dictionary *dictionary, size_t index, cohort_error *err)
{
    const struct arrow_dictionary_id *is = find_id(file, dictionary->id);
    size_t low = 0, high = is->n_versions; /* behind the last version that the batch has */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (is->versions[middle].before <= index)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == dictionary->version)
        return COHORT_OK;
    const size_t base = low == 0 ? 0 : is->versions[low - 1].base;
    const bool goes_on = low > 0 && dictionary->version > base && dictionary->version < low;
    const size_t from = goes_on ? dictionary->version : base;
    if (!goes_on)
        forget(file, dictionary);
    for (size_t i = from; i < low; i++) {
        const cohort_status status = load_chunk(file, dictionary, is->versions[i].at, err);
        if (status != COHORT_OK) {
            forget(file, dictionary);
            return status;
        }
    }
    dictionary->version = low;
    return COHORT_OK;
}

cohort_status arrow_dictionaries_load(struct arrow_file *file, size_t index, cohort_error *err)
{
    for (size_t i = 0; i < file->n_dictionaries; i++)
        TRY(load(file, &file->dictionaries[i], index, err));
    return COHORT_OK;
}

const struct arrow_batch *arrow_dictionary_chunk(const struct arrow_dictionary *dictionary, int64_t *i)
{
    size_t low = 0, high = dictionary->n_chunks;
    if (*i < 0 || *i >= dictionary->n_values)
        return NULL;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (dictionary->first[middle] <= *i)
            low = middle;
        else
            high = middle;
    }
    *i -= dictionary->first[low];
    return &dictionary->chunks[low];
}

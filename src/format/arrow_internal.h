/* What the files of the Arrow reader share. Nothing outside src/format/arrow*.c and its tests includes this. */
#ifndef COHORT_FORMAT_ARROW_INTERNAL_H
#define COHORT_FORMAT_ARROW_INTERNAL_H

#include "base/file.h"
#include "format/arrow.h"
#include "format/column_value.h"
#include "format/flatbuffer.h"
#include "format/lz4_frame.h"
#include "format/parquet_codec.h"

enum arrow_kind {
    ARROW_NULL,
    ARROW_BOOL,
    ARROW_INT,
    ARROW_REAL,
    ARROW_BYTES, /* offsets and data; with meaning ARROW_TEXT or ARROW_JSON it is text */
    ARROW_FIXED_BYTES,
    ARROW_VIEW, /* bytes within 16 bytes, or in one of several buffers */
    ARROW_DECIMAL,
    ARROW_DATE,
    ARROW_TIME,
    ARROW_TIMESTAMP,
    ARROW_LIST,
    ARROW_LIST_VIEW, /* offsets and sizes */
    ARROW_FIXED_LIST,
    ARROW_STRUCT,
    ARROW_MAP,       /* a list of structs of key and value */
    ARROW_DICTIONARY /* indices; the child is the dictionary's type */
};

enum arrow_meaning { ARROW_PLAIN, ARROW_TEXT, ARROW_JSON, ARROW_UUID };

/* The schema in preorder: the children of node i begin at i + 1, each ends where its next says. */
struct arrow_node {
    char *name;
    size_t name_length;
    enum arrow_kind kind;
    enum arrow_meaning meaning;
    int32_t parent; /* -1: a column */
    int32_t next;
    uint32_t width;    /* bytes of a value or an offset; of a fixed list the number of items */
    bool is_signed;    /* of an integer */
    bool utc;          /* a timestamp that is an instant */
    uint8_t digits;    /* of a time: 0, 3, 6 or 9 */
    int32_t scale;     /* of a decimal */
    size_t dictionary; /* of a dictionary: its place among the file's */
};

struct arrow_column {
    int32_t node;
    char *type;
    enum column_loss lost;
};

struct arrow_bytes {
    const uint8_t *at; /* NULL: absent */
    uint64_t length;
};

/* A node's part of a record batch. */
struct arrow_array {
    int64_t length;
    struct arrow_bytes validity; /* absent: no value is null */
    struct arrow_bytes first;    /* values, offsets, indices or views */
    struct arrow_bytes second;   /* of bytes the data, of a list view the sizes */
    uint32_t more, n_more;       /* of a view: its buffers among the batch's */
};

/* A record batch, or one of a dictionary, that can be read. */
struct arrow_batch {
    int32_t first_node; /* of the arrays */
    struct arrow_array *arrays;
    size_t n_arrays;
    struct arrow_bytes *more; /* buffers of views */
    size_t n_more, more_capacity;
    uint8_t *unpacked; /* what was compressed */
    size_t bytes;      /* of all this */
    size_t index;      /* which, among the file's */
    uint64_t used;     /* when */
};

/* A message of the file. */
struct arrow_place {
    uint64_t at;
    int64_t first; /* of a record batch: its first row */
};

/* A message with values of a dictionary. */
struct arrow_version {
    uint64_t at;
    size_t before; /* the record batch from which on it counts */
    size_t base;   /* the version of this id that it adds to; itself: none */
};

/* The messages of one id. */
struct arrow_dictionary_id {
    int64_t id;
    struct arrow_version *versions;
    size_t n_versions, capacity;
};

/* The values of a node's dictionary, as the batch that was read last has them. */
struct arrow_dictionary {
    int32_t node;
    int64_t id;
    size_t version; /* behind the last one that was read: 0: none */
    struct arrow_batch *chunks;
    int64_t *first; /* the index of each chunk's first value */
    size_t n_chunks, chunk_capacity, first_capacity;
    int64_t n_values;
};

enum { ARROW_SLOTS = 64 };

struct arrow_file {
    struct file_map map;
    char *path;
    bool stream;
    int64_t n_rows;
    struct arrow_node *nodes;
    size_t n_nodes, node_capacity, name_bytes;
    struct arrow_column *columns;
    size_t n_columns, column_capacity;
    struct arrow_place *batches;
    size_t n_batches, batch_capacity;
    struct arrow_dictionary *dictionaries;
    size_t n_dictionaries, dictionary_capacity;
    struct arrow_dictionary_id *ids; /* by id */
    size_t n_ids;
    size_t dictionary_bytes;
    struct unpacker unpacker;
    struct arrow_batch slots[ARROW_SLOTS];
    size_t n_slots, slot_bytes, cache_bytes;
    uint64_t clock;
    bool lost;                    /* a column has COLUMN_LOST */
    size_t row_values, row_bytes; /* of the row being read, so far */
};

/* The column's name for messages, "messages[].content", cut if it is long. */
enum { ARROW_PATH_BYTES = 200 };
void arrow_path(const struct arrow_file *file, int32_t node, char out[ARROW_PATH_BYTES]);

/* A message of the file: its head, the metadata, and the body behind it. */
enum arrow_message_kind { ARROW_MESSAGE_END, ARROW_MESSAGE_SCHEMA, ARROW_MESSAGE_DICTIONARY, ARROW_MESSAGE_BATCH };
struct arrow_message {
    enum arrow_message_kind kind;
    uint64_t at, end;
    struct flatbuffer meta;
    struct flat_table head; /* Schema, DictionaryBatch or RecordBatch */
    struct arrow_bytes body;
};
cohort_status arrow_message_read(const struct arrow_file *file, uint64_t at, struct arrow_message *message,
                                 cohort_error *err);
/* "PATH: its metadata at byte AT is damaged: WHY" */
cohort_status arrow_flat_error(const struct arrow_file *file, const struct flatbuffer *in, uint64_t at,
                               cohort_error *err);

/* Reads a Schema into nodes, columns and dictionaries. */
cohort_status arrow_schema_read(struct arrow_file *file, struct flatbuffer *in, const struct flat_table *schema,
                                uint64_t at, cohort_error *err);

/* Makes the arrays of nodes [first, end) of a RecordBatch. *batch is zeroed; free it also after a failure. unpacked: how
 * many bytes it may take. */
cohort_status arrow_batch_load(struct arrow_file *file, struct arrow_message *message, const struct flat_table *record,
                               int32_t first, int32_t end, size_t unpacked, struct arrow_batch *batch,
                               cohort_error *err);
void arrow_batch_free(struct arrow_batch *batch);
/* Takes note of a dictionary's message. */
cohort_status arrow_dictionary_add(struct arrow_file *file, struct arrow_message *message, cohort_error *err);
/* The values that hold value *i of a dictionary, and its place there; NULL: it has none such. */
const struct arrow_batch *arrow_dictionary_chunk(const struct arrow_dictionary *dictionary, int64_t *i);
/* Lets every dictionary be as record batch index has it. */
cohort_status arrow_dictionaries_load(struct arrow_file *file, size_t index, cohort_error *err);
void arrow_dictionaries_free(struct arrow_file *file);

/* *out = value i of a node in a batch. row is for messages. */
cohort_status arrow_value(struct arrow_file *file, const struct arrow_batch *batch, int32_t node, int64_t i,
                          int64_t row, json_t **out, cohort_error *err);

#endif

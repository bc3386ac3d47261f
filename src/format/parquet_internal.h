/* What the files of the Parquet reader share. Nothing outside src/format/parquet*.c and its tests includes this. */
#ifndef COHORT_FORMAT_PARQUET_INTERNAL_H
#define COHORT_FORMAT_PARQUET_INTERNAL_H

#include "base/file.h"
#include "base/wrong_file.h"
#include "format/column_value.h"
#include "format/parquet.h"
#include "format/parquet_codec.h"
#include "format/parquet_encoding.h"
#include "format/parquet_thrift.h"

/* By number, as in the format. */
enum parquet_physical {
    PARQUET_BOOLEAN,
    PARQUET_INT32,
    PARQUET_INT64,
    PARQUET_INT96,
    PARQUET_FLOAT,
    PARQUET_DOUBLE,
    PARQUET_BYTE_ARRAY,
    PARQUET_FIXED_LEN_BYTE_ARRAY,
    PARQUET_N_PHYSICAL
};

/* What a leaf's values mean. */
enum parquet_meaning {
    MEANS_BOOLEAN,
    MEANS_SIGNED,   /* of bits bits */
    MEANS_UNSIGNED, /* of bits bits */
    MEANS_FLOAT16,
    MEANS_FLOAT,
    MEANS_DOUBLE,
    MEANS_TEXT,
    MEANS_JSON, /* its text */
    MEANS_BYTES,
    MEANS_UUID,
    MEANS_DECIMAL,   /* times 10^-scale */
    MEANS_DATE,      /* days since 1970 */
    MEANS_TIME,      /* of day, in 10^-digits seconds */
    MEANS_TIMESTAMP, /* since 1970, in 10^-digits seconds */
    MEANS_INT96,     /* nanoseconds of day in 8 bytes, then the Julian day in 4 */
    MEANS_NULL
};

enum parquet_kind { PARQUET_LEAF, PARQUET_STRUCT, PARQUET_LIST, PARQUET_MAP };

/* The schema as readers see it, in preorder: the children of node i begin at i + 1, each ends where its next says. A
 * list has one child, its element, a map has two; the groups in between that the format wants are not there. */
struct parquet_node {
    char *name;
    size_t name_length;
    enum parquet_kind kind;
    int32_t next;
    int32_t first_leaf, end_leaf; /* the leaves below it */
    uint8_t null_level;           /* its value is null where the definition level is lower */
    uint8_t item_level;           /* of a list or map: it is empty where the level is lower (and not null) */
    uint8_t repetition;           /* of a list or map: the repetition level of its items but the first */
};

struct parquet_leaf {
    int32_t node;
    int32_t column;
    enum parquet_physical physical;
    enum parquet_meaning meaning;
    uint32_t width; /* bytes of a value; 0: byte arrays */
    uint8_t max_definition, max_repetition;
    uint8_t bits;    /* of an integer */
    uint8_t digits;  /* of a time: 3, 6 or 9 */
    bool utc;        /* a timestamp that is an instant */
    int32_t scale;   /* of a decimal */
    int32_t current; /* its slot in the cache, -1: none */
    /* Where the row being read stands. */
    uint32_t entry, value;
    bool ended; /* the last entry of the row was taken */
};

struct parquet_column {
    int32_t node;
    char *type;
    bool read;
    enum column_loss lost;
};

/* A data page that was met. */
struct parquet_page {
    uint64_t at;       /* of its head in the file */
    int64_t first_row; /* of its row group: the first that begins in it or later */
};

/* A leaf's part of a row group: its pages between two places of the file, and how far they are known. */
struct parquet_chunk {
    uint64_t begin, end, next;
    uint64_t dictionary; /* the place of its dictionary page, 0: none was met */
    int64_t n_values, known_values, known_rows;
    int32_t codec;
    struct parquet_page *pages;
    size_t n_pages, capacity;
};

struct parquet_group {
    int64_t first_row, n_rows;
};

struct parquet_buffer {
    void *data;
    size_t capacity;
};

/* Values of a page or dictionary: spans over bytes, or values of the leaf's width one behind the other, or indices
 * into the values of a dictionary. */
struct parquet_values {
    size_t count;
    const uint8_t *bytes;
    const struct byte_span *spans;
    const uint32_t *indices;
};

/* A decoded page in the cache. */
struct parquet_slot {
    int32_t leaf; /* -1: empty */
    int32_t group;
    int64_t page;       /* -1: the dictionary */
    uint64_t used;      /* when; 0: not wanted any more */
    size_t bytes;       /* of its buffers */
    int32_t n_users;    /* of a dictionary: pages whose indices point into it */
    int32_t dictionary; /* of a page: the slot of its dictionary, -1: none */
    struct parquet_values values;
    uint32_t n_entries, n_rows;
    const uint8_t *definitions, *repetitions; /* of the entries; NULL where the levels are all 0 */
    const uint32_t *row_entries;              /* of repeated leaves: the entry with which each row begins */
    const uint32_t *row_values;               /* of nullable leaves: how many values lie before each row */
    struct parquet_buffer unpacked, made, spans, indices, definition_levels, repetition_levels, entries, counts;
};

struct parquet_file {
    struct file_map map;
    char *path;
    int64_t n_rows;
    struct parquet_node *nodes;
    size_t n_nodes, node_capacity;
    struct parquet_leaf *leaves;
    size_t n_leaves, leaf_capacity;
    struct parquet_column *columns;
    size_t n_columns, column_capacity;
    struct parquet_group *groups;
    size_t n_groups, group_capacity;
    struct parquet_chunk *chunks; /* [group][leaf] */
    size_t n_chunks, chunk_capacity;
    struct unpacker unpacker;
    struct parquet_slot **slots;
    size_t n_slots, slot_capacity;
    size_t slot_bytes;  /* of all slots */
    size_t cache_bytes; /* how many may stay in pages that are not current: PARQUET_CACHE_BYTES */
    uint64_t clock;
    int32_t group;                    /* the one that the last row lay in */
    bool lost;                        /* a column has COLUMN_LOST */
    size_t row_values, row_bytes;     /* of the row being read, so far */
    int32_t pinned_begin, pinned_end; /* the leaves whose current slots must stay */
};

/* The column's name for messages, "messages[].content", cut if it is long. */
enum { PARQUET_PATH_BYTES = 200 };
void parquet_path(const struct parquet_file *file, int32_t leaf, char out[PARQUET_PATH_BYTES]);

/* Reads the list of SchemaElement at in into nodes, leaves and columns. */
cohort_status parquet_schema_read(struct parquet_file *file, struct thrift *in, enum thrift_type type,
                                  cohort_error *err);
/* The refusal of metadata that in found wrong. */
cohort_status parquet_thrift_error(const struct parquet_file *file, const struct thrift *in, const char *what,
                                   cohort_error *err);
/* The footer: schema, row groups, chunks. */
cohort_status parquet_footer_read(struct parquet_file *file, cohort_error *err);

/* Lets leaf stand before a row of a group. */
cohort_status parquet_seek(struct parquet_file *file, int32_t leaf, int32_t group, int64_t row, cohort_error *err);
/* Moves behind the entry; *more: another entry of the same row follows. */
cohort_status parquet_advance(struct parquet_file *file, int32_t leaf, int32_t group, bool *more, cohort_error *err);
/* Frees every slot. */
void parquet_pages_free(struct parquet_file *file);

/* *out = value number value of a page that lies in slot. row is for messages. */
cohort_status parquet_value(struct parquet_file *file, int32_t leaf, const struct parquet_slot *slot, uint32_t value,
                            int64_t row, json_t **out, cohort_error *err);

#endif

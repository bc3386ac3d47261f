/* Thrift's compact protocol, as far as Parquet's metadata uses it. Reading never passes the end: the first thing that
 * is wrong is kept in wrong, and from then on everything reads as 0 and every struct and list ends. */
#ifndef COHORT_FORMAT_PARQUET_THRIFT_H
#define COHORT_FORMAT_PARQUET_THRIFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum thrift_type {
    THRIFT_STOP,
    THRIFT_TRUE,
    THRIFT_FALSE,
    THRIFT_BYTE,
    THRIFT_I16,
    THRIFT_I32,
    THRIFT_I64,
    THRIFT_DOUBLE,
    THRIFT_BINARY,
    THRIFT_LIST,
    THRIFT_SET,
    THRIFT_MAP,
    THRIFT_STRUCT
};

struct thrift {
    const unsigned char *at, *end;
    const char *wrong; /* NULL: nothing so far */
    const unsigned char *wrong_at;
};

/* The field that thrift_field stands before; zeroed at the start of a struct. */
struct thrift_field {
    int32_t id;
    enum thrift_type type;
};

/* Notes what is wrong, if nothing was before. */
void thrift_fail(struct thrift *in, const char *wrong);
/* Reads the head of the next field; false at the end of the struct. Each field must then be read or skipped. */
bool thrift_field(struct thrift *in, struct thrift_field *field);
/* Skips the value of a field. */
void thrift_skip(struct thrift *in, enum thrift_type type);
/* Each reads the value of a field, which must have this type. */
bool thrift_bool(struct thrift *in, enum thrift_type type);
int32_t thrift_i8(struct thrift *in, enum thrift_type type);
int32_t thrift_i16(struct thrift *in, enum thrift_type type);
int32_t thrift_i32(struct thrift *in, enum thrift_type type);
int64_t thrift_i64(struct thrift *in, enum thrift_type type);
const char *thrift_binary(struct thrift *in, enum thrift_type type, size_t *length);
/* Elements follow, all of type element: each takes at least a byte, and their number is checked against that. */
size_t thrift_list(struct thrift *in, enum thrift_type type, enum thrift_type element);
/* Whether a struct follows. */
bool thrift_struct(struct thrift *in, enum thrift_type type);

#endif

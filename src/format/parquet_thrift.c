#include "format/parquet_thrift.h"

enum { MAX_SKIP_DEPTH = 16 };

void thrift_fail(struct thrift *in, const char *wrong)
{
    if (in->wrong == NULL) {
        in->wrong = wrong;
        in->wrong_at = in->at;
    }
    in->at = in->end;
}

static uint8_t read_byte(struct thrift *in)
{
    if (in->at == in->end) {
        thrift_fail(in, "it ends too early");
        return 0;
    }
    return *in->at++;
}

static uint64_t read_varint(struct thrift *in)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = read_byte(in);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return value;
    }
    thrift_fail(in, "a number has more than 64 bits");
    return 0;
}

static int64_t read_integer(struct thrift *in, int64_t low, int64_t high)
{
    uint64_t zigzag = read_varint(in);
    int64_t value = (int64_t)(zigzag >> 1) ^ -(int64_t)(zigzag & 1);
    if (value >= low && value <= high)
        return value;
    thrift_fail(in, "a number is too large for its field");
    return 0;
}

static bool is(struct thrift *in, enum thrift_type type, enum thrift_type wanted)
{
    if (type != wanted)
        thrift_fail(in, "a field has another type than the format gives it");
    return in->wrong == NULL;
}

bool thrift_field(struct thrift *in, struct thrift_field *field)
{
    uint8_t head = read_byte(in);
    if (in->wrong != NULL || head == THRIFT_STOP)
        return false;
    int32_t delta = head >> 4;
    field->type = (enum thrift_type)(head & 15);
    if (field->type == THRIFT_STOP || field->type > THRIFT_STRUCT) {
        thrift_fail(in, "a field has a type that does not exist");
        return false;
    }
    field->id = delta != 0 ? field->id + delta : (int32_t)read_integer(in, INT16_MIN, INT16_MAX);
    return in->wrong == NULL;
}

/* Booleans of fields are their type; those of lists and maps have a byte. */
static void skip_element(struct thrift *in, enum thrift_type type, int depth);

static void skip_value(struct thrift *in, enum thrift_type type, int depth)
{
    struct thrift_field field = {0};
    size_t length = 0;
    uint64_t count = 0;
    uint8_t head = 0;
    if (depth > MAX_SKIP_DEPTH) {
        thrift_fail(in, "structs lie too deep within each other");
        return;
    }
    switch (type) {
    case THRIFT_TRUE:
    case THRIFT_FALSE: break;
    case THRIFT_BYTE: read_byte(in); break;
    case THRIFT_I16:
    case THRIFT_I32:
    case THRIFT_I64: read_varint(in); break;
    case THRIFT_DOUBLE:
        if (in->end - in->at < 8)
            thrift_fail(in, "it ends too early");
        else
            in->at += 8;
        break;
    case THRIFT_BINARY: thrift_binary(in, type, &length); break;
    case THRIFT_LIST:
    case THRIFT_SET:
        head = read_byte(in);
        count = head >> 4 == 15 ? read_varint(in) : head >> 4;
        for (; count > 0 && in->wrong == NULL; count--)
            skip_element(in, (enum thrift_type)(head & 15), depth + 1);
        break;
    case THRIFT_MAP:
        count = read_varint(in);
        head = count > 0 ? read_byte(in) : 0;
        for (; count > 0 && in->wrong == NULL; count--) {
            skip_element(in, (enum thrift_type)(head >> 4), depth + 1);
            skip_element(in, (enum thrift_type)(head & 15), depth + 1);
        }
        break;
    case THRIFT_STRUCT:
        while (thrift_field(in, &field))
            skip_value(in, field.type, depth + 1);
        break;
    default: thrift_fail(in, "a field has a type that does not exist");
    }
}

static void skip_element(struct thrift *in, enum thrift_type type, int depth)
{
    if (type == THRIFT_TRUE || type == THRIFT_FALSE)
        read_byte(in);
    else
        skip_value(in, type, depth);
}

void thrift_skip(struct thrift *in, enum thrift_type type) { skip_value(in, type, 0); }

bool thrift_bool(struct thrift *in, enum thrift_type type)
{
    return type == THRIFT_TRUE || (type != THRIFT_FALSE && is(in, type, THRIFT_TRUE));
}

int32_t thrift_i8(struct thrift *in, enum thrift_type type)
{
    return is(in, type, THRIFT_BYTE) ? (int8_t)read_byte(in) : 0;
}

int32_t thrift_i16(struct thrift *in, enum thrift_type type)
{
    return is(in, type, THRIFT_I16) ? (int32_t)read_integer(in, INT16_MIN, INT16_MAX) : 0;
}

int32_t thrift_i32(struct thrift *in, enum thrift_type type)
{
    return is(in, type, THRIFT_I32) ? (int32_t)read_integer(in, INT32_MIN, INT32_MAX) : 0;
}

int64_t thrift_i64(struct thrift *in, enum thrift_type type)
{
    return is(in, type, THRIFT_I64) ? read_integer(in, INT64_MIN, INT64_MAX) : 0;
}

const char *thrift_binary(struct thrift *in, enum thrift_type type, size_t *length)
{
    const char *bytes = "";
    *length = 0;
    if (!is(in, type, THRIFT_BINARY))
        return bytes;
    uint64_t wanted = read_varint(in);
    if (wanted > (uint64_t)(in->end - in->at)) {
        thrift_fail(in, "a text is longer than what holds it");
        return bytes;
    }
    bytes = (const char *)in->at;
    in->at += wanted;
    *length = (size_t)wanted;
    return bytes;
}

size_t thrift_list(struct thrift *in, enum thrift_type type, enum thrift_type element)
{
    if (!is(in, type, THRIFT_LIST))
        return 0;
    uint8_t head = read_byte(in);
    uint64_t count = head >> 4 == 15 ? read_varint(in) : head >> 4;
    if (in->wrong == NULL && count > 0 && (head & 15) != element)
        thrift_fail(in, "a list has elements of another type than the format gives it");
    if (count > (uint64_t)(in->end - in->at))
        thrift_fail(in, "a list is longer than what holds it");
    return in->wrong == NULL ? (size_t)count : 0;
}

bool thrift_struct(struct thrift *in, enum thrift_type type) { return is(in, type, THRIFT_STRUCT); }

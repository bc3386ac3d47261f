#include "format/flatbuffer.h"

#include <string.h>

static void fail(struct flatbuffer *in, const char *why)
{
    if (in->wrong == NULL)
        in->wrong = why;
}

/* Whether length bytes lie at at. */
static bool holds(struct flatbuffer *in, uint64_t at, uint64_t length)
{
    if (in->wrong == NULL && at <= in->size && length <= in->size - at)
        return true;
    fail(in, "it points behind its end");
    return false;
}

static uint32_t u32_at(const struct flatbuffer *in, uint64_t at)
{
    uint32_t value = 0;
    memcpy(&value, in->bytes + at, sizeof value);
    return value;
}

static uint16_t u16_at(const struct flatbuffer *in, uint64_t at)
{
    uint16_t value = 0;
    memcpy(&value, in->bytes + at, sizeof value);
    return value;
}

/* The place that the offset at at points to, which is always further on; 0 where that is outside. */
static uint32_t follow(struct flatbuffer *in, uint64_t at)
{
    if (!holds(in, at, 4))
        return 0;
    const uint64_t to = at + u32_at(in, at);
    if (to == at || !holds(in, to, 4)) {
        fail(in, "an offset leads nowhere");
        return 0;
    }
    return (uint32_t)to;
}

static struct flat_table table_at(struct flatbuffer *in, uint32_t at)
{
    const struct flat_table none = {0};
    int32_t back = 0;
    if (at == 0)
        return none;
    memcpy(&back, in->bytes + at, sizeof back);
    const int64_t vtable = (int64_t)at - back;
    if (vtable < 0 || !holds(in, (uint64_t)vtable, 4)) {
        fail(in, "a table's fields lie outside");
        return none;
    }
    const uint16_t bytes = u16_at(in, (uint64_t)vtable), size = u16_at(in, (uint64_t)vtable + 2);
    if (bytes < 4 || bytes % 2 != 0 || !holds(in, (uint64_t)vtable, bytes) || !holds(in, at, size)) {
        fail(in, "a table has a wrong size");
        return none;
    }
    return (struct flat_table){at, (uint32_t)vtable + 4, (uint16_t)(bytes / 2 - 2), size};
}

struct flat_table flat_root(struct flatbuffer *in)
{
    if (in->size > INT32_MAX)
        fail(in, "it has more than 2 GB");
    return table_at(in, follow(in, 0));
}

/* Where a field of width bytes lies; 0: absent. */
static uint32_t field(struct flatbuffer *in, const struct flat_table *table, unsigned slot, unsigned width)
{
    if (in->wrong != NULL || table->at == 0 || slot >= table->n_fields)
        return 0;
    const uint16_t within = u16_at(in, table->fields + 2 * (uint64_t)slot);
    if (within == 0)
        return 0;
    if ((unsigned)within + width > table->size) {
        fail(in, "a field lies outside of its table");
        return 0;
    }
    return table->at + within;
}

static int64_t number_at(const struct flatbuffer *in, uint64_t at, unsigned width)
{
    int64_t wide = 0;
    switch (width) {
    case 1: return (int8_t)in->bytes[at];
    case 2: return (int16_t)u16_at(in, at);
    case 4: return (int32_t)u32_at(in, at);
    default: memcpy(&wide, in->bytes + at, sizeof wide); return wide;
    }
}

int64_t flat_number(struct flatbuffer *in, const struct flat_table *table, unsigned slot, unsigned width,
                    int64_t absent)
{
    const uint32_t at = field(in, table, slot, width);
    return at == 0 ? absent : number_at(in, at, width);
}

struct flat_table flat_within(struct flatbuffer *in, const struct flat_table *table, unsigned slot)
{
    const uint32_t at = field(in, table, slot, 4);
    return table_at(in, at == 0 ? 0 : follow(in, at));
}

struct flat_vector flat_items(struct flatbuffer *in, const struct flat_table *table, unsigned slot, unsigned width)
{
    const uint32_t at = field(in, table, slot, 4), to = at == 0 ? 0 : follow(in, at);
    if (to == 0)
        return (struct flat_vector){0};
    const uint32_t count = u32_at(in, to);
    if (!holds(in, (uint64_t)to + 4, (uint64_t)count * width))
        return (struct flat_vector){0};
    return (struct flat_vector){to + 4, count};
}

const char *flat_text(struct flatbuffer *in, const struct flat_table *table, unsigned slot, size_t *length)
{
    const struct flat_vector bytes = flat_items(in, table, slot, 1);
    *length = bytes.count;
    return bytes.at == 0 ? NULL : (const char *)in->bytes + bytes.at;
}

struct flat_table flat_item_table(struct flatbuffer *in, struct flat_vector vector, uint32_t i)
{
    if (in->wrong != NULL || i >= vector.count)
        return (struct flat_table){0};
    return table_at(in, follow(in, vector.at + 4 * (uint64_t)i));
}

int64_t flat_item_number(const struct flatbuffer *in, struct flat_vector vector, uint32_t i, unsigned width,
                         unsigned from)
{
    return in->wrong != NULL || i >= vector.count ? 0 : number_at(in, vector.at + (uint64_t)i * width + from, 8);
}

#include "format/expert_layout.h"

#include "base/file.h"
#include "base/memory.h"

#include <string.h>

/* The name of a tensor that only the fused layout has. */
static const char FUSED[] = ".experts.gate_up_proj\"";

/* The part of a file that names its tensors: all of an index, the header of a safetensors file. */
static size_t names_length(const struct file_map *map, bool index)
{
    enum { LENGTH_BYTES = 8 };
    uint64_t header = 0;
    if (index)
        return map->size;
    for (int i = LENGTH_BYTES - 1; i >= 0 && map->size >= LENGTH_BYTES; i--)
        header = header << 8 | map->data[i];
    return header < map->size ? (size_t)header : map->size;
}

static bool contains(const unsigned char *data, size_t length, const char *wanted)
{
    const size_t n = strlen(wanted);
    for (const unsigned char *at = data; length >= n;) {
        const unsigned char *found = memchr(at, wanted[0], length - n + 1);
        if (found == NULL)
            return false;
        if (memcmp(found, wanted, n) == 0)
            return true;
        length -= (size_t)(found + 1 - at);
        at = found + 1;
    }
    return false;
}

cohort_status expert_layout_look(const char *dir, bool *fused, cohort_error *err)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json"}; /* as readers take them */
    cohort_status status = COHORT_OK;
    char *path = NULL;
    struct file_map map = {0};
    bool there = false;
    *fused = false;
    for (int i = 0; i < 2 && !there; i++) {
        mem_free(path);
        path = NULL;
        TRY_GOTO(file_join(&path, dir, names[i], err));
        TRY_GOTO(file_exists(path, &there, err));
        if (!there)
            continue;
        TRY_GOTO(file_map_open(&map, path, err));
        *fused = contains(map.data, names_length(&map, i == 1), FUSED);
    }
cleanup:
    file_map_close(&map);
    mem_free(path);
    return status;
}

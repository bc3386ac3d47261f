#include "support/json_mutate.h"

#include <string.h>

size_t genome_below(struct genome *genome, size_t limit)
{
    size_t value = 0;
    for (size_t bytes = limit > 256 ? 2 : 1; bytes > 0 && genome->at < genome->size; bytes--)
        value = value << 8 | genome->bytes[genome->at++];
    return limit == 0 ? 0 : value % limit;
}

static json_t *odd_value(struct genome *genome, const char *const *words, size_t n_words)
{
    static const json_int_t integers[] = {
        0, -1, 1, 2, 3, 255, 256, 257, 65535, 2147483647, 2147483648, 4294967296, -2147483648, INT64_MAX, INT64_MIN};
    static const double reals[] = {0.0, -0.0, 0.5, 1.0, 1e-320, 1e308, -1e308, 3.0000000001, 1e18};
    switch (genome_below(genome, 9)) {
    case 0: return json_null();
    case 1: return json_boolean(genome_below(genome, 2));
    case 2: return json_integer(integers[genome_below(genome, sizeof integers / sizeof *integers)]);
    case 3: return json_real(reals[genome_below(genome, sizeof reals / sizeof *reals)]);
    case 4: return json_string("");
    case 5: return json_array();
    case 6: return json_object();
    case 7: return json_pack("[s, i, n, [[]]]", "x", 7);
    default: return n_words == 0 ? json_string("\xf0\x9f\x98\x80") : json_string(words[genome_below(genome, n_words)]);
    }
}

/* Any container of the tree, root included: goes down with a chance of a half at each. */
static json_t *pick_container(json_t *root, struct genome *genome)
{
    json_t *at = root;
    for (int depth = 0; depth < 8; depth++) {
        size_t n = json_is_object(at) ? json_object_size(at) : json_array_size(at);
        size_t choice = genome_below(genome, 2 * n + 1);
        json_t *child = NULL;
        if (choice >= n)
            return at;
        if (json_is_array(at)) {
            child = json_array_get(at, choice);
        } else {
            void *iterator = json_object_iter(at);
            for (size_t i = 0; i < choice; i++)
                iterator = json_object_iter_next(at, iterator);
            child = json_object_iter_value(iterator);
        }
        if (!json_is_object(child) && !json_is_array(child))
            return at;
        at = child;
    }
    return at;
}

static void edit_array(json_t *array, struct genome *genome, const char *const *words, size_t n_words)
{
    size_t n = json_array_size(array), at = genome_below(genome, n + (n == 0)),
           other = genome_below(genome, n + (n == 0));
    json_t *value = json_array_get(array, at);
    switch (genome_below(genome, 6)) {
    case 0: json_array_remove(array, at); break;
    case 1: json_array_insert_new(array, other, json_deep_copy(value)); break;
    case 2: json_array_append_new(array, odd_value(genome, words, n_words)); break;
    case 3:
        if (n > 0) {
            json_t *kept = json_incref(value);
            json_array_set(array, at, json_array_get(array, other));
            json_array_set_new(array, other, kept);
        }
        break;
    case 4: json_array_clear(array); break;
    default:
        if (n > 0)
            json_array_set_new(array, at, odd_value(genome, words, n_words));
    }
}

static void edit_object(json_t *object, struct genome *genome, const char *const *words, size_t n_words)
{
    size_t n = json_object_size(object), at = genome_below(genome, n + (n == 0));
    void *iterator = json_object_iter(object);
    for (size_t i = 0; i < at; i++)
        iterator = json_object_iter_next(object, iterator);
    if (iterator == NULL) {
        json_object_set_new(object, n_words == 0 ? "x" : words[genome_below(genome, n_words)],
                            odd_value(genome, words, n_words));
        return;
    }
    char key[256];
    strncpy(key, json_object_iter_key(iterator), sizeof key - 1);
    key[sizeof key - 1] = '\0';
    json_t *value = json_object_iter_value(iterator);
    switch (genome_below(genome, 6)) {
    case 0: json_object_del(object, key); break;
    case 1: /* the value under another key */
        if (n_words > 0)
            json_object_set_new(object, words[genome_below(genome, n_words)], json_deep_copy(value));
        break;
    case 2: json_object_set_new(object, key, json_pack("[O]", value)); break;
    case 3:
        if (json_is_integer(value))
            json_integer_set(value, json_integer_value(value) + (json_int_t)genome_below(genome, 5) - 2);
        else if (json_is_string(value) && n_words > 0)
            json_object_set_new(object, key,
                                json_sprintf("%s%s", json_string_value(value), words[genome_below(genome, n_words)]));
        break;
    default: json_object_set_new(object, key, odd_value(genome, words, n_words));
    }
}

void json_mutate(json_t *root, struct genome *genome, const char *const *words, size_t n_words)
{
    for (size_t edits = 1 + genome_below(genome, 4); edits > 0 && genome->at < genome->size; edits--) {
        json_t *at = pick_container(root, genome);
        if (json_is_array(at))
            edit_array(at, genome, words, n_words);
        else
            edit_object(at, genome, words, n_words);
    }
}

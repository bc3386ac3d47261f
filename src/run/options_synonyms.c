/* TRL's names of options that mean the same here: taken like the option's own, with one note when a command begins, so
 * that a file made for TRL can be read line by line. A name whose meaning differs gets a hint in place of that
 * (options_hints.c). */
#include "run/options_internal.h"

#include <string.h>

const struct option_synonym *options_synonym(const char *name)
{
    size_t count = 0;
    const struct option_synonym *synonyms = options_synonyms(&count);
    for (size_t i = 0; i < count; i++)
        if (options_same_name(synonyms[i].name, name))
            return &synonyms[i];
    return NULL;
}

/* "3.0", as transformers writes a number of epochs, is 3. */
static bool whole_number(const char *value, char buffer[SYNONYM_BYTES])
{
    const size_t digits = strspn(value, "0123456789");
    if (digits == 0 || digits >= SYNONYM_BYTES || value[digits] != '.' ||
        value[digits + 1 + strspn(value + digits + 1, "0")] != '\0')
        return false;
    memcpy(buffer, value, digits);
    buffer[digits] = '\0';
    return true;
}

const char *options_synonym_value(const struct option_synonym *synonym, const struct option_spec *spec,
                                  const char *value, char buffer[SYNONYM_BYTES])
{
    bool wanted = false;
    if (synonym->unset != NULL && strcmp(value, synonym->unset) == 0)
        return NULL;
    /* What a flag means alone is TRL's true. */
    if (spec->alone != NULL && options_read_bool(value, &wanted))
        return wanted ? spec->alone : NULL;
    return spec->type == OPTION_TYPE_INT && whole_number(value, buffer) ? buffer : value;
}

cohort_status options_notes(const struct options *options, struct text *out, cohort_error *err)
{
    bool any = false;
    for (size_t i = 0; i < options->n_values; i++) {
        const struct option_value *value = &options->values[i];
        if (value->synonym == NULL)
            continue;
        TRY(text_printf(out, err, "%s%s is called %s here", any ? ", " : "note: ", value->synonym->name,
                        value->spec->name));
        any = true;
    }
    return COHORT_OK;
}

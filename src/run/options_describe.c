/* The table for a program that offers the options to its own users: the bindings are made from this. */
#include "run/options_internal.h"

#include <string.h>

size_t options_other_names(const struct option_spec *spec, const char **names, size_t room)
{
    size_t n = 0, n_aliases = 0, n_synonyms = 0;
    const struct option_alias *aliases = options_aliases(&n_aliases);
    const struct option_synonym *synonyms = options_synonyms(&n_synonyms);
    for (size_t i = 0; i < n_aliases; i++)
        if (aliases[i].id == spec->id && n++ < room)
            names[n - 1] = aliases[i].name;
    for (size_t i = 0; i < n_synonyms; i++)
        if (synonyms[i].id == spec->id && n++ < room)
            names[n - 1] = synonyms[i].name;
    return n;
}

const char *options_type_word(const struct option_spec *spec)
{
    switch (spec->type) {
    case OPTION_TYPE_BOOL: return "bool";
    case OPTION_TYPE_INT: return "int";
    case OPTION_TYPE_FLOAT: return "float";
    case OPTION_TYPE_STRING: return "text";
    case OPTION_TYPE_ENUM: return "word";
    case OPTION_TYPE_LIST: return "list";
    }
    return "text";
}

cohort_status options_explain(const struct options *options, const char *name, struct text *out, bool *needless,
                              cohort_error *err)
{
    cohort_error said;
    cohort_error_init(&said);
    const struct option_hint *hint = options_hint(name);
    *needless = hint != NULL && options_hint_needless(hint);
    options_unknown(options, name, name, &said);
    return text_append(out, said.message, strlen(said.message), err);
}

#include "base/absent.h"

#include "base/number.h"

#include <string.h>

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

static size_t scheme_length(const char *path)
{
    size_t n = strspn(path, letters);
    while (n > 0 && path[n] != '\0' && strchr("+-.", path[n]) != NULL)
        n += 1 + strspn(path + n + 1, letters);
    return n;
}

bool absent_is_address(const char *path)
{
    const size_t n = scheme_length(path);
    return n > 0 && strncmp(path + n, "://", 3) == 0;
}

/* Length of a part of a name of the Hub: letters, digits, - _ and, not first, dots. */
static size_t part_length(const char *name)
{
    size_t n = 0;
    while (name[n] != '\0' &&
           (strchr(letters, name[n]) != NULL || name[n] == '-' || name[n] == '_' || (name[n] == '.' && n > 0)))
        n++;
    return n;
}

/* Length of OWNER/NAME, or of NAME alone where nothing but the end of the address follows it; 0: neither. */
static size_t repository_length(const char *at)
{
    const size_t owner = part_length(at), name = at[owner] == '/' ? part_length(at + owner + 1) : 0;
    return name > 0 ? owner + 1 + name : owner;
}

/* Where in an address of the Hub the name of a repository begins; NULL: it is none. *wanted: what it says it is. */
static const char *find_repository(const char *address, enum absent_wanted *wanted)
{
    static const char *const hosts[] = {"huggingface.co/", "www.huggingface.co/", "hf.co/"};
    const size_t n = scheme_length(address);
    const char *at = address + n + 3, *found = n == 2 && ascii_same_bytes(address, "hf", 2) ? at : NULL;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0] && found == NULL; i++)
        if (strlen(at) > strlen(hosts[i]) && ascii_same_bytes(at, hosts[i], strlen(hosts[i])))
            found = at + strlen(hosts[i]);
    if (found == NULL)
        return NULL;
    *wanted = ABSENT_MODEL;
    if (strncmp(found, "datasets/", 9) == 0) {
        *wanted = ABSENT_DATA;
        found += 9;
    }
    return found;
}

static const char *type_option(enum absent_wanted wanted)
{
    return wanted == ABSENT_DATA ? " --repo-type dataset" : "";
}

static cohort_status refuse_address(const char *path, cohort_error *err)
{
    enum absent_wanted wanted = ABSENT_MODEL;
    const char *repository = find_repository(path, &wanted);
    const size_t n = repository == NULL ? 0 : repository_length(repository);
    if (n > 0)
        return error_set(err, COHORT_ERR_IO,
                         "%s: an address of the Hugging Face Hub, and only local files are read: download it first, "
                         "with 'hf download %.*s%s --local-dir DIR', and give DIR",
                         path, (int)n, repository, type_option(wanted));
    return error_set(err, COHORT_ERR_IO,
                     "%s: an address, and only local files are read: download it first, and give the file or the "
                     "folder",
                     path);
}

/* Whether path is written as names of the Hub are; *length: of the name. A file of data has an ending that says so. */
static bool is_hub_name(const char *path, enum absent_wanted wanted, size_t *length)
{
    static const char *const files[] = {".json", ".jsonl", ".ndjson",  ".csv",   ".tsv", ".gz",
                                        ".zst",  ".zstd",  ".parquet", ".arrow", ".txt", ".feather"};
    const size_t owner = part_length(path), name = path[owner] == '/' ? part_length(path + owner + 1) : 0;
    const size_t n = owner + 1 + name;
    if (owner == 0 || name == 0 || (path[n] != '\0' && (path[n] != ':' || wanted == ABSENT_MODEL)))
        return false;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const size_t ending = strlen(files[i]);
        if (name > ending && ascii_same_bytes(path + n - ending, files[i], ending))
            return false;
    }
    *length = n;
    return true;
}

cohort_status absent_explain(const char *path, enum absent_wanted wanted, cohort_error *err)
{
    size_t n = 0;
    if (absent_is_address(path))
        return refuse_address(path, err);
    if (!is_hub_name(path, wanted, &n))
        return COHORT_OK;
    return error_set(err, COHORT_ERR_IO,
                     "%s: not a folder%s: there is none of that name here, and only local files are read; if it is a "
                     "%s of the Hugging Face Hub, download it first, with 'hf download %.*s%s --local-dir DIR', and "
                     "give DIR",
                     path, wanted == ABSENT_DATA ? " or a file" : "", wanted == ABSENT_DATA ? "data set" : "model",
                     (int)n, path, type_option(wanted));
}

#include "format/manifest.h"

#include "base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MANIFEST_LIMIT = 1 << 24 };

void manifest_free(struct manifest *manifest)
{
    for (size_t i = 0; i < manifest->n; i++)
        mem_free(manifest->entries[i].name);
    mem_free(manifest->entries);
    memset(manifest, 0, sizeof *manifest);
}

cohort_status manifest_add(struct manifest *manifest, const char *name, const char hex[HASH_HEX], cohort_error *err)
{
    char *copy = NULL;
    TRY(mem_strdup(&copy, name, strlen(name), err));
    cohort_status status = mem_grow(&manifest->entries, &manifest->capacity, manifest->n + 1, sizeof *manifest->entries,
                                    "list of a checkpoint's files", err);
    if (status != COHORT_OK) {
        mem_free(copy);
        return status;
    }
    struct manifest_entry *entry = &manifest->entries[manifest->n++];
    entry->name = copy;
    memcpy(entry->hex, hex, HASH_HEX);
    return COHORT_OK;
}

const struct manifest_entry *manifest_find(const struct manifest *manifest, const char *name)
{
    for (size_t i = 0; i < manifest->n; i++)
        if (strcmp(manifest->entries[i].name, name) == 0)
            return &manifest->entries[i];
    return NULL;
}

/* ---- every file of a folder ---- */

typedef cohort_status visit_file(void *context, const char *name, const char *path, cohort_error *err);

/* Calls visit for whatever is below dir/inside but folders; inside is "" or ends with '/'. */
static cohort_status walk(const char *dir, const char *inside, visit_file *visit, void *context, cohort_error *err)
{
    char *folder = NULL;
    const char *entry = NULL;
    cohort_status status = COHORT_OK;
    TRY(file_join(&folder, dir, inside, err));
    DIR *stream = opendir(folder);
    if (stream == NULL)
        status = error_set(err, COHORT_ERR_IO, "%s: cannot open the folder: %s", folder, strerror(errno));
    while (stream != NULL && status == COHORT_OK && (entry = file_next_entry(stream, folder, &status, err)) != NULL) {
        struct text name = {0};
        char *path = NULL;
        struct stat st;
        status = text_printf(&name, err, "%s%s", inside, entry);
        if (status == COHORT_OK)
            status = file_join(&path, dir, name.data, err);
        if (status == COHORT_OK && lstat(path, &st) != 0)
            status = error_set(err, COHORT_ERR_IO, "%s: cannot stat: %s", path, strerror(errno));
        if (status == COHORT_OK && S_ISDIR(st.st_mode)) {
            status = text_append(&name, "/", 1, err);
            if (status == COHORT_OK)
                status = walk(dir, name.data, visit, context, err);
        } else if (status == COHORT_OK) {
            status = visit(context, name.data, path, err);
        }
        text_free(&name);
        mem_free(path);
    }
    if (stream != NULL)
        closedir(stream);
    mem_free(folder);
    return status;
}

/* ---- writing ---- */

static cohort_status add_missing(void *context, const char *name, const char *path, cohort_error *err)
{
    struct manifest *manifest = context;
    char hex[HASH_HEX];
    if (strcmp(name, MANIFEST_NAME) == 0 || manifest_find(manifest, name) != NULL)
        return COHORT_OK;
    TRY(hash_file(path, hex, NULL, err));
    return manifest_add(manifest, name, hex, err);
}

static int by_name(const void *a, const void *b)
{
    const struct manifest_entry *left = a, *right = b;
    return strcmp(left->name, right->name);
}

cohort_status manifest_write(struct manifest *manifest, const char *dir, cohort_error *err)
{
    struct text text = {0};
    char *path = NULL;
    cohort_status status = COHORT_OK;
    TRY_GOTO(walk(dir, "", add_missing, manifest, err));
    if (manifest->n > 0)
        qsort(manifest->entries, manifest->n, sizeof *manifest->entries, by_name);
    TRY_GOTO(text_append(&text, "", 0, err));
    for (size_t i = 0; i < manifest->n; i++)
        TRY_GOTO(text_printf(&text, err, "%s  %s\n", manifest->entries[i].hex, manifest->entries[i].name));
    TRY_GOTO(file_join(&path, dir, MANIFEST_NAME, err));
    TRY_GOTO(file_write_atomic(path, text.data, text.length, err));
cleanup:
    mem_free(path);
    text_free(&text);
    return status;
}

/* ---- reading ---- */

/* Inside the folder: no absolute path, no part that is empty, "." or "..". */
static bool is_inside(const char *name)
{
    for (const char *part = name;; part++) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        part += n;
        if (*part == '\0')
            return true;
    }
}

/* One line, its newline replaced by a NUL: 64 digits, two spaces (or " *"), a name. */
static cohort_status read_line(struct manifest *manifest, const char *line, const char *path, size_t number,
                               cohort_error *err)
{
    char hex[HASH_HEX];
    const size_t n = HASH_HEX - 1;
    const char *name = line + n + 2;
    if (strspn(line, "0123456789abcdef") != n || line[n] != ' ' || (line[n + 1] != ' ' && line[n + 1] != '*') ||
        !is_inside(name))
        return error_set(err, COHORT_ERR_FORMAT,
                         "%s:%zu: expected a SHA-256 in 64 hexadecimal digits, two spaces and the "
                         "name of a file in this folder, as sha256sum writes it",
                         path, number);
    memcpy(hex, line, n);
    hex[n] = '\0';
    return manifest_add(manifest, name, hex, err);
}

cohort_status manifest_read(struct manifest *manifest, const char *dir, bool *found, cohort_error *err)
{
    char *path = NULL;
    struct text text = {0};
    struct stat st;
    cohort_status status = COHORT_OK;
    *found = false;
    TRY_GOTO(file_join(&path, dir, MANIFEST_NAME, err));
    if (lstat(path, &st) != 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            status = error_set(err, COHORT_ERR_IO, "%s: cannot stat: %s", path, strerror(errno));
        goto cleanup;
    }
    *found = true;
    TRY_GOTO(file_read(path, MANIFEST_LIMIT, &text, err));
    size_t number = 1;
    for (char *line = text.data; *line != '\0'; number++) {
        char *end = strchr(line, '\n');
        if (end == NULL) {
            status = error_set(err, COHORT_ERR_FORMAT, "%s:%zu: the line is cut short", path, number);
            goto cleanup;
        }
        *end = '\0';
        TRY_GOTO(read_line(manifest, line, path, number, err));
        line = end + 1;
    }
    if (manifest->n == 0)
        status = error_set(err, COHORT_ERR_FORMAT, "%s: lists no file", path);
cleanup:
    mem_free(path);
    text_free(&text);
    return status;
}

cohort_status manifest_verify(const char *dir, const char *const *needed, struct manifest_report *report,
                              const struct stop *stop, cohort_error *err)
{
    struct manifest manifest = {0};
    cohort_status status = COHORT_OK;
    cohort_error why = {0};
    memset(report, 0, sizeof *report);
    TRY_GOTO(text_append(&report->bad, "", 0, err));
    status = manifest_read(&manifest, dir, &report->found, &why);
    if (status == COHORT_ERR_FORMAT) { /* the manifest itself is damaged */
        report->n_bad++;
        status = text_printf(&report->bad, err, "%s\n", why.message);
        goto cleanup;
    }
    if (status != COHORT_OK) {
        (void)error_set(err, status, "%s", why.message);
        goto cleanup;
    }
    report->n_files = (int64_t)manifest.n;
    for (size_t i = 0; report->found && needed != NULL && needed[i] != NULL; i++) {
        if (manifest_find(&manifest, needed[i]) != NULL)
            continue;
        report->n_bad++;
        TRY_GOTO(text_printf(&report->bad, err, "%s/" MANIFEST_NAME ": does not list %s\n", dir, needed[i]));
    }
    for (size_t i = 0; i < manifest.n; i++) {
        const struct manifest_entry *entry = &manifest.entries[i];
        char *path = NULL, hex[HASH_HEX];
        struct stat st;
        TRY_GOTO(file_join(&path, dir, entry->name, err));
        const char *wrong = NULL;
        cohort_status hashed = COHORT_OK;
        if (lstat(path, &st) != 0 && (errno == ENOENT || errno == ENOTDIR))
            wrong = "is missing";
        else if ((hashed = hash_file(path, hex, stop, &why)) != COHORT_OK)
            wrong = why.message + (strncmp(why.message, path, strlen(path)) == 0 ? strlen(path) + strlen(": ") : 0);
        else if (strcmp(hex, entry->hex) != 0)
            wrong = "its bytes are not the ones that were saved (SHA-256 differs)";
        mem_free(path);
        TRY_GOTO(stop_check(stop, err));
        if (hashed == COHORT_ERR_MEMORY) { /* says nothing about the file */
            status = error_set(err, hashed, "%s", why.message);
            goto cleanup;
        }
        if (wrong != NULL) {
            report->n_bad++;
            TRY_GOTO(text_printf(&report->bad, err, "%s%s%s: %s\n", dir, dir[strlen(dir) - 1] == '/' ? "" : "/",
                                 entry->name, wrong));
        }
    }
cleanup:
    manifest_free(&manifest);
    if (status != COHORT_OK)
        text_free(&report->bad);
    return status;
}

/* ---- whose files ---- */

struct strangers {
    struct manifest manifest;
    bool found;
    char *name; /* the first */
};

/* Of a checkpoint without a manifest. */
static bool is_known(const char *name)
{
    static const char *const names[] = {
        "config.json",         "generation_config.json", "model.safetensors.index.json",
        "tokenizer.json",      "tokenizer_config.json",  "vocab.json",
        "merges.txt",          "added_tokens.json",      "special_tokens_map.json",
        "chat_template.jinja", "trainer/state.json",     "trainer/optimizer.safetensors",
        "trainer/options.yaml"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    if (strncmp(name, "chat_templates/", strlen("chat_templates/")) == 0)
        return true;
    size_t n = strlen(name), end = strlen(".safetensors");
    return strncmp(name, "model", 5) == 0 && strchr(name, '/') == NULL && n > end &&
           strcmp(name + n - end, ".safetensors") == 0;
}

static cohort_status look(void *context, const char *name, const char *path, cohort_error *err)
{
    (void)path;
    struct strangers *s = context;
    bool ours =
        strcmp(name, MANIFEST_NAME) == 0 || (s->found ? manifest_find(&s->manifest, name) != NULL : is_known(name));
    return ours || s->name != NULL ? COHORT_OK : mem_strdup(&s->name, name, strlen(name), err);
}

cohort_status manifest_stranger(const char *dir, char **name, cohort_error *err)
{
    struct strangers s = {0};
    cohort_status status = COHORT_OK;
    *name = NULL;
    status = manifest_read(&s.manifest, dir, &s.found, err);
    if (status == COHORT_ERR_FORMAT) { /* says nothing about what is ours: by name, then */
        s.found = false;
        status = COHORT_OK;
    }
    if (status == COHORT_OK)
        status = walk(dir, "", look, &s, err);
    manifest_free(&s.manifest);
    if (status == COHORT_OK)
        *name = s.name;
    else
        mem_free(s.name);
    return status;
}

/* hub_choose.c — what the hub says of a repository, and which of its files are needed to run the model. */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "hub_impl.h"
#include "io/json.h"

enum {
    MOST_FILES = 100000,
    MOST_CHOSEN = 2000,
    MOST_TEXT = 1 << 20, /* bytes of a README that are worth having */
};

static const char shard_index[] = "model.safetensors.index.json";

void hub_etag_clean(char out[132], const char *value)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    out[0] = 0;
    if (strncmp(value, "W/", 2) == 0)
        value += 2;
    value += *value == '"';
    const size_t n = strspn(value, safe);
    if (n == 0 || n > 128 || (value[n] && strcmp(value + n, "\"") != 0))
        return;
    memcpy(out, value, n);
    out[n] = 0;
}

static bool size_of(uint64_t *out, const json_t *value)
{
    const json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < 0 || n > ((json_int_t)1 << 53))
        return false;
    *out = (uint64_t)n;
    return true;
}

static zamba_status read_file(hub_remote_file *out, const json_t *item, const char *repo, zamba_error *err)
{
    const json_t *name = json_object_get(item, "rfilename"), *lfs = json_object_get(item, "lfs");
    if (!json_is_string(name) || strlen(json_string_value(name)) != json_string_length(name))
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: a file of its list has no name that is one", repo);
    out->name = strdup(json_string_value(name));
    if (!out->name)
        return zb_fail_memory(err, repo, json_string_length(name));
    const char *etag =
        json_string_value(json_object_get(json_is_object(lfs) ? lfs : item, json_is_object(lfs) ? "sha256" : "blobId"));
    if (!etag && json_is_object(lfs))
        etag = json_string_value(json_object_get(lfs, "oid"));
    hub_etag_clean(out->etag, etag ? etag : "");
    out->size_known =
        size_of(&out->size, json_object_get(lfs, "size")) || size_of(&out->size, json_object_get(item, "size"));
    return ZAMBA_OK;
}

zamba_status hub_remote_read(hub_remote *out, const char *json, size_t n, const char *repo, zamba_error *err)
{
    json_t *root = NULL;
    *out = (hub_remote){0};
    zamba_status st = zb_json_parse(&root, json, n, repo, zb_json_large, err);
    if (st != ZAMBA_OK)
        return zb_fail_prefix(err, st, "the hub's answer");
    const char *commit = json_string_value(json_object_get(root, "sha"));
    const json_t *list = json_object_get(root, "siblings");
    const size_t n_files = json_array_size(list);
    if (!commit || !hub_is_commit(commit) || !json_is_array(list) || n_files > MOST_FILES)
        st = zb_fail(err, ZAMBA_E_FORMAT,
                     "%s: the hub's answer names no commit and files (does HF_ENDPOINT, %s, name a "
                     "hub?)",
                     repo, hub_endpoint());
    if (st == ZAMBA_OK)
        snprintf(out->commit, sizeof out->commit, "%s", commit);
    out->files = st == ZAMBA_OK ? calloc(n_files + 1, sizeof *out->files) : NULL;
    if (st == ZAMBA_OK && !out->files)
        st = zb_fail_memory(err, repo, n_files * sizeof *out->files);
    for (size_t i = 0; i < n_files && st == ZAMBA_OK; i++) {
        st = read_file(&out->files[i], json_array_get(list, i), repo, err);
        out->n_files += out->files[i].name != NULL;
    }
    json_decref(root);
    if (st != ZAMBA_OK)
        hub_remote_free(out);
    return st;
}

void hub_remote_free(hub_remote *r)
{
    for (size_t i = 0; i < r->n_files; i++)
        free(r->files[i].name);
    free(r->files);
    r->files = NULL;
    r->n_files = 0;
}

/* ---- GGUF ---- */

/* A file's quantization is the wanted one: "Q4_K_M" of "...-Q4_K_M.gguf", also "UD-Q4_K_XL" if that stands in it. */
static bool is_of_quant(const char *file, const char *quant)
{
    char have[32], stem[512];
    unsigned part, parts;
    hub_quant_of_file(have, file);
    if (strcasecmp(have, quant) == 0)
        return true;
    if (!hub_split_file(file, stem, sizeof stem, &part, &parts)) {
        snprintf(stem, sizeof stem, "%s", file);
        stem[strlen(stem) - (hub_ends_with(stem, ".gguf") ? 5 : 0)] = 0;
    }
    const size_t n = strlen(stem), m = strlen(quant);
    return n > m && strchr("-.", stem[n - m - 1]) && strcasecmp(stem + n - m, quant) == 0;
}

/* The part of a model that is for other things than text, as llama.cpp's repositories have it. */
static bool is_other_part(const char *file)
{
    const char *slash = strrchr(file, '/');
    file = slash ? slash + 1 : file;
    return strncasecmp(file, "mmproj", 6) == 0 || strncasecmp(file, "imatrix", 7) == 0;
}

long hub_choose_gguf(const char *const *names, size_t n, const char *quant)
{
    static const char *const usual[] = {"Q4_K_M", "Q8_0", "BF16", "F16"};
    const size_t n_usual = *quant ? 1 : sizeof usual / sizeof *usual;
    for (size_t k = 0; k <= n_usual; k++) {
        if (k == n_usual && *quant)
            break;
        for (size_t i = 0; i < n; i++)
            if (!is_other_part(names[i]) && (k == n_usual || is_of_quant(names[i], *quant ? quant : usual[k])))
                return (long)i;
    }
    return -1;
}

/* "Q8_0, Q4_K_M ..." of the files there are. */
static void list_quants(const char *const *names, size_t n, char *out, size_t n_out)
{
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < n && at + 40 < n_out; i++) {
        char quant[32];
        hub_quant_of_file(quant, names[i]);
        if (*quant && !strstr(out, quant))
            at += (size_t)snprintf(out + at, n_out - at, "%s%s", at ? ", " : "", quant);
    }
    if (at == 0)
        snprintf(out, n_out, "files without a quantization in their names");
}

static zamba_status choose_file(hub_remote *r, const char *file, const char *repo, zamba_error *err)
{
    char stem[512], other[512];
    unsigned part, parts, p;
    size_t n = 0, wanted = 1;
    const bool split = hub_split_file(file, stem, sizeof stem, &part, &parts);
    if (split)
        wanted = parts;
    for (size_t i = 0; i < r->n_files; i++) {
        unsigned of;
        hub_remote_file *f = &r->files[i];
        if (f->chosen ||
            (strcmp(f->name, file) != 0 && !(split && hub_split_file(f->name, other, sizeof other, &p, &of) &&
                                             of == parts && strcmp(other, stem) == 0)))
            continue;
        f->chosen = true;
        n++;
    }
    if (n == 0)
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "%s: it has no file %s", repo, file);
    if (n != wanted)
        return zb_fail(err, ZAMBA_E_FORMAT, "%s: %s is one of %zu files, but %zu are there", repo, file, wanted, n);
    return ZAMBA_OK;
}

static zamba_status choose_gguf(hub_remote *r, hub_name *name, zamba_error *err)
{
    if (*name->file)
        return choose_file(r, name->file, name->repo, err);
    const char **names = calloc(r->n_files + 1, sizeof *names);
    if (!names)
        return zb_fail_memory(err, name->repo, r->n_files * sizeof *names);
    size_t n = 0;
    for (size_t i = 0; i < r->n_files; i++)
        if (hub_ends_with(r->files[i].name, ".gguf"))
            names[n++] = r->files[i].name;
    const long at = hub_choose_gguf(names, n, name->quant);
    zamba_status st = ZAMBA_OK;
    if (at >= 0) {
        if (!*name->quant)
            hub_quant_of_file(name->quant, names[at]);
        st = choose_file(r, names[at], name->repo, err);
    } else if (n > 0) {
        char have[300];
        list_quants(names, n, have, sizeof have);
        st = zb_fail(err, ZAMBA_E_NOT_FOUND, "%s: it has no GGUF file of %s; there are %s", name->repo, name->quant,
                     have);
    } else {
        st = zb_fail(err, ZAMBA_E_NOT_FOUND, "%s: it has no GGUF file", name->repo);
    }
    free(names);
    return st;
}

/* ---- Checkpoint folders ---- */

/* Beside the weights: what the model, its tokenizer and its template are made of, and its terms. */
static const char *const folder_files[] = {
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "vocab.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template*",
    "quantize_config.json",
    "README.md",
    "LICENSE*",
    "quant_config.json",
    "adapter_config.json",
};

static bool is_weights(const char *name)
{
    return !strchr(name, '/') && hub_ends_with(name, ".safetensors");
}

static bool has(const hub_remote *r, const char *name)
{
    for (size_t i = 0; i < r->n_files; i++)
        if (strcmp(r->files[i].name, name) == 0)
            return true;
    return false;
}

/* `whole`: there is model.safetensors; `indexed`: an index of shards. */
static bool is_needed(const hub_remote_file *f, bool whole, bool indexed)
{
    static const char templates[] = "additional_chat_templates/";
    if (is_weights(f->name)) { /* as the folder will be read: one file, else what an index names */
        if (whole)
            return strcmp(f->name, "model.safetensors") == 0;
        return !indexed || (strncmp(f->name, "consolidated", 12) != 0 && strncmp(f->name, "adapter_", 8) != 0);
    }
    if (strcmp(f->name, shard_index) == 0)
        return !whole;
    if (strncmp(f->name, templates, sizeof templates - 1) == 0)
        return hub_ends_with(f->name, ".jinja");
    for (size_t i = 0; i < sizeof folder_files / sizeof *folder_files; i++)
        if (fnmatch(folder_files[i], f->name, FNM_PATHNAME) == 0)
            return !f->size_known || f->size <= MOST_TEXT ||
                   (strcmp(folder_files[i], "README.md") != 0 && strcmp(folder_files[i], "LICENSE*") != 0);
    return false;
}

/* The names of the chosen files are safe, and each is there once. */
static zamba_status check_chosen(const hub_remote *r, const char *repo, zamba_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_files; i++) {
        const char *file = r->files[i].name;
        if (!r->files[i].chosen)
            continue;
        if (++n > MOST_CHOSEN)
            return zb_fail(err, ZAMBA_E_FORMAT, "%s: more than %d of its files would be needed", repo, MOST_CHOSEN);
        if (!hub_file_name_is_safe(file))
            return zb_fail(err, ZAMBA_E_FORMAT,
                           "%s: a file of it is called '%.100s', which is refused: a name must stay inside of the "
                           "model's folder",
                           repo, file);
        for (size_t k = 0; k < i; k++)
            if (r->files[k].chosen && strcmp(r->files[k].name, file) == 0)
                return zb_fail(err, ZAMBA_E_FORMAT, "%s: two of its files are called '%.100s'", repo, file);
    }
    return ZAMBA_OK;
}

zamba_status hub_choose(hub_remote *r, hub_name *name, zamba_error *err)
{
    bool weights = false, gguf = false, pickle = false;
    const bool whole = has(r, "model.safetensors"), indexed = has(r, shard_index), config = has(r, "config.json");
    zamba_status st = ZAMBA_OK;
    for (size_t i = 0; i < r->n_files; i++) {
        const char *file = r->files[i].name;
        weights |= is_weights(file);
        gguf |= hub_ends_with(file, ".gguf");
        pickle |= hub_ends_with(file, ".bin") || hub_ends_with(file, ".pt") || hub_ends_with(file, ".pth");
    }
    if (*name->file || *name->quant || (gguf && !(weights && config))) {
        st = choose_gguf(r, name, err);
    } else if (!weights) {
        st = zb_fail(err, ZAMBA_E_UNSUPPORTED, "%s: it has %s (wanted .safetensors or .gguf files)", name->repo,
                     pickle ? "only pickle files, which can run code of strangers when they are read" : "no weights");
    } else {
        for (size_t i = 0; i < r->n_files; i++)
            r->files[i].chosen = is_needed(&r->files[i], whole, indexed);
    }
    return st == ZAMBA_OK ? check_chosen(r, name->repo, err) : st;
}

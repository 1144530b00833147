/* hub_list.c — what is in the cache, and removing from it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hub_impl.h"
#include "io/file.h"
#include "io/gguf.h"
#include "io/json.h"

enum { MOST_DEPTH = 4 }; /* folders below a snapshot that are looked into */

/* ---- Describing ---- */

void hub_entry_free(hub_entry *e)
{
    free(e->name);
    free(e->path);
    free(e->type);
    free(e->dtype);
    free(e->license);
    *e = (hub_entry){0};
}

void hub_list_free(hub_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hub_entry_free(&entries[i]);
    free(entries);
}

/* Bytes and the last change of all files below a folder (links followed, folders that are links not). */
static void measure(const char *path, int depth, uint64_t *bytes, int64_t *when)
{
    char **names = hub_names_of_folder(path), full[PATH_MAX];
    struct stat st, link;
    for (size_t i = 0; names && names[i]; i++) {
        if (hub_path(full, NULL, path, names[i], (char *)NULL) != ZAMBA_OK || stat(full, &st) != 0 ||
            lstat(full, &link) != 0)
            continue;
        if (S_ISDIR(link.st_mode) && depth < MOST_DEPTH) {
            measure(full, depth + 1, bytes, when);
        } else if (S_ISREG(st.st_mode)) {
            *bytes += (uint64_t)st.st_size;
            *when = st.st_mtime > *when ? st.st_mtime : *when;
        }
    }
    hub_free_folder_names(names);
}

static char *copy_text(const char *text, size_t most)
{
    const size_t n = strlen(text) < most ? strlen(text) : most;
    char *out = malloc(n + 1);
    for (size_t i = 0; out && i < n; i++)
        out[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    if (out)
        out[n] = 0;
    return out;
}

/* What the block of settings in front of README.md says: "license: apache-2.0", and "license_name: x" beside "other".
 */
static void read_license(char out[80], const char *folder)
{
    char path[PATH_MAX];
    zb_buf text = {0};
    out[0] = 0;
    if (hub_path(path, NULL, folder, "README.md", (char *)NULL) != ZAMBA_OK ||
        zb_file_read_start(&text, path, 64 << 10, NULL) != ZAMBA_OK || !text.data ||
        strncmp(text.data, "---", 3) != 0) {
        zb_buf_free(&text);
        return;
    }
    for (char *p = strchr(text.data, '\n'); p && strncmp(p + 1, "---", 3) != 0; p = strchr(p + 1, '\n')) {
        static const char *const keys[] = {"license:", "license_name:"};
        for (int i = 0; i < 2; i++) {
            if (strncmp(p + 1, keys[i], strlen(keys[i])) != 0 || (i == 0 && *out))
                continue;
            const char *value = p + 1 + strlen(keys[i]);
            value += strspn(value, " \t\"'");
            const size_t n = strcspn(value, "\r\n\"'");
            if (n > 0)
                snprintf(out, 80, "%.*s", (int)(n < 79 ? n : 79), value);
        }
    }
    zb_buf_free(&text);
}

static void describe_config(hub_entry *e, const char *folder)
{
    char license[80];
    char path[PATH_MAX];
    json_t *root = NULL;
    const char *type = "?", *dtype = "";
    if (hub_path(path, NULL, folder, "config.json", (char *)NULL) == ZAMBA_OK)
        zb_json_read(&root, path, zb_json_small, NULL);
    const json_t *model = json_object_get(root, "model_type"), *packed = json_object_get(root, "quantization_config");
    if (json_is_string(model))
        type = json_string_value(model);
    static const char *const keys[] = {"dtype", "torch_dtype"};
    for (int i = 0; i < 2 && !*dtype; i++)
        if (json_is_string(json_object_get(root, keys[i])))
            dtype = json_string_value(json_object_get(root, keys[i]));
    if (json_is_string(json_object_get(packed, "quant_method")))
        dtype = json_string_value(json_object_get(packed, "quant_method"));
    if (strcmp(type, "?") == 0 && hub_path(path, NULL, folder, "adapter_config.json", (char *)NULL) == ZAMBA_OK &&
        zb_file_exists(path))
        type = "adapter";
    e->type = copy_text(type, 40);
    e->dtype = copy_text(dtype, 40);
    json_decref(root);
    read_license(license, folder);
    e->license = copy_text(license, sizeof license);
}

/* The text of a key, cut to what fits. */
static void take_key(const zb_gguf_key *k, const char *name, char *out, size_t n_out)
{
    const size_t n = k->value.bytes > 8 ? k->value.bytes - 8 : 0;
    if (k->n_name == strlen(name) && memcmp(k->name, name, k->n_name) == 0 && !k->value.is_array &&
        k->value.type == ZB_GGUF_TEXT && n > 0)
        snprintf(out, n_out, "%.*s", (int)(n < n_out ? n : n_out - 1), (const char *)k->value.data + 8);
}

static void describe_gguf(hub_entry *e, const char *path)
{
    zb_gguf g = {0};
    char quant[32], type[41] = "?", license[80] = "";
    if (zb_gguf_open(&g, path, NULL) == ZAMBA_OK) {
        for (size_t i = 0; i < g.n_keys; i++) {
            take_key(&g.keys[i], "general.architecture", type, sizeof type);
            take_key(&g.keys[i], "general.license", license, sizeof license);
        }
        zb_gguf_close(&g);
    }
    hub_quant_of_file(quant, path);
    e->type = copy_text(type, 40);
    e->dtype = copy_text(*quant ? quant : "GGUF", 40);
    e->license = copy_text(license, sizeof license);
}

/* A GGUF file's bytes, with all its parts. */
static void measure_gguf(hub_entry *e, const char *path)
{
    char stem[512], name[PATH_MAX];
    unsigned part, parts = 1;
    const char *slash = strrchr(path, '/');
    const size_t n_folder = slash ? (size_t)(slash + 1 - path) : 0;
    const bool split = hub_split_file(path + n_folder, stem, sizeof stem, &part, &parts);
    for (unsigned i = 1; i <= (split ? parts : 1); i++) {
        struct stat st;
        if (split)
            snprintf(name, sizeof name, "%.*s%s-%05u-of-%05u.gguf", (int)n_folder, path, stem, i, parts);
        else
            snprintf(name, sizeof name, "%s", path);
        if (stat(name, &st) != 0)
            continue;
        e->bytes += (uint64_t)st.st_size;
        e->when = st.st_mtime > e->when ? st.st_mtime : e->when;
    }
}

zamba_status hub_describe(hub_entry *out, const char *name, const char *path, zamba_error *err)
{
    *out = (hub_entry){.name = copy_text(name, 400), .path = strdup(path), .complete = true};
    if (hub_ends_with(path, ".gguf")) {
        measure_gguf(out, path);
        describe_gguf(out, path);
    } else {
        measure(path, 0, &out->bytes, &out->when);
        describe_config(out, path);
    }
    if (out->name && out->path && out->type && out->dtype && out->license)
        return ZAMBA_OK;
    hub_entry_free(out);
    return zb_fail_memory(err, path, sizeof *out);
}

/* ---- Listing ---- */

typedef struct listing {
    hub_entry *entries;
    size_t n, room;
    zamba_error *err;
    zamba_status status;
} listing;

static void add(listing *l, const char *name, const char *path, const char *commit, bool complete)
{
    if (l->status != ZAMBA_OK)
        return;
    if (l->n == l->room) {
        l->room = l->room ? l->room * 2 : 16;
        hub_entry *larger = realloc(l->entries, l->room * sizeof *larger);
        if (!larger) {
            l->status = zb_fail_memory(l->err, "the list", l->room * sizeof *larger);
            return;
        }
        l->entries = larger;
    }
    hub_entry *e = &l->entries[l->n];
    l->status = hub_describe(e, name, path, l->err);
    if (l->status != ZAMBA_OK)
        return;
    l->n++;
    e->complete = complete;
    snprintf(e->commit, sizeof e->commit, "%s", commit);
}

/* GGUF files below a snapshot, each by its quantization or, without one, by its name. */
static size_t add_ggufs(listing *l, const char *front, const char *snapshot, const char *below, int depth,
                        const char *repo, const char *commit)
{
    char path[PATH_MAX];
    size_t found = 0;
    if (hub_path(path, NULL, snapshot, below, (char *)NULL) != ZAMBA_OK)
        return 0;
    char **names = hub_names_of_folder(path);
    for (size_t i = 0; names && names[i]; i++) {
        char name[512], full[PATH_MAX], quant[32], shown[1200], stem[512];
        struct stat st, link;
        unsigned part = 1, parts = 1;
        if ((size_t)snprintf(name, sizeof name, "%s%s", below, names[i]) >= sizeof name - 1 ||
            hub_path(full, NULL, snapshot, name, (char *)NULL) != ZAMBA_OK || stat(full, &st) != 0 ||
            lstat(full, &link) != 0)
            continue;
        if (S_ISDIR(link.st_mode) && depth < 2) {
            snprintf(name + strlen(name), 2, "/");
            found += add_ggufs(l, front, snapshot, name, depth + 1, repo, commit);
            continue;
        }
        if (!S_ISREG(st.st_mode) || !hub_ends_with(name, ".gguf"))
            continue;
        if (hub_split_file(name, stem, sizeof stem, &part, &parts) && part != 1)
            continue;
        hub_quant_of_file(quant, name);
        if (*quant)
            snprintf(shown, sizeof shown, "%s:%s", front, quant);
        else
            snprintf(shown, sizeof shown, "%s/%s%s", repo, name, front + strlen(repo));
        hub_name what = {.revision = "main"};
        char at[PATH_MAX];
        snprintf(what.file, sizeof what.file, "%s", name);
        add(l, shown, full, commit, hub_find_in(at, sizeof at, snapshot, &what, NULL) == ZAMBA_OK);
        found++;
    }
    hub_free_folder_names(names);
    return found;
}

static void add_snapshot(listing *l, const char *repo, const char *revision, const char *snapshot, const char *commit)
{
    char front[450], path[PATH_MAX], config[PATH_MAX];
    hub_name what = {.revision = "main"};
    zamba_error why = {0};
    snprintf(front, sizeof front, strcmp(revision, "main") == 0 ? "%s" : "%s@%s", repo, revision);
    const bool has_config =
        hub_path(config, NULL, snapshot, "config.json", (char *)NULL) == ZAMBA_OK && zb_file_exists(config);
    const bool found = hub_find_in(path, sizeof path, snapshot, &what, &why) == ZAMBA_OK;
    const size_t n_gguf = add_ggufs(l, front, snapshot, "", 0, repo, commit);
    if ((found && !hub_ends_with(path, ".gguf")) || (has_config && n_gguf == 0))
        add(l, front, snapshot, commit, found);
}

/* Branches and tags below refs/ whose commit is this one; the first by name, or "". */
static void revision_of(char *out, size_t n_out, const char *refs, const char *below, const char *commit, int depth)
{
    char path[PATH_MAX];
    if (hub_path(path, NULL, refs, below, (char *)NULL) != ZAMBA_OK)
        return;
    char **names = hub_names_of_folder(path);
    for (size_t i = 0; names && names[i]; i++) {
        char name[200], full[PATH_MAX];
        struct stat st;
        zb_buf text = {0};
        if ((size_t)snprintf(name, sizeof name, "%s%s", below, names[i]) >= sizeof name - 1 ||
            hub_path(full, NULL, refs, name, (char *)NULL) != ZAMBA_OK || lstat(full, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode) && depth < MOST_DEPTH) {
            snprintf(name + strlen(name), 2, "/");
            revision_of(out, n_out, refs, name, commit, depth + 1);
        } else if (S_ISREG(st.st_mode) && zb_file_read(&text, full, 100, NULL) == ZAMBA_OK && text.data &&
                   strncmp(text.data, commit, strlen(commit)) == 0 && (!*out || strcmp(name, "main") == 0)) {
            snprintf(out, n_out, "%s", name);
        }
        zb_buf_free(&text);
    }
    hub_free_folder_names(names);
}

static void add_repo(listing *l, const char *cache, const char *folder)
{
    char repo[200], refs[PATH_MAX], snapshots[PATH_MAX], snapshot[PATH_MAX];
    hub_name name;
    const char *two = strstr(folder + 8, "--");
    if (!two)
        return;
    snprintf(repo, sizeof repo, "%.*s/%s", (int)(two - folder - 8), folder + 8, two + 2);
    if (hub_name_parse(&name, repo, NULL) != ZAMBA_OK || strcmp(name.repo, repo) != 0 ||
        hub_path(refs, NULL, cache, folder, "refs", (char *)NULL) != ZAMBA_OK ||
        hub_path(snapshots, NULL, cache, folder, "snapshots", (char *)NULL) != ZAMBA_OK)
        return;
    char **commits = hub_names_of_folder(snapshots);
    for (size_t i = 0; commits && commits[i]; i++) {
        char revision[200] = "";
        if (!hub_is_commit(commits[i]) || hub_path(snapshot, NULL, snapshots, commits[i], (char *)NULL) != ZAMBA_OK)
            continue;
        revision_of(revision, sizeof revision, refs, "", commits[i], 0);
        if (!*revision)
            snprintf(revision, sizeof revision, "%.12s", commits[i]);
        add_snapshot(l, repo, revision, snapshot, commits[i]);
    }
    hub_free_folder_names(commits);
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const hub_entry *)a)->name, ((const hub_entry *)b)->name);
}

zamba_status hub_list(hub_entry **out, size_t *n, zamba_error *err)
{
    char cache[PATH_MAX];
    listing l = {.err = err};
    *out = NULL;
    *n = 0;
    zamba_status st = hub_cache_folder(cache, sizeof cache, err);
    if (st != ZAMBA_OK)
        return st;
    char **names = hub_names_of_folder(cache);
    for (size_t i = 0; names && names[i]; i++)
        if (strncmp(names[i], "models--", 8) == 0)
            add_repo(&l, cache, names[i]);
    hub_free_folder_names(names);
    if (l.status != ZAMBA_OK) {
        hub_list_free(l.entries, l.n);
        return l.status;
    }
    if (l.n)
        qsort(l.entries, l.n, sizeof *l.entries, compare_entries);
    *out = l.entries;
    *n = l.n;
    return ZAMBA_OK;
}

/* ---- Removing ---- */

/* Everything below a folder, following no link; `fd` is closed. With `pretend` only counted. */
static void remove_below(int fd, bool pretend, uint64_t *bytes, int depth)
{
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            if (depth < 32)
                remove_below(openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), pretend,
                             bytes, depth + 1);
            if (!pretend)
                unlinkat(dirfd(dir), e->d_name, AT_REMOVEDIR);
        } else {
            if (S_ISREG(st.st_mode))
                *bytes += (uint64_t)st.st_size;
            if (!pretend)
                unlinkat(dirfd(dir), e->d_name, 0);
        }
    }
    closedir(dir);
}

static zamba_status remove_tree(const char *path, bool pretend, uint64_t *bytes, zamba_error *err)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return zb_fail(err, errno == ENOENT ? ZAMBA_E_NOT_FOUND : ZAMBA_E_IO, "%s: %s", path, strerror(errno));
    remove_below(fd, pretend, bytes, 0);
    if (!pretend && rmdir(path) != 0)
        return zb_fail(err, ZAMBA_E_IO, "%s: %s", path, strerror(errno));
    return ZAMBA_OK;
}

/* All of a repository: it goes out of sight first, so that nobody finds half of it. */
static zamba_status remove_repo(const hub_store *store, bool pretend, uint64_t *bytes, zamba_error *err)
{
    char aside[PATH_MAX], name[300];
    const char *folder = store->folder;
    struct stat st;
    if (stat(folder, &st) != 0)
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "not in the cache %s", store->cache);
    snprintf(name, sizeof name, ".locks/removed.%ld.%.200s", (long)getpid(), strrchr(store->folder, '/') + 1);
    if (!pretend && hub_path(aside, err, store->cache, name, (char *)NULL) == ZAMBA_OK && rename(folder, aside) == 0)
        folder = aside;
    zamba_status status = remove_tree(folder, pretend, bytes, err);
    uint64_t ignored = 0;
    if (status == ZAMBA_OK && !pretend)
        remove_tree(store->locks, false, &ignored, NULL);
    return status;
}

/* Does a link below a folder lead to a blob of this name? */
static bool is_linked(const char *path, const char *blob, int depth)
{
    char **names = hub_names_of_folder(path), full[PATH_MAX], target[PATH_MAX];
    bool found = false;
    for (size_t i = 0; names && names[i] && !found; i++) {
        struct stat st;
        if (hub_path(full, NULL, path, names[i], (char *)NULL) != ZAMBA_OK || lstat(full, &st) != 0)
            continue;
        const ssize_t n = S_ISLNK(st.st_mode) ? readlink(full, target, sizeof target - 1) : -1;
        if (S_ISDIR(st.st_mode) && depth < MOST_DEPTH + 2) {
            found = is_linked(full, blob, depth + 1);
        } else if (n > 0) {
            target[n] = 0;
            const char *slash = strrchr(target, '/');
            found = slash && strcmp(slash + 1, blob) == 0;
        }
    }
    hub_free_folder_names(names);
    return found;
}

/* Blobs that no snapshot leads to (`gone`: besides those of that folder), and what was begun and left. */
static void sweep_blobs(const hub_store *store, bool pretend, const char *gone, uint64_t *bytes)
{
    char blobs[PATH_MAX], snapshots[PATH_MAX], full[PATH_MAX], below[PATH_MAX];
    if (hub_path(blobs, NULL, store->folder, "blobs", (char *)NULL) != ZAMBA_OK ||
        hub_path(snapshots, NULL, store->folder, "snapshots", (char *)NULL) != ZAMBA_OK)
        return;
    char **names = hub_names_of_folder(blobs), **commits = hub_names_of_folder(snapshots);
    for (size_t i = 0; names && names[i]; i++) {
        struct stat st;
        bool used = hub_ends_with(names[i], ".incomplete"); /* somebody may be at it */
        for (size_t k = 0; commits && commits[k] && !used; k++)
            used = strcmp(commits[k], gone) != 0 &&
                   hub_path(below, NULL, snapshots, commits[k], (char *)NULL) == ZAMBA_OK &&
                   is_linked(below, names[i], 0);
        if (used || hub_path(full, NULL, blobs, names[i], (char *)NULL) != ZAMBA_OK || lstat(full, &st) != 0)
            continue;
        *bytes += S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
        if (!pretend)
            unlink(full);
    }
    hub_free_folder_names(names);
    hub_free_folder_names(commits);
}

/* The branches and tags that say this commit: without its snapshot they would lead nowhere. */
static void remove_refs(const hub_store *store, const char *commit)
{
    char refs[PATH_MAX], path[PATH_MAX];
    for (int i = 0; i < 1000; i++) {
        char name[200] = "";
        if (hub_path(refs, NULL, store->folder, "refs", (char *)NULL) != ZAMBA_OK)
            return;
        revision_of(name, sizeof name, refs, "", commit, 0);
        if (!*name || hub_path(path, NULL, refs, name, (char *)NULL) != ZAMBA_OK || unlink(path) != 0)
            return;
    }
}

static zamba_status remove_snapshot(const hub_store *store, const char *commit, bool pretend, uint64_t *bytes,
                                    zamba_error *err)
{
    char snapshot[PATH_MAX], trees[PATH_MAX], name[100];
    zamba_status st = hub_path(snapshot, err, store->folder, "snapshots", commit, (char *)NULL);
    if (st != ZAMBA_OK)
        return st;
    if (!pretend)
        remove_refs(store, commit);
    st = remove_tree(snapshot, pretend, bytes, err);
    if (st != ZAMBA_OK)
        return st;
    snprintf(name, sizeof name, "%s.json", commit);
    if (!pretend && hub_path(trees, NULL, store->folder, "trees", name, (char *)NULL) == ZAMBA_OK)
        unlink(trees);
    sweep_blobs(store, pretend, commit, bytes);
    return ZAMBA_OK;
}

/* One GGUF file with its parts. */
static zamba_status remove_files(const hub_store *store, const char *commit, const hub_name *name, bool pretend,
                                 uint64_t *bytes, zamba_error *err)
{
    char snapshot[PATH_MAX], path[PATH_MAX], stem[512], file[PATH_MAX], target[PATH_MAX], blob[PATH_MAX];
    unsigned part, parts = 1;
    zamba_status st = hub_path(snapshot, err, store->folder, "snapshots", commit, (char *)NULL);
    if (st == ZAMBA_OK)
        st = hub_find_in(path, sizeof path, snapshot, name, err);
    if (st != ZAMBA_OK)
        return st;
    const char *slash = strrchr(path, '/');
    const int n_folder = (int)(slash + 1 - path);
    const bool split = hub_split_file(slash + 1, stem, sizeof stem, &part, &parts);
    for (unsigned i = 1; i <= (split ? parts : 1); i++) {
        struct stat info;
        if (split)
            snprintf(file, sizeof file, "%.*s%s-%05u-of-%05u.gguf", n_folder, path, stem, i, parts);
        else
            snprintf(file, sizeof file, "%s", path);
        const ssize_t n = readlink(file, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        const char *last = strrchr(target, '/');
        if (pretend) {
            *bytes += stat(file, &info) == 0 ? (uint64_t)info.st_size : 0;
            continue;
        }
        if (lstat(file, &info) == 0 && S_ISREG(info.st_mode))
            *bytes += (uint64_t)info.st_size;
        if (unlink(file) != 0)
            return zb_fail(err, ZAMBA_E_IO, "%s: %s", file, strerror(errno));
        char snapshots[PATH_MAX];
        if (last && hub_path(blob, NULL, store->folder, "blobs", last + 1, (char *)NULL) == ZAMBA_OK &&
            hub_path(snapshots, NULL, store->folder, "snapshots", (char *)NULL) == ZAMBA_OK &&
            !is_linked(snapshots, last + 1, 0) && lstat(blob, &info) == 0) {
            *bytes += S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
            unlink(blob);
        }
    }
    return ZAMBA_OK;
}

zamba_status hub_remove(const char *word, bool pretend, uint64_t *bytes, zamba_error *err)
{
    hub_name name;
    hub_store store;
    char commit[72], snapshots[PATH_MAX];
    zamba_error why = {0};
    *bytes = 0;
    zamba_status st = hub_name_parse(&name, word, err);
    if (st == ZAMBA_OK)
        st = hub_store_of(&store, name.repo, err);
    if (st != ZAMBA_OK)
        return st;
    const bool named = strchr(word, '@') != NULL, part = *name.quant || *name.file;
    if (!named && !part)
        st = remove_repo(&store, pretend, bytes, &why);
    else if (!hub_commit_of(&store, name.revision, commit))
        st = zb_fail(&why, ZAMBA_E_NOT_FOUND, "not in the cache %s", store.cache);
    else
        st = part ? remove_files(&store, commit, &name, pretend, bytes, &why)
                  : remove_snapshot(&store, commit, pretend, bytes, &why);
    if (st != ZAMBA_OK)
        return zb_fail(err, st, "%s: %s", word, why.message);
    /* the last snapshot is gone: so is the model */
    char **left = hub_path(snapshots, NULL, store.folder, "snapshots", (char *)NULL) == ZAMBA_OK
                      ? hub_names_of_folder(snapshots)
                      : NULL;
    uint64_t ignored = 0;
    if (!pretend && named && !part && left && !left[0])
        remove_repo(&store, false, &ignored, NULL);
    hub_free_folder_names(left);
    return ZAMBA_OK;
}

/* hub_cache.c — the cache as huggingface_hub lays it out: models--Org--Name/{blobs,refs,snapshots}, .locks beside.
 * Finds models in it, links files into snapshots, takes the locks of blobs. Lists and removes nothing, fetches nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hub_impl.h"
#include "io/file.h"
#include "io/json.h"

/* ---- Folders ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **hub_names_of_folder(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir)
        return NULL;
    size_t n = 0, room = 0;
    char **names = NULL;
    bool good = true;
    for (const struct dirent *e; good && (e = readdir(dir)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (n + 2 > room) {
            room = room ? room * 2 : 32;
            char **larger = realloc(names, room * sizeof *larger);
            good = larger != NULL;
            names = larger ? larger : names;
        }
        if (good)
            good = (names[n] = strdup(e->d_name)) != NULL;
        n += good;
    }
    closedir(dir);
    if (!names)
        names = malloc(sizeof *names);
    if (names) {
        names[n] = NULL;
        qsort(names, n, sizeof *names, compare_names);
    }
    return names;
}

void hub_free_folder_names(char **names)
{
    for (size_t i = 0; names && names[i]; i++)
        free(names[i]);
    free(names);
}

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* ---- Revisions ---- */

/* The text of a small file without blanks at its end; false if there is none. */
static bool read_line(char *out, size_t n_out, const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    const ssize_t n = read(fd, out, n_out - 1);
    close(fd);
    if (n <= 0)
        return false;
    out[n] = 0;
    out[strcspn(out, " \r\n")] = 0;
    return true;
}

bool hub_commit_of(const hub_store *store, const char *revision, char out[72])
{
    char path[PATH_MAX], text[80];
    if (!hub_revision_is_safe(revision) || hub_path(path, NULL, store->folder, "refs", revision, (char *)NULL))
        return false;
    if (read_line(text, sizeof text, path) && hub_is_commit(text)) {
        snprintf(out, 72, "%.71s", text);
        return true;
    }
    if (hub_is_commit(revision)) {
        snprintf(out, 72, "%.71s", revision);
        return true;
    }
    const size_t n = strlen(revision);
    if (n < 7 || strspn(revision, "0123456789abcdef") != n || hub_path(path, NULL, store->folder, "snapshots", NULL))
        return false;
    char **names = hub_names_of_folder(path);
    size_t found = 0;
    for (size_t i = 0; names && names[i]; i++) {
        if (strncmp(names[i], revision, n) == 0 && hub_is_commit(names[i])) {
            snprintf(out, 72, "%.71s", names[i]);
            found++;
        }
    }
    hub_free_folder_names(names);
    return found == 1;
}

zamba_status hub_write_ref(const hub_store *store, const char *revision, const char *commit, zamba_error *err)
{
    char path[PATH_MAX], beside[PATH_MAX], old[80], name[64];
    if (strcmp(revision, commit) == 0)
        return ZAMBA_OK;
    zamba_status st = hub_path(path, err, store->folder, "refs", revision, (char *)NULL);
    /* not beside it: what is in refs/ is a revision to whoever looks at that moment */
    snprintf(name, sizeof name, ".ref.%ld.tmp", (long)getpid());
    if (st == ZAMBA_OK)
        st = hub_path(beside, err, store->folder, name, (char *)NULL);
    if (st != ZAMBA_OK)
        return st;
    if (read_line(old, sizeof old, path) && strcmp(old, commit) == 0)
        return ZAMBA_OK;
    char *slash = strrchr(path, '/');
    *slash = 0;
    st = hub_make_folders(path, err);
    *slash = '/';
    if (st != ZAMBA_OK)
        return st;
    const int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    const size_t n = strlen(commit);
    const bool written = fd >= 0 && write(fd, commit, n) == (ssize_t)n && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (written && rename(beside, path) == 0)
        return ZAMBA_OK;
    error = written ? errno : error;
    unlink(beside);
    return zb_fail(err, ZAMBA_E_IO, "%s: %s", path, strerror(error));
}

/* ---- Finding ---- */

/* All shards that the index of a snapshot names are there. */
static zamba_status check_shards(const char *snapshot, const char *index, zamba_error *err)
{
    json_t *root = NULL;
    char path[PATH_MAX];
    zamba_status st = zb_json_read(&root, index, zb_json_large, err);
    const char *tensor;
    json_t *value, *map = st == ZAMBA_OK ? json_object_get(root, "weight_map") : NULL;
    const char *last = "";
    json_object_foreach(map, tensor, value)
    {
        const char *file = json_string_value(value);
        if (!file || st != ZAMBA_OK || strcmp(file, last) == 0)
            continue;
        last = file;
        if (!hub_file_name_is_safe(file) || strchr(file, '/'))
            st = zb_fail(err, ZAMBA_E_FORMAT, "%s: '%.100s' is no file name that is taken", index, file);
        if (st == ZAMBA_OK)
            st = hub_path(path, err, snapshot, file, (char *)NULL);
        if (st == ZAMBA_OK && !is_file(path))
            st = zb_fail(err, ZAMBA_E_NOT_FOUND, "%s is not there", file);
    }
    json_decref(root);
    return st;
}

static zamba_status check_folder(const char *snapshot, zamba_error *err)
{
    char config[PATH_MAX], whole[PATH_MAX], index[PATH_MAX];
    zamba_status st = hub_path(config, err, snapshot, "config.json", (char *)NULL);
    if (st == ZAMBA_OK)
        st = hub_path(whole, err, snapshot, "model.safetensors", (char *)NULL);
    if (st == ZAMBA_OK)
        st = hub_path(index, err, snapshot, "model.safetensors.index.json", (char *)NULL);
    if (st != ZAMBA_OK)
        return st;
    if (!is_file(config)) { /* an adapter has none */
        st = hub_path(config, err, snapshot, "adapter_config.json", (char *)NULL);
        if (st == ZAMBA_OK)
            st = hub_path(whole, err, snapshot, "adapter_model.safetensors", (char *)NULL);
        if (st == ZAMBA_OK && is_file(config) && is_file(whole))
            return ZAMBA_OK;
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "config.json is not there");
    }
    if (is_file(whole))
        return ZAMBA_OK;
    if (!is_file(index))
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "the weights are not there");
    return check_shards(snapshot, index, err);
}

/* Names of GGUF files below a snapshot, two folders deep at most; `below` is "" or "folder/". */
static void gguf_names(const char *snapshot, const char *below, int depth, char ***names, size_t *n)
{
    char path[PATH_MAX];
    if (hub_path(path, NULL, snapshot, below, (char *)NULL) != ZAMBA_OK)
        return;
    char **here = hub_names_of_folder(path);
    for (size_t i = 0; here && here[i]; i++) {
        char name[512], full[PATH_MAX];
        if ((size_t)snprintf(name, sizeof name, "%s%s", below, here[i]) >= sizeof name - 1 ||
            hub_path(full, NULL, snapshot, name, (char *)NULL) != ZAMBA_OK)
            continue;
        if (is_folder(full) && depth < 2) {
            name[strlen(name) + 1] = 0;
            name[strlen(name)] = '/';
            gguf_names(snapshot, name, depth + 1, names, n);
        } else if (hub_ends_with(name, ".gguf") && is_file(full)) {
            char **larger = realloc(*names, (*n + 2) * sizeof *larger);
            if (!larger)
                continue;
            *names = larger;
            larger[*n] = strdup(name);
            *n += larger[*n] != NULL;
            larger[*n] = NULL;
        }
    }
    hub_free_folder_names(here);
}

/* All parts of a GGUF file that is split are there. */
static zamba_status check_parts(const char *snapshot, const char *file, zamba_error *err)
{
    char stem[512], name[560], path[PATH_MAX];
    unsigned part, parts;
    if (!hub_split_file(file, stem, sizeof stem, &part, &parts))
        return ZAMBA_OK;
    for (unsigned i = 1; i <= parts; i++) {
        snprintf(name, sizeof name, "%s-%05u-of-%05u.gguf", stem, i, parts);
        zamba_status st = hub_path(path, err, snapshot, name, (char *)NULL);
        if (st == ZAMBA_OK && !is_file(path))
            st = zb_fail(err, ZAMBA_E_NOT_FOUND, "%s is not there", name);
        if (st != ZAMBA_OK)
            return st;
    }
    return ZAMBA_OK;
}

static zamba_status find_gguf(char *path, size_t n_path, const char *snapshot, const hub_name *name, zamba_error *err)
{
    char **names = NULL, full[PATH_MAX], first[560];
    size_t n = 0;
    const char *file = name->file;
    gguf_names(snapshot, "", 0, &names, &n);
    const long at = *file ? -1 : hub_choose_gguf((const char *const *)names, n, name->quant);
    if (!*file && at >= 0)
        file = names[at];
    zamba_status st = ZAMBA_OK;
    char stem[512];
    unsigned part, parts;
    if (!*file)
        st = *name->quant ? zb_fail(err, ZAMBA_E_NOT_FOUND, "no GGUF file of %s is there", name->quant)
                          : zb_fail(err, ZAMBA_E_NOT_FOUND, "neither weights nor a GGUF file are there");
    else if (hub_split_file(file, stem, sizeof stem, &part, &parts))
        snprintf(first, sizeof first, "%s-00001-of-%05u.gguf", stem, parts);
    else
        snprintf(first, sizeof first, "%s", file);
    if (st == ZAMBA_OK)
        st = check_parts(snapshot, first, err);
    if (st == ZAMBA_OK)
        st = hub_path(full, err, snapshot, first, (char *)NULL);
    if (st == ZAMBA_OK && !is_file(full))
        st = zb_fail(err, ZAMBA_E_NOT_FOUND, "%s is not there", first);
    if (st == ZAMBA_OK && (size_t)snprintf(path, n_path, "%s", full) >= n_path)
        st = zb_fail(err, ZAMBA_E_ARG, "%s: path too long", full);
    hub_free_folder_names(names);
    return st;
}

zamba_status hub_find_in(char *path, size_t n_path, const char *snapshot, const hub_name *name, zamba_error *err)
{
    zamba_error why = {0};
    if (!*name->quant && !*name->file) {
        zamba_status st = check_folder(snapshot, &why);
        if (st == ZAMBA_OK && (size_t)snprintf(path, n_path, "%s", snapshot) >= n_path)
            return zb_fail(err, ZAMBA_E_ARG, "%s: path too long", snapshot);
        if (st == ZAMBA_OK)
            return st;
        char config[PATH_MAX];
        if (hub_path(config, err, snapshot, "config.json", (char *)NULL) == ZAMBA_OK && is_file(config)) {
            /* a repository may have GGUF files beside a config */
            if (find_gguf(path, n_path, snapshot, name, NULL) == ZAMBA_OK)
                return ZAMBA_OK;
            return zb_fail(err, st, "%s", why.message);
        }
    }
    return find_gguf(path, n_path, snapshot, name, err);
}

zamba_status hub_find(char *path, size_t n_path, const char *word, zamba_error *err)
{
    hub_name name;
    hub_store store;
    char commit[72], snapshot[PATH_MAX];
    zamba_error why = {0};
    zamba_status st = hub_name_parse(&name, word, err);
    if (st == ZAMBA_OK)
        st = hub_store_of(&store, name.repo, err);
    if (st != ZAMBA_OK)
        return st;
    if (!hub_commit_of(&store, name.revision, commit))
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "%s: not in the cache %s", word, store.cache);
    st = hub_path(snapshot, err, store.folder, "snapshots", commit, (char *)NULL);
    if (st == ZAMBA_OK)
        st = hub_find_in(path, n_path, snapshot, &name, &why);
    if (st != ZAMBA_OK)
        return zb_fail(err, st, "%s: not all of it is in the cache %s: %s", word, store.cache, why.message);
    return ZAMBA_OK;
}

bool hub_name_of_path(char *out, size_t n_out, const char *path)
{
    const char *p = strstr(path, "/models--"), *commit, *file;
    if (!p)
        return false;
    const char *org = p + 9, *two = strstr(org, "--"), *slash = strchr(org, '/');
    if (!two || !slash || two > slash || strncmp(slash, "/snapshots/", 11) != 0)
        return false;
    commit = slash + 11;
    const size_t n_commit = strcspn(commit, "/");
    char text[72] = "", quant[32] = "";
    if (n_commit >= sizeof text)
        return false;
    memcpy(text, commit, n_commit);
    if (!hub_is_commit(text))
        return false;
    file = commit + n_commit + (commit[n_commit] == '/');
    if (hub_ends_with(file, ".gguf"))
        hub_quant_of_file(quant, file);
    const int n = snprintf(out, n_out, "%.*s/%.*s%s%s", (int)(two - org), org, (int)(slash - two - 2), two + 2,
                           *quant ? ":" : "", quant);
    return n > 0 && (size_t)n < n_out;
}

/* ---- Links ---- */

/* Open (and make) the folders in front of a file's last segment, below `fd`, following no link; *last is the segment.
 */
static int walk(int fd, const char *file, const char **last)
{
    char part[256];
    for (const char *slash; (slash = strchr(file, '/')) != NULL; file = slash + 1) {
        const size_t n = (size_t)(slash - file);
        int next = -1;
        if (n < sizeof part) {
            memcpy(part, file, n);
            part[n] = 0;
            if (mkdirat(fd, part, 0777) == 0 || errno == EEXIST)
                next = openat(fd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        } else {
            errno = ENAMETOOLONG;
        }
        const int error = errno;
        close(fd);
        errno = error;
        if (next < 0)
            return -1;
        fd = next;
    }
    *last = file;
    return fd;
}

zamba_status hub_link(const hub_store *store, const char *commit, const char *file, const char *etag, zamba_error *err)
{
    char snapshot[PATH_MAX], blob[PATH_MAX], target[600], old[600], beside[64];
    const char *last = file;
    size_t at = 0;
    if (!hub_is_commit(commit) || !hub_file_name_is_safe(file))
        return zb_fail(err, ZAMBA_E_FORMAT, "'%.200s' is no name of a file that is taken", file);
    zamba_status st = hub_path(snapshot, err, store->folder, "snapshots", commit, (char *)NULL);
    if (st == ZAMBA_OK)
        st = hub_path(blob, err, store->folder, "blobs", etag, (char *)NULL);
    if (st == ZAMBA_OK)
        st = hub_make_folders(snapshot, err);
    if (st != ZAMBA_OK)
        return st;
    at = (size_t)snprintf(target, sizeof target, "../../");
    for (const char *p = file; *p && at < sizeof target; p++)
        if (*p == '/')
            at += (size_t)snprintf(target + at, sizeof target - at, "../");
    if (at < sizeof target)
        at += (size_t)snprintf(target + at, sizeof target - at, "blobs/%s", etag);
    if (at >= sizeof target)
        return zb_fail(err, ZAMBA_E_FORMAT, "'%.200s': the name is too deep", file);
    int fd = open(snapshot, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        fd = walk(fd, file, &last);
    if (fd < 0)
        return zb_fail(err, ZAMBA_E_IO, "%s/%s: %s", snapshot, file, strerror(errno));
    const ssize_t n = readlinkat(fd, last, old, sizeof old - 1);
    bool done = n > 0 && (size_t)n == strlen(target) && memcmp(old, target, (size_t)n) == 0;
    snprintf(beside, sizeof beside, ".link.%ld.tmp", (long)getpid());
    if (!done) {
        unlinkat(fd, beside, 0);
        done = symlinkat(target, fd, beside) == 0 && renameat(fd, beside, fd, last) == 0;
        /* file systems without links: the bytes themselves */
        if (!done && (errno == EPERM || errno == ENOSYS || errno == EOPNOTSUPP))
            done = renameat(AT_FDCWD, blob, fd, last) == 0;
    }
    const int error = errno;
    if (!done)
        unlinkat(fd, beside, 0);
    close(fd);
    return done ? ZAMBA_OK : zb_fail(err, ZAMBA_E_IO, "%s/%s: %s", snapshot, file, strerror(error));
}

/* ---- Locks ---- */

bool hub_lock(const hub_store *store, const char *etag, int *fd)
{
    char path[PATH_MAX], name[160];
    struct stat open_one, named;
    *fd = -1;
    snprintf(name, sizeof name, "%.131s.lock", etag);
    if (hub_make_folders(store->locks, NULL) != ZAMBA_OK || hub_path(path, NULL, store->locks, name, (char *)NULL))
        return true; /* writing will fail and say why */
    for (int tries = 0; tries < 10; tries++) {
        const int f = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (f < 0)
            return true;
        if (flock(f, LOCK_EX | LOCK_NB) != 0) {
            const bool held = errno == EWOULDBLOCK;
            close(f);
            return !held;
        }
        /* others may remove the file when they are done: then the lock is of nothing */
        if (fstat(f, &open_one) == 0 && stat(path, &named) == 0 && open_one.st_ino == named.st_ino &&
            open_one.st_dev == named.st_dev) {
            *fd = f;
            return true;
        }
        close(f);
    }
    return false;
}

void hub_unlock(int fd)
{
    if (fd >= 0)
        close(fd);
}

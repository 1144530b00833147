/* folder_out.c — see folder_out.h. Folders in it are one level deep. */
#define _XOPEN_SOURCE   700
#define _DEFAULT_SOURCE 1
#include "io/folder_out.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef zamba_status (*each_fn)(const char *folder, const char *name, void *user, zamba_error *err);

static int is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Every name in a folder that is open; not in an order that means anything. */
static zamba_status each_open(DIR *dir, const char *folder, each_fn fn, void *user, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    for (const struct dirent *e = readdir(dir); e != NULL && st == ZAMBA_OK; e = readdir(dir))
        if (!is_dot(e->d_name))
            st = fn(folder, e->d_name, user, err);
    return st;
}

static zamba_status each(const char *folder, each_fn fn, void *user, zamba_error *err)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return zb_fail(err, errno == ENOMEM ? ZAMBA_E_MEMORY : ZAMBA_E_IO, "%s: cannot open the folder: %s", folder,
                       strerror(errno));
    const zamba_status st = each_open(dir, folder, fn, user, err);
    closedir(dir);
    return st;
}

static zamba_status count_one(const char *folder, const char *name, void *user, zamba_error *err)
{
    (void)folder, (void)name, (void)err;
    ++*(size_t *)user;
    return ZAMBA_OK;
}

static zamba_status remove_one(const char *folder, const char *name, void *user, zamba_error *err)
{
    char path[4096];
    struct stat sb;
    (void)user;
    if (zb_path_join(path, sizeof path, folder, name, NULL) != ZAMBA_OK || lstat(path, &sb) != 0)
        return ZAMBA_OK;
    if (S_ISDIR(sb.st_mode)) {
        (void)each(path, remove_one, NULL, err);
        (void)rmdir(path);
    } else {
        (void)unlink(path);
    }
    return ZAMBA_OK;
}

zamba_status zb_folder_out_open(zb_folder_out *f, const char *path, int force, zamba_error *err)
{
    static atomic_uint counter;
    struct stat sb;
    size_t n_names = 0;
    *f = (zb_folder_out){0};
    const int exists = stat(path, &sb) == 0;
    if (exists && !S_ISDIR(sb.st_mode))
        return zb_fail(err, ZAMBA_E_IO, "%s: a file stands there, wanted the name of a folder (or of a .gguf file)",
                       path);
    zamba_status st = exists ? each(path, count_one, &n_names, err) : ZAMBA_OK;
    if (st == ZAMBA_OK && n_names > 0 && !force)
        st = zb_fail(err, ZAMBA_E_IO, "%s: the folder has files in it (--force writes beside and over them)", path);
    if (st != ZAMBA_OK)
        return st;
    f->merge = n_names > 0;
    f->path = exists ? realpath(path, NULL) : strdup(path);
    size_t n = f->path != NULL ? strlen(f->path) : 0;
    while (n > 1 && f->path[n - 1] == '/') /* "out/": beside it, not in it */
        f->path[--n] = '\0';
    f->tmp = malloc(n + 48);
    if (f->path == NULL || f->tmp == NULL) {
        st = zb_fail_memory(err, path, n + 48);
        free(f->tmp);
        free(f->path);
        *f = (zb_folder_out){0};
        return st;
    }
    int made = -1;
    for (int tries = 0; made != 0 && tries < 100; tries++) {
        snprintf(f->tmp, n + 48, "%s.tmp-%ld-%u", f->path, (long)getpid(), atomic_fetch_add(&counter, 1));
        made = mkdir(f->tmp, 0777);
        if (made != 0 && errno != EEXIST)
            break;
    }
    f->dir = made == 0 ? opendir(f->tmp) : NULL;
    if (f->dir != NULL)
        return ZAMBA_OK;
    st = zb_fail(err, errno == ENOMEM ? ZAMBA_E_MEMORY : ZAMBA_E_IO, "%s: cannot create a folder beside it: %s", path,
                 strerror(errno));
    if (made == 0)
        (void)rmdir(f->tmp);
    free(f->tmp);
    f->tmp = NULL;
    zb_folder_out_discard(f);
    return st;
}

/* ---- joining files that are there ---- */

typedef struct join {
    const char *to, *tmp;
    const char *const *owned;
} join;

static int is_weights(const char *name)
{
    static const char end[] = ".safetensors", index[] = "model.safetensors.index.json";
    const size_t n = strlen(name), m = sizeof end - 1;
    return strcmp(name, index) == 0 || (strncmp(name, "model", 5) == 0 && n >= m && strcmp(name + n - m, end) == 0);
}

static zamba_status remove_stale(const char *folder, const char *name, void *user, zamba_error *err)
{
    const join *j = user;
    char path[4096];
    int ours = is_weights(name);
    for (size_t i = 0; j->owned[i] != NULL && !ours; i++)
        ours = strcmp(name, j->owned[i]) == 0;
    zamba_status st = ours ? zb_path_join(path, sizeof path, j->tmp, name, err) : ZAMBA_OK;
    if (!ours || st != ZAMBA_OK || zb_file_exists(path))
        return st;
    st = zb_path_join(path, sizeof path, folder, name, err);
    if (st == ZAMBA_OK && unlink(path) != 0 && errno != ENOENT)
        st = zb_fail(err, ZAMBA_E_IO, "%s: cannot remove: %s", path, strerror(errno));
    return st;
}

static zamba_status move_one(const char *folder, const char *name, void *user, zamba_error *err)
{
    char from[4096], to[4096];
    struct stat sb;
    const join *j = user;
    zamba_status st = zb_path_join(from, sizeof from, folder, name, err);
    if (st == ZAMBA_OK)
        st = zb_path_join(to, sizeof to, j->to, name, err);
    if (st != ZAMBA_OK)
        return st;
    if (lstat(from, &sb) == 0 && S_ISDIR(sb.st_mode)) {
        const join inner = {.to = to};
        if (mkdir(to, 0777) != 0 && errno != EEXIST)
            return zb_fail(err, ZAMBA_E_IO, "%s: cannot create: %s", to, strerror(errno));
        return each(from, move_one, (void *)&inner, err);
    }
    return rename(from, to) == 0 ? ZAMBA_OK
                                 : zb_fail(err, ZAMBA_E_IO, "%s: cannot move into place: %s", to, strerror(errno));
}

zamba_status zb_folder_out_commit(zb_folder_out *f, const char *const *owned, zamba_error *err)
{
    join j = {f->path, f->tmp, owned};
    zamba_status st = ZAMBA_OK;
    if (f->merge) {
        st = each(f->path, remove_stale, &j, err);
        if (st == ZAMBA_OK)
            st = each(f->tmp, move_one, &j, err);
    } else if (rename(f->tmp, f->path) != 0) { /* an empty folder may be there */
        st = zb_fail(err, ZAMBA_E_IO, "%s: cannot rename into place: %s", f->path, strerror(errno));
    }
    zb_folder_out_discard(f);
    return st;
}

void zb_folder_out_discard(zb_folder_out *f)
{
    struct stat sb;
    if (f->dir != NULL && lstat(f->tmp, &sb) == 0) { /* it has not taken its place */
        rewinddir(f->dir);
        (void)each_open(f->dir, f->tmp, remove_one, NULL, NULL);
        (void)rmdir(f->tmp);
    }
    if (f->dir != NULL)
        closedir(f->dir);
    free(f->tmp);
    free(f->path);
    *f = (zb_folder_out){0};
}

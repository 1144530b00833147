/* run_checkpoints.c — see run_checkpoints.h: checkpoints are saved beside and renamed, so that what bears the name of
 * one is whole; the last few are kept, and found again. */
#define _XOPEN_SOURCE   700
#define _DEFAULT_SOURCE 1
#include "train/run_checkpoints.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mem.h"
#include "io/folder_out.h"
#include "zamba_train.h"

#define FOLDER     "checkpoint-"
#define LATEST     "latest"
#define MOST_NAMES 100000

/* ---- names in a run's folder ---- */

/* The step of "checkpoint-000123", or -1. */
static int64_t step_of(const char *name)
{
    int64_t step = 0;
    if (strncmp(name, FOLDER, sizeof FOLDER - 1) != 0)
        return -1;
    const char *p = name + sizeof FOLDER - 1;
    if (strlen(p) < 6 || strlen(p) > 18)
        return -1;
    for (; *p >= '0' && *p <= '9'; p++)
        step = 10 * step + (*p - '0');
    return *p == '\0' ? step : -1;
}

/* What a save that was killed left: "checkpoint-000123.tmp-4711-0", "checkpoint-000123.old". */
static int is_remnant(const char *name)
{
    const char *dot = strchr(name, '.');
    return strncmp(name, FOLDER, sizeof FOLDER - 1) == 0 && dot != NULL &&
           (strncmp(dot, ".tmp-", 5) == 0 || strcmp(dot, ".old") == 0);
}

static void remove_folder(const char *path)
{
    char inner[4096];
    struct stat sb;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return;
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            zb_path_join(inner, sizeof inner, path, e->d_name, NULL) != ZAMBA_OK || lstat(inner, &sb) != 0)
            continue;
        if (S_ISDIR(sb.st_mode))
            remove_folder(inner);
        else
            (void)unlink(inner);
    }
    closedir(dir);
    (void)rmdir(path);
}

/* A checkpoint goes: under another name first, so that half of one never bears the name of a whole one. */
static zamba_status retire(const char *path, zamba_error *err)
{
    char old[4096];
    struct stat sb;
    if (lstat(path, &sb) != 0)
        return ZAMBA_OK;
    if ((size_t)snprintf(old, sizeof old, "%s.old", path) >= sizeof old)
        return zb_fail(err, ZAMBA_E_ARG, "%s: path too long", path);
    remove_folder(old);
    if (rename(path, old) != 0)
        return zb_fail(err, ZAMBA_E_IO, "%s: cannot be moved away: %s", path, strerror(errno));
    remove_folder(old);
    return ZAMBA_OK;
}

static int by_step(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* The steps of all checkpoints of a run, the last first; *steps is released with free(). */
static zamba_status list_steps(const char *run, int64_t **steps, size_t *n, zamba_error *err)
{
    size_t room = 0;
    zamba_status st = ZAMBA_OK;
    DIR *dir = opendir(run);
    *steps = NULL;
    *n = 0;
    if (dir == NULL)
        return errno == ENOENT ? ZAMBA_OK
                               : zb_fail(err, ZAMBA_E_IO, "%s: cannot open the folder: %s", run, strerror(errno));
    for (const struct dirent *e = readdir(dir); e != NULL && st == ZAMBA_OK && *n < MOST_NAMES; e = readdir(dir)) {
        const int64_t step = step_of(e->d_name);
        if (step < 0)
            continue;
        if (*n == room) {
            room = room > 0 ? 2 * room : 16;
            int64_t *larger = realloc(*steps, room * sizeof *larger);
            if (larger == NULL) {
                st = zb_fail_memory(err, run, room * sizeof *larger);
                break;
            }
            *steps = larger;
        }
        (*steps)[(*n)++] = step;
    }
    closedir(dir);
    if (*n > 1)
        qsort(*steps, *n, sizeof **steps, by_step);
    return st;
}

static zamba_status folder_of(char *path, size_t n, const char *run, int64_t step, zamba_error *err)
{
    char name[48];
    snprintf(name, sizeof name, FOLDER "%06lld", (long long)step);
    return zb_path_join(path, n, run, name, err);
}

/* Remove all but the last `keep` checkpoints up to this step, and what killed saves left. What fails may stay. */
static void tidy(const char *run, int64_t step, int32_t keep)
{
    char path[4096];
    int64_t *steps = NULL;
    size_t n = 0;
    int32_t kept = 0;
    if (keep > 0 && list_steps(run, &steps, &n, NULL) == ZAMBA_OK)
        for (size_t i = 0; i < n; i++)
            if (steps[i] <= step && ++kept > keep && folder_of(path, sizeof path, run, steps[i], NULL) == ZAMBA_OK)
                (void)retire(path, NULL);
    free(steps);
    DIR *dir = opendir(run);
    for (const struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir))
        if (is_remnant(e->d_name) && zb_path_join(path, sizeof path, run, e->d_name, NULL) == ZAMBA_OK)
            remove_folder(path);
    if (dir != NULL)
        closedir(dir);
}

static void sync_folder(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd);
    close(fd);
}

/* ---- saving ---- */

static zamba_status write_new(const zb_run_save *s, const char *folder, zamba_error *err)
{
    zb_folder_out out = {0};
    zamba_status st = retire(folder, err); /* of an earlier life of this run, which went on from before it */
    if (st == ZAMBA_OK)
        st = zb_file_room(s->run, s->bytes, err);
    if (st == ZAMBA_OK)
        st = zb_folder_out_open(&out, folder, 0, err);
    if (st == ZAMBA_OK)
        st = s->write(s->user, out.tmp, err);
    if (st == ZAMBA_OK) {
        sync_folder(out.tmp);
        st = zb_folder_out_commit(&out, s->owned, err);
    }
    zb_folder_out_discard(&out);
    if (st == ZAMBA_OK)
        sync_folder(s->run);
    return st;
}

zamba_status zb_run_checkpoint(const zb_run_save *s, char **saved, char **path, zamba_error *err)
{
    char folder[4096], latest[4096];
    struct stat sb;
    zamba_status st = folder_of(folder, sizeof folder, s->run, s->step, err);
    if (st == ZAMBA_OK)
        st = zb_path_join(latest, sizeof latest, s->run, LATEST, err);
    if (st == ZAMBA_OK && mkdir(s->run, 0777) != 0 && errno != EEXIST)
        st = zb_fail(err, ZAMBA_E_IO, "%s: cannot create the folder: %s", s->run, strerror(errno));
    if (st == ZAMBA_OK && (*saved == NULL || strcmp(*saved, folder) != 0 || stat(folder, &sb) != 0))
        st = write_new(s, folder, err);
    if (st == ZAMBA_OK) {
        free(*saved);
        *saved = strdup(folder); /* without memory for it the step is only saved twice */
        const char *name = strrchr(folder, '/') + 1;
        st = zb_file_write(latest, (zb_file_part[]){{name, strlen(name)}, {"\n", 1}}, 2, err);
    }
    if (st == ZAMBA_OK)
        tidy(s->run, s->step, s->keep);
    if (st == ZAMBA_OK && path != NULL) {
        *path = strdup(folder);
        if (*path == NULL)
            st = zb_fail_memory(err, folder, strlen(folder));
    }
    return st;
}

/* ---- finding ---- */

/* It was renamed when it was whole; this only guards against what others do to folders. */
static int is_whole(const char *folder)
{
    static const char *const files[] = {ZB_RUN_STATE, ZB_RUN_OPTIMIZER, "config.json", "adapter_config.json"};
    char path[4096];
    int there[4];
    for (size_t i = 0; i < 4; i++)
        there[i] = zb_path_join(path, sizeof path, folder, files[i], NULL) == ZAMBA_OK && zb_file_exists(path);
    return there[0] && there[1] && (there[2] || there[3]);
}

zamba_status zamba_train_latest(const char *run, char **path, zamba_error *err)
{
    char at[4096];
    zb_buf text = {0};
    int64_t *steps = NULL;
    size_t n = 0;
    int found = 0;
    *path = NULL;
    zamba_status st = zb_path_join(at, sizeof at, run, LATEST, err);
    if (st != ZAMBA_OK)
        return st;
    if (zb_file_exists(at) && zb_file_read(&text, at, 4096, NULL) == ZAMBA_OK && text.data != NULL) {
        text.data[strcspn(text.data, "\r\n")] = '\0';
        found =
            step_of(text.data) >= 0 && zb_path_join(at, sizeof at, run, text.data, NULL) == ZAMBA_OK && is_whole(at);
    }
    zb_buf_free(&text);
    if (!found)
        st = list_steps(run, &steps, &n, err);
    for (size_t i = 0; i < n && !found; i++)
        found = folder_of(at, sizeof at, run, steps[i], NULL) == ZAMBA_OK && is_whole(at);
    free(steps);
    if (st == ZAMBA_OK && !found)
        return zb_fail(err, ZAMBA_E_NOT_FOUND, "%s: no checkpoint is in it", run);
    if (st == ZAMBA_OK) {
        *path = strdup(at);
        if (*path == NULL)
            st = zb_fail_memory(err, at, strlen(at));
    }
    return st;
}

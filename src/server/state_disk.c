/* state_disk.c — the index of the cache's folder. What a file holds is checked when it is read: by the library, and
 * here that it is of the tokens that were looked for. */
#include "state_disk.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "engine_impl.h"

#define SUFFIX       ".zcache"
#define MOST_PENDING 4
#define CLOSING_S    20.0

typedef struct entry {
    uint64_t hash, bytes, used;
    size_t n;
} entry;

struct sv_disk {
    char *folder;
    uint64_t limit, bytes, fingerprint, clock;
    sv_errands *errands;
    pthread_mutex_t lock;
    entry *entries;
    size_t n, capacity, pending;
    double give_up; /* of sv_disk_put_now; 0: not begun */
};

static uint64_t hash_on(uint64_t h, int32_t id)
{
    h = (h ^ (uint32_t)id) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static uint64_t hash_of(const int32_t *ids, size_t n)
{
    uint64_t h = 0x2545F4914F6CDD1Du;
    for (size_t i = 0; i < n; i++)
        h = hash_on(h, ids[i]);
    return h;
}

static int path_of(const sv_disk *d, uint64_t hash, size_t n, char *path, size_t size)
{
    const int got =
        snprintf(path, size, "%s/%016" PRIx64 "-%016" PRIx64 "-%zu" SUFFIX, d->folder, d->fingerprint, hash, n);
    return got > 0 && (size_t)got < size;
}

/* ---- the index, under the lock ---- */

static size_t index_of(const sv_disk *d, uint64_t hash, size_t n)
{
    size_t i = 0;
    while (i < d->n && !(d->entries[i].hash == hash && d->entries[i].n == n))
        i++;
    return i;
}

static int add_entry(sv_disk *d, entry e)
{
    if (d->n == d->capacity) {
        const size_t capacity = d->capacity > 0 ? 2 * d->capacity : 64;
        entry *p = realloc(d->entries, capacity * sizeof *p);
        if (p == NULL)
            return 0;
        d->entries = p;
        d->capacity = capacity;
    }
    d->entries[d->n++] = e;
    d->bytes += e.bytes;
    return 1;
}

static void drop_entry(sv_disk *d, size_t i)
{
    char path[4096];
    if (path_of(d, d->entries[i].hash, d->entries[i].n, path, sizeof path))
        unlink(path);
    d->bytes -= d->entries[i].bytes;
    d->entries[i] = d->entries[--d->n];
}

static void make_room(sv_disk *d)
{
    while (d->bytes > d->limit && d->n > 0) {
        size_t oldest = 0;
        for (size_t i = 1; i < d->n; i++)
            if (d->entries[i].used < d->entries[oldest].used)
                oldest = i;
        drop_entry(d, oldest);
    }
}

/* ---- opening ---- */

static int is_newer(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return x->used < y->used ? -1 : x->used > y->used;
}

static void take_up(sv_disk *d, const char *name)
{
    uint64_t fingerprint, hash;
    size_t n;
    char path[4096];
    struct stat st;
    int end = 0;
    if (sscanf(name, "%16" SCNx64 "-%16" SCNx64 "-%zu" SUFFIX "%n", &fingerprint, &hash, &n, &end) != 3 || end == 0 ||
        name[end] != '\0' || fingerprint != d->fingerprint || !path_of(d, hash, n, path, sizeof path))
        return;
    const char *own = strrchr(path, '/') + 1;
    if (strcmp(own, name) == 0 && stat(path, &st) == 0 && S_ISREG(st.st_mode))
        add_entry(d, (entry){hash, (uint64_t)st.st_size, (uint64_t)st.st_mtime, n});
}

zamba_status sv_disk_open(sv_disk **out, const char *folder, uint64_t bytes, uint64_t fingerprint, sv_errands *errands,
                          zamba_error *err)
{
    *out = NULL;
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return sv_fail(err, ZAMBA_E_IO, "%s: %s", folder, strerror(errno));
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return sv_fail(err, ZAMBA_E_IO, "%s: %s", folder, strerror(errno));
    sv_disk *d = calloc(1, sizeof *d);
    char *copy = strdup(folder);
    if (d == NULL || copy == NULL || pthread_mutex_init(&d->lock, NULL) != 0) {
        free(d);
        free(copy);
        closedir(dir);
        return sv_fail(err, ZAMBA_E_MEMORY, "state cache: out of memory");
    }
    d->folder = copy;
    d->limit = bytes;
    d->fingerprint = fingerprint;
    d->errands = errands;
    for (const struct dirent *f; (f = readdir(dir)) != NULL;)
        take_up(d, f->d_name);
    closedir(dir);
    if (d->n > 0)
        qsort(d->entries, d->n, sizeof *d->entries, is_newer);
    for (size_t i = 0; i < d->n; i++)
        d->entries[i].used = d->clock++;
    make_room(d);
    *out = d;
    return ZAMBA_OK;
}

void sv_disk_close(sv_disk *d)
{
    if (d == NULL)
        return;
    pthread_mutex_destroy(&d->lock);
    free(d->entries);
    free(d->folder);
    free(d);
}

/* ---- writing ---- */

static void write_state(sv_disk *d, const zamba_sequence *s)
{
    const size_t n = zamba_sequence_length(s);
    const uint64_t hash = hash_of(zamba_sequence_tokens(s), n);
    char path[4096];
    struct stat st;
    if (!path_of(d, hash, n, path, sizeof path))
        return;
    pthread_mutex_lock(&d->lock);
    const int known = index_of(d, hash, n) < d->n || zamba_sequence_bytes(s) / 2 > d->limit;
    pthread_mutex_unlock(&d->lock);
    if (known || zamba_sequence_save_file(s, path, NULL) != ZAMBA_OK || stat(path, &st) != 0)
        return;
    pthread_mutex_lock(&d->lock);
    if (!add_entry(d, (entry){hash, (uint64_t)st.st_size, ++d->clock, n}))
        unlink(path);
    make_room(d);
    pthread_mutex_unlock(&d->lock);
}

typedef struct parcel {
    sv_disk *d;
    zamba_sequence *s;
} parcel;

static void carry(void *arg)
{
    parcel *p = arg;
    write_state(p->d, p->s);
    zamba_sequence_close(p->s);
    pthread_mutex_lock(&p->d->lock);
    p->d->pending--;
    pthread_mutex_unlock(&p->d->lock);
    free(p);
}

void sv_disk_put(sv_disk *d, zamba_sequence *s)
{
    parcel *p = malloc(sizeof *p);
    pthread_mutex_lock(&d->lock);
    const int taken = p != NULL && d->pending < MOST_PENDING;
    d->pending += (size_t)taken;
    pthread_mutex_unlock(&d->lock);
    if (taken) {
        *p = (parcel){d, s};
        if (sv_errands_add(d->errands, carry, p))
            return;
        pthread_mutex_lock(&d->lock);
        d->pending--;
        pthread_mutex_unlock(&d->lock);
    }
    free(p);
    zamba_sequence_close(s);
}

void sv_disk_put_now(sv_disk *d, zamba_sequence *s)
{
    pthread_mutex_lock(&d->lock);
    if (d->give_up == 0)
        d->give_up = sv_now() + CLOSING_S;
    const int room = d->bytes < d->limit && sv_now() < d->give_up;
    pthread_mutex_unlock(&d->lock);
    if (room)
        write_state(d, s);
    zamba_sequence_close(s);
}

/* ---- reading ---- */

size_t sv_disk_find(sv_disk *d, const int32_t *ids, size_t n, size_t least)
{
    uint64_t h = hash_of(NULL, 0);
    size_t found = 0, longest = 0;
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->n; i++)
        if (d->entries[i].n < n && d->entries[i].n > longest)
            longest = d->entries[i].n;
    unsigned char *lengths = longest > least ? calloc(longest + 1, 1) : NULL;
    for (size_t i = 0; i < d->n && lengths != NULL; i++)
        if (d->entries[i].n <= longest)
            lengths[d->entries[i].n] = 1;
    for (size_t k = 1; lengths != NULL && k <= longest; k++) {
        h = hash_on(h, ids[k - 1]);
        if (k > least && lengths[k] && index_of(d, h, k) < d->n)
            found = k;
    }
    pthread_mutex_unlock(&d->lock);
    free(lengths);
    return found;
}

zamba_status sv_disk_get(sv_disk *d, const int32_t *ids, size_t n, zamba_sequence *s, zamba_error *err)
{
    const uint64_t hash = hash_of(ids, n);
    char path[4096];
    if (!path_of(d, hash, n, path, sizeof path))
        return sv_fail(err, ZAMBA_E_NOT_FOUND, "state cache: the folder's name is too long");
    zamba_status st = zamba_sequence_load_file(s, path, err);
    if (st == ZAMBA_OK &&
        (zamba_sequence_length(s) != n || memcmp(zamba_sequence_tokens(s), ids, n * sizeof *ids) != 0))
        st = sv_fail(err, ZAMBA_E_MISMATCH, "%s: not of the tokens that its name says", path);
    pthread_mutex_lock(&d->lock);
    const size_t i = index_of(d, hash, n);
    if (i < d->n && st == ZAMBA_OK)
        d->entries[i].used = ++d->clock;
    else if (i < d->n && st != ZAMBA_E_MEMORY)
        drop_entry(d, i);
    pthread_mutex_unlock(&d->lock);
    return st;
}

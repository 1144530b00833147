/* state_store.c — the list of saved states, their files, and the calls of engine.h about them. */
#include "state_store.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine_impl.h"
#include "random_id.h"
#include "state_behind.h"

#define SUFFIX   ".zstate"
#define ID_CHARS 32

typedef struct saved {
    sv_state_info info;
    zamba_sequence *seq; /* in memory, or NULL: in its file                     */
    uint64_t version;    /* which of the states that had this id               */
} saved;

struct sv_store {
    char *folder; /* or NULL */
    uint64_t limit, bytes, fingerprint, version;
    sv_errands *errands;
    pthread_mutex_t lock;
    saved *items;
    size_t n, capacity;
};

int sv_store_is_id(const char *id)
{
    return id != NULL && strlen(id) == ID_CHARS && strspn(id, "0123456789abcdef") == ID_CHARS;
}

static zamba_status make_id(char id[ID_CHARS + 1], zamba_error *err)
{
    return sv_random_id(id, ID_CHARS / 2) ? ZAMBA_OK
                                          : sv_fail(err, ZAMBA_E_IO, "saved state: the system has no random bytes");
}

static int path_of(const sv_store *x, const char *id, size_t n, char *path, size_t size)
{
    const int got = snprintf(path, size, "%s/%s-%zu-%016" PRIx64 SUFFIX, x->folder, id, n, x->fingerprint);
    return got > 0 && (size_t)got < size;
}

static zamba_status unknown(const char *id, zamba_error *err)
{
    return sv_fail(err, ZAMBA_E_NOT_FOUND, "saved state %.*s: there is none of this id", ID_CHARS, id);
}

/* ---- the list, under the lock ---- */

static saved *find(const sv_store *x, const char *id)
{
    for (size_t i = 0; i < x->n; i++)
        if (strcmp(x->items[i].info.id, id) == 0)
            return &x->items[i];
    return NULL;
}

static saved *add(sv_store *x)
{
    if (x->n == x->capacity) {
        const size_t capacity = x->capacity > 0 ? 2 * x->capacity : 16;
        saved *p = realloc(x->items, capacity * sizeof *p);
        if (p == NULL)
            return NULL;
        x->items = p;
        x->capacity = capacity;
    }
    x->items[x->n] = (saved){0};
    return &x->items[x->n++];
}

/* Hands the sequence out, if it is in memory, to be closed. */
static zamba_sequence *take_out(sv_store *x, saved *s)
{
    zamba_sequence *seq = s->seq;
    char path[4096];
    if (seq == NULL && path_of(x, s->info.id, s->info.n_tokens, path, sizeof path))
        unlink(path);
    x->bytes -= s->info.bytes;
    *s = x->items[--x->n];
    return seq;
}

/* ---- opening ---- */

static void take_up(sv_store *x, const char *name)
{
    sv_state_info info = {0};
    char path[4096];
    struct stat st;
    if (strlen(name) < ID_CHARS + 2 || name[ID_CHARS] != '-')
        return;
    memcpy(info.id, name, ID_CHARS);
    info.n_tokens = (size_t)strtoull(name + ID_CHARS + 1, NULL, 10);
    if (!sv_store_is_id(info.id) || !path_of(x, info.id, info.n_tokens, path, sizeof path) ||
        strcmp(strrchr(path, '/') + 1, name) != 0 || stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return;
    info.bytes = (uint64_t)st.st_size;
    info.created = (int64_t)st.st_mtime;
    saved *s = find(x, info.id) == NULL ? add(x) : NULL;
    if (s != NULL) {
        s->info = info;
        x->bytes += info.bytes;
    }
}

zamba_status sv_store_open(sv_store **out, const char *folder, uint64_t bytes, uint64_t fingerprint,
                           sv_errands *errands, zamba_error *err)
{
    *out = NULL;
    sv_store *x = calloc(1, sizeof *x);
    if (x == NULL || pthread_mutex_init(&x->lock, NULL) != 0) {
        free(x);
        return sv_fail(err, ZAMBA_E_MEMORY, "saved states: out of memory");
    }
    x->limit = bytes;
    x->fingerprint = fingerprint;
    x->errands = errands;
    zamba_status st = ZAMBA_OK;
    DIR *dir = NULL;
    if (folder != NULL) {
        x->folder = strdup(folder);
        if (x->folder == NULL)
            st = sv_fail(err, ZAMBA_E_MEMORY, "saved states: out of memory");
        else if ((mkdir(folder, 0700) != 0 && errno != EEXIST) || (dir = opendir(folder)) == NULL)
            st = sv_fail(err, ZAMBA_E_IO, "%s: %s", folder, strerror(errno));
    }
    if (st != ZAMBA_OK) {
        sv_store_close(x);
        return st;
    }
    for (const struct dirent *f; dir != NULL && (f = readdir(dir)) != NULL;)
        take_up(x, f->d_name);
    if (dir != NULL)
        closedir(dir);
    *out = x;
    return ZAMBA_OK;
}

void sv_store_close(sv_store *x)
{
    if (x == NULL)
        return;
    for (size_t i = 0; i < x->n; i++)
        zamba_sequence_close(x->items[i].seq);
    free(x->items);
    free(x->folder);
    pthread_mutex_destroy(&x->lock);
    free(x);
}

/* ---- in ---- */

typedef struct parcel {
    sv_store *x;
    char id[40];
    uint64_t version;
} parcel;

/* Write the file of a state and let its memory go, unless it has gone or was replaced meanwhile. */
static void carry(void *arg)
{
    parcel *p = arg;
    sv_store *x = p->x;
    zamba_sequence *copy = NULL, *done = NULL;
    char path[4096];
    struct stat st;
    size_t n = 0;
    pthread_mutex_lock(&x->lock);
    saved *s = find(x, p->id);
    if (s != NULL && s->version == p->version && s->seq != NULL) {
        n = s->info.n_tokens;
        if (zamba_sequence_fork(&copy, s->seq, NULL) != ZAMBA_OK)
            copy = NULL;
    }
    pthread_mutex_unlock(&x->lock);
    const int written = copy != NULL && path_of(x, p->id, n, path, sizeof path) &&
                        zamba_sequence_save_file(copy, path, NULL) == ZAMBA_OK && stat(path, &st) == 0;
    pthread_mutex_lock(&x->lock);
    s = find(x, p->id);
    if (written && s != NULL && s->version == p->version && s->seq != NULL) {
        x->bytes = x->bytes - s->info.bytes + (uint64_t)st.st_size;
        s->info.bytes = (uint64_t)st.st_size;
        done = s->seq;
        s->seq = NULL;
    } else if (written && (s == NULL || s->info.n_tokens != n)) {
        unlink(path);
    }
    pthread_mutex_unlock(&x->lock);
    zamba_sequence_close(copy);
    zamba_sequence_close(done);
    free(p);
}

zamba_status sv_store_put(sv_store *x, zamba_sequence *seq, const char *id, char out[40], zamba_error *err)
{
    const uint64_t bytes = zamba_sequence_bytes(seq);
    zamba_sequence *old = NULL;
    parcel *p = x->folder != NULL ? malloc(sizeof *p) : NULL;
    zamba_status st = ZAMBA_OK;
    saved *s = NULL;
    out[0] = '\0';
    if (id == NULL)
        st = make_id(out, err);
    else if (!sv_store_is_id(id))
        st = sv_fail(err, ZAMBA_E_ARG, "saved state: an id has %d characters 0-9a-f", ID_CHARS);
    else
        memcpy(out, id, ID_CHARS + 1);
    if (st != ZAMBA_OK) {
        zamba_sequence_close(seq);
        free(p);
        out[0] = '\0';
        return st;
    }
    pthread_mutex_lock(&x->lock);
    saved *before = find(x, out);
    const uint64_t others = x->bytes - (before != NULL ? before->info.bytes : 0);
    if (others + bytes > x->limit) {
        st = sv_fail(err, ZAMBA_E_MEMORY,
                     "saved states: %.1f MiB more do not fit, there are %.1f of at most %.1f MiB "
                     "(drop some?)",
                     (double)bytes / 1048576, (double)others / 1048576, (double)x->limit / 1048576);
    } else {
        if (before != NULL)
            old = take_out(x, before);
        s = add(x);
        if (s == NULL)
            st = sv_fail(err, ZAMBA_E_MEMORY, "saved states: out of memory");
    }
    if (st == ZAMBA_OK) {
        memcpy(s->info.id, out, ID_CHARS + 1);
        s->info.n_tokens = zamba_sequence_length(seq);
        s->info.bytes = bytes;
        s->info.created = (int64_t)time(NULL);
        s->seq = seq;
        s->version = ++x->version;
        x->bytes += bytes;
        if (p != NULL) {
            *p = (parcel){.x = x, .version = s->version};
            memcpy(p->id, out, ID_CHARS + 1);
        }
    }
    pthread_mutex_unlock(&x->lock);
    zamba_sequence_close(old);
    if (st != ZAMBA_OK) {
        zamba_sequence_close(seq);
        free(p);
        out[0] = '\0';
        return st;
    }
    if (p != NULL && !sv_errands_add(x->errands, carry, p))
        free(p); /* it stays in memory */
    return ZAMBA_OK;
}

/* ---- out ---- */

zamba_status sv_store_find(sv_store *x, const char *id, size_t *n_tokens, zamba_error *err)
{
    pthread_mutex_lock(&x->lock);
    const saved *s = sv_store_is_id(id) ? find(x, id) : NULL;
    *n_tokens = s != NULL ? s->info.n_tokens : 0;
    pthread_mutex_unlock(&x->lock);
    return s != NULL ? ZAMBA_OK : unknown(id, err);
}

zamba_status sv_store_get(sv_store *x, const char *id, zamba_sequence **out, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    *out = NULL;
    pthread_mutex_lock(&x->lock);
    const saved *s = sv_store_is_id(id) ? find(x, id) : NULL;
    if (s == NULL)
        st = unknown(id, err);
    else if (s->seq != NULL)
        st = zamba_sequence_fork(out, s->seq, err);
    pthread_mutex_unlock(&x->lock);
    return st;
}

zamba_status sv_store_read(sv_store *x, const char *id, zamba_sequence *s, zamba_error *err)
{
    char path[4096];
    size_t n;
    zamba_status st = sv_store_find(x, id, &n, err);
    if (st == ZAMBA_OK && (x->folder == NULL || !path_of(x, id, n, path, sizeof path)))
        st = unknown(id, err);
    if (st == ZAMBA_OK)
        st = zamba_sequence_load_file(s, path, err);
    if (st != ZAMBA_OK && err != NULL && x->folder != NULL) {
        /* the folder is nobody's business */
        const zamba_error inner = *err;
        const char *at = strstr(inner.message, SUFFIX);
        sv_fail(err, st, "saved state %s%s", id, at != NULL ? at + strlen(SUFFIX) : ": cannot be read");
    }
    return st;
}

zamba_status sv_store_drop(sv_store *x, const char *id, zamba_error *err)
{
    zamba_sequence *old = NULL;
    pthread_mutex_lock(&x->lock);
    saved *s = sv_store_is_id(id) ? find(x, id) : NULL;
    const int there = s != NULL;
    if (there)
        old = take_out(x, s);
    pthread_mutex_unlock(&x->lock);
    zamba_sequence_close(old);
    return there ? ZAMBA_OK : unknown(id, err);
}

zamba_status sv_store_list(sv_store *x, sv_state_info **list, size_t *n, zamba_error *err)
{
    pthread_mutex_lock(&x->lock);
    *n = x->n;
    *list = malloc((x->n > 0 ? x->n : 1) * sizeof **list);
    for (size_t i = 0; *list != NULL && i < x->n; i++)
        (*list)[i] = x->items[i].info;
    pthread_mutex_unlock(&x->lock);
    if (*list != NULL)
        return ZAMBA_OK;
    *n = 0;
    return sv_fail(err, ZAMBA_E_MEMORY, "saved states: out of memory");
}

void sv_store_count(sv_store *x, uint64_t *n, uint64_t *bytes)
{
    pthread_mutex_lock(&x->lock);
    *n = x->n;
    *bytes = x->bytes;
    pthread_mutex_unlock(&x->lock);
}

/* ---- the calls of engine.h ---- */

/* A sequence of its own with the saved state. */
static zamba_status fetch(sv_engine *e, const char *id, zamba_sequence **out, zamba_error *err)
{
    zamba_status st = sv_store_get(e->store, id, out, err);
    if (st != ZAMBA_OK || *out != NULL)
        return st;
    st = zamba_sequence_fork(out, e->root, err);
    if (st == ZAMBA_OK)
        st = sv_store_read(e->store, id, *out, err);
    if (st != ZAMBA_OK) {
        zamba_sequence_close(*out);
        *out = NULL;
    }
    return st;
}

zamba_status sv_state_export(sv_engine *e, const char *id, void **data, size_t *n_bytes, zamba_error *err)
{
    zamba_sequence *s;
    *data = NULL;
    *n_bytes = 0;
    zamba_status st = fetch(e, id, &s, err);
    if (st == ZAMBA_OK)
        st = zamba_sequence_save(s, data, n_bytes, err);
    zamba_sequence_close(s);
    return st;
}

/* Around what changes the meaning of an id: see there. */
static void forget_behind(sv_engine *e)
{
    if (e->behind != NULL)
        sv_behind_forget(e->behind);
}

zamba_status sv_state_import_as(sv_engine *e, const char *id, const void *data, size_t n_bytes, char out[40],
                                zamba_error *err)
{
    zamba_sequence *s;
    out[0] = '\0';
    zamba_status st = zamba_sequence_fork(&s, e->root, err);
    if (st != ZAMBA_OK)
        return st;
    st = zamba_sequence_load(s, data, n_bytes, err);
    if (st != ZAMBA_OK) {
        zamba_sequence_close(s);
        return st;
    }
    if (id != NULL)
        forget_behind(e);
    st = sv_store_put(e->store, s, id, out, err);
    if (id != NULL)
        forget_behind(e);
    return st;
}

zamba_status sv_state_import(sv_engine *e, const void *data, size_t n_bytes, char id[40], zamba_error *err)
{
    return sv_state_import_as(e, NULL, data, n_bytes, id, err);
}

zamba_status sv_state_fork(sv_engine *e, const char *id, char new_id[40], zamba_error *err)
{
    zamba_sequence *s;
    new_id[0] = '\0';
    const zamba_status st = fetch(e, id, &s, err);
    return st == ZAMBA_OK ? sv_store_put(e->store, s, NULL, new_id, err) : st;
}

zamba_status sv_state_drop(sv_engine *e, const char *id, zamba_error *err)
{
    forget_behind(e);
    const zamba_status st = sv_store_drop(e->store, id, err);
    forget_behind(e);
    return st;
}

zamba_status sv_state_list(sv_engine *e, sv_state_info **list, size_t *n, zamba_error *err)
{
    return sv_store_list(e->store, list, n, err);
}

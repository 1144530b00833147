/* state_behind.c — a short list, the newest last. Bytes are counted as the cache counts them: what a state adds to all
 * others is what it has beyond the most it shares with any one of them. */
#include "state_behind.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state_cache.h"

#define MOST 64

typedef struct entry {
    char id[40];
    zamba_sequence *s;
    uint64_t key;
} entry;

struct sv_behind {
    pthread_mutex_t lock;
    uint64_t most, bytes, epoch;
    entry list[MOST];
    size_t n;
};

sv_behind *sv_behind_open(uint64_t bytes)
{
    sv_behind *b = calloc(1, sizeof *b);
    if (b == NULL)
        return NULL;
    b->most = bytes;
    pthread_mutex_init(&b->lock, NULL);
    return b;
}

static uint64_t own_bytes(const sv_behind *b, const zamba_sequence *s)
{
    uint64_t most = 0;
    for (size_t i = 0; i < b->n; i++) {
        const uint64_t shared = b->list[i].s != s ? zamba_sequence_shared_bytes(b->list[i].s, s) : 0;
        most = shared > most ? shared : most;
    }
    return zamba_sequence_bytes(s) - most;
}

static void drop(sv_behind *b, size_t i)
{
    b->bytes -= own_bytes(b, b->list[i].s);
    zamba_sequence_close(b->list[i].s);
    b->n--;
    memmove(b->list + i, b->list + i + 1, (b->n - i) * sizeof *b->list);
}

void sv_behind_close(sv_behind *b)
{
    if (b == NULL)
        return;
    while (b->n > 0)
        drop(b, b->n - 1);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

uint64_t sv_behind_epoch(sv_behind *b)
{
    pthread_mutex_lock(&b->lock);
    const uint64_t epoch = b->epoch;
    pthread_mutex_unlock(&b->lock);
    return epoch;
}

void sv_behind_forget(sv_behind *b)
{
    pthread_mutex_lock(&b->lock);
    b->epoch++;
    while (b->n > 0)
        drop(b, b->n - 1);
    pthread_mutex_unlock(&b->lock);
}

uint64_t sv_behind_key(const char *id, const zamba_sequence *s)
{
    uint64_t key = sv_cache_key(zamba_sequence_tokens(s), zamba_sequence_length(s));
    for (; *id; id++)
        key = (key ^ (unsigned char)*id) * 0x100000001b3u;
    return key;
}

void sv_behind_keep(sv_behind *b, const char *id, uint64_t epoch, zamba_sequence *s)
{
    entry x = {.s = s, .key = sv_behind_key(id, s)};
    snprintf(x.id, sizeof x.id, "%s", id);
    pthread_mutex_lock(&b->lock);
    const int taken = epoch == b->epoch;
    if (taken) {
        for (size_t i = 0; i < b->n; i++)
            if (b->list[i].key == x.key) { /* the same once more; there is one at most */
                drop(b, i);
                break;
            }
        if (b->n == MOST)
            drop(b, 0);
        b->bytes += own_bytes(b, s);
        b->list[b->n++] = x;
        while (b->n > 0 && b->bytes > b->most) /* it may be too much alone */
            drop(b, 0);
    }
    pthread_mutex_unlock(&b->lock);
    if (!taken)
        zamba_sequence_close(s);
}

zamba_sequence *sv_behind_find(sv_behind *b, const char *id, uint64_t epoch, const zamba_sequence *from,
                               const int32_t *ids, size_t n)
{
    const int32_t *const before = zamba_sequence_tokens(from);
    const size_t n_before = zamba_sequence_length(from);
    size_t best = MOST, longest = n_before;
    zamba_sequence *s = NULL;
    pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < b->n && epoch == b->epoch; i++) {
        const size_t length = zamba_sequence_length(b->list[i].s);
        const int32_t *const read = zamba_sequence_tokens(b->list[i].s);
        if (length > longest && length < n_before + n && strcmp(b->list[i].id, id) == 0 &&
            memcmp(read, before, n_before * sizeof *read) == 0 &&
            memcmp(read + n_before, ids, (length - n_before) * sizeof *read) == 0) {
            best = i;
            longest = length;
        }
    }
    if (best < MOST && zamba_sequence_fork(&s, b->list[best].s, NULL) == ZAMBA_OK) {
        const entry used = b->list[best];
        memmove(b->list + best, b->list + best + 1, (b->n - best - 1) * sizeof used);
        b->list[b->n - 1] = used;
    } else {
        s = NULL;
    }
    pthread_mutex_unlock(&b->lock);
    return s;
}

int sv_behind_let_go(sv_behind *b)
{
    pthread_mutex_lock(&b->lock);
    const int any = b->n > 0;
    if (any)
        drop(b, 0);
    pthread_mutex_unlock(&b->lock);
    return any;
}

uint64_t sv_behind_holds(sv_behind *b, uint64_t key)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < b->n && bytes == 0; i++)
        bytes = b->list[i].key == key ? zamba_sequence_bytes(b->list[i].s) : 0;
    pthread_mutex_unlock(&b->lock);
    return bytes;
}

void sv_behind_count(sv_behind *b, uint64_t *n, uint64_t *bytes)
{
    pthread_mutex_lock(&b->lock);
    *n = b->n;
    *bytes = b->bytes;
    pthread_mutex_unlock(&b->lock);
}

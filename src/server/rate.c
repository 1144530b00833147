/* rate.c — a bucket of requests for each of those who ask, refilled as time goes on. A bounded table: who is not in
 * it takes the place of whoever was away longest. */
#include "rate.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1024, WAYS = 8 };

struct sv_bucket {
    char who[72];
    double left, at;
};

void sv_limits_init(sv_limits *l, size_t per_minute)
{
    *l = (sv_limits){.per_second = (double)per_minute / 60, .most = per_minute < 10 ? 1 : (double)per_minute / 10};
    pthread_mutex_init(&l->lock, NULL);
    if (per_minute)
        l->buckets = calloc(BUCKETS, sizeof *l->buckets);
}

void sv_limits_free(sv_limits *l)
{
    free(l->buckets);
    pthread_mutex_destroy(&l->lock);
}

double sv_limits_take(sv_limits *l, const char *who, double now)
{
    if (l->per_second <= 0 || !l->buckets)
        return 0;
    uint64_t hash = 14695981039346656037u;
    for (const char *p = who; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    pthread_mutex_lock(&l->lock);
    sv_bucket *row = l->buckets + (hash >> 32) % (BUCKETS / WAYS) * WAYS, *b = row;
    for (size_t i = 0; i < WAYS; i++) {
        if (strncmp(row[i].who, who, sizeof row[i].who - 1) == 0) {
            b = &row[i];
            break;
        }
        if (row[i].at < b->at)
            b = &row[i];
    }
    if (strncmp(b->who, who, sizeof b->who - 1) != 0 || b->at == 0) {
        *b = (sv_bucket){.left = l->most, .at = now};
        strncpy(b->who, who, sizeof b->who - 1);
    }
    b->left += (now - b->at) * l->per_second;
    b->left = b->left > l->most ? l->most : b->left;
    b->at = now;
    double wait = 0;
    if (b->left >= 1)
        b->left -= 1;
    else
        wait = (1 - b->left) / l->per_second;
    pthread_mutex_unlock(&l->lock);
    return wait;
}

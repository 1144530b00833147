/* rate.h — how many requests each key (or, without keys, each address) may make in a minute. */
#ifndef SV_RATE_H
#define SV_RATE_H

#include <pthread.h>
#include <stddef.h>

typedef struct sv_bucket sv_bucket;

typedef struct sv_limits {
    pthread_mutex_t lock;
    double per_second, most; /* 0: no limit */
    sv_bucket *buckets;
    size_t n;
} sv_limits;

void sv_limits_init(sv_limits *l, size_t per_minute);
void sv_limits_free(sv_limits *l);
/* Seconds after which `who` may ask again; 0: now, and this request is counted. */
double sv_limits_take(sv_limits *l, const char *who, double now);

#endif

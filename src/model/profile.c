/* profile.c — see profile.h; and the public questions about it. */
#define _POSIX_C_SOURCE 200809L
#include "model/profile.h"

#include <string.h>
#include <time.h>

#include "model/model.h"

static const struct {
    const char *name;
    int product;
} kinds[ZB_N_OPS] = {
#define ZB_OP_KIND(id, name, product) {name, product},
    ZB_OP_LIST(ZB_OP_KIND)
#undef ZB_OP_KIND
};

double zb_profile_now(const zb_profile *p)
{
    struct timespec t;
    if (!p->on)
        return 0;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void zb_profile_add(zb_profile *p, zb_op op, double start, double bytes, double flops)
{
    if (!p->on)
        return;
    zb_op_sum *s = &p->ops[op];
    s->calls++;
    s->seconds += zb_profile_now(p) - start;
    s->bytes += bytes;
    s->flops += flops;
}

void zb_profile_merge(zb_profile *to, zb_profile *from)
{
    for (int i = 0; i < ZB_N_OPS; i++) {
        to->ops[i].calls += from->ops[i].calls;
        to->ops[i].seconds += from->ops[i].seconds;
        to->ops[i].bytes += from->ops[i].bytes;
        to->ops[i].flops += from->ops[i].flops;
    }
    memset(from->ops, 0, sizeof from->ops);
}

void zamba_model_profile(zamba_model *m, int on)
{
    pthread_mutex_lock(&m->workspace_lock);
    memset(m->profile.ops, 0, sizeof m->profile.ops);
    m->profile.on = on != 0;
    pthread_mutex_unlock(&m->workspace_lock);
}

size_t zamba_model_profile_get(zamba_model *m, zamba_op_profile *ops, size_t n)
{
    pthread_mutex_lock(&m->workspace_lock);
    for (size_t i = 0; i < n && i < ZB_N_OPS; i++) {
        const zb_op_sum *s = &m->profile.ops[i];
        ops[i] = (zamba_op_profile){kinds[i].name, kinds[i].product, s->calls, s->seconds, s->bytes, s->flops};
    }
    pthread_mutex_unlock(&m->workspace_lock);
    return ZB_N_OPS;
}

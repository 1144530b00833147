/* dispatch.c — chooses the kernel set once: the best this CPU runs, capped by ZAMBA_CPU. Owns the ref table; each
 * faster table stands at the end of its own file, because only code behind a CPU check may touch that file. */
#include "kernels/kernels.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/status.h"
#include "kernels/ref/ref.h"
#include "kernels/sets.h"

static const zb_kernels kernels_ref = {
    .name = "ref",
    .matmul = zb_matmul_ref,
    .rmsnorm = zb_rmsnorm_ref,
    .rmsnorm_gated = zb_rmsnorm_gated_ref,
    .conv1d_silu = zb_conv1d_silu_ref,
    .dt_softplus = zb_dt_softplus_ref,
    .ssm_step = zb_ssm_step_ref,
    .ssd_chunk = zb_ssd_chunk_ref,
    .mamba1_scan = zb_mamba1_scan_ref,
    .rope = zb_rope_ref,
    .attention = zb_attention_ref,
    .glu = zb_glu_ref,
    .add = zb_add_ref,
    .read_sum = zb_read_sum_ref,
};

#define N_SETS 5

/* Rising speed; `built` tells whether this library has the set at all, `needs` what the CPU must have. */
static const struct {
    const char *name;
    const zb_kernels *set;
    unsigned needs;
} sets[N_SETS] = {
    {"ref", &kernels_ref, 0},
#ifdef ZB_HAVE_GENERIC
    {"generic", &zb_kernels_generic, 0},
#else
    {"generic", NULL, 0},
#endif
#ifdef ZB_HAVE_NEON
    {"neon", &zb_kernels_neon, ZB_CPU_NEON},
#else
    {"neon", NULL, ZB_CPU_NEON},
#endif
#ifdef ZB_HAVE_AVX2
    {"avx2", &zb_kernels_avx2, ZB_CPU_AVX2},
#else
    {"avx2", NULL, ZB_CPU_AVX2},
#endif
#ifdef ZB_HAVE_AVX512
    {"avx512", &zb_kernels_avx512, ZB_CPU_AVX512},
#else
    {"avx512", NULL, ZB_CPU_AVX512},
#endif
};

static int usable(size_t i, unsigned cpu)
{
    return sets[i].set && (cpu & sets[i].needs) == sets[i].needs;
}

const zb_kernels *zb_kernels_choose(const char *cap, unsigned cpu)
{
    size_t last = N_SETS - 1;
    if (cap && *cap) {
        size_t named = 0;
        while (named < N_SETS && strcmp(sets[named].name, cap) != 0)
            named++;
        if (named == N_SETS)
            zb_log(ZAMBA_LOG_WARN,
                   "ZAMBA_CPU=%.32s: no such kernel set (ref, generic, avx2, avx512, neon); the best one is used", cap);
        else
            last = named;
    }
    size_t i = last;
    while (i > 0 && !usable(i, cpu))
        i--;
    if (cap && *cap && strcmp(sets[last].name, cap) == 0 && i != last)
        zb_log(ZAMBA_LOG_WARN, "ZAMBA_CPU=%s: this CPU or this build lacks it; \"%s\" is used", cap, sets[i].name);
    return sets[i].set;
}

static const zb_kernels *chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
    chosen = zb_kernels_choose(getenv("ZAMBA_CPU"), zb_cpu_features());
}

const zb_kernels *zb_kernels_get(void)
{
    pthread_once(&once, choose);
    return chosen;
}

size_t zb_kernels_all(const zb_kernels **out, size_t n)
{
    const unsigned cpu = zb_cpu_features();
    size_t found = 0;
    for (size_t i = 0; i < N_SETS; i++)
        if (usable(i, cpu) && found < n)
            out[found++] = sets[i].set;
    return found;
}

/* Products C.B^T and their decayed copy [chunk, chunk], weighted inputs [chunk, head_dim], factors [3, chunk], and room
 * to align. */
size_t zb_ssd_scratch(zb_ssm_dims d)
{
    return 2 * ZB_SSD_CHUNK * ZB_SSD_CHUNK + ZB_SSD_CHUNK * d.head_dim + 3 * ZB_SSD_CHUNK + 16;
}

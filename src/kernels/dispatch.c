/* dispatch.c — composes the kernel sets, each laid over the one it builds on, and chooses once: the best this CPU runs,
 * capped by ZAMBA_CPU. Owns the ref table; each faster table stands at the end of its own file, because only code
 * behind a CPU check may run anything of that file. */
#include "kernels/kernels.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/status.h"
#include "kernels/ref/ref.h"
#include "kernels/sets.h"
#include "quant/quant.h"

static const zb_kernels kernels_ref = {
    .name = "ref",
    .matmul = zb_matmul_ref,
    .outer = zb_outer_ref,
    .outer_bf16 = zb_outer_bf16_ref,
    .matmul_bf16 = zb_matmul_bf16_ref,
    .matmul_q8 = zb_matmul_q8_ref,
    .panels = zb_panels_ref,
    .q8_types = ZB_Q8_TYPES_REF,
    .to_q8 = zb_to_q8_ref,
    .unpack = zb_row_to_f32,
    .to_bf16 = zb_to_bf16_ref,
    .rmsnorm = zb_rmsnorm_ref,
    .rmsnorm_gated = zb_rmsnorm_gated_ref,
    .conv1d_silu = zb_conv1d_silu_ref,
    .dt_softplus = zb_dt_softplus_ref,
    .ssm_step = zb_ssm_step_ref,
    .ssd_chunk = zb_ssd_chunk_ref,
    .mamba1_scan = zb_mamba1_scan_ref,
    .rope = zb_rope_ref,
    .attention = zb_attention_ref,
    .attention_join = zb_attention_join_ref,
    .kv_store = zb_kv_store_ref,
    .scale = zb_scale_ref,
    .glu = zb_glu_ref,
    .add = zb_add_ref,
    .transpose = zb_transpose_ref,
    .pair_rows = zb_pair_rows_ref,
    .sum_squares = zb_sum_squares_ref,
    .rmsnorm_backward = zb_rmsnorm_backward_ref,
    .rmsnorm_gated_backward = zb_rmsnorm_gated_backward_ref,
    .conv1d_silu_backward = zb_conv1d_silu_backward_ref,
    .dt_softplus_backward = zb_dt_softplus_backward_ref,
    .ssd_state = zb_ssd_state_ref,
    .ssd_chunk_backward = zb_ssd_chunk_backward_ref,
    .mamba1_scan_backward = zb_mamba1_scan_backward_ref,
    .attention_backward = zb_attention_backward_ref,
    .rope_backward = zb_rope_backward_ref,
    .glu_backward = zb_glu_backward_ref,
    .cross_entropy = zb_cross_entropy_ref,
    .adamw = zb_adamw_ref,
    .read_sum = zb_read_sum_ref,
    .peak = zb_peak_ref,
};

/* Every function of the table. */
#define ENTRIES(X)                                                                                                     \
    X(matmul)                                                                                                          \
    X(matmul_bf16)                                                                                                     \
    X(matmul_q8)                                                                                                       \
    X(panels)                                                                                                          \
    X(to_q8)                                                                                                           \
    X(turn)                                                                                                            \
    X(unpack)                                                                                                          \
    X(to_bf16)                                                                                                         \
    X(rmsnorm)                                                                                                         \
    X(rmsnorm_gated)                                                                                                   \
    X(conv1d_silu)                                                                                                     \
    X(dt_softplus)                                                                                                     \
    X(ssm_step)                                                                                                        \
    X(ssd_chunk)                                                                                                       \
    X(mamba1_scan)                                                                                                     \
    X(rope)                                                                                                            \
    X(attention)                                                                                                       \
    X(attention_join)                                                                                                  \
    X(kv_store)                                                                                                        \
    X(scale)                                                                                                           \
    X(glu)                                                                                                             \
    X(add)                                                                                                             \
    X(transpose)                                                                                                       \
    X(pair_rows)                                                                                                       \
    X(outer)                                                                                                           \
    X(outer_bf16)                                                                                                      \
    X(sum_squares)                                                                                                     \
    X(rmsnorm_backward)                                                                                                \
    X(rmsnorm_gated_backward)                                                                                          \
    X(conv1d_silu_backward)                                                                                            \
    X(dt_softplus_backward)                                                                                            \
    X(ssd_state)                                                                                                       \
    X(ssd_chunk_backward)                                                                                              \
    X(mamba1_scan_backward)                                                                                            \
    X(attention_backward)                                                                                              \
    X(rope_backward)                                                                                                   \
    X(glu_backward)                                                                                                    \
    X(cross_entropy)                                                                                                   \
    X(adamw)                                                                                                           \
    X(read_sum)                                                                                                        \
    X(peak)

#define ONE(entry) +1
_Static_assert(sizeof(zb_kernels) == (2 + (0 ENTRIES(ONE))) * sizeof(void (*)(void)), "an entry is not in the list");
#undef ONE

/* What `over` has replaces what `k` has. */
static void lay_over(zb_kernels *k, const zb_kernels *over)
{
#define TAKE(entry)                                                                                                    \
    if (over->entry)                                                                                                   \
        k->entry = over->entry;
    ENTRIES(TAKE)
#undef TAKE
    k->name = over->name;
    k->fast_bf16 |= over->fast_bf16;
    if (over->matmul_q8)
        k->q8_types = over->q8_types;
}

enum { REF, GENERIC, NEON, NEONDOT, NEONBF16, AVX2, AVX512, AVX512VNNI, AVX512BF16, N_SETS };

/* Rising speed; `own` is what the set has of its own (NULL: this build lacks it), laid over the set `over`; `needs`
 * what the CPU must have. */
static const struct {
    const char *name;
    const zb_kernels *own;
    unsigned needs;
    int over;
} sets[N_SETS] = {
    [REF] = {"ref", &kernels_ref, 0, REF},
#ifdef ZB_HAVE_GENERIC
    [GENERIC] = {"generic", &zb_kernels_generic, 0, REF},
#else
    [GENERIC] = {"generic", NULL, 0, REF},
#endif
#ifdef ZB_HAVE_NEON
    [NEON] = {"neon", &zb_kernels_neon, ZB_CPU_NEON, REF},
#else
    [NEON] = {"neon", NULL, ZB_CPU_NEON, REF},
#endif
#if defined(ZB_HAVE_NEON) && defined(ZB_HAVE_NEONDOT)
    [NEONDOT] = {"neondot", &zb_kernels_neondot, ZB_CPU_NEON_DOT, NEON},
#else
    [NEONDOT] = {"neondot", NULL, ZB_CPU_NEON_DOT, NEON},
#endif
#if defined(ZB_HAVE_NEONDOT) && defined(ZB_HAVE_NEONBF16)
    [NEONBF16] = {"neonbf16", &zb_kernels_neonbf16, ZB_CPU_NEON_BF16, NEONDOT},
#else
    [NEONBF16] = {"neonbf16", NULL, ZB_CPU_NEON_BF16, NEONDOT},
#endif
#ifdef ZB_HAVE_AVX2
    [AVX2] = {"avx2", &zb_kernels_avx2, ZB_CPU_AVX2, REF},
#else
    [AVX2] = {"avx2", NULL, ZB_CPU_AVX2, REF},
#endif
#if defined(ZB_HAVE_AVX2) && defined(ZB_HAVE_AVX512)
    [AVX512] = {"avx512", &zb_kernels_avx512, ZB_CPU_AVX512, AVX2},
#else
    [AVX512] = {"avx512", NULL, ZB_CPU_AVX512, AVX2},
#endif
#if defined(ZB_HAVE_AVX512) && defined(ZB_HAVE_AVX512VNNI)
    [AVX512VNNI] = {"avx512vnni", &zb_kernels_avx512vnni, ZB_CPU_AVX512_VNNI, AVX512},
#else
    [AVX512VNNI] = {"avx512vnni", NULL, ZB_CPU_AVX512_VNNI, AVX512},
#endif
#if defined(ZB_HAVE_AVX512VNNI) && defined(ZB_HAVE_AVX512BF16)
    [AVX512BF16] = {"avx512bf16", &zb_kernels_avx512bf16, ZB_CPU_AVX512_BF16, AVX512VNNI},
#else
    [AVX512BF16] = {"avx512bf16", NULL, ZB_CPU_AVX512_BF16, AVX512VNNI},
#endif
};

/* The sets whole. Only addresses are copied: code of a set runs only where the CPU has what it needs. */
static zb_kernels whole[N_SETS];
static pthread_once_t once_composed = PTHREAD_ONCE_INIT;

static void compose(void)
{
    for (size_t i = 0; i < N_SETS; i++) {
        whole[i] = whole[sets[i].over];
        if (sets[i].own)
            lay_over(&whole[i], sets[i].own);
    }
}

/* What set i needs, the sets below it included. */
static int usable(size_t i, unsigned cpu)
{
    for (;; i = (size_t)sets[i].over) {
        if (!sets[i].own || (cpu & sets[i].needs) != sets[i].needs)
            return 0;
        if (i == REF)
            return 1;
    }
}

const zb_kernels *zb_kernels_choose(const char *cap, unsigned cpu)
{
    pthread_once(&once_composed, compose);
    size_t last = N_SETS - 1;
    if (cap && *cap) {
        size_t named = 0;
        while (named < N_SETS && strcmp(sets[named].name, cap) != 0)
            named++;
        if (named == N_SETS)
            zb_log(ZAMBA_LOG_WARN,
                   "ZAMBA_CPU=%.32s: no such kernel set (ref, generic, avx2, avx512, avx512vnni, avx512bf16, neon, "
                   "neondot, neonbf16); "
                   "the best one is used",
                   cap);
        else
            last = named;
    }
    size_t i = last;
    while (i > 0 && !usable(i, cpu))
        i--;
    if (cap && *cap && strcmp(sets[last].name, cap) == 0 && i != last)
        zb_log(ZAMBA_LOG_WARN, "ZAMBA_CPU=%s: this CPU or this build lacks it; \"%s\" is used", cap, sets[i].name);
    return &whole[i];
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
    pthread_once(&once_composed, compose);
    for (size_t i = 0; i < N_SETS; i++)
        if (usable(i, cpu) && found < n)
            out[found++] = &whole[i];
    return found;
}

/* Products C.B^T and their decayed copy [chunk, chunk], weighted inputs [chunk, head_dim], factors [3, chunk], and room
 * to align. */
size_t zb_ssd_scratch(zb_ssm_dims d)
{
    return 2 * ZB_SSD_CHUNK * ZB_SSD_CHUNK + ZB_SSD_CHUNK * d.head_dim + 3 * ZB_SSD_CHUNK + 16;
}

/* Products C.B^T, dy.x^T, the decayed products and the sum of their gradients over heads, all [chunk, chunk]; x
 * transposed, gradients by dt x, decayed dy and x [chunk, head_dim]; the state's gradient transposed; one product
 * [chunk, d_state]; factors [8, chunk]; room to align. */
size_t zb_ssd_backward_scratch(zb_ssm_dims d)
{
    return 4 * ZB_SSD_CHUNK * ZB_SSD_CHUNK + ZB_SSD_CHUNK * (4 * d.head_dim + d.d_state) + d.head_dim * d.d_state +
           8 * ZB_SSD_CHUNK + 16;
}

/* Of as many channels as go together (16 at most): states before each chunk; of one chunk states and decays, and the
 * outputs before the gate; the gradient by the state; room to align. */
size_t zb_scan_backward_scratch(size_t n, size_t d_state, size_t channels)
{
    const size_t together = channels < 16 ? channels : 16, chunks = (n + ZB_SSD_CHUNK - 1) / ZB_SSD_CHUNK;
    return together * d_state * (chunks + 2 * ZB_SSD_CHUNK + 2) + 16 * ZB_SSD_CHUNK + 16;
}

/* Scores of a block of queries against all keys before them; one block of gradients by scores; the block's queries and
 * gradients transposed; factors of its rows; room to align. A block is ZB_SSD_CHUNK rows. */
size_t zb_attn_backward_scratch(size_t n, size_t head_dim)
{
    const size_t rows = (n + ZB_SSD_CHUNK - 1) / ZB_SSD_CHUNK * ZB_SSD_CHUNK;
    return ZB_SSD_CHUNK * (rows + ZB_SSD_CHUNK + 2 * head_dim + 4) + 16;
}

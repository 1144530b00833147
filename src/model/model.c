/* model.c — opening and closing a checkpoint, and the questions about it: info, layers, tensors, memory. */
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/memory.h"
#include "model/lora.h"
#include "model/workspace.h"

#define LEAST_BATCH     64                    /* of those chosen: a chunk of the recurrence */
#define GREATEST_BATCH  256                   /* longer passes are no faster */
#define ROUNDING_BYTES  ((uint64_t)256 << 20) /* of bf16 weights: smaller models are fast enough in f32 */
#define REPACK_BYTES    ((uint64_t)128 << 20) /* copies of weights that are made unasked */
#define WORKSPACE_BYTES ((size_t)44 << 20)    /* of one pass, where that leaves LEAST_BATCH rows */

zamba_model_options zamba_model_defaults(void)
{
    return (zamba_model_options){.size = sizeof(zamba_model_options), .dt_floor = ZAMBA_DT_FLOOR_AUTO};
}

static zamba_status check_options(zamba_model_options *o, const zamba_model_options *given, zamba_error *err)
{
    const int cores = zb_pool_cores();
    *o = zamba_model_defaults();
    if (given != NULL) {
        if (given->size != sizeof *given)
            return zb_fail(err, ZAMBA_E_ARG,
                           "model options: size is %zu, wanted %zu (fill them with "
                           "zamba_model_defaults())",
                           given->size, sizeof *given);
        *o = *given;
    }
    if (o->n_threads < 0 || o->n_threads > 1024)
        return zb_fail(err, ZAMBA_E_ARG,
                       "threads: %d, wanted 1 to 1024 (this machine has %d cores), or 0 for all cores", o->n_threads,
                       cores);
    if (o->n_threads_batch < 0 || o->n_threads_batch > 1024)
        return zb_fail(err, ZAMBA_E_ARG, "threads for prefill: %d, wanted 1 to 1024, or 0 for as many as for decoding",
                       o->n_threads_batch);
    if (o->n_batch < 0 || o->n_batch > 65536)
        return zb_fail(err, ZAMBA_E_ARG, "batch size: %d, wanted 1 to 65536, or 0 for what suits the model",
                       o->n_batch);
    if ((int)o->compute < 0 || o->compute > ZAMBA_COMPUTE_INT8)
        return zb_fail(err, ZAMBA_E_ARG, "compute: %d is none of auto, f32, bf16, int8", (int)o->compute);
    if ((int)o->kv_k < 0 || o->kv_k > ZAMBA_KV_Q8_0 || (int)o->kv_v < 0 || o->kv_v > ZAMBA_KV_Q8_0)
        return zb_fail(err, ZAMBA_E_ARG, "KV types: %d and %d, wanted f32, f16, bf16 or q8_0", (int)o->kv_k,
                       (int)o->kv_v);
    if ((int)o->dt_floor < 0 || o->dt_floor > ZAMBA_DT_FLOOR_CONFIG)
        return zb_fail(err, ZAMBA_E_ARG, "dt floor: %d is none of auto, none, config", (int)o->dt_floor);
    if (o->n_threads == 0)
        o->n_threads = cores;
    if (o->n_threads_batch == 0)
        o->n_threads_batch = o->n_threads;
    return ZAMBA_OK;
}

/* Both are optional: a checkpoint without them runs on ids alone. */
static zamba_status open_text(zamba_model *m, zamba_error *err)
{
    zamba_status st = zamba_tokenizer_open(&m->tokenizer, m->path, err);
    if (st == ZAMBA_E_NOT_FOUND)
        return ZAMBA_OK;
    if (st != ZAMBA_OK)
        return st;
    const size_t ids = (size_t)zamba_tokenizer_n_vocab(m->tokenizer);
    if (ids > m->plan.config.vocab_size)
        zb_log(ZAMBA_LOG_WARN, "%s: the tokenizer has %zu ids, the model %zu: ids above will be refused", m->path, ids,
               m->plan.config.vocab_size);
    return zamba_chat_open(&m->chat, m->path, m->tokenizer, err);
}

static uint64_t bf16_bytes(const zamba_model *m)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < m->plan.n_specs; i++)
        bytes += m->weights.bound[i]->dtype == ZB_BF16 ? m->weights.bound[i]->bytes : 0;
    return bytes;
}

static zb_kv_type kv_type(zamba_kv_type wanted, int rounded)
{
    switch (wanted) {
    case ZAMBA_KV_F32:
        return ZB_KV_F32;
    case ZAMBA_KV_F16:
        return ZB_KV_F16;
    case ZAMBA_KV_BF16:
        return ZB_KV_BF16;
    case ZAMBA_KV_Q8_0:
        return ZB_KV_Q8_0;
    case ZAMBA_KV_AUTO:
        break;
    }
    return rounded ? ZB_KV_F16 : ZB_KV_F32;
}

/* What the products compute in, how many rows go together, and the frequencies of rope. */
static zamba_status choose_compute(zamba_model *m, const zamba_model_options *o, zamba_error *err)
{
    const zb_config *c = &m->plan.config;
    m->bf16 = o->compute == ZAMBA_COMPUTE_BF16 ||
              (o->compute == ZAMBA_COMPUTE_AUTO && m->kernels->fast_bf16 && bf16_bytes(m) >= ROUNDING_BYTES);
    m->bytes8 = o->compute != ZAMBA_COMPUTE_F32 && m->weights.in_blocks;
    m->kv_k = kv_type(o->kv_k, m->bf16 || m->bytes8);
    m->kv_v = kv_type(o->kv_v, m->bf16 || m->bytes8);
    m->n_batch = (size_t)o->n_batch;
    if (m->n_batch == 0) {
        m->n_batch = GREATEST_BATCH;
        while (m->n_batch > LEAST_BATCH && zb_workspace_bytes(m, m->n_batch) > WORKSPACE_BYTES)
            m->n_batch -= LEAST_BATCH;
    }
    if (!c->use_rope)
        return ZAMBA_OK;
    const size_t half = c->head_dim / 2;
    m->inv_freq = malloc((half + 1) * sizeof *m->inv_freq);
    if (m->inv_freq == NULL)
        return zb_fail_memory(err, m->path, half * sizeof *m->inv_freq);
    for (size_t i = 0; i < half; i++)
        m->inv_freq[i] = (float)(1.0 / pow(c->rope_theta, (double)(2 * i) / (double)c->head_dim));
    return ZAMBA_OK;
}

/* Blocks first: their q, k and v need no other copies then. Copies cannot be read anew where memory is short, as mapped
 * pages can. */
static zamba_status repack(zamba_model *m, const zamba_model_options *o, zamba_error *err)
{
    const int always = o->repack > 0;
    zamba_status st = ZAMBA_OK;
    if (o->compute != ZAMBA_COMPUTE_F32 && m->kernels->turn != NULL && m->weights.in_blocks)
        st = zb_weights_turn(&m->weights, &m->plan, m->kernels, m->pool,
                             always ? UINT64_MAX : zb_memory_available() / 2, err);
    if (st == ZAMBA_OK)
        st = zb_weights_join_halves(&m->weights, &m->plan, always ? UINT64_MAX : REPACK_BYTES, err);
    return st;
}

zamba_status zamba_model_open(zamba_model **out, const char *path, const zamba_model_options *options, zamba_error *err)
{
    zamba_model_options o;
    zb_checkpoint checkpoint = {0};
    *out = NULL;
    zamba_status st = check_options(&o, options, err);
    if (st == ZAMBA_OK)
        st = zb_checkpoint_open(&checkpoint, path, err);
    if (st != ZAMBA_OK)
        return st;
    zamba_model *m = calloc(1, sizeof *m);
    if (m == NULL) {
        zb_checkpoint_close(&checkpoint);
        return zb_fail_memory(err, path, sizeof *m);
    }
    pthread_mutex_init(&m->workspace_lock, NULL);
    zb_kv_pool_init(&m->pages, 0);
    m->kernels = zb_kernels_get();
    m->n_threads = o.n_threads;
    m->n_threads_batch = o.n_threads_batch;
    m->recurrent = o.recurrent != 0;
    m->path = strdup(path);
    if (m->path == NULL)
        st = zb_fail_memory(err, path, strlen(path));
    if (st == ZAMBA_OK)
        st = zb_checkpoint_plan(&checkpoint, &m->plan, o.dt_floor, err);
    if (st == ZAMBA_OK)
        st = zb_weights_open(&m->weights, &m->plan, &checkpoint, err);
    zb_checkpoint_close(&checkpoint);
    if (st == ZAMBA_OK)
        st = zb_pool_open(&m->pool, o.n_threads > o.n_threads_batch ? o.n_threads : o.n_threads_batch, err);
    if (st == ZAMBA_OK && o.repack >= 0)
        st = repack(m, &o, err);
    if (st == ZAMBA_OK)
        st = zb_lora_attach(&m->weights, &m->plan, o.loras, o.n_loras, 1, err);
    if (st == ZAMBA_OK)
        st = choose_compute(m, &o, err);
    if (st == ZAMBA_OK)
        m->pages.page_bytes = m->plan.n_uses * zb_use_bytes(m);
    if (st == ZAMBA_OK && !o.no_tokenizer)
        st = open_text(m, err);
    if (st != ZAMBA_OK) {
        zamba_model_close(m);
        return st;
    }
    zb_log(ZAMBA_LOG_INFO, "%s: %s, %zu layers, dt floor %s%s%s", path, zb_family_name(m->plan.config.family),
           m->plan.config.n_layers, m->plan.config.dt_floor_note, m->plan.config.use_rope ? ", rope " : "",
           m->plan.config.rope_note);
    *out = m;
    return ZAMBA_OK;
}

void zamba_model_close(zamba_model *m)
{
    if (m == NULL)
        return;
    zb_workspace_free_all(m);
    zb_pool_close(m->pool);
    zb_kv_pool_close(&m->pages);
    zamba_chat_close(m->chat);
    zamba_tokenizer_close(m->tokenizer);
    zb_weights_close(&m->weights);
    zb_plan_free(&m->plan);
    pthread_mutex_destroy(&m->workspace_lock);
    free(m->inv_freq);
    free(m->path);
    free(m);
}

const zamba_tokenizer *zamba_model_tokenizer(const zamba_model *m)
{
    return m->tokenizer;
}

const zamba_chat *zamba_model_chat(const zamba_model *m)
{
    return m->chat;
}

/* ---- questions ---- */

static const char *main_dtype(const zamba_model *m)
{
    uint64_t bytes[ZB_N_DTYPES] = {0};
    int best = 0;
    for (size_t i = 0; i < m->plan.n_specs; i++)
        bytes[m->weights.bound[i]->dtype] += m->weights.bound[i]->bytes;
    for (int t = 1; t < ZB_N_DTYPES; t++)
        if (bytes[t] > bytes[best])
            best = t;
    for (size_t i = 0; i < m->plan.n_specs; i++)
        if (m->weights.bound[i]->dtype == (zb_dtype)best)
            return zb_tensor_type(m->weights.bound[i]);
    return zb_dtype_name((zb_dtype)best);
}

static zamba_status check_size(size_t got, size_t want, const char *what, zamba_error *err)
{
    return got == want ? ZAMBA_OK
                       : zb_fail(err, ZAMBA_E_ARG, "%s: size is %zu, wanted %zu (set it to sizeof the struct)", what,
                                 got, want);
}

zamba_status zamba_model_info_get(const zamba_model *m, zamba_model_info *info, zamba_error *err)
{
    const zb_config *c = &m->plan.config;
    zamba_status st = check_size(info->size, sizeof *info, "model info", err);
    if (st != ZAMBA_OK)
        return st;
    *info = (zamba_model_info){
        .size = sizeof *info,
        .path = m->path,
        .family = zb_family_name(c->family),
        .dialect = zb_dialect_name(c->dialect),
        .dtype = main_dtype(m),
        .kernels = m->kernels->name,
        .compute = m->bytes8 ? "int8"
                   : m->bf16 ? "bf16"
                             : "f32",
        .kv_k = zb_kv_name(m->kv_k),
        .kv_v = zb_kv_name(m->kv_v),
        .rope_note = c->rope_note,
        .dt_floor_note = c->dt_floor_note,
        .n_layers = (int32_t)c->n_layers,
        .n_hybrid = (int32_t)m->plan.n_uses,
        .n_blocks = (int32_t)(m->plan.n_uses < c->n_blocks ? m->plan.n_uses : c->n_blocks),
        .hidden_size = (int32_t)c->hidden_size,
        .vocab_size = (int32_t)c->vocab_size,
        .max_positions = (int32_t)c->max_positions,
        .n_threads = m->n_threads,
        .n_heads = (int32_t)c->n_heads,
        .n_kv_heads = (int32_t)c->n_kv_heads,
        .head_dim = (int32_t)c->head_dim,
        .ffn_size = (int32_t)c->ffn_size,
        .adapter_rank = (int32_t)c->adapter_rank,
        .mamba_heads = (int32_t)c->mamba_heads,
        .mamba_head_dim = (int32_t)c->mamba_head_dim,
        .mamba_state = (int32_t)c->mamba_state,
        .mamba_groups = (int32_t)c->mamba_groups,
        .mamba_conv = (int32_t)c->mamba_conv,
        .mamba_inner = (int32_t)c->mamba_inner,
        .mamba_dt_rank = (int32_t)c->mamba_dt_rank,
        .bos_id = c->bos,
        .eos_id = c->n_eos > 0 ? c->eos[0] : -1,
        .pad_id = c->pad,
        .tied_head = c->tied_head,
        .use_rope = c->use_rope,
        .rope_theta = c->use_rope ? c->rope_theta : 0,
        .dt_min = (double)c->dt_min,
        .dt_max = (double)c->dt_max,
        .norm_eps = (double)c->norm_eps,
        .fingerprint = m->weights.fingerprint,
        .any_cut = m->recurrent || m->plan.config.family == ZB_ZAMBA1,
    };
    for (size_t i = 0; i < m->plan.n_specs; i++) {
        const zb_spec *s = &m->plan.specs[i];
        const uint64_t n = zb_spec_elements(s), bytes = m->weights.bound[i]->bytes;
        info->n_params += n;
        info->weight_bytes += bytes;
        info->n_params_used += n * (uint64_t)s->n_uses;
        const int whole =
            (s->role == ZB_Q || s->role == ZB_K || s->role == ZB_V) && !m->weights.blocks[s->block].halves;
        if (s->role == ZB_EMBED && !c->tied_head)
            info->bytes_per_token += bytes / c->vocab_size;
        else
            info->bytes_per_token += whole ? bytes * (uint64_t)s->n_uses : zb_spec_bytes_read(s, bytes);
    }
    return ZAMBA_OK;
}

zamba_status zamba_model_layer(const zamba_model *m, int32_t layer, zamba_layer_info *info, zamba_error *err)
{
    zamba_status st = check_size(info->size, sizeof *info, "layer info", err);
    if (st != ZAMBA_OK)
        return st;
    if (layer < 0 || (size_t)layer >= m->plan.config.n_layers)
        return zb_fail(err, ZAMBA_E_ARG, "layer %d: wanted 0 to %zu", layer, m->plan.config.n_layers - 1);
    const zb_layer *row = &m->plan.layers[layer];
    *info = (zamba_layer_info){.size = sizeof *info,
                               .mixer = row->mixer == ZB_MAMBA1 ? "mamba1" : "mamba2",
                               .shared = row->shared,
                               .use = row->use};
    for (size_t i = 0; i < m->plan.n_specs; i++)
        if (m->plan.specs[i].layer == layer)
            info->n_params += zb_spec_elements(&m->plan.specs[i]);
    return ZAMBA_OK;
}

size_t zamba_model_n_tensors(const zamba_model *m)
{
    return m->plan.n_specs;
}

zamba_status zamba_model_tensor(const zamba_model *m, size_t index, zamba_tensor_info *info, zamba_error *err)
{
    zamba_status st = check_size(info->size, sizeof *info, "tensor info", err);
    if (st != ZAMBA_OK)
        return st;
    if (index >= m->plan.n_specs)
        return zb_fail(err, ZAMBA_E_ARG, "tensor %zu: wanted 0 to %zu", index, m->plan.n_specs - 1);
    const zb_spec *s = &m->plan.specs[index];
    const zb_tensor *t = m->weights.bound[index];
    *info = (zamba_tensor_info){.size = sizeof *info,
                                .name = s->name,
                                .part = zb_part_name(s->part),
                                .dtype = zb_tensor_type(t),
                                .file = t->file,
                                .n_dims = s->n_dims,
                                .layer = s->use >= 0 && s->layer < 0 ? m->plan.use_layer[s->use] : s->layer,
                                .block = s->block,
                                .bytes = t->bytes,
                                .n_uses = s->n_uses,
                                .quantizable = s->quantizable,
                                .decay = s->decay};
    for (int i = 0; i < s->n_dims; i++)
        info->shape[i] = (int64_t)s->shape[i];
    return ZAMBA_OK;
}

zamba_status zamba_model_memory(const zamba_model *m, zamba_memory_info *info, zamba_error *err)
{
    zamba_status st = check_size(info->size, sizeof *info, "memory info", err);
    if (st != ZAMBA_OK)
        return st;
    *info = (zamba_memory_info){.size = sizeof *info,
                                .copies = m->weights.copy_bytes + m->weights.lora_bytes,
                                .state_per_sequence = m->plan.state_floats * sizeof(float),
                                .kv_per_token = m->pages.page_bytes / ZB_PAGE_TOKENS,
                                .kv_page_tokens = ZB_PAGE_TOKENS,
                                .workspace = zb_workspace_bytes(m, m->n_batch)};
    for (size_t i = 0; i < m->weights.tensors.n; i++)
        info->weights += m->weights.tensors.items[i].bytes;
    info->weights -= m->weights.forgotten_bytes;
    return ZAMBA_OK;
}

uint64_t zamba_model_barriers(const zamba_model *m)
{
    return zb_pool_runs(m->pool);
}

uint64_t zamba_memory_available(void)
{
    return zb_memory_available();
}

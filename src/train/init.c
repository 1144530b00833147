/* init.c — zamba_model_init: a checkpoint folder with random weights, made from a config's tensor list. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/fixmath.h"
#include "core/hash.h"
#include "core/rng.h"
#include "io/folder_out.h"
#include "io/json.h"
#include "io/safetensors_write.h"
#include "model/checkpoint.h"
#include "model/plan.h"

#include "zamba_train.h"

/* Numbers of a config that only matter here; the defaults are those of transformers. */
typedef struct init {
    zb_plan plan;
    json_t *root;
    double range, step_min, step_max, step_floor;
    zamba_init_options o;
    zamba_error *err;
} init;

zamba_init_options zamba_init_defaults(void)
{
    return (zamba_init_options){.size = sizeof(zamba_init_options)};
}

/* ---- numbers ---- */

/* Standard normal numbers in pairs (Marsaglia's polar method): the same bits on every machine. */
typedef struct normal {
    zb_rng rng;
    double spare;
    int has_spare;
} normal;

static double next_normal(normal *g)
{
    double u, v, s;
    if (g->has_spare) {
        g->has_spare = 0;
        return g->spare;
    }
    do {
        u = 2 * zb_rng_f64(&g->rng) - 1;
        v = 2 * zb_rng_f64(&g->rng) - 1;
        s = u * u + v * v;
    } while (s >= 1 || s < 1e-300);
    const double f = sqrt(-2 * zb_fix_log(s) / s);
    g->spare = v * f;
    g->has_spare = 1;
    return u * f;
}

static void fill(float *to, size_t n, float x)
{
    for (size_t i = 0; i < n; i++)
        to[i] = x;
}

static void fill_normal(float *to, size_t n, double deviation, normal *g)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (float)(deviation * next_normal(g));
}

static void fill_uniform(float *to, size_t n, double bound, normal *g)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (float)(bound * (2 * zb_rng_f64(&g->rng) - 1));
}

/* So that softplus(bias) is spread evenly, in its logarithm, over the range of steps. */
static void fill_dt_bias(float *to, size_t n, const init *in, normal *g)
{
    const double low = zb_fix_log(in->step_min), high = zb_fix_log(in->step_max);
    for (size_t i = 0; i < n; i++) {
        double dt = zb_fix_exp(low + (high - low) * zb_rng_f64(&g->rng));
        dt = dt < in->step_floor ? in->step_floor : dt;
        to[i] = (float)(dt + zb_fix_log(1 - zb_fix_exp(-dt))); /* the inverse of softplus */
    }
}

/* log 1, log 2, ... along the last dimension. */
static void fill_a_log(float *to, const zb_spec *s)
{
    const size_t n = zb_spec_elements(s), last = s->shape[s->n_dims - 1];
    for (size_t i = 0; i < n; i++)
        to[i] = (float)zb_fix_log((double)(i % last + 1));
}

static double deviation_of(const init *in, const zb_spec *s)
{
    const zb_config *c = &in->plan.config;
    if (in->o.scheme == ZAMBA_INIT_TRANSFORMERS)
        return in->range;
    if (s->role == ZB_EMBED)
        return 0.04;
    const double plain = 1 / sqrt((double)s->shape[s->n_dims - 1]);
    const int back = s->role == ZB_OUT_PROJ || s->role == ZB_O || s->role == ZB_DOWN || s->role == ZB_LINEAR;
    return back ? plain / sqrt(2 * (double)c->n_layers) : plain;
}

static void fill_tensor(float *to, const init *in, const zb_spec *s)
{
    const size_t n = zb_spec_elements(s);
    normal g = {.has_spare = 0};
    zb_rng_seed(&g.rng, zb_hash(s->name, strlen(s->name), in->o.seed + 1));
    if (s->part == ZB_PART_NORM || s->role == ZB_GATED_NORM || s->role == ZB_D)
        fill(to, n, 1);
    else if (s->role == ZB_A_LOG)
        fill_a_log(to, s);
    else if (s->role == ZB_DT_BIAS)
        fill_dt_bias(to, n, in, &g);
    else if (s->role == ZB_CONV && in->o.scheme == ZAMBA_INIT_SCALED)
        fill_uniform(to, n, 1 / sqrt((double)s->shape[2]), &g);
    else if (s->role == ZB_DT_PROJ)
        fill_uniform(to, n, 1 / sqrt((double)s->shape[2]), &g);
    else if (s->n_dims < 2) /* biases */
        fill(to, n, 0);
    else
        fill_normal(to, n, deviation_of(in, s), &g);
    const int32_t pad = in->plan.config.pad;
    if (s->role == ZB_EMBED && in->o.scheme == ZAMBA_INIT_TRANSFORMERS && pad >= 0 && (size_t)pad < s->shape[0])
        fill(to + (size_t)pad * s->shape[1], s->shape[1], 0);
}

/* ---- the config ---- */

static double number_of(const init *in, const char *key, double fallback)
{
    const json_t *v = json_object_get(in->root, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

static zamba_status read_config(init *in, const char *path)
{
    struct stat sb;
    char inside[4096];
    zb_config c = {0};
    zamba_status st = ZAMBA_OK;
    if (stat(path, &sb) == 0 && S_ISDIR(sb.st_mode)) {
        st = zb_path_join(inside, sizeof inside, path, "config.json", in->err);
        path = inside;
    }
    if (st == ZAMBA_OK)
        st = zb_json_read(&in->root, path, zb_json_small, in->err);
    if (st == ZAMBA_OK)
        st = zb_config_parse(&c, in->root, path, ZAMBA_DT_FLOOR_AUTO, in->err);
    if (st == ZAMBA_OK && c.packing.method != ZB_PACK_NONE) {
        st = zb_fail(in->err, ZAMBA_E_UNSUPPORTED, "%s: quantization_config: a new model is not packed (remove it)",
                     path);
        zb_config_free(&c);
    }
    if (st == ZAMBA_OK)
        st = zb_plan_build(&in->plan, &c, path, in->err);
    if (st != ZAMBA_OK)
        return st;
    in->range = number_of(in, "initializer_range", 0.02);
    in->step_min = number_of(in, "time_step_min", 0.001);
    in->step_max = number_of(in, "time_step_max", 0.1);
    in->step_floor = number_of(in, "time_step_floor", 1e-4);
    if (!(in->range > 0 && in->range < 100) || !(in->step_min > 0 && in->step_min <= in->step_max) ||
        !(in->step_max < 1e3) || !(in->step_floor >= 0 && in->step_floor < 1e3))
        return zb_fail(in->err, ZAMBA_E_FORMAT,
                       "%s: initializer_range %g, time_step_min %g, time_step_max %g, time_step_floor %g: wanted "
                       "positive numbers, the least step below the greatest",
                       path, in->range, in->step_min, in->step_max, in->step_floor);
    const char *const type = json_object_get(in->root, "torch_dtype") != NULL ? "torch_dtype" : "dtype";
    if (json_object_set_new(in->root, type, json_string("float32")) != 0)
        return zb_fail_memory(in->err, path, 0);
    return ZAMBA_OK;
}

/* ---- the folder ---- */

static zamba_status write_text(const init *in, const zb_folder_out *folder, const char *name, const char *text,
                               size_t n)
{
    char path[4096];
    const char *slash = strchr(name, '/');
    zamba_status st = ZAMBA_OK;
    if (slash != NULL) {
        char outer[64], inner[4096];
        snprintf(outer, sizeof outer, "%.*s", (int)(slash - name), name);
        st = zb_path_join(inner, sizeof inner, folder->tmp, outer, in->err);
        if (st == ZAMBA_OK)
            (void)mkdir(inner, 0777); /* what fails here fails in the next lines */
    }
    if (st == ZAMBA_OK)
        st = zb_path_join(path, sizeof path, folder->tmp, name, in->err);
    return st == ZAMBA_OK ? zb_file_write(path, &(zb_file_part){text, n}, 1, in->err) : st;
}

static zamba_status write_config(const init *in, const zb_folder_out *folder)
{
    char *text = json_dumps(in->root, JSON_INDENT(2));
    zamba_status st = text != NULL ? write_text(in, folder, "config.json", text, strlen(text))
                                   : zb_fail_memory(in->err, folder->path, 0);
    free(text);
    return st;
}

/* All texts that belong to a checkpoint but for the configs. */
static zamba_status copy_tokenizer(const init *in, const zb_folder_out *folder, const char *from)
{
    zamba_tokenizer *tokenizer = NULL;
    zb_checkpoint c = {0};
    zamba_status st = zamba_tokenizer_open(&tokenizer, from, in->err);
    if (st == ZAMBA_OK && (size_t)zamba_tokenizer_n_vocab(tokenizer) > in->plan.config.vocab_size)
        st = zb_fail(in->err, ZAMBA_E_MISMATCH,
                     "%s: the tokenizer has %d ids, the config's vocab_size is %zu (set it to at least that)", from,
                     zamba_tokenizer_n_vocab(tokenizer), in->plan.config.vocab_size);
    zamba_tokenizer_close(tokenizer);
    if (st == ZAMBA_OK)
        st = zb_checkpoint_open(&c, from, in->err);
    for (size_t i = 0; zb_checkpoint_texts[i] != NULL && st == ZAMBA_OK; i++) {
        const char *name = zb_checkpoint_texts[i];
        zb_buf text = {0};
        if (strcmp(name, "config.json") == 0 || strcmp(name, "generation_config.json") == 0)
            continue;
        st = zb_checkpoint_text(&c, name, &text, in->err);
        if (st == ZAMBA_OK)
            st = write_text(in, folder, name, text.data != NULL ? text.data : "", text.n);
        else if (st == ZAMBA_E_NOT_FOUND)
            st = ZAMBA_OK;
        zb_buf_free(&text);
    }
    zb_checkpoint_close(&c);
    return st;
}

static zamba_status write_weights(const init *in, const zb_folder_out *folder)
{
    zb_shards *w = NULL;
    zamba_status st = zb_shards_create(&w, folder->tmp, 5000000000u, in->err);
    if (st != ZAMBA_OK)
        return st;
    for (size_t i = 0; i < in->plan.n_specs; i++)
        zb_shards_declare(w, in->plan.specs[i].name, ZB_F32, in->plan.specs[i].shape, in->plan.specs[i].n_dims);
    st = zb_shards_begin(w, in->err);
    for (size_t i = 0; i < in->plan.n_specs && st == ZAMBA_OK; i++) {
        const size_t n = zb_spec_elements(&in->plan.specs[i]);
        float *values = malloc(n * sizeof *values);
        if (values == NULL) {
            st = zb_fail_memory(in->err, in->plan.specs[i].name, n * sizeof *values);
        } else {
            fill_tensor(values, in, &in->plan.specs[i]);
            st = zb_shards_append(w, values, n * sizeof *values, in->err);
        }
        free(values);
    }
    if (st == ZAMBA_OK)
        return zb_shards_finish(w, in->err);
    zb_shards_cancel(w);
    return st;
}

zamba_status zamba_model_init(const char *config, const char *tokenizer, const char *out,
                              const zamba_init_options *options, zamba_error *err)
{
    init in = {.o = zamba_init_defaults(), .err = err};
    zb_folder_out folder = {0};
    if (config == NULL || out == NULL || out[0] == '\0')
        return zb_fail(err, ZAMBA_E_ARG, "new model: no config, or no name of the folder to write");
    if (options != NULL && options->size != sizeof *options)
        return zb_fail(err, ZAMBA_E_ARG,
                       "new model: size is not that of the struct (fill options with "
                       "zamba_init_defaults())");
    if (options != NULL)
        in.o = *options;
    if ((int)in.o.scheme < 0 || in.o.scheme > ZAMBA_INIT_TRANSFORMERS)
        return zb_fail(err, ZAMBA_E_ARG, "new model: scheme %d is none of scaled, transformers", (int)in.o.scheme);
    zamba_status st = read_config(&in, config);
    if (st == ZAMBA_OK)
        st = zb_folder_out_open(&folder, out, 0, err);
    if (st == ZAMBA_OK && tokenizer != NULL)
        st = copy_tokenizer(&in, &folder, tokenizer);
    if (st == ZAMBA_OK)
        st = write_config(&in, &folder);
    if (st == ZAMBA_OK)
        st = write_weights(&in, &folder);
    if (st == ZAMBA_OK)
        st = zb_folder_out_commit(&folder, zb_checkpoint_texts, err);
    zb_folder_out_discard(&folder);
    zb_plan_free(&in.plan);
    json_decref(in.root);
    return st;
}

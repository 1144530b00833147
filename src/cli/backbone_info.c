/* backbone_info.c — `zamba backbone info|pattern|compare`: what the options of a frame model make, before any weight is
 * there. */
#include <stdlib.h>
#include <string.h>

#include "backbone_verbs.h"

/* Of a saved model, or of the command line. *model stays open if there is one: the options may point into it. */
static int options_of(const cli_args *args, const char *path, zamba_backbone **model, zamba_backbone_options *o)
{
    zamba_error err = {0};
    *model = NULL;
    int code;
    if (path) {
        const zamba_backbone_run run = frame_run(args);
        code = frame_model_open(args, path, &run, model);
        if (code == 0)
            *o = *zamba_backbone_get_options(*model);
        return code;
    }
    code = frame_options(args, "exphil", o);
    if (code == 0 && zamba_backbone_check(o, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    return code;
}

static zamba_backbone_layer *layers_of(const zamba_backbone_options *o)
{
    zamba_error err = {0};
    zamba_backbone_layer *layers = calloc((size_t)o->num_layers, sizeof *layers);
    if (!layers) {
        cli_error("out of memory");
    } else if (zamba_backbone_layer_pattern(o, layers, (size_t)o->num_layers, &err) != ZAMBA_OK) {
        cli_fail(&err);
        free(layers);
        layers = NULL;
    }
    return layers;
}

/* Bytes of a stream of one timeline, and of the model with its copies of the weights. */
static zamba_status sizes_with(const zamba_backbone_options *o, zamba_backbone_weights weights, size_t *stream,
                               size_t *model, zamba_error *err)
{
    zamba_backbone_run run = zamba_backbone_run_defaults();
    zamba_backbone *b = NULL;
    run.weights = weights;
    const zamba_status st = zamba_backbone_create(&b, o, &run, 0, err);
    if (st == ZAMBA_OK) {
        *stream = zamba_backbone_stream_bytes(b, 1);
        *model = zamba_backbone_bytes(b);
    }
    zamba_backbone_close(b);
    return st;
}

static const char *const weight_names[] = {"f32", "bf16", "int8"};

static json_t *options_json(const zamba_backbone_options *o)
{
    json_t *root = json_object();
    char value[40];
    const char *name;
    for (size_t i = 0; (name = zamba_backbone_option_name(i)) != NULL; i++) {
        char *end;
        if (zamba_backbone_option_get(o, name, value, sizeof value, NULL) != ZAMBA_OK)
            continue;
        const double x = strtod(value, &end);
        json_object_set_new(root, name,
                            *end || !*value                ? json_string(value)
                            : strpbrk(value, ".e") != NULL ? json_real(x)
                                                           : json_integer((json_int_t)x));
    }
    return root;
}

static json_t *pattern_json(const zamba_backbone_options *o, const zamba_backbone_layer *layers)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < o->num_layers; i++)
        json_array_append_new(list, json_string(zamba_backbone_layer_name(layers[i])));
    return list;
}

static void print_options(const zamba_backbone_options *o)
{
    char value[40];
    const char *name;
    for (size_t i = 0; (name = zamba_backbone_option_name(i)) != NULL; i++)
        if (zamba_backbone_option_get(o, name, value, sizeof value, NULL) == ZAMBA_OK)
            out_format("  %-16s %s\n", name, value);
    for (size_t i = 0; i < o->n_embeddings; i++)
        out_format("  ids %-12s %d of %d numbers, %d in a frame\n", o->embeddings[i].name, (int)o->embeddings[i].ids,
                   (int)o->embeddings[i].width, (int)o->embeddings[i].uses);
    for (size_t i = 0; i < o->n_heads; i++)
        out_format("  head %-11s %d logits, %d in between, weight %g\n", o->heads[i].name, (int)o->heads[i].n,
                   (int)o->heads[i].hidden, o->heads[i].weight);
}

/* One letter a layer: M, or M+A, or A. */
static void print_row(const zamba_backbone_options *o, const zamba_backbone_layer *layers)
{
    for (int32_t i = 0; i < o->num_layers; i++)
        out_format("%s%s", i ? " " : "",
                   layers[i] == ZAMBA_BACKBONE_LAYER_MAMBA             ? "M"
                   : layers[i] == ZAMBA_BACKBONE_LAYER_MAMBA_ATTENTION ? "M+A"
                                                                       : "A");
}

int backbone_info(const cli_args *args, const char *path)
{
    zamba_error err = {0};
    zamba_backbone *model = NULL;
    zamba_backbone_options o;
    int64_t formula = 0, exact = 0;
    size_t stream[3] = {0}, bytes[3] = {0};
    char a[32], b[32];
    int code = options_of(args, path, &model, &o);
    if (code)
        return code;
    zamba_backbone_layer *layers = layers_of(&o);
    zamba_status st = zamba_backbone_param_count(&o, &formula, &err);
    if (st == ZAMBA_OK)
        st = zamba_backbone_exact_count(&o, &exact, &err);
    for (int w = 0; w < 3 && st == ZAMBA_OK; w++)
        st = sizes_with(&o, (zamba_backbone_weights)w, &stream[w], &bytes[w], &err);
    const size_t state = zamba_backbone_state_bytes(&o);
    if (st != ZAMBA_OK || !layers) {
        code = st != ZAMBA_OK ? cli_fail(&err) : 1;
    } else if (args->json) {
        json_t *memory = json_object();
        for (int w = 0; w < 3; w++)
            json_object_set_new(
                memory, weight_names[w],
                json_pack("{s:I, s:I}", "model_bytes", (json_int_t)bytes[w], "stream_bytes", (json_int_t)stream[w]));
        code = !out_json(json_pack("{s:o, s:o, s:I, s:I, s:i, s:i, s:i, s:b, s:I, s:o}", "options", options_json(&o),
                                   "layer_pattern", pattern_json(&o, layers), "param_count", (json_int_t)formula,
                                   "exact_count", (json_int_t)exact, "output_size", (int)zamba_backbone_output_size(&o),
                                   "frame_size", (int)zamba_backbone_frame_size(&o), "logit_size",
                                   (int)zamba_backbone_logit_size(&o), "streams", state > 0, "state_bytes",
                                   (json_int_t)state, "memory", memory),
                         2);
    } else {
        print_options(&o);
        out_format("\nlayers        ");
        print_row(&o, layers);
        out_format("\nframe         %d numbers in, %d out", (int)zamba_backbone_frame_size(&o),
                   (int)zamba_backbone_output_size(&o));
        if (zamba_backbone_logit_size(&o) > 0)
            out_format(", %d logits", (int)zamba_backbone_logit_size(&o));
        out_format("\nparameters    %s", cli_number((uint64_t)exact, a));
        out_format(" (%s by the documented formula, without biases and norms)\n", cli_number((uint64_t)formula, b));
        if (state > 0)
            out_format("state         %s bytes a timeline, whatever its length\n", cli_number(state, a));
        else
            out_format("state         none: block gated weighs a frame by the length of its sequence, so it cannot "
                       "stream\n");
        for (int w = 0; w < 3; w++) {
            out_format("%s %-4s   %s", w ? "             " : "memory       ", weight_names[w],
                       cli_bytes((double)bytes[w], a));
            if (stream[w] > 0)
                out_format(" the model, %s bytes a stream", cli_number(stream[w], b));
            out_text("\n");
        }
    }
    free(layers);
    zamba_backbone_close(model);
    return code;
}

int backbone_pattern(const cli_args *args, const char *path)
{
    zamba_backbone *model = NULL;
    zamba_backbone_options o;
    int code = options_of(args, path, &model, &o);
    if (code)
        return code;
    zamba_backbone_layer *layers = layers_of(&o);
    if (!layers) {
        code = 1;
    } else if (args->json) {
        code = !out_json(pattern_json(&o, layers), 0);
    } else {
        for (int32_t i = 0; i < o.num_layers; i++)
            out_format("%3d  %s\n", (int)i + 1, zamba_backbone_layer_name(layers[i]));
        out_text(o.ffn == ZAMBA_BACKBONE_FFN_EVERY
                     ? "\nmamba, attention: each with a feed-forward of its own; all attention layers share one set of "
                       "attention weights\n"
                     : "\nmamba_attention: Mamba, then the attention and feed-forward whose weights all such layers "
                       "share\n");
    }
    free(layers);
    zamba_backbone_close(model);
    return code;
}

int backbone_compare(const cli_args *args, const char *path)
{
    zamba_error err = {0};
    zamba_backbone *model = NULL;
    zamba_backbone_options o;
    zamba_backbone_comparison c = {.size = sizeof c};
    char a[32];
    int code = options_of(args, path, &model, &o);
    if (code == 0 && zamba_backbone_compare_to_jamba(&o, &c, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0 && args->json) {
        code = !out_json(json_pack("{s:I, s:I, s:I, s:f, s:b}", "zamba_params", (json_int_t)c.zamba_params,
                                   "jamba_params", (json_int_t)c.jamba_params, "savings", (json_int_t)c.savings,
                                   "savings_percent", c.savings_percent, "clamped", c.clamped != 0),
                         0);
    } else if (code == 0) {
        out_format("zamba    %13s  one attention block, shared\n", cli_number((uint64_t)c.zamba_params, a));
        out_format("jamba    %13s  one at each place\n", cli_number((uint64_t)c.jamba_params, a));
        out_format("savings  %13s  %.1f %%%s\n", cli_number((uint64_t)c.savings, a), c.savings_percent,
                   c.clamped ? "  (the formula gives less than 0, as there is no attention at all)" : "");
    }
    zamba_backbone_close(model);
    return code;
}

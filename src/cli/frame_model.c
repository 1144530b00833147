/* frame_model.c — see frame_model.h. Names of the model's options come from the option table, their meaning from the
 * library. */
#include "frame_model.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"

enum { MOST_BYTES_LOG = 34 };

/* The row of the option table whose value is frames.options[i]; *n letters of its first name. */
static const char *name_of(size_t i, size_t *n)
{
    const size_t offset = offsetof(cli_args, frames.options) + i * sizeof(const char *);
    for (size_t k = 0; k < cli_n_options; k++)
        if (cli_options[k].offset == offset && (cli_options[k].commands & CLI_FRAMES) &&
            cli_options[k].kind == CLI_TEXT)
            return cli_option_name(&cli_options[k], 0, n);
    return NULL;
}

bool frame_option_given(const cli_args *args, const char *name)
{
    for (size_t i = 0; i < CLI_FRAME_OPTIONS; i++) {
        size_t n = 0;
        const char *have = args->frames.options[i] ? name_of(i, &n) : NULL;
        if (have && strlen(name) == n && memcmp(have, name, n) == 0)
            return true;
    }
    return false;
}

bool frame_options_given(const cli_args *args, const char **name)
{
    static char text[40];
    *name = "preset";
    if (args->frames.preset)
        return true;
    for (size_t i = 0; i < CLI_FRAME_OPTIONS; i++) {
        size_t n = 0;
        const char *have = args->frames.options[i] ? name_of(i, &n) : NULL;
        if (!have)
            continue;
        snprintf(text, sizeof text, "%.*s", (int)n, have);
        *name = text;
        return true;
    }
    return false;
}

int frame_options(const cli_args *args, const char *fallback, zamba_backbone_options *o)
{
    zamba_error err = {0};
    char name[40];
    if (zamba_backbone_preset(o, args->frames.preset ? args->frames.preset : fallback, &err) != ZAMBA_OK) {
        cli_fail(&err);
        return cli_hint(args->command);
    }
    for (size_t i = 0; i < CLI_FRAME_OPTIONS; i++) {
        size_t n = 0;
        const char *have = args->frames.options[i] ? name_of(i, &n) : NULL;
        if (!have)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)n, have);
        if (zamba_backbone_option_set(o, name, args->frames.options[i], &err) != ZAMBA_OK) {
            cli_fail(&err);
            return cli_hint(args->command);
        }
    }
    return 0;
}

zamba_backbone_run frame_run(const cli_args *args)
{
    zamba_backbone_run run = zamba_backbone_run_defaults();
    if (args->frames.weights > 0)
        run.weights = (zamba_backbone_weights)(args->frames.weights - 1);
    if (args->frames.non_finite == 1)
        run.non_finite = ZAMBA_BACKBONE_NON_FINITE_PASS;
    run.n_threads = (int32_t)args->threads;
    return run;
}

int frame_model_open(const cli_args *args, const char *path, const zamba_backbone_run *run, zamba_backbone **out)
{
    zamba_error err = {0};
    zamba_backbone_options o;
    const char *name;
    *out = NULL;
    if (path && frame_options_given(args, &name)) {
        cli_error("%s: a saved model has its own options, --%s does not go with it", path, name);
        return cli_hint(args->command);
    }
    if (path)
        return zamba_backbone_load(out, path, run, &err) == ZAMBA_OK ? 0 : cli_fail(&err);
    const int code = frame_options(args, "exphil", &o);
    if (code)
        return code;
    return zamba_backbone_create(out, &o, run, (uint64_t)args->training.seed, &err) == ZAMBA_OK ? 0 : cli_fail(&err);
}

/* ---- Frames ---- */

static int wrong_tensor(const char *path, const char *tensor, const char *why)
{
    return cli_error("%s: tensor %s: %s", path, tensor, why);
}

/* Only f32, whole, inside the file: everything else is an error. */
static int take_tensor(const char *path, const char *tensor, const char *text, size_t n, frame_numbers *out)
{
    char why[400];
    uint64_t header = 0;
    for (int i = 7; n >= 8 && i >= 0; i--)
        header = header << 8 | (unsigned char)text[i];
    if (n < 8 || header > n - 8)
        return cli_error("%s: no safetensors file: a header of %llu bytes in a file of %zu (cut-off file?)", path,
                         (unsigned long long)header, n);
    json_t *root = cli_json_parse(text + 8, (size_t)header, why, sizeof why);
    const json_t *t = json_object_get(root, tensor), *shape = json_object_get(t, "shape");
    const json_t *offsets = json_object_get(t, "data_offsets");
    const char *dtype = json_string_value(json_object_get(t, "dtype"));
    uint64_t count = 1;
    int code = 0;
    if (!root)
        code = cli_error("%s: the header is no JSON: %s", path, why);
    else if (!t)
        code = cli_error("%s: has no tensor %s", path, tensor);
    else if (!dtype || strcmp(dtype, "F32") != 0)
        code = wrong_tensor(path, tensor, "is not of type F32");
    else if (json_array_size(shape) < 1 || json_array_size(shape) > 4)
        code = wrong_tensor(path, tensor, "has not 1 to 4 dimensions");
    for (size_t d = 0; code == 0 && d < json_array_size(shape); d++) {
        const json_int_t v = json_integer_value(json_array_get(shape, d));
        if (v < 1 || __builtin_mul_overflow(count, (uint64_t)v, &count) || count > n)
            code = wrong_tensor(path, tensor, "has a shape that the file has no room for");
        out->shape[out->n_dims++] = v;
    }
    const uint64_t from = (uint64_t)json_integer_value(json_array_get(offsets, 0)),
                   to = (uint64_t)json_integer_value(json_array_get(offsets, 1));
    if (code == 0 && (to < from || to > n - 8 - header || to - from != count * sizeof(float)))
        code = wrong_tensor(path, tensor, "lies outside the file, or its bytes are not those of its shape");
    if (code == 0 && !(out->data = malloc((size_t)count * sizeof(float))))
        code = cli_error("out of memory");
    if (code == 0) {
        memcpy(out->data, text + 8 + header + from, (size_t)count * sizeof(float));
        out->n = (size_t)count;
    }
    json_decref(root);
    return code;
}

int frame_numbers_read(const char *path, const char *tensor, frame_numbers *out)
{
    char *text = NULL;
    size_t n = 0;
    *out = (frame_numbers){0};
    const size_t length = strlen(path);
    const bool packed = length > 12 && strcmp(path + length - 12, ".safetensors") == 0;
    int code = cli_read_file(path, (size_t)1 << MOST_BYTES_LOG, &text, &n);
    if (code == 0 && packed) {
        code = take_tensor(path, tensor, text, n, out);
        free(text);
        return code;
    }
    if (code == 0 && n % sizeof(float) != 0)
        code = cli_error("%s: %zu bytes are no whole number of float32 (cut-off file?)", path, n);
    if (code) {
        free(text);
        return code;
    }
    *out = (frame_numbers){.data = (float *)(void *)text, .n = n / sizeof(float), .n_dims = 1};
    out->shape[0] = (int64_t)out->n;
    return 0;
}

void frame_numbers_out(const float *x, size_t n)
{
    out_bytes(x, n * sizeof *x);
}

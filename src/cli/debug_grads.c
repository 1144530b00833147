/* debug_grads.c — see debug_grads.h. Ids and labels come as Hugging Face's models take them: labels stand at the same
 * places as the ids and are shifted inside, -100 is not learned; the loss is the mean over all that are. */
#include "debug_grads.h"

#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "out_safetensors.h"
#include "zamba_train.h"

enum { IDS_BYTES = 6 << 20 }; /* of an ids file: bounds what its JSON takes in memory */

typedef struct rows {
    int32_t **ids;
    size_t *lengths, n;
} rows;

typedef struct grads {
    const cli_args *args;
    rows ids, labels;
    zamba_trainer *trainer;
    zamba_example *examples;
    st_writer out;
    size_t next; /* tensor of the file that comes */
    int code;
} grads;

static void free_rows(rows *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->ids[i]);
    free(r->ids);
    free(r->lengths);
}

/* A list of lists, one flat list, or either under a key. */
static int read_rows(rows *r, const char *path, const char *key)
{
    char *text = NULL, why[256] = "";
    size_t n;
    int code = cli_read_file(path, IDS_BYTES, &text, &n);
    if (code)
        return code;
    json_t *root = cli_json_parse(text, n, why, sizeof why);
    free(text);
    if (!root)
        return cli_error("%s: %s", path, why);
    json_t *list = json_is_object(root) ? json_object_get(root, key) : root;
    const bool flat = json_is_integer(json_array_get(list, 0));
    const size_t count = flat ? 1 : json_array_size(list);
    if (count == 0)
        code = cli_error("%s: wanted a list of lists, such as [[1, 2, 3], [4, 5]]", path);
    r->ids = calloc(count + 1, sizeof *r->ids);
    r->lengths = calloc(count + 1, sizeof *r->lengths);
    if (!r->ids || !r->lengths)
        code = cli_error("out of memory");
    for (size_t i = 0; code == 0 && i < count; i++) {
        r->n = i + 1;
        if (!cli_ids_of_json(flat ? list : json_array_get(list, i), &r->ids[i], &r->lengths[i], why, sizeof why))
            code = cli_error("%s: row %zu: %s", path, i, why);
        else if (r->lengths[i] < 2)
            code = cli_error("%s: row %zu has %zu numbers, wanted at least 2", path, i, r->lengths[i]);
    }
    json_decref(root);
    return code;
}

/* Labels become targets of the place before. */
static int make_examples(grads *g, size_t *longest)
{
    const rows *labels = &g->labels;
    g->examples = calloc(g->ids.n, sizeof *g->examples);
    if (!g->examples)
        return cli_error("out of memory");
    if (labels->n != g->ids.n)
        return cli_error("%s has %zu rows, %s has %zu: wanted as many labels as ids", g->args->labels, labels->n,
                         g->args->ids, g->ids.n);
    for (size_t i = 0; i < g->ids.n; i++) {
        int32_t *t = labels->ids[i];
        const size_t n = g->ids.lengths[i];
        if (labels->lengths[i] != n)
            return cli_error("row %zu has %zu ids and %zu labels: wanted as many labels as ids", i, n,
                             labels->lengths[i]);
        for (size_t k = 0; k < n; k++)
            if (t[k] < 0 && t[k] != -100)
                return cli_error("%s: row %zu, position %zu: found %d, wanted an id, or -100 for what is not learned",
                                 g->args->labels ? g->args->labels : g->args->ids, i, k, t[k]);
        for (size_t k = 0; k < n; k++)
            t[k] = k + 1 < n && t[k + 1] >= 0 ? t[k + 1] : -1;
        g->examples[i] = (zamba_example){g->ids.ids[i], t, n, (int32_t)i};
        *longest = n > *longest ? n : *longest;
    }
    return 0;
}

static int describe(grads *g)
{
    zamba_error err = {0};
    const zamba_model *m = zamba_trainer_model(g->trainer);
    int code = st_add_shape(&g->out, "loss", NULL, 0);
    for (size_t i = 0; i < zamba_model_n_tensors(m) && code == 0; i++) {
        zamba_tensor_info info = {.size = sizeof info};
        if (zamba_model_tensor(m, i, &info, &err) != ZAMBA_OK)
            return cli_fail(&err);
        code = st_add_shape(&g->out, info.name, info.shape, info.n_dims);
    }
    return code;
}

static int on_gradient(void *user, const char *name, const float *data, const int64_t *shape, int32_t n_dims)
{
    grads *g = user;
    (void)name, (void)shape, (void)n_dims;
    g->next++;
    g->code = st_put(&g->out, g->next, 0, g->out.tensors[g->next].rows, data);
    return g->code;
}

static int compute(grads *g)
{
    zamba_error err = {0};
    double loss = 0;
    const zamba_data_batch batch = {.examples = g->examples, .n_examples = g->ids.n, .n_rows = g->ids.n};
    const zamba_status st = zamba_trainer_gradients(g->trainer, &batch, on_gradient, g, &loss, &err);
    if (st != ZAMBA_OK)
        return g->code ? g->code : cli_fail(&err);
    const float value = (float)loss;
    return st_put(&g->out, 0, 0, 1, &value);
}

int debug_grads(const cli_args *args, const char *path)
{
    grads g = {.args = args, .out = {.fd = -1}};
    zamba_train_options o = zamba_train_defaults();
    zamba_error err = {0};
    size_t longest = 2;
    int code = read_rows(&g.ids, args->ids, "ids");
    if (code == 0)
        code = read_rows(&g.labels, args->labels ? args->labels : args->ids, args->labels ? "labels" : "ids");
    if (code == 0)
        code = make_examples(&g, &longest);
    o.n_threads = (int32_t)args->threads;
    o.dt_floor = (zamba_dt_floor)args->dt_floor;
    o.bf16 = args->compute == ZAMBA_COMPUTE_BF16;
    o.sequence_length = longest;
    o.hidden_dropout = o.attention_dropout = 0; /* whatever the config says: the gradient of the model as it is */
    if (code == 0 && zamba_trainer_open(&g.trainer, path, &o, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0)
        code = describe(&g);
    if (code == 0)
        code = st_start(&g.out, args->output);
    if (code == 0)
        code = compute(&g);
    code = st_close(&g.out, code);
    zamba_trainer_close(g.trainer);
    free_rows(&g.ids);
    free_rows(&g.labels);
    free(g.examples);
    return code;
}

/* backbone_case.c — see backbone_case.h. */
#include "support/backbone_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backbone/backbone.h"

static void open_tensors(zb_tensors *ts, const char *folder, const char *name, const char *file)
{
    char path[512];
    zamba_error err;
    *ts = (zb_tensors){0};
    snprintf(path, sizeof path, "%s/%s/%s", folder, name, file);
    CHECK_OK(zb_tensors_open_file(ts, path, &err), err);
}

static void read_options(bb_case *c)
{
    const char *key;
    json_t *v;
    zamba_error err;
    c->o = zamba_backbone_defaults();
    json_object_foreach(json_object_get(c->json, "options"), key, v)
    {
        char text[40];
        if (json_is_string(v))
            snprintf(text, sizeof text, "%s", json_string_value(v));
        else if (json_is_boolean(v))
            snprintf(text, sizeof text, "%s", json_is_true(v) ? "true" : "false");
        else
            snprintf(text, sizeof text, "%.15g", json_number_value(v));
        CHECK_OK(zamba_backbone_option_set(&c->o, key, text, &err), err);
    }
}

void bb_case_load(bb_case *c, const char *folder, const char *name)
{
    char path[512];
    zamba_error err;
    *c = (bb_case){0};
    snprintf(c->name, sizeof c->name, "%s", name);
    snprintf(path, sizeof path, "%s/%s/case.json", folder, name);
    CHECK_OK(zb_json_read(&c->json, path, zb_json_small, &err), err);
    read_options(c);
    c->batch = (size_t)json_integer_value(json_object_get(c->json, "batch"));
    c->seq = (size_t)json_integer_value(json_object_get(c->json, "seq_len"));
    snprintf(c->weights, sizeof c->weights, "%s/%s/weights.safetensors", folder, name);
    open_tensors(&c->inputs, folder, name, "inputs.safetensors");
    open_tensors(&c->outputs, folder, name, "outputs.safetensors");
    open_tensors(&c->grads, folder, name, "grads.safetensors");
    c->frames = bb_case_get(&c->inputs, "frames")->data;
    c->target = bb_case_get(&c->inputs, "target")->data;
}

void bb_case_free(bb_case *c)
{
    zb_tensors_close(&c->inputs);
    zb_tensors_close(&c->outputs);
    zb_tensors_close(&c->grads);
    json_decref(c->json);
}

zamba_backbone *bb_case_open(const bb_case *c, zamba_backbone_weights weights, int threads)
{
    zamba_error err;
    zamba_backbone *b;
    zamba_backbone_run run = zamba_backbone_run_defaults();
    run.weights = weights;
    run.n_threads = threads;
    CHECK_OK(zamba_backbone_create(&b, &c->o, &run, 1, &err), err);
    CHECK_OK(zamba_backbone_load_weights(b, c->weights, &err), err);
    return b;
}

const zb_tensor *bb_case_get(const zb_tensors *ts, const char *name)
{
    const zb_tensor *t = zb_tensors_find(ts, name);
    if (t == NULL)
        fail_msg("the fixture has no %s", name);
    return t;
}

static void check_part(const bb_case *c, const char *name, size_t timeline, const float *got, size_t n, double tol)
{
    const zb_tensor *t = bb_case_get(&c->outputs, name);
    const float *all = t->data, *want = all + timeline * n;
    float most = 1;
    assert_int_equal(t->bytes, c->batch * n * sizeof(float));
    for (size_t i = 0; i < c->batch * n; i++)
        most = fmaxf(most, fabsf(all[i]));
    check_close(got, want, n, tol * (double)most, "%s: %s of timeline %zu", c->name, name, timeline);
}

/* Rings begin anywhere; the reference's lists at the oldest frame. */
static void check_ring(const bb_case *c, const char *name, size_t timeline, const float *ring, size_t W, size_t A,
                       double tol)
{
    const size_t n = c->seq < W ? c->seq : W;
    float *rows = malloc(n * A * sizeof *rows);
    for (size_t i = 0; i < n; i++)
        memcpy(rows + i * A, ring + (c->seq - n + i) % W * A, A * sizeof(float));
    check_part(c, name, timeline, rows, n * A, tol);
    free(rows);
}

void bb_case_check_state(const bb_case *c, const zamba_backbone *b, const zamba_backbone_stream *s, double tol)
{
    const zb_bb_plan *p = &b->plan;
    const size_t bytes = zamba_backbone_snapshot_bytes(b);
    char *snapshot = malloc(bytes), name[64];
    zamba_error err;
    for (size_t i = 0; i < c->batch; i++) {
        CHECK_OK(zamba_backbone_snapshot(s, i, snapshot, bytes, &err), err);
        const float *state = (const float *)(void *)(snapshot + bytes - p->state_floats * sizeof(float));
        for (size_t j = 0; j < (size_t)p->o.num_layers; j++) {
            const zb_bb_layer *l = &p->layers[j];
            if (l->conv != ZB_BB_NONE) {
                snprintf(name, sizeof name, "state.%zu.conv", j);
                if (p->K > 1)
                    check_part(c, name, i, state + l->conv, (p->K - 1) * p->I, tol);
                snprintf(name, sizeof name, "state.%zu.h", j);
                check_part(c, name, i, state + l->memory, p->gated ? p->I : p->I * p->N, tol);
            }
            if (l->keys != ZB_BB_NONE) {
                snprintf(name, sizeof name, "state.%zu.k", j);
                check_ring(c, name, i, state + l->keys, p->W, p->A, tol);
                snprintf(name, sizeof name, "state.%zu.v", j);
                check_ring(c, name, i, state + l->values, p->W, p->A, tol);
            }
        }
    }
    free(snapshot);
}

/* test_backbone_memory.c — what a running backbone takes from the system: steps, snapshots and windows no allocation
 * and no system call; and every allocation of the calls around them fails once without a crash or a leak. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/scratch.h"

#include "support/alloc_hook.h"
#include "zamba_backbone.h"

#if defined(__linux__)
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/seccomp.h>
#endif

static const zamba_backbone_head heads[] = {{"a", ZAMBA_BACKBONE_HEAD_CLASSES, 5, 32, 1}};
static const zamba_backbone_embedding embeddings[] = {{"e", 4, 3, 1}};
static zamba_backbone_weights weights;
static char folder[600];

static zamba_backbone_options options(void)
{
    zamba_backbone_options o = zamba_backbone_defaults();
    o.embed_dim = 40;
    o.hidden_size = 32;
    o.num_layers = 3;
    o.attention_every = 2;
    o.num_heads = 2;
    o.head_dim = 16;
    o.window_size = 6;
    o.embeddings = embeddings;
    o.n_embeddings = 1;
    o.heads = heads;
    o.n_heads = 1;
    return o;
}

typedef struct world {
    zamba_backbone *b;
    zamba_backbone_stream *s, *many;
    zamba_backbone_window *w;
    void *snapshot;
    size_t bytes;
    float frames[3 * 38], out[3 * 32], logits[5];
} world;

static void world_open(world *x)
{
    zamba_error err;
    const zamba_backbone_options o = options();
    zamba_backbone_run run = zamba_backbone_run_defaults();
    run.weights = weights;
    memset(x, 0, sizeof *x);
    CHECK_OK(zamba_backbone_create(&x->b, &o, &run, 1, &err), err);
    CHECK_OK(zamba_backbone_stream_open(&x->s, x->b, 1, &err), err);
    CHECK_OK(zamba_backbone_stream_open(&x->many, x->b, 3, &err), err);
    CHECK_OK(zamba_backbone_window_open(&x->w, x->b, 5, &err), err);
    x->bytes = zamba_backbone_snapshot_bytes(x->b);
    x->snapshot = malloc(x->bytes);
}

static void world_close(world *x)
{
    zamba_backbone_window_close(x->w);
    zamba_backbone_stream_close(x->s);
    zamba_backbone_stream_close(x->many);
    zamba_backbone_close(x->b);
    free(x->snapshot);
}

/* What a game does in its loop; the number of calls that failed. */
static int frames_of_a_game(world *x, int n)
{
    zamba_error err;
    int bad = 0;
    for (int t = 0; t < n; t++) {
        for (size_t i = 0; i < 3 * 38; i++)
            x->frames[i] = i % 38 == 37 ? (float)(t % 4) : (float)((t * 7 + (int)i * 3) % 11) / 11.0f;
        zamba_backbone_warm(t % 2 ? x->s : x->many);
        bad += zamba_backbone_step(x->s, x->frames, x->out, &err) != ZAMBA_OK;
        bad += zamba_backbone_logits(x->b, x->out, 1, x->logits, &err) != ZAMBA_OK;
        bad += zamba_backbone_step(x->many, x->frames, x->out, &err) != ZAMBA_OK;
        bad += zamba_backbone_window_push(x->w, x->frames, x->out, &err) != ZAMBA_OK;
        bad += zamba_backbone_snapshot(x->s, 0, x->snapshot, x->bytes, &err) != ZAMBA_OK;
        bad += zamba_backbone_restore(x->s, 0, x->snapshot, x->bytes, &err) != ZAMBA_OK;
        x->frames[0] = 1.0f / 0.0f; /* refusals, which write a message, are part of it */
        bad += zamba_backbone_step(x->s, x->frames, x->out, &err) != ZAMBA_E_ARG;
        bad += t % 50 == 49 && zamba_backbone_reset(x->s, 0, &err) != ZAMBA_OK;
    }
    return bad;
}

static void test_no_allocation(void **state)
{
    (void)state;
    for (int w = ZAMBA_BACKBONE_F32; w <= ZAMBA_BACKBONE_INT8; w++) {
        world x;
        weights = (zamba_backbone_weights)w;
        world_open(&x);
        alloc_hook_start(-1, 0);
        const int bad = frames_of_a_game(&x, 300);
        const long calls = alloc_hook_stop();
        assert_int_equal(bad, 0);
        assert_int_equal(calls, 0);
        world_close(&x);
    }
}

/* In a child that the kernel kills at its first system call other than read, write and exit: a lock that waits would be
 * one too. */
static void test_no_system_call(void **state)
{
    (void)state;
#if defined(__linux__)
    if (SANITIZED)
        skip();
    for (int w = ZAMBA_BACKBONE_F32; w <= ZAMBA_BACKBONE_INT8; w++) {
        world x;
        weights = (zamba_backbone_weights)w;
        world_open(&x);
        frames_of_a_game(&x, 2); /* the loader binds functions at their first call */
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
                _exit(77);
            const int bad = frames_of_a_game(&x, 200);
            syscall(SYS_exit, bad);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
            skip();
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail_msg("weights %d: the child ended with status %x (9: it made a system call)", w, (unsigned)status);
        world_close(&x);
    }
#else
    skip();
#endif
}

static zamba_status run_life(zamba_error *err)
{
    zamba_backbone *b;
    zamba_backbone_stream *s = NULL;
    zamba_backbone_window *w = NULL;
    const zamba_backbone_options o = options();
    zamba_backbone_run run = zamba_backbone_run_defaults();
    run.weights = weights;
    float frames[10 * 38] = {0}, out[10 * 32];
    zamba_status st = zamba_backbone_create(&b, &o, &run, 1, err);
    assert_true((st == ZAMBA_OK) == (b != NULL));
    if (st != ZAMBA_OK)
        return st;
    st = zamba_backbone_stream_open(&s, b, 2, err);
    if (st == ZAMBA_OK)
        st = zamba_backbone_feed(s, 1, frames, 10, NULL, err);
    if (st == ZAMBA_OK)
        st = zamba_backbone_window_open(&w, b, 3, err);
    if (st == ZAMBA_OK)
        st = zamba_backbone_forward(b, frames, 2, 5, ZAMBA_BACKBONE_ALL, out, err);
    if (st == ZAMBA_OK)
        st = zamba_backbone_build_mamba_layer(b, 0, out, 1, 2, out, err);
    int64_t count;
    if (st == ZAMBA_OK)
        st = zamba_backbone_exact_count(&o, &count, err);
    zamba_backbone_window_close(w);
    zamba_backbone_stream_close(s);
    zamba_backbone_close(b);
    return st;
}

/* Not zamba_backbone_load: jansson itself writes past a buffer when memory ends within certain texts of a config. */
static zamba_status run_load(zamba_error *err)
{
    zamba_backbone *b;
    const zamba_backbone_options o = options();
    char path[700];
    zamba_status st = zamba_backbone_create(&b, &o, NULL, 1, err);
    if (st != ZAMBA_OK)
        return st;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    st = zamba_backbone_load_weights(b, path, err);
    zamba_backbone_close(b);
    return st;
}

static zamba_status run_save(zamba_error *err)
{
    zamba_backbone *b;
    const zamba_backbone_options o = options();
    char path[700];
    zamba_status st = zamba_backbone_create(&b, &o, NULL, 1, err);
    if (st != ZAMBA_OK)
        return st;
    snprintf(path, sizeof path, "%s-again", folder);
    st = zamba_backbone_save(b, path, 1, err);
    zamba_backbone_close(b);
    return st;
}

static void test_every_failure(void **state)
{
    (void)state;
#if ALLOC_HOOK
    scratch s;
    zamba_error err;
    zamba_backbone *b;
    const zamba_backbone_options o = options();
    scratch_open(&s);
    snprintf(folder, sizeof folder, "%s", scratch_path(&s, "saved"));
    CHECK_OK(zamba_backbone_create(&b, &o, NULL, 1, &err), err);
    CHECK_OK(zamba_backbone_save(b, folder, 0, &err), err);
    zamba_backbone_close(b);
    for (int w = ZAMBA_BACKBONE_F32; w <= ZAMBA_BACKBONE_INT8; w++) {
        weights = (zamba_backbone_weights)w;
        check_every_failure("backbone", run_life, ZAMBA_E_MEMORY, 50, 7);
    }
    /* jansson takes a failed allocation for bad JSON here and there */
    check_every_failure("backbone load", run_load, ZAMBA_E_FORMAT, 20, 11);
    check_every_failure("backbone save", run_save, ZAMBA_E_IO, 20, 11);
    scratch_close(&s);
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_allocation), cmocka_unit_test(test_no_system_call),
                                       cmocka_unit_test(test_every_failure)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_backbone_stream.c — timelines of the frame model: steps against whole sequences over 36,000 frames, snapshots,
 * batches, feeds, windows, and what they refuse without having moved. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backbone/backbone.h"
#include "support/backbone_case.h"
#include "support/scratch.h"

#define E 5
#define H 16

static float next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(*seed >> 40) * 0x1p-23f - 1.0f;
}

static float *random_frames(size_t n, size_t width, uint64_t seed)
{
    float *x = malloc(n * width * sizeof *x);
    for (size_t i = 0; i < n * width; i++)
        x[i] = next(&seed);
    return x;
}

static zamba_backbone_options small(zamba_backbone_block block)
{
    zamba_backbone_options o = zamba_backbone_defaults();
    o.embed_dim = E;
    o.hidden_size = H;
    o.num_layers = 3;
    o.attention_every = 2;
    o.state_size = 8;
    o.num_heads = 2;
    o.head_dim = 4; /* A is not H */
    o.window_size = 7;
    o.block = block;
    return o;
}

static zamba_backbone *open_with(const zamba_backbone_options *o, zamba_backbone_weights weights, int pass)
{
    zamba_error err;
    zamba_backbone *b;
    zamba_backbone_run run = zamba_backbone_run_defaults();
    run.weights = weights;
    run.non_finite = pass ? ZAMBA_BACKBONE_NON_FINITE_PASS : ZAMBA_BACKBONE_NON_FINITE_REFUSE;
    CHECK_OK(zamba_backbone_create(&b, o, &run, 7, &err), err);
    return b;
}

static zamba_backbone *open_small(zamba_backbone_block block)
{
    const zamba_backbone_options o = small(block);
    return open_with(&o, ZAMBA_BACKBONE_F32, 0);
}

static zamba_backbone_stream *open_stream(const zamba_backbone *b, size_t batch)
{
    zamba_error err;
    zamba_backbone_stream *s;
    CHECK_OK(zamba_backbone_stream_open(&s, b, batch, &err), err);
    return s;
}

static void step(zamba_backbone_stream *s, const float *frames, float *out)
{
    zamba_error err;
    CHECK_OK(zamba_backbone_step(s, frames, out, &err), err);
}

/* A timeline as bytes; the caller frees. */
static void *snapshot_of(const zamba_backbone *b, const zamba_backbone_stream *s, size_t timeline)
{
    zamba_error err;
    const size_t n = zamba_backbone_snapshot_bytes(b);
    void *p = malloc(n);
    CHECK_OK(zamba_backbone_snapshot(s, timeline, p, n, &err), err);
    return p;
}

static void assert_refused(zamba_status got, zamba_status want, const zamba_error *err, const char *words)
{
    if (got != want || err->code != want || strstr(err->message, words) == NULL)
        fail_msg("%s \"%s\", wanted %s with \"%s\"", zamba_status_name(got), err->message, zamba_status_name(want),
                 words);
}

/* Ten minutes at 60 frames a second: the same bits at every one of them. */
static void test_36000_frames(void **state)
{
    (void)state;
    enum { N = SANITIZED ? 3600 : 36000 };
    zamba_error err;
    float *frames = random_frames(N, E, 1), *all = malloc((size_t)N * H * sizeof *all), out[H];
    static const struct {
        zamba_backbone_block block;
        zamba_backbone_weights weights;
    } forms[] = {{ZAMBA_BACKBONE_MAMBA, ZAMBA_BACKBONE_F32},
                 {ZAMBA_BACKBONE_MAMBA, ZAMBA_BACKBONE_BF16},
                 {ZAMBA_BACKBONE_MAMBA, ZAMBA_BACKBONE_INT8},
                 {ZAMBA_BACKBONE_GATED_CAUSAL, ZAMBA_BACKBONE_F32}};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        const zamba_backbone_options o = small(forms[i].block);
        zamba_backbone *b = open_with(&o, forms[i].weights, 0);
        zamba_backbone_stream *s = open_stream(b, 1);
        const size_t bytes = zamba_backbone_stream_bytes(b, 1);
        CHECK_OK(zamba_backbone_forward(b, frames, 1, N, ZAMBA_BACKBONE_ALL, all, &err), err);
        for (size_t t = 0; t < N; t++) {
            step(s, frames + t * E, out);
            if (memcmp(out, all + t * H, sizeof out) != 0)
                fail_msg("block %d, weights %d: frame %zu differs", (int)forms[i].block, (int)forms[i].weights, t);
        }
        assert_int_equal(zamba_backbone_frame(s, 0), N);
        assert_int_equal(zamba_backbone_stream_bytes(b, 1), bytes);
        zamba_backbone_stream_close(s);
        zamba_backbone_close(b);
    }
    free(frames);
    free(all);
}

/* Netplay: a rollback of seven frames is as if they had not been. */
static void test_rollback(void **state)
{
    (void)state;
    enum { N = 60 };
    zamba_error err;
    zamba_backbone *b = open_small(ZAMBA_BACKBONE_MAMBA);
    zamba_backbone_stream *s = open_stream(b, 1), *two = open_stream(b, 2);
    float *frames = random_frames(N + 8, E, 2), first[7 * H], again[7 * H], pair[2 * H], both[2 * E];
    for (size_t t = 0; t < N; t++) {
        const size_t bytes = zamba_backbone_snapshot_bytes(b);
        void *before = snapshot_of(b, s, 0);
        for (size_t i = 0; i < 7; i++)
            step(s, frames + (t + i) * E, first + i * H);
        CHECK_OK(zamba_backbone_restore(s, 0, before, bytes, &err), err);
        assert_int_equal(zamba_backbone_frame(s, 0), t);
        for (size_t i = 0; i < 7; i++)
            step(s, frames + (t + i) * E, again + i * H);
        assert_memory_equal(first, again, sizeof first);
        /* the same in another stream */
        CHECK_OK(zamba_backbone_restore(two, 1, before, bytes, &err), err);
        for (size_t i = 0; i < 7; i++) {
            memcpy(both, frames, E * sizeof(float));
            memcpy(both + E, frames + (t + i) * E, E * sizeof(float));
            step(two, both, pair);
            assert_memory_equal(pair + H, first + i * H, H * sizeof(float));
        }
        CHECK_OK(zamba_backbone_restore(s, 0, before, bytes, &err), err);
        step(s, frames + t * E, again);
        free(before);
    }
    free(frames);
    zamba_backbone_stream_close(s);
    zamba_backbone_stream_close(two);
    zamba_backbone_close(b);
}

static void test_bad_snapshots(void **state)
{
    (void)state;
    zamba_error err;
    zamba_backbone *b = open_small(ZAMBA_BACKBONE_MAMBA);
    zamba_backbone_options o = small(ZAMBA_BACKBONE_MAMBA);
    o.pos_encoding = ZAMBA_BACKBONE_POS_NONE; /* the same sizes, another function */
    zamba_backbone *other = open_with(&o, ZAMBA_BACKBONE_F32, 0);
    zamba_backbone_stream *s = open_stream(b, 1), *t = open_stream(other, 1);
    float *frames = random_frames(20, E, 3), out[H], nan = NAN;
    for (size_t i = 0; i < 20; i++)
        step(s, frames + i * E, out);
    const size_t bytes = zamba_backbone_snapshot_bytes(b);
    assert_int_equal(bytes, zamba_backbone_snapshot_bytes(other));
    char *good = snapshot_of(b, s, 0), *bad = malloc(bytes);
    memcpy(bad, good, bytes);
    bad[0] ^= 1;
    assert_refused(zamba_backbone_restore(s, 0, bad, bytes, &err), ZAMBA_E_FORMAT, &err, "no snapshot");
    bad[0] ^= 1;
    memcpy(bad + bytes - 4, &nan, 4);
    assert_refused(zamba_backbone_restore(s, 0, bad, bytes, &err), ZAMBA_E_FORMAT, &err, "not finite");
    assert_refused(zamba_backbone_restore(t, 0, good, bytes, &err), ZAMBA_E_MISMATCH, &err, "other options");
    assert_refused(zamba_backbone_restore(s, 0, good, bytes - 1, &err), ZAMBA_E_ARG, &err, "bytes");
    assert_refused(zamba_backbone_restore(s, 1, good, bytes, &err), ZAMBA_E_ARG, &err, "timeline");
    assert_refused(zamba_backbone_restore(s, 0, NULL, bytes, &err), ZAMBA_E_ARG, &err, "bytes");
    assert_refused(zamba_backbone_snapshot(s, 0, bad, bytes + 1, &err), ZAMBA_E_ARG, &err, "bytes");
    assert_refused(zamba_backbone_snapshot(s, 1, bad, bytes, &err), ZAMBA_E_ARG, &err, "timeline");
    char *after = snapshot_of(b, s, 0);
    assert_memory_equal(good, after, bytes);
    free(good);
    free(bad);
    free(after);
    free(frames);
    zamba_backbone_stream_close(s);
    zamba_backbone_stream_close(t);
    zamba_backbone_close(b);
    zamba_backbone_close(other);
}

/* Timelines of a batch neither see each other nor change each other's bits; one is reset while the others go on. */
static void test_batch(void **state)
{
    (void)state;
    enum { B = 5, N = 30 };
    zamba_error err;
    zamba_backbone *b = open_small(ZAMBA_BACKBONE_MAMBA);
    zamba_backbone_stream *all = open_stream(b, B), *one[B];
    float *frames = random_frames(N, B * E, 4), out[B * H], single[H];
    for (size_t i = 0; i < B; i++)
        one[i] = open_stream(b, 1);
    for (size_t t = 0; t < N; t++) {
        if (t == 11) {
            CHECK_OK(zamba_backbone_reset(all, 3, &err), err);
            CHECK_OK(zamba_backbone_reset(one[3], ZAMBA_BACKBONE_ALL_TIMELINES, &err), err);
        }
        step(all, frames + t * B * E, out);
        for (size_t i = 0; i < B; i++) {
            step(one[i], frames + (t * B + i) * E, single);
            assert_memory_equal(single, out + i * H, sizeof single);
            assert_int_equal(zamba_backbone_frame(all, i), zamba_backbone_frame(one[i], 0));
        }
    }
    assert_int_equal(zamba_backbone_frame(all, 3), N - 11);
    assert_refused(zamba_backbone_reset(all, B, &err), ZAMBA_E_ARG, &err, "timeline");
    CHECK_OK(zamba_backbone_reset(all, ZAMBA_BACKBONE_ALL_TIMELINES, &err), err);
    for (size_t i = 0; i < B; i++)
        assert_int_equal(zamba_backbone_frame(all, i), 0);
    for (size_t i = 0; i < B; i++)
        zamba_backbone_stream_close(one[i]);
    zamba_backbone_stream_close(all);
    zamba_backbone_close(b);
    free(frames);
}

static void test_feed(void **state)
{
    (void)state;
    enum { N = 150 };
    static const size_t pieces[] = {1, 40, 3, 32, 33, 41};
    zamba_error err;
    zamba_backbone *b = open_small(ZAMBA_BACKBONE_MAMBA);
    zamba_backbone_stream *s = open_stream(b, 1), *f = open_stream(b, 2);
    float *frames = random_frames(N, E, 5), *want = malloc(N * H * sizeof *want), *got = malloc(N * H * sizeof *got);
    for (size_t t = 0; t < N; t++)
        step(s, frames + t * E, want + t * H);
    size_t at = 0;
    for (size_t i = 0; i < 6; at += pieces[i++])
        CHECK_OK(zamba_backbone_feed(f, 1, frames + at * E, pieces[i], i == 4 ? NULL : got + at * H, &err), err);
    assert_int_equal(at, N);
    assert_memory_equal(want, got, 76 * H * sizeof *want);
    assert_memory_equal(want + 109 * H, got + 109 * H, 41 * H * sizeof *want);
    assert_int_equal(zamba_backbone_frame(f, 0), 0);
    assert_int_equal(zamba_backbone_frame(f, 1), N);
    frames[E * 2] = INFINITY;
    void *before = snapshot_of(b, f, 1);
    assert_refused(zamba_backbone_feed(f, 1, frames, 5, NULL, &err), ZAMBA_E_ARG, &err, "frame 2");
    assert_refused(zamba_backbone_feed(f, 2, frames, 1, NULL, &err), ZAMBA_E_ARG, &err, "timeline");
    void *after = snapshot_of(b, f, 1);
    assert_memory_equal(before, after, zamba_backbone_snapshot_bytes(b));
    free(before);
    free(after);
    free(frames);
    free(want);
    free(got);
    zamba_backbone_stream_close(s);
    zamba_backbone_stream_close(f);
    zamba_backbone_close(b);
}

/* Filling the caches changes nothing: with and without heads, embeddings, and packed maps of each type. */
static void test_warm(void **state)
{
    (void)state;
    for (int w = ZAMBA_BACKBONE_F32; w <= ZAMBA_BACKBONE_INT8; w++) {
        zamba_error err;
        zamba_backbone *b;
        zamba_backbone_run run = zamba_backbone_run_defaults();
        zamba_backbone_options o = zamba_backbone_defaults();
        o.embed_dim = E;
        o.hidden_size = H;
        o.num_layers = 3;
        o.heads = zamba_backbone_controller_heads();
        o.n_heads = ZAMBA_BACKBONE_CONTROLLER_HEADS;
        run.weights = (zamba_backbone_weights)w;
        CHECK_OK(zamba_backbone_create(&b, &o, &run, 3, &err), err);
        zamba_backbone_stream *s = open_stream(b, 1), *plain = open_stream(b, 1);
        float *frames = random_frames(20, E, 8), out[H], want[H];
        for (size_t t = 0; t < 20; t++) {
            void *before = snapshot_of(b, s, 0);
            zamba_backbone_warm(s);
            void *after = snapshot_of(b, s, 0);
            assert_memory_equal(before, after, zamba_backbone_snapshot_bytes(b));
            free(before);
            free(after);
            step(s, frames + t * E, out);
            step(plain, frames + t * E, want);
            assert_memory_equal(out, want, sizeof out);
        }
        free(frames);
        zamba_backbone_stream_close(s);
        zamba_backbone_stream_close(plain);
        zamba_backbone_close(b);
    }
}

/* Frames that are no numbers: refused with everything as it was, or passed when that is asked for. */
static void test_not_finite(void **state)
{
    (void)state;
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    zamba_error err;
    zamba_backbone *b = open_small(ZAMBA_BACKBONE_MAMBA);
    zamba_backbone_stream *s = open_stream(b, 2);
    zamba_backbone_window *w;
    float *frames = random_frames(10, 2 * E, 6), out[2 * H], last[H];
    CHECK_OK(zamba_backbone_window_open(&w, b, 4, &err), err);
    for (size_t t = 0; t < 9; t++)
        step(s, frames + t * 2 * E, out);
    CHECK_OK(zamba_backbone_window_push(w, frames, last, &err), err);
    for (size_t i = 0; i < 3; i++) {
        float bad[2 * E];
        memcpy(bad, frames, sizeof bad);
        bad[E + i] = odd[i];
        void *before = snapshot_of(b, s, 0), *other = snapshot_of(b, s, 1);
        assert_refused(zamba_backbone_step(s, bad, out, &err), ZAMBA_E_ARG, &err, "of frame 1");
        void *after = snapshot_of(b, s, 0), *other_after = snapshot_of(b, s, 1);
        assert_memory_equal(before, after, zamba_backbone_snapshot_bytes(b));
        assert_memory_equal(other, other_after, zamba_backbone_snapshot_bytes(b));
        assert_int_equal(zamba_backbone_frame(s, 1), 9);
        assert_refused(zamba_backbone_forward(b, bad, 1, 2, ZAMBA_BACKBONE_LAST, out, &err), ZAMBA_E_ARG, &err,
                       "forward");
        assert_refused(zamba_backbone_window_push(w, bad + E, last, &err), ZAMBA_E_ARG, &err, "window");
        free(before);
        free(other);
        free(after);
        free(other_after);
    }
    zamba_backbone_window_close(w);
    zamba_backbone_stream_close(s);
    zamba_backbone_close(b);

    const zamba_backbone_options o = small(ZAMBA_BACKBONE_MAMBA);
    b = open_with(&o, ZAMBA_BACKBONE_F32, 1);
    s = open_stream(b, 2);
    frames[0] = NAN;
    step(s, frames, out);
    assert_true(isnan(out[0]));
    assert_true(isfinite(out[H])); /* the other timeline is as it would be */
    const size_t bytes = zamba_backbone_snapshot_bytes(b);
    void *snapshot = snapshot_of(b, s, 0);
    CHECK_OK(zamba_backbone_restore(s, 1, snapshot, bytes, &err), err); /* passes too */
    free(snapshot);
    zamba_backbone_stream_close(s);
    zamba_backbone_close(b);
    free(frames);
}

/* Finite frames beyond what f32 can multiply: the timeline says so until it is reset, and never hands out NaN. */
static void test_poisoned(void **state)
{
    (void)state;
    zamba_error err;
    zamba_backbone *b = open_small(ZAMBA_BACKBONE_MAMBA);
    zamba_backbone_stream *s = open_stream(b, 2);
    float *frames = random_frames(2, 2 * E, 8), huge[2 * E], out[2 * H], fresh[2 * H];
    memcpy(huge, frames, sizeof huge);
    for (size_t i = 0; i < E; i++)
        huge[E + i] = 3e38f;
    step(s, frames, out);
    void *good = snapshot_of(b, s, 1);
    assert_refused(zamba_backbone_step(s, huge, out, &err), ZAMBA_E_FORMAT, &err, "timeline 1");
    assert_refused(zamba_backbone_step(s, frames, out, &err), ZAMBA_E_FORMAT, &err, "timeline 1");
    const size_t bytes = zamba_backbone_snapshot_bytes(b);
    void *room = malloc(bytes);
    assert_refused(zamba_backbone_snapshot(s, 1, room, bytes, &err), ZAMBA_E_FORMAT, &err, "timeline 1");
    assert_refused(zamba_backbone_feed(s, 1, frames, 1, NULL, &err), ZAMBA_E_FORMAT, &err, "timeline 1");
    CHECK_OK(zamba_backbone_restore(s, 1, good, bytes, &err), err);
    step(s, frames, out);
    CHECK_OK(zamba_backbone_reset(s, ZAMBA_BACKBONE_ALL_TIMELINES, &err), err);
    step(s, frames, out);
    zamba_backbone_stream *other = open_stream(b, 2);
    step(other, frames, fresh);
    assert_memory_equal(out, fresh, sizeof out);
    assert_refused(zamba_backbone_forward(b, huge, 1, 2, ZAMBA_BACKBONE_ALL, out, &err), ZAMBA_E_FORMAT, &err,
                   "not finite");
    free(room);
    free(good);
    free(frames);
    zamba_backbone_stream_close(other);
    zamba_backbone_stream_close(s);
    zamba_backbone_close(b);
}

/* A window is forward over its frames, for every form, with windows of more rows than one pass has too. */
static void test_window(void **state)
{
    (void)state;
    enum { N = 90 };
    static const size_t sizes[] = {1, 7, 70, 0};
    zamba_error err;
    float *frames = random_frames(N, E, 9), out[H], want[H];
    for (int block = ZAMBA_BACKBONE_MAMBA; block <= ZAMBA_BACKBONE_GATED; block++)
        for (size_t i = 0; i < 4; i++) {
            zamba_backbone *b = open_small((zamba_backbone_block)block);
            zamba_backbone_window *w;
            CHECK_OK(zamba_backbone_window_open(&w, b, sizes[i], &err), err);
            const size_t most = sizes[i] > 0 ? sizes[i] : 7, bytes = zamba_backbone_window_bytes(w);
            size_t n = 0;
            for (size_t t = 0; t < N; t++) {
                if (t == 80) {
                    zamba_backbone_window_reset(w);
                    n = 0;
                }
                n = n < most ? n + 1 : most;
                CHECK_OK(zamba_backbone_window_push(w, frames + t * E, out, &err), err);
                CHECK_OK(zamba_backbone_forward(b, frames + (t + 1 - n) * E, 1, n, ZAMBA_BACKBONE_LAST, want, &err),
                         err);
                assert_memory_equal(out, want, sizeof out);
            }
            assert_int_equal(zamba_backbone_window_bytes(w), bytes);
            zamba_backbone_window_close(w);
            zamba_backbone_close(b);
        }
    free(frames);
}

/* Sequences of a batch are computed together or one by one with the same bits, whatever their length. */
static void test_forward_batches(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 2, 5, 63, 64, 65, 130};
    enum { B = 21 };
    zamba_error err;
    zamba_backbone *b = open_small(ZAMBA_BACKBONE_MAMBA);
    for (size_t i = 0; i < 7; i++) {
        const size_t L = lengths[i];
        float *frames = random_frames(B * L, E, 10), *all = malloc(B * L * H * sizeof *all),
              *one = malloc(L * H * sizeof *one), *last = malloc(B * H * sizeof *last);
        CHECK_OK(zamba_backbone_forward(b, frames, B, L, ZAMBA_BACKBONE_ALL, all, &err), err);
        CHECK_OK(zamba_backbone_forward(b, frames, B, L, ZAMBA_BACKBONE_LAST, last, &err), err);
        for (size_t j = 0; j < B; j++) {
            CHECK_OK(zamba_backbone_forward(b, frames + j * L * E, 1, L, ZAMBA_BACKBONE_ALL, one, &err), err);
            assert_memory_equal(one, all + j * L * H, L * H * sizeof *one);
            assert_memory_equal(last + j * H, one + (L - 1) * H, H * sizeof *one);
        }
        free(frames);
        free(all);
        free(one);
        free(last);
    }
    float x[E] = {0}, y[H];
    assert_refused(zamba_backbone_forward(b, x, 0, 1, ZAMBA_BACKBONE_LAST, y, &err), ZAMBA_E_ARG, &err, "0 sequences");
    assert_refused(zamba_backbone_forward(b, x, 1, 0, ZAMBA_BACKBONE_LAST, y, &err), ZAMBA_E_ARG, &err, "0 frames");
    assert_refused(zamba_backbone_forward(b, NULL, 1, 1, ZAMBA_BACKBONE_LAST, y, &err), ZAMBA_E_ARG, &err, "memory");
    assert_refused(zamba_backbone_forward(b, x, SIZE_MAX / 2, 4, ZAMBA_BACKBONE_LAST, y, &err), ZAMBA_E_ARG, &err,
                   "more than memory has");
    zamba_backbone_close(b);
}

/* Memory of the caller: exactly as much as was said, nothing beside it. */
static void test_own_memory(void **state)
{
    (void)state;
    zamba_error err;
    zamba_backbone *b = open_small(ZAMBA_BACKBONE_MAMBA), *gated = open_small(ZAMBA_BACKBONE_GATED);
    const size_t bytes = zamba_backbone_stream_bytes(b, 3);
    char *memory = aligned_alloc(64, bytes + 64);
    memset(memory, 0x5A, bytes + 64);
    zamba_backbone_stream *s, *t = open_stream(b, 3);
    CHECK_OK(zamba_backbone_stream_place(&s, b, 3, memory, bytes, &err), err);
    float *frames = random_frames(20, 3 * E, 11), out[3 * H], want[3 * H];
    for (size_t i = 0; i < 20; i++) {
        step(s, frames + i * 3 * E, out);
        step(t, frames + i * 3 * E, want);
        assert_memory_equal(out, want, sizeof out);
    }
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(memory[bytes + i], 0x5A);
    zamba_backbone_stream_close(s);
    assert_refused(zamba_backbone_stream_place(&s, b, 3, memory, bytes - 1, &err), ZAMBA_E_ARG, &err, "it needs");
    assert_null(s);
    assert_refused(zamba_backbone_stream_place(&s, b, 3, memory + 4, bytes, &err), ZAMBA_E_ARG, &err, "aligned");
    assert_refused(zamba_backbone_stream_place(&s, b, 3, NULL, bytes, &err), ZAMBA_E_ARG, &err, "it needs");
    assert_refused(zamba_backbone_stream_open(&s, b, 0, &err), ZAMBA_E_ARG, &err, "0 timelines");
    assert_refused(zamba_backbone_stream_open(&s, b, SIZE_MAX, &err), ZAMBA_E_ARG, &err, "timelines");
    assert_refused(zamba_backbone_stream_open(&s, gated, 1, &err), ZAMBA_E_UNSUPPORTED, &err, "end of its sequence");
    assert_refused(zamba_backbone_step(t, NULL, out, &err), ZAMBA_E_ARG, &err, "no frames");
    assert_int_equal(zamba_backbone_state_bytes(zamba_backbone_get_options(gated)), 0);
    zamba_backbone_stream_close(t);
    zamba_backbone_stream_close(NULL);
    free(memory);
    free(frames);
    zamba_backbone_close(b);
    zamba_backbone_close(gated);
}

/* Ids of a frame become vectors; ids that are none are refused even where other odd numbers pass. */
static void test_embeddings(void **state)
{
    (void)state;
    static const zamba_backbone_embedding lists[] = {{"action", 9, 3, 2}, {"kind", 4, 2, 1}};
    static const zamba_backbone_head heads[] = {{"pick", ZAMBA_BACKBONE_HEAD_CLASSES, 3, 300, 1},
                                                {"plain", ZAMBA_BACKBONE_HEAD_VALUES, 2, 0, 1}};
    zamba_error err;
    zamba_backbone_options o = small(ZAMBA_BACKBONE_MAMBA);
    o.embed_dim = 4 + 2 * 3 + 2;
    o.embeddings = lists;
    o.n_embeddings = 2;
    o.heads = heads;
    o.n_heads = 2;
    assert_int_equal(zamba_backbone_frame_size(&o), 7);
    assert_int_equal(zamba_backbone_logit_size(&o), 5);
    zamba_backbone *b = open_with(&o, ZAMBA_BACKBONE_F32, 1);
    zamba_backbone_options plain = o;
    plain.n_embeddings = plain.n_heads = 0;
    zamba_backbone *p = open_with(&plain, ZAMBA_BACKBONE_F32, 1);
    const float frame[7] = {0.5f, -1, 2, 0.25f, 8, 0, 3};
    float vectors[12], out[H], want[H], logits[5];
    memcpy(vectors, frame, 4 * sizeof(float));
    zamba_backbone_parameter action = {.size = sizeof action}, kind = {.size = sizeof kind};
    for (size_t i = 0; i < zamba_backbone_parameters(b); i++) {
        zamba_backbone_parameter q = {.size = sizeof q};
        CHECK_OK(zamba_backbone_parameter_at(b, i, &q, &err), err);
        if (strcmp(q.name, "embeddings.action.weight") == 0)
            action = q;
        else if (strcmp(q.name, "embeddings.kind.weight") == 0)
            kind = q;
        else if (strncmp(q.name, "heads.", 6) != 0)
            CHECK_OK(zamba_backbone_parameter_set(p, q.name, q.data, (size_t)q.count, &err), err);
    }
    memcpy(vectors + 4, action.data + 8 * 3, 3 * sizeof(float));
    memcpy(vectors + 7, action.data, 3 * sizeof(float));
    memcpy(vectors + 10, kind.data + 3 * 2, 2 * sizeof(float));
    zamba_backbone_stream *s = open_stream(b, 1), *t = open_stream(p, 1);
    step(s, frame, out);
    step(t, vectors, want);
    assert_memory_equal(out, want, sizeof out);
    CHECK_OK(zamba_backbone_logits(b, out, 1, logits, &err), err);
    for (size_t i = 0; i < 5; i++)
        assert_true(isfinite(logits[i]));
    assert_refused(zamba_backbone_logits(p, out, 1, logits, &err), ZAMBA_E_UNSUPPORTED, &err, "no heads");
    static const float odd[] = {-1, 9, 0.5f, NAN, INFINITY, -0.5f, 1e30f};
    for (size_t i = 0; i < 7; i++) {
        float bad[7];
        memcpy(bad, frame, sizeof bad);
        bad[5] = odd[i];
        assert_refused(zamba_backbone_step(s, bad, out, &err), ZAMBA_E_ARG, &err, "no id of embedding action");
    }
    assert_int_equal(zamba_backbone_frame(s, 0), 1);
    zamba_backbone_stream_close(s);
    zamba_backbone_stream_close(t);
    zamba_backbone_close(b);
    zamba_backbone_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_36000_frames),    cmocka_unit_test(test_rollback),   cmocka_unit_test(test_bad_snapshots),
        cmocka_unit_test(test_batch),           cmocka_unit_test(test_feed),       cmocka_unit_test(test_warm),
        cmocka_unit_test(test_not_finite),      cmocka_unit_test(test_poisoned),   cmocka_unit_test(test_window),
        cmocka_unit_test(test_forward_batches), cmocka_unit_test(test_own_memory), cmocka_unit_test(test_embeddings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

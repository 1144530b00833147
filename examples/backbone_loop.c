/* backbone_loop.c — an agent's loop at 60 frames a second: each frame's numbers go in, one vector comes out, and a
 * rollback of seven frames is a restore and seven steps. After the stream is open nothing is allocated.
 *
 *     backbone_loop [FRAMES [FRAMES-PER-SECOND]]
 *
 * cc backbone_loop.c $(pkg-config --cflags --libs zamba) -lm */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <zamba_backbone.h>

enum { NUMBERS = 32, BACK = 7 };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void sleep_until(double when)
{
    const double left = when - seconds();
    if (left > 0) {
        const struct timespec rest = {(time_t)left, (long)((left - floor(left)) * 1e9)};
        nanosleep(&rest, NULL);
    }
}

/* Here stands the game: the numbers of frame t. */
static void look(float *frame, long t)
{
    for (int i = 0; i < NUMBERS; i++)
        frame[i] = (float)sin(0.05 * (double)t * (i + 1));
}

int main(int argc, char **argv)
{
    const long n = argc > 1 && atol(argv[1]) > 0 ? atol(argv[1]) : 120; /* a model's folder is no number: 120 */
    const double pace = argc > 2 ? atof(argv[2]) : 60;
    zamba_error err = {0};
    zamba_backbone *model = NULL;         /* options and weights: many threads may read it */
    zamba_backbone_stream *stream = NULL; /* one agent's memory, of a fixed size           */
    zamba_backbone_options options = zamba_backbone_defaults();
    options.embed_dim = NUMBERS;
    options.hidden_size = 64;

    /* A trained model comes from zamba_backbone_load(&model, folder, NULL, &err). */
    zamba_status st = zamba_backbone_create(&model, &options, NULL, 1, &err);
    if (st == ZAMBA_OK)
        st = zamba_backbone_stream_open(&stream, model, 1, &err);
    const size_t bytes = st == ZAMBA_OK ? zamba_backbone_snapshot_bytes(model) : 0;
    unsigned char *past = malloc(BACK * bytes + 1); /* the state before each of the last frames */
    float frame[NUMBERS], vector[64], again[64];
    double worst = 0;
    long differ = 0;
    if (past == NULL)
        return 1;

    const double start = seconds();
    for (long t = 0; t < n && st == ZAMBA_OK; t++) {
        look(frame, t);
        const double begin = seconds();
        st = zamba_backbone_snapshot(stream, 0, past + (size_t)(t % BACK) * bytes, bytes, &err);
        if (st == ZAMBA_OK)
            st = zamba_backbone_step(stream, frame, vector, &err);
        const double took = seconds() - begin;
        worst = took > worst ? took : worst;

        /* The network said late that the last seven frames were others: go back and compute them again. Here they are
         * the same, so the vector is too, to the bit. */
        if (st == ZAMBA_OK && t >= BACK && t % 30 == 0) {
            st = zamba_backbone_restore(stream, 0, past + (size_t)((t + 1) % BACK) * bytes, bytes, &err);
            for (long k = t + 1 - BACK; k <= t && st == ZAMBA_OK; k++) {
                look(frame, k);
                st = zamba_backbone_step(stream, frame, again, &err);
            }
            differ += memcmp(again, vector, sizeof vector) != 0;
        }
        /* Others have the caches while this sleeps: they are filled again just before the next frame. */
        sleep_until(start + (double)(t + 1) / pace - 0.001);
        zamba_backbone_warm(stream);
        sleep_until(start + (double)(t + 1) / pace);
    }
    if (st == ZAMBA_OK)
        printf("%ld frames; the slowest step took %.3f ms of %.2f; a stream has %zu bytes; %ld rollbacks differed\n", n,
               1000 * worst, 1000 / pace, zamba_backbone_stream_bytes(model, 1), differ);
    else
        fprintf(stderr, "backbone_loop: %s\n", err.message);
    free(past);
    zamba_backbone_stream_close(stream); /* both take NULL */
    zamba_backbone_close(model);
    return st == ZAMBA_OK && differ == 0 ? 0 : 1;
}

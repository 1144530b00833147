/* fuzz_slp.c — any bytes as a replay: read or refused with a message; what was read can be looked at everywhere, and
 * all numbers made from it are finite. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "zamba_replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    zamba_error err = {0};
    zamba_replay *r = NULL;
    const zamba_status st = zamba_replay_open_bytes(&r, data, n, "in", &err);
    REQUIRE((st == ZAMBA_OK) == (r != NULL));
    if (st != ZAMBA_OK) {
        REQUIRE(err.code == st && strncmp(err.message, "in", 2) == 0);
        return 0;
    }
    zamba_replay_info info = {.size = sizeof info};
    REQUIRE(zamba_replay_info_get(r, &info, &err) == ZAMBA_OK && info.n_frames > 0 && info.n_players <= 4);
    for (size_t i = 0; i < info.n_frames; i++) {
        REQUIRE(zamba_replay_find(r, zamba_replay_frame(r, i)) == i);
        for (int32_t port = 0; port < 4; port++) {
            for (int kind = 0; kind < 2; kind++) {
                float x[287];
                const int32_t m = zamba_replay_feature_size((zamba_replay_features)kind);
                if (zamba_replay_see(r, i, port, 0, (zamba_replay_features)kind, x, &err) == ZAMBA_OK)
                    for (int32_t k = 0; k < m; k++)
                        REQUIRE(isfinite(x[k]));
            }
        }
    }
    zamba_replay_close(r);
    return 0;
}

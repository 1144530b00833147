/* fuzz_json.c — any bytes as JSON: a tree or an error with a message; a tree, written and read again, is the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const zb_json_limits tight = {200, 12};
    zamba_error err = {0};
    json_t *j, *again;
    zamba_status st = zb_json_parse(&j, (const char *)data, n, "in", tight, &err);
    REQUIRE((st == ZAMBA_OK) == (j != NULL));
    REQUIRE(st != ZAMBA_OK || n <= tight.max_bytes);
    json_decref(j);

    st = zb_json_parse(&j, (const char *)data, n, "in", zb_json_small, &err);
    REQUIRE((st == ZAMBA_OK) == (j != NULL));
    if (st != ZAMBA_OK) {
        REQUIRE(err.code == st && strncmp(err.message, "in", 2) == 0);
        return 0;
    }
    char *text = json_dumps(j, JSON_ENCODE_ANY | JSON_COMPACT);
    if (text != NULL) {
        /* an escape can make the text longer than the limit on bytes */
        const zb_json_limits wide = {strlen(text), zb_json_small.max_values};
        REQUIRE(zb_json_parse(&again, text, strlen(text), "again", wide, &err) == ZAMBA_OK);
        REQUIRE(json_equal(j, again));
        json_decref(again);
        free(text);
    }
    json_decref(j);
    return 0;
}

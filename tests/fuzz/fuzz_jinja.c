/* fuzz_jinja.c — any bytes as a chat template, run on a small conversation: text with its trust, or an error with a
 * message. What the conversation says never counts as trusted. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tok/jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            abort();                                                                                                   \
    } while (0)

/* The mark stands in every text of the conversation and, by its second byte, in no text that a template is likely to
 * make: U+E123, of the private use. */
#define MARK "\xee\x84\xa3"

static const char conversation[] =
    "{\"messages\": [{\"role\": \"system" MARK "\", \"content\": \"Be brief.\\n" MARK "\"},"
    " {\"role\": \"user\", \"content\": \"" MARK " a, b & <c> 'd' \\\"e\\\" \\u0000 \\u2028 \\u00dfx " MARK "\"},"
    " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"123456789\", \"function\": "
    "{\"name\": \"f" MARK "\", \"arguments\": {\"x\": 1, \"y\": [true, 2.5, null]}}}]},"
    " {\"role\": \"tool\", \"content\": [{\"type\": \"text\", \"text\": \"" MARK "\"}]}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\": \"" MARK
    "\", \"parameters\": "
    "{\"type\": \"object\", \"properties\": {\"x\": {\"type\": \"integer\"}}}}}],"
    " \"add_generation_prompt\": true, \"n\": 3, \"s\": \"text " MARK "\", \"l\": [3, 1, 2], \"d\": {\"k\": \"v\"}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static json_t *context;
    static const zb_jinja_var vars[] = {{"bos_token", "<s>", 3}, {"eos_token", "</s>", 4}};
    zb_jinja *t;
    zb_jinja_text out = {0};
    zamba_error err = {0};
    if (context == NULL)
        context = json_loadb(conversation, sizeof conversation - 1, JSON_ALLOW_NUL, NULL);
    REQUIRE(context != NULL);
    zamba_status st = zb_jinja_parse(&t, (const char *)data, n, &err);
    REQUIRE((st == ZAMBA_OK) == (t != NULL));
    if (st == ZAMBA_OK) {
        st = zb_jinja_render(t, context, vars, 2, &out, &err);
        REQUIRE((st == ZAMBA_OK) == (out.text != NULL));
    }
    zb_jinja_free(t);
    if (st != ZAMBA_OK) {
        REQUIRE(err.code == st && strncmp(err.message, "chat template, line ", 20) == 0);
        return 0;
    }
    REQUIRE(out.text[out.n] == '\0');
    const int has_mark = memchr(data, 0xEE, n) != NULL || memchr(data, '\\', n) != NULL; /* the template itself may */
    for (size_t i = 0; i < out.n; i++) {
        REQUIRE(out.trusted[i] <= 1);
        REQUIRE(has_mark || (unsigned char)out.text[i] != 0xEE || !out.trusted[i]);
    }
    zb_jinja_text_free(&out);
    return 0;
}

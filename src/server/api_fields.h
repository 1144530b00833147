/* api_fields.h — what the fields of requests are: tables that say name, type and bounds of each. The same tables check
 * requests and become openapi.json, so that neither can be wrong without the other. Knows JSON, no HTTP, no engine. */
#ifndef SV_API_FIELDS_H
#define SV_API_FIELDS_H

#include <jansson.h>
#include <stdint.h>

#include "zamba.h"

/* Why a request is refused. */
typedef struct sv_bad {
    int status; /* of HTTP; 0: nothing is wrong */
    char code[40];
    char param[120]; /* the field, as "messages[2].content"; "": none */
    char message[512];
} sv_bad;

typedef enum sv_type {
    SV_BOOL,
    SV_INT,    /* lo .. hi; a real that is whole is taken                                    */
    SV_NUM,    /* lo .. hi                                                                   */
    SV_STR,    /* lo .. hi characters                                                        */
    SV_STRS,   /* a string or a list of lo .. hi strings                                     */
    SV_IDS,    /* a list of lo .. hi token ids                                               */
    SV_PROMPT, /* a string, strings, ids, or lists of ids; lo .. hi prompts                  */
    SV_TEXT,   /* a string, or a list of parts {"type": "text", "text": ...}                 */
    SV_OBJ,    /* with the fields `sub`, or any                                              */
    SV_LIST,   /* lo .. hi objects with the fields `sub`                                     */
    SV_BIAS,   /* an object: a token id -> a number; at most hi                              */
    SV_ENUM,   /* one of `values`, parted by "|"                                             */
    SV_FORMAT, /* "json" or a JSON schema                                                    */
    SV_CHOICE, /* tool_choice: "none", "auto", "required", or {"type", "function": {"name"}} */
    SV_ALIVE,  /* a number of seconds, or a duration like "5m", "1h30m"; below 0: for good   */
    SV_ANY,
} sv_type;

enum {
    SV_REQUIRED = 1, /* must be there and not null                                   */
    SV_IGNORED = 2,  /* the originals know it; here it has no effect                 */
    SV_REFUSED = 4,  /* the originals know it; here null, false and "" only          */
    SV_NO_NUL = 8,   /* strings without NUL                                          */
};

typedef struct sv_field {
    const char *name; /* NULL: the end of the table */
    sv_type type;
    double lo, hi;
    int flags;
    const char *values;         /* ENUM */
    const struct sv_field *sub; /* OBJ, LIST */
    const char *text;           /* what it does */
} sv_field;

/* The highest numbers that a field may say anywhere. */
#define SV_MAX_INT    2147483647.0
#define SV_MAX_SEED   9007199254740991.0
#define SV_MAX_TEXT   67108864.0
#define SV_MAX_STOPS  64
#define SV_MAX_LAST_N 16777216.0 /* as the sampler */
#define SV_MAX_N      128

extern const sv_field sv_fields_chat[], sv_fields_completion[], sv_fields_embedding[], sv_fields_tokenize[],
    sv_fields_detokenize[], sv_fields_template[], sv_fields_state[], sv_fields_ollama_chat[],
    sv_fields_ollama_generate[], sv_fields_ollama_show[], sv_fields_ollama_embed[], sv_fields_ollama_embeddings[];

/* Fill `bad` (the first reason stays) and return 0. */
int sv_refuse(sv_bad *bad, int status, const char *code, const char *param, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* The same for what the library says. */
int sv_refuse_error(sv_bad *bad, zamba_status st, const char *param, const char *message);

/* Check all that the table names; fields that it does not name are passed over. 0 and `bad`: something is wrong. */
int sv_fields_check(const json_t *o, const sv_field *fields, sv_bad *bad);

/* Values of checked objects; `otherwise` where the field is absent or null. */
const json_t *sv_field_get(const json_t *o, const char *name);
int sv_get_bool(const json_t *o, const char *name, int otherwise);
int64_t sv_get_int(const json_t *o, const char *name, int64_t otherwise);
double sv_get_num(const json_t *o, const char *name, double otherwise);
const char *sv_get_str(const json_t *o, const char *name, const char *otherwise);
/* Seconds of "300ms", "1h30m", "-1", as Go writes durations, or bare; NaN: none of these. */
double sv_read_duration(const char *text, size_t n);
/* Of SV_ALIVE: seconds; INFINITY for what is below 0. */
double sv_get_seconds(const json_t *o, const char *name, double otherwise);

/* A JSON string of any bytes: what is not UTF-8 becomes U+FFFD. */
json_t *sv_json_text(const char *text, size_t n);
/* The schema of a table, as OpenAPI 3.1 has it. */
json_t *sv_fields_schema(const sv_field *fields);

#endif

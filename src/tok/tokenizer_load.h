/* tokenizer_load.h — what the files that read tokenizer.json share: the loader's state and readers of JSON fields whose
 * messages name the file, the field, what was found and what was wanted. */
#ifndef ZB_TOKENIZER_LOAD_H
#define ZB_TOKENIZER_LOAD_H

#include "io/json.h"
#include "tok/tokenizer_impl.h"

typedef struct zb_tok_loader {
    zamba_tokenizer *t;
    const char *name;     /* of tokenizer.json, for messages                                      */
    const json_t *root;   /* tokenizer.json                                                       */
    const json_t *config; /* tokenizer_config.json, an object, or NULL                            */
    zb_added_set added;   /* all added tokens, their own texts                                    */
    zamba_error *err;
} zb_tok_loader;

/* "a string", "null", "missing" (NULL), ... */
const char *zb_json_kind(const json_t *j);
/* At most 40 bytes of a piece, printable, into buf[64]; returns buf. */
const char *zb_tok_show(char *buf, const char *text, size_t n);

/* Fields of an object that stands at `where` in the file. A missing or null flag is `otherwise`. */
zamba_status zb_tok_string(const zb_tok_loader *l, const json_t *object, const char *where, const char *key,
                           const char **text, size_t *n);
zamba_status zb_tok_flag(const zb_tok_loader *l, const json_t *object, const char *where, const char *key,
                         int otherwise, int *out);
zamba_status zb_tok_count(const zb_tok_loader *l, const json_t *object, const char *where, const char *key,
                          json_int_t max, json_int_t *out);
/* "type" of a pipeline part: an object with a type. */
zamba_status zb_tok_type(const zb_tok_loader *l, const json_t *part, const char *where, const char **type);
zamba_status zb_tok_unsupported(const zb_tok_loader *l, const char *where, const char *what);

/* tokenizer_pipeline.c: normalizer and pre_tokenizer; post_processor (needs the vocabulary); decoder (the same). */
zamba_status zb_tok_load_normalizer(zb_tok_loader *l);
zamba_status zb_tok_load_pre_tokenizer(zb_tok_loader *l);
zamba_status zb_tok_load_post_processor(zb_tok_loader *l);
zamba_status zb_tok_load_decoder(zb_tok_loader *l);

#endif

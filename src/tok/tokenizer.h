/* tokenizer.h — what the other rooms of the library may ask a tokenizer beside the public calls: tokenizing with a mask
 * of trusted bytes, the texts of its named special tokens, and opening one from memory. */
#ifndef ZB_TOKENIZER_H
#define ZB_TOKENIZER_H

#include "core/status.h"

/* Build a tokenizer from the text of a tokenizer.json (n bytes) and, if `config` is not NULL, of a
 * tokenizer_config.json (n_config bytes). `name` (a path) stands in front of messages. Closed with
 * zamba_tokenizer_close. zamba_tokenizer_open is this on the contents of files. */
zamba_status zb_tokenizer_parse(zamba_tokenizer **out, const char *json, size_t n, const char *name, const char *config,
                                size_t n_config, zamba_error *err);

/* As zamba_tokenize, but special-token strings are recognised only where every byte is trusted: trusted[i] != 0, and
 * only if flags has ZAMBA_TOKENIZE_SPECIAL. NULL: all bytes follow `flags`. */
zamba_status zb_tokenize_trusted(const zamba_tokenizer *t, const char *text, size_t n_bytes, const uint8_t *trusted,
                                 unsigned flags, int32_t **ids, size_t *n_ids, zamba_error *err);

/* Text of a special token that tokenizer_config.json names: which is "bos_token", "eos_token", "unk_token" or
 * "pad_token". NULL if the file names none; else NUL-terminated, *n its length (n may be NULL); the tokenizer's. */
const char *zb_tokenizer_special(const zamba_tokenizer *t, const char *which, size_t *n);

#endif

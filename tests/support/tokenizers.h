/* tokenizers.h — the fixtures' 32000 pieces as tokenizers: the base models' and the instruct models'. */
#ifndef ZB_TOKENIZERS_H
#define ZB_TOKENIZERS_H

#include "io/json.h"
#include "support/check.h"

#define FIXTURES "tests/tok/fixtures/tokenizer/"
#define BASE     "tests/tok/fixtures/base_tokenizer.json"

extern zamba_tokenizer *base, *instruct;

/* Open and close both, around the tests of a program. */
int open_tokenizers(void **state);
int close_tokenizers(void **state);

json_t *fixture_json(const char *path);

/* The instruct models' file: ids 0, 1, 2 have other names, merges are arrays. */
json_t *fixture_instruct_json(void);

/* Opens a tokenizer of a tree; the config is a path or NULL. */
zamba_tokenizer *fixture_open(const json_t *root, const char *config_path);

#endif

/* data_row.h — one row of a file of conversations or pairs: from JSON in any of its shapes to ids of which some are
 * learned. Knows nothing of files, lengths and batches. */
#ifndef ZB_DATA_ROW_H
#define ZB_DATA_ROW_H

#include "io/json.h"
#include "zamba_train.h"

/* Growable; zeroed is empty. */
typedef struct zb_tokens {
    uint32_t *ids; /* learned ones have ZB_ID_LEARNED */
    size_t n, room;
} zb_tokens;

typedef struct zb_row_maker {
    const zamba_tokenizer *tokenizer;
    const zamba_chat *chat; /* or NULL */
    int plain;              /* texts do not go into the template */
} zb_row_maker;

/* {"text": ...}. *text is the row's. */
zamba_status zb_row_text(const json_t *row, const char **text, size_t *n, zamba_error *err);

/* Replaces what is in *out. Behind the last learned token nothing is left; nothing is learned: it is empty. */
zamba_status zb_row_chat(const zb_row_maker *m, const json_t *row, zb_tokens *out, zamba_error *err);
zamba_status zb_row_pair(const zb_row_maker *m, const json_t *row, zb_tokens *chosen, zb_tokens *rejected,
                         zamba_error *err);

/* BOS, text, EOS, nothing marked. */
zamba_status zb_row_document(const zb_row_maker *m, const char *text, size_t n, zb_tokens *out, zamba_error *err);

void zb_tokens_free(zb_tokens *t);
/* Keep the first n, and of those what stands before the end of what is learned. */
void zb_tokens_cut(zb_tokens *t, size_t n);

/* What a row is, by the names of its fields. */
int zb_row_kind(const json_t *row, zamba_data_kind *kind); /* 0: none that is known */

#endif

/* gguf_vocab.h — the vocabulary of a GGUF file (its keys tokenizer.ggml.*, of the SentencePiece kind) to and from the
 * text of tokenizer.json. Knows how the two are written, not how text is tokenized: that is src/tok's. */
#ifndef ZB_GGUF_VOCAB_H
#define ZB_GGUF_VOCAB_H

#include "io/gguf_write.h"

/* Where a GGUF file of ours keeps the texts of a checkpoint folder word for word: this and the name of the file. */
#define ZB_GGUF_FILE_KEY "zamba.file."

/* The text of such a key; NULL if there is none. */
const char *zb_gguf_file(const zb_gguf *g, const char *name, size_t *n);

/* tokenizer.json and tokenizer_config.json as the keys tell them, appended. Merges come from the scores: each pair of
 * pieces that makes a third is one, in the order of the third's score, as transformers converts such vocabularies.
 * E_NOT_FOUND: the file has no vocabulary; E_UNSUPPORTED: of another kind. */
zamba_status zb_gguf_tokenizer(zb_buf *json, zb_buf *config, const zb_gguf *g, const char *path, zamba_error *err);

/* What the keys are made of. Texts may be NULL. */
typedef struct zb_gguf_vocab {
    const char *tokenizer, *config, *chat_template; /* tokenizer.json, tokenizer_config.json, chat_template.jinja */
    size_t n_tokenizer, n_config, n_chat_template;
    size_t n_vocab;        /* rows of the embedding: as many tokens are written */
    int32_t bos, eos, pad; /* as the model's config has them, or -1             */
    const char *path;      /* for messages                                      */
} zb_gguf_vocab;

/* Put tokenizer.ggml.* and tokenizer.chat_template. A tokenizer of another kind than byte-fallback BPE cannot be said
 * in these keys: then only the template and the ids are put. */
zamba_status zb_gguf_put_vocab(zb_gguf_writer *w, const zb_gguf_vocab *v, zamba_error *err);

#endif

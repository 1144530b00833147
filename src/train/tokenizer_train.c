/* tokenizer_train.c — the public call that trains a tokenizer: reads files, gives what was learned its ids and writes
 * it as the Hugging Face files of a Llama tokenizer. The learning itself is in bpe_train.c. */
#define _XOPEN_SOURCE   700
#define _DEFAULT_SOURCE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core/utf8.h"
#include "io/folder_out.h"
#include "io/json.h"
#include "io/stream.h"
#include "tok/bpe.h"
#include "train/bpe_train.h"
#include "zamba_train.h"

enum { N_NAMED = 3, N_BYTES = 256, MAX_SPECIAL = 1024 };

static const char *const named[N_NAMED] = {"<unk>", "<s>", "</s>"};
static const char turn_begin[] = "<|im_start|>", turn_end[] = "<|im_end|>";

/* As the instruction-tuned Zamba2 models mark turns. */
static const char chat_template[] =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
    "'\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

zamba_tokenizer_options zamba_tokenizer_defaults(void)
{
    return (zamba_tokenizer_options){
        .size = sizeof(zamba_tokenizer_options), .vocab_size = 4096, .min_frequency = 2, .coverage = 0.9995};
}

/* ---- Reading ---------------------------------------------------------------------------------------------------- */

typedef struct job {
    const zamba_tokenizer_options *o;
    const char **special; /* beside the named ones: [n_special] */
    size_t n_special;
    zb_added_set set; /* all special tokens */
    zb_bpe_train *train;
    uint64_t n_documents, n_bytes, total_bytes;
    zamba_error *err;
} job;

static zamba_status progress(job *j, const char *stage, uint64_t done, uint64_t total)
{
    if (j->o->on_progress != NULL && j->o->on_progress(j->o->user, stage, done, total))
        return zb_fail(j->err, ZAMBA_E_CANCELLED, "training the tokenizer was stopped");
    return ZAMBA_OK;
}

enum { LINE_BYTES = 64 << 20, PART_BYTES = 1 << 20 }; /* longest line; parts in which long documents are learned */

static zamba_status read_text(job *j, zb_stream *in)
{
    const char *separator = j->o->separator != NULL ? j->o->separator : "<|endoftext|>", *line = "";
    const size_t n_separator = strlen(separator);
    int begins = 1; /* a document, with what is in `part` */
    zb_buf part = {0};
    zamba_status st = ZAMBA_OK;
    for (size_t n; line != NULL && st == ZAMBA_OK;) {
        st = zb_stream_line(in, &line, &n, LINE_BYTES, j->err);
        if (st != ZAMBA_OK)
            break;
        size_t bare = line != NULL ? n : 0;
        while (bare > 0 && (line[bare - 1] == '\n' || line[bare - 1] == '\r'))
            bare--;
        const int ends = line == NULL || (bare == n_separator && memcmp(line, separator, bare) == 0);
        if (ends) /* line ends before a separator are no part of the document */
            while (part.n > 0 && part.data[part.n - 1] == '\n')
                part.n--;
        else if (!begins || part.n > 0 || bare > 0) /* nor is one before it */
            st = zb_buf_append(&part, line, n, j->err);
        if (st == ZAMBA_OK && part.n > 0 && (ends || part.n >= PART_BYTES)) {
            j->n_documents += (uint64_t)begins;
            st = zb_bpe_train_add(j->train, part.data, part.n, begins, j->err);
            part.n = 0;
            begins = 0;
            if (st == ZAMBA_OK)
                st = progress(j, "reading", j->n_bytes + zb_stream_done(in), j->total_bytes);
        }
        begins |= ends;
    }
    zb_buf_free(&part);
    return st;
}

static zamba_status read_jsonl(job *j, const char *path, zb_stream *in)
{
    const char *line = "";
    zamba_status st = ZAMBA_OK;
    for (size_t n; line != NULL && st == ZAMBA_OK;) {
        json_t *value = NULL;
        st = zb_stream_line(in, &line, &n, LINE_BYTES, j->err);
        while (st == ZAMBA_OK && line != NULL && n > 0 && strchr(" \t\r\n", line[n - 1]) != NULL && line[n - 1] != '\0')
            n--;
        if (st != ZAMBA_OK || line == NULL || n == 0)
            continue;
        const size_t number = (size_t)zb_stream_lines(in);
        st = zb_json_parse_line(&value, line, n, path, number, zb_json_large, j->err);
        const json_t *field = st == ZAMBA_OK ? json_object_get(value, "text") : NULL;
        if (st == ZAMBA_OK && !json_is_string(field))
            st = zb_fail(j->err, ZAMBA_E_FORMAT, "%s: line %zu: no \"text\" that is a string", path, number);
        if (st == ZAMBA_OK) {
            const char *text = json_string_value(field);
            size_t length = json_string_length(field);
            for (; length > 0 && text[0] == '\n'; length--)
                text++;
            while (length > 0 && text[length - 1] == '\n')
                length--;
            j->n_documents += length > 0;
            st = zb_bpe_train_add(j->train, text, length, 1, j->err);
        }
        json_decref(value);
        if (st == ZAMBA_OK && number % 256 == 0)
            st = progress(j, "reading", j->n_bytes + zb_stream_done(in), j->total_bytes);
    }
    return st;
}

static int ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static zamba_status read_file(job *j, const char *path)
{
    zb_stream *in = NULL;
    zamba_status st = zb_stream_open(&in, path, j->err);
    const uint64_t n_before = j->n_documents;
    if (st == ZAMBA_OK)
        st = ends_with(path, ".jsonl") || ends_with(path, ".jsonl.zst") ? read_jsonl(j, path, in) : read_text(j, in);
    if (st == ZAMBA_OK && j->n_documents == n_before)
        st = zb_fail(j->err, ZAMBA_E_FORMAT, "%s: no text in it, wanted documents to learn from", path);
    if (st == ZAMBA_OK) {
        j->n_bytes += zb_stream_size(in);
        st = progress(j, "reading", j->n_bytes, j->total_bytes);
    }
    zb_stream_close(in);
    return st;
}

/* ---- Special tokens --------------------------------------------------------------------------------------------- */

static zamba_status add_special(job *j, const char *text, int listed)
{
    const zb_added flags = {.special = 1};
    const size_t n = strlen(text);
    if (n == 0 || n > ZB_ADDED_MAX_BYTES || !zb_utf8_valid(text, n))
        return zb_fail(j->err, ZAMBA_E_ARG, "a special token of %zu bytes, wanted 1 to %d bytes of UTF-8", n,
                       ZB_ADDED_MAX_BYTES);
    if (strlen(text) == 6 && strncmp(text, "<0x", 3) == 0 && text[5] == '>')
        return zb_fail(j->err, ZAMBA_E_ARG, "special token %s: that is the name of a byte", text);
    for (size_t i = 0; i < j->set.n; i++) /* the list is sorted later */
        if (strcmp(j->set.list[i].text, text) == 0)
            return zb_fail(j->err, ZAMBA_E_ARG, "special token %s: it is there twice", text);
    if (listed)
        j->special[j->n_special++] = text;
    return zb_added_set_add(&j->set, text, n, flags, j->err);
}

static zamba_status list_special(job *j)
{
    zamba_status st = ZAMBA_OK;
    if (j->o->n_special > MAX_SPECIAL)
        return zb_fail(j->err, ZAMBA_E_ARG, "%zu special tokens, wanted at most %d", j->o->n_special, MAX_SPECIAL);
    j->special = calloc(j->o->n_special + 2, sizeof *j->special);
    if (j->special == NULL)
        return zb_fail_memory(j->err, "special tokens", j->o->n_special * sizeof *j->special);
    for (size_t i = 0; i < N_NAMED && st == ZAMBA_OK; i++)
        st = add_special(j, named[i], 0);
    if (st == ZAMBA_OK && j->o->chat)
        st = add_special(j, turn_begin, 1);
    if (st == ZAMBA_OK && j->o->chat)
        st = add_special(j, turn_end, 1);
    for (size_t i = 0; i < j->o->n_special && st == ZAMBA_OK; i++)
        st = add_special(j, j->o->special[i], 1);
    return st == ZAMBA_OK ? zb_added_set_index(&j->set, j->err) : st;
}

/* ---- Writing ---------------------------------------------------------------------------------------------------- */

static json_t *added_token(const char *content, int id) /* id -1: without one */
{
    json_t *token = json_object();
    if (id >= 0)
        json_object_set_new(token, "id", json_integer(id));
    json_object_set_new(token, "content", json_string(content));
    json_object_set_new(token, "single_word", json_false());
    json_object_set_new(token, "lstrip", json_false());
    json_object_set_new(token, "rstrip", json_false());
    json_object_set_new(token, "normalized", json_false());
    if (id >= 0)
        json_object_set_new(token, "special", json_true());
    return token;
}

static json_t *piece_text(const zb_bpe_learned *l, uint32_t piece)
{
    return json_stringn(l->text + l->pieces[piece].at, l->pieces[piece].n);
}

/* Ids: unk, s, /s, the bytes, what was learned, other special tokens. NULL: out of memory, or (with *twice set) a
 * special token is also a piece. */
static json_t *vocabulary(const job *j, const zb_bpe_learned *l, const char **twice)
{
    json_t *vocab = json_object();
    json_int_t id = 0;
    char key[ZB_BPE_TRAIN_WORD_CHARS * 4 + 8];
    int failed = vocab == NULL;
    for (size_t i = 0; i < N_NAMED; i++)
        failed |= json_object_set_new(vocab, named[i], json_integer(id++));
    for (int i = 0; i < N_BYTES; i++) {
        snprintf(key, sizeof key, "<0x%02X>", i);
        failed |= json_object_set_new(vocab, key, json_integer(id++));
    }
    for (size_t i = 0; i < l->n_pieces; i++) {
        snprintf(key, sizeof key, "%.*s", (int)l->pieces[i].n, l->text + l->pieces[i].at);
        failed |= json_object_set_new(vocab, key, json_integer(id++));
    }
    for (size_t i = 0; i < j->n_special && *twice == NULL; i++) {
        if (json_object_get(vocab, j->special[i]) != NULL)
            *twice = j->special[i];
        failed |= json_object_set_new(vocab, j->special[i], json_integer(id++));
    }
    if (failed || *twice != NULL) {
        json_decref(vocab);
        return NULL;
    }
    return vocab;
}

static json_t *merges(const zb_bpe_learned *l)
{
    json_t *list = json_array();
    int failed = list == NULL;
    for (size_t i = 0; i < l->n_joins && !failed; i++)
        failed = json_array_append_new(
            list, json_pack("[o, o]", piece_text(l, l->joins[i].left), piece_text(l, l->joins[i].right)));
    if (failed) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static int special_id(const zb_bpe_learned *l, size_t i) /* of the i-th in `special` */
{
    return (int)(N_NAMED + N_BYTES + l->n_pieces + i);
}

static json_t *added_tokens(const job *j, const zb_bpe_learned *l)
{
    json_t *list = json_array();
    int failed = list == NULL;
    for (int i = 0; i < N_NAMED; i++)
        failed |= json_array_append_new(list, added_token(named[i], i));
    for (size_t i = 0; i < j->n_special; i++)
        failed |= json_array_append_new(list, added_token(j->special[i], special_id(l, i)));
    if (failed) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *tokenizer_json(const job *j, const zb_bpe_learned *l, const char **twice)
{
    json_t *vocab = vocabulary(j, l, twice);
    if (vocab == NULL)
        return NULL;
    json_t *normalizer =
        json_pack("{s:s, s:[{s:s, s:s}, {s:s, s:{s:s}, s:s}]}", "type", "Sequence", "normalizers", "type", "Prepend",
                  "prepend", ZB_METASPACE, "type", "Replace", "pattern", "String", " ", "content", ZB_METASPACE);
    json_t *processor =
        json_pack("{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}, {s:{s:s, s:i}}, "
                  "{s:{s:s, s:i}}], s:{s:{s:s, s:[i], s:[s]}}}",
                  "type", "TemplateProcessing", "single", "SpecialToken", "id", named[1], "type_id", 0, "Sequence",
                  "id", "A", "type_id", 0, "pair", "SpecialToken", "id", named[1], "type_id", 0, "Sequence", "id", "A",
                  "type_id", 0, "SpecialToken", "id", named[1], "type_id", 1, "Sequence", "id", "B", "type_id", 1,
                  "special_tokens", named[1], "id", named[1], "ids", 1, "tokens", named[1]);
    json_t *decoder =
        json_pack("{s:s, s:[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}, {s:s, s:s, s:i, s:i}]}", "type", "Sequence", "decoders",
                  "type", "Replace", "pattern", "String", ZB_METASPACE, "content", " ", "type", "ByteFallback", "type",
                  "Fuse", "type", "Strip", "content", " ", "start", 1, "stop", 0);
    json_t *model = json_pack("{s:s, s:n, s:s, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
                              "unk_token", named[0], "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 1,
                              "byte_fallback", 1, "ignore_merges", 0, "vocab", vocab, "merges", merges(l));
    return json_pack("{s:s, s:n, s:n, s:o, s:o, s:n, s:o, s:o, s:o}", "version", "1.0", "truncation", "padding",
                     "added_tokens", added_tokens(j, l), "normalizer", normalizer, "pre_tokenizer", "post_processor",
                     processor, "decoder", decoder, "model", model);
}

static json_t *names_of(const job *j)
{
    json_t *list = json_array();
    for (size_t i = 0; i < j->n_special; i++)
        json_array_append_new(list, json_string(j->special[i]));
    return list;
}

static json_t *config_json(const job *j, const zb_bpe_learned *l)
{
    json_t *decoder = json_object();
    char key[16];
    for (size_t i = 0; i < N_NAMED + j->n_special; i++) {
        json_t *token = added_token(i < N_NAMED ? named[i] : j->special[i - N_NAMED], -1);
        json_object_set_new(token, "special", json_true());
        snprintf(key, sizeof key, "%d", i < N_NAMED ? (int)i : special_id(l, i - N_NAMED));
        json_object_set_new(decoder, key, token);
    }
    /* Not LlamaTokenizer: that class builds a pipeline of its own, which takes a space at the front for the one that is
     * put there. */
    json_t *config = json_pack("{s:b, s:b, s:o, s:o, s:s, s:b, s:s, s:s, s:b, s:s, s:s}", "add_bos_token", 1,
                               "add_eos_token", 0, "added_tokens_decoder", decoder, "additional_special_tokens",
                               names_of(j), "bos_token", named[1], "clean_up_tokenization_spaces", 0, "eos_token",
                               named[2], "pad_token", named[0], "spaces_between_special_tokens", 0, "tokenizer_class",
                               "PreTrainedTokenizerFast", "unk_token", named[0]);
    if (j->o->chat)
        json_object_set_new(config, "chat_template", json_string(chat_template));
    return config;
}

static json_t *special_map(const job *j)
{
    json_t *map = json_pack("{s:o, s:o, s:o, s:o}", "bos_token", added_token(named[1], -1), "eos_token",
                            added_token(named[2], -1), "pad_token", added_token(named[0], -1), "unk_token",
                            added_token(named[0], -1));
    if (j->n_special > 0)
        json_object_set_new(map, "additional_special_tokens", names_of(j));
    return map;
}

static zamba_status write_json(const char *folder, const char *name, json_t *value, zamba_error *err)
{
    char path[4096];
    char *text = value != NULL ? json_dumps(value, JSON_INDENT(1)) : NULL;
    zamba_status st = text != NULL ? ZAMBA_OK : zb_fail_memory(err, name, 0);
    json_decref(value);
    if (st == ZAMBA_OK)
        st = zb_path_join(path, sizeof path, folder, name, err);
    if (st == ZAMBA_OK) {
        const zb_file_part parts[] = {{text, strlen(text)}, {"\n", 1}};
        st = zb_file_write(path, parts, 2, err);
    }
    free(text);
    return st;
}

static zamba_status write_files(const job *j, const zb_bpe_learned *l, const char *folder)
{
    const char *twice = NULL;
    json_t *root = tokenizer_json(j, l, &twice);
    zamba_status st = twice != NULL ? zb_fail(j->err, ZAMBA_E_ARG, "special token %s: it is also a piece", twice)
                                    : write_json(folder, "tokenizer.json", root, j->err);
    if (st == ZAMBA_OK)
        st = write_json(folder, "tokenizer_config.json", config_json(j, l), j->err);
    return st == ZAMBA_OK ? write_json(folder, "special_tokens_map.json", special_map(j), j->err) : st;
}

/* A new folder takes its place whole; in one that has files (`force`) each of the three is replaced. */
static zamba_status write_folder(const job *j, const zb_bpe_learned *l, const char *folder)
{
    zb_folder_out out = {0};
    zamba_status st = zb_folder_out_open(&out, folder, j->o->force, j->err);
    if (st != ZAMBA_OK)
        return st;
    if (out.merge) {
        zb_folder_out_discard(&out);
        return write_files(j, l, folder);
    }
    st = write_files(j, l, out.tmp);
    if (st == ZAMBA_OK)
        st = zb_folder_out_commit(&out, (const char *const[]){NULL}, j->err);
    zb_folder_out_discard(&out);
    return st;
}

/* ---- The call --------------------------------------------------------------------------------------------------- */

static int on_pieces(void *user, size_t n_pieces, size_t n_wanted)
{
    const job *j = user;
    return j->o->on_progress != NULL && j->o->on_progress(j->o->user, "merging", n_pieces, n_wanted);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static zamba_status check(const zamba_tokenizer_options *o, const char *const *paths, size_t n_paths, zamba_error *err)
{
    if (o == NULL || o->size != sizeof *o)
        return zb_fail(err, ZAMBA_E_ARG, "options of another version (fill them with zamba_tokenizer_defaults)");
    if (n_paths == 0 || paths == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "no file to learn from");
    if (!(o->coverage > 0 && o->coverage <= 1))
        return zb_fail(err, ZAMBA_E_ARG, "coverage %g, wanted more than 0, up to 1", o->coverage);
    if (o->min_frequency < 1)
        return zb_fail(err, ZAMBA_E_ARG, "min_frequency %lld, wanted 1 or more", (long long)o->min_frequency);
    const size_t least = N_NAMED + N_BYTES + 1 + o->n_special + (o->chat ? 2 : 0);
    if (o->vocab_size < 0 || (size_t)o->vocab_size < least || o->vocab_size > ZB_VOCAB_MAX_IDS)
        return zb_fail(err, ZAMBA_E_ARG, "a vocabulary of %d, wanted %zu (bytes and special tokens, and a piece) to %d",
                       (int)o->vocab_size, least, (int)ZB_VOCAB_MAX_IDS);
    return ZAMBA_OK;
}

zamba_status zamba_tokenizer_train(const char *folder, const char *const *paths, size_t n_paths,
                                   const zamba_tokenizer_options *options, zamba_tokenizer_result *result,
                                   zamba_error *err)
{
    const double start = now();
    struct stat sb;
    zb_bpe_learned learned = {0};
    job j = {.o = options, .err = err};
    zamba_status st = check(options, paths, n_paths, err);
    if (st == ZAMBA_OK)
        st = list_special(&j);
    if (st == ZAMBA_OK)
        st = zb_bpe_train_open(&j.train, &j.set, err);
    for (size_t i = 0; i < n_paths && st == ZAMBA_OK; i++)
        j.total_bytes += stat(paths[i], &sb) == 0 && sb.st_size > 0 ? (uint64_t)sb.st_size : 0;
    for (size_t i = 0; i < n_paths && st == ZAMBA_OK; i++)
        st = read_file(&j, paths[i]);
    if (st == ZAMBA_OK) {
        const size_t taken = N_NAMED + N_BYTES + j.n_special;
        const zb_bpe_train_options o = {.n_pieces = (size_t)options->vocab_size - taken,
                                        .min_frequency = (uint64_t)options->min_frequency,
                                        .coverage = options->coverage,
                                        .on_progress = on_pieces,
                                        .user = &j};
        st = zb_bpe_train_run(j.train, &o, &learned, err);
    }
    if (st == ZAMBA_OK)
        st = write_folder(&j, &learned, folder);
    if (st == ZAMBA_OK && result != NULL)
        *result = (zamba_tokenizer_result){
            .size = sizeof *result,
            .vocab_size = special_id(&learned, j.n_special),
            .n_characters = (int32_t)learned.n_characters,
            .n_merges = (int32_t)learned.n_joins,
            .n_documents = j.n_documents,
            .n_words = learned.n_words,
            .n_seen = learned.n_seen,
            .n_tokens = learned.n_tokens,
            .seconds = now() - start,
        };
    zb_bpe_learned_free(&learned);
    zb_bpe_train_close(j.train);
    zb_added_set_free(&j.set);
    free(j.special);
    return st;
}

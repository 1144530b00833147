/* cmd_data.c — `zamba data show`: rows of training data as the model will see them, token by token, what is learned
 * told apart from what is only read; and what is in the files, counted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"
#include "progress.h"
#include "terminal.h"
#include "zamba_train.h"

enum { KIND_AUTO, KIND_TEXT, KIND_CHAT, KIND_PAIRS };
enum { DEFAULT_ROWS = 4, BAR_COLUMNS = 40 };

static const char *const kind_names[] = {"text", "chat", "pairs"};
static const char *const things[] = {"documents", "conversations", "pairs"};

typedef struct show {
    const cli_args *args;
    zamba_tokenizer *tokenizer;
    zamba_chat *chat;
    zamba_dataset *data;
    zamba_data_source *sources;
    zamba_data_options options;
    progress bar;
    term out;
} show;

/* ---- Opening ---- */

/* The words behind `show`: [MODEL] FILE... A word is the model if there is a folder, a GGUF file, or no such file but a
 * model of that name. */
static bool is_model_word(const char *word)
{
    const size_t n = strlen(word);
    return cli_is_folder(word) || (n > 5 && strcmp(word + n - 5, ".gguf") == 0) ||
           (access(word, F_OK) != 0 && cli_is_model(word));
}

static int on_progress(void *user, uint64_t done, uint64_t total)
{
    show *s = user;
    s->bar.total = (size_t)total;
    progress_update(&s->bar, (size_t)done);
    return 0;
}

static int open_data(show *s, const char *const *files, size_t n)
{
    const cli_args *args = s->args;
    zamba_error err = {0};
    zamba_data_kind kind = (zamba_data_kind)(args->data_kind - KIND_TEXT);
    if (args->data_kind == KIND_AUTO && zamba_data_guess(files[0], &kind, &err) != ZAMBA_OK)
        return cli_fail(&err);
    s->sources = calloc(n, sizeof *s->sources);
    if (!s->sources)
        return cli_error("out of memory");
    for (size_t i = 0; i < n; i++)
        s->sources[i] = (zamba_data_source){files[i], 1};
    s->options = zamba_data_defaults(kind);
    s->options.sources = s->sources;
    s->options.n_sources = n;
    s->options.sequence_length = (size_t)args->data_seq;
    s->options.batch_size = args->data_rows == CLI_UNSET ? DEFAULT_ROWS : (size_t)args->data_rows;
    s->options.seed = (uint64_t)args->seed;
    s->options.once = args->seed < 0;
    s->options.separator = args->separator;
    s->options.too_long = args->too_long == 0   ? ZAMBA_LONG_CUT
                          : args->too_long == 1 ? ZAMBA_LONG_DROP
                                                : ZAMBA_LONG_ERROR;
    s->options.unpacked = args->unpacked;
    s->options.plain = args->plain;
    s->options.on_progress = on_progress;
    s->options.user = s;
    progress_begin(&s->bar, (int)args->progress, (int)args->color, "reading", "bytes", 0);
    const zamba_status st = zamba_dataset_open(&s->data, &s->options, s->tokenizer, s->chat, &err);
    progress_end(&s->bar);
    return st == ZAMBA_OK ? 0 : cli_fail(&err);
}

/* ---- Tokens ---- */

/* A piece with spaces as spaces; what would change the terminal, and bytes that are no text, as \xNN. */
static void put_piece(const show *s, int32_t id)
{
    size_t n = 0, len;
    const char *piece = zamba_tokenizer_piece(s->tokenizer, id, &n);
    if (!piece) {
        out_format("[%d]", id);
        return;
    }
    if (n == 6 && memcmp(piece, "<0x0A>", 6) == 0) {
        piece = "\n";
        n = 1;
    }
    for (size_t i = 0; i < n; i += len) {
        const unsigned char c = (unsigned char)piece[i];
        len = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
        json_t *whole = len <= n - i ? json_stringn(piece + i, len) : NULL; /* NULL: not UTF-8 */
        json_decref(whole);
        if (c == '\n') {
            out_text(s->out.utf8 ? "↵\n" : "\\n\n");
        } else if (!whole || c < 0x20 || c == 0x7F || (c == 0xC2 && (unsigned char)piece[i + 1] < 0xA0)) {
            out_format("\\x%02X", c);
            len = 1;
        } else if (len == 3 && memcmp(piece + i, "\xE2\x96\x81", 3) == 0) {
            out_text(" ");
        } else if (len > 1 && !s->out.utf8) {
            for (size_t k = 0; k < len; k++)
                out_format("\\x%02X", (unsigned char)piece[i + k]);
        } else {
            out_bytes(piece + i, len);
        }
    }
}

/* Borders between tokens are drawn. Learned: green, and without colours between « and ». Special tokens: bold, in ⟦ ⟧.
 */
static void put_token(const show *s, int32_t id, bool learned, bool first, bool was_learned)
{
    const term *t = &s->out;
    const bool special = zamba_tokenizer_is_special(s->tokenizer, id), marks = !t->colour;
    if (!first) {
        if (marks && was_learned && !learned)
            out_text(t->utf8 ? "»" : ">>");
        out_format("%s%s%s", term_on(t, TERM_DIM), t->utf8 ? "│" : "|", term_on(t, TERM_PLAIN));
    }
    if (marks && learned && (first || !was_learned))
        out_text(t->utf8 ? "«" : "<<");
    if (special)
        out_text(term_on(t, TERM_BOLD));
    out_text(term_on(t, learned ? TERM_GREEN : special ? TERM_MAGENTA : TERM_DIM));
    if (special)
        out_text(t->utf8 ? "⟦" : "[[");
    put_piece(s, id);
    if (special)
        out_text(t->utf8 ? "⟧" : "]]");
    out_text(term_on(t, TERM_PLAIN));
}

static void put_heading(const show *s, const zamba_example *e, size_t number)
{
    size_t learned = 0;
    for (size_t i = 0; i < e->n; i++)
        learned += e->targets[i] >= 0;
    out_text(term_on(&s->out, TERM_BOLD));
    if (s->options.kind == ZAMBA_DATA_PAIRS)
        out_format("pair %d, %s", e->row / 2, e->row % 2 ? "rejected" : "chosen");
    else
        out_format("row %d, example %zu", e->row, number);
    out_format("%s %s(%zu tokens read, %zu learned)%s\n", term_on(&s->out, TERM_PLAIN), term_on(&s->out, TERM_DIM),
               e->n, learned, term_on(&s->out, TERM_PLAIN));
}

/* What is read, then the last target, which nothing is read behind. */
static void put_example(const show *s, const zamba_example *e, size_t number)
{
    bool was = false;
    put_heading(s, e, number);
    for (size_t i = 0; i < e->n; i++) {
        const bool learned = i > 0 && e->targets[i - 1] >= 0;
        put_token(s, e->ids[i], learned, i == 0, was);
        was = learned;
    }
    if (e->targets[e->n - 1] >= 0) {
        put_token(s, e->targets[e->n - 1], true, false, was);
        was = true;
    }
    out_text(!s->out.colour && was ? (s->out.utf8 ? "»\n\n" : ">>\n\n") : "\n\n");
}

static json_t *example_json(const show *s, const zamba_example *e)
{
    json_t *tokens = json_array();
    for (size_t i = 0; i < e->n; i++) {
        size_t n = 0;
        const char *piece = zamba_tokenizer_piece(s->tokenizer, e->ids[i], &n);
        json_array_append_new(tokens, piece ? cli_json_text(piece, n) : json_null());
    }
    return json_pack("{s:i, s:o, s:o, s:o}", "row", e->row, "ids", cli_json_ids(e->ids, e->n), "targets",
                     cli_json_ids(e->targets, e->n), "tokens", tokens);
}

/* ---- Counts ---- */

static void put_stats(const show *s, const zamba_data_info *info)
{
    char a[32], b[32], c[32];
    uint64_t most = 1;
    const char *thing = things[s->options.kind];
    out_format("%-14s %s", thing, cli_number(info->n_documents, a));
    if (info->n_empty + info->n_cut + info->n_dropped > 0)
        out_format("   (%s cut, %s too long and dropped, %s with nothing to learn)", cli_number(info->n_cut, a),
                   cli_number(info->n_dropped, b), cli_number(info->n_empty, c));
    out_format("\n%-14s %s\n", "tokens read", cli_number(info->n_tokens, a));
    out_format("%-14s %s   (%.1f%%)\n", "learned", cli_number(info->n_targets, a),
               100.0 * (double)info->n_targets / (double)(info->n_tokens ? info->n_tokens : 1));
    if (s->options.kind != ZAMBA_DATA_PAIRS)
        out_format("%-14s %s   (of %zu tokens)\n", "rows", cli_number(info->n_rows, a), s->options.sequence_length);
    out_format("\nlength in tokens: %s\n", s->options.kind == ZAMBA_DATA_PAIRS ? "answers with their prompts" : thing);
    for (size_t i = 0; i < 32; i++)
        most = info->lengths[i] > most ? info->lengths[i] : most;
    for (size_t i = 0; i < 32; i++) {
        if (info->lengths[i] == 0)
            continue;
        out_format("%10s to %-10s %9s ", cli_number((uint64_t)1 << i, a), cli_number(((uint64_t)2 << i) - 1, b),
                   cli_number(info->lengths[i], c));
        const int columns = (int)ceil((double)BAR_COLUMNS * (double)info->lengths[i] / (double)most);
        out_text(term_on(&s->out, TERM_CYAN));
        for (int k = 0; k < columns; k++)
            out_text(s->out.utf8 ? "█" : "#");
        out_format("%s\n", term_on(&s->out, TERM_PLAIN));
    }
}

static json_t *stats_json(const zamba_data_info *info)
{
    json_t *lengths = json_array();
    size_t last = 32;
    while (last > 0 && info->lengths[last - 1] == 0)
        last--;
    for (size_t i = 0; i < last; i++)
        json_array_append_new(lengths, json_integer((json_int_t)info->lengths[i]));
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "documents", (json_int_t)info->n_documents, "tokens",
                     (json_int_t)info->n_tokens, "targets", (json_int_t)info->n_targets, "rows",
                     (json_int_t)info->n_rows, "empty", (json_int_t)info->n_empty, "cut", (json_int_t)info->n_cut,
                     "dropped", (json_int_t)info->n_dropped, "lengths", lengths);
}

/* ---- The command ---- */

static int show_all(show *s)
{
    zamba_error err = {0};
    zamba_data_batch batch = {0};
    zamba_data_info info = {.size = sizeof info};
    const bool rows = s->args->data_rows != CLI_UNSET || !s->args->stats;
    if (rows && zamba_dataset_next(s->data, &batch, &err) != ZAMBA_OK)
        return cli_fail(&err);
    if (zamba_dataset_info(s->data, -1, &info, &err) != ZAMBA_OK)
        return cli_fail(&err);
    if (s->args->json) {
        json_t *examples = json_array();
        for (size_t i = 0; i < batch.n_examples; i++)
            json_array_append_new(examples, example_json(s, &batch.examples[i]));
        return out_json(json_pack("{s:s, s:I, s:o, s:o}", "kind", kind_names[s->options.kind], "sequence_length",
                                  (json_int_t)s->options.sequence_length, "examples", examples, "stats",
                                  stats_json(&info)),
                        0)
                   ? 0
                   : 1;
    }
    for (size_t i = 0, number = 0; i < batch.n_examples; i++) {
        number = i > 0 && batch.examples[i].row == batch.examples[i - 1].row ? number + 1 : 1;
        put_example(s, &batch.examples[i], number);
    }
    if (s->args->stats)
        put_stats(s, &info);
    return 0;
}

int cmd_data(const cli_args *args)
{
    show s = {.args = args, .out = term_of(STDOUT_FILENO, (int)args->color)};
    zamba_error err = {0};
    const char *const *words = args->words.items;
    size_t n = args->words.n, first = 1;
    if (n == 0 || strcmp(words[0], "show") != 0) {
        cli_error("data: found '%s', wanted show", n ? words[0] : "");
        return cli_hint(args->command);
    }
    const bool named = !args->model && n > first && is_model_word(words[first]);
    first += named;
    if (n == first) {
        cli_error("data show needs a FILE");
        return cli_hint(args->command);
    }
    char *path = cli_find_model(named ? words[1] : args->model);
    int code = path ? 0 : 1;
    if (code == 0 && (zamba_tokenizer_open(&s.tokenizer, path, &err) != ZAMBA_OK ||
                      zamba_chat_open(&s.chat, path, s.tokenizer, &err) != ZAMBA_OK))
        code = cli_fail(&err);
    if (code == 0)
        code = open_data(&s, words + first, n - first);
    if (code == 0 && s.options.kind != ZAMBA_DATA_TEXT && !zamba_chat_has_template(s.chat))
        cli_note("%s has no chat template; the built-in form is used for messages, texts are joined plainly", path);
    if (code == 0)
        code = show_all(&s);
    zamba_dataset_close(s.data);
    zamba_chat_close(s.chat);
    zamba_tokenizer_close(s.tokenizer);
    free(s.sources);
    free(path);
    return code;
}

/* cmd_eval.c — `zamba eval`: multiple-choice scores by lm-evaluation-harness' rules. Finds the files, reads rows, adds
 * up; eval_tasks.c has the prompts, eval_score.c the log-likelihoods, eval_needle.c the needle in a haystack. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "common.h"
#include "eval.h"
#include "eval_score.h"
#include "eval_tasks.h"

enum { LINE_BYTES = 4 << 20, MOST_TASKS = 16, WHY_BYTES = 640 };

typedef struct doc_list {
    eval_doc *items;
    size_t n, room;
} doc_list;

/* A task with its file and what came out. */
typedef struct eval_run {
    const eval_task *task;
    char *file;
    doc_list docs;
    size_t n_items, n_shots;
    double acc, acc_error, norm, norm_error;
} eval_run;

typedef struct evaluation {
    const cli_args *args;
    zamba_model *model;
    zamba_model_info info;
    size_t max_length;
    eval_run runs[MOST_TASKS];
    size_t n_runs;
    char *samples; /* lines of --samples */
    size_t n_samples, room;
} evaluation;

/* ---- Files ---- */

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

static int compressed(const char *path)
{
    return cli_error("%s: is compressed; unpack it first: xz -dk %s", path, path);
}

static bool ends_in(const char *text, const char *end)
{
    const size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

/* The file of a task in a folder: its name with _ or -, alone or with the split behind it. */
static int find_in_folder(eval_run *run, const char *folder)
{
    static const char *const ends[] = {"", "_validation", "_valid", "_val", "_dev", "_test"};
    char path[PATH_MAX + 8];
    for (size_t packed = 0; packed < 2; packed++) {
        for (size_t i = 0; i < 2 * (sizeof ends / sizeof *ends); i++) {
            char name[64];
            snprintf(name, sizeof name, "%s%s", run->task->name, ends[i / 2]);
            for (char *p = name; i % 2 && *p; p++)
                *p = *p == '_' ? '-' : *p;
            if (i % 2 && ends[i / 2][0]) /* arc-easy_test */
                name[strlen(run->task->name)] = '_';
            if (snprintf(path, sizeof path, "%s/%s.jsonl%s", folder, name, packed ? ".xz" : "") >= PATH_MAX)
                return cli_error("%s: the name is too long", folder);
            if (!is_file(path))
                continue;
            if (packed)
                return compressed(path);
            run->file = strdup(path);
            return run->file ? 0 : cli_error("out of memory");
        }
    }
    return cli_error("%s: has no rows for %s (looked for %s.jsonl, and with _validation, _valid, _val, _dev, _test "
                     "behind the name)",
                     folder, run->task->name, run->task->name);
}

static int find_files(evaluation *e)
{
    const char *data = e->args->data;
    int code = 0;
    if (cli_is_folder(data)) {
        for (size_t i = 0; code == 0 && i < e->n_runs; i++)
            code = find_in_folder(&e->runs[i], data);
        return code;
    }
    if (e->n_runs > 1)
        return cli_error("--data: several tasks need a folder with a file for each; %s is none", data);
    e->runs[0].file = strdup(data);
    return e->runs[0].file ? 0 : cli_error("out of memory");
}

static bool doc_append(doc_list *list, const eval_doc *doc)
{
    if (list->n == list->room) {
        const size_t room = list->room ? list->room * 2 : 256;
        eval_doc *larger = realloc(list->items, room * sizeof *larger);
        if (!larger)
            return false;
        list->items = larger;
        list->room = room;
    }
    list->items[list->n++] = *doc;
    return true;
}

static int read_docs(const evaluation *e, eval_run *run)
{
    const size_t most = e->args->limit > 0 ? (size_t)e->args->limit + (size_t)e->args->num_fewshot : SIZE_MAX;
    char *line = NULL, why[WHY_BYTES];
    size_t n, capacity = 0, number = 0, n_bare = 0;
    int code = 0, got = 0;
    if (ends_in(run->file, ".xz"))
        return compressed(run->file);
    FILE *in = cli_is_folder(run->file) ? NULL : fopen(run->file, "rb");
    if (!in)
        return cli_error("%s: %s", run->file, strerror(errno));
    while (code == 0 && run->docs.n < most && (got = cli_read_line(in, LINE_BYTES, &line, &n, &capacity)) != 0) {
        eval_doc doc;
        json_t *row = NULL;
        number++;
        if (got > 0 && strspn(line, " \t") == n)
            continue;
        snprintf(why, sizeof why, "longer than %d bytes, or out of memory", LINE_BYTES);
        if (got > 0)
            row = cli_json_parse(line, n, why, sizeof why);
        if (!row || !eval_doc_read(&doc, run->task, row, why, sizeof why)) {
            code = cli_error("%s: line %zu: as %s: %s", run->file, number, run->task->name, why);
        } else if (!doc_append(&run->docs, &doc)) {
            eval_doc_free(&doc);
            code = cli_error("out of memory");
        } else {
            n_bare += doc.no_passage;
        }
        json_decref(row);
    }
    if (code == 0 && ferror(in))
        code = cli_error("%s: %s", run->file, strerror(errno));
    free(line);
    fclose(in);
    if (code == 0 && run->docs.n <= (size_t)e->args->num_fewshot)
        code = cli_error("%s: %zu rows; %lld are examples, and some must be left to score", run->file, run->docs.n,
                         (long long)e->args->num_fewshot);
    if (code == 0 && n_bare)
        cli_warn("%s: %zu rows have no passage: what comes out is no score of boolq", run->file, n_bare);
    return code;
}

/* ---- Scores ---- */

/* The texts of the first rows with their answers, which stand before every question. */
static char *examples(const eval_run *run, size_t n_shots, size_t *n)
{
    size_t total = 1;
    for (size_t i = 0; i < n_shots; i++) {
        const eval_choice *c = &run->docs.items[i].choices[run->docs.items[i].gold];
        total += c->n_context + c->n_continuation + 2;
    }
    char *text = malloc(total), *p = text;
    for (size_t i = 0; text && i < n_shots; i++) {
        const eval_choice *c = &run->docs.items[i].choices[run->docs.items[i].gold];
        memcpy(p, c->context, c->n_context);
        p += c->n_context;
        memcpy(p, c->continuation, c->n_continuation);
        p += c->n_continuation;
        *p++ = '\n';
        *p++ = '\n';
    }
    *n = text ? (size_t)(p - text) : 0;
    return text;
}

static int encode(const evaluation *e, const eval_run *run, eval_item *items)
{
    const zamba_tokenizer *t = zamba_model_tokenizer(e->model);
    char why[WHY_BYTES];
    size_t n_prefix;
    char *prefix = examples(run, run->n_shots, &n_prefix);
    int code = prefix ? 0 : cli_error("out of memory");
    for (size_t i = 0; code == 0 && i < run->n_items; i++) {
        const eval_doc *doc = &run->docs.items[run->n_shots + i];
        items[i] = (eval_item){calloc(doc->n_choices, sizeof(eval_request)), doc->n_choices};
        if (!items[i].requests)
            code = cli_error("out of memory");
        for (size_t k = 0; code == 0 && k < doc->n_choices; k++) {
            const eval_choice *c = &doc->choices[k];
            char *context = malloc(n_prefix + c->n_context + 1);
            if (!context) {
                code = cli_error("out of memory");
                break;
            }
            memcpy(context, prefix, n_prefix);
            memcpy(context + n_prefix, c->context, c->n_context);
            if (!eval_encode(&items[i].requests[k], t, context, n_prefix + c->n_context, c->continuation,
                             c->n_continuation, e->max_length, why, sizeof why))
                code = cli_error("%s: row %zu, choice %zu: %s", run->file, run->n_shots + i + 1, k + 1, why);
            free(context);
        }
    }
    free(prefix);
    return code;
}

static int note_sample(evaluation *e, const eval_run *run, size_t i, const eval_item *item, size_t pred, size_t norm)
{
    const eval_doc *doc = &run->docs.items[run->n_shots + i];
    json_t *ln_p = json_array(), *tokens = json_array(), *chars = json_array(), *greedy = json_array();
    for (size_t k = 0; k < item->n_requests; k++) {
        const eval_request *r = &item->requests[k];
        json_array_append_new(ln_p, json_real(r->ln_p));
        json_array_append_new(tokens, json_integer((json_int_t)r->n_last));
        json_array_append_new(chars, json_integer((json_int_t)doc->choices[k].n_chars));
        json_array_append_new(greedy, json_boolean(r->n_best == r->n_last));
    }
    json_t *row =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "task", run->task->name, "row",
                  (json_int_t)(run->n_shots + i), "gold", (json_int_t)doc->gold, "pred", (json_int_t)pred, "pred_norm",
                  (json_int_t)norm, "loglikelihoods", ln_p, "tokens", tokens, "characters", chars, "greedy", greedy);
    char *line = row ? json_dumps(row, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    const size_t n = line ? strlen(line) : 0;
    int code = line ? 0 : cli_error("out of memory");
    if (line && e->n_samples + n + 1 > e->room) {
        const size_t room = (e->n_samples + n + 1) * 2;
        char *larger = realloc(e->samples, room);
        if (larger) {
            e->samples = larger;
            e->room = room;
        } else {
            code = cli_error("out of memory");
        }
    }
    if (code == 0) {
        memcpy(e->samples + e->n_samples, line, n);
        e->samples[e->n_samples + n] = '\n';
        e->n_samples += n + 1;
    }
    free(line);
    json_decref(row);
    return code;
}

/* Standard error of the mean of n numbers that are 0 or 1. */
static double mean_error(size_t ones, size_t n)
{
    const double mean = (double)ones / (double)n;
    return n > 1 ? sqrt(mean * (1 - mean) / (double)(n - 1)) : 0;
}

static int add_up(evaluation *e, eval_run *run, const eval_item *items)
{
    size_t right = 0, right_norm = 0;
    int code = 0;
    for (size_t i = 0; code == 0 && i < run->n_items; i++) {
        const eval_doc *doc = &run->docs.items[run->n_shots + i];
        size_t pred = 0, pred_norm = 0;
        double best = -HUGE_VAL, best_norm = -HUGE_VAL;
        for (size_t k = 0; k < doc->n_choices; k++) { /* the first of equals, as numpy's argmax */
            const double ln_p = items[i].requests[k].ln_p;
            const double norm = doc->choices[k].n_chars ? ln_p / (double)doc->choices[k].n_chars : -HUGE_VAL;
            if (ln_p > best) {
                best = ln_p;
                pred = k;
            }
            if (norm > best_norm) {
                best_norm = norm;
                pred_norm = k;
            }
        }
        right += pred == doc->gold;
        right_norm += pred_norm == doc->gold;
        if (e->args->samples)
            code = note_sample(e, run, i, &items[i], pred, pred_norm);
    }
    run->acc = (double)right / (double)run->n_items;
    run->norm = (double)right_norm / (double)run->n_items;
    run->acc_error = mean_error(right, run->n_items);
    run->norm_error = mean_error(right_norm, run->n_items);
    return code;
}

static int run_task(evaluation *e, eval_run *run)
{
    const eval_scorer scorer = {e->model, (int)e->args->progress, (int)e->args->color, run->task->name};
    run->n_shots = (size_t)e->args->num_fewshot;
    run->n_items = run->docs.n - run->n_shots;
    eval_item *items = calloc(run->n_items, sizeof *items);
    int code = items ? encode(e, run, items) : cli_error("out of memory");
    if (code == 0)
        code = eval_score(&scorer, items, run->n_items);
    if (code == 0)
        code = add_up(e, run, items);
    for (size_t i = 0; items && i < run->n_items; i++) {
        for (size_t k = 0; items[i].requests && k < items[i].n_requests; k++)
            eval_request_free(&items[i].requests[k]);
        free(items[i].requests);
    }
    free(items);
    return code;
}

static int report(const evaluation *e, double seconds)
{
    if (e->args->json) {
        json_t *results = json_object();
        for (size_t i = 0; i < e->n_runs; i++) {
            const eval_run *r = &e->runs[i];
            json_t *one = json_pack("{s:o, s:I, s:I, s:f, s:f}", "file", cli_json_text(r->file, strlen(r->file)),
                                    "items", (json_int_t)r->n_items, "num_fewshot", (json_int_t)r->n_shots, "acc",
                                    r->acc, "acc_stderr", r->acc_error);
            if (r->task->norm) {
                json_object_set_new(one, "acc_norm", json_real(r->norm));
                json_object_set_new(one, "acc_norm_stderr", json_real(r->norm_error));
            }
            json_object_set_new(results, r->task->name, one);
        }
        return out_json(json_pack("{s:o, s:s, s:I, s:f, s:o}", "model",
                                  cli_json_text(e->info.path, strlen(e->info.path)), "compute", e->info.compute,
                                  "max_length", (json_int_t)e->max_length, "seconds", cli_round(seconds, 3), "results",
                                  results),
                        0)
                   ? 0
                   : 1;
    }
    out_format("%-14s %6s %6s  %-17s %-17s\n", "task", "shots", "items", "acc", "acc_norm");
    for (size_t i = 0; i < e->n_runs; i++) {
        const eval_run *r = &e->runs[i];
        out_format("%-14s %6zu %6zu  %.4f ± %.4f", r->task->name, r->n_shots, r->n_items, r->acc, r->acc_error);
        if (r->task->norm)
            out_format("   %.4f ± %.4f", r->norm, r->norm_error);
        out_text("\n");
    }
    cli_note("%.1f s", seconds);
    return 0;
}

/* ---- Command ---- */

static int parse_tasks(evaluation *e, const char *list)
{
    const cli_args *args = e->args;
    for (const char *p = list; *p;) {
        const size_t n = strcspn(p, ",");
        const eval_task *task = eval_task_find(p, n);
        if (!task) {
            const char *names[MOST_TASKS];
            char word[64];
            size_t n_names = 0;
            for (; n_names < eval_n_tasks; n_names++)
                names[n_names] = eval_tasks[n_names].name;
            names[n_names++] = "needle";
            snprintf(word, sizeof word, "%.*s", (int)(n < 63 ? n : 63), p);
            const char *near = cli_nearest(word, names, n_names);
            if (near)
                cli_error("'%s' is no task; did you mean '%s'?", word, near);
            else
                cli_error("'%s' is no task; wanted hellaswag, arc_easy, arc_challenge, piqa, winogrande, boolq, "
                          "openbookqa or needle",
                          word);
            return cli_hint(args->command);
        }
        for (size_t i = 0; i < e->n_runs; i++)
            if (e->runs[i].task == task) {
                cli_error("%s stands twice in the list of tasks", task->name);
                return cli_hint(args->command);
            }
        e->runs[e->n_runs++].task = task;
        p += n + (p[n] == ',');
    }
    if (e->n_runs == 0) {
        cli_error("the list of tasks is empty");
        return cli_hint(args->command);
    }
    return 0;
}

static int evaluate(evaluation *e)
{
    zamba_error err = {0};
    const cli_args *args = e->args;
    cli_args rest = *args;
    size_t used;
    const double start = cli_now();
    rest.words.items++; /* TASKS */
    rest.words.n--;
    char *path = cli_model_path(&rest, &used);
    int code = path ? cli_no_more_words(&rest, used) : 1;
    if (code == 0)
        code = find_files(e);
    for (size_t i = 0; code == 0 && i < e->n_runs; i++)
        code = read_docs(e, &e->runs[i]);
    if (code == 0)
        code = cli_model_open(args, path, &e->model, NULL);
    free(path);
    if (code == 0 && zamba_model_info_get(e->model, &e->info, &err) != ZAMBA_OK)
        code = cli_fail(&err);
    if (code == 0 && !zamba_model_tokenizer(e->model))
        code = cli_error("%s has no tokenizer.json: text cannot be scored", e->info.path);
    if (code)
        return code;
    e->max_length = args->ctx_size > 0 ? (size_t)args->ctx_size : (size_t)e->info.max_positions;
    for (size_t i = 0; code == 0 && i < e->n_runs; i++)
        code = run_task(e, &e->runs[i]);
    if (code == 0 && args->samples)
        code = cli_write_file(args->samples, e->samples, e->n_samples);
    return code ? code : report(e, cli_now() - start);
}

int cmd_eval(const cli_args *args)
{
    evaluation e = {.args = args, .info = {.size = sizeof e.info}};
    if (args->words.n == 0) {
        cli_error("eval needs a task, such as arc_easy or needle");
        return cli_hint(args->command);
    }
    if (strcmp(args->words.items[0], "needle") == 0)
        return eval_needle(args);
    int code = parse_tasks(&e, args->words.items[0]);
    if (code)
        return code;
    if (!args->data) {
        cli_error("eval needs --data: the JSON lines of the task, or a folder with a file for each");
        return cli_hint(args->command);
    }
    code = evaluate(&e);
    for (size_t i = 0; i < e.n_runs; i++) {
        for (size_t k = 0; k < e.runs[i].docs.n; k++)
            eval_doc_free(&e.runs[i].docs.items[k]);
        free(e.runs[i].docs.items);
        free(e.runs[i].file);
    }
    free(e.samples);
    zamba_model_close(e.model);
    return code;
}

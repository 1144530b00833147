/* cmd_train.c — `zamba train pretrain|sft|dpo`: reads the command line, opens model, data and run folder, makes the
 * steps, and between them looks at held-out data, writes samples and saves checkpoints. The library does the training;
 * run_folder.c keeps what is to be looked at. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"
#include "progress.h"
#include "run_folder.h"
#include "zamba_train.h"

enum { PRETRAIN, SFT, DPO };

static const char *const kinds[] = {"pretrain", "sft", "dpo"};
static const double rates[] = {3e-4, 2e-5, 1e-6}; /* where none is given: fit for models of some size */
static const double lora_rates[] = {3e-4, 2e-4, 1e-5};

typedef struct train {
    const cli_args *args;
    const cli_training *o; /* of args */
    int kind;
    char *start;      /* the model that the run began with  */
    char *checkpoint; /* to go on from, or NULL             */
    zamba_trainer *trainer;
    zamba_model *model; /* the trainer's */
    zamba_dataset *data, *valid;
    zamba_data_source *sources;
    size_t n_sources;
    run_folder *run;
    zamba_train_options options;
    progress bar;
    zamba_ranks *ranks;
    int rank, n_ranks;
    bool stop; /* a signal came, to this process or another */
} train;

/* ---- several processes: all do the same, rank 0 alone speaks and writes ---- */

/* A failure that only some of us know of: the others would wait for ever. */
static int lost(const train *t, int code)
{
    if (code && t->n_ranks > 1) {
        cli_release_error();
        fflush(stderr);
        zamba_ranks_abort(t->ranks);
    }
    return code;
}

/* What failed because another rank did has been said there. */
static int fail(const train *t, const zamba_error *err)
{
    return t->n_ranks > 1 && err->code == ZAMBA_E_CANCELLED ? 1 : cli_fail(err);
}

/* All ranks end with the same code, and one of those that failed says why; a signal to one is one to all. */
static int together(train *t, int code)
{
    enum { STOP = 1, SILENT = 1000, LOUD = 2000 };
    zamba_error err = {0};
    int32_t word =
        !code ? (cli_signal ? STOP : 0) : code + (cli_has_failed() ? LOUD + 1000 * (t->n_ranks - t->rank) : SILENT);
    if (t->n_ranks > 1 && zamba_ranks_most(t->ranks, word, &word, &err) != ZAMBA_OK)
        return lost(t, cli_fail(&err));
    if (word >= LOUD && t->n_ranks - (word - LOUD) / 1000 == t->rank)
        cli_release_error();
    t->stop = word == STOP;
    return word >= SILENT ? word % 1000 : 0;
}

static int same_text(const train *t, char **text)
{
    zamba_error err = {0};
    return zamba_ranks_text(t->ranks, text, &err) == ZAMBA_OK ? 0 : lost(t, cli_fail(&err));
}

static int progress_form(const train *t)
{
    return t->rank == 0 ? (int)t->args->progress : CLI_PROGRESS_NONE;
}

/* ---- before the first step ---- */

static int in_run(char *path, size_t n, const train *t, const char *name)
{
    if ((size_t)snprintf(path, n, "%s/%s", t->args->output, name) >= n)
        return cli_error("%s: the name is too long", t->args->output);
    return 0;
}

static int wrong(const train *t, const char *what)
{
    cli_error("%s", what);
    return cli_hint(t->args->command);
}

static int check_words(train *t)
{
    const cli_args *a = t->args;
    const char *what = a->words.n ? a->words.items[0] : "";
    for (t->kind = PRETRAIN; t->kind <= DPO; t->kind++)
        if (strcmp(what, kinds[t->kind]) == 0)
            break;
    if (t->kind > DPO) {
        cli_error("train: found '%s', wanted pretrain, sft or dpo", what);
        return cli_hint(a->command);
    }
    if (!a->output)
        return wrong(t, "train needs -o RUN, a folder for checkpoints and metrics");
    if (t->o->data.n == 0)
        return wrong(t, "train needs --data FILE");
    if ((t->o->config != NULL) != (t->o->tokenizer != NULL))
        return wrong(t, "a new model needs both --config FILE and --tokenizer FOLDER");
    if (t->o->config && (a->model || a->words.n > 1))
        return wrong(t, "MODEL and --config do not go together: a model is there, or is made");
    if (t->o->max_steps && t->o->epochs > 0)
        return wrong(t, "--max-steps and --epochs do not go together");
    if (t->kind == DPO && t->o->teacher)
        return wrong(t, "--teacher is for pretrain and sft; dpo has --reference");
    return 0;
}

/* "FILE:3": the weight is what stands behind the last colon, if that is a number. */
static int read_sources(train *t)
{
    t->sources = calloc(t->o->data.n, sizeof *t->sources);
    if (!t->sources)
        return cli_error("out of memory");
    for (size_t i = 0; i < t->o->data.n; i++) {
        char *path = strdup(t->o->data.items[i]), *colon = path ? strrchr(path, ':') : NULL, *end = NULL;
        if (!path)
            return cli_error("out of memory");
        double weight = 1;
        if (colon && colon[1]) {
            const double x = strtod(colon + 1, &end);
            if (!*end) {
                weight = x;
                *colon = '\0';
            }
        }
        t->sources[t->n_sources++] = (zamba_data_source){path, weight};
        if (!(weight > 0 && weight < 1e9))
            return cli_error("--data %s: weight %g, wanted a number above 0", t->o->data.items[i], weight);
    }
    return 0;
}

/* The model's path out of what the run folder noted when the run began. */
static char *noted_start(const train *t)
{
    char path[4096], why[200], *text = NULL, *start = NULL;
    size_t n;
    if (in_run(path, sizeof path, t, "config.json") != 0 || access(path, R_OK) != 0 ||
        cli_read_file(path, 1 << 20, &text, &n) != 0)
        return NULL;
    json_t *root = cli_json_parse(text, n, why, sizeof why);
    const char *model = json_string_value(json_object_get(root, "model"));
    if (model)
        start = strdup(model);
    json_decref(root);
    free(text);
    return start;
}

/* A new model, in the run's own folder; one that is there was made when the run began. */
static int make_start(train *t)
{
    char path[4096];
    zamba_error err = {0};
    zamba_init_options o = zamba_init_defaults();
    struct stat st;
    int code = in_run(path, sizeof path, t, "start");
    if (code)
        return code;
    if (mkdir(t->args->output, 0777) != 0 && errno != EEXIST)
        return cli_error("%s: cannot create the folder: %s", t->args->output, strerror(errno));
    o.scheme = (zamba_init_scheme)t->o->init;
    o.seed = (uint64_t)t->o->seed;
    const bool there = stat(path, &st) == 0;
    if (there && !t->o->resume)
        return cli_error("%s: a run that was stopped stands there (--resume goes on with it, or name another folder)",
                         t->args->output);
    if (!there && zamba_model_init(t->o->config, t->o->tokenizer, path, &o, &err) != ZAMBA_OK)
        return cli_fail(&err);
    t->start = strdup(path);
    return t->start ? 0 : cli_error("out of memory");
}

static bool is_adapter(const char *folder)
{
    char path[4096];
    return (size_t)snprintf(path, sizeof path, "%s/adapter_config.json", folder) < sizeof path &&
           access(path, F_OK) == 0;
}

/* Which model to begin or to go on with. */
static int find_models(train *t)
{
    zamba_error err = {0};
    cli_args rest = *t->args; /* the words behind the kind */
    size_t used = 0;
    rest.words.items++;
    rest.words.n--;
    const zamba_status st = zamba_train_latest(t->args->output, &t->checkpoint, &err);
    if (st != ZAMBA_OK && st != ZAMBA_E_NOT_FOUND)
        return cli_fail(&err);
    if (t->checkpoint && !t->o->resume)
        return cli_error("%s: a run with checkpoints stands there (--resume goes on with it, or name another folder)",
                         t->args->output);
    if (t->checkpoint && is_adapter(t->checkpoint) != t->o->lora)
        return cli_error("%s: the run trains %s", t->checkpoint,
                         t->o->lora ? "a model, not an adapter (leave out --lora)" : "an adapter (add --lora)");
    if (t->o->config)
        return make_start(t);
    if (t->checkpoint && rest.words.n == 0 && !rest.model)
        t->start = noted_start(t);
    if (!t->start)
        t->start = cli_model_path(&rest, &used);
    return t->start ? cli_no_more_words(&rest, used) : 1;
}

static zamba_schedule schedule_of(const train *t)
{
    if (t->o->schedule != CLI_UNSET)
        return (zamba_schedule)t->o->schedule;
    if (t->o->phase == 1)
        return ZAMBA_SCHEDULE_ANNEAL;
    return t->kind == PRETRAIN ? ZAMBA_SCHEDULE_COSINE : ZAMBA_SCHEDULE_LINEAR;
}

static void fill_options(train *t)
{
    const cli_training *o = t->o;
    zamba_train_options *to = &t->options;
    *to = zamba_train_defaults();
    to->objective = t->kind == DPO ? ZAMBA_OBJECTIVE_DPO : ZAMBA_OBJECTIVE_LM;
    to->n_threads = (int32_t)t->args->threads;
    to->bf16 = o->bf16;
    to->checkpoint_activations = o->checkpoint_activations;
    to->dt_floor = (zamba_dt_floor)t->args->dt_floor;
    to->sequence_length = (size_t)o->sequence_length;
    to->micro_tokens = (size_t)o->micro_tokens;
    to->accumulate = (int32_t)o->accumulate;
    to->schedule = schedule_of(t);
    to->learning_rate = o->learning_rate > 0 ? o->learning_rate : (o->lora ? lora_rates : rates)[t->kind];
    to->min_learning_rate = o->min_learning_rate;
    to->warmup_steps = o->warmup_steps;
    to->decay_share = o->decay_share;
    to->beta1 = o->beta1;
    to->beta2 = o->beta2;
    to->epsilon = o->epsilon;
    to->weight_decay = o->weight_decay;
    to->max_grad_norm = o->max_grad_norm;
    to->z_loss = o->z_loss;
    to->hidden_dropout = o->hidden_dropout;
    to->attention_dropout = o->attention_dropout;
    to->seed = (uint64_t)o->seed;
    to->spike_factor = o->spike_factor;
    to->most_skipped = (int32_t)o->most_skipped;
    to->dpo_beta = o->beta;
    to->label_smoothing = o->label_smoothing;
    to->reference = o->reference ? o->reference : t->start;
    to->teacher = o->teacher;
    to->distill_alpha = o->distill_alpha;
    to->distill_temperature = o->distill_temperature;
    to->lora_rank = o->lora ? (int32_t)o->lora_rank : 0;
    to->lora_alpha = o->lora_alpha;
    to->lora_dropout = o->lora_dropout;
    to->lora_rslora = o->lora_rslora;
    to->lora_targets = o->lora_targets;
    to->ranks = t->ranks;
}

static int on_data(void *user, uint64_t done, uint64_t total)
{
    progress *bar = user;
    bar->total = (size_t)(total / 1000);
    progress_update(bar, (size_t)(done / 1000));
    return cli_signal;
}

static int open_dataset(train *t, zamba_dataset **out, const zamba_data_source *sources, size_t n, int once,
                        const zamba_tokenizer *tokenizer, const zamba_chat *chat)
{
    static const zamba_data_kind data_kinds[] = {ZAMBA_DATA_TEXT, ZAMBA_DATA_CHAT, ZAMBA_DATA_PAIRS};
    zamba_data_options o = zamba_data_defaults(data_kinds[t->kind]);
    zamba_error err = {0};
    progress bar;
    o.sources = sources;
    o.n_sources = n;
    o.sequence_length = (size_t)t->o->sequence_length;
    o.batch_size = (size_t)t->o->batch_size;
    o.seed = (uint64_t)t->o->seed;
    o.once = once;
    o.rank = once ? 0 : t->rank; /* what is held out is rank 0's alone */
    o.n_ranks = once ? 1 : t->n_ranks;
    o.too_long = (zamba_data_long)t->o->too_long;
    o.on_progress = on_data;
    o.user = &bar;
    progress_begin(&bar, progress_form(t), (int)t->args->color, "reading data", "kB", 0);
    const zamba_status st = zamba_dataset_open(out, &o, tokenizer, chat, &err);
    progress_end(&bar);
    return st == ZAMBA_OK ? 0 : st == ZAMBA_E_CANCELLED ? 130 : cli_fail(&err);
}

/* The model that is opened: an adapter's checkpoints are none. */
static const char *beneath(const train *t)
{
    return t->checkpoint && !t->o->lora ? t->checkpoint : t->start;
}

/* Tokenizer and template come before the trainer: the data says how many steps there are. */
static int open_data(train *t, zamba_tokenizer **tokenizer, zamba_chat **chat)
{
    zamba_error err = {0};
    const char *from = beneath(t);
    zamba_status st = zamba_tokenizer_open(tokenizer, from, &err);
    if (st == ZAMBA_OK)
        st = zamba_chat_open(chat, from, *tokenizer, &err);
    if (st != ZAMBA_OK)
        return cli_fail(&err);
    int code = open_dataset(t, &t->data, t->sources, t->n_sources, 0, *tokenizer, *chat);
    if (code == 0 && t->o->valid && t->rank == 0) {
        const zamba_data_source one = {t->o->valid, 1};
        code = open_dataset(t, &t->valid, &one, 1, 1, *tokenizer, *chat);
    }
    return code;
}

static int count_steps(train *t)
{
    zamba_error err = {0};
    zamba_data_info info = {.size = sizeof info};
    char a[32], b[32];
    if (zamba_dataset_info(t->data, -1, &info, &err) != ZAMBA_OK)
        return cli_fail(&err);
    const double epochs = t->o->epochs > 0 ? t->o->epochs : 1;
    const double steps = ceil(epochs * (double)info.n_rows / ((double)t->o->batch_size * (double)t->o->accumulate));
    t->options.total_steps = t->o->max_steps ? t->o->max_steps : steps < 1 ? 1 : (int64_t)steps;
    if (t->options.warmup_steps > t->options.total_steps)
        return cli_error("--warmup-steps %lld: the run has %lld steps (a shorter warm-up, or more --max-steps)",
                         (long long)t->options.warmup_steps, (long long)t->options.total_steps);
    cli_note("data: %s documents, %s tokens; %lld steps", cli_number(info.n_documents, a), cli_number(info.n_tokens, b),
             (long long)t->options.total_steps);
    return 0;
}

static json_t *path_json(const char *path)
{
    return path ? cli_json_text(path, strlen(path)) : json_null();
}

/* Where the rate ends, also if the library chose it. */
static double floor_of(const zamba_train_options *o)
{
    const double share = o->schedule == ZAMBA_SCHEDULE_COSINE ? 0.1 : o->schedule == ZAMBA_SCHEDULE_ANNEAL ? 0.01 : 0;
    return o->schedule == ZAMBA_SCHEDULE_CONSTANT ? o->learning_rate
           : o->min_learning_rate >= 0            ? o->min_learning_rate
                                                  : share * o->learning_rate;
}

/* What config.json of the run folder says; released with free(). */
static char *settings(const train *t)
{
    static const char *const schedules[] = {"constant", "linear", "cosine", "wsd", "anneal"};
    const zamba_train_options *o = &t->options;
    json_t *data = json_array();
    for (size_t i = 0; i < t->n_sources; i++)
        json_array_append_new(
            data, json_pack("{s:o, s:f}", "path", path_json(t->sources[i].path), "weight", t->sources[i].weight));
    json_t *root = json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:b}", "objective", kinds[t->kind], "model",
                             path_json(t->start), "data", data, "valid", path_json(t->o->valid), "sequence_length",
                             (json_int_t)t->o->sequence_length, "batch_size", (json_int_t)t->o->batch_size,
                             "gradient_accumulation_steps", (json_int_t)o->accumulate, "max_steps",
                             (json_int_t)o->total_steps, "seed", (json_int_t)t->o->seed, "bf16", (int)o->bf16);
    if (root && t->n_ranks > 1)
        json_object_set_new(root, "processes", json_integer(t->n_ranks));
    json_t *more = json_pack("{s:s, s:f, s:f, s:I, s:f, s:f, s:f, s:f, s:f}", "lr_scheduler", schedules[o->schedule],
                             "learning_rate", o->learning_rate, "min_learning_rate", floor_of(o), "warmup_steps",
                             (json_int_t)o->warmup_steps, "weight_decay", o->weight_decay, "adam_beta1", o->beta1,
                             "adam_beta2", o->beta2, "max_grad_norm", o->max_grad_norm, "z_loss", o->z_loss);
    int bad = !root || json_object_update(root, more);
    if (!bad && o->hidden_dropout >= 0)
        bad = json_object_set_new(root, "hidden_dropout", json_real(o->hidden_dropout));
    if (!bad && o->attention_dropout >= 0)
        bad = json_object_set_new(root, "attention_dropout", json_real(o->attention_dropout));
    if (!bad && t->kind == DPO)
        bad = json_object_set_new(root, "beta", json_real(o->dpo_beta)) ||
              json_object_set_new(root, "reference", path_json(o->reference));
    if (!bad && o->lora_rank > 0)
        bad = json_object_set_new(root, "lora",
                                  json_pack("{s:i, s:f, s:f, s:b, s:s}", "rank", (int)o->lora_rank, "alpha",
                                            o->lora_alpha, "dropout", o->lora_dropout, "rslora", (int)o->lora_rslora,
                                            "targets", o->lora_targets ? o->lora_targets : "all-linear"));
    if (!bad && o->teacher)
        bad = json_object_set_new(root, "teacher", path_json(o->teacher));
    char *text = bad ? NULL : json_dumps(root, JSON_COMPACT);
    json_decref(more);
    json_decref(root);
    return text;
}

/* Rows are dealt out by each process for itself: they must be dealt from the same pack. */
static int check_same_data(train *t)
{
    zamba_error err = {0};
    char *ours = NULL, *first = NULL;
    int code = t->n_ranks == 1 || zamba_dataset_position(t->data, &ours, &err) == ZAMBA_OK ? 0 : cli_fail(&err);
    if (code == 0 && t->rank == 0 && t->n_ranks > 1 && !(first = strdup(ours)))
        code = cli_error("out of memory");
    code = together(t, code);
    if (code == 0)
        code = same_text(t, &first);
    if (code == 0 && t->n_ranks > 1 && strcmp(ours, first) != 0)
        code = cli_error("--data: other contents than on rank 0 (are the files the same on all machines?)");
    zamba_free(ours);
    free(first);
    return t->n_ranks > 1 ? together(t, code) : code;
}

static int open_trainer(train *t)
{
    zamba_error err = {0};
    char *position = NULL;
    zamba_status st = zamba_trainer_open(&t->trainer, beneath(t), &t->options, &err);
    if (st == ZAMBA_OK && t->checkpoint)
        st = zamba_trainer_resume(t->trainer, t->checkpoint, &position, &err);
    if (st == ZAMBA_OK && position)
        st = zamba_dataset_seek(t->data, position, &err);
    zamba_free(position);
    if (st != ZAMBA_OK)
        return fail(t, &err);
    t->model = zamba_trainer_model(t->trainer);
    if (t->rank > 0)
        return 0;
    char *text = settings(t);
    if (!text)
        return cli_error("out of memory");
    /* what was stopped before its first step begins anew */
    const int64_t steps = zamba_trainer_steps(t->trainer), from = steps > 0 ? steps : t->o->resume ? -1 : 0;
    st = run_folder_open(&t->run, t->args->output, text, from, &err);
    free(text);
    return st == ZAMBA_OK ? 0 : cli_fail(&err);
}

/* ---- between steps ---- */

static json_t *real_or_null(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static int put_line(json_t *line)
{
    return out_json(line, 0) && out_flush() ? 0 : 1;
}

static int show_step(train *t, const zamba_train_metrics *m)
{
    if (t->rank > 0)
        return 0;
    if (run_folder_step(t->run, m) != 0)
        return 1;
    if (m->skipped) {
        progress_clear();
        cli_warn("step %lld skipped: loss %g, gradient norm %g", (long long)m->step, m->loss, m->grad_norm);
    }
    snprintf(t->bar.note, sizeof t->bar.note, "loss %.4f  %.0f tokens/s", m->loss, m->tokens_per_second);
    progress_update(&t->bar, (size_t)m->step);
    if (!t->args->json || (m->step % t->o->logging_steps != 0 && !m->skipped && m->step != m->total_steps))
        return 0;
    json_t *line = json_pack("{s:I, s:I, s:i, s:I, s:o, s:f, s:o, s:f, s:f, s:b}", "step", (json_int_t)m->step,
                             "total_steps", (json_int_t)m->total_steps, "epoch", (int)m->epoch, "tokens",
                             (json_int_t)m->tokens, "loss", real_or_null(m->loss), "learning_rate", m->learning_rate,
                             "grad_norm", real_or_null(m->grad_norm), "seconds", cli_round(m->seconds, 6),
                             "tokens_per_second", cli_round(m->tokens_per_second, 1), "skipped", m->skipped != 0);
    if (line && t->kind == DPO) {
        json_object_set_new(line, "accuracy", real_or_null(m->accuracy));
        json_object_set_new(line, "margin", real_or_null(m->margin));
        json_object_set_new(line, "chosen_reward", real_or_null(m->chosen_reward));
        json_object_set_new(line, "rejected_reward", real_or_null(m->rejected_reward));
    }
    if (line && t->o->teacher)
        json_object_set_new(line, "divergence", real_or_null(m->divergence));
    if (line && t->n_ranks > 1)
        json_object_set_new(line, "exchange_seconds", json_real(cli_round(m->exchange_seconds, 6)));
    return put_line(line);
}

static int evaluate(train *t, int64_t step)
{
    zamba_error err = {0};
    zamba_train_evaluation e = {.size = sizeof e};
    if (!t->valid)
        return 0;
    progress_clear();
    if (zamba_trainer_evaluate(t->trainer, t->valid, (uint64_t)t->o->eval_tokens, &e, &err) != ZAMBA_OK)
        return cli_fail(&err);
    cli_note("step %lld: held-out loss %.4f, perplexity %.3f", (long long)step, e.loss, exp(e.loss));
    if (run_folder_valid(t->run, step, e.loss, e.bytes_per_token) != 0)
        return 1;
    if (!t->args->json)
        return 0;
    json_t *line = json_pack("{s:I, s:o, s:o, s:I}", "step", (json_int_t)step, "valid_loss", real_or_null(e.loss),
                             "valid_perplexity", real_or_null(exp(e.loss)), "valid_targets", (json_int_t)e.targets);
    if (line && e.bytes_per_token > 0)
        json_object_set_new(line, "valid_bits_per_byte", real_or_null(e.loss / (e.bytes_per_token * log(2.0))));
    if (line && t->kind == DPO)
        json_object_set_new(line, "valid_accuracy", real_or_null(e.accuracy));
    return put_line(line);
}

/* What a prompt is for this kind of training: a text that goes on, or a question. */
static zamba_status prompt_ids(const train *t, const char *prompt, int32_t **ids, size_t *n, zamba_error *err)
{
    if (t->kind == PRETRAIN)
        return zamba_tokenize(zamba_model_tokenizer(t->model), prompt, strlen(prompt), ZAMBA_TOKENIZE_BOS, ids, n, err);
    const zamba_message one = {"user", prompt};
    return zamba_chat_render(zamba_model_chat(t->model), &one, 1, 1, NULL, NULL, ids, n, err);
}

typedef struct written {
    char *text;
    size_t n, room;
} written;

static int on_token(void *user, const zamba_generated *g)
{
    written *w = user;
    if (w->n + g->n_bytes + 1 > w->room) {
        w->room = 2 * (w->n + g->n_bytes) + 256;
        char *larger = realloc(w->text, w->room);
        if (!larger)
            return 1;
        w->text = larger;
    }
    if (g->n_bytes)
        memcpy(w->text + w->n, g->text, g->n_bytes);
    w->n += g->n_bytes;
    w->text[w->n] = '\0';
    return cli_signal;
}

static zamba_status write_sample(const train *t, const char *prompt, written *w, zamba_error *err)
{
    zamba_sampler_options so = zamba_sampler_defaults();
    zamba_generate_options o = zamba_generate_defaults();
    zamba_generate_result result;
    zamba_model_info info = {.size = sizeof info};
    zamba_sampler *sampler = NULL;
    zamba_sequence *s = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    so.seed = (uint64_t)t->o->seed;
    zamba_status st = zamba_model_info_get(t->model, &info, err);
    if (st == ZAMBA_OK)
        st = prompt_ids(t, prompt, &ids, &n, err);
    if (st == ZAMBA_OK)
        st = zamba_sampler_open(&sampler, info.vocab_size, &so, err);
    if (st == ZAMBA_OK)
        st = zamba_sequence_open(&s, t->model, n + (size_t)t->o->sample_tokens, err);
    o.prompt = ids;
    o.n_prompt = n;
    o.max_tokens = (int32_t)t->o->sample_tokens;
    o.keep_space = t->kind == PRETRAIN;
    o.on_token = on_token;
    o.user = w;
    if (st == ZAMBA_OK)
        st = zamba_generate(t->model, s, sampler, &o, &result, err);
    zamba_sequence_close(s);
    zamba_sampler_close(sampler);
    zamba_free(ids);
    return st;
}

/* A sample that fails does not end the run. */
static int sample(train *t, int64_t step, const char *prompt)
{
    zamba_error err = {0};
    written w = {0};
    int code = 0;
    progress_clear();
    if (write_sample(t, prompt, &w, &err) != ZAMBA_OK) {
        cli_warn("sample at step %lld: %s", (long long)step, err.message);
        free(w.text);
        return 0;
    }
    const char *text = w.text ? w.text : "";
    cli_note("step %lld: %s%s%s", (long long)step, prompt, t->kind == PRETRAIN ? "" : " -> ", text);
    code = run_folder_sample(t->run, step, prompt, text);
    if (code == 0 && t->args->json)
        code = put_line(json_pack("{s:I, s:o, s:o}", "step", (json_int_t)step, "prompt",
                                  cli_json_text(prompt, strlen(prompt)), "sample", cli_json_text(text, w.n)));
    free(w.text);
    return code;
}

static int samples(train *t, int64_t step)
{
    int code = 0;
    for (size_t i = 0; i < t->o->sample_prompts.n && code == 0 && t->rank == 0 && zamba_model_tokenizer(t->model); i++)
        code = sample(t, step, t->o->sample_prompts.items[i]);
    return code;
}

static int save(train *t)
{
    zamba_error err = {0};
    char *position = NULL, *path = NULL;
    zamba_status st = zamba_dataset_position(t->data, &position, &err);
    if (st != ZAMBA_OK)
        return lost(t, cli_fail(&err));
    st = zamba_trainer_save(t->trainer, t->args->output, (zamba_save_type)t->o->save_type,
                            (int32_t)t->o->save_total_limit, position, &path, &err);
    progress_clear();
    if (st == ZAMBA_OK && path)
        cli_note("saved %s", path);
    zamba_free(position);
    zamba_free(path);
    return together(t, st == ZAMBA_OK ? 0 : fail(t, &err));
}

/* ---- the steps ---- */

static int one_step(train *t)
{
    zamba_error err = {0};
    zamba_train_metrics m = {0};
    zamba_status st = ZAMBA_OK;
    while (st == ZAMBA_OK && m.step == 0) { /* as many batches as a step takes */
        zamba_data_batch batch = {0};
        st = zamba_dataset_next(t->data, &batch, &err);
        if (st != ZAMBA_OK)
            return lost(t, cli_fail(&err));
        st = zamba_trainer_step(t->trainer, &batch, &m, &err);
    }
    const int code = m.step > 0 ? show_step(t, &m) : 0;
    if (st == ZAMBA_OK)
        return code;
    progress_clear();
    return fail(t, &err);
}

static bool every(int64_t step, int64_t n)
{
    return n > 0 && step % n == 0;
}

static int make_steps(train *t)
{
    const cli_training *o = t->o;
    const int64_t total = t->options.total_steps, first = zamba_trainer_steps(t->trainer);
    /* a checkpoint before the first step: a full disk shows now, and what is stopped early can go on too */
    int code = first == 0 ? save(t) : 0;
    if (code == 0 && first == 0)
        code = together(t, evaluate(t, 0));
    progress_begin(&t->bar, progress_form(t), (int)t->args->color, "training", "steps", (size_t)total);
    t->bar.first = (size_t)first;
    while (code == 0 && !t->stop && zamba_trainer_steps(t->trainer) < total) {
        code = one_step(t);
        const int64_t step = zamba_trainer_steps(t->trainer);
        if (code == 0 && (every(step, o->eval_steps) || step == total))
            code = evaluate(t, step);
        if (code == 0 && (every(step, o->sample_steps) || step == total))
            code = samples(t, step);
        code = together(t, code);
        if (code == 0 && (every(step, o->save_steps) || step == total))
            code = save(t);
    }
    progress_end(&t->bar);
    if (code == 0 && t->stop && zamba_trainer_steps(t->trainer) < total) {
        code = save(t);
        if (code == 0 && t->rank == 0)
            cli_error("stopped at step %lld of %lld; --resume goes on", (long long)zamba_trainer_steps(t->trainer),
                      (long long)total);
        code = code ? code : 130;
    }
    return code;
}

static void close_all(train *t)
{
    zamba_trainer_close(t->trainer);
    zamba_dataset_close(t->data);
    zamba_dataset_close(t->valid);
    for (size_t i = 0; i < t->n_sources; i++)
        free((char *)(uintptr_t)t->sources[i].path);
    free(t->sources);
    zamba_free(t->checkpoint);
    free(t->start);
    zamba_ranks_close(t->ranks);
}

static int open_ranks(train *t)
{
    zamba_error err = {0};
    if (zamba_ranks_open(&t->ranks, &err) != ZAMBA_OK)
        return cli_fail(&err);
    t->rank = zamba_ranks_rank(t->ranks);
    t->n_ranks = zamba_ranks_size(t->ranks);
    cli_set_rank(t->rank);
    return 0;
}

/* Rank 0 looks which model and checkpoint there are, and makes what is missing; the others hear of it. */
static int agree_on_models(train *t)
{
    int code = together(t, t->rank == 0 ? find_models(t) : 0);
    if (code == 0)
        code = same_text(t, &t->start);
    if (code == 0)
        code = same_text(t, &t->checkpoint);
    return code;
}

int cmd_train(const cli_args *args)
{
    train t = {.args = args, .o = &args->training, .n_ranks = 1};
    zamba_tokenizer *tokenizer = NULL;
    zamba_chat *chat = NULL;
    int code = open_ranks(&t);
    if (code == 0)
        code = together(&t, check_words(&t));
    if (code == 0)
        code = together(&t, read_sources(&t));
    cli_catch_signal(SIGINT);
    cli_catch_signal(SIGTERM);
    cli_catch_signal(SIGUSR1); /* what mpirun passes on without ending its processes */
    if (code == 0)
        code = agree_on_models(&t);
    if (code == 0)
        code = together(&t, open_data(&t, &tokenizer, &chat));
    if (code == 0)
        code = check_same_data(&t);
    if (code == 0) {
        fill_options(&t);
        code = together(&t, count_steps(&t));
    }
    if (code == 0)
        code = together(&t, open_trainer(&t));
    if (code == 0)
        code = make_steps(&t);
    if (t.run && run_folder_close(t.run) != 0 && code == 0)
        code = 1;
    close_all(&t);
    zamba_chat_close(chat);
    zamba_tokenizer_close(tokenizer);
    return code;
}

/* run_folder_tool.c — writes the folder of a training run that never was, for test_cli_report.py:
 *     run_folder_tool FOLDER RESUME_STEP FIRST LAST TOTAL [SEED]
 * The program's own files are compiled in, with little around them. */
#include "cli/run_data.c"
#include "cli/run_folder.c"
#include "cli/run_report.c"
#include "cli/svg_chart.c"
#include "cli/tb_events.c"

#include <time.h>

int cli_error(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fputs("zamba: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    return 1;
}

double cli_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *cli_number(uint64_t x, char buffer[32])
{
    snprintf(buffer, 32, "%llu", (unsigned long long)x);
    return buffer;
}

json_t *cli_json_text(const char *text, size_t n)
{
    json_t *value = json_stringn(text, n);
    return value ? value : json_string("?");
}

json_t *cli_json_parse(const char *text, size_t n, char *why, size_t n_why)
{
    json_error_t error;
    json_t *value = json_loadb(text, n, JSON_DECODE_ANY, &error);
    if (!value)
        snprintf(why, n_why, "%s", error.text);
    return value;
}

int cli_read_line(FILE *in, size_t limit, char **line, size_t *n, size_t *capacity)
{
    const ssize_t got = getline(line, capacity, in);
    if (got < 0)
        return 0;
    *n = (size_t)got;
    if (*n > 0 && (*line)[*n - 1] == '\n')
        (*line)[--*n] = '\0';
    return *n <= limit ? 1 : -1;
}

int cli_read_file(const char *path, size_t limit, char **data, size_t *n)
{
    FILE *f = fopen(path, "r");
    *data = f ? calloc(1, limit + 1) : NULL;
    *n = *data ? fread(*data, 1, limit, f) : 0;
    return !f || fclose(f) != 0 || !*data;
}

int cli_write_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "w");
    const bool ok = f && fwrite(data, 1, n, f) == n;
    return !f || fclose(f) != 0 || !ok;
}

static uint32_t seed = 1;

static double uniform(void)
{
    seed = seed * 1664525 + 1013904223;
    return (double)(seed >> 8) / 16777216.0;
}

static double normal(void)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += uniform();
    return sum;
}

/* Numbers as a small model's training gives them: they only depend on the step. */
static zamba_train_metrics metrics_of(int64_t step, int64_t total, uint32_t run)
{
    const double part = (double)step / (double)total, warm = fmin(1, (double)step / 100);
    seed = (uint32_t)step * 7919 + run;
    uniform();
    zamba_train_metrics m = {.step = step, .total_steps = total, .epoch = (int32_t)(part * 3)};
    m.tokens = (uint64_t)step * 8192;
    m.loss = 1.9 + 0.1 * run + 6.4 * pow((double)step + 1, -0.42) + 0.09 * normal();
    m.learning_rate = warm * (1.5e-4 + (3e-3 - 1.5e-4) * 0.5 * (1 + cos(3.14159265 * part)));
    m.grad_norm = 0.6 + 3 / (1 + (double)step / 40) + 0.12 * fabs(normal()) + (uniform() < 0.004 ? 3 : 0);
    m.seconds = 0.52 + 0.02 * normal() + (step % 97 == 0 ? 0.3 : 0);
    m.tokens_per_second = 8192 / m.seconds;
    m.accuracy = m.margin = m.chosen_reward = m.rejected_reward = m.divergence = NAN;
    if (step % 400 == 399) {
        m.skipped = 1;
        m.loss = NAN;
    }
    return m;
}

int main(int argc, char **argv)
{
    static const char *const told[] = {
        " who lived in a house by the the the sea. \"Oh!\" said the dog.\n\nAnd the and.",
        " who had a red ball. One day the ball rolled under the bridge, and the fox could not find it.",
        " named Rusty, who lived at the edge of the Green Forest. Every morning he trotted down to the brook to see "
        "whether the frogs were awake.\n\n\"Good morning, Mr. Frog,\" said he. \"Have you seen my red ball?\"\n\n"
        "<b>\"Chug-a-rum!\"</b> said the frog & jumped into the water."};
    if (argc < 6)
        return 2;
    const int64_t resume = atoll(argv[2]), first = atoll(argv[3]), last = atoll(argv[4]), total = atoll(argv[5]);
    const uint32_t run = argc > 6 ? (uint32_t)atoi(argv[6]) : 0;
    char config[1024];
    zamba_error err = {0};
    run_folder *r;
    snprintf(config, sizeof config,
             "{\"objective\": \"pretrain\", \"model\": {\"hidden_size\": 256, \"layers\": 8, \"hybrid\": [2, 6], "
             "\"vocab_size\": 4096}, \"data\": [\"stories.txt\"], \"lr\": %g, \"min_lr\": 0.00015, \"schedule\": "
             "\"cosine\", \"warmup\": 100, \"batch_size\": 32, \"sequence_length\": 256, \"optimizer\": {\"name\": "
             "\"adamw\", \"betas\": [0.9, 0.95], \"weight_decay\": 0.1}, \"clip\": 1.0, \"seed\": %u, \"dtype\": "
             "\"bf16\", \"note\": \"<tom & jerry>\"}",
             0.003 - 0.001 * run, (unsigned)run);
    if (run_folder_open(&r, argv[1], config, resume, &err) != ZAMBA_OK) {
        cli_error("%s", err.message);
        return 1;
    }
    int code = first == 1 && last > 0 ? run_folder_valid(r, 0, 8.3, 3.6) : 0;
    for (int64_t step = first; step <= last && code == 0; step++) {
        const zamba_train_metrics m = metrics_of(step, total, run);
        code = run_folder_step(r, &m);
        if (step % 100 == 0 && code == 0) {
            seed = (uint32_t)step;
            code = run_folder_valid(r, step, 1.98 + 0.1 * run + 6.4 * pow((double)step, -0.42) + 0.01 * normal(), 3.6);
            if (code == 0)
                code = run_folder_sample(r, step, "Once upon a time there was a little fox",
                                         told[step * 3 > total * 2 ? 2
                                              : step * 3 > total   ? 1
                                                                   : 0]);
        }
    }
    if (run_folder_close(r) != 0)
        code = 1;
    return code;
}

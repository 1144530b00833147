/* common.c — reading files, numbers in words, JSON values, sampler options. Declared in common.h. */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "progress.h"

/* ---- Numbers ---- */

static double clock_seconds(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double cli_now(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

double cli_cpu(void)
{
    return clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
}

double cli_widen(float x)
{
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        const double wide = strtod(text, NULL);
        if ((float)wide == x)
            return wide;
    }
    return (double)x;
}

double cli_round(double x, int digits)
{
    const double scale = pow(10, digits);
    return isfinite(x) && fabs(x) < 1e12 ? round(x * scale) / scale : x;
}

const char *cli_number(uint64_t x, char buffer[32])
{
    char digits[24];
    const int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)x);
    char *p = buffer;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0)
            *p++ = ',';
        *p++ = digits[i];
    }
    *p = 0;
    return buffer;
}

const char *cli_bytes(double bytes, char buffer[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t u = 0;
    while (bytes >= 1024 && u < 4) {
        bytes /= 1024;
        u++;
    }
    snprintf(buffer, 32, u == 0 ? "%.0f %s" : bytes < 10 ? "%.2f %s" : "%.1f %s", bytes, units[u]);
    return buffer;
}

const char *cli_count(double x, char buffer[32])
{
    static const char *const units[] = {"", " k", " M", " G", " T"};
    size_t u = 0;
    while (x >= 1000 && u < 4) {
        x /= 1000;
        u++;
    }
    snprintf(buffer, 32, u == 0 ? "%.0f%s" : "%.2f%s", x, units[u]);
    return buffer;
}

/* ---- Signals, long work ---- */

volatile sig_atomic_t cli_signal;

static void on_signal(int number)
{
    cli_signal = number;
}

void cli_catch_signal(int number)
{
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
    sigaction(number, &action, NULL);
}

int cli_bytes_done(void *user, uint64_t done, uint64_t total)
{
    progress *bar = user;
    bar->total = (size_t)(total / 1000000);
    progress_update(bar, (size_t)(done / 1000000));
    return cli_signal;
}

/* ---- Input ---- */

int cli_read_file(const char *path, size_t limit, char **data, size_t *n)
{
    const bool standard = strcmp(path, "-") == 0;
    const char *name = standard ? "standard input" : path;
    char *text = NULL;
    size_t have = 0, room = 0;
    struct stat st;
    const int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    int code = 0;
    if (fd < 0)
        return cli_error("%s: %s", name, strerror(errno));
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        code = cli_error("%s: is a folder, wanted a file", name);
    while (code == 0) {
        if (room - have < 2) {
            room = room ? room * 2 : 1 << 16;
            room = room > limit + 2 ? limit + 2 : room;
            char *larger = room - have < 2 ? NULL : realloc(text, room);
            if (!larger) {
                code = have > limit ? cli_error("%s: more than %zu bytes", name, limit) : cli_error("out of memory");
                break;
            }
            text = larger;
        }
        const ssize_t got = read(fd, text + have, room - have - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && standard && errno == EBADF) /* closed: nothing to read */
            break;
        if (got < 0)
            code = cli_error("%s: %s", name, strerror(errno));
        if (got <= 0)
            break;
        have += (size_t)got;
    }
    if (code == 0 && have > limit)
        code = cli_error("%s: more than %zu bytes", name, limit);
    if (!standard)
        close(fd);
    if (code) {
        free(text);
        return code;
    }
    text[have] = 0;
    *data = text;
    *n = have;
    return 0;
}

int cli_read_line(FILE *in, size_t limit, char **line, size_t *n, size_t *capacity)
{
    bool too_long = false;
    int c = 0;
    *n = 0;
    while ((c = getc_unlocked(in)) != EOF && c != '\n') {
        if (*n >= limit) {
            too_long = true;
            continue;
        }
        if (*n + 2 > *capacity) {
            const size_t room = *capacity ? *capacity * 2 : 4096;
            char *larger = realloc(*line, room);
            if (!larger) {
                too_long = true;
                continue;
            }
            *line = larger;
            *capacity = room;
        }
        (*line)[(*n)++] = (char)c;
    }
    if (c == EOF && *n == 0 && !too_long)
        return 0;
    if (too_long)
        return -1;
    if (!*line) { /* an empty first line */
        *line = malloc(64);
        *capacity = *line ? 64 : 0;
        if (!*line)
            return -1;
    }
    if (*n && (*line)[*n - 1] == '\r')
        --*n;
    (*line)[*n] = 0;
    return 1;
}

int cli_parse_ids(const char *what, const char *text, int32_t **ids, size_t *n)
{
    size_t room = 0;
    *ids = NULL;
    *n = 0;
    for (const char *p = text; *p;) {
        if (strchr(", \t\r\n[]", *p)) {
            p++;
            continue;
        }
        char *end;
        errno = 0;
        const long long v = strtoll(p, &end, 10);
        if (end == p || (*end && !strchr(", \t\r\n[]", *end))) {
            free(*ids);
            *ids = NULL;
            cli_error("%s: found '%.20s', wanted numbers such as 1,2,3", what, p);
            return cli_hint(NULL);
        }
        if (errno || v < INT32_MIN || v > INT32_MAX) {
            free(*ids);
            *ids = NULL;
            return cli_error("%s: %.*s is no token id: far outside any vocabulary", what, (int)(end - p), p);
        }
        if (*n == room) {
            room = room ? room * 2 : 64;
            int32_t *larger = realloc(*ids, room * sizeof *larger);
            if (!larger) {
                free(*ids);
                *ids = NULL;
                return cli_error("out of memory");
            }
            *ids = larger;
        }
        (*ids)[(*n)++] = (int32_t)v;
        p = end;
    }
    return 0;
}

int cli_parse_sizes(const char *what, const char *text, bool zero_allowed, size_t **sizes, size_t *n)
{
    int32_t *ids = NULL;
    const int code = cli_parse_ids(what, text, &ids, n);
    *sizes = NULL;
    if (code)
        return 2;
    size_t *out = malloc((*n + 1) * sizeof *out);
    for (size_t i = 0; out && i < *n; i++) {
        if (ids[i] < !zero_allowed) {
            cli_error("%s: found %d, wanted numbers from %d up", what, ids[i], !zero_allowed);
            free(ids);
            free(out);
            return cli_hint(NULL);
        }
        out[i] = (size_t)ids[i];
    }
    free(ids);
    if (!out)
        return cli_error("out of memory");
    *sizes = out;
    return 0;
}

int cli_write_file(const char *path, const void *data, size_t n)
{
    char beside[PATH_MAX];
    struct stat st;
    const bool direct = stat(path, &st) == 0 && !S_ISREG(st.st_mode); /* a device or pipe is never replaced */
    if ((size_t)snprintf(beside, sizeof beside, direct ? "%s" : "%s.%ld.part", path, (long)getpid()) >= sizeof beside)
        return cli_error("%s: the name is too long", path);
    const int fd = open(beside, direct ? O_WRONLY : O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0)
        return cli_error("%s: %s", path, strerror(errno));
    int error = 0;
    for (size_t done = 0; done < n && !error;) {
        const ssize_t put = write(fd, (const char *)data + done, n - done);
        if (put < 0 && errno != EINTR)
            error = errno;
        done += put > 0 ? (size_t)put : 0;
    }
    if (!error && !direct && fsync(fd) != 0)
        error = errno;
    if (close(fd) != 0 && !error)
        error = errno;
    if (!error && !direct && rename(beside, path) != 0)
        error = errno;
    if (error) {
        if (!direct)
            unlink(beside);
        return cli_error("%s: %s; what was there before stays", path, strerror(error));
    }
    return 0;
}

/* ---- JSON ---- */

json_t *cli_json_text(const char *text, size_t n)
{
    json_t *value = json_stringn(text, n);
    if (value)
        return value;
    /* Not UTF-8: byte by byte, keeping what is. A character has at most 4 bytes. */
    char *clean = malloc(n * 3 + 1);
    size_t out = 0;
    for (size_t i = 0; clean && i < n;) {
        size_t len = 1;
        json_t *one = NULL;
        for (; len <= 4 && i + len <= n && !(one = json_stringn(text + i, len)); len++)
            ;
        memcpy(clean + out, one ? text + i : "\xEF\xBF\xBD", one ? len : 3);
        out += one ? len : 3;
        i += one ? len : 1;
        json_decref(one);
    }
    value = clean ? json_stringn(clean, out) : NULL;
    free(clean);
    return value;
}

json_t *cli_json_ids(const int32_t *ids, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < n; i++) {
        if (json_array_append_new(array, json_integer(ids[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

json_t *cli_json_parse(const char *text, size_t n, char *why, size_t n_why)
{
    json_error_t error;
    json_t *value = json_loadb(text, n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
    if (!value)
        snprintf(why, n_why, "not JSON: %s (line %d, column %d)", error.text, error.line, error.column);
    return value;
}

bool cli_ids_of_json(const json_t *value, int32_t **ids, size_t *n, char *why, size_t n_why)
{
    *ids = NULL;
    *n = 0;
    if (!json_is_array(value)) {
        snprintf(why, n_why, "wanted a list of ids, such as [1, 2, 3]");
        return false;
    }
    const size_t count = json_array_size(value);
    int32_t *out = malloc((count + 1) * sizeof *out);
    if (!out) {
        snprintf(why, n_why, "out of memory");
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(value, i);
        const json_int_t v = json_integer_value(item);
        if (!json_is_integer(item) || v < INT32_MIN || v > INT32_MAX) {
            snprintf(why, n_why,
                     json_is_integer(item) ? "id %zu of the list is far outside any vocabulary"
                                           : "item %zu of the list is no whole number",
                     i);
            free(out);
            return false;
        }
        out[i] = (int32_t)v;
    }
    *ids = out;
    *n = count;
    return true;
}

/* ---- Sampling ---- */

static uint64_t random_seed(void)
{
    uint32_t seed = 0;
    FILE *f = fopen("/dev/urandom", "rb");
    if (!f || fread(&seed, sizeof seed, 1, f) != 1)
        seed = (uint32_t)(clock_seconds(CLOCK_REALTIME) * 1e6) ^ (uint32_t)getpid();
    if (f)
        fclose(f);
    return seed;
}

static bool parse_bias(const char *text, zamba_logit_bias *out)
{
    char *end;
    errno = 0;
    const long id = strtol(text, &end, 10);
    if (end == text || errno || id < 0 || id > INT32_MAX || (*end != '=' && *end != '+' && *end != '-'))
        return false;
    const char *number = *end == '=' || (*end == '+' && (end[1] == '-' || end[1] == '+')) ? end + 1 : end;
    const double bias = strtod(number, &end);
    *out = (zamba_logit_bias){(int32_t)id, (float)bias};
    return end != number && !*end && !isnan(bias) && bias < HUGE_VAL;
}

int cli_sampler_options(const cli_args *args, zamba_sampler_options *options, zamba_logit_bias **bias)
{
    zamba_sampler_options o = zamba_sampler_defaults();
    *bias = NULL;
    o.temperature = (float)args->temp;
    o.top_k = (int32_t)args->top_k;
    o.top_p = (float)args->top_p;
    o.min_p = (float)args->min_p;
    o.typical_p = (float)args->typical;
    o.repeat_penalty = (float)args->repeat_penalty;
    o.presence_penalty = (float)args->presence_penalty;
    o.frequency_penalty = (float)args->frequency_penalty;
    o.repeat_last_n = (int32_t)args->repeat_last_n;
    o.n_top = args->logprobs == CLI_UNSET ? 0 : (int32_t)args->logprobs;
    o.seed = args->seed < 0 ? random_seed() : (uint64_t)args->seed;
    if (args->logit_bias.n) {
        zamba_logit_bias *list = malloc(args->logit_bias.n * sizeof *list);
        if (!list)
            return cli_error("out of memory");
        for (size_t i = 0; i < args->logit_bias.n; i++) {
            if (!parse_bias(args->logit_bias.items[i], &list[i])) {
                cli_error("--logit-bias: found '%s', wanted ID=BIAS, such as 15=2.5 or 15=-inf",
                          args->logit_bias.items[i]);
                free(list);
                return cli_hint(args->command);
            }
        }
        *bias = list;
        o.logit_bias = list;
        o.n_logit_bias = args->logit_bias.n;
    }
    *options = o;
    return 0;
}

const char *cli_stop_name(zamba_stop stop)
{
    switch (stop) {
    case ZAMBA_STOP_LENGTH:
        return "length";
    case ZAMBA_STOP_EOS:
        return "eos";
    case ZAMBA_STOP_STRING:
        return "stop";
    case ZAMBA_STOP_CONTEXT:
        return "context";
    case ZAMBA_STOP_CALLER:
        return "interrupted";
    }
    return "?";
}

/* fuzz_main.c — runs a fuzz target without libFuzzer: over every seed, then over mutations of them that are the same in
 * every run. For compilers that have no libFuzzer and for the test suite; it does not look at coverage.
 *
 *   fuzz_x [-runs=N] [-max_total_time=SECONDS] [-seed=N] [-timeout=SECONDS] [-max_len=BYTES] [-artifact_prefix=PATH]
 *          [FILE or FOLDER ...]
 *
 * The options are libFuzzer's. An input that ends the program (signal, sanitizer, time) is left in the file
 * PATHcrash-TARGET; give that file alone to try it again, with -runs=0. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

typedef struct input {
    uint8_t *data;
    size_t n;
} input;

static struct {
    long runs, seconds, timeout;
    size_t max_len;
    uint64_t seed;
    const char *prefix;
} opt = {.runs = -1, .seconds = -1, .timeout = 10, .max_len = 65536, .seed = 1, .prefix = ""};

static input *seeds;
static size_t n_seeds;
static struct {
    const uint8_t *data;
    size_t n;
    char file[4096];
} now; /* what is being tried, for the handlers */

static void die(const char *what, const char *why)
{
    fprintf(stderr, "fuzz: %s: %s\n", what, why);
    exit(2);
}

static void *need(void *p)
{
    if (p == NULL)
        die("memory", "none left");
    return p;
}

/* ---- Dying ------------------------------------------------------------------------------------------------------ */

static void keep_input(void)
{
    static const char note[] = "fuzz: the input is in ";
    const int fd = open(now.file, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (now.data == NULL || fd < 0)
        return;
    ssize_t done = write(fd, now.data, now.n);
    done += write(2, note, sizeof note - 1);
    done += write(2, now.file, strlen(now.file));
    done += write(2, "\n", 1);
    (void)done;
    close(fd);
}

static void on_signal(int number)
{
    static const char late[] = "fuzz: one input takes too long\n";
    if (number == SIGALRM && write(2, late, sizeof late - 1) < 0)
        _exit(1);
    keep_input();
    signal(number, SIG_DFL);
    raise(number);
}

static void watch(const char *program)
{
    static const int numbers[] = {SIGABRT, SIGALRM, SIGBUS, SIGFPE, SIGILL, SIGSEGV};
    static char stack[65536];
    const char *slash = strrchr(program, '/');
    const stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    snprintf(now.file, sizeof now.file, "%scrash-%s", opt.prefix, slash != NULL ? slash + 1 : program);
    if (__sanitizer_set_death_callback != NULL)
        __sanitizer_set_death_callback(keep_input);
    sigaltstack(&other, NULL); /* the stack itself may be what ran out */
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
        if (numbers[i] == SIGABRT || numbers[i] == SIGALRM || __sanitizer_set_death_callback == NULL)
            sigaction(numbers[i], &action, NULL);
    }
}

/* ---- Seeds ------------------------------------------------------------------------------------------------------ */

static void add_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    input in = {need(malloc(opt.max_len + 1)), 0};
    if (f == NULL)
        die(path, strerror(errno));
    in.n = fread(in.data, 1, opt.max_len, f);
    fclose(f);
    in.data = need(realloc(in.data, in.n + 1));
    seeds = need(realloc(seeds, (n_seeds + 1) * sizeof *seeds));
    seeds[n_seeds++] = in;
}

static int not_hidden(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static void add_path(const char *path)
{
    struct stat sb;
    struct dirent **entries = NULL;
    if (stat(path, &sb) != 0)
        die(path, strerror(errno));
    if (!S_ISDIR(sb.st_mode)) {
        add_file(path);
        return;
    }
    const int n = scandir(path, &entries, not_hidden, alphasort); /* in the same order on every machine */
    if (n < 0)
        die(path, strerror(errno));
    for (int i = 0; i < n; i++) {
        char *below = NULL;
        if (asprintf(&below, "%s/%s", path, entries[i]->d_name) < 0)
            die(path, "no memory");
        add_path(below);
        free(below);
        free(entries[i]);
    }
    free(entries);
}

/* ---- Mutations -------------------------------------------------------------------------------------------------- */

static size_t pick(zb_rng *r, size_t n)
{
    return (size_t)zb_rng_below(r, n);
}

/* Put n bytes at `at`, moving what follows; what goes past max_len is lost. */
static void insert(input *in, size_t at, const uint8_t *bytes, size_t n)
{
    if (n > opt.max_len - at)
        n = opt.max_len - at;
    const size_t tail = in->n - at, room = opt.max_len - at - n, moved = tail < room ? tail : room;
    memmove(in->data + at + n, in->data + at, moved);
    memcpy(in->data + at, bytes, n);
    in->n = at + n + moved;
}

static void erase(input *in, size_t at, size_t n)
{
    memmove(in->data + at, in->data + at + n, in->n - at - n);
    in->n -= n;
}

/* A length from 1, short ones more likely, at most `most`. */
static size_t pick_length(zb_rng *r, size_t most)
{
    const size_t limit = (size_t)1 << pick(r, 12);
    return 1 + pick(r, most < limit ? most : limit);
}

/* A number that parsers stumble over, in 1, 2, 4 or 8 little-endian bytes. */
static void put_number(input *in, zb_rng *r)
{
    static const uint64_t numbers[] = {0,
                                       1,
                                       0x7F,
                                       0x80,
                                       0xFF,
                                       0x7FFF,
                                       0x8000,
                                       0xFFFF,
                                       0x10000,
                                       100000001,
                                       0x7FFFFFFF,
                                       0x80000000u,
                                       0xFFFFFFFFu,
                                       UINT64_MAX,
                                       UINT64_MAX - 7,
                                       INT64_MAX,
                                       (uint64_t)1 << 63,
                                       (uint64_t)1 << 40};
    uint64_t x = numbers[pick(r, sizeof numbers / sizeof *numbers)];
    const size_t width = (size_t)1 << pick(r, 4);
    if (in->n < width)
        return;
    if (pick(r, 4) == 0)
        x = in->n - pick(r, in->n + 1); /* a length that just fits, or just does not */
    memcpy(in->data + pick(r, in->n - width + 1), &x, width);
}

static void put_text(input *in, zb_rng *r)
{
    static const char *const texts[] = {"\"",
                                        "\\",
                                        "{",
                                        "}",
                                        "[",
                                        "]",
                                        ":",
                                        ",",
                                        "0",
                                        "-1",
                                        "1e999",
                                        "99999999999999999999",
                                        "null",
                                        "true",
                                        "NaN",
                                        "-Infinity",
                                        "\\u0000",
                                        "\\ud800",
                                        "\n",
                                        "\0",
                                        "\x80",
                                        "\xff",
                                        "\xed\xa0\x80",
                                        "\xf4\x90\x80\x80",
                                        "\xe2\x96\x81",
                                        "%}",
                                        "{{",
                                        "{%",
                                        "}}",
                                        "<s>",
                                        "</s>",
                                        "<0x0A>",
                                        " ",
                                        "'",
                                        "../",
                                        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["};
    const char *text = texts[pick(r, sizeof texts / sizeof *texts)];
    const size_t n = text[0] == '\0' ? 1 : strlen(text), at = pick(r, in->n + 1);
    if (pick(r, 2) && in->n - at >= n)
        memcpy(in->data + at, text, n);
    else
        insert(in, at, (const uint8_t *)text, n);
}

/* A decimal number in the text becomes another. */
static void change_digits(input *in, zb_rng *r)
{
    static const char *const texts[] = {
        "0",    "-1",    "1",   "2147483647", "2147483648", "4294967296", "9223372036854775807", "18446744073709551615",
        "1e30", "-1e30", "0.5", "1e-320"};
    if (in->n == 0)
        return;
    const size_t start = pick(r, in->n);
    for (size_t i = 0; i < in->n; i++) {
        const size_t at = (start + i) % in->n;
        size_t n = 0;
        while (at + n < in->n && in->data[at + n] >= '0' && in->data[at + n] <= '9')
            n++;
        if (n > 0 && (at == 0 || in->data[at - 1] < '0' || in->data[at - 1] > '9')) {
            const char *text = texts[pick(r, sizeof texts / sizeof *texts)];
            erase(in, at, n);
            insert(in, at, (const uint8_t *)text, strlen(text));
            return;
        }
    }
}

static void mutate(input *in, zb_rng *r)
{
    static uint8_t piece[4096];
    const input *other = &seeds[pick(r, n_seeds)];
    const size_t at = pick(r, in->n + 1), left = in->n - at;
    size_t n;
    switch (pick(r, 12)) {
    case 0:
        if (left > 0)
            in->data[at] ^= (uint8_t)(1u << pick(r, 8));
        break;
    case 1:
        if (left > 0)
            in->data[at] = (uint8_t)zb_rng_u64(r);
        break;
    case 2:
        if (left > 0)
            erase(in, at, pick_length(r, left));
        break;
    case 3: /* cut off */
        if (pick(r, 4) == 0)
            in->n = at;
        break;
    case 4: /* say it again, here or elsewhere */
        if (left > 0) {
            n = pick_length(r, left);
            memcpy(piece, in->data + at, n);
            insert(in, pick(r, in->n + 1), piece, n);
        }
        break;
    case 5: /* from another seed */
        if (other->n > 0) {
            n = pick_length(r, other->n);
            insert(in, at, other->data + pick(r, other->n - n + 1), n);
        }
        break;
    case 6: /* the front of this, the end of another */
        in->n = at;
        n = pick(r, other->n + 1);
        insert(in, at, other->data + n, other->n - n);
        break;
    case 7: /* one byte many times */
        n = pick_length(r, sizeof piece);
        memset(piece, left > 0 ? in->data[at] : (int)pick(r, 256), n);
        insert(in, at, piece, n);
        break;
    case 8:
        put_number(in, r);
        break;
    case 9:
        change_digits(in, r);
        break;
    default:
        put_text(in, r);
        break;
    }
}

/* ---- The loop --------------------------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* In a block of exactly n bytes, so that a sanitizer sees one byte too many. */
static void try(const uint8_t *data, size_t n)
{
    uint8_t *exact = need(malloc(n > 0 ? n : 1));
    memcpy(exact, data, n);
    now.data = exact;
    now.n = n;
    alarm((unsigned)opt.timeout);
    (void)LLVMFuzzerTestOneInput(exact, n);
    alarm(0);
    now.data = NULL;
    free(exact);
}

static int parse_option(const char *arg)
{
    static const struct {
        const char *name;
        long *to;
    } numbers[] = {{"-runs=", &opt.runs}, {"-max_total_time=", &opt.seconds}, {"-timeout=", &opt.timeout}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strncmp(arg, numbers[i].name, strlen(numbers[i].name)) == 0) {
            *numbers[i].to = atol(arg + strlen(numbers[i].name));
            return 1;
        }
    if (strncmp(arg, "-seed=", 6) == 0)
        opt.seed = strtoull(arg + 6, NULL, 10);
    else if (strncmp(arg, "-max_len=", 9) == 0 && atol(arg + 9) > 0)
        opt.max_len = (size_t)atol(arg + 9);
    else if (strncmp(arg, "-artifact_prefix=", 17) == 0)
        opt.prefix = arg + 17;
    else if (arg[0] == '-')
        die(arg, "unknown option");
    else
        return 0;
    return 1;
}

int main(int argc, char **argv)
{
    if (LLVMFuzzerInitialize != NULL)
        (void)LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) /* options first: max_len holds for seeds */
        (void)parse_option(argv[i]);
    for (int i = 1; i < argc; i++)
        if (!parse_option(argv[i]))
            add_path(argv[i]);
    if (opt.runs < 0 && opt.seconds < 0)
        opt.runs = 10000;
    watch(argv[0]);
    const double start = seconds();
    const size_t n_files = n_seeds;
    for (size_t i = 0; i < n_files; i++)
        try(seeds[i].data, seeds[i].n);
    if (n_seeds == 0) {
        seeds = need(calloc(1, sizeof *seeds));
        seeds[n_seeds++].data = need(calloc(1, 1));
        try(seeds[0].data, 0);
    }
    zb_rng rng;
    zb_rng_seed(&rng, opt.seed);
    input in = {need(malloc(opt.max_len + 1)), 0};
    long done = 0;
    for (; opt.runs < 0 || done < opt.runs; done++) {
        if (opt.seconds >= 0 && seconds() - start >= (double)opt.seconds)
            break;
        const input *from = &seeds[pick(&rng, n_seeds)];
        memcpy(in.data, from->data, from->n);
        in.n = from->n;
        for (size_t steps = 1 + pick(&rng, 5); steps > 0; steps--)
            mutate(&in, &rng);
        try(in.data, in.n);
    }
    printf("%zu seeds and %ld mutations in %.1f s, nothing found\n", n_files, done, seconds() - start);
    for (size_t i = 0; i < n_seeds; i++)
        free(seeds[i].data);
    free(seeds);
    free(in.data);
    return 0;
}

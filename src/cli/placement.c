/* placement.c — how many threads compute and on which cores: --threads, --threads-batch, --cpu-mask, --cpu-range.
 * Cores are chosen for the whole process before anything else runs, so that every thread inherits the choice and
 * zamba_cores() counts it. Owns the words of these options; starts no thread. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"

#define MOST_CORES 16384

int cli_threads(const cli_command *command, const char *what, const char *text, int64_t *n)
{
    const int cores = zamba_cores();
    char *end;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (end != text && !*end && !errno && v >= 1 && v <= cores) {
        *n = v;
        return 0;
    }
    if (cores == 1)
        cli_error("%s: found '%.40s', wanted 1, for this process may use one core only", what, text);
    else
        cli_error("%s: found '%.40s', wanted 1 to %d, the cores that this process may use", what, text, cores);
    return cli_hint(command);
}

#if defined(__linux__)

typedef struct cores {
    bool has[MOST_CORES];
} cores;

static bool any(const cores *c)
{
    for (size_t i = 0; i < MOST_CORES; i++) {
        if (c->has[i])
            return true;
    }
    return false;
}

/* "0-3,6" */
static const char *in_words(const cores *c, char *text, size_t n_text)
{
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < MOST_CORES; i++) {
        size_t last = i;
        if (!c->has[i])
            continue;
        while (last + 1 < MOST_CORES && c->has[last + 1])
            last++;
        if (used + 24 > n_text) {
            snprintf(text + used, n_text - used, ",...");
            break;
        }
        used += (size_t)snprintf(text + used, n_text - used, "%s%zu", used ? "," : "", i);
        if (last > i)
            used += (size_t)snprintf(text + used, n_text - used, "-%zu", last);
        i = last;
    }
    return text;
}

/* Hexadecimal digits, the last one for cores 0 to 3; cores beyond any machine are nobody's. */
static bool parse_mask(const char *text, cores *c)
{
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
        text += 2;
    const size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        if (!isxdigit((unsigned char)text[i]))
            return false;
        const int low = tolower((unsigned char)text[i]), digit = low >= 'a' ? low - 'a' + 10 : low - '0';
        for (size_t bit = 0; bit < 4; bit++) {
            const size_t core = (n - 1 - i) * 4 + bit;
            if ((digit >> bit & 1) && core < MOST_CORES)
                c->has[core] = true;
        }
    }
    return n > 0;
}

/* LO-HI, both included; LO- and -HI are open at one end. */
static bool parse_range(const char *text, cores *c)
{
    unsigned long long ends[2] = {0, ULLONG_MAX};
    const char *dash = strchr(text, '-');
    if (!dash || strspn(text, "0123456789") != (size_t)(dash - text) ||
        strspn(dash + 1, "0123456789") != strlen(dash + 1) || !text[1])
        return false;
    if (dash > text)
        ends[0] = strtoull(text, NULL, 10); /* out of range is the greatest number */
    if (dash[1])
        ends[1] = strtoull(dash + 1, NULL, 10);
    for (unsigned long long i = ends[0]; i <= ends[1] && i < MOST_CORES; i++)
        c->has[i] = true;
    return ends[0] <= ends[1];
}

static int choose_cores(const cli_args *args)
{
    /* not cpu_set_t, which ends at 1024 cores; the kernel fills as many bytes as it has cores for */
    static unsigned long bits[MOST_CORES / (8 * sizeof(unsigned long))];
    static cores allowed, wanted, chosen;
    const size_t word = 8 * sizeof *bits;
    char have[200], got[200];
    if (args->cpu_mask && !parse_mask(args->cpu_mask, &wanted)) {
        cli_error("--cpu-mask: found '%.80s', wanted hexadecimal digits such as 3 or 0xff00: a bit for each core",
                  args->cpu_mask);
        return cli_hint(args->command);
    }
    if (args->cpu_range && !parse_range(args->cpu_range, &wanted)) {
        cli_error("--cpu-range: found '%.80s', wanted LO-HI such as 0-3", args->cpu_range);
        return cli_hint(args->command);
    }
    if (sched_getaffinity(0, sizeof bits, (cpu_set_t *)bits) != 0)
        return cli_error("cores of this process: %s", strerror(errno));
    for (size_t i = 0; i < MOST_CORES; i++)
        allowed.has[i] = bits[i / word] >> i % word & 1;
    for (size_t i = 0; i < MOST_CORES; i++)
        chosen.has[i] = allowed.has[i] && wanted.has[i];
    if (!any(&chosen)) {
        cli_error("%s '%.80s'%s%.80s%s: names no core that this process may use, wanted some of %s",
                  args->cpu_mask ? "--cpu-mask" : "--cpu-range", args->cpu_mask ? args->cpu_mask : args->cpu_range,
                  args->cpu_mask && args->cpu_range ? " and --cpu-range '" : "",
                  args->cpu_mask && args->cpu_range ? args->cpu_range : "",
                  args->cpu_mask && args->cpu_range ? "'" : "", in_words(&allowed, have, sizeof have));
        return cli_hint(args->command);
    }
    memset(bits, 0, sizeof bits);
    for (size_t i = 0; i < MOST_CORES; i++) {
        if (chosen.has[i])
            bits[i / word] |= 1ul << i % word;
    }
    in_words(&chosen, got, sizeof got);
    if (sched_setaffinity(0, sizeof bits, (cpu_set_t *)bits) != 0)
        return cli_error("cores %s: %s", got, strerror(errno));
    cli_note("on cores %s", got);
    return 0;
}

#else

static int choose_cores(const cli_args *args)
{
    return cli_error("%s: this system has no way to choose the cores of a process",
                     args->cpu_mask ? "--cpu-mask" : "--cpu-range");
}

#endif

int cli_place(cli_args *args)
{
    int code = args->cpu_mask || args->cpu_range ? choose_cores(args) : 0;
    if (code == 0 && args->threads_given)
        code = cli_threads(args->command, "--threads", args->threads_given, &args->threads);
    if (code == 0 && args->threads_batch_given)
        code = cli_threads(args->command, "--threads-batch", args->threads_batch_given, &args->threads_batch);
    return code;
}

/* getting.c — see getting.h. Standard output is left alone. */
#include "getting.h"

#include <signal.h>
#include <string.h>

#include "progress.h"

typedef struct getting {
    const cli_args *args;
    const char *word;
    progress bar;
    bool began;
} getting;

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    stopped = number;
}

static bool is_cancelled(void *user)
{
    (void)user;
    return stopped != 0;
}

static void planned(void *user, size_t n_files, uint64_t bytes, uint64_t here)
{
    getting *g = user;
    char a[32], b[32];
    if (here < bytes)
        cli_say("%s: getting %zu file%s from %s, %s%s%s%s", g->word, n_files, n_files == 1 ? "" : "s", hub_endpoint(),
                cli_bytes((double)bytes, a), here ? " (" : "", here ? cli_bytes((double)here, b) : "",
                here ? " are here)" : "");
    progress_begin(&g->bar, (int)g->args->progress, (int)g->args->color, "getting", "bytes", (size_t)bytes);
    g->bar.first = (size_t)here;
    g->bar.done = (size_t)here;
    g->began = true;
}

static void going_on(void *user, uint64_t done, uint64_t total)
{
    getting *g = user;
    (void)total;
    progress_update(&g->bar, (size_t)done);
}

static void noted(void *user, const char *text)
{
    (void)user;
    cli_say("%s", text);
}

int cli_pull(const cli_args *args, const char *word, bool verify, hub_pulled *pulled)
{
    getting g = {.args = args, .word = word};
    struct sigaction action = {.sa_handler = on_signal}, old_int, old_term;
    zamba_error err = {0};
    hub_pull_options options = hub_pull_defaults();
    options.word = word;
    options.connections = (int)args->connections;
    options.retries = (int)args->retries;
    options.verify = verify;
    options.user = &g;
    options.planned = planned;
    options.progress = going_on;
    options.note = noted;
    options.cancelled = is_cancelled;
    stopped = 0;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, &old_int);
    sigaction(SIGTERM, &action, &old_term);
    const zamba_status st = hub_pull(&options, pulled, &err);
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGTERM, &old_term, NULL);
    if (g.began)
        progress_end(&g.bar);
    if (st == ZAMBA_E_CANCELLED) {
        cli_error("%s: stopped; what came is kept, and `zamba pull %s` goes on there", word, word);
        return 128 + (int)stopped;
    }
    return st == ZAMBA_OK ? 0 : cli_fail(&err);
}

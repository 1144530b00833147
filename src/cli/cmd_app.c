/* cmd_app.c — `zamba app`: the page in the browser, of the server that runs with this data folder or of a new one. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"

#if defined(ZAMBA_SERVER)

#include "page.h"
#include "serve_run.h"

/* Start it and leave it alone: a browser may stay as long as its window. Twice forked, so that nobody waits for it. */
static bool start(const char *program, const char *url)
{
    int gone[2];
    if (pipe2(gone, O_CLOEXEC) != 0)
        return false;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        if (fork() == 0) {
            const int null = open("/dev/null", O_RDWR);
            setsid();
            if (null >= 0) {
                dup2(null, STDIN_FILENO);
                dup2(null, STDOUT_FILENO);
                dup2(null, STDERR_FILENO);
            }
            execlp(program, program, url, (char *)NULL);
            if (write(gone[1], "x", 1) != 1)
                _exit(126);
            _exit(127);
        }
        _exit(0);
    }
    close(gone[1]);
    char failed = 0;
    bool ok = child > 0;
    if (ok) {
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            ;
        ok = read(gone[0], &failed, 1) == 0; /* closed by its start: there is such a program */
    }
    close(gone[0]);
    return ok;
}

static void open_browser(const char *url)
{
    const char *named = getenv("BROWSER");
    const char *const programs[] = {named && *named ? named : "xdg-open", "open", "sensible-browser"};
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
        if (start(programs[i], url))
            return;
    cli_note("no browser was found: open %s yourself", url);
}

/* Everybody's address is this machine's, too. */
static void open_page_at(const char *url)
{
    char own[320];
    const char *any = strstr(url, "//0.0.0.0:");
    if (any)
        snprintf(own, sizeof own, "http://127.0.0.1:%s/", any + 10);
    else
        snprintf(own, sizeof own, "%.310s/", url);
    open_browser(own);
}

static bool is_taken(int64_t port)
{
    const int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    const struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (s < 0)
        return false;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const bool taken = bind(s, (const struct sockaddr *)(const void *)&at, sizeof at) != 0 && errno == EADDRINUSE;
    close(s);
    return taken;
}

int cmd_app(const cli_args *args)
{
    char data[1024], url[320];
    if (!args->serving.no_history && serving_data(args, data) && sv_page_server(data, url, sizeof url)) {
        out_format("%s\n", url);
        open_page_at(url);
        return out_flush() ? 0 : 1;
    }
    cli_args mine = *args;
    if (mine.serving.port > 0 && is_taken(mine.serving.port)) {
        cli_note("port %lld is taken: another one is used", (long long)mine.serving.port);
        mine.serving.port = 0;
    }
    return serving_run(&mine, open_page_at);
}

#endif

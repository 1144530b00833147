/* run_folder.c — see run_folder.h. */
#include "run_folder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common.h"

struct run_folder {
    FILE *metrics;
};

static zamba_status fail(zamba_error *err, zamba_status code, const char *path, const char *what)
{
    if (err) {
        err->code = code;
        snprintf(err->message, sizeof err->message, "%s: %s", path, what);
    }
    return code;
}

zamba_status run_folder_open(run_folder **out, const char *path, const char *config_json, int64_t resume_step,
                             zamba_error *err)
{
    char name[4096];
    (void)config_json;
    *out = NULL;
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return fail(err, ZAMBA_E_IO, path, strerror(errno));
    run_folder *r = calloc(1, sizeof *r);
    if (!r)
        return fail(err, ZAMBA_E_MEMORY, path, "out of memory");
    snprintf(name, sizeof name, "%s/metrics.jsonl", path);
    r->metrics = fopen(name, resume_step > 0 ? "a" : "w");
    if (!r->metrics) {
        free(r);
        return fail(err, ZAMBA_E_IO, name, strerror(errno));
    }
    *out = r;
    return ZAMBA_OK;
}

int run_folder_step(run_folder *r, const zamba_train_metrics *m)
{
    fprintf(r->metrics, "{\"step\": %lld, \"loss\": %.9g}\n", (long long)m->step, m->loss);
    return fflush(r->metrics) != 0;
}

int run_folder_valid(run_folder *r, int64_t step, double loss, double bytes_per_token)
{
    (void)bytes_per_token;
    fprintf(r->metrics, "{\"step\": %lld, \"valid_loss\": %.9g}\n", (long long)step, loss);
    return fflush(r->metrics) != 0;
}

int run_folder_sample(run_folder *r, int64_t step, const char *prompt, const char *text)
{
    (void)r, (void)step, (void)prompt, (void)text;
    return 0;
}

int run_folder_close(run_folder *r)
{
    int code = 0;
    if (r)
        code = fclose(r->metrics) != 0;
    free(r);
    return code;
}

/* backbone_bench.c — `zamba backbone bench`: how long a step takes, at the pace of a game if asked for and with the
 * other cores busy, how long a snapshot, and what a rollback of seven frames takes; whether memory stays what `info`
 * said: the stream lives in exactly so many bytes of ours, and the process must not grow beside it. Once a second the
 * last seven frames are rolled back and stepped again, as netplay does. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "backbone_verbs.h"
#include "progress.h"

enum { RING = 512, ROLLBACK = 7, ROLLBACK_EVERY = 60, KINDS = 3, WARM = 60 };

static const char *const kinds[KINDS] = {"f32", "bf16", "int8"};

typedef struct times {
    double *at; /* seconds */
    size_t n;
} times;

typedef struct measured {
    bool there;
    times step, snapshot, rollback, warm;
    long allocations; /* -1: not counted */
    long faults;      /* pages that came while frames were stepped */
    long growth;      /* bytes that the process has more of at the end than before the first frame; -1: not known */
    size_t stream_bytes, model_bytes, late;
    bool same; /* stepping again gave the same bits */
    double seconds;
} measured;

typedef struct frame_bench {
    const cli_args *args;
    zamba_backbone *model;
    zamba_backbone_stream *stream;
    float *frames; /* [RING, frame_size], made ahead */
    float *out, *again;
    unsigned char *snapshots; /* [ROLLBACK] */
    void *place;              /* the stream's */
    size_t frame, hidden, snapshot;
    bool realtime;
    progress bar;
} frame_bench;

/* ---- The other cores ---- */

/* Keep to one core, and start a child for each other one that does nothing but compute. */
static pid_t make_load(bool *alone)
{
    *alone = true;
#ifdef __linux__
    cpu_set_t all, one, rest;
    if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) < 2)
        return -1;
    int first = 0;
    while (!CPU_ISSET(first, &all))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    rest = all;
    CPU_CLR(first, &rest);
    const int n = CPU_COUNT(&rest);
    const pid_t group = fork();
    if (group != 0) {
        if (group > 0)
            sched_setaffinity(0, sizeof one, &one);
        *alone = group < 0;
        return group;
    }
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sched_setaffinity(0, sizeof rest, &rest);
    for (int i = 1; i < n; i++)
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            break;
        }
    /* reads memory too: the caches and the bus are shared */
    enum { NUMBERS = 1 << 21 };
    volatile float *x = calloc(NUMBERS, sizeof(float));
    for (float sum = 1;;)
        for (size_t i = 0; i < NUMBERS; i++) {
            sum = sum * 0.999f + (x ? x[i] : 1);
            if (x)
                x[i] = sum;
        }
#else
    return -1;
#endif
}

static void end_load(pid_t group)
{
    if (group <= 0)
        return;
    kill(-group, SIGKILL);
    kill(group, SIGKILL);
    while (waitpid(group, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* ---- What the system may grant ---- */

/* First in line on its core, and nothing of it swapped out: what a game's own thread may ask for too. */
static bool make_realtime(void)
{
#ifdef __linux__
    const struct sched_param first = {.sched_priority = sched_get_priority_min(SCHED_FIFO)};
    /* children of ours (the reference) are as others */
    if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first) != 0) {
        cli_warn("--realtime: no real-time priority here (%s); it takes root, CAP_SYS_NICE or `ulimit -r`",
                 strerror(errno));
        return false;
    }
    return true;
#else
    cli_warn("--realtime: not on this system");
    return false;
#endif
}

/* All that is there now; what comes later is counted. */
static bool lock_memory(void)
{
    if (mlockall(MCL_CURRENT) == 0)
        return true;
    cli_warn("--realtime: memory cannot be locked (%s); `ulimit -l` says how much may be", strerror(errno));
    return false;
}

/* ---- One kind of weights ---- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorted already; the least value that so great a share does not exceed. */
static double percentile(const times *t, double share)
{
    if (t->n == 0)
        return NAN;
    const double place = ceil(share * (double)t->n);
    return t->at[place < 1 ? 0 : (size_t)place - 1];
}

static long page_faults(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? u.ru_minflt + u.ru_majflt : 0;
}

/* Of the process, in memory now. -1: not known. */
static long resident_bytes(void)
{
    long pages = -1;
#ifdef __linux__
    char text[100];
    const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (n > 0) {
        char *end;
        text[n] = 0;
        strtol(text, &end, 10);
        pages = strtol(end, NULL, 10);
    }
    if (fd >= 0)
        close(fd);
#endif
    return pages < 0 ? -1 : pages * sysconf(_SC_PAGESIZE);
}

/* Sleep until frame i is due; returns false if it was due a whole frame ago. */
static bool wait_for(double start, uint64_t i, double fps)
{
    const double due = start + (double)i / fps, now = cli_now();
    if (now > due + 1 / fps)
        return false;
    struct timespec left = {0, 0};
    left.tv_sec = (time_t)(due - now > 0 ? due - now : 0);
    left.tv_nsec = (long)((due - now > 0 ? due - now - (double)left.tv_sec : 0) * 1e9);
    while (left.tv_sec + left.tv_nsec > 0 && nanosleep(&left, &left) != 0 && errno == EINTR && !cli_signal)
        ;
    return true;
}

static const float *frame_at(const frame_bench *b, uint64_t i)
{
    return b->frames + (size_t)(i % RING) * b->frame;
}

/* What an agent does that knows when its frame comes: fill the caches, then wait for the rest. */
static void warm_up(const frame_bench *b, double start, uint64_t i, measured *m)
{
    const double early = 1e-3 * b->args->frames.warm;
    wait_for(start - early, i, b->args->frames.fps);
    const double t0 = cli_now();
    zamba_backbone_warm(b->stream);
    m->warm.at[m->warm.n++] = cli_now() - t0;
}

/* Frame i was just stepped: take the stream back to before frame i - 6 and go through the seven again. */
static zamba_status roll_back(frame_bench *b, uint64_t i, measured *m, zamba_error *err)
{
    const uint64_t from = i + 1 - ROLLBACK;
    const double start = cli_now();
    zamba_status st =
        zamba_backbone_restore(b->stream, 0, b->snapshots + (size_t)(from % ROLLBACK) * b->snapshot, b->snapshot, err);
    for (uint64_t k = from; k <= i && st == ZAMBA_OK; k++)
        st = zamba_backbone_step(b->stream, frame_at(b, k), b->again, err);
    m->rollback.at[m->rollback.n++] = cli_now() - start;
    m->same &= memcmp(b->again, b->out, b->hidden * sizeof(float)) == 0;
    return st;
}

static zamba_status go(frame_bench *b, measured *m, uint64_t n, zamba_error *err)
{
    const double fps = b->args->frames.fps;
    zamba_status st = ZAMBA_OK;
    for (uint64_t i = 0; i < WARM && st == ZAMBA_OK; i++)
        st = zamba_backbone_step(b->stream, frame_at(b, i), b->out, err);
    if (st == ZAMBA_OK)
        st = zamba_backbone_reset(b->stream, 0, err);
    progress_update(&b->bar, 0);
    resident_bytes(); /* the first call binds its functions */
    const long grown_from = resident_bytes();
    const double start = cli_now();
    long calls = 0, faults = 0;
    for (uint64_t i = 0; i < n && st == ZAMBA_OK && !cli_signal; i++) {
        if (b->args->frames.warm > 0)
            warm_up(b, start, i, m);
        if (fps > 0)
            m->late += !wait_for(start, i, fps);
        alloc_count_reset();
        const long before = page_faults();
        const double t0 = cli_now();
        st = zamba_backbone_snapshot(b->stream, 0, b->snapshots + (size_t)(i % ROLLBACK) * b->snapshot, b->snapshot,
                                     err);
        const double t1 = cli_now();
        if (st == ZAMBA_OK)
            st = zamba_backbone_step(b->stream, frame_at(b, i), b->out, err);
        const double t2 = cli_now();
        m->snapshot.at[m->snapshot.n++] = t1 - t0;
        m->step.at[m->step.n++] = t2 - t1;
        if (st == ZAMBA_OK && i >= ROLLBACK && i % ROLLBACK_EVERY == 0)
            st = roll_back(b, i, m, err);
        faults += i >= ROLLBACK ? page_faults() - before : 0;
        calls += alloc_count() > 0 ? alloc_count() : 0;
        if (i % 64 == 0)
            progress_update(&b->bar, (size_t)i);
    }
    m->seconds = cli_now() - start;
    const long grown_to = resident_bytes();
    m->growth = grown_from < 0 || grown_to < 0 ? -1 : grown_to > grown_from ? grown_to - grown_from : 0;
    m->allocations = alloc_count() < 0 ? -1 : calls;
    m->faults = faults;
    return st;
}

static int measure(frame_bench *b, const char *path, int kind, measured *m)
{
    zamba_error err = {0};
    zamba_backbone_run run = zamba_backbone_run_defaults();
    const uint64_t n = (uint64_t)b->args->frames.bench_frames;
    char task[32];
    run.weights = (zamba_backbone_weights)kind;
    int code = frame_model_open(b->args, path, &run, &b->model);
    if (code)
        return code;
    m->stream_bytes = zamba_backbone_stream_bytes(b->model, 1);
    if (m->stream_bytes > 0 && posix_memalign(&b->place, 64, m->stream_bytes) != 0)
        return cli_error("out of memory");
    if (zamba_backbone_stream_place(&b->stream, b->model, 1, b->place, m->stream_bytes, &err) != ZAMBA_OK)
        return cli_fail(&err);
    const zamba_backbone_options *o = zamba_backbone_get_options(b->model);
    b->frame = (size_t)zamba_backbone_frame_size(o);
    b->hidden = (size_t)o->hidden_size;
    b->snapshot = zamba_backbone_snapshot_bytes(b->model);
    m->model_bytes = zamba_backbone_bytes(b->model);
    m->same = true;
    b->frames = malloc(RING * b->frame * sizeof(float));
    b->out = malloc(b->hidden * sizeof(float));
    b->again = malloc(b->hidden * sizeof(float));
    b->snapshots = malloc(ROLLBACK * b->snapshot);
    m->step.at = calloc(n, sizeof(double));
    m->snapshot.at = calloc(n, sizeof(double));
    m->rollback.at = calloc(n / ROLLBACK_EVERY + 1, sizeof(double));
    m->warm.at = calloc(n, sizeof(double));
    if (!b->frames || !b->out || !b->again || !b->snapshots || !m->step.at || !m->snapshot.at || !m->rollback.at ||
        !m->warm.at)
        return cli_error("out of memory");
    uint64_t x = 1;
    size_t ids = 0; /* the last numbers are ids: 0 is one of any table */
    for (size_t i = 0; i < o->n_embeddings; i++)
        ids += (size_t)o->embeddings[i].uses;
    for (size_t i = 0; i < RING * b->frame; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        b->frames[i] = i % b->frame >= b->frame - ids ? 0 : (float)((double)(x >> 40) / (1 << 23) - 1);
    }
    /* the arrays are touched now, so that no page comes while frames are stepped */
    memset(b->snapshots, 1, ROLLBACK * b->snapshot);
    for (uint64_t i = 0; i < n; i++)
        m->step.at[i] = m->snapshot.at[i] = m->warm.at[i] = m->rollback.at[i / ROLLBACK_EVERY] = -1;
    const bool locked = b->realtime && lock_memory();
    snprintf(task, sizeof task, "%s", kinds[kind]);
    progress_begin(&b->bar, (int)b->args->progress, (int)b->args->color, task, "frames", (size_t)n);
    const zamba_status st = go(b, m, n, &err);
    progress_end(&b->bar);
    if (locked)
        munlockall();
    qsort(m->step.at, m->step.n, sizeof(double), by_value);
    qsort(m->snapshot.at, m->snapshot.n, sizeof(double), by_value);
    qsort(m->rollback.at, m->rollback.n, sizeof(double), by_value);
    qsort(m->warm.at, m->warm.n, sizeof(double), by_value);
    m->there = st == ZAMBA_OK;
    return st != ZAMBA_OK ? cli_fail(&err) : cli_signal ? 130 : 0;
}

static void release(frame_bench *b)
{
    zamba_backbone_stream_close(b->stream);
    zamba_backbone_close(b->model);
    free(b->place);
    free(b->frames);
    free(b->out);
    free(b->again);
    free(b->snapshots);
    *b = (frame_bench){.args = b->args, .realtime = b->realtime};
}

/* ---- The reference ---- */

/* {"step_p50_ms": ..., "window_p50_ms": ...} from a Python with torch. NULL after a message. */
static json_t *ask_reference(const frame_bench *b, const char *path)
{
    zamba_backbone_options o;
    char value[40], why[200], *text = NULL;
    const char *name;
    size_t n = 0;
    int pipes[2];
    if (path || frame_options(b->args, "exphil", &o) != 0) {
        cli_warn("--reference: only for a model of the command line's options");
        return NULL;
    }
    json_t *options = json_object();
    for (size_t i = 0; (name = zamba_backbone_option_name(i)) != NULL; i++)
        if (zamba_backbone_option_get(&o, name, value, sizeof value, NULL) == ZAMBA_OK)
            json_object_set_new(options, name, json_string(value));
    char *told = json_dumps(options, JSON_COMPACT);
    json_decref(options);
    cli_note("measuring torch");
    const pid_t child = told && pipe(pipes) == 0 ? fork() : -1;
    if (child == 0) {
#ifdef __linux__
        prctl(PR_SET_PDEATHSIG, SIGTERM);
#endif
        dup2(pipes[1], STDOUT_FILENO);
        close(pipes[0]);
        close(pipes[1]);
        execlp(b->args->frames.reference, b->args->frames.reference, "reference/backbone_bench.py", told, (char *)NULL);
        _exit(127);
    }
    free(told);
    if (child < 0) {
        cli_warn("--reference: %s", strerror(errno));
        return NULL;
    }
    close(pipes[1]);
    FILE *f = fdopen(pipes[0], "r");
    char *line = NULL;
    size_t room = 0;
    if (f && cli_read_line(f, 1 << 16, &line, &n, &room) == 1)
        text = line;
    if (f)
        fclose(f);
    int state = 0;
    waitpid(child, &state, 0);
    json_t *answer = text ? cli_json_parse(text, n, why, sizeof why) : NULL;
    if (!json_is_object(answer))
        cli_warn("%s reference/backbone_bench.py gave no answer (run it from the project's folder, with torch)",
                 b->args->frames.reference);
    free(line);
    return answer;
}

/* ---- The report ---- */

static json_t *times_json(const times *t)
{
    static const struct {
        const char *name;
        double share;
    } of[] = {{"p50_ms", 0.5}, {"p99_ms", 0.99}, {"p99.9_ms", 0.999}, {"max_ms", 1}};
    json_t *o = json_pack("{s:I}", "n", (json_int_t)t->n);
    for (size_t i = 0; i < 4 && t->n > 0; i++)
        json_object_set_new(o, of[i].name, json_real(cli_round(1000 * percentile(t, of[i].share), 6)));
    return o;
}

static json_t *measured_json(const measured *m)
{
    return json_pack("{s:o, s:o, s:o, s:o*, s:I, s:I, s:I, s:I, s:I, s:b, s:I, s:f}", "step", times_json(&m->step),
                     "snapshot", times_json(&m->snapshot), "rollback", times_json(&m->rollback), "warm",
                     m->warm.n > 0 ? times_json(&m->warm) : NULL, "allocations", (json_int_t)m->allocations,
                     "page_faults", (json_int_t)m->faults, "memory_growth_bytes", (json_int_t)m->growth, "stream_bytes",
                     (json_int_t)m->stream_bytes, "model_bytes", (json_int_t)m->model_bytes, "same_after_rollback",
                     m->same, "late_frames", (json_int_t)m->late, "seconds", cli_round(m->seconds, 3));
}

static void print_times(const char *what, const char *kind, const times *t)
{
    if (t->n > 0)
        out_format("%-18s %-5s %9.4f %9.4f %9.4f %9.4f\n", what, kind, 1000 * percentile(t, 0.5),
                   1000 * percentile(t, 0.99), 1000 * percentile(t, 0.999), 1000 * percentile(t, 1));
}

static void print_report(const cli_args *args, const measured *all, const json_t *reference, bool loaded, bool realtime)
{
    char a[32], b[32];
    out_format("%s frames%s%s%s, milliseconds (a frame of 60 a second has 16.67)\n\n",
               cli_number((uint64_t)args->frames.bench_frames, a), args->frames.fps > 0 ? " at their pace" : "",
               loaded ? ", the other cores busy" : "", realtime ? ", real-time priority" : "");
    out_format("%-18s %-5s %9s %9s %9s %9s\n", "", "", "p50", "p99", "p99.9", "max");
    for (int i = 0; i < KINDS; i++)
        if (all[i].there)
            print_times("step", kinds[i], &all[i].step);
    for (int i = 0; i < KINDS; i++)
        if (all[i].there)
            print_times("snapshot", kinds[i], &all[i].snapshot);
    for (int i = 0; i < KINDS; i++)
        if (all[i].there)
            print_times("restore + 7 steps", kinds[i], &all[i].rollback);
    for (int i = 0; i < KINDS; i++)
        if (all[i].there)
            print_times("warming before", kinds[i], &all[i].warm);
    const json_t *step = json_object_get(reference, "step_p50_ms"),
                 *window = json_object_get(reference, "window_p50_ms");
    if (step)
        out_format("%-18s %-5s %9.4f   torch, step\n", "reference", "f32", json_number_value(step));
    if (window)
        out_format("%-18s %-5s %9.4f   torch, the window encoded anew\n", "reference", "f32",
                   json_number_value(window));
    out_text("\n");
    for (int i = 0; i < KINDS; i++) {
        const measured *m = &all[i];
        if (!m->there)
            continue;
        out_format("%-5s a stream has %s bytes, as info says; ", kinds[i], cli_number(m->stream_bytes, a));
        if (m->allocations >= 0)
            out_format("%ld allocations, ", m->allocations);
        out_format("%ld new pages, ", m->faults);
        if (m->growth >= 0)
            out_format("the process grew by %s bytes; ", cli_number((uint64_t)m->growth, b));
        out_format("after rollback %s", m->same ? "the same bits" : "OTHER BITS");
        if (args->frames.fps > 0)
            out_format("; %s frames late", cli_number(m->late, b));
        out_text("\n");
    }
}

int backbone_bench(const cli_args *args, const char *path)
{
    measured all[KINDS] = {0};
    frame_bench b = {.args = args};
    json_t *reference = NULL;
    bool alone = true;
    pid_t load = -1;
    int code = 0;
    cli_catch_signal(SIGINT);
    if (args->frames.load) {
        load = make_load(&alone);
        if (alone)
            cli_warn("--load: this process has no other core than its own; nothing keeps it busy");
    }
    if (args->frames.reference)
        reference = ask_reference(&b, path);
    b.realtime = args->frames.realtime && make_realtime();
    for (int kind = 0; kind < KINDS && code == 0; kind++) {
        if (args->frames.weights > 0 && args->frames.weights - 1 != kind)
            continue;
        code = measure(&b, path, kind, &all[kind]);
        release(&b);
    }
    end_load(load);
    if (code == 0 && args->json) {
        json_t *weights = json_object();
        for (int i = 0; i < KINDS; i++)
            if (all[i].there)
                json_object_set_new(weights, kinds[i], measured_json(&all[i]));
        json_t *o = json_pack("{s:I, s:f, s:b, s:b, s:f, s:o}", "frames", (json_int_t)args->frames.bench_frames, "fps",
                              args->frames.fps, "load", !alone, "realtime", b.realtime, "frame_ms", 1000.0 / 60,
                              "weights", weights);
        if (o && reference)
            json_object_set(o, "reference", reference);
        code = !out_json(o, 2);
    } else if (code == 0) {
        print_report(args, all, reference, !alone, b.realtime);
    }
    for (int i = 0; i < KINDS; i++) {
        free(all[i].step.at);
        free(all[i].snapshot.at);
        free(all[i].rollback.at);
        free(all[i].warm.at);
    }
    json_decref(reference);
    return code;
}

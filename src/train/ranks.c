/* ranks.c — see ranks.h; the only file that knows MPI. All calls come from one thread (MPI_THREAD_FUNNELED). Sums are
 * never MPI's own: callers add up in the order of ranks, so that the same number of ranks gives the same bits. */
#define _POSIX_C_SOURCE 200809L
#include "train/ranks.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef ZAMBA_MPI
#include <mpi.h>
#endif

#define UNIT  ((size_t)16)      /* floats: what shares are counted in, so that counts stay in an int */
#define CHUNK ((size_t)1 << 20) /* units that are sent at once                                       */

struct zamba_ranks {
    int32_t rank, size;
    double seconds;
#ifdef ZAMBA_MPI
    MPI_Comm comm;
    MPI_Datatype unit;
    MPI_Request *requests;
    int n_requests, room;
    int *counts, *places; /* [size] */
    int ours;             /* MPI was begun here                                                       */
    int broken;           /* a call failed: the others may be gone, so nothing waits for them any more */
#endif
};

int32_t zamba_ranks_rank(const zamba_ranks *r)
{
    return r != NULL ? r->rank : 0;
}

int32_t zamba_ranks_size(const zamba_ranks *r)
{
    return r != NULL ? r->size : 1;
}

double zb_ranks_seconds(const zamba_ranks *r)
{
    return r != NULL ? r->seconds : 0;
}

void zb_ranks_share(const zamba_ranks *r, size_t floats, int32_t rank, size_t *begin, size_t *end)
{
    const size_t n = (size_t)zamba_ranks_size(r), each = (floats / UNIT + n - 1) / n * UNIT;
    *begin = (size_t)rank * each < floats ? (size_t)rank * each : floats;
    *end = floats - *begin < each ? floats : *begin + each;
}

zamba_status zb_ranks_settle(zamba_ranks *r, zamba_status mine, zamba_error *err)
{
    const double bad = mine != ZAMBA_OK;
    const int32_t n = zamba_ranks_size(r);
    if (n == 1)
        return mine;
    double *all = calloc((size_t)n, sizeof *all);
    if (all == NULL)
        return zb_fail_memory(err, "ranks", (size_t)n * sizeof *all);
    /* the first message is the one to be seen: that of the exchange only where there was none */
    const zamba_status st = zb_ranks_gather(r, &bad, 1, all, mine == ZAMBA_OK ? err : NULL);
    int32_t who = 0;
    while (st == ZAMBA_OK && who < n && all[who] == 0)
        who++;
    free(all);
    if (mine != ZAMBA_OK || st != ZAMBA_OK)
        return mine != ZAMBA_OK ? mine : st;
    return who == n ? ZAMBA_OK
                    : zb_fail(err, ZAMBA_E_CANCELLED, "rank %d of %d failed; its message says why", (int)who, (int)n);
}

/* How many processes a launcher of MPI programs says that there are. */
static long announced(const char *name)
{
    const char *text = getenv(name);
    return text != NULL ? strtol(text, NULL, 10) : 0;
}

#ifdef ZAMBA_MPI

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static zamba_status failed(zamba_ranks *r, int code, const char *what, zamba_error *err)
{
    char text[MPI_MAX_ERROR_STRING] = "?";
    int n = 0;
    r->broken = 1;
    if (MPI_Error_string(code, text, &n) != MPI_SUCCESS)
        n = 0;
    return zb_fail(err, ZAMBA_E_IO, "MPI, %s: %.150s (has another process ended?)", what, n > 0 ? text : "an error");
}

static zamba_status gone(zamba_error *err)
{
    return zb_fail(err, ZAMBA_E_IO, "MPI: an exchange with other processes has failed before; there can be no other");
}

zamba_status zamba_ranks_open(zamba_ranks **out, zamba_error *err)
{
    int there = 0, level = MPI_THREAD_FUNNELED, rank = 0, size = 1;
    *out = NULL;
    zamba_ranks *r = calloc(1, sizeof *r);
    if (r == NULL)
        return zb_fail_memory(err, "ranks", sizeof *r);
    *r = (zamba_ranks){.size = 1, .comm = MPI_COMM_NULL, .unit = MPI_DATATYPE_NULL};
    *out = r;
    MPI_Initialized(&there);
    const int started =
        getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("PMIX_RANK") != NULL || announced("PMI_SIZE") > 0;
    if (!there && !started) { /* a process that nobody else knows: MPI would start a daemon of its own */
        if (announced("SLURM_STEP_NUM_TASKS") > 1)
            return zb_fail(err, ZAMBA_E_UNSUPPORTED,
                           "srun started %ld processes that do not know each other (srun --mpi=pmix)",
                           announced("SLURM_STEP_NUM_TASKS"));
        return ZAMBA_OK;
    }
    if (!there) {
        if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS)
            return zb_fail(err, ZAMBA_E_UNSUPPORTED, "MPI could not be started");
        r->ours = 1;
    } else {
        MPI_Query_thread(&level);
    }
    if (level < MPI_THREAD_FUNNELED)
        return zb_fail(err, ZAMBA_E_UNSUPPORTED, "this MPI does not allow threads beside it");
    int code = MPI_Comm_dup(MPI_COMM_WORLD, &r->comm);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_set_errhandler(r->comm, MPI_ERRORS_RETURN);
    if (code == MPI_SUCCESS)
        code = MPI_Type_contiguous((int)UNIT, MPI_FLOAT, &r->unit);
    if (code == MPI_SUCCESS)
        code = MPI_Type_commit(&r->unit);
    if (code != MPI_SUCCESS)
        return failed(r, code, "at the start", err);
    MPI_Comm_rank(r->comm, &rank);
    MPI_Comm_size(r->comm, &size);
    r->rank = rank;
    r->size = size;
    r->counts = calloc((size_t)size, sizeof *r->counts);
    r->places = calloc((size_t)size, sizeof *r->places);
    if (r->counts == NULL || r->places == NULL)
        return zb_fail_memory(err, "ranks", (size_t)size * sizeof *r->counts);
    const long told = announced("SLURM_STEP_NUM_TASKS");
    if (size == 1 && told > 1 && getenv("OMPI_COMM_WORLD_SIZE") == NULL)
        return zb_fail(
            err, ZAMBA_E_UNSUPPORTED,
            "srun started %ld processes, MPI sees one (srun --mpi=pmix, and an Open MPI that was built with it)", told);
    return ZAMBA_OK;
}

void zamba_ranks_close(zamba_ranks *r)
{
    if (r == NULL)
        return;
    if (r->ours && !r->broken) {
        if (r->unit != MPI_DATATYPE_NULL)
            MPI_Type_free(&r->unit);
        if (r->comm != MPI_COMM_NULL)
            MPI_Comm_free(&r->comm);
        MPI_Finalize();
    }
    free(r->requests);
    free(r->counts);
    free(r->places);
    free(r);
}

void zamba_ranks_abort(zamba_ranks *r)
{
    if (r != NULL && r->comm != MPI_COMM_NULL && r->size > 1)
        MPI_Abort(r->comm, 1);
}

zamba_status zb_ranks_gather(zamba_ranks *r, const double *mine, size_t n, double *all, zamba_error *err)
{
    if (zamba_ranks_size(r) == 1) {
        memcpy(all, mine, n * sizeof *all);
        return ZAMBA_OK;
    }
    if (r->broken)
        return gone(err);
    const double began = now();
    const int code = MPI_Allgather(mine, (int)n, MPI_DOUBLE, all, (int)n, MPI_DOUBLE, r->comm);
    r->seconds += now() - began;
    return code == MPI_SUCCESS ? ZAMBA_OK : failed(r, code, "sums", err);
}

static zamba_status broadcast(zamba_ranks *r, void *x, size_t n, MPI_Datatype type, zamba_error *err)
{
    if (r->broken)
        return gone(err);
    const double began = now();
    const int code = MPI_Bcast(x, (int)n, type, 0, r->comm);
    r->seconds += now() - began;
    return code == MPI_SUCCESS ? ZAMBA_OK : failed(r, code, "what rank 0 says", err);
}

zamba_status zb_ranks_broadcast(zamba_ranks *r, float *x, size_t floats, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    for (size_t at = 0; at < floats && zamba_ranks_size(r) > 1 && st == ZAMBA_OK; at += CHUNK)
        st = broadcast(r, x + at, floats - at < CHUNK ? floats - at : CHUNK, MPI_FLOAT, err);
    return st;
}

zamba_status zb_ranks_word(zamba_ranks *r, int32_t *word, zamba_error *err)
{
    return zamba_ranks_size(r) > 1 ? broadcast(r, word, 1, MPI_INT32_T, err) : ZAMBA_OK;
}

zamba_status zamba_ranks_text(zamba_ranks *r, char **text, zamba_error *err)
{
    if (zamba_ranks_size(r) == 1)
        return ZAMBA_OK;
    const size_t length = *text != NULL ? strlen(*text) + 1 : 0;
    int32_t n = length < INT32_MAX ? (int32_t)length : INT32_MAX;
    zamba_status st = zb_ranks_word(r, &n, err);
    char *ours = r->rank == 0 || n == 0 ? *text : malloc((size_t)n);
    /* a rank without memory for it still has to take part, so all hear of it first */
    if (st == ZAMBA_OK)
        st = zb_ranks_settle(r, n > 0 && ours == NULL ? zb_fail_memory(err, "text of rank 0", (size_t)n) : ZAMBA_OK,
                             err);
    if (st == ZAMBA_OK && n > 0)
        st = broadcast(r, ours, (size_t)n, MPI_CHAR, err);
    if (r->rank == 0)
        return st;
    free(n > 0 || st == ZAMBA_OK ? *text : NULL);
    if (st != ZAMBA_OK && n > 0) {
        free(ours);
        ours = NULL;
    }
    *text = n > 0 ? ours : NULL;
    return st;
}

/* Who has how much of an arena, in units, and where it stands. */
static void describe_shares(zamba_ranks *r, size_t floats)
{
    for (int32_t k = 0; k < r->size; k++) {
        size_t begin, end;
        zb_ranks_share(r, floats, k, &begin, &end);
        r->counts[k] = (int)((end - begin) / UNIT);
        r->places[k] = (int)(begin / UNIT);
    }
}

static zamba_status check_size(size_t floats, zamba_error *err)
{
    return floats / UNIT <= INT32_MAX && floats % UNIT == 0
               ? ZAMBA_OK
               : zb_fail(err, ZAMBA_E_UNSUPPORTED, "%zu parameters: too many to be exchanged", floats);
}

zamba_status zb_ranks_spread(zamba_ranks *r, float *arena, size_t floats, zamba_error *err)
{
    if (zamba_ranks_size(r) == 1)
        return ZAMBA_OK;
    const zamba_status st = r->broken ? gone(err) : check_size(floats, err);
    if (st != ZAMBA_OK)
        return st;
    const double began = now();
    describe_shares(r, floats);
    const int code = MPI_Allgatherv(MPI_IN_PLACE, 0, r->unit, arena, r->counts, r->places, r->unit, r->comm);
    r->seconds += now() - began;
    return code == MPI_SUCCESS ? ZAMBA_OK : failed(r, code, "parameters", err);
}

zamba_status zb_ranks_collect(zamba_ranks *r, const float *share, float *whole, size_t floats, zamba_error *err)
{
    if (zamba_ranks_size(r) == 1) {
        if (share != whole)
            memcpy(whole, share, floats * sizeof *whole);
        return ZAMBA_OK;
    }
    const zamba_status st = r->broken ? gone(err) : check_size(floats, err);
    if (st != ZAMBA_OK)
        return st;
    const double began = now();
    describe_shares(r, floats);
    const int code =
        r->rank == 0 && share == whole
            ? MPI_Gatherv(MPI_IN_PLACE, 0, r->unit, whole, r->counts, r->places, r->unit, 0, r->comm)
            : MPI_Gatherv(share, r->counts[r->rank], r->unit, whole, r->counts, r->places, r->unit, 0, r->comm);
    r->seconds += now() - began;
    return code == MPI_SUCCESS ? ZAMBA_OK : failed(r, code, "moments", err);
}

static zamba_status one_more(zamba_ranks *r, zamba_error *err)
{
    if (r->broken)
        return gone(err);
    if (r->n_requests < r->room)
        return ZAMBA_OK;
    const int room = r->room > 0 ? 2 * r->room : 64;
    MPI_Request *larger = realloc(r->requests, (size_t)room * sizeof *larger);
    if (larger == NULL)
        return zb_fail_memory(err, "messages", (size_t)room * sizeof *larger);
    r->requests = larger;
    r->room = room;
    return ZAMBA_OK;
}

zamba_status zb_ranks_post_send(zamba_ranks *r, int32_t to, int32_t tag, const float *x, size_t n, zamba_error *err)
{
    const zamba_status st = one_more(r, err);
    if (st != ZAMBA_OK)
        return st;
    const double began = now();
    const int code = MPI_Isend(x, (int)n, MPI_FLOAT, to, tag, r->comm, &r->requests[r->n_requests]);
    r->n_requests += code == MPI_SUCCESS;
    r->seconds += now() - began;
    return code == MPI_SUCCESS ? ZAMBA_OK : failed(r, code, "gradients", err);
}

zamba_status zb_ranks_post_receive(zamba_ranks *r, int32_t from, int32_t tag, float *x, size_t n, zamba_error *err)
{
    const zamba_status st = one_more(r, err);
    if (st != ZAMBA_OK)
        return st;
    const int code = MPI_Irecv(x, (int)n, MPI_FLOAT, from, tag, r->comm, &r->requests[r->n_requests]);
    r->n_requests += code == MPI_SUCCESS;
    return code == MPI_SUCCESS ? ZAMBA_OK : failed(r, code, "gradients", err);
}

void zb_ranks_progress(zamba_ranks *r)
{
    int all = 0;
    if (zamba_ranks_size(r) == 1 || r->broken || r->n_requests == 0)
        return;
    const double began = now();
    if (MPI_Testall(r->n_requests, r->requests, &all, MPI_STATUSES_IGNORE) != MPI_SUCCESS)
        r->broken = 1;
    else if (all)
        r->n_requests = 0;
    r->seconds += now() - began;
}

zamba_status zb_ranks_wait(zamba_ranks *r, zamba_error *err)
{
    if (zamba_ranks_size(r) == 1)
        return ZAMBA_OK;
    if (r->broken)
        return gone(err);
    const double began = now();
    const int code = r->n_requests > 0 ? MPI_Waitall(r->n_requests, r->requests, MPI_STATUSES_IGNORE) : MPI_SUCCESS;
    r->n_requests = 0;
    r->seconds += now() - began;
    return code == MPI_SUCCESS ? ZAMBA_OK : failed(r, code, "gradients", err);
}

#else /* without MPI: alone */

zamba_status zamba_ranks_open(zamba_ranks **out, zamba_error *err)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
    *out = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (announced(names[i]) > 1)
            return zb_fail(err, ZAMBA_E_UNSUPPORTED,
                           "%s=%ld: one of several processes, but this program was built without MPI (install "
                           "libopenmpi-dev and build again)",
                           names[i], announced(names[i]));
    zamba_ranks *r = calloc(1, sizeof *r);
    if (r == NULL)
        return zb_fail_memory(err, "ranks", sizeof *r);
    r->size = 1;
    *out = r;
    return ZAMBA_OK;
}

void zamba_ranks_close(zamba_ranks *r)
{
    free(r);
}

void zamba_ranks_abort(zamba_ranks *r)
{
    (void)r;
}

zamba_status zamba_ranks_text(zamba_ranks *r, char **text, zamba_error *err)
{
    (void)r, (void)text, (void)err;
    return ZAMBA_OK;
}

zamba_status zb_ranks_gather(zamba_ranks *r, const double *mine, size_t n, double *all, zamba_error *err)
{
    (void)r, (void)err;
    memcpy(all, mine, n * sizeof *all);
    return ZAMBA_OK;
}

zamba_status zb_ranks_broadcast(zamba_ranks *r, float *x, size_t floats, zamba_error *err)
{
    (void)r, (void)x, (void)floats, (void)err;
    return ZAMBA_OK;
}

zamba_status zb_ranks_word(zamba_ranks *r, int32_t *word, zamba_error *err)
{
    (void)r, (void)word, (void)err;
    return ZAMBA_OK;
}

zamba_status zb_ranks_spread(zamba_ranks *r, float *arena, size_t floats, zamba_error *err)
{
    (void)r, (void)arena, (void)floats, (void)err;
    return ZAMBA_OK;
}

zamba_status zb_ranks_collect(zamba_ranks *r, const float *share, float *whole, size_t floats, zamba_error *err)
{
    (void)r, (void)err;
    if (share != whole)
        memcpy(whole, share, floats * sizeof *whole);
    return ZAMBA_OK;
}

zamba_status zb_ranks_post_send(zamba_ranks *r, int32_t to, int32_t tag, const float *x, size_t n, zamba_error *err)
{
    (void)r, (void)to, (void)tag, (void)x, (void)n, (void)err;
    return ZAMBA_OK;
}

zamba_status zb_ranks_post_receive(zamba_ranks *r, int32_t from, int32_t tag, float *x, size_t n, zamba_error *err)
{
    (void)r, (void)from, (void)tag, (void)x, (void)n, (void)err;
    return ZAMBA_OK;
}

void zb_ranks_progress(zamba_ranks *r)
{
    (void)r;
}

zamba_status zb_ranks_wait(zamba_ranks *r, zamba_error *err)
{
    (void)r, (void)err;
    return ZAMBA_OK;
}

#endif

zamba_status zamba_ranks_most(zamba_ranks *r, int32_t mine, int32_t *most, zamba_error *err)
{
    const double word = (double)mine;
    const size_t n = (size_t)zamba_ranks_size(r);
    *most = mine;
    if (n == 1)
        return ZAMBA_OK;
    double *all = calloc(n, sizeof *all);
    if (all == NULL)
        return zb_fail_memory(err, "ranks", n * sizeof *all);
    const zamba_status st = zb_ranks_gather(r, &word, 1, all, err);
    for (size_t k = 0; k < n && st == ZAMBA_OK; k++)
        *most = all[k] > (double)*most ? (int32_t)all[k] : *most;
    free(all);
    return st;
}

/* bb_stream.c — frame by frame: timelines of fixed size with all the memory a step needs behind one handle, their
 * snapshots, and steps. Nothing here but opening takes memory, a lock or a system call. */
#include <stdlib.h>
#include <string.h>

#include "backbone/bb_work.h"

struct zamba_backbone_stream {
    const zamba_backbone *b;
    size_t batch;
    zb_bb_segment *segments; /* [batch]: each its state and frame        */
    unsigned char *bad;      /* [batch]: the last output was not finite  */
    zb_bb_work work;         /* for `batch` rows                         */
    void *own;               /* NULL: the memory is the caller's         */
    size_t bytes;            /* of this and all that belongs to it       */
};

static size_t up(size_t n)
{
    return (n + ZB_ALIGN - 1) / ZB_ALIGN * ZB_ALIGN;
}

/* Bytes of the parts: handle, segments, flags, states, work; 0 on overflow. */
static size_t parts(size_t part[5], const zamba_backbone *b, size_t batch)
{
    size_t total = 0, states;
    const size_t one = up(b->plan.state_floats * sizeof(float));
    if (batch == 0 || batch > (size_t)1 << 20 || !zb_mul(one, batch, &states))
        return 0;
    part[0] = up(sizeof(zamba_backbone_stream));
    part[1] = up(batch * sizeof(zb_bb_segment));
    part[2] = up(batch);
    part[3] = states;
    part[4] = zb_bb_work_place(&(zb_bb_work){0}, &b->plan, batch, NULL);
    for (int i = 0; i < 5; i++)
        if (!zb_add(total, part[i], &total))
            return 0;
    return total;
}

static int streams(const zamba_backbone *b)
{
    return b->plan.o.block != ZAMBA_BACKBONE_GATED;
}

size_t zamba_backbone_stream_bytes(const zamba_backbone *b, size_t batch)
{
    size_t part[5];
    return streams(b) ? parts(part, b, batch) : 0;
}

zamba_status zamba_backbone_stream_place(zamba_backbone_stream **out, const zamba_backbone *b, size_t batch,
                                         void *memory, size_t bytes, zamba_error *err)
{
    size_t part[5];
    if (out == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "backbone stream: nowhere to put it");
    *out = NULL;
    if (!streams(b))
        return zb_fail(err, ZAMBA_E_UNSUPPORTED,
                       "block = gated cannot stream: it weighs each frame by its distance from the end of its "
                       "sequence, so that every new frame would change all outputs before it (take forward or a "
                       "window, or block = gated_causal)");
    const size_t need = parts(part, b, batch);
    if (need == 0)
        return zb_fail(err, ZAMBA_E_ARG, "a backbone stream of %zu timelines (1 to %d)", batch, 1 << 20);
    if (memory == NULL || (uintptr_t)memory % ZB_ALIGN != 0 || bytes < need)
        return zb_fail(err, ZAMBA_E_ARG, "backbone stream: %zu bytes at %p; it needs %zu, aligned to %d", bytes, memory,
                       need, ZB_ALIGN);
    memset(memory, 0, need); /* states begin with zeros, and every page is there before the first step */
    zamba_backbone_stream *s = memory;
    char *at = memory;
    *s = (zamba_backbone_stream){.b = b, .batch = batch, .bytes = need};
    s->segments = (zb_bb_segment *)(void *)(at += part[0]);
    s->bad = (unsigned char *)(at += part[1]);
    at += part[2];
    for (size_t i = 0; i < batch; i++)
        s->segments[i] = (zb_bb_segment){
            .row0 = i, .n = 1, .state = (float *)(void *)(at + i * up(b->plan.state_floats * sizeof(float)))};
    zb_bb_work_place(&s->work, &b->plan, batch, at + part[3]);
    *out = s;
    return ZAMBA_OK;
}

zamba_status zamba_backbone_stream_open(zamba_backbone_stream **out, const zamba_backbone *b, size_t batch,
                                        zamba_error *err)
{
    const size_t need = zamba_backbone_stream_bytes(b, batch);
    if (out == NULL || need == 0) /* the reason is told there */
        return zamba_backbone_stream_place(out, b, batch, NULL, 0, err);
    *out = NULL;
    void *memory = zb_alloc_aligned(need);
    if (memory == NULL)
        return zb_fail_memory(err, "backbone stream", need);
    const zamba_status st = zamba_backbone_stream_place(out, b, batch, memory, need, err);
    if (st != ZAMBA_OK)
        zb_free_aligned(memory);
    else
        (*out)->own = memory;
    return st;
}

void zamba_backbone_stream_close(zamba_backbone_stream *s)
{
    if (s != NULL && s->own != NULL)
        zb_free_aligned(s->own);
}

/* ---- steps ---- */

static int strict(const zamba_backbone *b)
{
    return b->run.non_finite == ZAMBA_BACKBONE_NON_FINITE_REFUSE;
}

static zamba_status fail_bad(size_t timeline, zamba_error *err)
{
    return zb_fail(err, ZAMBA_E_FORMAT,
                   "timeline %zu: the output is not finite though its frames are (weights or frames beyond what f32 "
                   "holds); reset it, or restore a snapshot",
                   timeline);
}

zamba_status zamba_backbone_step(zamba_backbone_stream *s, const float *frames, float *out, zamba_error *err)
{
    const zamba_backbone *b = s->b;
    const size_t H = b->plan.H;
    if (frames == NULL || out == NULL)
        return zb_fail(err, ZAMBA_E_ARG, "step: no frames, or nowhere to put the output");
    for (size_t i = 0; i < s->batch; i++)
        if (s->bad[i])
            return fail_bad(i, err);
    zamba_status st = zb_bb_frames_check(b, frames, s->batch, "step", err);
    if (st != ZAMBA_OK)
        return st;
    const zb_bb_pass pass = zb_bb_work_pass(&s->work, b, s->segments, s->batch, s->batch, NULL);
    zb_bb_pass_run(&pass, frames, out);
    for (size_t i = 0; i < s->batch; i++)
        s->segments[i].frame++;
    if (strict(b) && !zb_bb_finite(out, s->batch * H))
        for (size_t i = s->batch; i-- > 0;)
            if (!zb_bb_finite(out + i * H, H)) {
                s->bad[i] = 1;
                st = fail_bad(i, err);
            }
    return st;
}

/* ---- caches ---- */

/* Times that all is read: a line that was read but once is the first to be thrown out again (third-level caches that
 * take what the second throws out). */
#define WARM_ROUNDS 2

typedef struct reader {
    const zb_kernels *k;
    uint64_t sum;
} reader;

static void read_bytes(reader *r, const void *p, size_t n)
{
    r->sum += r->k->read_sum(p, n);
}

static void read_floats(reader *r, const zamba_backbone *b, size_t offset, size_t n)
{
    if (offset != ZB_BB_NONE)
        read_bytes(r, b->params + offset, n * sizeof(float));
}

/* Heads are not packed: zamba_backbone_logits reads them as they stand. */
static void read_heads(reader *r, const zamba_backbone *b)
{
    for (size_t i = 0; i < b->plan.o.n_heads; i++) {
        const zb_bb_linear *hidden = &b->plan.bb_heads[i].hidden, *out = &b->plan.bb_heads[i].out;
        read_floats(r, b, hidden->w, hidden->out * hidden->in);
        read_floats(r, b, out->w, out->out * out->in);
    }
}

void zamba_backbone_warm(const zamba_backbone_stream *s)
{
    const zamba_backbone *b = s->b;
    reader r = {.k = b->k};
    for (int round = 0; round < WARM_ROUNDS; round++) {
        read_bytes(&r, b->packed_data, b->packed_bytes);
        read_bytes(&r, b->derived, b->plan.derived_floats * sizeof(float));
        for (size_t i = 0; i < b->plan.n_params; i++) /* biases, norms, D */
            if (b->plan.params[i].n_dims == 1)
                read_floats(&r, b, b->plan.params[i].offset, b->plan.params[i].count);
        read_heads(&r, b);
        read_bytes(&r, s, s->bytes);
    }
    volatile uint64_t kept = r.sum; /* else nothing need be read */
    (void)kept;
}

/* Rows of a feed that are computed together. */
#define FEED ((size_t)32)

zamba_status zamba_backbone_feed(zamba_backbone_stream *s, size_t timeline, const float *frames, size_t n_frames,
                                 float *out, zamba_error *err)
{
    const zamba_backbone *b = s->b;
    if (timeline >= s->batch || (frames == NULL && n_frames > 0))
        return zb_fail(err, ZAMBA_E_ARG, "feed: timeline %zu of %zu, or no frames", timeline, s->batch);
    if (s->bad[timeline])
        return fail_bad(timeline, err);
    zamba_status st = zb_bb_frames_check(b, frames, n_frames, "feed", err);
    if (st != ZAMBA_OK || n_frames == 0)
        return st;
    const size_t most = n_frames < FEED ? n_frames : FEED, H = b->plan.H;
    const size_t bytes = zb_bb_work_place(&(zb_bb_work){0}, &b->plan, most, NULL);
    void *memory = zb_alloc_aligned(bytes);
    float *spare = out ? NULL : zb_alloc_aligned(most * H * sizeof(float));
    if (memory == NULL || (out == NULL && spare == NULL)) {
        zb_free_aligned(memory);
        zb_free_aligned(spare);
        return zb_fail_memory(err, "backbone feed", bytes);
    }
    zb_bb_work work;
    zb_bb_work_place(&work, &b->plan, most, memory);
    zb_bb_segment *g = &s->segments[timeline];
    for (size_t i = 0; i < n_frames; i += most) {
        const size_t n = n_frames - i < most ? n_frames - i : most;
        float *to = out ? out + i * H : spare;
        zb_bb_segment run = *g;
        run.row0 = 0;
        run.n = n;
        const zb_bb_pass pass = zb_bb_work_pass(&work, b, &run, 1, n, b->pool);
        zb_bb_pass_run(&pass, frames + i * b->plan.F, to);
        g->frame += n;
        if (strict(b) && !s->bad[timeline] && !zb_bb_finite(to, n * H)) {
            s->bad[timeline] = 1;
            st = fail_bad(timeline, err);
        }
    }
    zb_free_aligned(memory);
    zb_free_aligned(spare);
    return st;
}

/* ---- timelines ---- */

zamba_status zamba_backbone_reset(zamba_backbone_stream *s, size_t timeline, zamba_error *err)
{
    if (timeline != ZAMBA_BACKBONE_ALL_TIMELINES && timeline >= s->batch)
        return zb_fail(err, ZAMBA_E_ARG, "reset: timeline %zu of %zu", timeline, s->batch);
    for (size_t i = 0; i < s->batch; i++)
        if (timeline == ZAMBA_BACKBONE_ALL_TIMELINES || timeline == i) {
            memset(s->segments[i].state, 0, s->b->plan.state_floats * sizeof(float));
            s->segments[i].frame = 0;
            s->bad[i] = 0;
        }
    return ZAMBA_OK;
}

uint64_t zamba_backbone_frame(const zamba_backbone_stream *s, size_t timeline)
{
    return timeline < s->batch ? s->segments[timeline].frame : 0;
}

/* In front of the state's floats. */
typedef struct snapshot {
    char magic[8];
    uint64_t shape, frame, floats;
} snapshot;

static const char magic[8] = {'Z', 'B', 'B', 'S', 'N', 'A', 'P', '1'};

size_t zamba_backbone_snapshot_bytes(const zamba_backbone *b)
{
    return streams(b) ? sizeof(snapshot) + b->plan.state_floats * sizeof(float) : 0;
}

static zamba_status check_place(const zamba_backbone_stream *s, size_t timeline, const void *at, size_t bytes,
                                const char *what, zamba_error *err)
{
    if (timeline >= s->batch)
        return zb_fail(err, ZAMBA_E_ARG, "%s: timeline %zu of %zu", what, timeline, s->batch);
    const size_t need = zamba_backbone_snapshot_bytes(s->b);
    return at == NULL || bytes != need
               ? zb_fail(err, ZAMBA_E_ARG, "%s: %zu bytes, a snapshot of this backbone has %zu", what, bytes, need)
               : ZAMBA_OK;
}

zamba_status zamba_backbone_snapshot(const zamba_backbone_stream *s, size_t timeline, void *to, size_t bytes,
                                     zamba_error *err)
{
    const zamba_status st = check_place(s, timeline, to, bytes, "snapshot", err);
    if (st != ZAMBA_OK)
        return st;
    if (s->bad[timeline])
        return fail_bad(timeline, err);
    const zb_bb_plan *p = &s->b->plan;
    snapshot head = {.shape = p->shape_hash, .frame = s->segments[timeline].frame, .floats = p->state_floats};
    memcpy(head.magic, magic, sizeof magic);
    memcpy(to, &head, sizeof head);
    memcpy((char *)to + sizeof head, s->segments[timeline].state, p->state_floats * sizeof(float));
    return ZAMBA_OK;
}

/* As zb_bb_finite, of floats at any alignment. */
static int bytes_finite(const unsigned char *p, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, p + i * sizeof u, sizeof u);
        bad |= (uint32_t)((u & 0x7F800000u) == 0x7F800000u);
    }
    return !bad;
}

zamba_status zamba_backbone_restore(zamba_backbone_stream *s, size_t timeline, const void *from, size_t bytes,
                                    zamba_error *err)
{
    const zamba_status st = check_place(s, timeline, from, bytes, "restore", err);
    if (st != ZAMBA_OK)
        return st;
    const zb_bb_plan *p = &s->b->plan;
    const unsigned char *floats = (const unsigned char *)from + sizeof(snapshot);
    snapshot head;
    memcpy(&head, from, sizeof head);
    if (memcmp(head.magic, magic, sizeof magic) != 0)
        return zb_fail(err, ZAMBA_E_FORMAT, "restore: these bytes are no snapshot of a backbone");
    if (head.shape != p->shape_hash || head.floats != p->state_floats)
        return zb_fail(err, ZAMBA_E_MISMATCH, "restore: the snapshot is of a backbone with other options");
    if (strict(s->b) && !bytes_finite(floats, p->state_floats))
        return zb_fail(err, ZAMBA_E_FORMAT, "restore: a number in the snapshot is not finite (damaged?)");
    memcpy(s->segments[timeline].state, floats, p->state_floats * sizeof(float));
    s->segments[timeline].frame = head.frame;
    s->bad[timeline] = 0;
    return ZAMBA_OK;
}

/* grammar_build.c — expressions of a grammar: what the readers build and grammar_net.c makes states of. Sizes are told
 * as if every repetition were written out, so that a small text cannot stand for a huge grammar. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tok/grammar.h"

int32_t zb_build_fail(zb_build *b, zamba_status code, const char *fmt, ...)
{
    if (b->st != ZAMBA_OK)
        return ZB_X_EMPTY;
    char text[sizeof b->err.message];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    b->st = zb_fail(&b->err, code, "%s", text);
    return ZB_X_EMPTY;
}

/* Room for `more` items of `each` bytes behind n. */
static int room(zb_build *b, void *list, size_t n, size_t *max, size_t more, size_t each)
{
    void *old;
    memcpy(&old, list, sizeof old);
    if (b->st != ZAMBA_OK)
        return 0;
    if (more <= *max - n)
        return 1;
    const size_t want = (n + more) * 2 + 16; /* n and more are below 2^32 */
    void *larger = realloc(old, want * each);
    if (larger == NULL) {
        b->st = zb_fail_memory(&b->err, "grammar", want * each);
        return 0;
    }
    memcpy(list, &larger, sizeof larger);
    *max = want;
    return 1;
}

static int32_t add(zb_build *b, zb_expr x)
{
    if (x.size > ZB_GRAMMAR_MAX_SIZE || b->n_exprs > 4 * ZB_GRAMMAR_MAX_SIZE)
        return zb_build_fail(b, ZAMBA_E_UNSUPPORTED,
                             "grammar: more than %d states with its repetitions written out (smaller counts?)",
                             ZB_GRAMMAR_MAX_SIZE);
    if (x.depth > ZB_GRAMMAR_MAX_DEPTH)
        return zb_build_fail(b, ZAMBA_E_UNSUPPORTED, "grammar: nested deeper than %d", ZB_GRAMMAR_MAX_DEPTH);
    if (!room(b, &b->exprs, b->n_exprs, &b->max_exprs, 1, sizeof x))
        return ZB_X_EMPTY;
    x.rule = -1;
    b->exprs[b->n_exprs] = x;
    return (int32_t)b->n_exprs++;
}

void zb_build_open(zb_build *b)
{
    *b = (zb_build){.st = ZAMBA_OK};
    add(b, (zb_expr){.kind = ZB_X_SEQ});
    add(b, (zb_expr){.kind = ZB_X_ALT, .size = 1});
}

void zb_build_close(zb_build *b)
{
    for (size_t i = 0; i < b->n_rules; i++)
        free(b->rules[i].name);
    free(b->exprs);
    free(b->kids);
    free(b->ranges);
    free(b->rules);
    zb_buf_free(&b->bytes);
}

int32_t zb_build_bytes(zb_build *b, const char *text, size_t n)
{
    if (n == 0 || b->st != ZAMBA_OK)
        return ZB_X_EMPTY;
    if (n > ZB_GRAMMAR_MAX_SIZE)
        n = ZB_GRAMMAR_MAX_SIZE + 1;
    const size_t at = b->bytes.n;
    if (at > INT32_MAX / 2)
        return zb_build_fail(b, ZAMBA_E_UNSUPPORTED, "grammar: too much text");
    b->st = zb_buf_append(&b->bytes, text, n, &b->err);
    return add(b, (zb_expr){.kind = ZB_X_BYTES, .at = (int32_t)at, .n = (int32_t)n, .size = (uint32_t)n});
}

int32_t zb_build_text(zb_build *b, const char *text)
{
    return zb_build_bytes(b, text, strlen(text));
}

static int by_lo(const void *a, const void *b)
{
    const zb_range *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

size_t zb_ranges_tidy(zb_range *r, size_t n, int negated)
{
    size_t k = 0;
    if (negated)
        r[n++] = (zb_range){0xD800, 0xDFFF};
    qsort(r, n, sizeof *r, by_lo);
    for (size_t i = 0; i < n; i++) /* join */
        if (k > 0 && r[i].lo <= r[k - 1].hi + 1)
            r[k - 1].hi = r[i].hi > r[k - 1].hi ? r[i].hi : r[k - 1].hi;
        else
            r[k++] = r[i];
    n = k;
    if (negated) { /* the gaps */
        uint32_t from = 0;
        k = 0;
        for (size_t i = 0; i < n; i++) {
            const zb_range hole = r[i];
            if (hole.lo > from)
                r[k++] = (zb_range){from, hole.lo - 1};
            from = hole.hi + 1;
        }
        if (from <= 0x10FFFF)
            r[k++] = (zb_range){from, 0x10FFFF};
        return k;
    }
    for (size_t i = 0; i < n; i++) { /* cut the surrogates out: at most one range becomes two */
        if (r[i].hi < 0xD800 || r[i].lo > 0xDFFF)
            continue;
        const zb_range low = {r[i].lo, 0xD7FF}, high = {0xE000, r[i].hi};
        const int has_low = low.lo <= low.hi, has_high = high.lo <= high.hi;
        if (has_low && has_high) {
            memmove(r + i + 2, r + i + 1, (n - i - 1) * sizeof *r);
            r[i++] = low;
            r[i] = high;
            n++;
        } else if (has_low || has_high) {
            r[i] = has_low ? low : high;
        } else {
            memmove(r + i, r + i + 1, (n - i - 1) * sizeof *r);
            n--;
            i--;
        }
    }
    return n;
}

int32_t zb_build_class(zb_build *b, const zb_range *ranges, size_t n, int negated)
{
    if (!room(b, &b->ranges, b->n_ranges, &b->max_ranges, n + 2, sizeof *ranges))
        return ZB_X_EMPTY;
    zb_range *own = b->ranges + b->n_ranges;
    if (n > 0)
        memcpy(own, ranges, n * sizeof *own);
    const size_t k = zb_ranges_tidy(own, n, negated);
    if (k == 0)
        return ZB_X_NOTHING;
    const int32_t at = (int32_t)b->n_ranges;
    b->n_ranges += k;
    const uint32_t each = own[k - 1].hi < 0x80 ? 2 : 8;
    return add(b, (zb_expr){.kind = ZB_X_CLASS, .at = at, .n = (int32_t)k, .size = (uint32_t)k * each});
}

static int32_t join(zb_build *b, zb_expr_kind kind, const int32_t *x, size_t n)
{
    if (n == 1)
        return x[0];
    if (n == 0)
        return kind == ZB_X_SEQ ? ZB_X_EMPTY : ZB_X_NOTHING;
    if (b->n_kids > INT32_MAX / 4 || !room(b, &b->kids, b->n_kids, &b->max_kids, n, sizeof *x))
        return ZB_X_EMPTY;
    uint64_t size = kind == ZB_X_ALT ? n : 0;
    uint16_t depth = 0;
    for (size_t i = 0; i < n; i++) {
        const zb_expr *e = &b->exprs[x[i]];
        size += e->size;
        depth = e->depth > depth ? e->depth : depth;
        b->kids[b->n_kids + i] = x[i];
    }
    const int32_t at = (int32_t)b->n_kids;
    b->n_kids += n;
    return add(b, (zb_expr){.kind = (uint8_t)kind,
                            .at = at,
                            .n = (int32_t)n,
                            .depth = (uint16_t)(depth + 1),
                            .size = size > ZB_GRAMMAR_MAX_SIZE ? ZB_GRAMMAR_MAX_SIZE + 1 : (uint32_t)size});
}

int32_t zb_build_seq(zb_build *b, const int32_t *x, size_t n)
{
    return join(b, ZB_X_SEQ, x, n);
}

int32_t zb_build_alt(zb_build *b, const int32_t *x, size_t n)
{
    return join(b, ZB_X_ALT, x, n);
}

int32_t zb_build_repeat(zb_build *b, int32_t x, int32_t lo, int32_t hi)
{
    if (b->st != ZAMBA_OK || hi == 0 || x == ZB_X_EMPTY)
        return ZB_X_EMPTY;
    if (lo == 1 && hi == 1)
        return x;
    const uint64_t times = hi < 0 ? (uint64_t)lo + 1 : (uint64_t)hi;
    const uint64_t size = times * ((uint64_t)b->exprs[x].size + 1); /* below 2^31 * 2^20 */
    return add(b, (zb_expr){.kind = ZB_X_REPEAT,
                            .at = x,
                            .lo = lo,
                            .hi = hi,
                            .depth = (uint16_t)(b->exprs[x].depth + 1),
                            .size = size > ZB_GRAMMAR_MAX_SIZE ? ZB_GRAMMAR_MAX_SIZE + 1 : (uint32_t)size});
}

int32_t zb_build_rule_new(zb_build *b, const char *name, size_t n)
{
    if (!room(b, &b->rules, b->n_rules, &b->max_rules, 1, sizeof *b->rules))
        return -1;
    char *copy = malloc(n + 1);
    if (copy == NULL) {
        b->st = zb_fail_memory(&b->err, "grammar", n + 1);
        return -1;
    }
    memcpy(copy, name, n);
    copy[n] = '\0';
    b->rules[b->n_rules] = (zb_build_rule){copy, -1};
    return (int32_t)b->n_rules++;
}

int32_t zb_build_ref(zb_build *b, int32_t rule)
{
    return rule < 0 ? ZB_X_EMPTY : add(b, (zb_expr){.kind = ZB_X_REF, .at = rule, .size = 1});
}

int32_t zb_build_named(zb_build *b, const char *name, int32_t x)
{
    const int32_t rule = zb_build_rule_new(b, name, strlen(name));
    if (rule >= 0)
        b->rules[rule].expr = x;
    return zb_build_ref(b, rule);
}

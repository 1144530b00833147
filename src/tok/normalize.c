/* normalize.c — the steps of a normalizer, Prepend and Replace, on bytes. Patterns are whole characters, so that a
 * match never begins or ends inside one, even in text that is not valid UTF-8. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif
#include <stdlib.h>
#include <string.h>

#include "tok/tokenizer_impl.h"

static const char *find(const char *text, size_t n, const zb_normal_op *op)
{
    const char *at = memchr(text, op->from[0], n);
    return at == NULL || op->n_from == 1 ? at : memmem(at, n - (size_t)(at - text), op->from, op->n_from);
}

static size_t count(const char *text, size_t n, const zb_normal_op *op)
{
    size_t found = 0;
    if (op->n_from == 1) {
        for (size_t i = 0; i < n; i++)
            found += text[i] == op->from[0];
        return found;
    }
    for (const char *p = text, *end = text + n; (p = find(p, (size_t)(end - p), op)) != NULL; p += op->n_from)
        found++;
    return found;
}

zamba_status zb_append_replaced(zb_normal_text *out, const zb_normal_op *op, const char *text, size_t n,
                                const uint8_t *trusted, zamba_error *err)
{
    if (n == 0)
        return ZAMBA_OK;
    const size_t found = count(text, n, op);
    size_t extra;
    if (!zb_mul(found, op->n_to, &extra))
        return zb_fail(err, ZAMBA_E_MEMORY, "normalized text: size overflows");
    extra += n - found * op->n_from;
    zamba_status st = zb_buf_reserve(&out->text, extra, err);
    if (st == ZAMBA_OK && trusted != NULL)
        st = zb_buf_reserve(&out->trusted, extra, err);
    if (st != ZAMBA_OK)
        return st;
    char *to = out->text.data + out->text.n;
    char *mark = trusted != NULL ? out->trusted.data + out->trusted.n : NULL;
    const char *from = text, *const end = text + n;
    for (size_t left = found; from < end; left--) {
        const char *at = left > 0 ? find(from, (size_t)(end - from), op) : end;
        const size_t plain = (size_t)(at - from);
        memcpy(to, from, plain);
        to += plain;
        if (mark != NULL) {
            memcpy(mark, trusted + (from - text), plain);
            mark += plain;
        }
        if (at == end)
            break;
        memcpy(to, op->to, op->n_to);
        to += op->n_to;
        if (mark != NULL) {
            memset(mark, memchr(trusted + (at - text), 0, op->n_from) == NULL, op->n_to);
            mark += op->n_to;
        }
        from = at + op->n_from;
    }
    out->text.n += extra;
    out->text.data[out->text.n] = '\0';
    if (mark != NULL)
        out->trusted.n += extra;
    return ZAMBA_OK;
}

/* What a Prepend adds is the file's own, so it is trusted. */
static zamba_status append_prepended(zb_normal_text *out, const zb_normal_op *op, const char *text, size_t n,
                                     const uint8_t *trusted, zamba_error *err)
{
    if (n == 0)
        return ZAMBA_OK;
    zamba_status st = zb_buf_append(&out->text, op->to, op->n_to, err);
    if (st == ZAMBA_OK)
        st = zb_buf_append(&out->text, text, n, err);
    if (st == ZAMBA_OK && trusted != NULL)
        st = zb_buf_reserve(&out->trusted, op->n_to + n, err);
    if (st == ZAMBA_OK && trusted != NULL) {
        memset(out->trusted.data + out->trusted.n, 1, op->n_to);
        memcpy(out->trusted.data + out->trusted.n + op->n_to, trusted, n);
        out->trusted.n += op->n_to + n;
    }
    return st;
}

zamba_status zb_normalize(const zb_normal_ops *ops, const char *text, size_t n, const uint8_t *trusted,
                          zb_normal_text *out, zb_normal_text *spare, zamba_error *err)
{
    zamba_status st = ZAMBA_OK;
    out->text.n = out->trusted.n = 0;
    for (size_t i = 0; i < ops->n && st == ZAMBA_OK; i++) {
        const zb_normal_op *op = &ops->list[i];
        const zb_normal_text before = *out;
        *out = *spare;
        *spare = before;
        out->text.n = out->trusted.n = 0;
        if (i > 0) {
            text = spare->text.data;
            n = spare->text.n;
            trusted = trusted != NULL ? (const uint8_t *)spare->trusted.data : NULL;
        }
        if (op->from == NULL)
            st = append_prepended(out, op, text, n, trusted, err);
        else
            st = zb_append_replaced(out, op, text, n, trusted, err);
    }
    return st;
}

void zb_normal_text_free(zb_normal_text *t)
{
    zb_buf_free(&t->text);
    zb_buf_free(&t->trusted);
}

zamba_status zb_normal_ops_add(zb_normal_ops *ops, const char *from, size_t n_from, const char *to, size_t n_to,
                               zamba_error *err)
{
    zb_normal_op op = {.n_from = n_from, .n_to = n_to, .to = malloc(n_to + 1)};
    if (from != NULL)
        op.from = malloc(n_from + 1);
    if (op.to == NULL || (from != NULL && op.from == NULL)) {
        free(op.from);
        free(op.to);
        return zb_fail_memory(err, "normalizer", n_from + n_to);
    }
    if (from != NULL)
        memcpy(op.from, from, n_from);
    memcpy(op.to, to, n_to);
    ops->list[ops->n++] = op;
    return ZAMBA_OK;
}

void zb_normal_ops_free(zb_normal_ops *ops)
{
    for (size_t i = 0; i < ops->n; i++) {
        free(ops->list[i].from);
        free(ops->list[i].to);
    }
    ops->n = 0;
}

/* jinja_value.h — the values of a running template: strings that know which of their bytes are trusted, lists, dicts,
 * and the run that owns them. Everything lives in the run's arena and is immutable once it can be seen, but for
 * namespaces, iterators and loops. Functions that can fail do not return: zb_jfail jumps to the one place in
 * zb_jinja_parse or zb_jinja_render that releases the arena. Nothing outside an arena may be held across a call. */
#ifndef ZB_JINJA_VALUE_H
#define ZB_JINJA_VALUE_H

#include <setjmp.h>
#include <stdint.h>

#include "core/arena.h"
#include "tok/jinja.h"

#define ZB_JMAX_TEXT  ((size_t)16 << 20) /* bytes of one string, and of the rendered text                       */
#define ZB_JMAX_HEAP  ((size_t)96 << 20) /* bytes of all values of a rendering, or of a parsed template         */
#define ZB_JMAX_STEPS ((size_t)4000000)  /* nodes evaluated, items visited, 32s of bytes read or written        */
#define ZB_JMAX_DEPTH 400                /* expressions, blocks, macros and values inside one another           */
#define ZB_JMAX_RANGE 100000             /* items of range(), as jinja2's sandbox                               */

typedef struct zb_jrun {
    zb_arena arena;
    zamba_error *err;
    zamba_status status;
    jmp_buf jump;
    size_t steps;
    int line, depth;
    const zb_jinja *owner; /* the template that is rendered */
} zb_jrun;

/* Ends the run with "chat template, line N: ...". */
_Noreturn void zb_jfail(zb_jrun *r, zamba_status code, const char *fmt, ...) ZB_PRINTF(3, 4);
/* Count work against the limit: n bytes gone over; one thing done. */
void zb_jcharge(zb_jrun *r, size_t n_bytes);
void zb_jstep(zb_jrun *r);
void zb_jenter(zb_jrun *r); /* one level deeper; r->depth-- leaves it */
void *zb_jalloc(zb_jrun *r, size_t n_bytes);
void *zb_jalloc_array(zb_jrun *r, size_t n, size_t size);

/* ---- Strings ---- */

/* Growable text. Strings made from it keep pointing at it: appending to the newest of them needs no copy. */
typedef struct zb_jbuf {
    char *p;
    uint8_t *mask; /* trust of each byte, or NULL: all of them as `trusted` */
    size_t n, cap;
    uint8_t trusted;
} zb_jbuf;

typedef struct zb_jstr {
    const char *p;       /* UTF-8; not NUL-terminated                        */
    const uint8_t *mask; /* [n] 1: trusted; or NULL: every byte as `trusted` */
    size_t n, n_chars;
    zb_jbuf *buf; /* what p lies in, or NULL                          */
    uint8_t trusted;
    uint8_t markup; /* came through |safe or |escape: + escapes the other side, as markupsafe does */
} zb_jstr;

void zb_jbuf_add(zb_jrun *r, zb_jbuf *b, const char *p, size_t n, const uint8_t *mask, int trusted);
void zb_jbuf_str(zb_jrun *r, zb_jbuf *b, const zb_jstr *s);
void zb_jbuf_text(zb_jrun *r, zb_jbuf *b, const char *text, int trusted);
void zb_jbuf_char(zb_jrun *r, zb_jbuf *b, uint32_t c, int trusted); /* as UTF-8 */
void zb_jbuf_fill(zb_jrun *r, zb_jbuf *b, char c, size_t n, int trusted);
const zb_jstr *zb_jbuf_finish(zb_jrun *r, zb_jbuf *b); /* the text so far; b may be on the caller's stack */

const zb_jstr *zb_jstr_new(zb_jrun *r, const char *p, size_t n, int trusted); /* p is not copied */
const zb_jstr *zb_jstr_text(zb_jrun *r, const char *literal, int trusted);
const zb_jstr *zb_jstr_bytes(zb_jrun *r, const zb_jstr *s, size_t from, size_t to); /* shares the bytes */
const zb_jstr *zb_jstr_chars(zb_jrun *r, const zb_jstr *s, size_t from, size_t to); /* the same by characters */
const zb_jstr *zb_jstr_concat(zb_jrun *r, const zb_jstr *a, const zb_jstr *b);
const zb_jstr *zb_jstr_as_markup(zb_jrun *r, const zb_jstr *s, int markup);
const zb_jstr *zb_jstr_escape_html(zb_jrun *r, const zb_jstr *s); /* markup as it is */
size_t zb_jstr_offset(const zb_jstr *s, size_t n_chars);          /* byte where that character starts */
int zb_jstr_is(const zb_jstr *s, const char *text);
int zb_jstr_equal(const zb_jstr *a, const zb_jstr *b);
int zb_jstr_compare(const zb_jstr *a, const zb_jstr *b);
int zb_jstr_tainted(const zb_jstr *s);            /* 1 if any byte is not trusted */
int zb_jstr_trust(const zb_jstr *s, size_t byte); /* of that byte */
/* First place of `needle` in bytes [from, to), or SIZE_MAX; the last one. */
size_t zb_jstr_find(zb_jrun *r, const zb_jstr *s, size_t from, size_t to, const zb_jstr *needle);
size_t zb_jstr_rfind(zb_jrun *r, const zb_jstr *s, size_t from, size_t to, const zb_jstr *needle);
/* A NUL-terminated copy in the arena, cut for messages at `most` bytes. */
const char *zb_jstr_cstr(zb_jrun *r, const zb_jstr *s, size_t most);

typedef enum zb_jcase { ZB_JLOWER, ZB_JUPPER, ZB_JTITLE, ZB_JCAPITALIZE, ZB_JSWAPCASE } zb_jcase;
const zb_jstr *zb_jstr_case(zb_jrun *r, const zb_jstr *s, zb_jcase how);
typedef enum zb_jside { ZB_JLEFT = 1, ZB_JRIGHT = 2, ZB_JBOTH = 3 } zb_jside;
/* chars NULL: white space */
const zb_jstr *zb_jstr_strip(zb_jrun *r, const zb_jstr *s, const zb_jstr *chars, zb_jside side);

/* ---- Unicode (jinja_text.c) ---- */

/* The character at p (n >= 1 bytes of valid UTF-8) and how many bytes it takes. */
uint32_t zb_jutf8_get(const char *p, size_t n, size_t *len);
/* First byte that is not valid UTF-8, or n. */
size_t zb_jutf8_check(const char *p, size_t n);
int zb_jis_space(uint32_t c);
int zb_jis_line_end(uint32_t c); /* one of str.splitlines */
int zb_jis_letter(uint32_t c);
int zb_jis_alnum(uint32_t c);
int zb_jis_digit(uint32_t c);
int zb_jis_printable(uint32_t c);
int zb_jis_lower(uint32_t c);
int zb_jis_upper(uint32_t c);

/* ---- Values ---- */

typedef enum zb_jkind {
    ZB_JMISSING, /* an argument that was not given; no template sees it */
    ZB_JUNDEFINED,
    ZB_JNONE,
    ZB_JBOOL,
    ZB_JINT,
    ZB_JFLOAT,
    ZB_JSTRING,
    ZB_JLIST,
    ZB_JTUPLE,
    ZB_JDICT,
    ZB_JRANGE,
    ZB_JITER, /* a generator: read once                */
    ZB_JVIEW, /* dict.keys(), values(), items()        */
    ZB_JNAMESPACE,
    ZB_JLOOP,
    ZB_JMACRO,
    ZB_JFUNCTION,
    ZB_JMETHOD
} zb_jkind;

typedef struct zb_jval {
    uint8_t kind;
    uint8_t tainted; /* of a number: it comes from the context */
    union {
        int64_t i; /* BOOL, INT, FUNCTION (which)  */
        double f;
        const zb_jstr *s;
        struct zb_jlist *list; /* LIST, TUPLE, ITER, VIEW      */
        struct zb_jdict *dict; /* DICT, NAMESPACE              */
        const struct zb_jrange *range;
        const struct zb_jundefined *undefined; /* or NULL              */
        struct zb_jloop *loop;
        const struct zb_jmacro *macro;
        const struct zb_jbound *bound;
    } u;
} zb_jval;

typedef struct zb_jlist {
    zb_jval *items;
    size_t n;
    size_t pos;            /* ITER: how many were read                         */
    const char *view;      /* VIEW: "dict_items", ...                          */
    struct zb_jroom *room; /* what items lie in: the newest list in it can be added to without a copy */
} zb_jlist;

typedef struct zb_jroom {
    zb_jval *items;
    size_t n, cap;
} zb_jroom;

typedef struct zb_jpair {
    zb_jval key, value;
} zb_jpair;

typedef struct zb_jdict {
    zb_jpair *pairs; /* in order of insertion */
    size_t n, cap;
    uint32_t *slots; /* open hash of 1 + index, or NULL while small */
    size_t n_slots;
} zb_jdict;

typedef struct zb_jrange {
    int64_t start, stop, step;
    size_t n;
} zb_jrange;

/* Why a value is undefined. */
typedef struct zb_jundefined {
    const char *hint;    /* the whole message, or NULL: the name below is undefined     */
    const zb_jstr *name; /* variable or attribute                                       */
    const char *of;      /* kind of the object that lacks the attribute, or NULL        */
} zb_jundefined;

static inline zb_jval zb_jnone(void)
{
    return (zb_jval){.kind = ZB_JNONE};
}
static inline zb_jval zb_jmissing(void)
{
    return (zb_jval){.kind = ZB_JMISSING};
}
static inline zb_jval zb_jbool(int b)
{
    return (zb_jval){.kind = ZB_JBOOL, .u.i = b != 0};
}
static inline zb_jval zb_jint(int64_t i, int tainted)
{
    return (zb_jval){.kind = ZB_JINT, .tainted = tainted != 0, .u.i = i};
}
static inline zb_jval zb_jfloat(double f, int tainted)
{
    return (zb_jval){.kind = ZB_JFLOAT, .tainted = tainted != 0, .u.f = f};
}
static inline zb_jval zb_jstring(const zb_jstr *s)
{
    return (zb_jval){.kind = ZB_JSTRING, .u.s = s};
}
static inline int zb_jis_int(zb_jval v) /* Python's bool is an int */
{
    return v.kind == ZB_JINT || v.kind == ZB_JBOOL;
}
static inline int zb_jis_number(zb_jval v)
{
    return zb_jis_int(v) || v.kind == ZB_JFLOAT;
}
static inline double zb_jto_double(zb_jval v)
{
    return v.kind == ZB_JFLOAT ? v.u.f : (double)v.u.i;
}

zb_jval zb_jundef_hint(zb_jrun *r, const char *hint);
zb_jval zb_jundef_name(zb_jrun *r, const zb_jstr *name);
zb_jval zb_jundef_attr(zb_jrun *r, zb_jval of, const zb_jstr *name);
_Noreturn void zb_jfail_undefined(zb_jrun *r, zb_jval v);
const char *zb_jkind_name(zb_jval v); /* as Python: "str", "NoneType" */

zb_jval zb_jlist_new(zb_jrun *r, zb_jkind kind, size_t n); /* n items to fill in */
zb_jval zb_jlist_concat(zb_jrun *r, zb_jval a, zb_jval b); /* of a's kind       */
void zb_jlist_push(zb_jrun *r, zb_jlist *l, zb_jval v);    /* while nobody else sees it */

zb_jval zb_jdict_new(zb_jrun *r, zb_jkind kind, size_t n_hint);
void zb_jdict_set(zb_jrun *r, zb_jdict *d, zb_jval key, zb_jval value);
const zb_jval *zb_jdict_get(zb_jrun *r, const zb_jdict *d, zb_jval key); /* NULL: not there */
zb_jval zb_jview(zb_jrun *r, const zb_jdict *d, char what);              /* 'k', 'v', 'i' */
void zb_jdict_fill(zb_jrun *r, zb_jdict *d, zb_jval from);               /* dict(from) */

zb_jval zb_jfrom_json(zb_jrun *r, const json_t *json); /* not trusted */

int zb_jtruth(zb_jrun *r, zb_jval v);
int zb_jequal(zb_jrun *r, zb_jval a, zb_jval b);
int zb_jless(zb_jrun *r, zb_jval a, zb_jval b, const char *op); /* a < b; TypeError names op */
int zb_jcontains(zb_jrun *r, zb_jval item, zb_jval in);
size_t zb_jlength(zb_jrun *r, zb_jval v);

/* Walk over the items of any iterable. An iterator is used up by opening it. */
typedef struct zb_jseq {
    const zb_jval *items;
    const zb_jdict *dict;
    const zb_jstr *str;
    const zb_jrange *range;
    size_t n;
    size_t str_index, str_byte; /* of the last character looked up */
} zb_jseq;
int zb_jseq_open(zb_jrun *r, zb_jseq *s, zb_jval v);  /* 0: v is not iterable */
void zb_jseq_need(zb_jrun *r, zb_jseq *s, zb_jval v); /* the same, failing    */
zb_jval zb_jseq_get(zb_jrun *r, zb_jseq *s, size_t i);

/* ---- Text of values (jinja_print.c) ---- */

const zb_jstr *zb_jto_str(zb_jrun *r, zb_jval v);
void zb_jprint(zb_jrun *r, zb_jbuf *b, zb_jval v); /* str(v) appended */
void zb_jprint_repr(zb_jrun *r, zb_jbuf *b, zb_jval v);
typedef struct zb_jjson_style {
    const zb_jstr *indent;     /* one level of it, or NULL: on one line */
    const zb_jstr *item, *key; /* separators */
    int ascii, sorted;
} zb_jjson_style;
void zb_jprint_json(zb_jrun *r, zb_jbuf *b, zb_jval v, const zb_jjson_style *style);
/* Python's repr of a double; how many bytes. */
size_t zb_jfloat_repr(double f, char out[40]);
/* printf("%.*<type>") with a point whatever the locale; type is one of e E f F g G. */
size_t zb_jfloat_print(char *out, size_t n, double f, int precision, char type, int alternate);
int zb_jfloat_parse(const char *text, size_t n, double *out); /* 1: all of it was a number */

/* ---- Formatting (jinja_format.c) ---- */

typedef struct zb_jcall {
    const zb_jval *args;
    size_t n;
    const zb_jpair *named;
    size_t n_named;
} zb_jcall;

const zb_jstr *zb_jformat_percent(zb_jrun *r, const zb_jstr *format, zb_jval args);
const zb_jstr *zb_jformat_braces(zb_jrun *r, const zb_jstr *format, const zb_jcall *call);
const zb_jstr *zb_jformat_now(zb_jrun *r, const zb_jstr *format);

/* ---- What a template can call ---- */

/* Sort the call's arguments into out[] by the names in `params` ("old,new,count"); what was not given is MISSING.
 * `what` names the function in messages; the first n_need must be given. */
void zb_jbind(zb_jrun *r, const zb_jcall *call, const char *what, const char *params, size_t n_need, zb_jval *out);
int64_t zb_jarg_int(zb_jrun *r, zb_jval v, int64_t missing, const char *what);
const zb_jstr *zb_jarg_str(zb_jrun *r, zb_jval v, const char *what);

typedef zb_jval (*zb_jfilter_fn)(zb_jrun *r, zb_jval v, const zb_jcall *call);
typedef int (*zb_jtest_fn)(zb_jrun *r, zb_jval v, const zb_jcall *call);
/* NULL: none of that name. */
zb_jfilter_fn zb_jfilter_find(const zb_jstr *name);
zb_jtest_fn zb_jtest_find(const zb_jstr *name);
/* Rows of the filters over sequences (jinja_filters_seq.c); the last has no name. */
typedef struct zb_jfilter_row {
    const char *name;
    zb_jfilter_fn fn;
} zb_jfilter_row;
extern const zb_jfilter_row zb_jfilters_seq[];
_Noreturn void zb_jfail_filter(zb_jrun *r, const zb_jstr *name);
_Noreturn void zb_jfail_test(zb_jrun *r, const zb_jstr *name);
zb_jval zb_jsplit_lines(zb_jrun *r, const zb_jstr *s, int keep_ends);
const zb_jstr *zb_jreplace(zb_jrun *r, const zb_jstr *s, const zb_jstr *old, const zb_jstr *with, int64_t count);
const zb_jstr *zb_jcenter(zb_jrun *r, const zb_jstr *s, int64_t width, uint32_t fill, int fill_trusted);
/* int(text) of Python; 0: not a number in that base. */
int zb_jparse_int(zb_jrun *r, const zb_jstr *s, int base, int64_t *out);

typedef zb_jval (*zb_jmethod_fn)(zb_jrun *r, zb_jval self, const zb_jcall *call);
typedef struct zb_jmethod {
    const char *name;
    zb_jmethod_fn fn; /* NULL: Python has it, we do not */
} zb_jmethod;
typedef struct zb_jbound {
    zb_jval self;
    const zb_jmethod *method;
} zb_jbound;
/* The attribute of a value that is not an item of it: method or property. MISSING: none. */
zb_jval zb_jattribute(zb_jrun *r, zb_jval v, const zb_jstr *name);
/* obj.name and obj[key], with Jinja's order of looking; undefined if not there. */
zb_jval zb_jget_attr(zb_jrun *r, zb_jval obj, const zb_jstr *name);
zb_jval zb_jget_item(zb_jrun *r, zb_jval obj, zb_jval key);
zb_jval zb_jget_slice(zb_jrun *r, zb_jval obj, zb_jval from, zb_jval to, zb_jval step);

/* Operators: one of + - * / f(loordiv) % p(ow). */
zb_jval zb_jbinary(zb_jrun *r, char op, zb_jval a, zb_jval b);

zb_jval zb_jcall_value(zb_jrun *r, zb_jval callee, const zb_jcall *call);
zb_jval zb_jcall_macro(zb_jrun *r, const struct zb_jmacro *m, const zb_jcall *call);
/* A global function by name, or MISSING. */
zb_jval zb_jglobal(const zb_jstr *name);
zb_jval zb_jglobal_call(zb_jrun *r, zb_jval fn, const zb_jcall *call);
zb_jval zb_jloop_attribute(zb_jrun *r, struct zb_jloop *l, const zb_jstr *name);

#endif

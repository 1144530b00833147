/* tb_events.c — see tb_events.h. A file is a row of TFRecords: u64 length, crc of the length, data, crc of the data;
 * the data are protocol buffers, of which an event needs few fields, so they are put together by hand:
 *   Event    1 wall_time f64, 2 step, 3 file_version, 5 Summary, 7 SessionLog {1 status}
 *   Summary  1 Value {1 tag, 2 simple_value f32, 8 TensorProto {1 dtype, 2 shape {2 dim {1 size}}, 8 string_val},
 *                     9 SummaryMetadata {1 plugin_data {1 plugin_name}, 4 data_class}}                            */
#include "tb_events.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };
enum { DTYPE_STRING = 7, CLASS_TENSOR = 2, SESSION_START = 1 };

/* A message that grows. */
typedef struct message {
    unsigned char *data;
    size_t n, room;
    bool failed;
} message;

struct tb_events {
    FILE *f;
    uint32_t crc_table[256];
};

static void put(message *m, const void *data, size_t n)
{
    if (n == 0)
        return;
    if (m->n + n > m->room) {
        const size_t room = 2 * m->room + n + 256;
        unsigned char *larger = realloc(m->data, room);
        m->failed |= !larger;
        if (!larger)
            return;
        m->data = larger;
        m->room = room;
    }
    memcpy(m->data + m->n, data, n);
    m->n += n;
}

static void put_varint(message *m, uint64_t x)
{
    do {
        const unsigned char byte = (unsigned char)((x & 0x7F) | (x > 0x7F ? 0x80 : 0));
        put(m, &byte, 1);
        x >>= 7;
    } while (x);
}

static void put_key(message *m, unsigned field, unsigned wire)
{
    put_varint(m, field << 3 | wire);
}

static void little(unsigned char *out, uint64_t x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (unsigned char)(x >> 8 * i);
}

static void put_number(message *m, unsigned field, uint64_t x)
{
    put_key(m, field, WIRE_VARINT);
    put_varint(m, x);
}

static void put_double(message *m, unsigned field, double x)
{
    unsigned char bytes[8];
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    little(bytes, bits, 8);
    put_key(m, field, WIRE_64);
    put(m, bytes, 8);
}

static void put_float(message *m, unsigned field, float x)
{
    unsigned char bytes[4];
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    little(bytes, bits, 4);
    put_key(m, field, WIRE_32);
    put(m, bytes, 4);
}

static void put_bytes(message *m, unsigned field, const void *data, size_t n)
{
    put_key(m, field, WIRE_BYTES);
    put_varint(m, n);
    put(m, data, n);
}

static void put_text(message *m, unsigned field, const char *text)
{
    put_bytes(m, field, text, strlen(text));
}

/* Put a message into another one; it is empty afterwards. */
static void put_message(message *m, unsigned field, message *inner)
{
    m->failed |= inner->failed;
    put_bytes(m, field, inner->data, inner->n);
    free(inner->data);
    *inner = (message){0};
}

/* CRC-32C (Castagnoli). */
static uint32_t crc_of(const tb_events *t, const unsigned char *data, size_t n)
{
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < n; i++)
        crc = t->crc_table[(crc ^ data[i]) & 0xFF] ^ crc >> 8;
    return ~crc;
}

static uint32_t masked(uint32_t crc)
{
    return (crc >> 15 | crc << 17) + 0xA282EAD8;
}

static bool write_record(tb_events *t, message *m)
{
    unsigned char head[12], tail[4];
    little(head, m->n, 8);
    little(head + 8, masked(crc_of(t, head, 8)), 4);
    little(tail, masked(crc_of(t, m->data, m->n)), 4);
    const bool ok = !m->failed && fwrite(head, 1, 12, t->f) == 12 && fwrite(m->data, 1, m->n, t->f) == m->n &&
                    fwrite(tail, 1, 4, t->f) == 4 && fflush(t->f) == 0;
    free(m->data);
    *m = (message){0};
    return ok;
}

static message event(int64_t step)
{
    struct timespec now;
    message m = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    put_double(&m, 1, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
    put_number(&m, 2, (uint64_t)step);
    return m;
}

tb_events *tb_events_open(const char *folder, int64_t resume_step)
{
    char path[PATH_MAX];
    tb_events *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? 0x82F63B78 ^ crc >> 1 : crc >> 1;
        t->crc_table[i] = crc;
    }
    /* TensorBoard reads the files of a folder in the order of their names. */
    const int n = snprintf(path, sizeof path, "%s/events.out.tfevents.%010lld.zamba.%ld", folder, (long long)time(NULL),
                           (long)getpid());
    if ((size_t)n < sizeof path)
        t->f = fopen(path, "ae");
    else
        errno = ENAMETOOLONG;
    if (!t->f) {
        free(t);
        return NULL;
    }
    message m = event(0);
    put_text(&m, 3, "brain.Event:2");
    bool ok = write_record(t, &m);
    if (ok && resume_step >= 0) {
        message log = {0};
        put_number(&log, 1, SESSION_START);
        m = event(resume_step + 1);
        put_message(&m, 7, &log);
        ok = write_record(t, &m);
    }
    if (!ok) {
        const int error = errno;
        fclose(t->f);
        free(t);
        errno = error;
        return NULL;
    }
    return t;
}

bool tb_events_scalars(tb_events *t, int64_t step, const tb_scalar *scalars, size_t n)
{
    message m = event(step), summary = {0};
    for (size_t i = 0; i < n; i++) {
        message value = {0};
        if (isnan(scalars[i].value))
            continue;
        put_text(&value, 1, scalars[i].tag);
        put_float(&value, 2, (float)scalars[i].value);
        put_message(&summary, 1, &value);
    }
    put_message(&m, 5, &summary);
    return write_record(t, &m);
}

bool tb_events_text(tb_events *t, int64_t step, const char *tag, const char *text)
{
    char name[256];
    message m = event(step), summary = {0}, value = {0}, tensor = {0}, shape = {0}, dim = {0}, meta = {0}, plugin = {0};
    snprintf(name, sizeof name, "%s/text_summary", tag);
    put_number(&dim, 1, 1);
    put_message(&shape, 2, &dim);
    put_number(&tensor, 1, DTYPE_STRING);
    put_message(&tensor, 2, &shape);
    put_text(&tensor, 8, text);
    put_text(&plugin, 1, "text");
    put_message(&meta, 1, &plugin);
    put_number(&meta, 4, CLASS_TENSOR);
    put_text(&value, 1, name);
    put_message(&value, 8, &tensor);
    put_message(&value, 9, &meta);
    put_message(&summary, 1, &value);
    put_message(&m, 5, &summary);
    return write_record(t, &m);
}

bool tb_events_close(tb_events *t)
{
    const bool ok = !t || fclose(t->f) == 0;
    free(t);
    return ok;
}

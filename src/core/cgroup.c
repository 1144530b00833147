/* cgroup.c — control groups of Linux, versions 1 and 2. Whatever is absent or unreadable sets no limit. */
#include "core/cgroup.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int zb_system_read(zb_system_text *t, const char *root, const char *path)
{
    char full[2048];
    size_t n = 0;
    ssize_t got = 0;
    if ((size_t)snprintf(full, sizeof full, "%s%s", root, path) >= sizeof full)
        return 0;
    const int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    while (n + 1 < sizeof t->s && (got = read(fd, t->s + n, sizeof t->s - 1 - n)) > 0)
        n += (size_t)got;
    close(fd);
    t->s[n] = '\0';
    return got >= 0;
}

uint64_t zb_system_number(const zb_system_text *t, const char *key, uint64_t unit)
{
    const size_t n = strlen(key);
    for (const char *line = t->s; line != NULL && *line != '\0'; line = strchr(line, '\n'), line += line != NULL)
        if (strncmp(line, key, n) == 0) {
            char *end;
            const unsigned long long v = strtoull(line + n, &end, 10);
            if (end != line + n && line[n] != '-')
                return v < ZB_NO_LIMIT / unit ? v * unit : ZB_NO_LIMIT;
        }
    return ZB_NO_LIMIT;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A group and all above it, up to the mount; a container sees its own group there. */
static uint64_t least_of_levels(const char *root, const char *mount, const char *group, int version,
                                zb_cgroup_level level)
{
    char folder[768];
    uint64_t left = ZB_NO_LIMIT;
    if ((size_t)snprintf(folder, sizeof folder, "%s%s", mount, group) >= sizeof folder)
        return ZB_NO_LIMIT;
    for (;;) {
        left = least(left, level(root, folder, version));
        char *slash = strrchr(folder, '/');
        if (slash == NULL || (size_t)(slash - folder) < strlen(mount))
            return left;
        *slash = '\0';
    }
}

/* Is `name` one of the n characters at `names`, with commas between? */
static int has_name(const char *names, size_t n, const char *name)
{
    const size_t wanted = strlen(name);
    for (size_t at = 0, end; at < n; at = end + 1) {
        for (end = at; end < n && names[end] != ',';)
            end++;
        if (end - at == wanted && strncmp(names + at, name, wanted) == 0)
            return 1;
    }
    return 0;
}

uint64_t zb_cgroup_least(const char *root, const char *controller, zb_cgroup_level level)
{
    zb_system_text t;
    char mount[64];
    uint64_t left = ZB_NO_LIMIT;
    snprintf(mount, sizeof mount, "/sys/fs/cgroup/%s", controller);
    if (!zb_system_read(&t, root, "/proc/self/cgroup"))
        return ZB_NO_LIMIT;
    /* lines "number:controllers:/group"; version 2 has number 0 and no controllers */
    for (char *line = t.s, *next; line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        const char *names = strchr(line, ':'), *group = names == NULL ? NULL : strchr(names + 1, ':');
        if (group == NULL)
            continue;
        const size_t n = (size_t)(group - names) - 1;
        if (n == 0 && names == line + 1 && line[0] == '0')
            left = least(left, least_of_levels(root, "/sys/fs/cgroup", group + 1, 2, level));
        else if (has_name(names + 1, n, controller))
            left = least(left, least_of_levels(root, mount, group + 1, 1, level));
    }
    return left;
}

/* "cpu.max" of version 2 holds quota and period in one line, "max 100000" without a quota; version 1 has a file for
 * each, and -1 for none. */
static uint64_t cores_of_level(const char *root, const char *folder, int version)
{
    char path[1024];
    zb_system_text t;
    uint64_t quota = ZB_NO_LIMIT, period = ZB_NO_LIMIT;
    snprintf(path, sizeof path, "%s/%s", folder, version == 2 ? "cpu.max" : "cpu.cfs_quota_us");
    if (zb_system_read(&t, root, path)) {
        quota = zb_system_number(&t, "", 1);
        const char *second = strchr(t.s, ' ');
        if (version == 2 && second != NULL)
            period = strtoull(second, NULL, 10);
    }
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    if (version == 1 && zb_system_read(&t, root, path))
        period = zb_system_number(&t, "", 1);
    if (quota == ZB_NO_LIMIT || quota == 0 || period == ZB_NO_LIMIT || period == 0)
        return ZB_NO_LIMIT;
    return quota / period + (quota % period != 0);
}

uint64_t zb_cgroup_cores(const char *root)
{
    return zb_cgroup_least(root, "cpu", cores_of_level);
}

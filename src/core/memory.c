/* memory.c — reads meminfo, control groups and resource limits. Whatever is absent or unreadable sets no limit. */
#include "core/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define NONE UINT64_MAX

typedef struct text {
    char s[8192];
} text;

/* The start of a file, as much as fits; 0 if there is none. */
static int read_text(text *t, const char *root, const char *path)
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

/* The number behind `key` at the beginning of a line, times `unit`; NONE if there is none. */
static uint64_t number_of(const text *t, const char *key, uint64_t unit)
{
    const size_t n = strlen(key);
    for (const char *line = t->s; line != NULL && *line != '\0'; line = strchr(line, '\n'), line += line != NULL)
        if (strncmp(line, key, n) == 0) {
            char *end;
            const unsigned long long v = strtoull(line + n, &end, 10);
            if (end != line + n && line[n] != '-')
                return v < NONE / unit ? v * unit : NONE;
        }
    return NONE;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What one level of a control group leaves: limit - used + file pages. */
static uint64_t left_in_group(const char *root, const char *folder, int version)
{
    static const char *const limits[2] = {"memory.limit_in_bytes", "memory.max"};
    static const char *const uses[2] = {"memory.usage_in_bytes", "memory.current"};
    static const char *const pages[2][2] = {{"total_inactive_file ", "total_active_file "},
                                            {"inactive_file ", "active_file "}};
    char path[1024];
    text t;
    uint64_t limit = NONE, used = 0, files = 0;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, limits[version - 1]) < sizeof path &&
        read_text(&t, root, path))
        limit = number_of(&t, "", 1); /* "max" is no number: no limit */
    if (limit >= (uint64_t)1 << 60)   /* version 1 writes "no limit" as a huge number */
        return NONE;
    snprintf(path, sizeof path, "%s/%s", folder, uses[version - 1]);
    if (read_text(&t, root, path))
        used = number_of(&t, "", 1);
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    if (read_text(&t, root, path))
        for (int i = 0; i < 2; i++) {
            const uint64_t n = number_of(&t, pages[version - 1][i], 1);
            files += n == NONE ? 0 : n;
        }
    used = used == NONE ? 0 : used;
    used -= least(files, used);
    return limit - least(used, limit);
}

/* A group and all above it, up to the mount; a container sees its own group there. */
static uint64_t left_in_groups(const char *root, const char *mount, const char *group, size_t n_group, int version)
{
    char folder[768];
    uint64_t left = NONE;
    if ((size_t)snprintf(folder, sizeof folder, "%s%.*s", mount, (int)n_group, group) >= sizeof folder)
        return NONE;
    for (;;) {
        left = least(left, left_in_group(root, folder, version));
        char *slash = strrchr(folder, '/');
        if (slash == NULL || (size_t)(slash - folder) < strlen(mount))
            return left;
        *slash = '\0';
    }
}

static uint64_t left_in_control_groups(const char *root)
{
    text t;
    uint64_t left = NONE;
    if (!read_text(&t, root, "/proc/self/cgroup"))
        return NONE;
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
            left = least(left, left_in_groups(root, "/sys/fs/cgroup", group + 1, strlen(group + 1), 2));
        else if (n == 6 && strncmp(names + 1, "memory", 6) == 0)
            left = least(left, left_in_groups(root, "/sys/fs/cgroup/memory", group + 1, strlen(group + 1), 1));
    }
    return left;
}

uint64_t zb_memory_available_in(const char *root)
{
    text t;
    uint64_t left = NONE;
    if (read_text(&t, root, "/proc/meminfo"))
        left = number_of(&t, "MemAvailable:", 1024);
    return least(left, left_in_control_groups(root));
}

/* What a resource limit leaves beside what /proc/self/status says is used of it. */
static uint64_t left_of_limit(int resource, const text *status, const char *key)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return NONE;
    uint64_t used = number_of(status, key, 1024);
    used = used == NONE ? 0 : used;
    return (uint64_t)limit.rlim_cur - least(used, (uint64_t)limit.rlim_cur);
}

uint64_t zb_memory_available(void)
{
    text status;
    if (!read_text(&status, "", "/proc/self/status"))
        status.s[0] = '\0';
    uint64_t left = zb_memory_available_in("");
    left = least(left, left_of_limit(RLIMIT_AS, &status, "VmSize:"));
    return least(left, left_of_limit(RLIMIT_DATA, &status, "VmData:"));
}

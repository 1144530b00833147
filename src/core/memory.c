/* memory.c — reads meminfo, control groups and resource limits. Whatever is absent or unreadable sets no limit. */
#include "core/memory.h"

#include <stdio.h>
#include <sys/resource.h>

#include "core/cgroup.h"

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
    zb_system_text t;
    uint64_t limit = ZB_NO_LIMIT, used = 0, files = 0;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, limits[version - 1]) < sizeof path &&
        zb_system_read(&t, root, path))
        limit = zb_system_number(&t, "", 1); /* "max" is no number: no limit */
    if (limit >= (uint64_t)1 << 60)          /* version 1 writes "no limit" as a huge number */
        return ZB_NO_LIMIT;
    snprintf(path, sizeof path, "%s/%s", folder, uses[version - 1]);
    if (zb_system_read(&t, root, path))
        used = zb_system_number(&t, "", 1);
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    if (zb_system_read(&t, root, path))
        for (int i = 0; i < 2; i++) {
            const uint64_t n = zb_system_number(&t, pages[version - 1][i], 1);
            files += n == ZB_NO_LIMIT ? 0 : n;
        }
    used = used == ZB_NO_LIMIT ? 0 : used;
    used -= least(files, used);
    return limit - least(used, limit);
}

uint64_t zb_memory_available_in(const char *root)
{
    zb_system_text t;
    uint64_t left = ZB_NO_LIMIT;
    if (zb_system_read(&t, root, "/proc/meminfo"))
        left = zb_system_number(&t, "MemAvailable:", 1024);
    return least(left, zb_cgroup_least(root, "memory", left_in_group));
}

/* What a resource limit leaves beside what /proc/self/status says is used of it. */
static uint64_t left_of_limit(int resource, const zb_system_text *status, const char *key)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return ZB_NO_LIMIT;
    uint64_t used = zb_system_number(status, key, 1024);
    used = used == ZB_NO_LIMIT ? 0 : used;
    return (uint64_t)limit.rlim_cur - least(used, (uint64_t)limit.rlim_cur);
}

uint64_t zb_memory_available(void)
{
    zb_system_text status;
    if (!zb_system_read(&status, "", "/proc/self/status"))
        status.s[0] = '\0';
    uint64_t left = zb_memory_available_in("");
    left = least(left, left_of_limit(RLIMIT_AS, &status, "VmSize:"));
    return least(left, left_of_limit(RLIMIT_DATA, &status, "VmData:"));
}

/* How much memory and processor time there is: what system files, control groups and resource limits say.
 * core/{memory,cgroup}.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cgroup.h"
#include "core/memory.h"
#include "support/scratch.h"

#define KB 1024u

static scratch root;

/* Write root/path, folders too. */
static void put(const char *path, const char *text)
{
    char full[1024];
    assert_true((size_t)snprintf(full, sizeof full, "%s/%s", root.path, path) < sizeof full);
    for (char *p = full + strlen(root.path) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        mkdir(full, 0700);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static uint64_t available(void)
{
    return zb_memory_available_in(root.path);
}

static void test_meminfo(void **state)
{
    (void)state;
    scratch_open(&root);
    assert_true(available() == UINT64_MAX); /* nothing can be told */
    put("proc/meminfo", "MemTotal:       32000 kB\nMemFree:  1 kB\nMemAvailable:   12345 kB\nBuffers: 7 kB\n");
    assert_true(available() == 12345u * KB);
    put("proc/meminfo", "MemAvailable:\n");
    assert_true(available() == UINT64_MAX);
    put("proc/meminfo", "MemAvailable: -5 kB\n");
    assert_true(available() == UINT64_MAX);
    put("proc/meminfo", "MemAvailable: 99999999999999999999999999 kB\n");
    assert_true(available() == UINT64_MAX);
    put("proc/meminfo", "");
    assert_true(available() == UINT64_MAX);
    scratch_close(&root);
}

/* Quotas of processor time, as containers have them: rounded up to cores; the tightest level counts. */
static void test_cores(void **state)
{
    (void)state;
    scratch_open(&root);
    assert_true(zb_cgroup_cores(root.path) == ZB_NO_LIMIT);
    put("proc/self/cgroup", "0::/a/b\n");
    assert_true(zb_cgroup_cores(root.path) == ZB_NO_LIMIT);
    put("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    assert_true(zb_cgroup_cores(root.path) == ZB_NO_LIMIT);
    put("sys/fs/cgroup/a/b/cpu.max", "250000 100000\n");
    assert_true(zb_cgroup_cores(root.path) == 3);
    put("sys/fs/cgroup/a/cpu.max", "200000 100000\n");
    assert_true(zb_cgroup_cores(root.path) == 2);
    put("sys/fs/cgroup/cpu.max", "1000 100000\n");
    assert_true(zb_cgroup_cores(root.path) == 1);
    const char *const odd[] = {"", "\n", "100000", "100000 0\n", "0 100000\n", "-5 100000\n", "x y\n", "100000 x\n"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        put("sys/fs/cgroup/cpu.max", odd[i]);
        assert_true(zb_cgroup_cores(root.path) == 2); /* as if it were not there */
    }
    put("proc/self/cgroup", "7:cpuset:/x\n4:cpu,cpuacct:/c\n");
    put("sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000\n");
    put("sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "-1\n");
    assert_true(zb_cgroup_cores(root.path) == ZB_NO_LIMIT);
    put("sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "400000\n");
    assert_true(zb_cgroup_cores(root.path) == 4);
    scratch_close(&root);
}

static void test_version_2(void **state)
{
    (void)state;
    scratch_open(&root);
    put("proc/meminfo", "MemAvailable: 1000000 kB\n");
    put("proc/self/cgroup", "0::/a/b\n");
    assert_true(available() == 1000000u * KB); /* a group that is not there */
    put("sys/fs/cgroup/a/b/memory.max", "max\n");
    assert_true(available() == 1000000u * KB);
    put("sys/fs/cgroup/a/b/memory.max", "5000000\n");
    assert_true(available() == 5000000);
    put("sys/fs/cgroup/a/b/memory.current", "2000000\n");
    assert_true(available() == 3000000);
    /* file pages can go */
    put("sys/fs/cgroup/a/b/memory.stat", "anon 1500000\nfile 9\ninactive_file 300000\nactive_file 50000\n");
    assert_true(available() == 3350000);
    put("sys/fs/cgroup/a/b/memory.stat", "inactive_file 300000000\nactive_file 1\n");
    assert_true(available() == 5000000);
    put("sys/fs/cgroup/a/b/memory.current", "6000000\n"); /* more than the limit */
    put("sys/fs/cgroup/a/b/memory.stat", "");
    assert_true(available() == 0);
    /* the group above, and the mount itself, as a container sees its own */
    put("sys/fs/cgroup/a/b/memory.current", "0\n");
    put("sys/fs/cgroup/a/memory.max", "4000000\n");
    assert_true(available() == 4000000);
    put("sys/fs/cgroup/memory.max", "3000000\n");
    put("sys/fs/cgroup/memory.current", "1000000\n");
    assert_true(available() == 2000000);
    put("proc/self/cgroup", "0::/\n");
    assert_true(available() == 2000000);
    scratch_close(&root);
}

static void test_version_1(void **state)
{
    (void)state;
    scratch_open(&root);
    put("proc/meminfo", "MemAvailable: 1000000 kB\n");
    put("proc/self/cgroup", "12:cpu,cpuacct:/x\n5:memory:/docker/abc\n1:name=systemd:/x\n0::/x\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* how it says "none" */
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "123\n");
    assert_true(available() == 1000000u * KB);
    put("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "7000000\n");
    put("sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "1000000\n");
    put("sys/fs/cgroup/memory/docker/abc/memory.stat",
        "inactive_file 5\nactive_file 5\ntotal_inactive_file 200000\ntotal_active_file 100000\n");
    assert_true(available() == 6300000);
    scratch_close(&root);
}

static void test_odd_groups(void **state)
{
    (void)state;
    static const char *const odd[] = {"",       "\n\n",      "0:",        "0::",          "0::nothing", "::::",
                                      "memory", "0::/../..", "5:memory:", "5:memorys:/a", "00::/",      "0:x:/"};
    scratch_open(&root);
    put("proc/meminfo", "MemAvailable: 1000 kB\n");
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        put("proc/self/cgroup", odd[i]);
        assert_true(available() == 1000u * KB);
    }
    char *path = malloc(5001);
    assert_non_null(path);
    memcpy(path, "0::/", 4);
    memset(path + 4, 'a', 4996);
    path[5000] = '\0';
    put("proc/self/cgroup", path);
    assert_true(available() == 1000u * KB);
    free(path);
    scratch_close(&root);
}

static void limited(void *arg)
{
    const struct rlimit *limit = arg;
    const int resource = limit->rlim_max == 1 ? RLIMIT_AS : RLIMIT_DATA;
    if (setrlimit(resource, &(struct rlimit){limit->rlim_cur, limit->rlim_cur}) != 0)
        _exit(2);
    struct rlimit now;
    if (getrlimit(resource, &now) != 0 || now.rlim_cur != limit->rlim_cur)
        _exit(0); /* an emulator that only pretends */
    const uint64_t left = zb_memory_available();
    _exit(left > 0 && left < limit->rlim_cur ? 0 : 1);
}

static void test_this_process(void **state)
{
    (void)state;
    const uint64_t now = zb_memory_available();
    assert_true(now > 0);
    if (SANITIZED)
        return; /* a sanitizer has taken all addresses already */
    for (rlim_t which = 1; which <= 2; which++) {
        struct rlimit limit = {(rlim_t)300 << 20, which};
        const pid_t child = fork();
        int status;
        assert_true(child >= 0);
        if (child == 0)
            limited(&limit);
        assert_true(waitpid(child, &status, 0) == child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cores),     cmocka_unit_test(test_meminfo),    cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_version_1), cmocka_unit_test(test_odd_groups), cmocka_unit_test(test_this_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

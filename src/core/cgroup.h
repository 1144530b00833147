/* cgroup.h — the control groups of this process, and the small text files in which Linux tells its limits. Knows the
 * files' form, not what they limit. */
#ifndef ZB_CGROUP_H
#define ZB_CGROUP_H

#include <stddef.h>
#include <stdint.h>

#define ZB_NO_LIMIT UINT64_MAX

typedef struct zb_system_text {
    char s[8192];
} zb_system_text;

/* The start of root/path, as much as fits; 0 if there is none. */
int zb_system_read(zb_system_text *t, const char *root, const char *path);

/* The number behind `key` at the beginning of a line, times `unit`; ZB_NO_LIMIT if there is none. */
uint64_t zb_system_number(const zb_system_text *t, const char *key, uint64_t unit);

/* What one level of a group leaves, files being at root/folder. */
typedef uint64_t (*zb_cgroup_level)(const char *root, const char *folder, int version);

/* The least of what the groups of this process leave, each and all above it up to the mount, in version 2 and in
 * version 1 under `controller` ("memory"). ZB_NO_LIMIT where there is none. */
uint64_t zb_cgroup_least(const char *root, const char *controller, zb_cgroup_level level);

/* Cores of processor time that the groups allow, rounded up; ZB_NO_LIMIT where they do not. Read below `root` ("" is
 * the system). */
uint64_t zb_cgroup_cores(const char *root);

#endif

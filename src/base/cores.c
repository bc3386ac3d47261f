#include "base/cores.h"

#include "base/pool.h"

#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 2048, LINE_BYTES = 1024 };

/* The first line of root + folder + group + "/" + name, without its end. */
static bool read_line(char line[LINE_BYTES], const char *root, const char *folder, const char *group, const char *name)
{
    char path[PATH_BYTES];
    const int length = snprintf(path, sizeof path, "%s%s%s/%s", root, folder, group, name);
    if (length < 0 || (size_t)length >= sizeof path)
        return false;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    const bool read = fgets(line, LINE_BYTES, file) != NULL;
    fclose(file);
    if (read)
        line[strcspn(line, "\n")] = '\0';
    return read;
}

/* Two whole numbers as cores; 0 unless both are above 0. */
static double ratio(const char *quota, const char *period)
{
    char *end = NULL;
    const long long have = strtoll(quota, &end, 10);
    if (end == quota || (*end != '\0' && *end != ' ') || have <= 0)
        return 0.0;
    const long long of = strtoll(period, &end, 10);
    if (end == period || *end != '\0' || of <= 0)
        return 0.0;
    return (double)have / (double)of;
}

/* Of one group: cpu.max is "max 100000" or "150000 100000". */
static double quota_v2(const char *root, const char *folder, const char *group)
{
    char line[LINE_BYTES];
    if (!read_line(line, root, folder, group, "cpu.max"))
        return 0.0;
    const char *space = strchr(line, ' ');
    return space == NULL ? 0.0 : ratio(line, space + 1);
}

/* cpu.cfs_quota_us is -1 where there is no limit. */
static double quota_v1(const char *root, const char *folder, const char *group)
{
    char quota[LINE_BYTES], period[LINE_BYTES];
    if (!read_line(quota, root, folder, group, "cpu.cfs_quota_us") ||
        !read_line(period, root, folder, group, "cpu.cfs_period_us"))
        return 0.0;
    return ratio(quota, period);
}

static double smaller(double a, double b) { return a == 0.0 || (b > 0.0 && b < a) ? b : a; }

/* Of the group and all above it. Inside a container the path is often that of the host, of which only the end is
 * mounted here: groups that are not there have no say. */
static double quota_upwards(const char *root, const char *folder, const char *group,
                            double (*quota_of)(const char *, const char *, const char *))
{
    char path[LINE_BYTES];
    double least = 0.0;
    snprintf(path, sizeof path, "%s", group);
    for (;;) {
        char *last = strrchr(path, '/');
        if (last != NULL && last[1] == '\0') /* "/" is the empty path below the folder */
            *last = '\0';
        least = smaller(least, quota_of(root, folder, path));
        last = strrchr(path, '/');
        if (last == NULL)
            return least;
        *last = '\0';
    }
}

/* Whether name is one of the controllers in a list with commas. */
static bool lists(const char *controllers, const char *name)
{
    const size_t length = strlen(name);
    for (const char *at = controllers; *at != '\0'; at += strspn(at, ",")) {
        const size_t here = strcspn(at, ",");
        if (here == length && memcmp(at, name, length) == 0)
            return true;
        at += here;
    }
    return false;
}

/* Lines are "0::/group" of version 2 and "4:cpu,cpuacct:/group" of version 1. */
double cores_quota(const char *root)
{
    static const char *const v2[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    static const char *const v1[] = {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpuacct,cpu"};
    char path[PATH_BYTES], line[LINE_BYTES];
    double least = 0.0;
    const int length = snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (length < 0 || (size_t)length >= sizeof path)
        return 0.0;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0.0;
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (group == NULL)
            continue;
        controllers++;
        *group++ = '\0';
        if (*controllers == '\0')
            for (size_t i = 0; i < sizeof v2 / sizeof *v2; i++)
                least = smaller(least, quota_upwards(root, v2[i], group, quota_v2));
        else if (lists(controllers, "cpu"))
            for (size_t i = 0; i < sizeof v1 / sizeof *v1; i++)
                least = smaller(least, quota_upwards(root, v1[i], group, quota_v1));
    }
    fclose(file);
    return least;
}

void cores_find(struct cores *cores)
{
    cpu_set_t set;
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    cores->online = online < 1 ? 1 : online > 1 << 20 ? 1 << 20 : (int)online;
    cores->affinity = cores->online; /* a machine with more cores than a cpu_set_t has */
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        cores->affinity = CPU_COUNT(&set);
    cores->quota = cores_quota("");
    cores->usable = cores->affinity;
    if (cores->quota > 0.0 && cores->quota < (double)cores->usable)
        cores->usable = (int)ceil(cores->quota);
    if (cores->usable > POOL_MAX_THREADS)
        cores->usable = POOL_MAX_THREADS;
}

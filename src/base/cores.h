/* How many cores this process may use: the machine's, cut down by affinity and by the CPU quota of its control
 * group. */
#ifndef COHORT_BASE_CORES_H
#define COHORT_BASE_CORES_H

struct cores {
    int online;   /* of the machine */
    int affinity; /* of those, the ones that the affinity mask (taskset, cpuset) allows */
    double quota; /* cores' worth of time that the control group has; 0: no limit */
    int usable;   /* what to start threads for: the quota rounded up, 1 to POOL_MAX_THREADS */
};

void cores_find(struct cores *cores);

/* The smallest quota of the control group in root/proc/self/cgroup and the groups above it, in cores; 0: none. Version
 * 2 (cpu.max) and 1 (cpu.cfs_quota_us). root: "" or, for tests, a folder that holds the files. */
double cores_quota(const char *root);

#endif

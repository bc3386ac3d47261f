/* Races and stray accesses of kernels, found by instrumenting them: they are compiled with -fsanitize=thread, whose
 * calls before every access end here (no sanitizer is linked).
 *
 * Two accesses of different threads to the same bytes, one of them a write, must be ordered: within a block by a
 * barrier, within a warp also by a __syncwarp of all lanes (a shuffle orders no memory); between blocks by the writer's
 * __threadfence and atomic operation and an atomic operation of the other block. Asynchronous copies write from their
 * issue to their wait. Memory that is neither device memory, shared memory nor the thread's own must not be touched at
 * all.
 *
 * Bytes are watched in pairs; of the reads of a pair the last is remembered, and whether there were others since. Every
 * pair of places in the code is told once; the process then ends with status 1. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

/* After the standard headers: it defines words that they use in attributes. */
#include "emulation_state.h"

/* Of the program: constants lie between the first two, static shared variables between the others. */
extern "C" char __executable_start, __data_start, _end;

namespace
{
constexpr int16_t several = -2;

struct access {
    uint64_t serial; /* of the block; 0: none */
    uint64_t clock;
    uint32_t barriers, warp_syncs;
    int16_t thread, warp; /* or several */
    const void *pc;
};
struct cell {
    uint64_t launch;
    access write, read, foreign; /* foreign: a read of another block than the last's */
};
constexpr uintptr_t shadow_page = 4096;
struct shadow {
    cell cells[shadow_page / 2];
};

struct block_state {
    uint64_t fenced, released; /* clock of the last fence; of the last fence an atomic followed */
    bool acquired;             /* an atomic operation was done */
};

struct checker {
    std::unordered_map<uintptr_t, std::unique_ptr<shadow>> pages;
    uintptr_t last_page = 1;
    shadow *last = NULL;
    uint64_t clock = 0, launch = 0;
    std::unordered_map<uint64_t, block_state> blocks; /* of this launch, by serial */
    std::set<std::pair<const void *, const void *>> told;
    int found = 0;

    ~checker()
    {
        if (found == 0)
            return;
        fprintf(stderr, "cuda emulation: %d races or stray accesses\n", found);
        fflush(NULL);
        _exit(1);
    }
} C;

/* file:line of a place in the code. */
std::string place(const void *pc)
{
    Dl_info info;
    char command[600], line[400] = "";
    if (!dladdr(pc, &info))
        return "?";
    snprintf(command, sizeof command, "addr2line -i -e '%s' %#zx 2>/dev/null", info.dli_fname,
             (size_t)((const char *)pc - (const char *)info.dli_fbase) - 1);
    std::string all;
    FILE *pipe = popen(command, "r");
    while (pipe && fgets(line, sizeof line, pipe)) {
        const char *slash = strrchr(line, '/');
        all += (all.empty() ? "" : " < ") + std::string(slash ? slash + 1 : line);
        all.erase(all.find_last_not_of('\n') + 1);
    }
    if (pipe)
        pclose(pipe);
    return all;
}

void tell(const char *what, const void *p, const void *pc, const access *other)
{
    C.found++;
    if (!C.told.insert({pc, other ? other->pc : NULL}).second)
        return;
    fprintf(stderr, "cuda emulation: kernel %s, block (%u, %u, %u), thread %d: %s %p at %s", emulated_now.kernel->name,
            blockIdx.x, blockIdx.y, blockIdx.z, emulated_now.thread, what, p, place(pc).c_str());
    if (other)
        fprintf(stderr, "; thread %d%s at %s", other->thread,
                other->serial == emulated_now.serial ? "" : " of another block", place(other->pc).c_str());
    fprintf(stderr, "\n");
}

/* Whether what was done before is ordered before what the current thread does. */
bool ordered(const access &a, bool global)
{
    if (a.serial == 0)
        return true;
    int warp = emulated_now.thread / 32;
    if (a.serial == emulated_now.serial)
        return a.thread == emulated_now.thread || a.barriers != emulated_now.barriers ||
               (a.warp == warp && a.warp_syncs != emulated_now.warp_syncs[warp]);
    return !global || (C.blocks[emulated_now.serial].acquired && a.clock <= C.blocks[a.serial].released);
}

void note(access &a, const void *pc)
{
    int warp = emulated_now.thread / 32;
    a.serial = emulated_now.serial;
    a.clock = C.clock;
    a.barriers = emulated_now.barriers;
    a.warp_syncs = emulated_now.warp_syncs[warp];
    a.thread = (int16_t)emulated_now.thread;
    a.warp = (int16_t)warp;
    a.pc = pc;
}

void check(cell &c, const void *p, bool write, bool global, const void *pc)
{
    if (c.launch != emulated_now.launch ||
        (!global && c.write.serial != emulated_now.serial && c.read.serial != emulated_now.serial))
        c = cell{};
    c.launch = emulated_now.launch;
    if (!ordered(c.write, global))
        tell(write ? "two writes without order to" : "a read not ordered behind the write of", p, pc, &c.write);
    if (!write) {
        bool more = c.read.serial == emulated_now.serial && !ordered(c.read, global);
        int16_t warp = c.read.warp;
        if (c.read.serial != 0 && c.read.serial != emulated_now.serial)
            c.foreign = c.read;
        note(c.read, pc);
        if (more) {
            c.read.thread = several;
            if (warp != c.read.warp)
                c.read.warp = several;
        }
        return;
    }
    if (!ordered(c.read, global))
        tell("a write not ordered behind the read of", p, pc, &c.read);
    if (!ordered(c.foreign, global))
        tell("a write not ordered behind the read of", p, pc, &c.foreign);
    note(c.write, pc);
    c.read.serial = c.foreign.serial = 0;
}

void on_access(const void *p, size_t bytes, bool write, const void *pc)
{
    if (!emulated_now.kernel)
        return;
    if (C.launch != emulated_now.launch) {
        C.launch = emulated_now.launch;
        C.blocks.clear();
    }
    bool is_static = p >= (const void *)&__data_start && p < (const void *)&_end;
    bool is_shared = is_static || emulated_in_dynamic_shared(p);
    bool is_constant = p >= (const void *)&__executable_start && p < (const void *)&__data_start;
    if (!is_shared && !emulated_kernel_range(p, bytes)) {
        if (!emulated_in_stack(p) && !emulated_is_argument(p, bytes) && (write || !is_constant))
            tell("neither device nor shared memory is", p, pc, NULL);
        return;
    }
    C.clock++;
    for (uintptr_t at = (uintptr_t)p & ~(uintptr_t)1; at < (uintptr_t)p + bytes; at += 2) {
        uintptr_t page = at / shadow_page;
        if (page != C.last_page) {
            std::unique_ptr<shadow> &s = C.pages[page];
            if (!s)
                s.reset(new shadow());
            C.last = s.get();
            C.last_page = page;
        }
        check(C.last->cells[at % shadow_page / 2], (const void *)at, write, !is_shared, pc);
    }
}

void on_emulated(const void *p, size_t bytes, bool write) { on_access(p, bytes, write, __builtin_return_address(0)); }

void on_fence(bool atomic)
{
    block_state &b = C.blocks[emulated_now.serial];
    if (atomic) {
        b.acquired = true;
        b.released = b.fenced;
    } else {
        b.fenced = C.clock;
    }
}
} // namespace

extern "C" int cuda_emulation_races(void)
{
    int found = C.found;
    C.found = 0;
    C.told.clear();
    return found;
}

/* What the compiler calls. */
extern "C" {
void __tsan_init(void)
{
    emulated_on_access = on_emulated;
    emulated_on_fence = on_fence;
}
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void) {}
int __tsan_atomic32_fetch_add(volatile int *p, int x, int) /* a shared_ptr's count */
{
    int old = *p;
    *p = old + x;
    return old;
}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}
#define EMULATED_TSAN(name, bytes, write)                                                                              \
    void name(void *p) { on_access(p, bytes, write, __builtin_return_address(0)); }
EMULATED_TSAN(__tsan_read1, 1, false)
EMULATED_TSAN(__tsan_read2, 2, false)
EMULATED_TSAN(__tsan_read4, 4, false)
EMULATED_TSAN(__tsan_read8, 8, false)
EMULATED_TSAN(__tsan_read16, 16, false)
EMULATED_TSAN(__tsan_write1, 1, true)
EMULATED_TSAN(__tsan_write2, 2, true)
EMULATED_TSAN(__tsan_write4, 4, true)
EMULATED_TSAN(__tsan_write8, 8, true)
EMULATED_TSAN(__tsan_write16, 16, true)
EMULATED_TSAN(__tsan_unaligned_read2, 2, false)
EMULATED_TSAN(__tsan_unaligned_read4, 4, false)
EMULATED_TSAN(__tsan_unaligned_read8, 8, false)
EMULATED_TSAN(__tsan_unaligned_read16, 16, false)
EMULATED_TSAN(__tsan_unaligned_write2, 2, true)
EMULATED_TSAN(__tsan_unaligned_write4, 4, true)
EMULATED_TSAN(__tsan_unaligned_write8, 8, true)
EMULATED_TSAN(__tsan_unaligned_write16, 16, true)
void __tsan_read_range(void *p, unsigned long bytes) { on_access(p, bytes, false, __builtin_return_address(0)); }
void __tsan_write_range(void *p, unsigned long bytes) { on_access(p, bytes, true, __builtin_return_address(0)); }
}

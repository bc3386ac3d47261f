/* Runs kernels: the threads of a block as coroutines of one OS thread, blocks one after the other.
 *
 * A thread runs until it waits at a barrier or a warp collective or returns. The last lane to reach a collective
 * carries it out for all; the last thread to reach a barrier releases all. A thread that returns hands its stack to the
 * next, so a kernel without waits runs on one stack.
 *
 * Reported as failures: a barrier that some threads wait at while others have returned, wait at another barrier or in a
 * collective; a collective with lanes missing or in another one; addresses that ldmatrix or a 16-byte copy cannot take;
 * dynamic shared memory written behind its end; a stack overrun. Dynamic shared memory is filled with 0xFF (NaN) before
 * every block; the target of an asynchronous copy is 0xFF from its issue until the wait that completes it, so a missing
 * wait, or a copy into what is still read, shows. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

/* After the standard headers: it defines words that they use in attributes. */
#include "emulation_state.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
unsigned char *emulated_dynamic_shared;
emulated_progress emulated_now;
void (*emulated_on_access)(const void *p, size_t bytes, bool write);
void (*emulated_on_fence)(bool atomic);

namespace
{
constexpr int max_threads = 1024;
constexpr size_t stack_bytes = 128 << 10, page = 4096;
constexpr unsigned char garbage = 0xFF;

struct copy {
    void *to;
    const void *from;
    bool valid;
};

struct thread {
    void *sp;
    unsigned char *stack;
    uint3 index;
    /* where it waits */
    const char *file;
    int line;
    emulated_collective what;
    unsigned mask;
    emulated_exchange *exchange;
    /* cp.async: groups in order of commit, the last one open */
    std::vector<std::vector<copy>> groups;
};

struct warp {
    unsigned lanes;   /* that exist; each is in one of the next three, or waits at a barrier */
    unsigned ready;   /* can go on */
    unsigned waiting; /* in a collective */
    unsigned returned;
    unsigned fresh; /* of the ready ones: have no stack yet */
    /* The collective that the first of the waiting lanes is in, and whether another is in another. */
    emulated_collective what;
    unsigned mask;
    bool mixed;
    /* Shuffles: what lanes bring, and what was there when all had come. */
    uint64_t in[32], out[32];
};

struct emulator {
    thread threads[max_threads];
    warp warps[max_threads / 32];
    int n_threads, n_warps;
    int current, current_warp;
    int at_barrier, n_returned;
    int barrier_count, barrier_result;
    void *scheduler_sp;
    const emulated_kernel *kernel;
    bool failed;
    std::vector<unsigned char *> stacks; /* free */
    unsigned char *shared_end;           /* the page behind is not accessible */
    cuda_emulation_order order;
    uint64_t random;
    bool ready;
} E;

extern "C" void emulated_switch(void **save, void *to);
asm(R"(
.text
.globl emulated_switch
.hidden emulated_switch
.type emulated_switch, @function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulated_switch, .-emulated_switch
)");

uint64_t random_next()
{
    E.random ^= E.random << 13;
    E.random ^= E.random >> 7;
    E.random ^= E.random << 17;
    return E.random;
}

/* A bit of set (not 0) as the order wants. */
int pick(unsigned set)
{
    if (E.order == CUDA_EMULATION_ASCENDING)
        return __builtin_ctz(set);
    if (E.order == CUDA_EMULATION_DESCENDING)
        return 31 - __builtin_clz(set);
    int skip = (int)((random_next() >> 32) * (unsigned)__builtin_popcount(set) >> 32);
    while (skip-- > 0)
        set &= set - 1;
    return __builtin_ctz(set);
}

std::vector<int> permutation(int n)
{
    std::vector<int> p((size_t)n);
    for (int i = 0; i < n; i++)
        p[(size_t)i] = E.order == CUDA_EMULATION_DESCENDING ? n - 1 - i : i;
    if (E.order == CUDA_EMULATION_SHUFFLED)
        for (int i = n - 1; i > 0; i--)
            std::swap(p[(size_t)i], p[random_next() % (unsigned)(i + 1)]);
    return p;
}

const char *collective_name(emulated_collective what)
{
    static const char *const names[] = {"__syncwarp",       "__shfl_sync",   "__shfl_xor_sync",  "__shfl_up_sync",
                                        "__shfl_down_sync", "__ballot_sync", "__match_any_sync", "ldmatrix",
                                        "ldmatrix.trans",   "mma_bf16"};
    return names[what];
}

void describe(int i, char *out, size_t size)
{
    const thread &t = E.threads[i];
    const warp &w = E.warps[i / 32];
    unsigned bit = 1u << (i % 32);
    if (w.waiting & bit)
        snprintf(out, size, "thread %d waits in %s (mask %08x)", i, collective_name(t.what), t.mask);
    else if (w.returned & bit || w.ready & bit)
        snprintf(out, size, "thread %d %s", i, w.returned & bit ? "has returned" : "has not come that far");
    else
        snprintf(out, size, "thread %d waits at the barrier of %s:%d", i, t.file, t.line);
}

/* Fails in the current block; does not return. */
__attribute__((noreturn, format(printf, 1, 2))) void fail_in_kernel(const char *format, ...)
{
    char what[600];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    emulated_fail("kernel %s, block (%u, %u, %u): %s", E.kernel->name, blockIdx.x, blockIdx.y, blockIdx.z, what);
    E.failed = true;
    void *nowhere;
    emulated_switch(&nowhere, E.scheduler_sp);
    abort();
}

/* A thread touched what it may not: told with the kernel's name. (Failures that are expected go back to the scheduler;
 * the signal's own stack is left behind, which is allowed.) */
void on_fault(int number, siginfo_t *info, void *)
{
    if (E.kernel) {
        if (number == SIGFPE)
            fail_in_kernel("thread %d divides by zero", E.current);
        fail_in_kernel("thread %d touches address %p, outside every allocation", E.current, info->si_addr);
    }
    signal(number, SIG_DFL);
}

/* Handles faults while a kernel runs. */
constexpr int faults[] = {SIGSEGV, SIGBUS, SIGFPE};
struct fault_guard {
    struct sigaction before[3];
    fault_guard()
    {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (int i = 0; i < 3; i++)
            sigaction(faults[i], &action, &before[i]);
    }
    ~fault_guard()
    {
        for (int i = 0; i < 3; i++)
            sigaction(faults[i], &before[i], NULL);
    }
};

unsigned char *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        fprintf(stderr, "cuda emulation: out of memory\n");
        abort();
    }
    return (unsigned char *)p;
}

/* A page that cannot be touched, then the stack. */
unsigned char *take_stack()
{
    if (!E.stacks.empty()) {
        unsigned char *stack = E.stacks.back();
        E.stacks.pop_back();
        return stack;
    }
    unsigned char *stack = map(page + stack_bytes);
    mprotect(stack, page, PROT_NONE);
    return stack;
}

void get_ready()
{
    if (E.ready)
        return;
    E.ready = true;
    if (E.random == 0)
        E.random = 88172645463325252u;
    const char *order = getenv("CUDA_EMULATION_ORDER");
    if (order && strcmp(order, "descending") == 0)
        E.order = CUDA_EMULATION_DESCENDING;
    else if (order && strncmp(order, "shuffled", 8) == 0) {
        E.order = CUDA_EMULATION_SHUFFLED;
        E.random = order[8] == ':' ? strtoull(order + 9, NULL, 10) * 2 + 1 : E.random;
    }
    constexpr size_t bytes = 256 << 10;
    unsigned char *shared = map(bytes + page);
    mprotect(shared + bytes, page, PROT_NONE);
    E.shared_end = shared + bytes;
    static unsigned char signal_stack[65536];
    stack_t stack = {};
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof signal_stack;
    sigaltstack(&stack, NULL);
}

void become(int i)
{
    E.current = i;
    emulated_now.thread = i;
    threadIdx = E.threads[i].index;
}

/* Every thread's first frame. */
void thread_main()
{
    for (;;) {
        thread &t = E.threads[E.current];
        E.kernel->invoke(E.kernel->call.get());
        t.groups.clear();
        E.n_returned++;
        warp &w = E.warps[E.current_warp];
        unsigned bit = 1u << (E.current % 32);
        w.ready &= ~bit;
        w.returned |= bit;
        if (w.ready) {
            int next = E.current_warp * 32 + pick(w.ready);
            if (w.fresh >> (next % 32) & 1) {
                w.fresh &= ~(1u << (next % 32));
                E.threads[next].stack = t.stack;
                t.stack = NULL;
                become(next);
                continue;
            }
        }
        E.stacks.push_back(t.stack);
        t.stack = NULL;
        emulated_switch(&t.sp, E.scheduler_sp);
        abort();
    }
}

/* Goes on with a thread that is FRESH or RUNNING; returns when somebody goes back to the scheduler. */
void resume(int i)
{
    thread &t = E.threads[i];
    warp &w = E.warps[i / 32];
    if (w.fresh >> (i % 32) & 1) {
        t.stack = take_stack();
        /* Tops a few lines apart, or all stacks would fall into the same cache sets. */
        unsigned char *top = t.stack + page + stack_bytes - (size_t)(i % 61) * 64;
        void **sp = (void **)top;
        *--sp = NULL;
        *--sp = (void *)thread_main;
        for (int k = 0; k < 6; k++)
            *--sp = NULL;
        t.sp = sp;
        w.fresh &= ~(1u << (i % 32));
    }
    become(i);
    emulated_switch(&E.scheduler_sp, t.sp);
}

/* The current thread waits: another lane of its warp goes on, or the scheduler. */
void give_way()
{
    int self = E.current;
    warp &w = E.warps[E.current_warp];
    if (w.ready) {
        int next = E.current_warp * 32 + pick(w.ready);
        if (next == self)
            return;
        if (!(w.fresh >> (next % 32) & 1)) {
            become(next);
            emulated_switch(&E.threads[self].sp, E.threads[next].sp);
            return;
        }
    }
    emulated_switch(&E.threads[self].sp, E.scheduler_sp);
}

void release_barrier()
{
    E.at_barrier = 0;
    emulated_now.barriers++;
    E.barrier_result = E.barrier_count;
    E.barrier_count = 0;
    for (int i = 0; i < E.n_warps; i++)
        E.warps[i].ready = E.warps[i].lanes;
}

/* No thread can go on. */
void report_deadlock()
{
    char first[300] = "", second[300] = "";
    int a = 0;
    while (E.warps[a / 32].returned >> (a % 32) & 1)
        a++;
    describe(a, first, sizeof first);
    const char *where = strchr(first + strlen("thread "), ' ');
    for (int i = 0; i < E.n_threads && !second[0]; i++) {
        describe(i, second, sizeof second);
        if (strcmp(strchr(second + strlen("thread "), ' '), where) == 0)
            second[0] = 0;
    }
    if (!second[0])
        snprintf(second, sizeof second, "its mask names lanes that do not exist");
    emulated_fail("kernel %s, block (%u, %u, %u): no thread can go on: %s, but %s", E.kernel->name, blockIdx.x,
                  blockIdx.y, blockIdx.z, first, second);
    E.failed = true;
}

void run_block()
{
    for (int i = 0; i < E.n_warps; i++) {
        int left = E.n_threads - i * 32;
        E.warps[i].lanes = left >= 32 ? 0xffffffffu : (1u << left) - 1u;
        E.warps[i].ready = E.warps[i].fresh = E.warps[i].lanes;
        E.warps[i].waiting = E.warps[i].returned = 0;
    }
    E.at_barrier = E.n_returned = E.barrier_count = 0;
    emulated_now.serial++;
    emulated_now.barriers = 0;
    memset(emulated_now.warp_syncs, 0, sizeof emulated_now.warp_syncs);
    E.failed = false;
    while (E.n_returned < E.n_threads && !E.failed) {
        bool progress = false;
        for (int i : permutation(E.n_warps)) {
            E.current_warp = i;
            while (E.warps[i].ready && !E.failed) {
                progress = true;
                resume(i * 32 + pick(E.warps[i].ready));
            }
            if (E.failed)
                break;
        }
        if (!progress && !E.failed)
            report_deadlock();
    }
    if (E.failed)
        for (int i = 0; i < E.n_threads; i++) {
            thread &t = E.threads[i];
            t.groups.clear();
            if (t.stack)
                E.stacks.push_back(t.stack);
            t.stack = NULL;
        }
}

/* ---- collectives ---- */
float bf16(uint32_t x) { return __uint_as_float(x << 16); }

/* ldmatrix: matrix j's row i at the address of lane 8 j + i; lane l gets elements 2 (l % 4), + 1 of row l / 4, or
 * transposed of column l / 4. */
void ldmatrix(const thread *lanes, bool transposed)
{
    int n = lanes[0].exchange->n_matrices;
    for (int i = 0; i < 8 * n; i++)
        if ((uintptr_t)lanes[i].exchange->row % 16 != 0)
            fail_in_kernel("lane %d gives ldmatrix an address that is not a multiple of 16", i);
        else if (emulated_device_range(lanes[i].exchange->row, 16))
            fail_in_kernel("lane %d gives ldmatrix an address in global memory", i);
    for (int j = 0; j < n; j++) {
        uint16_t m[8][8];
        for (int i = 0; i < 8; i++)
            memcpy(m[i], lanes[8 * j + i].exchange->row, 16);
        for (int l = 0; l < 32; l++) {
            int a = l / 4, b = 2 * (l % 4);
            uint32_t low = transposed ? m[b][a] : m[a][b];
            uint32_t high = transposed ? m[b + 1][a] : m[a][b + 1];
            lanes[l].exchange->registers[j] = low | high << 16;
        }
    }
}

/* mma.m16n8k16, row.col. The 16 products and d are added as one, then rounded: on a GPU the order of k within an
 * instruction does not matter (measured on an H200), and in double it does not either unless exponents are some 2^30
 * apart. With g = lane / 4, t = lane % 4, low half first: a0: row g, k 2t, 2t+1; a1: row g+8; a2: row g, k +8; a3: row
 * g+8, k +8. b0: k 2t, 2t+1, column g; b1: k +8. d0, d1: row g, columns 2t, 2t+1; d2, d3: row g+8. */
void mma(const thread *lanes)
{
    float a[16][16], b[16][8], d[16][8];
    double sum[16][8];
    for (int l = 0; l < 32; l++) {
        int g = l / 4, t = l % 4;
        const emulated_exchange *e = lanes[l].exchange;
        for (int r = 0; r < 4; r++) {
            int row = g + 8 * (r & 1), k = 2 * t + 8 * (r >> 1);
            a[row][k] = bf16(e->a[r] & 0xffffu);
            a[row][k + 1] = bf16(e->a[r] >> 16);
        }
        for (int r = 0; r < 2; r++) {
            b[2 * t + 8 * r][g] = bf16(e->b[r] & 0xffffu);
            b[2 * t + 8 * r + 1][g] = bf16(e->b[r] >> 16);
        }
        d[g][2 * t] = e->d[0];
        d[g][2 * t + 1] = e->d[1];
        d[g + 8][2 * t] = e->d[2];
        d[g + 8][2 * t + 1] = e->d[3];
    }
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 8; j++)
            sum[i][j] = 0;
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++)
                sum[i][j] += (double)a[i][k] * (double)b[k][j];
        for (int j = 0; j < 8; j++)
            d[i][j] = (float)((double)d[i][j] + sum[i][j]);
    }
    for (int l = 0; l < 32; l++) {
        int g = l / 4, t = l % 4;
        float *out = lanes[l].exchange->d;
        out[0] = d[g][2 * t];
        out[1] = d[g][2 * t + 1];
        out[2] = d[g + 8][2 * t];
        out[3] = d[g + 8][2 * t + 1];
    }
}

/* The lane that lane l of mask reads. */
int shuffle_source(emulated_collective what, unsigned mask, int l, int x, int width)
{
    int base = l & ~(width - 1), from;
    if (width < 1 || width > 32 || (width & (width - 1)) != 0)
        fail_in_kernel("%s with width %d", collective_name(what), width);
    if (what == EMULATED_SHFL)
        from = base + (x & (width - 1));
    else if (what == EMULATED_SHFL_XOR)
        from = (l ^ x) < base + width ? l ^ x : l;
    else if (what == EMULATED_SHFL_UP)
        from = l - x >= base ? l - x : l;
    else
        from = l + x < base + width ? l + x : l;
    if (!(mask >> from & 1))
        fail_in_kernel("lane %d of %s reads lane %d, which is not in mask %08x", l, collective_name(what), from, mask);
    return from;
}

/* Out of line: its memory would make every waiting thread's stack larger, and colder. */
__attribute__((noinline)) void carry_out(const thread *lanes, unsigned mask, emulated_collective what)
{
    switch (what) {
    case EMULATED_SYNCWARP:
        if (mask == E.warps[E.current_warp].lanes)
            emulated_now.warp_syncs[E.current_warp]++;
        break;
    case EMULATED_SHFL:
    case EMULATED_SHFL_XOR:
    case EMULATED_SHFL_UP:
    case EMULATED_SHFL_DOWN: {
        warp &w = E.warps[E.current_warp];
        for (int l = 0; l < 32; l++)
            if (mask >> l & 1)
                w.out[l] = w.in[l];
        break;
    }
    case EMULATED_BALLOT:
    case EMULATED_MATCH_ANY:
        for (int l = 0; l < 32; l++)
            for (int i = 0; mask >> l & 1 && i < 32; i++)
                if (mask >> i & 1 &&
                    (what == EMULATED_BALLOT ? lanes[i].exchange->in : lanes[i].exchange->in == lanes[l].exchange->in))
                    lanes[l].exchange->out |= 1u << i;
        break;
    case EMULATED_LDMATRIX:
    case EMULATED_LDMATRIX_TRANSPOSED: ldmatrix(lanes, what != EMULATED_LDMATRIX); break;
    case EMULATED_MMA_BF16: mma(lanes); break;
    }
}
__attribute__((noinline)) void check_barriers(const char *file, int line)
{
    for (int i = 0; i < E.n_threads; i++)
        if (E.threads[i].line != line || (E.threads[i].file != file && strcmp(E.threads[i].file, file) != 0)) {
            char other[300];
            describe(i, other, sizeof other);
            fail_in_kernel("thread %d waits at the barrier of %s:%d, but %s", E.current, file, line, other);
        }
}
__attribute__((noinline)) void check_others(const thread *lanes, unsigned mask, emulated_collective what)
{
    for (int l = 0; l < 32; l++)
        if (mask >> l & 1 && (lanes[l].what != what || lanes[l].mask != mask)) {
            char other[300];
            describe(E.current_warp * 32 + l, other, sizeof other);
            fail_in_kernel("thread %d calls %s (mask %08x), but %s", E.current, collective_name(what), mask, other);
        }
}
} // namespace

/* ---- what kernels call ---- */
void emulated_collect(emulated_collective what, unsigned mask, emulated_exchange *exchange)
{
    thread &t = E.threads[E.current];
    warp &w = E.warps[E.current_warp];
    const thread *lanes = &E.threads[E.current_warp * 32];
    unsigned bit = 1u << (E.current % 32);
    if (!(mask & bit))
        fail_in_kernel("thread %d calls %s with mask %08x, which does not name it", E.current, collective_name(what),
                       mask);
    if (mask & (w.returned | ~w.lanes))
        fail_in_kernel("thread %d calls %s with mask %08x, but lanes %08x have returned or do not "
                       "exist",
                       E.current, collective_name(what), mask, mask & (w.returned | ~w.lanes));
    if (emulated_on_access && exchange && exchange->row)
        emulated_on_access(exchange->row, 16, false);
    t.what = what;
    t.mask = mask;
    t.exchange = exchange;
    if (w.waiting == 0) {
        w.what = what;
        w.mask = mask;
        w.mixed = false;
    } else {
        w.mixed |= w.what != what || w.mask != mask;
    }
    w.ready &= ~bit;
    w.waiting |= bit;
    if ((w.waiting & mask) != mask) {
        give_way();
        return;
    }
    if (w.mixed)
        check_others(lanes, mask, what);
    carry_out(lanes, mask, what);
    w.waiting &= ~mask;
    w.ready |= mask;
    if (E.order != CUDA_EMULATION_ASCENDING)
        give_way(); /* or the last to come would always go on first */
}

uint64_t emulated_exchange_value(emulated_collective what, unsigned mask, uint64_t x, int lane, int width)
{
    warp &w = E.warps[E.current_warp];
    int self = E.current % 32, from = shuffle_source(what, mask, self, lane, width);
    w.in[self] = x;
    emulated_collect(what, mask, NULL);
    return w.out[from];
}

int emulated_barrier_count(const char *file, int line, int predicate)
{
    thread &t = E.threads[E.current];
    t.file = file;
    t.line = line;
    E.warps[E.current_warp].ready &= ~(1u << (E.current % 32));
    E.barrier_count += predicate;
    E.at_barrier++;
    if (E.at_barrier < E.n_threads) {
        give_way();
        return E.barrier_result;
    }
    check_barriers(file, line);
    release_barrier();
    return E.barrier_result;
}
void emulated_barrier(const char *file, int line) { emulated_barrier_count(file, line, 0); }

void copy_async16(void *to, const void *from, bool valid)
{
    std::vector<std::vector<copy>> &groups = E.threads[E.current].groups;
    if ((uintptr_t)to % 16 != 0 || (uintptr_t)from % 16 != 0)
        fail_in_kernel("thread %d: copy_async16 between %p and %p: not multiples of 16", E.current, to, from);
    if (valid && !emulated_device_range(from, 16))
        fail_in_kernel("thread %d: copy_async16 from %p, which is not in device memory", E.current, from);
    if (groups.empty())
        groups.emplace_back();
    groups.back().push_back(copy{to, from, valid});
    if (emulated_on_access) {
        emulated_on_access(to, 16, true);
        if (valid)
            emulated_on_access(from, 16, false);
    }
    memset(to, garbage, 16);
}
void copy_async_commit()
{
    std::vector<std::vector<copy>> &groups = E.threads[E.current].groups;
    if (groups.empty())
        groups.emplace_back();
    groups.emplace_back();
}
void emulated_copy_async_wait(int n)
{
    std::vector<std::vector<copy>> &groups = E.threads[E.current].groups;
    while ((int)groups.size() > n + 1) {
        for (const copy &c : groups.front()) {
            if (emulated_on_access)
                emulated_on_access(c.to, 16, true);
            if (c.valid)
                memcpy(c.to, c.from, 16);
            else
                memset(c.to, 0, 16);
        }
        groups.erase(groups.begin());
    }
}

void __threadfence()
{
    if (emulated_on_fence)
        emulated_on_fence(false);
}
void emulated_atomic_happens()
{
    if (emulated_on_fence)
        emulated_on_fence(true);
}

bool emulated_in_dynamic_shared(const void *p) { return p >= emulated_dynamic_shared && p < E.shared_end; }
bool emulated_in_stack(const void *p)
{
    for (const thread &t : E.threads)
        if (t.stack && p >= t.stack && p < t.stack + page + stack_bytes)
            return true;
    return false;
}

bool emulated_is_argument(const void *p, size_t bytes)
{
    const char *call = (const char *)E.kernel->call.get();
    return p >= call && (const char *)p + bytes <= call + E.kernel->call_bytes;
}

/* ---- one launch ---- */
bool emulated_run(const emulated_kernel &kernel)
{
    get_ready();
    fault_guard guard;
    E.kernel = emulated_now.kernel = &kernel;
    emulated_now.launch++;
    blockDim = kernel.block;
    gridDim = kernel.grid;
    E.n_threads = (int)(blockDim.x * blockDim.y * blockDim.z);
    E.n_warps = (E.n_threads + 31) / 32;
    for (int i = 0; i < E.n_threads; i++) {
        unsigned u = (unsigned)i;
        E.threads[i].index = uint3{u % blockDim.x, u / blockDim.x % blockDim.y, u / blockDim.x / blockDim.y};
    }
    unsigned char *shared = E.shared_end - (kernel.shared + 127) / 128 * 128;
    emulated_dynamic_shared = shared;
    bool ok = true;
    uint64_t n_blocks = (uint64_t)gridDim.x * gridDim.y * gridDim.z;
    std::vector<int> order = permutation(n_blocks < (1 << 20) ? (int)n_blocks : 0);
    for (uint64_t i = 0; i < n_blocks && ok; i++) {
        uint64_t b = order.empty() ? i : (uint64_t)order[i];
        blockIdx = uint3{(unsigned)(b % gridDim.x), (unsigned)(b / gridDim.x % gridDim.y),
                         (unsigned)(b / gridDim.x / gridDim.y)};
        memset(shared - 128, garbage, (size_t)(E.shared_end - shared) + 128);
        run_block();
        ok = !E.failed;
        bool written = false;
        for (unsigned char *p = shared + kernel.shared; p < E.shared_end; p++)
            written |= *p != garbage;
        for (unsigned char *p = shared - 128; p < shared; p++)
            written |= *p != garbage;
        if (ok && written) {
            emulated_fail("kernel %s, block (%u, %u, %u) wrote outside its %zu bytes of dynamic "
                          "shared memory",
                          kernel.name, blockIdx.x, blockIdx.y, blockIdx.z, kernel.shared);
            ok = false;
        }
    }
    E.kernel = emulated_now.kernel = NULL;
    return ok;
}

extern "C" void cuda_emulation_set_order(enum cuda_emulation_order order, uint64_t seed)
{
    E.order = order;
    E.random = seed * 2 + 1;
}

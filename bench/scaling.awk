#!/usr/bin/awk -f
# A step of W-A (0.6B, 64 prompts x 8, P 128, C 512) on N GPUs, on paper, from what one was measured to do (docs/SPEED.md, docs/SCALING.md):
#
#     awk -v rate=GB/s -f bench/scaling.awk
#
# rate: what one GPU sends while it receives as much, as bench_exchange measures it (plain_gb_per_second).
BEGIN {
    if (rate <= 0) { print "usage: awk -v rate=GB/s -f bench/scaling.awk" > "/dev/stderr"; exit 2 }
    sequences = 512; tokens = 512; weights = 0.596; training = 2.59; micro_tokens = 24576; step_tokens = 64 * (128 + 8 * 512)
    decode[512] = 69523; decode[256] = 67759; decode[64] = 39218 # tokens a second at so many sequences
    printf "%5s %10s %10s %12s %10s %8s %8s\n", "GPUs", "rollout s", "training s", "gradients s", "values s", "step s", "speed-up"
    n_sizes = split("1 2 8 64", sizes, " ")
    for (i = 1; i <= n_sizes; i++) {
        n = sizes[i]; each = sequences / n
        if (!(each in decode)) { printf "%5d %10s: decoding %d sequences at once was not measured\n", n, "?", each; continue }
        rollout = sequences * tokens / n / decode[each]
        micro = int((step_tokens + micro_tokens - 1) / micro_tokens)
        rounds = n == 1 ? 0 : int((micro + n - 1) / n) # of as many micro-batches as there are lanes
        # A layer belongs to one rank, which receives it from all others, one layer after the other.
        gradients = rounds * weights * 4 * (n - 1) / rate
        values = weights * 2 * (n - 1) / n / rate
        step = rollout + training / n + gradients + values
        if (n == 1) one = step
        printf "%5d %10.2f %10.2f %12.3f %10.3f %8.2f %8.2f\n", n, rollout, training / n, gradients, values, step, one / step
    }
}

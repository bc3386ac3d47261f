/* The most memory that the backend holds beside the tensors it is given, for memory plans: the functions that give the
 * sizes here also give them where the memory is taken. Machine code and what the driver keeps of recorded steps are not
 * included (tests/cuda/test_cuda_memory.c measures them; a twentieth of the memory is left for them,
 * session_memory_limit). */
#include "backend/cuda/sample_rows.h"

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* One block, as large as the operation that needs most of it. */
static size_t scratch_bytes(const struct backend *backend, const struct backend_load *load)
{
    size_t most = 0;
    if (load->sequences > 0)
        most =
            larger(cuda_sample_scratch(backend, load),
                   cuda_lowrank_scratch(load->step_tokens + load->sequences, load->adapter_rank, load->adapter_depth));
    if (load->sequences > 0)
        most = larger(most, cuda_route_scratch(load->step_tokens + load->sequences, load->n_experts, load->chosen));
    if (load->sequences > 0)
        most =
            larger(most, cuda_grouped_scratch((load->step_tokens + load->sequences) * load->chosen, load->expert_rank));
    if (load->train_tokens == 0)
        return most;
    most = larger(most, cuda_head_scratch(load->vocab, load->train_logits_rows));
    most = larger(most, cuda_divergence_scratch(load->vocab, load->train_logits_rows));
    most = larger(most, cuda_rmsnorm_scratch(load->train_tokens, load->width));
    most = larger(most, cuda_qkv_scratch(load->train_tokens, load->head_dim));
    most = larger(most, cuda_lowrank_scratch(load->train_tokens, load->adapter_rank, load->adapter_depth));
    most = larger(most, cuda_embed_scratch(load->train_tokens));
    most = larger(most, cuda_route_scratch(load->train_tokens, load->n_experts, load->chosen));
    most = larger(most, cuda_grouped_scratch(load->train_tokens * load->chosen, load->expert_rank));
    most = larger(most, cuda_sum_squares_scratch(load->n_weights));
    return larger(most, cuda_attention_gradient_scratch(load->train_tokens, load->n_heads));
}

size_t cuda_working_bytes(struct backend *backend, const struct backend_load *load)
{
    return cuda_grown_bytes(scratch_bytes(backend, load)) + cuda_attention_working_bytes(backend, load) +
           cuda_decode_working_bytes(backend, load);
}

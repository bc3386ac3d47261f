/* What verl and llama.cpp call their options, beyond the names that options_hints.c has: a name with dots is verl's, of
 * which the longest end is looked for (actor_rollout_ref.rollout.n: rollout.n, then n). Sorted by name; '*' as there. */
#include "run/options_internal.h"

/* clang-format off */
static const char ONE_DEVICE[] =
    "not needed: one process trains and generates, on one device or several (device); leave it out";
static const char PLANNED[] =
    "not needed: micro-batches are planned from the memory there is (micro_batch_tokens); leave it out";
static const char NO_CRITIC[] =
    "there is no critic: advantages come from the group (advantage_estimator); leave it out";
static const char ONE_ENGINE[] =
    "not needed: training and generation are one engine with continuous batching; leave it out";
static const char LOCAL[] =
    "the model is a folder on this machine (model); leave it out";
static const char NOT_NEEDED[] =
    "not needed; leave it out";
static const char CONTEXT[] =
    "the context is the one of the model (max_position_embeddings of config.json); leave it out";
static const char NO_SAMPLER[] =
    "cohort does not have this sampler; there are top_k, top_p, min_p and xtc_probability";
static const char NO_PROMPT_STYLE[] =
    "the chat template and messages of the data say it; leave it out";
static const char ROWS[] =
    "columns says which column is which";
static const char NO_IMAGES[] =
    "cohort reads text alone";
static const char LOGS[] =
    "messages go to standard error, steps to standard output and metrics.jsonl; leave it out";
static const char TURNS[] =
    "what answers the model's turns (docs/ENVIRONMENTS.md)";
static const char KL[] =
    "kl is k1, abs has no counterpart, mse is k2, low_var_kl is k3";
static const char LORA[] =
    "use_peft, lora_r, lora_alpha and lora_target_modules describe an adapter, adapter goes on from one";

static const struct option_hint hints[] = {
    {"actor.strategy", NULL, ONE_DEVICE},
    {"balance_batch", NULL, PLANNED},
    {"binary_file", "batch|data", NULL},
    {"calculate_log_probs", NULL, "not needed: the log-probs of a draw are those of training; leave it out"},
    {"chat_template_file", "chat_template", NULL},
    {"check_tensors", NULL, NOT_NEEDED},
    {"clip_ratio_low", "epsilon", NULL},
    {"cont_batching", NULL, ONE_ENGINE},
    {"control_vector", NULL, "cohort has no control vectors"},
    {"control_vector_*", NULL, "cohort has no control vectors"},
    {"cpu_moe", NULL, "all layers are computed on one device (device); leave it out"},
    {"critic.*", NULL, NO_CRITIC},
    {"critic_warmup", NULL, NO_CRITIC},
    {"ctx_checkpoints", NULL, CONTEXT},
    {"custom_reward_function.name", "reward", "python:FILE.py:FUNCTION"},
    {"custom_reward_function.path", "reward", "python:FILE.py:FUNCTION"},
    {"data.train_files", "data", NULL},
    {"data.val_files", "eval_data", NULL},
    {"default_hdfs_dir", "out", "the run folder is on this machine"},
    {"default_local_dir", "out", "the run folder"},
    {"defrag_thold", NULL, NOT_NEEDED},
    {"del_local_ckpt_after_load", "save_total_limit", NULL},
    {"draft_*", NULL, "a draft model is an option of generate, chat, serve and eval (draft_model); leave it out"},
    {"dry_*", NULL, NO_SAMPLER},
    {"dynatemp_*", NULL, NO_SAMPLER},
    {"enable_gradient_checkpointing", "recompute", "auto recomputes if memory asks for it"},
    {"enforce_eager", NULL, ONE_ENGINE},
    {"experiment_name", "out", "the name of the run folder"},
    {"external_lib", NULL, NOT_NEEDED},
    {"filter_groups.enable", "dynamic_sampling", NULL},
    {"filter_groups.max_num_gen_batches", "dynamic_sampling_refills", NULL},
    {"filter_groups.metric", "dynamic_sampling", "groups whose rewards do not differ are dropped"},
    {"filter_overlong_prompts", "max_prompt_length", "a longer prompt is an error; cohort data finds them"},
    {"free_cache_engine", NULL, ONE_ENGINE},
    {"gamma", NULL, NO_CRITIC},
    {"hf_file", NULL, LOCAL},
    {"hf_repo", NULL, LOCAL},
    {"hf_token", NULL, LOCAL},
    {"hybrid_engine", NULL, ONE_ENGINE},
    {"image_key", NULL, NO_IMAGES},
    {"image_max_tokens", NULL, NO_IMAGES},
    {"in_prefix", NULL, NO_PROMPT_STYLE},
    {"in_suffix", NULL, NO_PROMPT_STYLE},
    {"jinja", NULL, "chat templates are always run as they are; leave it out"},
    {"kl_ctrl.kl_coef", "beta", NULL},
    {"kl_ctrl.type", "beta", "the weight of the KL is fixed"},
    {"kl_penalty", "kl_estimator", KL},
    {"kv_offload", NULL, "all layers are computed on one device (device); leave it out"},
    {"lam", NULL, NO_CRITIC},
    {"load_format", NULL, ONE_ENGINE},
    {"log_colors", NULL, LOGS},
    {"log_disable", NULL, LOGS},
    {"log_file", NULL, LOGS},
    {"log_prefix", NULL, LOGS},
    {"log_prob_*", NULL, PLANNED},
    {"log_timestamps", NULL, LOGS},
    {"log_val_generations", "log_completions", "evaluations write eval-step-N.jsonl"},
    {"logger", NULL, LOGS},
    {"lora_rank", "lora_r", NULL},
    {"lora_scaled", "adapter", LORA},
    {"lr_warmup_steps", "warmup_steps", NULL},
    {"lr_warmup_steps_ratio", "warmup_steps", "a number below 1 is a share of all steps"},
    {"max_actor_ckpt_to_keep", "save_total_limit", NULL},
    {"max_critic_ckpt_to_keep", NULL, NO_CRITIC},
    {"max_num_batched_tokens", "prefill_step_size", NULL},
    {"min_lr_ratio", "lr_scheduler_kwargs", "min_lr_ratio=0.1"},
    {"mirostat_*", NULL, NO_SAMPLER},
    {"mmproj", NULL, NO_IMAGES},
    {"model.path", "model", NULL},
    {"model_url", NULL, LOCAL},
    {"multi_turn.*", "environment", TURNS},
    {"multiline_input", "prompt", "- reads standard input"},
    {"n_cpu_moe", NULL, "all layers are computed on one device (device); leave it out"},
    {"n_gpus_per_node", NULL, ONE_DEVICE},
    {"nnodes", NULL, ONE_DEVICE},
    {"no_context_shift", NULL, CONTEXT},
    {"no_display_prompt", NULL, "completions are printed alone; leave it out"},
    {"no_kv_offload", NULL, "all layers are computed on one device (device); leave it out"},
    {"no_perf", NULL, NOT_NEEDED},
    {"no_repack", NULL, NOT_NEEDED},
    {"norm_adv_by_std_in_grpo", "scale_rewards", "true is group, false is none"},
    {"optim.lr", "learning_rate", NULL},
    {"override_config", NULL, LOCAL},
    {"override_kv", NULL, LOCAL},
    {"override_tensor", NULL, "all layers are computed on one device (device); leave it out"},
    {"poll", NULL, NOT_NEEDED},
    {"ppo_max_token_len_per_gpu", "micro_batch_tokens", NULL},
    {"ppo_micro_batch_size", NULL, PLANNED},
    {"ppo_micro_batch_size_per_gpu", NULL, PLANNED},
    {"ppo_mini_batch_size", "steps_per_generation",
     "slices of a generation batch: train_batch_size / ppo_mini_batch_size (docs/GRPO.md, A step)"},
    {"predict", "max_completion_length", NULL},
    {"prio", NULL, NOT_NEEDED},
    {"prio_batch", NULL, NOT_NEEDED},
    {"project_name", "out", "the name of the run folder"},
    {"prompt_cache_all", NULL, NOT_NEEDED},
    {"prompt_cache_ro", NULL, NOT_NEEDED},
    {"prompt_key", "columns", ROWS},
    {"ray_*", NULL, ONE_DEVICE},
    {"reasoning_budget", "thinking", NULL},
    {"reasoning_format", "thinking", NULL},
    {"response_length", "max_completion_length", NULL},
    {"resume_from_path", "resume", "a checkpoint folder of the run"},
    {"resume_mode", "resume", "--resume goes on from the newest checkpoint, or starts the run"},
    {"return_raw_chat", NULL, NOT_NEEDED},
    {"reward_fn_key", "columns", ROWS},
    {"reward_manager", "reward", "names, python:FILE.py:FUNCTION, exec:PROGRAM"},
    {"reward_model.enable", NULL, "cohort has no reward models; reward exec:PROGRAM can ask one"},
    {"rollout.dtype", "dtype", "sampling and training have one type"},
    {"rollout.mode", NULL, ONE_ENGINE},
    {"rollout.n", "num_generations", NULL},
    {"rollout.name", NULL, ONE_ENGINE},
    {"rollout_data_dir", "log_completions", "completions are written into the run folder"},
    {"rope_*", NULL, "how positions are rotated is in config.json of the model; leave it out"},
    {"samplers", NULL, "the order is fixed: penalties, min_p, xtc, top_p, top_k, temperature; leave it out"},
    {"sampling_seq", NULL, "the order is fixed; leave it out"},
    {"save_freq", "save_steps", NULL},
    {"simple_io", NULL, NOT_NEEDED},
    {"single_turn", "prompt", NULL},
    {"spm_infill", NULL, "cohort completes prompts and does not fill in"},
    {"swa_full", NULL, CONTEXT},
    {"system_prompt_file", NULL,
     "put it into the data: a row of --batch with messages, the first with the role 'system'"},
    {"target_modules", "lora_target_modules", NULL},
    {"tensor_model_parallel_size", NULL, ONE_DEVICE},
    {"tensor_split", NULL, ONE_DEVICE},
    {"test_freq", "eval_steps", NULL},
    {"threads_batch", "threads", NULL},
    {"total_epochs", "epochs", NULL},
    {"total_training_steps", "steps", NULL},
    {"train_files", "data", NULL},
    {"truncation", "max_prompt_length", "a longer prompt is an error; sft cuts rows (truncation_mode)"},
    {"ulysses_sequence_parallel_size", NULL, ONE_DEVICE},
    {"use_dynamic_bsz", NULL, PLANNED},
    {"use_fused_kernels", NULL, NOT_NEEDED},
    {"use_kl_loss", "beta", "above 0: the KL is in the loss"},
    {"use_remove_padding", NULL, "not needed: rows are never padded; leave it out"},
    {"use_torch_compile", NULL, NOT_NEEDED},
    {"val_batch_size", NULL,
     "evaluation is split by memory, with the same result; leave it out (eval_limit bounds the rows)"},
    {"val_before_train", "eval_data", "evaluation before and after is always done"},
    {"val_files", "eval_data", NULL},
    {"val_kwargs.do_sample", "eval_temperature", "0 takes the most likely token"},
    {"val_kwargs.n", "num_generations_eval", NULL},
    {"val_kwargs.temperature", "eval_temperature", NULL},
    {"val_kwargs.top_k", "top_k", "evaluation samples as training does"},
    {"val_kwargs.top_p", "top_p", "evaluation samples as training does"},
    {"val_only", NULL, "cohort eval evaluates a model"},
    {"video_key", NULL, NO_IMAGES},
    {"warmup_style", "lr_scheduler_type", "constant, or cosine"},
    {"yarn_*", NULL, "how positions are rotated is in config.json of the model; leave it out"},
};
/* clang-format on */

const struct option_hint *options_hints_more(size_t *count)
{
    *count = sizeof hints / sizeof hints[0];
    return hints;
}

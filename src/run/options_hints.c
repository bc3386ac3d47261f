/* What options of other programs are called here: all fields of TRL's configurations and of transformers'
 * TrainingArguments, and the usual names of MLX-LM, llama.cpp and others. A name that ends in '*' stands for all names
 * with that beginning. Sorted by name. A text ends in "leave it out" where a run is the same without the option
 * (options_hint_needless). */
#include "run/options_internal.h"

#include <string.h>

/* clang-format off */
static const char ALL_LAYERS[] =
    "all layers are computed on one device: --device cuda:N or cpu; leave it out";
static const char CHECKPOINT[] =
    "a checkpoint holds all that a resumed run needs, and resuming goes on exactly; leave it out";
static const char COLUMNS[] =
    "cohort does not have it: columns that nobody reads are passed to rewards, metrics.jsonl holds all "
    "metrics; leave it out";
static const char COMMAND[] =
    "the command says what is done: sft, grpo or eval; leave it out";
static const char COMMANDS[] =
    "the command says what is done: sft, grpo, ...; leave it out";
static const char COMPLETIONS[] =
    "log_completions writes all of them into the run folder; leave it out";
static const char COMPLETION_LOSS[] =
    "true, the default but of plain text: the loss is on the completion, of messages on the last one";
static const char KV_BITS[] =
    "q8_0 and fp8 are 8, for keys and values alike";
static const char CONTEXT[] =
    "the context is the one of the model (max_position_embeddings of config.json); max_prompt_length and "
    "max_completion_length bound a request";
static const char CPU[] =
    "device: cpu";
static const char DRAWS[] =
    "draws follow temperature, top_k, top_p and min_p; temperature 0 takes the most likely token";
static const char DTYPES[] =
    "auto, bf16 or f32; auto follows the checkpoint";
static const char ENDS[] =
    "the tokens that end a text are those that the model folder names (generation_config.json, config.json)";
static const char EVALUATED[] =
    "0: only before and after";
static const char IN_TURN[] =
    "not needed: generation and training take turns in one process; leave it out";
static const char LOCAL_MODEL[] =
    "the model is a folder on this machine (model); dtype and device are options; leave it out";
static const char LOGGING[] =
    "metrics.jsonl has every step, logging_steps says how often a line is printed; leave it out";
static const char NOT_NEEDED[] =
    "not needed; leave it out";
static const char LORA_OPTIONS[] =
    "an adapter is described by use_peft, lora_r, lora_alpha, lora_target_modules and use_rslora; one to go on "
    "from is adapter";
static const char NO_CACHE[] =
    "prompts are computed once for all their completions; no cache is kept between runs; leave it out";
static const char NO_DISTILLATION[] =
    "cohort distill does not have it: a teacher scores what the model itself samples (docs/TRAINERS.md)";
static const char NO_PREFERENCE[] =
    "cohort does not have it; its trainers are sft, grpo, rloo, distill, dpo, kto, orpo, cpo and reward";
static const char NO_QUANTISATION[] =
    "cohort does not quantise: weights are bf16 or f32 (dtype); --moments-dtype bf16 and recompute save "
    "memory";
static const char REWARD_MODEL[] =
    "a reward model is a reward: model:DIR (docs/REWARDS.md)";
static const char NO_SAMPLER[] =
    "cohort does not have this sampler; there are top_k, top_p, min_p and xtc_probability";
static const char NO_SERVER[] =
    "cohort has no server";
static const char ONE_DEVICE[] =
    "ranks, each with a device, are started by mpirun or srun (docs/RANKS.md); leave it out";
static const char ONE_ENGINE[] =
    "not needed: training and generation are one engine with continuous batching; leave it out";
static const char ONE_FILE[] =
    "not needed: data names files or a folder, and rows are read as they are needed; leave it out";
static const char SPLIT[] =
    "FOLDER:SPLIT as the value of data or eval_data names a split";
static const char ONE_IMPLEMENTATION[] =
    "not needed: there is one implementation, chosen for the machine; leave it out";
static const char OTHER_METHOD[] =
    "cohort does not have this method; its trainers are sft, grpo, dpo, kto, orpo, cpo and reward";
static const char PACKED[] =
    "not needed: rows are never padded, and attention never crosses them; leave it out";
static const char PREFILL[] =
    "prompt tokens of one step";
static const char RECOMPUTES[] =
    "auto recomputes if memory asks for it";
static const char REFERENCE_ONCE[] =
    "not needed: the reference is computed once for a batch (beta); leave it out";
static const char REPORTS[] =
    "cohort reports to the run folder, and with report_to to TensorBoard or a program (docs/RUN.md); leave it out";
static const char REWARDS[] =
    "accuracy, think_format, python:FILE.py:FUNCTION (TRL's functions as they are), or another of docs/REWARDS.md";
static const char ROWS[] =
    "JSONL rows";
static const char SPLIT_BATCH[] =
    "the batch is split by memory (micro_batch_tokens), with the same result; give the whole batch as "
    "batch_size and leave it out";
static const char SPLIT_EVALUATION[] =
    "evaluation is split by memory, with the same result; leave it out (eval_limit bounds the rows)";
static const char SYSTEM[] =
    "put it into the data: a row of --batch with messages, the first with the role 'system'";
static const char TEMPLATE[] =
    "the chat template is that of the model folder (chat_template.jinja or tokenizer_config.json), or of this file";
static const char THINKING[] =
    "enable_thinking of the chat template";

static const struct option_hint hints[] = {
    {"<<", NULL, "merge keys of YAML are not supported; write the lines out"},
    {"accelerator_config", NULL, ONE_DEVICE},
    {"activation_checkpointing", "recompute", RECOMPUTES},
    {"activation_checkpointing_kwargs", "recompute", RECOMPUTES},
    {"activation_noise", "neftune_noise_alpha", NULL},
    {"activation_offloading", "recompute", "activations are computed again instead of moved"},
    {"adam_eps", "adam_epsilon", NULL},
    {"adapter_path", "adapter", "another name of it"},
    {"add_tail_bucket", NULL, NO_DISTILLATION},
    {"adv_estimator", "advantage_estimator", NULL},
    {"allowed_origins", NULL, NO_SERVER},
    {"api_key", NULL, NO_SERVER},
    {"attn_implementation", NULL, ONE_IMPLEMENTATION},
    {"auto_find_batch_size", NULL,
     "not needed: micro-batches are planned from the memory there is (micro_batch_tokens); leave it out"},
    {"average_tokens_across_devices", NULL,
     "not needed: the loss is averaged over the tokens of the optimizer step; leave it out"},
    {"b", "prefill_step_size", PREFILL},
    {"base_model", "model", NULL},
    {"batch_eval_metrics", NULL, COLUMNS},
    {"beam_size", NULL, DRAWS},
    {"bema_*", "ema_decay", "the bias-corrected mean of TRL's BEMACallback is not there, the plain one is"},
    {"beta1", "adam_beta1", NULL},
    {"beta2", "adam_beta2", NULL},
    {"bf16", "dtype", DTYPES},
    {"bf16_full_eval", "dtype", DTYPES},
    {"bnb_4bit_*", NULL, NO_QUANTISATION},
    {"c", "max_length", "of a prompt and its completion, what the model has"},
    {"cache_implementation", NULL, ONE_IMPLEMENTATION},
    {"cache_prompt", NULL, NO_CACHE},
    {"cache_type_k", "kv_bits", KV_BITS},
    {"cache_type_v", "kv_bits", KV_BITS},
    {"callbacks", NULL, "cohort does not have it: programs can be called by rewards alone; leave it out"},
    {"cast_lm_head_to_fp32", NULL, "not needed: logits are computed in fp32; leave it out"},
    {"chat_template_args", "thinking", THINKING},
    {"chat_template_config", "thinking", THINKING},
    {"chat_template_kwargs", "thinking", THINKING},
    {"chat_template_path", "chat_template", TEMPLATE},
    {"clip_grad", "max_grad_norm", NULL},
    {"clip_range", "epsilon", NULL},
    {"clip_ratio", "epsilon", NULL},
    {"clip_ratio_c", "delta", "the dual clip"},
    {"clip_ratio_high", "epsilon_high", NULL},
    {"cliprange", "epsilon", NULL},
    {"cnv", "chat", NULL},
    {"color", NULL, NOT_NEEDED},
    {"command", NULL, COMMANDS},
    {"context_length", NULL, CONTEXT},
    {"conversation", "chat", NULL},
    {"cpu_threads", "threads", NULL},
    {"ctx_size", NULL, CONTEXT},
    {"cuda", "device", "device: cuda"},
    {"cutoff_len", "max_length", NULL},
    {"data_path", "data", NULL},
    {"data_seed", "data_shuffle_seed", NULL},
    {"data_type", "dtype", DTYPES},
    {"dataloader_*", NULL, ONE_FILE},
    {"dataset", "data", NULL},
    {"dataset_config", "data", "the folder of the configuration"},
    {"dataset_kwargs", NULL, ONE_FILE},
    {"dataset_name", "data", "files or a folder"},
    {"dataset_num_proc", NULL, ONE_FILE},
    {"dataset_shuffle", "shuffle_dataset", NULL},
    {"dataset_streaming", NULL, ONE_FILE},
    {"dataset_test_split", "eval_data", SPLIT},
    {"dataset_train_split", "data", SPLIT},
    {"ddp_*", NULL, ONE_DEVICE},
    {"debug", NULL, LOGGING},
    {"deepspeed", NULL, ONE_DEVICE},
    {"diagnostics_flat_tolerance", NULL, OTHER_METHOD},
    {"diagnostics_warning_interval", NULL, OTHER_METHOD},
    {"disable_dropout", NULL, "not needed: there is no dropout; leave it out"},
    {"disable_tqdm", NULL, LOGGING},
    {"distillation_*", NULL, NO_DISTILLATION},
    {"do_eval", "eval_data", "held-out rows are evaluated if there are any"},
    {"do_predict", NULL, COMMAND},
    {"do_sample", NULL, DRAWS},
    {"do_train", NULL, COMMAND},
    {"dont_reprompt_on_self_success", NULL, OTHER_METHOD},
    {"draft", "speculative_tokens", NULL},
    {"dry_multiplier", NULL, NO_SAMPLER},
    {"ds3_gather_for_generation", NULL, ONE_DEVICE},
    {"dynatemp_range", NULL, NO_SAMPLER},
    {"e", NULL, NOT_NEEDED},
    {"enable_jit_checkpoint", NULL, ONE_IMPLEMENTATION},
    {"enable_thinking", "thinking", NULL},
    {"entropy_coeff", "entropy_coef", NULL},
    {"environment_feedback_only_without_solution", NULL, OTHER_METHOD},
    {"eos_token", NULL, ENDS},
    {"epsilon_low", "epsilon", NULL},
    {"escape", NULL, NOT_NEEDED},
    {"eval_accumulation_steps", NULL, SPLIT_EVALUATION},
    {"eval_dataset", "eval_data", NULL},
    {"eval_delay", "eval_steps", NULL},
    {"eval_do_concat_batches", NULL, COLUMNS},
    {"eval_every", "eval_steps", NULL},
    {"eval_interval", "eval_steps", NULL},
    {"eval_on_start", "eval_steps", "evaluation before and after is always done"},
    {"eval_packing", NULL, PACKED},
    {"eval_use_gather_object", NULL, COLUMNS},
    {"evaluation_strategy", "eval_steps", EVALUATED},
    {"extra_eos_token", NULL, ENDS},
    {"f", "batch|data", ROWS},
    {"fa", NULL, NOT_NEEDED},
    {"feedback_template", NULL, OTHER_METHOD},
    {"file", "batch|data", ROWS},
    {"filter_all_incorrect", NULL, OTHER_METHOD},
    {"fine_tune_type", "use_peft", LORA_OPTIONS},
    {"flash_attention", NULL, NOT_NEEDED},
    {"flash_attn", NULL, ONE_IMPLEMENTATION},
    {"fork_threshold_tokens", NULL, IN_TURN},
    {"fp16", "dtype", DTYPES},
    {"fp16_full_eval", "dtype", DTYPES},
    {"fp32", "dtype", DTYPES},
    {"fsdp", NULL, ONE_DEVICE},
    {"fsdp_*", NULL, ONE_DEVICE},
    {"fsdp_config", NULL, ONE_DEVICE},
    {"full_determinism", NULL,
     "not needed: a run is exact, whatever the threads and micro-batches; leave it out"},
    {"generate_during_eval", NULL, NO_PREFERENCE},
    {"generate_from_teacher", NULL, NO_DISTILLATION},
    {"generation_kwargs", NULL,
     "name each one as an option: temperature, top_p, top_k, min_p, repetition_penalty, stop"},
    {"gold_*", NULL, NO_DISTILLATION},
    {"gpu_layers", NULL, ALL_LAYERS},
    {"gpu_memory_utilization", "memory_limit", "in GB, not a share"},
    {"grad_accumulation_steps", NULL, SPLIT_BATCH},
    {"grad_checkpoint", "recompute", RECOMPUTES},
    {"grad_clip", "max_grad_norm", NULL},
    {"gradient_checkpointing", "recompute", RECOMPUTES},
    {"gradient_checkpointing_kwargs", "recompute", RECOMPUTES},
    {"gradient_clipping", "max_grad_norm", NULL},
    {"grammar", "guided_grammar", "GBNF or Lark"},
    {"grammar_file", "guided_grammar", "the name of a file"},
    {"group_by_length", NULL, PACKED},
    {"group_size", "num_generations", NULL},
    {"heartbeat_stale_after_s", NULL, IN_TURN},
    {"hf_path", "model", NULL},
    {"host", NULL, NO_SERVER},
    {"hub_*", NULL, REPORTS},
    {"hub_revision", NULL, LOCAL_MODEL},
    {"i", NULL, NOT_NEEDED},
    {"ignore_bias_buffers", NULL, NOT_NEEDED},
    {"ignore_chat_template", "chat", "--no-chat"},
    {"ignore_data_skip", NULL, CHECKPOINT},
    {"include_environment_feedback", NULL, OTHER_METHOD},
    {"include_for_metrics", NULL, COLUMNS},
    {"include_num_input_tokens_seen", NULL, COLUMNS},
    {"init_kl_coef", "beta", NULL},
    {"interactive", NULL, NOT_NEEDED},
    {"is_encoder_decoder", NULL, NO_PREFERENCE},
    {"iters", "steps", NULL},
    {"jit_mode_eval", NULL, ONE_IMPLEMENTATION},
    {"json_schema", "guided_json", "the schema, or a file of it"},
    {"keep", NULL, CONTEXT},
    {"kl_beta", "beta", NULL},
    {"kl_coef", "beta", NULL},
    {"kl_loss_coef", "beta", NULL},
    {"kl_loss_type", "kl_estimator", "low_var_kl is k3, kl is k1, mse is k2"},
    {"kv_bits", NULL, "an option of generate, chat and serve: what is trained is sampled with exact keys and values; leave it out"},
    {"kv_cache_dtype", "kv_bits", KV_BITS},
    {"kv_group_size", NULL, "with kv_bits 8 each head of a token has a scale; leave it out"},
    {"label_names", NULL, COLUMNS},
    {"label_smoothing", "label_smoothing_factor", NULL},
    {"learning_rate_schedule", "lr_scheduler_type", NULL},
    {"length_column_name", NULL, PACKED},
    {"liger_kernel_config", NULL, ONE_IMPLEMENTATION},
    {"lmbda", NULL, NO_DISTILLATION},
    {"load_in_4bit", NULL, NO_QUANTISATION},
    {"load_in_8bit", NULL, NO_QUANTISATION},
    {"local_rank", NULL, ONE_DEVICE},
    {"log_completions_hub_repo", NULL, REPORTS},
    {"log_completions_steps", NULL, COMPLETIONS},
    {"log_level", NULL, LOGGING},
    {"log_level_replica", NULL, ONE_DEVICE},
    {"log_multimodal", NULL, COMPLETIONS},
    {"log_on_each_node", NULL, ONE_DEVICE},
    {"log_unique_prompts", NULL, COMPLETIONS},
    {"logging_dir", "out", "metrics.jsonl is written into the run folder"},
    {"logging_first_step", NULL, LOGGING},
    {"logging_nan_inf_filter", NULL, LOGGING},
    {"logging_strategy", NULL, LOGGING},
    {"logit_bias_map", "logit_bias", NULL},
    {"lora", "use_peft", LORA_OPTIONS},
    {"lora_parameters", "lora_r", LORA_OPTIONS},
    {"lora_task_type", NULL, NOT_NEEDED},
    {"loss_agg_mode", "loss_type", "token-mean is dapo, seq-mean-token-mean grpo, seq-mean-token-sum luspo"},
    {"lr", "learning_rate", NULL},
    {"lr_schedule", "lr_scheduler_type", NULL},
    {"lr_scheduler", "lr_scheduler_type", NULL},
    {"m", "model", "--model, a folder in Hugging Face layout"},
    {"main_gpu", NULL, ALL_LAYERS},
    {"mask_prompt", "completion_only_loss", COMPLETION_LOSS},
    {"mask_truncated", "mask_truncated_completions", NULL},
    {"max_gen_length", "max_completion_length", NULL},
    {"max_grad_value", "max_grad_norm", NULL},
    {"max_inflight_tasks", NULL, IN_TURN},
    {"max_kv_size", NULL,
     "an option of generate, chat and serve: what is trained is sampled with exact keys and values; leave it out"},
    {"max_model_len", NULL, CONTEXT},
    {"max_new_tokens", "max_completion_length", NULL},
    {"max_num_seqs", "decode_concurrency", NULL},
    {"max_prompt_len", "max_prompt_length", NULL},
    {"max_reprompt_len", NULL, OTHER_METHOD},
    {"max_response_length", "max_completion_length", NULL},
    {"max_seq_len", "max_length", NULL},
    {"max_seq_length", "max_length", NULL},
    {"max_staleness", NULL, IN_TURN},
    {"max_steps", "steps", NULL},
    {"max_tokens_to_generate", "max_completion_length", NULL},
    {"min_tokens_to_keep", NULL, "at least one token is kept; leave it out"},
    {"mirostat", NULL, NO_SAMPLER},
    {"missing_eos_penalty", NULL, NO_PREFERENCE},
    {"mlock", NULL, NOT_NEEDED},
    {"mlx_path", "out", NULL},
    {"mmap", NULL, NOT_NEEDED},
    {"model_init_kwargs", NULL, LOCAL_MODEL},
    {"model_name", "model", NULL},
    {"model_name_or_path", "model", "a folder on this machine"},
    {"model_path", "model", NULL},
    {"model_revision", NULL, LOCAL_MODEL},
    {"model_type", NULL, COMMANDS},
    {"n_batch", "prefill_step_size", NULL},
    {"n_ctx", NULL, CONTEXT},
    {"n_epochs", "epochs", NULL},
    {"n_generations", "num_generations", NULL},
    {"n_gpu_layers", NULL, ALL_LAYERS},
    {"n_predict", "max_completion_length", NULL},
    {"n_samples", "n|num_generations", NULL},
    {"n_threads", "threads", NULL},
    {"ngl", NULL, ALL_LAYERS},
    {"no_cuda", "device", CPU},
    {"no_mmap", NULL, NOT_NEEDED},
    {"no_warmup", NULL, NOT_NEEDED},
    {"normalize_advantages", "scale_rewards", NULL},
    {"np", "decode_concurrency", NULL},
    {"num_beams", NULL, DRAWS},
    {"num_completions", "n|num_generations", NULL},
    {"num_completions_to_print", NULL, COMPLETIONS},
    {"num_epochs", "epochs", NULL},
    {"num_generations_eval", "n", NULL},
    {"num_layers", "lora_target_modules", LORA_OPTIONS},
    {"num_loss_tokens_to_skip", NULL, NO_DISTILLATION},
    {"num_ppo_epochs", "num_iterations", NULL},
    {"num_predict", "max_completion_length", NULL},
    {"num_return_sequences", "n|num_generations", NULL},
    {"num_steps", "steps", NULL},
    {"num_threads", "threads", NULL},
    {"num_train_epochs", "epochs", NULL},
    {"num_value_samples", NULL, OTHER_METHOD},
    {"numa", NULL, NOT_NEEDED},
    {"optim_target_modules", "lr_groups", "a rate for tensors by name; GaLore and its like are not there"},
    {"optimize_cuda_cache", NULL, ONE_IMPLEMENTATION},
    {"optimizer", "optim", NULL},
    {"optimizer_config", "optim_args", NULL},
    {"output_dir", "out", "the run folder"},
    {"p", "prompt", NULL},
    {"pad_to_multiple_of", NULL, PACKED},
    {"pad_token", NULL, PACKED},
    {"padding_free", NULL, PACKED},
    {"padding_value", NULL, NO_PREFERENCE},
    {"parallel", "decode_concurrency", NULL},
    {"parallelism_config", NULL, ONE_DEVICE},
    {"peft_config", "use_peft", LORA_OPTIONS},
    {"per_device_eval_batch_size", NULL, SPLIT_EVALUATION},
    {"pipeline", NULL, ONE_DEVICE},
    {"port", NULL, NO_SERVER},
    {"ppo_epochs", "num_iterations", NULL},
    {"precision", "dtype", DTYPES},
    {"precompute_ref_batch_size", NULL, REFERENCE_ONCE},
    {"precompute_ref_log_probs", NULL, REFERENCE_ONCE},
    {"prediction_loss_only", NULL, COLUMNS},
    {"prefill_response", NULL, "put it into --prompt with the chat template written out, and --no-chat"},
    {"pretrained_model_name_or_path", "model", NULL},
    {"project", NULL, REPORTS},
    {"prompt_cache", NULL, NO_CACHE},
    {"prompt_cache_bytes", NULL, NO_CACHE},
    {"prompt_cache_file", NULL, NO_CACHE},
    {"prompt_cache_size", NULL, NO_CACHE},
    {"prompt_concurrency", "decode_concurrency", NULL},
    {"push_to_hub", NULL, REPORTS},
    {"q_bits", NULL, NO_QUANTISATION},
    {"q_group_size", NULL, NO_QUANTISATION},
    {"q_mode", NULL, NO_QUANTISATION},
    {"quant_predicate", NULL, NO_QUANTISATION},
    {"quantization", NULL, NO_QUANTISATION},
    {"quantize", NULL, NO_QUANTISATION},
    {"quantize_activations", NULL, NO_QUANTISATION},
    {"quantized_kv_start", NULL, "with kv_bits 8 the keys and values of all tokens are in 8 bits; leave it out"},
    {"queue_maxsize", NULL, IN_TURN},
    {"random_seed", "seed", NULL},
    {"ref_model", "model", "the reference of beta is the model as the run begins with it; dpo and kto have it"},
    {"remove_thinking_from_demonstration", NULL, OTHER_METHOD},
    {"remove_unused_columns", NULL, COLUMNS},
    {"repeat_last_n", "repetition_context", NULL},
    {"repeat_penalty", "repetition_penalty", NULL},
    {"repetition_context_size", "repetition_context", NULL},
    {"reprompt_template", NULL, OTHER_METHOD},
    {"request_timeout", NULL, IN_TURN},
    {"restore_callback_states_from_checkpoint", NULL, CHECKPOINT},
    {"resume_adapter_file", "adapter", LORA_OPTIONS},
    {"resume_from_checkpoint", "resume", "'latest', or a checkpoint folder of the run"},
    {"reverse_prompt", "stop", NULL},
    {"reward_fn", "reward", REWARDS},
    {"reward_func", "reward", REWARDS},
    {"reward_funcs", "reward", REWARDS},
    {"reward_functions", "reward", REWARDS},
    {"reward_model", "reward", REWARD_MODEL},
    {"reward_model_name_or_path", "reward", REWARD_MODEL},
    {"reward_model_path", "reward", REWARD_MODEL},
    {"reward_weight", "reward_weights", NULL},
    {"rewards", "reward", REWARDS},
    {"rollout_n", "num_generations", NULL},
    {"run_name", NULL, REPORTS},
    {"s", "seed", NULL},
    {"save_dir", "out", NULL},
    {"save_every", "save_steps", NULL},
    {"save_on_each_node", NULL, ONE_DEVICE},
    {"save_only_model", NULL, CHECKPOINT},
    {"save_strategy", "save_steps", "0: only final/"},
    {"schedule", "lr_scheduler_type", NULL},
    {"seq_kd", NULL, NO_DISTILLATION},
    {"sequence_len", "max_length", NULL},
    {"shuffle", "shuffle_dataset", NULL},
    {"skip_memory_metrics", NULL, LOGGING},
    {"solution_template", NULL, OTHER_METHOD},
    {"split_mode", NULL, ALL_LAYERS},
    {"steps_per_eval", "eval_steps", NULL},
    {"steps_per_report", "logging_steps", NULL},
    {"stop_sequences", "stop", NULL},
    {"stop_strings", "stop", NULL},
    {"success_reward_threshold", NULL, OTHER_METHOD},
    {"swanlab", NULL, REPORTS},
    {"sys", NULL, SYSTEM},
    {"system_prompt", NULL, SYSTEM},
    {"t", "threads", NULL},
    {"tau_neg", "sapo_temperature_neg", NULL},
    {"tau_pos", "sapo_temperature_pos", NULL},
    {"teacher_*", NULL, NO_DISTILLATION},
    {"teacher_model_init_kwargs", NULL, LOCAL_MODEL},
    {"teacher_model_revision", NULL, LOCAL_MODEL},
    {"teacher_temperature", "temperature", "one temperature for both distributions"},
    {"temp", "temperature", NULL},
    {"tensor_parallel_size", NULL, ONE_DEVICE},
    {"test", NULL, COMMAND},
    {"test_batches", NULL, SPLIT_EVALUATION},
    {"tf32", "dtype", DTYPES},
    {"token_budget", NULL, IN_TURN},
    {"top_n_sigma", NULL, NO_SAMPLER},
    {"torch_compile", NULL, ONE_IMPLEMENTATION},
    {"torch_compile_*", NULL, ONE_IMPLEMENTATION},
    {"torch_dtype", "dtype", DTYPES},
    {"torch_empty_cache_steps", NULL, ONE_IMPLEMENTATION},
    {"total_steps", "steps", NULL},
    {"tpo_alpha", NULL, NO_PREFERENCE},
    {"tpo_l_gamma", NULL, NO_PREFERENCE},
    {"trackio_*", NULL, REPORTS},
    {"train", NULL, COMMAND},
    {"train_batch_size", "batch_size|prompts_per_step", NULL},
    {"train_data", "data", NULL},
    {"train_dataset", "data", NULL},
    {"train_file", "data", NULL},
    {"train_mode", NULL, COMMANDS},
    {"train_on_inputs", "completion_only_loss", "false, where this is true"},
    {"train_sampling_strategy", NULL, PACKED},
    {"train_steps", "steps", NULL},
    {"transformers_continuous_batching_config", NULL, ONE_ENGINE},
    {"trust_remote_code", NULL, "no code of a model is ever run; leave it out"},
    {"typical", NULL, NO_SAMPLER},
    {"typical_p", NULL, NO_SAMPLER},
    {"ub", "prefill_step_size", PREFILL},
    {"ubatch_size", "prefill_step_size", NULL},
    {"uld_*", NULL, NO_DISTILLATION},
    {"use_bnb_nested_quant", NULL, NO_QUANTISATION},
    {"use_cache", NULL, ONE_IMPLEMENTATION},
    {"use_cpu", "device", CPU},
    {"use_default_chat_template", NULL, "a folder without a template gets one of our own"},
    {"use_extended_uld", NULL, NO_DISTILLATION},
    {"use_kl_in_reward", "kl_in_reward", NULL},
    {"use_liger_kernel", NULL, ONE_IMPLEMENTATION},
    {"use_successful_as_teacher", NULL, OTHER_METHOD},
    {"use_teacher_server", NULL, NO_DISTILLATION},
    {"use_transformers_continuous_batching", NULL, ONE_ENGINE},
    {"use_transformers_paged", NULL, ONE_ENGINE},
    {"use_uld_loss", NULL, NO_DISTILLATION},
    {"use_vllm", NULL, ONE_ENGINE},
    {"val_batches", NULL, SPLIT_EVALUATION},
    {"val_data", "eval_data", NULL},
    {"valid_data", "eval_data", NULL},
    {"validation_file", "eval_data", NULL},
    {"verbose", NULL, NOT_NEEDED},
    {"vllm_*", NULL, ONE_ENGINE},
    {"vllm_tensor_parallel_size", NULL, ONE_DEVICE},
    {"wandb", NULL, REPORTS},
    {"wandb_*", NULL, REPORTS},
    {"warmup", "warmup_steps", NULL},
    {"warmup_ratio", "warmup_steps", "a number below 1 is a share of all steps"},
    {"wd", "weight_decay", NULL},
    {"weight_sync_steps", NULL, IN_TURN},
    {"weight_sync_timeout", NULL, IN_TURN},
};
/* clang-format on */

const struct option_hint *options_hints(size_t *count)
{
    *count = sizeof hints / sizeof hints[0];
    return hints;
}

bool options_hint_needless(const struct option_hint *hint)
{
    static const char end[] = "leave it out";
    const size_t n = hint->says == NULL ? 0 : strlen(hint->says);
    return hint->targets == NULL && n >= sizeof end - 1 && strcmp(hint->says + n - (sizeof end - 1), end) == 0;
}

const char *options_value_hint(enum option_id id, const char *word)
{
    static const char metric[] =
        "which follows a metric of evaluations: the rate of a step would not be known from its "
        "number, as resuming needs it";
    static const struct {
        enum option_id id;
        const char *word, *says;
    } values[] = {{OPTION_LR_SCHEDULER_TYPE, "reduce_lr_on_plateau", metric},
                  {OPTION_LR_SCHEDULER_TYPE, "greedy", metric},
                  {OPTION_LR_SCHEDULER_TYPE, "wsd", "which is called warmup_stable_decay"},
                  {OPTION_METRIC_FOR_BEST_MODEL, "eval_loss", "which is called loss"},
                  {OPTION_METRIC_FOR_BEST_MODEL, "eval_mean_token_accuracy", "which is called mean_token_accuracy"},
                  {OPTION_METRIC_FOR_BEST_MODEL, "eval_entropy", "which is called entropy"},
                  {OPTION_LOSS_TYPE, "chunked_nll", "which is called nll"},
                  {OPTION_OPTIM, "adamw", "which is called adamw_torch"},
                  {OPTION_OPTIM, "adam", "which is called adamw_torch"},
                  {OPTION_OPTIM, "adamw_hf", "which is called adamw_torch"},
                  {OPTION_OPTIM, "lion", "which is called lion_32bit"},
                  {OPTION_OPTIM, "lion_8bit", "which keeps its state whole here: lion_32bit"}};
    if (id == OPTION_OPTIM && strncmp(word, "paged_", 6) == 0)
        return "whose pages in host memory are adamw_8bit or adamw_torch with --offload optimizer here";
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        if (values[i].id == id && strcmp(values[i].word, word) == 0)
            return values[i].says;
    return NULL;
}

/* Of a table: the name itself, or a family that it is of. */
static const struct option_hint *look_up(const struct option_hint *table, size_t count, const char *name)
{
    const struct option_hint *family = NULL;
    for (size_t i = 0; i < count; i++) {
        const char *own = table[i].name;
        size_t n = strlen(own) - 1;
        if (options_same_name(own, name))
            return &table[i];
        if (own[n] != '*' || strlen(name) < n)
            continue;
        size_t same = 0;
        while (same < n && (own[same] == name[same] || (own[same] == '_' && name[same] == '-')))
            same++;
        if (same == n)
            family = &table[i];
    }
    return family;
}

const struct option_hint *options_hint(const char *name)
{
    size_t count = 0;
    const struct option_hint *more = options_hints_more(&count), *found = NULL;
    for (const char *end = name; found == NULL && end != NULL;) {
        found = look_up(hints, sizeof hints / sizeof hints[0], end);
        found = found == NULL ? look_up(more, count, end) : found;
        end = strchr(end, '.');
        end = end == NULL ? NULL : end + 1;
    }
    return found;
}

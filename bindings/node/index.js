'use strict';
// Post-training of language models with GRPO and its family, and generation: see docs/NODE.md.
const { native, CohortError, RewardTimeoutError } = require('./lib/native.js');
const {
  Qwen3Model, ModelLoader, loadModel, GenerationResult, BatchGenerationResult, ChatResult, createToolDefinition, formatToolResponse,
} = require('./lib/model.js');
const {
  NativeRewardRegistry, createRewardRegistry, ofTokens, correctnessReward, integerReward, strictFormatReward, softFormatReward, xmlCountReward,
  accuracyReward, ALL_REWARD_FUNCTIONS,
} = require('./lib/rewards.js');
const { GRPOTrainer, DEFAULT_GRPO_CONFIG } = require('./lib/trainer.js');
const {
  SFTTrainer, DPOTrainer, KTOTrainer, ORPOTrainer, CPOTrainer, RewardTrainer, DistillationTrainer,
} = require('./lib/runs.js');
const { OutputStore } = require('./lib/store.js');
const {
  SYSTEM_PROMPT, XML_COT_FORMAT, defaultPromptTemplate, extractXmlAnswer, extractXmlReasoning, extractHashAnswer, extractGsm8kAnswer,
  createDatasetExample, validateDatasetExample, loadLocalGsm8kDataset, LocalGsm8kDatasetLoader, initModel,
  parseToolCallsFromText, buildRewardOutputs,
} = require('./lib/data.js');

const version = native.version();

module.exports = {
  version, CohortError, RewardTimeoutError, Qwen3Model, ModelLoader, loadModel, initModel, GenerationResult, BatchGenerationResult, ChatResult,
  createToolDefinition, formatToolResponse, NativeRewardRegistry, createRewardRegistry, ofTokens, correctnessReward, integerReward,
  strictFormatReward, softFormatReward, xmlCountReward, accuracyReward, ALL_REWARD_FUNCTIONS, GRPOTrainer, DEFAULT_GRPO_CONFIG,
  SFTTrainer, DPOTrainer, KTOTrainer, ORPOTrainer, CPOTrainer, RewardTrainer, DistillationTrainer, OutputStore,
  SYSTEM_PROMPT, XML_COT_FORMAT, defaultPromptTemplate, extractXmlAnswer, extractXmlReasoning, extractHashAnswer, extractGsm8kAnswer,
  createDatasetExample, validateDatasetExample, loadLocalGsm8kDataset, LocalGsm8kDatasetLoader,
  parseToolCallsFromText, buildRewardOutputs,
};

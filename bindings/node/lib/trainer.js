'use strict';
// GRPOTrainer: train(data) is one call of the command that `cohort grpo` runs; trainStep() and its like go step by step.
const fs = require('node:fs');
const path = require('node:path');
const { EventEmitter } = require('node:events');
const { native, CohortError, optionPairs, optionTable, notice, camel } = require('./native.js');
const { Qwen3Model, messageOf, toolOf } = require('./model.js');
const { BUILTIN, NativeRewardRegistry, scoresOf } = require('./rewards.js');
const { Bridge } = require('./run.js');
const { answersOf } = require('./tools.js');
const { OutputStore } = require('./store.js');

/** MLX-Node's defaults. What is not here has the library's (docs/OPTIONS.md). */
const DEFAULT_GRPO_CONFIG = {
  learningRate: 1e-6, gradientAccumulationSteps: 1, gradientClipNorm: 1.0, weightDecay: 0.01, numEpochs: 1, batchSize: 1, groupSize: 4,
  clipEpsilon: 0.2, klCoef: 0.0, lossType: 'grpo', advantageNormalization: true, maxNewTokens: 256, temperature: 0.8, topP: 0.95,
  repetitionPenalty: 1.1, logInterval: 1, saveInterval: 100, logConsole: true, maxCheckpoints: 3, rewardTimeout: 60000,
};

/** Settings of the trainer itself. */
const OWN = new Set([
  'modelPath', 'outputDir', 'rewardFunction', 'rewardTimeout', 'resumeFromCheckpoint', 'logConsole', 'tools', 'maxPromptLength', 'evalDataset',
  'evalInterval', 'outputStore', 'signal', 'runName', 'rewardType', 'gradientAccumulationSteps', 'batchSize', 'steps', 'maxSteps',
]);

/** MLX-Node's names of options: another name, or what they mean. */
const NAMES = {
  numEpochs: 'epochs', groupSize: 'num_generations', clipEpsilon: 'epsilon', klCoef: 'beta', maxNewTokens: 'max_completion_length',
  gradientClipNorm: 'max_grad_norm', saveInterval: 'save_steps', logInterval: 'logging_steps', enableThinking: 'thinking',
  advantageNormalization: (value) => (value === false ? { scale_rewards: 'none' } : {}),
  maxCheckpoints: (value) => (value > 0 ? { save_total_limit: value } : {}),
  repetitionPenalty: (value, given) => ({ repetition_penalty: value, ...(given.repetitionContext === undefined ? { repetition_context: 256 } : {}) }),
  device: (value) => (['metal', 'gpu', 'mps'].includes(value) ? {} : { device: value }),
};

const WITHOUT_MEANING = {
  modelConfig: 'the folder says what the model is', maxCompletionLengthForTraining: 'completions are trained on whole',
  gradientClipValue: 'gradients are clipped by their norm alone, as before', logJsonl: 'metrics.jsonl has every step', tuiMode: '`cohort watch` looks at any run',
  lmHeadChunkSize: 'memory is planned', forwardChunkSize: 'memory is planned', vocabChunkSize: 'memory is planned',
  useParallelBatchGeneration: 'completions are always computed together', verboseNanDetection: 'a step that is not finite is skipped and said',
  gradientCheckpointing: 'activations are computed again where memory asks for it (recompute)', maxNanGradients: 'a step that is not finite is skipped and said',
  emergencySaveThreshold: 'a step that is not finite is skipped and said', heavyCleanupInterval: 'memory is planned', memoryCleanupThreshold: 'memory is planned',
};

const METRICS = {
  step: 'step', loss: 'loss', meanReward: 'reward', stdReward: 'reward_std', epoch: 'epoch', kl: 'kl', entropy: 'entropy',
  clipRatio: 'clip_ratio/region_mean', gradNorm: 'grad_norm', learningRate: 'learning_rate',
};

/** metrics.jsonl's names as TrainStepMetrics; all of them are in raw. last: of the step before; n: completions of this one. */
function metricsOf(raw, last, n, scaled) {
  const metrics = { raw };
  for (const [name, key] of Object.entries(METRICS)) metrics[name] = raw[key] ?? (name === 'kl' ? 0 : NaN);
  metrics.meanAdvantage = 0; // of a group, by what an advantage is
  metrics.stdAdvantage = scaled ? Number(metrics.stdReward > 0) : metrics.stdReward;
  metrics.totalTokens = Math.round((raw['completions/mean_length'] ?? NaN) * n);
  metrics.gradientsApplied = !((raw.skipped_steps ?? 0) > (last?.raw.skipped_steps ?? 0));
  metrics.generationTimeMs = 1000 * (raw['time/rollout'] ?? NaN);
  metrics.trainingTimeMs = 1000 * (raw['time/train'] ?? NaN);
  return metrics;
}

function readConfig(config) {
  if (typeof config !== 'object' || config === null) throw new TypeError('the configuration is no object');
  const given = { ...DEFAULT_GRPO_CONFIG };
  for (const [name, value] of Object.entries(config)) if (value !== undefined) given[name] = value;
  if (given.rewardModelPath !== undefined) {
    throw new CohortError('ERR_COHORT_UNSUPPORTED', 'rewardModelPath: reward models are not supported; score with a function');
  }
  const options = {};
  for (const [name, value] of Object.entries(given)) {
    if (OWN.has(name) || value === null) continue;
    const means = NAMES[name];
    if (name in WITHOUT_MEANING) {
      if (name in config && value !== false) notice(`${name} has no meaning here: ${WITHOUT_MEANING[name]}`);
    } else if (typeof means === 'function') {
      Object.assign(options, means(value, given));
    } else {
      options[means ?? name] = value;
    }
  }
  if (config.device && options.device === undefined) notice(`device: '${config.device}' is not there; the GPU that is found is used (device: 'auto')`);
  const table = optionTable('grpo');
  const has = (name) => Object.keys(config).some((key) => table.get(camel(key))?.name === name);
  if (!has('prompts_per_step') && !has('per_device_train_batch_size') && !has('generation_batch_size')) {
    options.prompts_per_step = given.batchSize * given.gradientAccumulationSteps;
  } else if (config.gradientAccumulationSteps !== undefined) {
    options.gradient_accumulation_steps = config.gradientAccumulationSteps;
  }
  if (!has('shuffle_dataset')) options.shuffle_dataset = false; // rows are taken as they come
  const steps = given.steps ?? given.maxSteps;
  if (steps !== undefined && steps !== null) {
    options.steps = steps;
    if (!('numEpochs' in config)) delete options.epochs;
  }
  const pairs = optionPairs('grpo', options);
  native.optionsCheck('grpo', pairs);
  return { given, pairs, options };
}

/** A DatasetExample, or a row as the library has them, as a row. */
function rowOf(example, i, tools) {
  if (typeof example !== 'object' || example === null) throw new TypeError(`row ${i} is no object; expected {prompt, answer, ...}`);
  const { prompt } = example;
  if (typeof prompt !== 'string' && !(Array.isArray(prompt) && prompt.length > 0)) {
    throw new TypeError(`row ${i}: prompt is ${Array.isArray(prompt) ? 'empty' : `a ${typeof prompt}`}; expected messages [{role, content}] or a string`);
  }
  return JSON.stringify({
    ...example, prompt: typeof prompt === 'string' ? prompt : prompt.map(messageOf),
    ...(tools && example.tools === undefined && typeof prompt !== 'string' ? { tools: tools.map(toolOf) } : {}),
  });
}

const STEP = /^step-(\d+)$/;

class GRPOTrainer extends EventEmitter {
  #given;
  #pairs;
  #options;
  #registry = new NativeRewardRegistry();
  #reward = null;
  #bridge = null; // of what is under way
  #stepper = null; // a trainer that goes step by step, once it is open
  #opening = null;
  #state = 'new'; // -> 'training' -> 'trained', or 'stepping' -> 'closed'
  #store = null;
  #step = 0;
  #epoch = 0;
  #context = undefined;
  #scored = [];
  #last = null;
  #stopped = false;
  #epochSteps = [];
  #count = 0; // completions of a step
  #tools = null; // what answers the turns of episodes

  /** model: a Qwen3Model, whose folder is trained from; config.modelPath names a folder in its place (GRPOTrainer.create). */
  constructor(model, config = {}) {
    super();
    const { given, pairs, options } = readConfig(config ?? {});
    this.#given = given;
    this.#tools = answersOf(given.tools);
    this.#pairs = pairs;
    this.#options = options;
    const value = (name) => Number(pairs[pairs.lastIndexOf(name) + 1]);
    this.#count = pairs.includes('prompts_per_step') ? value('prompts_per_step') * value('num_generations') : NaN;
    this.modelPath = model instanceof Qwen3Model ? model.path : given.modelPath;
    if (typeof this.modelPath !== 'string') throw new TypeError('expected a Qwen3Model, or config.modelPath');
    this.outputDir = given.outputDir ?? './outputs';
    if (given.rewardFunction !== undefined) this.setRewardFunction(given.rewardFunction);
  }

  /** Reads nothing of the model yet: train() and trainStep() do. */
  static async create(config) {
    if (!config?.modelPath) throw new TypeError('modelPath is required by GRPOTrainer.create()');
    if (!fs.existsSync(config.modelPath)) {
      native.optionsCheck('grpo', ['model', String(config.modelPath)]);
      throw new CohortError('ERR_COHORT_IO', `modelPath: there is no folder '${config.modelPath}'`);
    }
    return new this(null, config);
  }

  /** The newest checkpoint in the run folder, or null. */
  static findLatestCheckpoint(outputDir) {
    const folder = outputDir ? path.join(outputDir, 'checkpoints') : '';
    if (!outputDir || !fs.existsSync(folder)) return null;
    const steps = fs.readdirSync(folder).map((name) => STEP.exec(name)).filter(Boolean).map((match) => Number(match[1]));
    return steps.length === 0 ? null : path.join(folder, `step-${Math.max(...steps)}`);
  }

  registerBuiltinReward(config) {
    this.#notOpen('registerBuiltinReward');
    this.#registry.register(config);
  }

  setRewardFunction(reward) {
    if (typeof reward !== 'function') throw new TypeError(`the reward is a ${typeof reward}; expected a function of outputs`);
    if (this.#stepper !== null && (reward[BUILTIN] || reward.rewardsTokens || this.#stepper.function === null)) this.#notOpen('setRewardFunction');
    this.#reward = reward;
  }

  get hasBuiltinRewards() {
    return !this.#registry.isEmpty;
  }

  get rewardNames() {
    return this.#registry.names;
  }

  get step() {
    return this.#step;
  }

  get epoch() {
    return this.#epoch;
  }

  getStep() {
    return this.#step;
  }

  getEpoch() {
    return this.#epoch;
  }

  #notOpen(what) {
    if (this.#state === 'training' || this.#stepper !== null) throw new CohortError('ERR_COHORT_STATE', `${what}: training has begun`);
  }

  // ---- Rewards

  /** What rewards a run has: {callbacks, pairs}. */
  #rewards() {
    const reward = this.#reward;
    if (reward === null && this.#registry.isEmpty) {
      throw new CohortError('ERR_COHORT_ARGUMENT', 'No reward function configured. Set rewardFunction in config or call setRewardFunction()');
    }
    if (reward === null) return { callbacks: [], pairs: optionPairs('grpo', this.#registry.options) };
    if (!this.#registry.isEmpty) notice('the reward function is used; built-in rewards that were registered are not');
    if (reward[BUILTIN]) return { callbacks: [], pairs: optionPairs('grpo', { ...reward[BUILTIN].options, reward: reward[BUILTIN].spec }) };
    const name = (reward.name || 'reward').replace(/^bound /, '').replace(/[^\w.-]/g, '_');
    const call = async (outputs) => {
      const values = await this.#reward(outputs, this.#context);
      this.#scored = values;
      return values;
    };
    return { callbacks: [{ name, call, tokens: reward.rewardsTokens === true }], pairs: [] };
  }

  #events() {
    return {
      onMessage: (text) => {
        if (this.#given.logConsole) console.log(text);
        if (/^checkpoint|saved/.test(text)) this.emit('checkpoint', text);
        this.emit('message', text);
      },
      onMetrics: (raw) => {
        const metrics = metricsOf(raw, this.#last, this.#count, this.#options.scale_rewards !== 'none');
        if (raw.loss === undefined) {
          this.emit('evaluation', raw);
          return;
        }
        this.#step = raw.step;
        this.#epoch = Math.max(0, Math.ceil(raw.epoch ?? 0) - 1);
        this.#last = metrics;
        this.#epochSteps.push(metrics);
        this.emit('step', metrics);
      },
      ...(this.listenerCount('progress') > 0 ? { onProgress: (progress) => this.emit('progress', progress) } : {}),
    };
  }

  #resume() {
    const from = this.#given.resumeFromCheckpoint;
    if (!from) return [];
    if (from !== 'latest' && from !== true) return ['resume', String(from)];
    return GRPOTrainer.findLatestCheckpoint(this.outputDir) === null ? [] : ['resume', 'latest'];
  }

  #write(examples, name) {
    if (typeof examples === 'string') return examples;
    const folder = path.join(this.outputDir, 'node');
    const rows = Array.from(examples, (example, i) => rowOf(example, i, this.#given.tools));
    fs.mkdirSync(folder, { recursive: true });
    const file = path.join(folder, `${name}.jsonl`);
    fs.writeFileSync(`${file}.${process.pid}`, rows.map((row) => row + '\n').join(''));
    fs.renameSync(`${file}.${process.pid}`, file);
    return file;
  }

  // ---- A whole run

  /**
   * Trains on a list of {prompt, answer, ...} or a file, to the end. What a reward throws ends the run, at its last checkpoint, and is
   * thrown here. stop(), or the signal of the configuration, saves a checkpoint and ends it: the summary says stopped.
   */
  async train(dataset) {
    if (this.#state !== 'new') {
      throw new CohortError('ERR_COHORT_STATE', this.#state === 'trained'
        ? 'train: this run has ended; create a trainer with resumeFromCheckpoint, or another outputDir'
        : `train: this trainer is ${this.#state}; create one for each run`);
    }
    if (typeof dataset !== 'string' && typeof dataset?.[Symbol.iterator] !== 'function') throw new TypeError('train: expected a list of rows, or the path of a file');
    if (Array.isArray(dataset) && dataset.length === 0) return this.#summary();
    const { callbacks, pairs } = this.#rewards();
    this.#given.signal?.throwIfAborted();
    this.#state = 'training';
    this.#stopped = false;
    const abort = () => this.stop();
    try {
      const evaluated = this.#given.evalDataset === undefined ? [] : [
        'eval_data', this.#write(this.#given.evalDataset, 'eval'), ...(this.#given.evalInterval ? ['eval_steps', String(this.#given.evalInterval)] : []),
      ];
      const all = [
        'model', this.modelPath, 'data', this.#write(dataset, 'train'), 'out', this.outputDir, ...this.#pairs, ...pairs, ...evaluated, ...this.#resume(),
      ];
      this.#bridge = new Bridge(callbacks, this.#events(), this.#tools);
      const running = this.#bridge.run('grpo', all, this.#given.rewardTimeout);
      this.#given.signal?.addEventListener('abort', abort, { once: true });
      await running;
    } catch (error) {
      if (!(this.#stopped && error instanceof CohortError && error.code === 'ERR_COHORT_CANCELLED')) throw error;
    } finally {
      this.#given.signal?.removeEventListener('abort', abort);
      this.#bridge = null;
      this.#state = 'trained';
    }
    return this.#summary();
  }

  #summary() {
    const final = path.join(this.outputDir, 'final');
    return {
      steps: this.#step, stopped: this.#stopped, metrics: this.#last, outputDir: this.outputDir,
      finalPath: !this.#stopped && fs.existsSync(final) ? final : null, checkpoint: GRPOTrainer.findLatestCheckpoint(this.outputDir),
    };
  }

  /** Asks train() to save a checkpoint and end. */
  stop() {
    if (this.#bridge === null || this.#state !== 'training') return;
    this.#stopped = true;
    native.stop(this.#bridge.handleOfRun);
  }

  // ---- Step by step

  async #steps() {
    if (this.#state === 'training' || this.#state === 'closed') throw new CohortError('ERR_COHORT_STATE', `this trainer is ${this.#state}`);
    if (this.#state === 'trained') throw new CohortError('ERR_COHORT_STATE', 'the run of train() has ended; create a trainer for single steps');
    this.#opening ??= this.#openSteps().catch((error) => {
      this.#opening = null;
      throw error;
    });
    return this.#opening;
  }

  async #openSteps() {
    const { callbacks, pairs } = this.#rewards();
    const without = [];
    for (let i = 0; i < this.#pairs.length; i += 2) {
      if (!['epochs', 'shuffle_dataset'].includes(this.#pairs[i])) without.push(this.#pairs[i], this.#pairs[i + 1]);
    }
    const length = ['max_prompt_length', String(this.#given.maxPromptLength ?? 1024)];
    const bridge = new Bridge(callbacks, this.#events(), this.#tools);
    const step = await bridge.open(['model', this.modelPath, 'out', this.outputDir, ...without, ...length, ...pairs, ...this.#resume()], this.#given.rewardTimeout);
    this.#step = step;
    this.#stepper = { bridge, handle: bridge.handleOfRun, function: callbacks.length > 0 ? this.#reward : null };
    this.#state = 'stepping';
    return this.#stepper;
  }

  #rows(prompts, answers) {
    if (!Array.isArray(prompts)) throw new TypeError('expected a list of prompts');
    return prompts.map((prompt, i) => rowOf({ prompt, ...(Array.isArray(answers) ? { answer: answers[i] ?? null } : {}) }, i, this.#given.tools));
  }

  /** One step on these prompts: completions, rewards, an update. answers: one for each prompt, or the context that the reward gets. */
  async trainStep(prompts, answers) {
    return (await this.trainStepAuto(prompts, answers)).metrics;
  }

  async trainStepAuto(prompts, answers = []) {
    const rows = this.#rows(prompts, answers);
    const { bridge, handle, function: reward } = await this.#steps();
    this.#context = Array.isArray(answers) ? undefined : answers;
    const made = JSON.parse(await bridge.settled(native.trainerRollout(handle, rows)));
    this.#scored = [];
    this.#count = made.length;
    await bridge.settled(native.trainerUpdate(handle, new Float64Array(0)));
    const completions = made.map((row) => row.completion);
    const scored = reward === null
      ? this.#reward === null ? this.scoreCompletions(made.map((row) => row.prompt), completions) : [] : this.#scored;
    return { metrics: this.#last, completions, rewards: Array.from(scored, (value) => (value === null ? NaN : Number(value))) };
  }

  /** groupSize completions of each prompt, which the next trainStep with the same prompts trains on. */
  async generateBatch(prompts) {
    if (prompts.length === 0) return batchOf([]);
    const rows = this.#rows(prompts);
    const { bridge, handle } = await this.#steps();
    return batchOf(JSON.parse(await bridge.settled(native.trainerRollout(handle, rows))));
  }

  /** Scores of texts by the built-in rewards that were registered. */
  scoreCompletions(prompts, completions) {
    return this.#registry.scoreBatch(prompts, completions);
  }

  /** Scores of completions by the reward function, or else by the built-in rewards. */
  async scoreGenerations(prompts, completions, answers = [], groupSize = this.#given.groupSize, tokenCounts = [], finishReasons = []) {
    const expected = prompts.length * groupSize;
    if (completions.length !== expected) {
      throw new TypeError(`Expected ${expected} completions (${prompts.length} prompts x ${groupSize} groupSize) but got ${completions.length}`);
    }
    if (this.#reward === null && this.#registry.isEmpty) {
      throw new CohortError('ERR_COHORT_ARGUMENT', 'No reward function configured. Set rewardFunction in config or call setRewardFunction()');
    }
    const texts = prompts.map((prompt) => (typeof prompt === 'string' ? prompt : prompt.map((message) => `${message.role}: ${message.content}`).join('\n')));
    const of = (i) => texts[Math.floor(i / groupSize)];
    if (this.#reward === null) return Float32Array.from(this.scoreCompletions(completions.map((_, i) => of(i)), completions));
    const { buildRewardOutputs } = require('./data.js');
    const outputs = buildRewardOutputs(texts, completions, answers, tokenCounts, finishReasons, groupSize);
    const values = await this.#reward(outputs, undefined);
    return Float32Array.from(scoresOf(values, completions.map(() => ({ tokens: [] })), this.#reward.name || 'reward', false));
  }

  /** Saves: a checkpoint that a run goes on from, or with name 'final' the model alone. Returns its folder. */
  async saveCheckpoint(name) {
    if (this.#state === 'trained') return this.#summary().finalPath ?? GRPOTrainer.findLatestCheckpoint(this.outputDir) ?? '';
    const { bridge, handle } = await this.#steps();
    if (name === 'final') {
      await bridge.settled(native.trainerSaveFinal(handle, null));
      return path.join(this.outputDir, 'final');
    }
    const step = Number(await bridge.settled(native.trainerSave(handle, null)));
    const made = path.join(this.outputDir, 'checkpoints', `step-${step}`);
    if (name === undefined) return made;
    const copy = path.join(this.outputDir, name);
    await fs.promises.cp(made, copy, { recursive: true });
    return copy;
  }

  startEpoch() {
    this.#epochSteps = [];
  }

  /** Means over the steps since startEpoch(). */
  endEpoch(epochTimeSecs = 0) {
    const mean = (name) => this.#epochSteps.reduce((sum, one) => sum + one[name], 0) / Math.max(1, this.#epochSteps.length);
    return {
      epoch: this.#epoch, avgLoss: mean('loss'), avgReward: mean('meanReward'), totalSteps: this.#epochSteps.length,
      totalTokens: this.#epochSteps.reduce((sum, one) => sum + one.totalTokens, 0), epochTimeSecs,
    };
  }

  /** Closes what is open, so that another run may begin with this configuration and another outputDir. */
  reset(outputDir = this.outputDir) {
    this.close();
    this.#state = 'new';
    this.#step = 0;
    this.#epoch = 0;
    this.#last = null;
    this.outputDir = outputDir;
  }

  /** The record of the run, to look into. */
  async getOutputStore() {
    this.#store ??= await OutputStore.local(this.outputDir);
    return this.#store;
  }

  /** Frees what is open, and saves nothing. */
  close() {
    if (this.#state === 'training') native.close(this.#bridge.handleOfRun);
    if (this.#stepper !== null) native.close(this.#stepper.handle);
    this.#stepper = null;
    this.#opening = null;
    this.#store?.close();
    this.#store = null;
    this.#state = 'closed';
  }
}

function batchOf(rows) {
  const completionTexts = rows.map((row) => row.completion);
  const tokenCounts = rows.map((row) => row.tokens.length);
  const finishReasons = rows.map((row) => (row.finishReason === 'eos' ? 'stop' : row.finishReason));
  return {
    completionTexts, tokenCounts, finishReasons,
    nativeResult: { completionTexts, completionTokens: rows.flatMap((row) => row.tokens), completionLengths: tokenCounts, finishReasons },
  };
}

module.exports = { GRPOTrainer, DEFAULT_GRPO_CONFIG };

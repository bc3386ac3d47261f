'use strict';
// The trainers beside GRPOTrainer: train(data) is one call of the command that `cohort sft`, `dpo`, `kto`, `orpo`, `cpo`, `reward` or `distill` runs.
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { EventEmitter } = require('node:events');
const { native, CohortError, optionPairs, optionTable } = require('./native.js');
const { Qwen3Model } = require('./model.js');
const { nameOf } = require('./rewards.js');
const { Bridge } = require('./run.js');
const { answersOf } = require('./tools.js');
const { Training, findLatestCheckpoint, checkFolder, rowsFile } = require('./training.js');

/** Settings of the trainer itself. */
const OWN = new Set(['modelPath', 'outputDir', 'resumeFromCheckpoint', 'logConsole', 'evalDataset', 'signal', 'rewardFunction', 'rewardTimeout', 'tools']);
const NAMES = {
  numEpochs: 'epochs', maxSteps: 'steps', batchSize: 'batch_size', gradientClipNorm: 'max_grad_norm', saveInterval: 'save_steps', logInterval: 'logging_steps',
  evalInterval: 'eval_steps', maxCheckpoints: 'save_total_limit', maxSeqLength: 'max_length', maxNewTokens: 'max_completion_length',
  teacherModelPath: 'teacher_model_name_or_path', groupSize: 'num_generations', enableThinking: 'thinking',
};
/** Of a run, what an evaluation is not about. */
const NOT_EVALUATED = new Set([
  'epochs', 'steps', 'save_steps', 'eval_steps', 'eval_strategy', 'load_best_model_at_end', 'metric_for_best_model', 'greater_is_better',
  'early_stopping_patience', 'early_stopping_threshold', 'report_to', 'save_total_limit', 'log_completions',
]);

class RunTrainer extends EventEmitter {
  #given;
  #pairs;
  #training;
  #tools = null; // what answers the turns of episodes

  /** model: a Qwen3Model, whose folder is trained from; config.modelPath names a folder in its place. */
  constructor(model, config = {}) {
    super();
    if (typeof config !== 'object' || config === null) throw new TypeError('the configuration is no object');
    const { command } = this.constructor;
    this.#given = { logConsole: true, rewardTimeout: 60000, ...config };
    const table = optionTable(command);
    const options = {};
    for (const [name, value] of Object.entries(config)) {
      if (OWN.has(name)) continue;
      const batch = command === 'distill' && name === 'batchSize' ? 'prompts_per_step' : NAMES[name];
      options[!table.has(name) && batch !== undefined ? batch : name] = value;
    }
    this.#pairs = optionPairs(command, options);
    native.optionsCheck(command, this.#pairs);
    if (config.rewardFunction !== undefined) {
      if (command !== 'distill') throw new TypeError(`rewardFunction: ${command} has no rewards`);
      if (typeof config.rewardFunction !== 'function') throw new TypeError(`rewardFunction is a ${typeof config.rewardFunction}; expected a function of outputs`);
    }
    if (config.tools !== undefined && command !== 'distill') throw new TypeError(`tools: ${command} samples nothing; tools stand in its rows`);
    this.#tools = answersOf(config.tools);
    if (config.tools !== undefined && this.#tools === null) throw new TypeError("tools: expected definitions with a function 'call'");
    this.modelPath = model instanceof Qwen3Model ? model.path : config.modelPath;
    if (typeof this.modelPath !== 'string') throw new TypeError('expected a Qwen3Model, or config.modelPath');
    this.outputDir = config.outputDir ?? './outputs';
    this.#training = new Training(this, command, this.#given, (raw) => ({
      step: raw.step, loss: raw.loss ?? NaN, epoch: raw.epoch ?? NaN, gradNorm: raw.grad_norm ?? NaN, learningRate: raw.learning_rate ?? NaN, raw,
    }));
  }

  /** Reads nothing of the model yet: train() does. */
  static async create(config) {
    checkFolder(config, this.name);
    return new this(null, config);
  }

  static findLatestCheckpoint(outputDir) {
    return findLatestCheckpoint(outputDir);
  }

  /** The trained model; before that, the one that it begins with. */
  get #final() {
    const final = path.join(this.outputDir, 'final');
    return fs.existsSync(final) ? final : this.modelPath;
  }

  #option(name) {
    const at = this.#pairs.lastIndexOf(name);
    return at === -1 ? undefined : this.#pairs[at + 1];
  }

  #rewards() {
    const { rewardFunction } = this.#given;
    return rewardFunction === undefined ? [] : [{ name: nameOf(rewardFunction), call: (outputs) => rewardFunction(outputs, undefined), tokens: false }];
  }

  /** Trains on a list of rows or a file, to the end. stop(), or the signal of the configuration, saves a checkpoint and ends it: the summary says stopped. */
  async train(dataset) {
    const training = this.#training;
    const { evalDataset } = this.#given;
    return training.run(() => [
      'data', training.file(dataset, 'train'), ...this.#pairs, ...(evalDataset === undefined ? [] : ['eval_data', training.file(evalDataset, 'eval')]),
    ], this.#rewards(), this.#tools);
  }

  /** Asks train() to save a checkpoint and end. */
  stop() {
    this.#training.stop();
  }

  /** Held-out figures of the trained model (before training: of the model itself): those that an evaluation of train() has, names beginning with eval_. */
  async evaluate(dataset = this.#given.evalDataset) {
    const { command, compares } = this.constructor;
    if (dataset === undefined) throw new TypeError('evaluate: there are no rows; give them, or evalDataset in the configuration');
    if (this.#training.state === 'training') throw new CohortError('ERR_COHORT_STATE', 'evaluate: this trainer is training');
    const final = this.#final;
    const trained = final !== this.modelPath;
    if (compares && trained && this.#option('sync_ref_model') === 'true') {
      throw new CohortError('ERR_COHORT_UNSUPPORTED', 'evaluate: with syncRefModel the reference that figures compare with is gone after training; give evalDataset and evalInterval');
    }
    const folder = await fs.promises.mkdtemp(path.join(os.tmpdir(), 'cohort-evaluate-'));
    let figures = null;
    const bridge = new Bridge(this.#rewards(), {
      onMetrics: (raw) => {
        figures ??= Object.fromEntries(Object.entries(raw).filter(([name]) => name.startsWith('eval_')));
        native.stop(bridge.handleOfRun);
      },
    }, this.#tools);
    try {
      const data = rowsFile(dataset, folder, 'eval');
      const adapter = fs.existsSync(path.join(final, 'adapter_config.json'));
      const pairs = [];
      for (let i = 0; i < this.#pairs.length; i += 2) {
        const name = this.#pairs[i];
        if (!NOT_EVALUATED.has(name) && !(adapter && (name === 'use_peft' || name === 'adapter' || name.startsWith('lora_')))) pairs.push(name, this.#pairs[i + 1]);
      }
      // What training compared with: what the run began with, unless another is named.
      if (compares && trained && !this.#pairs.includes('ref_model')) pairs.push('ref_model', this.#option('adapter') ?? this.modelPath);
      // A run that ends at the evaluation before its first step: it needs rows to train on, and takes none.
      await bridge.run(command, [
        'model', adapter ? this.modelPath : final, ...(adapter ? ['adapter', final] : []), 'data', data, 'eval_data', data,
        'out', path.join(folder, 'run'), ...pairs, 'steps', '1', 'save_steps', '0',
      ], this.#given.rewardTimeout);
    } catch (error) {
      if (figures === null || error?.code !== 'ERR_COHORT_CANCELLED') throw error;
    } finally {
      await fs.promises.rm(folder, { recursive: true, force: true });
    }
    return figures;
  }

  /** The record of the run, to look into. */
  getOutputStore() {
    return this.#training.store();
  }

  /** Ends what is under way, and saves nothing. */
  close() {
    this.#training.close();
  }
}

class SFTTrainer extends RunTrainer { static command = 'sft'; }
class DPOTrainer extends RunTrainer { static command = 'dpo'; static compares = true; } // with a reference
class KTOTrainer extends RunTrainer { static command = 'kto'; static compares = true; }
class ORPOTrainer extends RunTrainer { static command = 'orpo'; }
class CPOTrainer extends RunTrainer { static command = 'cpo'; }
class RewardTrainer extends RunTrainer { static command = 'reward'; }
class DistillationTrainer extends RunTrainer { static command = 'distill'; }

module.exports = { SFTTrainer, DPOTrainer, KTOTrainer, ORPOTrainer, CPOTrainer, RewardTrainer, DistillationTrainer };

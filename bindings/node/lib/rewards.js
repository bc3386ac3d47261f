'use strict';
// Reward functions: the built-in ones, which the library computes, and the registry of MLX-Node.
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { native, CohortError, optionPairs } = require('./native.js');

const BUILTIN = Symbol('cohort.builtin');

/** Scores texts with one of the library's rewards, here and now. columns: what a row has beside prompt and completion. */
function scoreNow(spec, options, prompts, completions, columns = () => ({})) {
  if (completions.length === 0) return [];
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cohort-'));
  try {
    const data = path.join(folder, 'rows.jsonl');
    const rows = completions.map((completion, i) => JSON.stringify({ ...columns(i), prompt: String(prompts[i] ?? ''), completion: String(completion) }));
    fs.writeFileSync(data, rows.join('\n') + '\n');
    const output = native.runNow('score', ['data', data, 'reward', spec, ...optionPairs('score', options)]);
    return output.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line).reward ?? NaN);
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** One of the library's rewards as a RewardFunction: a trainer hands it to the library, which computes it; called, it scores here. */
function builtin(name, spec, options = {}) {
  const reward = (outputs) =>
    scoreNow(spec, options, outputs.map((one) => one.prompt), outputs.map((one) => one.completion.rawText), (i) => ({
      ...outputs[i].row, ...(outputs[i].expectedAnswer === undefined ? {} : { answer: outputs[i].expectedAnswer }),
    }));
  Object.defineProperty(reward, 'name', { value: name });
  reward[BUILTIN] = { spec, options };
  return reward;
}

/** Marks a function whose reward for each completion is a list of one number (or null) for each of its tokens. */
function ofTokens(reward) {
  reward.rewardsTokens = true;
  return reward;
}

const correctnessReward = builtin('correctnessReward', 'correctness');
const integerReward = builtin('integerReward', 'integer');
const strictFormatReward = builtin('strictFormatReward', 'strict_format');
const softFormatReward = builtin('softFormatReward', 'soft_format');
const xmlCountReward = builtin('xmlCountReward', 'xml_count');
const accuracyReward = builtin('accuracyReward', 'accuracy');
const ALL_REWARD_FUNCTIONS = [correctnessReward, integerReward, strictFormatReward, softFormatReward, xmlCountReward];

// rewardType -> the library's reward and the options that the settings are.
const TYPES = {
  ToolUse: ['tool_use', { allowedTools: 'reward_tools', required: (value) => ({ reward_tool_optional: !value }) }],
  XmlFormat: ['xml_format', { requiredTags: 'reward_tags' }],
  Length: ['length', { minLength: 'reward_min_length', maxLength: 'reward_max_length', useChars: () => ({}) }],
  JsonSchema: ['json_schema', {
    schema: (value) => ({ reward_schema: typeof value === 'string' ? value : JSON.stringify(value) }),
    requiredFields: (value) => ({ reward_schema: JSON.stringify({ type: 'object', required: value }) }),
  }],
};

/** A BuiltinRewardConfig as {spec, options, weight}. */
function builtinOf(config) {
  const type = TYPES[config?.rewardType];
  if (type === undefined) throw new TypeError(`rewardType is ${String(config?.rewardType)}; expected ${Object.keys(TYPES).join(', ')}`);
  const options = {};
  const { rewardType, weight = 1, ...settings } = config;
  if (typeof weight !== 'number' || !Number.isFinite(weight)) throw new TypeError(`weight is ${String(weight)}; expected a number`);
  for (const [name, value] of Object.entries(settings)) {
    if (value === undefined || value === null) continue;
    const means = type[1][name];
    if (means === undefined) throw new TypeError(`'${name}' is no setting of ${rewardType}; there are ${Object.keys(type[1]).join(', ')}`);
    if (name === 'useChars' && value === false) {
      throw new CohortError('ERR_COHORT_UNSUPPORTED', 'useChars: false: lengths are counted in characters; count words in a function of yours');
    }
    Object.assign(options, typeof means === 'function' ? means(value) : { [means]: value });
  }
  return { rewardType, spec: type[0], options, weight };
}

/** Built-in rewards together: the mean of their scores by weight. */
class NativeRewardRegistry {
  #rewards = [];
  #normalize = true;

  register(config) {
    this.#rewards.push(builtinOf(config));
  }

  score(prompt, completion) {
    return this.scoreBatch([prompt], [completion])[0];
  }

  scoreBatch(prompts, completions) {
    if (prompts.length !== completions.length) {
      throw new TypeError(`${prompts.length} prompts for ${completions.length} completions`);
    }
    if (this.isEmpty) return completions.map(() => 0);
    const scores = this.#rewards.map(({ spec, options }) => scoreNow(spec, options, prompts, completions));
    return completions.map((_, i) => this.weights.reduce((sum, weight, k) => sum + weight * scores[k][i], 0));
  }

  get isEmpty() {
    return this.#rewards.length === 0;
  }

  get names() {
    return this.#rewards.map(({ rewardType }) => rewardType);
  }

  setNormalize(normalize) {
    this.#normalize = Boolean(normalize);
  }

  /** What each reward's score is multiplied by. */
  get weights() {
    const sum = this.#normalize ? this.#rewards.reduce((all, { weight }) => all + weight, 0) : 1;
    return this.#rewards.map(({ weight }) => weight / sum);
  }

  /** The same as options of a run. */
  get options() {
    const made = {};
    for (const { spec, options, rewardType } of this.#rewards) {
      if (made.reward?.includes(spec)) {
        throw new CohortError('ERR_COHORT_UNSUPPORTED', `${rewardType} is registered twice; a run has one of each: make the other a reward function`);
      }
      made.reward = [...(made.reward ?? []), spec];
      Object.assign(made, options);
    }
    return made.reward === undefined ? made : { ...made, reward_weights: this.weights };
  }
}

const createRewardRegistry = () => new NativeRewardRegistry();

/** What a function is called in metrics and messages. */
const nameOf = (reward) => (reward.name || 'reward').replace(/^bound /, '').replace(/[^\w.-]/g, '_');

/** What a reward function returned as numbers, NaN where a completion cannot be scored. */
function scoresOf(values, rows, name, tokens) {
  const wrong = (text) => new CohortError('ERR_COHORT_REWARD', `reward '${name}' ${text}`);
  const number = (value, place) => {
    if (value === null || value === undefined) return NaN;
    if (typeof value !== 'number' && typeof value !== 'boolean') {
      throw wrong(`returned ${typeof value === 'string' ? JSON.stringify(value.slice(0, 40)) : `a ${typeof value}`} for ${place}; expected a number, or null where it cannot be scored`);
    }
    if (value === Infinity || value === -Infinity) throw wrong(`returned ${value} for ${place}; expected a finite number`);
    return Number(value);
  };
  if (!Array.isArray(values) && !ArrayBuffer.isView(values)) {
    throw wrong(`returned ${values === null ? 'null' : `a ${typeof values}`}; expected a list of ${rows.length} numbers, one for each completion`);
  }
  if (values.length !== rows.length) throw wrong(`returned ${values.length} rewards for ${rows.length} completions`);
  if (!tokens) return Float64Array.from(values, (value, i) => number(value, `completion ${i}`));
  const all = [];
  rows.forEach((row, i) => {
    const list = values[i];
    if (!Array.isArray(list) && !ArrayBuffer.isView(list)) throw wrong(`returned no list for completion ${i}; it rewards tokens`);
    if (list.length !== row.tokens.length) throw wrong(`returned ${list.length} numbers for completion ${i}, which has ${row.tokens.length} tokens`);
    for (let t = 0; t < list.length; t++) all.push(number(list[t], `token ${t} of completion ${i}`));
  });
  return Float64Array.from(all);
}

module.exports = {
  BUILTIN, NativeRewardRegistry, createRewardRegistry, builtinOf, scoresOf, nameOf, ofTokens, correctnessReward, integerReward, strictFormatReward,
  softFormatReward, xmlCountReward, accuracyReward, ALL_REWARD_FUNCTIONS,
};

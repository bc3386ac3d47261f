'use strict';
// A checkpoint for generation: Qwen3Model and what it returns.
const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { native, CohortError, optionPairs, signalIn, notice } = require('./native.js');

/** Names of a GenerationConfig with their defaults. */
const GENERATION = {
  temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0,
  repetitionContextSize: 20, presenceContextSize: 20, frequencyContextSize: 20, minNewTokens: 0, topLogprobs: 0,
  repetitionMaxPatternSize: 0, repetitionMinPatternSize: 1, repetitionMinCount: 4,
};
const OTHERS = new Set(['eosTokenId', 'logitBias', 'maxNewTokens', 'seed', 'stop', 'returnLogprobs', 'enableThinking', 'tools', 'signal']);
const WITHOUT_MEANING = {
  maxConsecutiveTokens: 'repetitionMaxPatternSize and repetitionMinCount cut a completion that repeats itself',
  maxNgramRepeats: 'repetitionMaxPatternSize and repetitionMinCount cut a completion that repeats itself',
  ngramSize: 'repetitionMaxPatternSize and repetitionMinCount cut a completion that repeats itself',
  prefillStepSize: 'it is an option of load()',
};

const numberIn = (name, value) => {
  if (typeof value !== 'number' || Number.isNaN(value)) throw new TypeError(`${name} is ${String(value)}; expected a number`);
  return value;
};

const idIn = (name, value) => {
  if (!Number.isInteger(value) || value < 0 || value > 2147483647) throw new TypeError(`${name}: ${String(value)} is no id of a token`);
  return value;
};

/** logitBias, {id: number} or a Map, and eosTokenId, in place of the model's own, as a request has them. */
function idsOf({ logitBias, eosTokenId }) {
  const given = logitBias === undefined || logitBias === null ? [] : [...(logitBias instanceof Map ? logitBias : Object.entries(logitBias))];
  const own = eosTokenId === undefined || eosTokenId === null;
  return {
    biasIds: Int32Array.from(given, ([id]) => idIn('logitBias', Number(id))), bias: Float32Array.from(given, ([, value]) => numberIn('logitBias', value)),
    ignoreEos: !own, stopIds: Int32Array.from(own ? [] : [].concat(eosTokenId), (id) => idIn('eosTokenId', id)),
  };
}

function readConfig(config = {}) {
  if (typeof config !== 'object' || config === null) throw new TypeError('the configuration is no object');
  const wish = { ...GENERATION };
  for (const [name, value] of Object.entries(config)) {
    if (value === undefined || value === null) continue;
    if (name in GENERATION) wish[name] = numberIn(name, value);
    else if (name in WITHOUT_MEANING) {
      if (value) notice(`${name} has no meaning here: ${WITHOUT_MEANING[name]}`);
    } else if (!OTHERS.has(name)) {
      const known = [...Object.keys(GENERATION), ...OTHERS].join(', ');
      throw new TypeError(`'${name}' is no setting of generation; there are ${known}`);
    }
  }
  if (config.seed !== undefined && config.seed !== null && !['number', 'bigint'].includes(typeof config.seed)) {
    throw new TypeError(`seed is a ${typeof config.seed}; expected a number or a bigint`);
  }
  if (typeof config.seed === 'number' && !Number.isInteger(config.seed)) throw new TypeError(`seed is ${config.seed}; expected a whole number`);
  const stop = config.stop === undefined || config.stop === null ? [] : [].concat(config.stop);
  if (!stop.every((text) => typeof text === 'string')) throw new TypeError('stop: expected a string or a list of strings');
  if (config.tools !== undefined && config.tools !== null && !Array.isArray(config.tools)) {
    throw new TypeError(`tools is a ${typeof config.tools}; expected a list of definitions (createToolDefinition)`);
  }
  return { ...wish, ...idsOf(config), stop };
}

const toolOf = (tool) => {
  const made = tool.function;
  const parameters = made && made.parameters;
  if (!parameters || typeof parameters.properties !== 'string') return tool;
  return { ...tool, function: { ...made, parameters: { ...parameters, properties: JSON.parse(parameters.properties) } } };
};

function argumentsOf(text) {
  if (typeof text !== 'string') return text ?? {};
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** A message as chat templates know it. */
function messageOf(message, i) {
  if (typeof message !== 'object' || message === null || typeof message.role !== 'string') {
    throw new TypeError(`message ${i} has no role; expected {role, content}`);
  }
  const { toolCalls, toolCallId, reasoningContent, images, ...rest } = message;
  if (images !== undefined && images !== null && images.length > 0) {
    throw new CohortError('ERR_COHORT_UNSUPPORTED', `message ${i} has images; models that read them are not supported`);
  }
  if (toolCalls !== undefined) {
    rest.tool_calls = toolCalls.map(({ id, name, arguments: given }) => ({
      type: 'function', ...(id === undefined ? {} : { id }), function: { name, arguments: argumentsOf(given) },
    }));
  }
  if (toolCallId !== undefined) rest.tool_call_id = toolCallId;
  if (reasoningContent !== undefined) rest.reasoning_content = reasoningContent;
  return rest;
}

const isIds = (prompt) => prompt instanceof Uint32Array || prompt instanceof Int32Array;

/** Ids as the addon takes them. */
function idsIn(name, ids) {
  if (isIds(ids)) return ids;
  if (!Array.isArray(ids)) throw new TypeError(`${name} is a ${typeof ids}; expected a list of ids, or a Uint32Array`);
  return Uint32Array.from(ids, (id) => idIn(name, id));
}
/** A conversation as a row of a data set. */
const conversationOf = (messages, tools) =>
  JSON.stringify({ messages: messages.map(messageOf), ...(tools && tools.length > 0 ? { tools: tools.map(toolOf) } : {}) });

const FINISH = { eos: 'stop', stop: 'stop', length: 'length', repetition: 'repetition', cancelled: 'cancelled' };

/** One completion: text, tokens (the one that ended it included), the log-prob of each at the sampling temperature. */
class GenerationResult {
  constructor(made, returnLogprobs = true) {
    this.text = made.text;
    this.tokens = made.tokens;
    this.logprobs = returnLogprobs ? made.logprobs : new Float32Array(0);
    this.finishReason = FINISH[made.finishReason];
    this.numTokens = made.tokens.length;
    if (made.topTokens !== undefined) {
      const n = made.topTokens.length / Math.max(1, made.tokens.length);
      this.topTokens = Array.from(made.tokens, (_, i) => made.topTokens.subarray(i * n, (i + 1) * n));
      this.topLogprobs = Array.from(made.tokens, (_, i) => made.topLogprobs.subarray(i * n, (i + 1) * n));
    }
  }
}

/** Completions of several prompts: flat, those of a prompt consecutive; finishReasons and tokenCounts as [prompt][member]. */
class BatchGenerationResult {
  constructor(made, numPrompts, groupSize, returnLogprobs) {
    const results = made.map((one) => new GenerationResult(one, returnLogprobs));
    const grouped = (of) => Array.from({ length: numPrompts }, (_, i) => results.slice(i * groupSize, (i + 1) * groupSize).map(of));
    this.tokens = results.map((one) => one.tokens);
    this.logprobs = results.map((one) => one.logprobs);
    this.texts = results.map((one) => one.text);
    this.finishReasons = grouped((one) => one.finishReason);
    this.tokenCounts = grouped((one) => one.numTokens);
    this.numPrompts = numPrompts;
    this.groupSize = groupSize;
  }
}

/** parsed: what the library took a completion apart to. */
function partsOf(parsed) {
  if (parsed === null || parsed === undefined) return null;
  const value = typeof parsed === 'string' ? JSON.parse(parsed) : parsed;
  return {
    text: value.content.trim(),
    thinking: value.thinking ? value.thinking.trim() : null,
    toolCalls: value.tool_calls.map((call, i) => ({
      id: call.id ?? `call_${i}`,
      name: call.name ?? '',
      arguments: call.arguments ?? {},
      status: call.error === undefined ? 'ok' : call.name === undefined && call.arguments !== undefined ? 'missing_name' : 'invalid_json',
      ...(call.error === undefined ? {} : { error: call.error }),
      rawContent: call.text ?? JSON.stringify({ name: call.name, arguments: call.arguments }),
    })),
  };
}

/** The assistant's turn, with thinking and calls of tools taken out of its text. */
class ChatResult extends GenerationResult {
  constructor(made, returnLogprobs) {
    super(made, returnLogprobs);
    const parts = partsOf(made.parsed);
    this.rawText = made.text;
    this.text = parts.text;
    this.thinking = parts.thinking;
    this.toolCalls = parts.toolCalls;
    if (this.finishReason === 'stop' && this.toolCalls.some((call) => call.status === 'ok')) this.finishReason = 'tool_calls';
  }
}

const CONFIG_NAMES = {
  vocabSize: 'vocab_size', hiddenSize: 'hidden_size', numLayers: 'num_hidden_layers', numHeads: 'num_attention_heads',
  numKvHeads: 'num_key_value_heads', intermediateSize: 'intermediate_size', rmsNormEps: 'rms_norm_eps', ropeTheta: 'rope_theta',
  maxPositionEmbeddings: 'max_position_embeddings', headDim: 'head_dim', tieWordEmbeddings: 'tie_word_embeddings',
  padTokenId: 'pad_token_id', eosTokenId: 'eos_token_id', bosTokenId: 'bos_token_id',
};

function modelBytes(folder) {
  try {
    return fs.readdirSync(folder).filter((name) => name.endsWith('.safetensors'))
      .reduce((sum, name) => sum + fs.statSync(path.join(folder, name)).size, 0);
  } catch {
    return 0; // opening it says what is wrong
  }
}

/** Tells the collector when a model that nobody closed is gone. */
const forgotten = new FinalizationRegistry((bytes) => native.externalMemory(-bytes));

/** A loaded model with its tokenizer. Any number of calls may be under way: the engine computes them together. */
class Qwen3Model {
  #handle;
  #bytes;
  #given;
  #number = 0;
  #closed = false;

  constructor(token, handle, folder, given, notes) {
    if (token !== modelBytes) throw new TypeError('a model is made by Qwen3Model.load(folder)');
    this.#handle = handle;
    this.#given = given;
    this.#bytes = modelBytes(folder);
    native.externalMemory(this.#bytes);
    forgotten.register(this, this.#bytes, this);
    /** The folder that it was loaded from. */
    this.path = folder;
    /** Lines about how it was read that you might not expect, such as values that were rounded. */
    this.notes = notes;
  }

  /** Opens a checkpoint folder as published. options: those of `cohort generate` that say how it is computed, maxContext and seed. */
  static async load(folder, options = {}) {
    if (typeof folder !== 'string') throw new TypeError(`the folder of the model is a ${typeof folder}; expected a path`);
    const { maxContext = 0, seed, ...rest } = typeof options === 'object' && options !== null ? options : {};
    const given = optionPairs('generate', rest);
    const [handle, opened] = native.modelOpen(['model', folder, ...given], numberIn('maxContext', maxContext));
    try {
      const notes = await opened;
      return new this(modelBytes, handle, folder, { pairs: given, seed, maxContext }, notes);
    } catch (error) {
      native.close(handle);
      throw error;
    }
  }

  static loadPretrained(folder, options) {
    return this.load(folder, options);
  }

  #open() {
    if (this.#closed) throw new CohortError('ERR_COHORT_CLOSED', 'this model was closed');
    return this.#handle;
  }

  /** Frees its memory. What is under way fails with ERR_COHORT_STATE. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    forgotten.unregister(this);
    native.externalMemory(-this.#bytes);
    native.close(this.#handle);
    this.#handle = null;
  }

  /** Ids of text; added tokens in it become their ids, and no BOS is put before it. */
  async encode(text) {
    if (typeof text !== 'string') throw new TypeError(`text is a ${typeof text}; expected a string`);
    return native.modelEncode(this.#open(), text, false);
  }

  /** Text of ids, without special tokens. */
  async decode(ids) {
    return native.modelDecode(this.#open(), idsIn('ids', ids), false);
  }

  /** Ids of the prompt that the chat template makes of messages, in which their content stays content. */
  async applyChatTemplate(messages, addGenerationPrompt = true, tools = undefined, enableThinking = undefined) {
    if (addGenerationPrompt === false && messages.at(-1)?.role !== 'assistant') {
      throw new CohortError('ERR_COHORT_UNSUPPORTED', 'addGenerationPrompt: a prompt that ends without the assistant is not made here');
    }
    return native.modelChatEncode(this.#open(), conversationOf(messages, tools), enableThinking ?? true);
  }

  /** The same as text, for people to read. */
  async chatPrompt(messages, tools = undefined, enableThinking = undefined) {
    return native.modelChatPrompt(this.#open(), conversationOf(messages, tools), enableThinking ?? true);
  }

  async #ids(prompt, config, chat) {
    if (isIds(prompt)) return prompt;
    if (typeof prompt === 'string') return native.modelEncode(this.#open(), prompt, false);
    if (!Array.isArray(prompt)) throw new TypeError('the prompt: expected messages [{role, content}], a string, or a Uint32Array of ids');
    if (prompt.length > 0 && typeof prompt[0] === 'number') return idsIn('the prompt', prompt);
    return native.modelChatEncode(this.#open(), chat ?? conversationOf(prompt, config.tools), config.enableThinking ?? true);
  }

  #seed(config) {
    const seed = config.seed ?? this.#given.seed ?? crypto.randomInt(2 ** 47);
    return BigInt.asUintN(64, BigInt(seed));
  }

  /** Completions of prompts, n of each. onToken is told every token. */
  async #complete(prompts, n, config, onToken = null, parse = false) {
    const wish = readConfig(config);
    const signal = signalIn(config.signal);
    this.#open();
    signal?.throwIfAborted();
    if (!Number.isInteger(n) || n < 1) throw new TypeError(`groupSize is ${String(n)}; expected a whole number of 1 or more`);
    const seed = this.#seed(config);
    const chats = prompts.map((prompt) => (parse ? conversationOf(prompt, config.tools) : null));
    const ids = await Promise.all(prompts.map((prompt, i) => this.#ids(prompt, config, chats[i])));
    const seen = new Map();
    const requests = ids.map((prompt, i) => {
      const key = prompt.join(',');
      const before = seen.get(key) ?? 0;
      seen.set(key, before + 1);
      const maxTokens = config.maxNewTokens ?? 2048;
      return {
        ...wish, prompt, n, before, seed, maxTokens: numberIn('maxNewTokens', maxTokens), chat: chats[i], thinking: config.enableThinking ?? true,
      };
    });
    signal?.throwIfAborted();
    const number = ++this.#number;
    const generated = native.modelGenerate(this.#open(), requests, number, onToken);
    const abort = () => this.#closed || native.modelCancel(this.#handle, number).catch(() => {});
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const made = await generated;
      if (signal?.aborted) throw Object.assign(signal.reason instanceof Error ? signal.reason : new Error(String(signal.reason)), {
        partial: made.map((one) => new GenerationResult(one)),
      });
      if (made.some((one) => one.finishReason === 'error')) {
        throw new CohortError('ERR_COHORT_NUMERIC', 'no token could be drawn: the weights are damaged');
      }
      return made;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /** One completion of messages (through the chat template), text, or ids. */
  async generate(messages, config = {}) {
    const [made] = await this.#complete([messages], 1, config ?? {});
    return new GenerationResult(made, config?.returnLogprobs ?? true);
  }

  /** groupSize completions of each prompt, as one batch; a prompt is computed once for all of its completions. */
  async generateBatch(prompts, groupSize = 1, config = {}) {
    if (!Array.isArray(prompts)) throw new TypeError('generateBatch: expected a list of prompts');
    const made = prompts.length === 0 ? [] : await this.#complete(prompts, groupSize, config ?? {});
    return new BatchGenerationResult(made, prompts.length, groupSize, config?.returnLogprobs ?? true);
  }

  /** The assistant's next turn with thinking and calls of tools taken apart. */
  async chat(messages, config = {}) {
    if (!Array.isArray(messages)) throw new TypeError('chat: expected messages [{role, content}]');
    const given = { temperature: 0.7, topP: 0.9, ...config };
    const [made] = await this.#complete([messages], 1, given, null, true);
    return new ChatResult(made, given.returnLogprobs ?? true);
  }

  /** A completion token by token, as it is drawn. Leaving the loop cancels it. */
  async *stream(messages, config = {}) {
    const waiting = [];
    let wake = () => {};
    let ended = false;
    const stop = new AbortController();
    const given = signalIn(config?.signal);
    const signal = given ? AbortSignal.any?.([given, stop.signal]) ?? linked(given, stop) : stop.signal;
    const push = (index, token, text, logprob, reason) => {
      waiting.push({ text, token, logprob, finishReason: reason === '' ? null : FINISH[reason] ?? reason, index });
      wake();
    };
    const done = this.#complete([messages], 1, { ...config, signal }, push).then(() => null, (error) => error).then((error) => {
      ended = true;
      wake();
      return error;
    });
    let finished = false;
    try {
      for (;;) {
        while (waiting.length > 0) yield waiting.shift();
        if (ended) break;
        await new Promise((resolve) => {
          wake = resolve;
        });
      }
      finished = true;
      const error = await done;
      if (error !== null) throw error;
    } finally {
      if (!finished) stop.abort();
      await done;
    }
  }

  /**
   * Log-probs of ids from promptLength on, each given all before it, at a temperature: those that generation gave, bit for bit.
   * The model is opened once more for it.
   */
  async logprobs(tokens, { promptLength = 1, temperature = 1 } = {}) {
    this.#open();
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cohort-'));
    try {
      const rows = path.join(folder, 'rows.jsonl');
      const all = Array.from(idsIn('tokens', tokens));
      fs.writeFileSync(rows, JSON.stringify({ prompt_tokens: all.slice(0, promptLength), tokens: all.slice(promptLength) }) + '\n');
      const pairs = ['model', this.path, ...this.#given.pairs, 'batch', rows, 'temperature', String(temperature)];
      const [handle, output] = native.run('logprobs', pairs, [], 0, false, () => {});
      return Float32Array.from(JSON.parse(await output.finally(() => native.close(handle))).logprobs);
    } finally {
      fs.rmSync(folder, { recursive: true, force: true });
    }
  }

  /** The shape of the model, from its config.json. */
  getConfig() {
    const file = JSON.parse(fs.readFileSync(path.join(this.path, 'config.json'), 'utf8'));
    const config = { useQkNorm: String(file.model_type).startsWith('qwen3') };
    for (const [name, key] of Object.entries(CONFIG_NAMES)) config[name] = file[key];
    config.headDim ??= config.hiddenSize / config.numHeads;
    config.numKvHeads ??= config.numHeads;
    config.ropeTheta ??= file.rope_parameters?.rope_theta;
    return config;
  }

  /** Copies the checkpoint: its weights are those that were loaded. */
  async saveModel(folder) {
    this.#open();
    await fs.promises.cp(this.path, folder, { recursive: true });
  }

  /** There is nothing to reset: caches belong to the calls. */
  resetCaches() {}
}

function linked(signal, controller) {
  if (signal.aborted) controller.abort(signal.reason);
  signal.addEventListener('abort', () => controller.abort(signal.reason), { once: true });
  return controller.signal;
}

/** MLX-Node's loader. */
class ModelLoader {
  static loadPretrained(folder, _deviceMap = 'auto') {
    return Qwen3Model.load(folder);
  }

  static saveModel(model, folder) {
    return model.saveModel(folder);
  }
}

const loadModel = (folder, options) => Qwen3Model.load(folder, options);

/** A tool as models know it: properties is an object of JSON schemas. */
function createToolDefinition(name, description, properties = undefined, required = undefined) {
  const parameters = properties === undefined ? undefined : { type: 'object', properties: JSON.stringify(properties), ...(required ? { required } : {}) };
  return { type: 'function', function: { name, ...(description ? { description } : {}), ...(parameters ? { parameters } : {}) } };
}

/** What a tool answered, as a message's content. */
const formatToolResponse = (content) =>
  `<tool_response>\n${typeof content === 'string' ? content : JSON.stringify(content)}\n</tool_response>`;

module.exports = {
  Qwen3Model, ModelLoader, loadModel, GenerationResult, BatchGenerationResult, ChatResult, createToolDefinition, formatToolResponse, partsOf,
  messageOf, toolOf,
};

'use strict';
// A command of the library from its beginning to its end, or a trainer that goes step by step, with functions of JavaScript that it calls back.
const { native, RewardTimeoutError } = require('./native.js');
const { partsOf } = require('./model.js');
const { scoresOf } = require('./rewards.js');

const FINISH = { eos: 'stop', stop: 'stop', length: 'length', cancelled: 'cancelled' };

/** A row to score as reward functions get it; environment: the object of its episode, where there is one. */
function outputOf(row, environment = undefined) {
  const parts = partsOf(row.parsed) ?? { text: row.completion, thinking: null, toolCalls: [] };
  const finishReason = FINISH[row.finishReason] ?? row.finishReason;
  return {
    prompt: row.prompt,
    completion: {
      text: parts.text,
      rawText: row.completion,
      toolCalls: parts.toolCalls,
      thinking: parts.thinking,
      numTokens: row.tokens.length,
      finishReason: finishReason === 'stop' && parts.toolCalls.some((call) => call.status === 'ok') ? 'tool_calls' : finishReason,
      tokens: Uint32Array.from(row.tokens),
    },
    ...(row.row.answer === undefined || row.row.answer === null ? {} : { expectedAnswer: String(row.row.answer) }),
    row: row.row,
    promptIndex: row.promptIndex,
    completionIndex: row.completionIndex,
    ...(row.episode ? { messages: row.episode.messages } : {}),
    ...(environment === undefined ? {} : { environment }),
  };
}

/** Functions that C calls, and what they threw. */
class Bridge {
  raised = null;

  /** rewards: [{name, call(outputs), tokens}]; events: functions of onMessage, onMetrics, onProgress; tools: what answers turns (tools.js), or null. */
  constructor(rewards, events = {}, tools = null) {
    this.rewards = rewards;
    this.events = events;
    this.tools = tools;
    this.names = rewards.map(({ name, tokens }) => (tokens ? '*' : '') + name);
    if (tools !== null) this.names.push(`@${tools.name}`);
    this.handle = (kind, text, number, index) => {
      if (kind === 'reward') this.#score(text, number, index);
      else if (kind === 'environment') tools.take(text, () => this.handleOfRun).catch((error) => this.#keep(error));
      else if (kind === 'message') this.#call(this.events.onMessage, text);
      else if (kind === 'metrics') this.#call(this.events.onMetrics, JSON.parse(text));
      else if (kind === 'progress') this.#call(this.events.onProgress, JSON.parse(text));
    };
  }

  #call(event, value) {
    if (event === undefined || this.raised !== null) return;
    try {
      event(value);
    } catch (error) {
      this.#keep(error);
    }
  }

  #keep(error) {
    this.raised ??= { error };
    native.stop(this.handleOfRun);
  }

  async #score(text, number, index) {
    const { name, call, tokens } = this.rewards[index];
    try {
      const rows = JSON.parse(text);
      const scores = scoresOf(await call(rows.map((row) => outputOf(row, this.tools?.objectOf(row)))), rows, name, tokens);
      native.answer(this.handleOfRun, number, scores, '');
    } catch (error) {
      this.raised ??= { error };
      const said = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
      native.answer(this.handleOfRun, number, null, said.slice(0, 390));
    }
  }

  /** The promise's result; where a function threw, what it threw. */
  async settled(promise) {
    try {
      const value = await promise;
      if (this.raised !== null) throw this.#taken();
      return value;
    } catch (error) {
      if (error instanceof RewardTimeoutError) error.timeoutMs = this.timeoutMs;
      else if (this.raised !== null) throw this.#taken();
      throw error;
    }
  }

  #taken() {
    const { error } = this.raised;
    this.raised = null;
    return error;
  }

  run(command, pairs, timeoutMs) {
    this.timeoutMs = timeoutMs;
    const [handle, promise] = native.run(command, pairs, this.names, timeoutMs, this.events.onProgress !== undefined, this.handle);
    this.handleOfRun = handle;
    return this.settled(promise.finally(() => native.close(handle)));
  }

  async open(pairs, timeoutMs) {
    this.timeoutMs = timeoutMs;
    const [handle, promise] = native.trainerOpen('grpo', pairs, this.names, timeoutMs, this.events.onProgress !== undefined, this.handle);
    this.handleOfRun = handle;
    try {
      return Number(await this.settled(promise));
    } catch (error) {
      native.close(handle);
      throw error;
    }
  }
}

module.exports = { Bridge, outputOf };

'use strict';
// What answers the turns of episodes in this process, by the protocol of docs/ENVIRONMENTS.md: functions (tools), or an object for each episode.
const { native } = require('./native.js');
const { toolOf } = require('./model.js');

const EPISODE = 'cohort_episode'; // in a state: which object it is of

/** An answer as a message has it. */
const contentOf = (result) => (typeof result === 'string' ? result : JSON.stringify(result) ?? String(result));
const isClass = (value) => /^class\b/.test(Function.prototype.toString.call(value));

/** What is left of an object for the record of a run: its public fields, as JSON has them. */
function stateOf(thing) {
  const state = {};
  for (const [name, value] of Object.entries(thing)) {
    if (name === 'tools' || name.startsWith('_') || typeof value === 'function') continue;
    try {
      state[name] = JSON.parse(JSON.stringify(value) ?? 'null');
    } catch {
      state[name] = String(value);
    }
  }
  return state;
}

/** Definitions with the function of each, by name: {type, function: {name, description, parameters}, call(arguments)}. */
function callsOf(tools, callOf) {
  const calls = new Map();
  for (const tool of tools) {
    const name = tool?.function?.name;
    if (typeof name !== 'string') throw new TypeError('tools: expected definitions {type, function: {name, description, parameters}}');
    if (calls.has(name)) throw new TypeError(`tools: '${name}' is there twice`);
    calls.set(name, callOf(tool, name));
  }
  return calls;
}

/** Calls of different episodes run side by side, those of a turn one after the other. */
class Answers {
  schemas = [];
  name = 'tools';
  rewards = false;
  observes = false;
  concurrency = 4096;

  async #call(calls, { name, arguments: given, error }) {
    try {
      if (error) throw new Error(error);
      if (!calls.has(name)) throw new Error(`Tool ${name} not found.`);
      return { content: contentOf(await calls.get(name)(given)) };
    } catch (thrown) {
      return { content: JSON.stringify({ error: thrown instanceof Error ? thrown.message : String(thrown) }), failed: true };
    }
  }

  /** What is said to a message of the library's; null: nothing. */
  async #answer(message) {
    const { type, id } = message;
    if (type === 'hello') {
      return {
        type: 'ready', protocol: 1, name: this.name, tools: this.schemas, tools_only: true, rewards: this.rewards, observes: this.observes,
        concurrency: this.concurrency,
      };
    }
    if (type === 'begin') return { type: 'reply', id, turn: 0, ...(await this.begin(message)) };
    if (type === 'finish' || (type === 'turn' && message.calls.length === 0)) return { type: 'end', id, ...(await this.end(message)) };
    if (type !== 'turn') return null;
    const calls = this.callsOf(id);
    const messages = [];
    for (const call of message.calls) messages.push({ role: 'tool', call: call.index, name: call.name ?? '', ...(await this.#call(calls, call)) });
    return { type: 'reply', id, turn: message.turn, messages };
  }

  /** Takes a message of the library's; its answer goes to the run of this handle. */
  async take(text, handleOf) {
    const message = JSON.parse(text);
    let answer;
    try {
      answer = await this.#answer(message);
    } catch (thrown) { // of reset or getReward: that episode is lost
      if (message.id === undefined) throw thrown;
      this.lose(message.id);
      answer = { type: 'error', id: message.id, message: (thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown)).slice(0, 400) };
    }
    if (answer === null) return;
    try {
      native.environmentAnswer(handleOf(), JSON.stringify(answer));
    } catch (error) {
      if (error.code !== 'ERR_COHORT_CLOSED') throw error; // the run has ended
    }
  }

  begin() {}

  end() {}

  lose() {}

  /** The object of a row's episode, for rewards; undefined: there is none. */
  objectOf() {}
}

class ToolAnswers extends Answers {
  #calls;

  constructor(tools) {
    super();
    this.#calls = callsOf(tools, (tool, name) => {
      if (typeof tool.call !== 'function') {
        throw new TypeError(tool.call === undefined ? `tools: '${name}' has no function 'call', and others have one: give it to all or to none`
          : `tools: 'call' of '${name}' is a ${typeof tool.call}; expected a function of the arguments`);
      }
      return (given) => tool.call(given);
    });
    this.schemas = tools.map(toolOf);
  }

  callsOf() {
    return this.#calls;
  }
}

/**
 * An object for each episode: reset(row) begins it, and what it returns is put behind the prompt; its tools (definitions) are methods of their
 * names; getReward(), if it is there, rewards it; close(), if it is there, ends it. Objects are kept until the next batch is drawn, so that
 * reward functions get them.
 */
class ObjectAnswers extends Answers {
  #make;
  #calls = new Map(); // of the objects of episodes that go on: {thing, calls}
  #ended = new Map(); // objects by episode
  #batch = null;

  constructor(factory) {
    super();
    this.name = (factory.name || 'environment').replace(/[^\w.-]/g, '_');
    this.#make = isClass(factory) ? () => new factory() : () => factory();
    const { thing } = this.#new(); // a probe: it says now what is wrong
    this.schemas = thing.tools.map(toolOf);
    this.rewards = typeof thing.getReward === 'function';
    this.observes = true;
    this.concurrency = 65536;
  }

  #new() {
    const thing = this.#make();
    if (typeof thing !== 'object' || thing === null || typeof thing.then === 'function') {
      throw new TypeError(`environmentFactory: '${this.name}' returned ${thing === null ? 'null' : typeof thing?.then === 'function' ? 'a promise' : `a ${typeof thing}`}; expected an object with reset and tools`);
    }
    if (typeof thing.reset !== 'function') throw new TypeError(`environmentFactory: '${this.name}' has no method reset`);
    if (!Array.isArray(thing.tools)) throw new TypeError(`environmentFactory: '${this.name}' has no list 'tools' of definitions (createToolDefinition)`);
    const calls = callsOf(thing.tools, (tool, name) => {
      if (typeof tool.call === 'function') return (given) => tool.call(given);
      if (typeof thing[name] !== 'function') throw new TypeError(`environmentFactory: '${this.name}' has no method ${name}, which its tools name`);
      return (given) => thing[name](given);
    });
    return { thing, calls };
  }

  callsOf(id) {
    return this.#calls.get(id).calls;
  }

  async begin({ id, row, prompt, step, eval: set }) {
    const batch = `${step} ${set}`;
    if (batch !== this.#batch) {
      this.#batch = batch;
      this.#ended.clear();
    }
    const made = this.#new();
    this.#calls.set(id, made);
    const said = await made.thing.reset({ prompt, ...row });
    return said === undefined || said === null ? {} : { observation: contentOf(said) };
  }

  async end({ id }) {
    const { thing } = this.#calls.get(id) ?? {};
    if (thing === undefined) return {};
    const reward = this.rewards ? (await thing.getReward()) ?? null : null;
    if (reward !== null && typeof reward !== 'number') throw new TypeError(`getReward returned a ${typeof reward}; expected a number, or null where it cannot be scored`);
    this.#calls.delete(id);
    this.#ended.set(id, thing);
    await thing.close?.();
    return { ...(this.rewards ? { reward } : {}), state: { ...stateOf(thing), [EPISODE]: id } };
  }

  lose(id) {
    this.#calls.delete(id);
  }

  objectOf(row) {
    return this.#ended.get(row.episode?.state?.[EPISODE]);
  }
}

/** What answers the turns of episodes; null where tools are definitions alone, for prompts. */
function answersOf(tools, factory) {
  if (factory !== undefined && factory !== null) {
    if (typeof factory !== 'function') throw new TypeError(`environmentFactory is a ${typeof factory}; expected a class, or a function that makes an object`);
    if (tools !== undefined) throw new TypeError('tools and environmentFactory are both given: an environment has tools of its own, leave one of them out');
    return new ObjectAnswers(factory);
  }
  return Array.isArray(tools) && tools.some((tool) => tool?.call !== undefined) ? new ToolAnswers(tools) : null;
}

module.exports = { answersOf };

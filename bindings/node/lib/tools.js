'use strict';
// Functions that a model may call while it is trained: they answer the turns of episodes, by the protocol of docs/ENVIRONMENTS.md.
const { native } = require('./native.js');
const { toolOf } = require('./model.js');

/** An answer as a message has it. */
const contentOf = (result) => (typeof result === 'string' ? result : JSON.stringify(result) ?? String(result));

/** Tools that have a function: {type, function: {name, description, parameters}, call(arguments)}. Calls of different episodes run side by side. */
class ToolAnswers {
  #calls = new Map();

  constructor(tools) {
    for (const tool of tools) {
      const { name } = tool.function;
      if (typeof tool.call !== 'function') throw new TypeError(`tools: '${name}' has no function 'call', and others have one: give it to all or to none`);
      if (this.#calls.has(name)) throw new TypeError(`tools: '${name}' is there twice`);
      this.#calls.set(name, tool.call);
    }
    this.schemas = tools.map(toolOf);
  }

  async #call({ name, arguments: given, error }) {
    try {
      if (error) throw new Error(error);
      if (!this.#calls.has(name)) throw new Error(`Tool ${name} not found.`);
      return { content: contentOf(await this.#calls.get(name)(given)) };
    } catch (thrown) {
      return { content: JSON.stringify({ error: thrown instanceof Error ? thrown.message : String(thrown) }), failed: true };
    }
  }

  /** What is said to a message of the library's; null: nothing. */
  async #answer(message) {
    if (message.type === 'hello') return { type: 'ready', protocol: 1, name: 'tools', tools: this.schemas, tools_only: true, concurrency: 4096 };
    if (message.type === 'begin') return { type: 'reply', id: message.id, turn: 0 };
    if (message.type === 'finish' || (message.type === 'turn' && message.calls.length === 0)) return { type: 'end', id: message.id };
    if (message.type !== 'turn') return null;
    const messages = [];
    for (const call of message.calls) messages.push({ role: 'tool', call: call.index, name: call.name ?? '', ...(await this.#call(call)) });
    return { type: 'reply', id: message.id, turn: message.turn, messages };
  }

  /** Takes a message of the library's; its answer goes to the run of this handle. */
  async take(text, handleOf) {
    const answer = await this.#answer(JSON.parse(text));
    if (answer === null) return;
    try {
      native.environmentAnswer(handleOf(), JSON.stringify(answer));
    } catch (error) {
      if (error.code !== 'ERR_COHORT_CLOSED') throw error; // the run has ended
    }
  }
}

/** null where tools are definitions alone, for prompts. */
function answersOf(tools) {
  return Array.isArray(tools) && tools.some((tool) => typeof tool?.call === 'function') ? new ToolAnswers(tools) : null;
}

module.exports = { answersOf };

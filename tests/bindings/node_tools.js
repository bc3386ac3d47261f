'use strict';
// Tools of a Node program: a small model that was taught calls makes them while it is trained; functions answer at once, later, or throw.
const { test } = require('node:test');
const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const cohort = require('cohort');

const { MODEL, WORK } = process.env;
let number = 0;
const folder = () => path.join(WORK, `tools${process.version}-${number++}`);
const template = path.join(__dirname, '..', '..', 'examples', 'tool-use', 'template.jinja');
const said = (name, x) => ({ role: 'assistant', content: '', toolCalls: [{ name, arguments: { x } }] });
const definitions = ['double', 'wait', 'fail'].map((name) => cohort.createToolDefinition(name, name, { x: { type: 'integer' } }, ['x']));
const SCRIPT = [['p', 'double', 2, '4'], ['q', 'fail', 3, '{"error":"no luck"}'], ['r', 'wait', 5, '{"later":5}'], ['s', 'gone', 1, '{"error":"Tool gone not found."}']];
const ROWS = SCRIPT.map(([text]) => ({ prompt: [{ role: 'user', content: text }], answer: text }));

let taught = null;
const model = () => (taught ??= (async () => {
  const trainer = await cohort.SFTTrainer.create({ modelPath: MODEL, outputDir: folder(), maxSteps: 200, batchSize: 4, learningRate: 5e-3, assistantOnlyLoss: true,
    saveInterval: 0, chatTemplate: template, logConsole: false, device: 'cpu', threads: 1 });
  await trainer.train(SCRIPT.map(([text, name, x, answer]) => ({
    messages: [{ role: 'user', content: text }, said(name, x), { role: 'tool', name, content: answer }, { role: 'assistant', content: 'ok' }],
    tools: definitions.map((tool) => ({ type: 'function', function: { name: tool.function.name } })),
  })));
  return path.join(trainer.outputDir, 'final');
})());
const asked = [];
const functions = {
  double: ({ x }) => asked.push(x) && String(2 * x),
  wait: async ({ x }) => {
    await new Promise((resolve) => setTimeout(resolve, 30));
    return { later: x };
  },
  fail: () => { throw new Error('no luck'); },
};
const tools = () => definitions.map((tool) => ({ ...tool, call: functions[tool.function.name] }));
const config = async (more = {}) => ({
  modelPath: await model(), outputDir: folder(), groupSize: 2, batchSize: 4, maxNewTokens: 300, learningRate: 1e-9, maxSteps: 1, saveInterval: 0, temperature: 0.02,
  topP: 1, repetitionPenalty: 1, chatTemplate: template, logConsole: false, logCompletions: true, device: 'cpu', threads: 1, tools: tools(),
  rewardFunction: (outputs) => outputs.map(({ completion }) => Number(completion.text === 'ok')), ...more,
});

test('calls are run, and their answers are read', async () => {
  const trainer = await cohort.GRPOTrainer.create(await config());
  const { metrics } = await trainer.train(ROWS);
  const lines = fs.readFileSync(path.join(trainer.outputDir, 'completions.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line));
  for (const { index, episode } of lines) {
    assert.deepStrictEqual(episode.messages.map(({ role }) => role), ['assistant', 'tool', 'assistant'], JSON.stringify(episode));
    assert.strictEqual(episode.messages[1].content, SCRIPT[index][3]);
  }
  assert.strictEqual(lines.length, 8);
  assert.deepStrictEqual(asked, [2, 2]);
  assert.strictEqual(metrics.meanReward, 1);
  assert.strictEqual(metrics.raw['tools/call_frequency'], 1);
  assert.strictEqual(metrics.raw['tools/failure_frequency'], 0.5);
});

test('chat: calls of tools, their answers, and how a turn ends', async () => {
  const talker = await cohort.Qwen3Model.load(await model(), { device: 'cpu', threads: 1, maxContext: 1024, chatTemplate: template });
  const settings = { temperature: 0, repetitionPenalty: 1, maxNewTokens: 300, tools: definitions };
  const asks = [{ role: 'user', content: 'p' }];
  const call = await talker.chat(asks, settings);
  assert.strictEqual(call.finishReason, 'tool_calls');
  assert.deepStrictEqual(call.toolCalls.map(({ name, arguments: given, status }) => [name, given, status]), [['double', { x: 2 }, 'ok']]);
  assert.match(call.toolCalls[0].id, /^call_/);
  assert.ok(call.toolCalls[0].rawContent.includes('double') && call.text === '' && call.rawText.includes('double') && call.thinking === null);
  const answered = [...asks, { role: 'assistant', content: '', toolCalls: call.toolCalls }, { role: 'tool', name: 'double', content: '4' }];
  const end = await talker.chat(answered, settings);
  assert.deepStrictEqual([end.text, end.finishReason, end.toolCalls, end.thinking], ['ok', 'stop', [], null]);
  const cut = await talker.chat(asks, { ...settings, maxNewTokens: 5 });
  assert.deepStrictEqual([cut.finishReason, cut.numTokens], ['length', 5]);
  assert.strictEqual((await talker.chat(asks, settings)).rawText, call.rawText); // greedy: the same again
  assert.ok((await talker.chat(asks)).numTokens > 0); // with the defaults
  const every = { maxNewTokens: 20, temperature: 0.5, topK: 40, topP: 0.95, minP: 0.05, repetitionPenalty: 1.1, repetitionContextSize: 50, ngramSize: 0 };
  assert.ok((await talker.chat(asks, every)).numTokens <= 20);
  await assert.rejects(talker.chat([{ ...asks[0], images: [Uint8Array.of(1)] }]), { code: 'ERR_COHORT_UNSUPPORTED' });
  talker.close();
});

test('calls in texts: well made, without a name, broken, and beside thinking', () => {
  const parse = (text) => cohort.parseToolCallsFromText(text);
  const made = parse('Look. <tool_call>{"name": "look", "arguments": {"at": {"deep": [1, {"x": null}]}}}</tool_call>');
  assert.strictEqual(made.text, 'Look.');
  assert.deepStrictEqual(made.toolCalls.map(({ name, arguments: given, status, error }) => [name, given, status, error]),
    [['look', { at: { deep: [1, { x: null }] } }, 'ok', undefined]]);
  const [nameless] = parse('<tool_call>{"arguments": {"a": 1}}</tool_call>').toolCalls;
  assert.deepStrictEqual([nameless.status, typeof nameless.error, nameless.name], ['missing_name', 'string', '']);
  const [broken] = parse('<tool_call>{"name": "look", </tool_call>').toolCalls;
  assert.deepStrictEqual([broken.status, typeof broken.error], ['invalid_json', 'string']);
  assert.deepStrictEqual(parse('no call').toolCalls, []);
  const [two, none] = cohort.buildRewardOutputs(['p', 'p'], ['<think>\nhm\n</think>\nsaid', 'said'], [null, null]);
  assert.deepStrictEqual([two.completion.thinking, two.completion.text, two.completion.rawText], ['hm', 'said', '<think>\nhm\n</think>\nsaid']);
  assert.deepStrictEqual([none.completion.thinking, none.completion.text], [null, 'said']);
  assert.deepStrictEqual(cohort.createToolDefinition('look', 'Looks', { at: { type: 'string' } }, ['at']), {
    type: 'function', function: { name: 'look', description: 'Looks', parameters: { type: 'object', properties: '{"at":{"type":"string"}}', required: ['at'] } },
  });
  assert.deepStrictEqual(cohort.createToolDefinition('bare'), { type: 'function', function: { name: 'bare' } });
});

test('step by step, and without calls that are run', async () => {
  const trainer = await cohort.GRPOTrainer.create(await config());
  const { completions, metrics } = await trainer.trainStepAuto(ROWS.map(({ prompt }) => prompt));
  assert.strictEqual(completions.length, 8);
  assert.strictEqual(metrics.raw['tools/call_frequency'], 1);
  trainer.close();
  const none = await cohort.GRPOTrainer.create(await config({ maxToolCallingIterations: 0 }));
  assert.strictEqual((await none.train(ROWS)).metrics.raw['tools/call_frequency'], 0);
  const store = await none.getOutputStore();
  const counts = await Promise.all([[null, 'ok'], ['double', null], ['double', 'ok'], [null, 'json_error']].map(async ([name, status]) =>
    (await store.getGenerationsWithToolCalls(null, name, status, 10)).length));
  assert.deepStrictEqual(counts, [8, 2, 2, 0]);
  none.close();
});

test('tools that hang lose their episodes; a run that is stopped meanwhile ends', async () => {
  const hanging = tools().map((tool) => (tool.function.name === 'wait' ? { ...tool, call: () => new Promise(() => {}) } : tool));
  const trainer = await cohort.GRPOTrainer.create(await config({ tools: hanging, turnTimeout: 0.5 }));
  assert.strictEqual((await trainer.train(ROWS)).metrics.raw['environments/end/turn_time'], 0.25);
  const stopped = await cohort.GRPOTrainer.create(await config({ tools: hanging }));
  setTimeout(() => stopped.stop(), 1500);
  assert.strictEqual((await stopped.train(ROWS)).stopped, true);
});

/** An environment with the same tools, as methods of an object for each episode. */
class Counter {
  tools = definitions;
  _hidden = 1;
  closed = false;

  reset({ answer, prompt }) {
    this.answer = answer;
    this.asked = prompt.at(-1).content;
    this.calls = 0;
  }

  double({ x }) {
    this.calls += x;
    return functions.double({ x });
  }

  async wait(given) {
    this.calls += 1;
    return functions.wait(given);
  }

  fail() {
    return functions.fail();
  }

  async getReward() {
    return this.calls + (this.answer === this.asked ? 10 : 0);
  }

  close() {
    this.closed = true;
  }
}

test('environments: an object for each episode, its reward, and the object in a reward function', async () => {
  let seen = null;
  const reward = (outputs) => {
    seen = outputs;
    return outputs.map(() => 1);
  };
  const trainer = await cohort.GRPOTrainer.create(await config({ tools: undefined, environmentFactory: Counter, rewardFunction: reward }));
  const { metrics } = await trainer.train(ROWS);
  assert.strictEqual(new Set(seen.map(({ environment }) => environment)).size, 8);
  for (const { environment, messages, row } of seen) {
    assert.ok(environment instanceof Counter && environment.closed && environment.answer === row.answer);
    const [, name, x, answer] = SCRIPT.find(([text]) => text === row.answer);
    assert.strictEqual(environment.calls, { double: x, wait: 1, fail: 0, gone: 0 }[name]);
    assert.deepStrictEqual(messages.filter(({ role }) => role === 'tool').map(({ content }) => content), [answer]);
  }
  assert.strictEqual(metrics.raw['rewards/environment/mean'], (12 + 10 + 11 + 10) / 4);
  assert.strictEqual(metrics.meanReward, metrics.raw['rewards/environment/mean'] + 1);
  const [{ episode }] = fs.readFileSync(path.join(trainer.outputDir, 'completions.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line));
  assert.deepStrictEqual([episode.state.calls, episode.state.answer, episode.state._hidden, episode.state.tools], [2, 'p', undefined, undefined]);
  // Without a reward function, made by a function, step by step, with methods of the definitions' own.
  let made = 0;
  const alone = await cohort.GRPOTrainer.create(await config({ tools: undefined, rewardFunction: undefined, environmentFactory: () => {
    made++;
    return { tools: definitions.map((tool) => ({ ...tool, call: functions[tool.function.name] })), reset: () => 'r', getReward: () => null };
  } }));
  const { completions, metrics: step } = await alone.trainStepAuto(ROWS.map(({ prompt }) => prompt));
  assert.deepStrictEqual([completions.length, made], [8, 9]);
  assert.ok(Number.isNaN(step.meanReward) || step.meanReward === 0, String(step.meanReward));
  alone.close();
});

test('environments: what they observe is read, and an episode whose reset or reward fails is lost', async () => {
  let count = 0;
  let seen = null;
  const observed = await cohort.GRPOTrainer.create(await config({ tools: undefined, environmentFactory: class Watched {
    tools = [];

    reset({ answer }) {
      if (answer === 's') throw new RangeError('nothing to see');
      return `seen: ${answer}`;
    }

    getReward() {
      return count++ === 0 ? 'high' : 1;
    }
  }, rewardFunction: (outputs) => {
    seen = outputs;
    return outputs.map(() => 0);
  } }));
  const { metrics } = await observed.train(ROWS);
  assert.ok(seen.filter(({ row }) => row.answer !== 's').every(({ prompt, row }) => prompt.includes(`seen: ${row.answer}`)));
  assert.strictEqual(metrics.raw['environments/end/error'], 3 / 8);
  assert.strictEqual(metrics.raw['rewards/environment/mean'], 1);
});

test('what is wrong with environments is said', async () => {
  assert.throws(() => new cohort.GRPOTrainer(null, { modelPath: MODEL, rewardFunction: () => [], tools: [{ ...cohort.createToolDefinition('look', 'Looks'), call: 3 }] }),
    /'call' of 'look' is a number; expected a function/);
  const refused = (environmentFactory, words, more = {}) => assert.throws(() => new cohort.GRPOTrainer(null, { modelPath: MODEL, environmentFactory, ...more }),
    (error) => error instanceof TypeError && words.test(error.message), String(words));
  refused(7, /is a number; expected a class/);
  refused(() => 7, /returned a number/);
  refused(async () => ({}), /returned a promise/);
  refused(() => ({ tools: [] }), /no method reset/);
  refused(() => ({ reset() {} }), /no list 'tools'/);
  refused(() => ({ reset() {}, tools: definitions }), /no method double, which its tools name/);
  refused(() => ({ reset() {}, tools: [{}] }), /expected definitions/);
  refused(Counter, /leave one of them out/, { tools: tools() });
  const trainer = new cohort.GRPOTrainer(null, { modelPath: MODEL, environmentFactory: () => ({ reset() {}, tools: [] }), logConsole: false });
  await assert.rejects(trainer.train(ROWS), /No reward function/);
});

test('what is wrong with tools is said', async () => {
  const [one, two] = tools();
  assert.throws(() => new cohort.GRPOTrainer(null, { modelPath: MODEL, tools: [one, { ...two, call: undefined }] }), /'wait' has no function 'call'/);
  assert.throws(() => new cohort.GRPOTrainer(null, { modelPath: MODEL, tools: [one, one] }), /twice/);
  assert.throws(() => new cohort.SFTTrainer(null, { modelPath: MODEL, tools: [one] }), TypeError);
  assert.throws(() => new cohort.DistillationTrainer(null, { modelPath: MODEL, tools: definitions }), TypeError);
});

test('a process that ends while a tool is asked ends', async () => {
  const script = path.join(WORK, 'ends.js');
  fs.writeFileSync(script, `
const cohort = require('cohort');
const definitions = ['double', 'wait', 'fail'].map((name) => cohort.createToolDefinition(name, name, { x: { type: 'integer' } }, ['x']));
const trainer = new cohort.GRPOTrainer(null, { ...JSON.parse(process.argv[2]), rewardFunction: (o) => o.map(() => 0),
  tools: definitions.map((definition) => ({ ...definition, call: () => new Promise(() => setTimeout(() => process.exit(7), 50)) })) });
trainer.train([{ prompt: [{ role: 'user', content: 'p' }] }]);
`);
  const { tools: _, rewardFunction: __, ...given } = await config({ batchSize: 1 });
  assert.throws(() => execFileSync(process.execPath, [script, JSON.stringify(given)], { stdio: 'pipe', timeout: 60000 }), { status: 7 });
});

'use strict';
// Loading, generation, streams, chat and ids of the Node package.
const { test } = require('node:test');
const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { Worker } = require('node:worker_threads');
const cohort = require('cohort');

const { MODEL, WORK, COHORT } = process.env;
const OPTIONS = { device: 'cpu', maxContext: 512, threads: 1 };
const user = (content) => [{ role: 'user', content }];
const load = (options = {}) => cohort.Qwen3Model.load(MODEL, { ...OPTIONS, ...options });
const bits = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('hex');

test('what is exported is there', () => {
  for (const name of ['Qwen3Model', 'ModelLoader', 'GenerationResult', 'BatchGenerationResult', 'ChatResult', 'CohortError', 'RewardTimeoutError']) {
    assert.strictEqual(typeof cohort[name], 'function', name);
  }
  const methods = ['generate', 'generateBatch', 'stream', 'chat', 'applyChatTemplate', 'logprobs', 'encode', 'decode', 'getConfig', 'saveModel', 'resetCaches', 'close'];
  for (const name of methods) assert.strictEqual(typeof cohort.Qwen3Model.prototype[name], 'function', name);
  for (const name of ['load', 'loadPretrained']) assert.strictEqual(typeof cohort.Qwen3Model[name], 'function', name);
  assert.match(cohort.version, /^\d+\.\d+\.\d+$/);
});

test('generation has the tokens and log-probs of the program, bit for bit', async () => {
  const model = await load();
  const prompt = 'Once upon a time';
  const made = await model.generateBatch([prompt, prompt, 'else'], 3, { maxNewTokens: 12, seed: 7, temperature: 0.9, topP: 0.8, repetitionPenalty: 1.1 });
  const batch = path.join(WORK, 'prompts.jsonl');
  fs.writeFileSync(batch, [prompt, prompt, 'else'].map((text) => JSON.stringify({ prompt: text }) + '\n').join(''));
  const output = execFileSync(COHORT, ['generate', '--model', MODEL, '--device', 'cpu', '--batch', batch, '--n', '3', '--seed', '7', '--temperature', '0.9',
    '--top-p', '0.8', '--repetition-penalty', '1.1', '--max-completion-length', '12', '--format', 'jsonl'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const lines = output.toString().trim().split('\n').map((line) => JSON.parse(line));
  const flat = lines.flatMap((line) => line.completions ?? [line]);
  assert.strictEqual(flat.length, 9);
  flat.forEach((line, i) => {
    assert.deepStrictEqual(Array.from(made.tokens[i]), line.tokens);
    assert.strictEqual(bits(made.logprobs[i]), bits(Float32Array.from(line.logprobs)));
    assert.strictEqual(made.texts[i], line.completion ?? line.text);
  });
  model.close();
});

test('results have the shape of MLX-Node\'s', async () => {
  const model = await load();
  const made = await model.generateBatch([user('a'), user('b')], 2, { maxNewTokens: 5, seed: 1 });
  assert.deepStrictEqual([made.numPrompts, made.groupSize, made.texts.length, made.tokens.length, made.logprobs.length], [2, 2, 4, 4, 4]);
  assert.deepStrictEqual(made.tokenCounts.map((group) => group.length), [2, 2]);
  assert.strictEqual(made.tokenCounts[1][0], made.tokens[2].length);
  assert.ok(made.finishReasons.flat().every((reason) => ['stop', 'length'].includes(reason)));
  const one = await model.generate(user('a'), { maxNewTokens: 5, seed: 1 });
  assert.deepStrictEqual([one.text, one.numTokens, bits(one.tokens)], [made.texts[0], made.tokens[0].length, bits(made.tokens[0])]);
  assert.ok(one.tokens instanceof Uint32Array && one.logprobs instanceof Float32Array);
  assert.strictEqual((await model.generate(user('a'), { maxNewTokens: 5, returnLogprobs: false })).logprobs.length, 0);
  assert.strictEqual((await model.generateBatch([], 2)).texts.length, 0);
  model.close();
});

test('a stream has the tokens of generate, and leaving it ends it', async () => {
  const model = await load();
  const whole = await model.generate(user('go'), { maxNewTokens: 20, seed: 3 });
  const chunks = [];
  for await (const chunk of model.stream(user('go'), { maxNewTokens: 20, seed: 3 })) chunks.push(chunk);
  assert.strictEqual(chunks.map((chunk) => chunk.text).join(''), whole.text);
  assert.strictEqual(bits(Uint32Array.from(chunks, (chunk) => chunk.token)), bits(whole.tokens));
  assert.strictEqual(bits(Float32Array.from(chunks, (chunk) => chunk.logprob)), bits(whole.logprobs));
  assert.deepStrictEqual(chunks.map((chunk) => chunk.finishReason).filter((reason) => reason !== null), [whole.finishReason]);
  let seen = 0;
  for await (const chunk of model.stream(user('go'), { maxNewTokens: 400, seed: 3 })) {
    assert.strictEqual(chunk.index, 0);
    if (++seen === 2) break;
  }
  assert.strictEqual(seen, 2);
  assert.strictEqual((await model.generate(user('go'), { maxNewTokens: 20, seed: 3 })).text, whole.text);
  model.close();
});

test('a signal ends a generation before, at its start, and in its middle', async () => {
  const model = await load();
  const aborted = AbortSignal.abort();
  await assert.rejects(model.generate(user('a'), { signal: aborted }), { name: 'AbortError' });
  const late = new AbortController();
  const pending = model.generate('a', { maxNewTokens: 450, signal: late.signal });
  late.abort();
  await assert.rejects(pending, { name: 'AbortError' });
  const middle = new AbortController();
  let count = 0;
  await assert.rejects(async () => {
    for await (const chunk of model.stream('a', { maxNewTokens: 450, seed: 4, signal: middle.signal })) {
      count += chunk.text.length >= 0 ? 1 : 0;
      if (count === 3) middle.abort();
    }
  }, (error) => error.name === 'AbortError' && error.partial.length === 1 && error.partial[0].numTokens >= 3);
  model.close();
});

test('calls at once give what calls one after the other give', async () => {
  const models = await Promise.all([load(), load()]);
  const serial = [];
  for (let i = 0; i < 8; i++) serial.push((await models[0].generate(user(`question ${i}`), { maxNewTokens: 16, seed: i })).text);
  const together = await Promise.all(serial.map((_, i) => models[i % 2].generate(user(`question ${i}`), { maxNewTokens: 16, seed: i })));
  assert.deepStrictEqual(together.map((one) => one.text), serial);
  models.forEach((model) => model.close());
});

test('ids and texts', async () => {
  const model = await load();
  const ids = await model.encode('Grüße, 世界');
  assert.ok(ids instanceof Uint32Array);
  assert.strictEqual(await model.decode(ids), 'Grüße, 世界');
  assert.strictEqual(await model.decode(Array.from(ids)), 'Grüße, 世界');
  assert.strictEqual((await model.encode('')).length, 0);
  assert.strictEqual(await model.decode(new Uint32Array(0)), '');
  assert.strictEqual(await model.decode(await model.encode('\ud800')), '\ufffd');
  await assert.rejects(model.encode('a\0b'), { code: 'ERR_COHORT_ARGUMENT' });
  const chat = await model.applyChatTemplate(user('Hello'));
  assert.strictEqual(bits(await model.encode(await model.chatPrompt(user('Hello')))), bits(chat));
  const forged = await model.applyChatTemplate(user('<|im_end|>'));
  assert.notStrictEqual(bits(forged), bits(await model.encode(await model.chatPrompt(user('<|im_end|>')))));
  await assert.rejects(model.applyChatTemplate(user('a'), false), { code: 'ERR_COHORT_UNSUPPORTED' });
  model.close();
});

test('log-probs of given ids are those of their generation', async () => {
  const model = await load();
  const prompt = await model.applyChatTemplate(user('score'));
  const made = await model.generate(prompt, { maxNewTokens: 9, seed: 2, temperature: 0.7 });
  const all = Uint32Array.from([...prompt, ...made.tokens]);
  const scored = await model.logprobs(all, { promptLength: prompt.length, temperature: 0.7 });
  assert.strictEqual(bits(scored), bits(made.logprobs));
  model.close();
});

test('the shape of the model, and a copy of it', async () => {
  const model = await load();
  const config = model.getConfig();
  const file = JSON.parse(fs.readFileSync(path.join(MODEL, 'config.json'), 'utf8'));
  assert.deepStrictEqual([config.hiddenSize, config.numLayers, config.numKvHeads], [file.hidden_size, file.num_hidden_layers, file.num_key_value_heads]);
  const copy = path.join(WORK, 'copy');
  await model.saveModel(copy);
  const again = await cohort.ModelLoader.loadPretrained(copy);
  assert.strictEqual((await again.generate('x', { maxNewTokens: 4, seed: 1 })).text, (await model.generate('x', { maxNewTokens: 4, seed: 1 })).text);
  again.close();
  model.close();
});

test('biases, other ids that end, a least length, and the most likely tokens', async () => {
  const model = await load();
  const greedy = { temperature: 0, maxNewTokens: 8, topLogprobs: 3 };
  const one = await model.generate('a', greedy);
  assert.deepStrictEqual([one.topTokens.length, one.topLogprobs.length, one.topTokens[0].length], [8, 8, 3]);
  one.tokens.forEach((token, i) => {
    assert.strictEqual(one.topTokens[i][0], token);
    assert.strictEqual(one.topLogprobs[i][0], one.logprobs[i]);
    assert.ok(one.topLogprobs[i][0] >= one.topLogprobs[i][1] && one.topLogprobs[i][1] >= one.topLogprobs[i][2]);
  });
  assert.strictEqual((await model.generate('a', { temperature: 0, maxNewTokens: 1 })).topTokens, undefined);
  const [first] = one.tokens;
  const other = await model.generate('a', { ...greedy, logitBias: { [first]: -Infinity } });
  assert.ok(!other.tokens.includes(first) && other.tokens[0] === one.topTokens[0][1]);
  const forced = await model.generate('a', { ...greedy, logitBias: new Map([[65, 1000]]) });
  assert.deepStrictEqual([...forced.tokens], Array(8).fill(65));
  const ended = await model.generate('a', { ...greedy, logitBias: { 65: 1000 }, eosTokenId: [7, 65] });
  assert.deepStrictEqual([[...ended.tokens], ended.text, ended.finishReason], [[65], '', 'stop']);
  const { eosTokenId } = model.getConfig();
  const eos = [].concat(eosTokenId)[0];
  const close = { temperature: 0, maxNewTokens: 5, logitBias: { [eos]: 1000 } };
  assert.strictEqual((await model.generate('a', close)).numTokens, 1);
  assert.strictEqual((await model.generate('a', { ...close, minNewTokens: 3 })).numTokens, 4);
  assert.deepStrictEqual((await model.generate('a', { ...close, eosTokenId: [] })).finishReason, 'length');
  await assert.rejects(model.generate('a', { logitBias: { x: 1 } }), TypeError);
  await assert.rejects(model.generate('a', { eosTokenId: 1.5 }), TypeError);
  await assert.rejects(model.generate('a', { logitBias: { 999999: 1 } }), { code: 'ERR_COHORT_ARGUMENT' });
  await assert.rejects(model.generate('a', { topLogprobs: 65 }), { code: 'ERR_COHORT_ARGUMENT' });
  model.close();
});

test('without a seed draws differ, with one they do not', async () => {
  const model = await load();
  const texts = await Promise.all(Array.from({ length: 4 }, () => model.generate(user('a'), { maxNewTokens: 20 })));
  assert.ok(new Set(texts.map((one) => one.text)).size > 1);
  const seeded = await load({ seed: 5 });
  const [a, b] = [await seeded.generate('a', { maxNewTokens: 8 }), await model.generate('a', { maxNewTokens: 8, seed: 5n })];
  assert.strictEqual(a.text, b.text);
  model.close();
  seeded.close();
});

test('chat takes answers apart', async () => {
  const model = await load({ maxContext: 2048 });
  const tools = [cohort.createToolDefinition('look', 'Looks', { at: { type: 'string' } }, ['at'])];
  const ids = await model.applyChatTemplate(user('Hello'), true, tools);
  assert.ok(ids.length >= (await model.applyChatTemplate(user('Hello'))).length);
  const answer = await model.chat(user('Hello'), { maxNewTokens: 10, seed: 1, tools });
  assert.ok(answer instanceof cohort.ChatResult);
  assert.ok(Array.isArray(answer.toolCalls) && typeof answer.rawText === 'string' && (answer.thinking === null || typeof answer.thinking === 'string'));
  assert.strictEqual(answer.numTokens, answer.tokens.length);
  const more = await model.chat([...user('Hello'), { role: 'assistant', content: answer.rawText }, ...user('And?')], { maxNewTokens: 4, seed: 1 });
  assert.ok(more.numTokens > 0);
  assert.strictEqual(cohort.formatToolResponse({ a: 1 }), '<tool_response>\n{"a":1}\n</tool_response>');
  model.close();
});

test('what is wrong is said', async () => {
  await assert.rejects(cohort.Qwen3Model.load('/nowhere/model'), (error) => error instanceof cohort.CohortError && /nowhere/.test(error.message));
  await assert.rejects(cohort.Qwen3Model.load(MODEL, { devise: 'cpu' }), (error) => error instanceof TypeError && /device/.test(error.message));
  await assert.rejects(cohort.Qwen3Model.load(MODEL, { threads: 'many' }), { code: 'ERR_COHORT_ARGUMENT' });
  await assert.rejects(cohort.Qwen3Model.load(7), TypeError);
  const model = await load();
  await assert.rejects(model.generate(user('a'), { temprature: 1 }), (error) => error instanceof TypeError && /temperature/.test(error.message));
  await assert.rejects(model.generate(user('a'), { temperature: 'hot' }), TypeError);
  await assert.rejects(model.generate(user('a'), { seed: 1.5 }), TypeError);
  await assert.rejects(model.generate('a'.repeat(600)), { code: 'ERR_COHORT_ARGUMENT' });
  await assert.rejects(model.generate(user('a'), { maxNewTokens: 0 }), { name: 'CohortError' });
  await assert.rejects(model.generate([{ content: 'a' }]), TypeError);
  await assert.rejects(model.generate(7), TypeError);
  await assert.rejects(model.generateBatch([user('a')], 0), TypeError);
  for (const [ask, words] of [[() => model.encode(3), /text is a number; expected a string/], [() => model.decode('abc'), /ids is a string; expected a list of ids/],
    [() => model.decode([-1]), /-1 is no id/], [() => model.generate([1, 1.5]), /the prompt: 1.5 is no id/], [() => model.logprobs('abc'), /tokens is a string/],
    [() => model.generate('a', { tools: 'x' }), /tools is a string; expected a list/], [() => model.generate('a', { signal: {} }), /signal is a object; expected an AbortSignal/],
    [() => model.stream('a', { signal: 3 }).next(), /signal is a number/]]) {
    await assert.rejects(ask(), (error) => error instanceof TypeError && words.test(error.message), String(words));
  }
  await assert.rejects(model.generate(new Uint32Array(0)), { name: 'CohortError' });
  const pending = model.generateBatch([user('a'), user('b')], 16, { maxNewTokens: 400 });
  await model.encode('the engine has begun');
  model.close();
  await assert.rejects(pending, { code: 'ERR_COHORT_STATE' });
  await assert.rejects(model.generate(user('a')), { code: 'ERR_COHORT_CLOSED' });
  model.close();
});

test('a thousand models opened and closed leave the memory as it was, and so do those that nobody closes', async () => {
  const turn = async (close) => {
    const models = await Promise.all(Array.from({ length: 8 }, () => load()));
    if (close) models.forEach((model) => model.close());
    models.length = 0;
    for (let i = close ? 2 : 0; i < 3; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      global.gc();
    }
    return process.memoryUsage().rss / 1e6;
  };
  const sizes = [];
  // The first 400 fill malloc's arenas, of which each thread takes one. A model whose weights stayed would be 0.23 MB: 140 in
  // all. Half of that is the bound: beside other tests arenas were seen to differ by 43.
  for (let i = 0; i < 125; i++) sizes.push(await turn(true));
  assert.ok(sizes[124] - sizes[49] < 70, `${sizes[124] - sizes[49]} MB more after 600 models`);
  for (let i = 0; i < 25; i++) sizes.push(await turn(false));
  assert.ok(sizes[149] - sizes[130] < 60, `${sizes[149] - sizes[130]} MB more after 152 models that were not closed`);
});

test('in threads, two at once', async () => {
  const code = `const cohort = require('cohort'); const { parentPort } = require('node:worker_threads');
    cohort.Qwen3Model.load(process.env.MODEL, { device: 'cpu', maxContext: 256, threads: 1 }).then(async (model) => {
      parentPort.postMessage((await model.generate('x', { maxNewTokens: 8, seed: 1 })).text);
    });`;
  const texts = await Promise.all([0, 1].map(() => new Promise((resolve, reject) => {
    const worker = new Worker(code, { eval: true });
    worker.once('message', resolve);
    worker.once('error', reject);
  })));
  const model = await load();
  assert.deepStrictEqual(texts, Array(2).fill((await model.generate('x', { maxNewTokens: 8, seed: 1 })).text));
  model.close();
});

test('a thread that is terminated, and a process that ends, in the middle', async () => {
  const code = `const cohort = require('cohort'); const { parentPort } = require('node:worker_threads');
    cohort.Qwen3Model.load(process.env.MODEL, { device: 'cpu', maxContext: 512, threads: 1 }).then((model) => {
      parentPort.postMessage('ready'); return model.generate('x', { maxNewTokens: 500 });
    });`;
  const worker = new Worker(code, { eval: true });
  await new Promise((resolve) => worker.once('message', resolve));
  await worker.terminate();
  const script = path.join(WORK, 'ends.js');
  fs.writeFileSync(script, `require('cohort').Qwen3Model.load(process.env.MODEL, { device: 'cpu', maxContext: 512 }).then((model) => {
    model.generate('x', { maxNewTokens: 500 }); setTimeout(() => process.exit(7), 20); });`);
  assert.throws(() => execFileSync(process.execPath, [script], { timeout: 20000 }), { status: 7 });
  fs.writeFileSync(script, "require('cohort').Qwen3Model.load(process.env.MODEL, { device: 'cpu', maxContext: 512 }).then(() => console.log('done'));");
  assert.strictEqual(execFileSync(process.execPath, [script], { timeout: 20000 }).toString(), 'done\n'); // an open model keeps no process
});

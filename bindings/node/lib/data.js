'use strict';
// Data sets and texts as MLX-Node has them.
const fs = require('node:fs');
const path = require('node:path');
const { native, optionPairs } = require('./native.js');
const { partsOf } = require('./model.js');

/** Makes a model with random weights in a folder: options are those of `cohort init` (preset, tokenizer, seed, dtype, ...). */
async function initModel(folder, options = {}) {
  const [handle, done] = native.run('init', ['out', folder, ...optionPairs('init', options)], [], 0, false, () => {});
  await done.finally(() => native.close(handle));
}

const SYSTEM_PROMPT = `Respond in the following format:

<reasoning>
...
</reasoning>
<answer>
...
</answer>`;

const XML_COT_FORMAT = `<reasoning>
{reasoning}
</reasoning>
<answer>
{answer}
</answer>`;

function defaultPromptTemplate(question, options = {}) {
  const shown = options.includeOneShot ? options.oneShotExample : undefined;
  return [
    { role: 'system', content: SYSTEM_PROMPT },
    ...(shown === undefined ? [] : [
      { role: 'user', content: shown.question },
      { role: 'assistant', content: XML_COT_FORMAT.replace('{reasoning}', () => shown.reasoning).replace('{answer}', () => shown.answer) },
    ]),
    { role: 'user', content: question },
  ];
}

const between = (text, open, close) => {
  const from = text.indexOf(open);
  const to = from === -1 ? -1 : text.indexOf(close, from + open.length);
  return to === -1 ? null : text.slice(from + open.length, to).trim();
};
const extractXmlAnswer = (text) => between(String(text ?? ''), '<answer>', '</answer>');
const extractXmlReasoning = (text) => between(String(text ?? ''), '<reasoning>', '</reasoning>');
/** What GSM8K's solutions have behind ####. */
const extractHashAnswer = (text) => (text?.includes('####') ? text.slice(text.indexOf('####') + 4).trim() || null : null);

function createDatasetExample(prompt, answer, metadata = undefined) {
  return { prompt: prompt.map((message) => ({ ...message })), answer, ...(metadata === undefined ? {} : { metadata: { ...metadata } }) };
}

function validateDatasetExample(example) {
  if (!Array.isArray(example?.prompt) || example.prompt.length === 0) throw new TypeError('prompt: expected a list of at least one message');
  for (const { role, content } of example.prompt) {
    if (typeof content !== 'string' || content.trim() === '') throw new TypeError('a message of the prompt has no content');
    if (!['system', 'user', 'assistant'].includes(role)) throw new TypeError(`a message's role is ${String(role)}; expected system, user or assistant`);
  }
}

/** The questions of train.jsonl or test.jsonl ({question, answer} a line) in basePath ('data/gsm8k') as {prompt, answer, metadata}. */
async function loadLocalGsm8kDataset(split, options = {}) {
  if (!['train', 'test'].includes(split)) throw new TypeError(`the split is ${String(split)}; expected train or test`);
  const { basePath = 'data/gsm8k', limit, promptTemplate = defaultPromptTemplate, metadata, ...rest } = options;
  const lines = (await fs.promises.readFile(path.resolve(basePath, `${split}.jsonl`), 'utf8')).split('\n').filter((line) => line.trim() !== '');
  return lines.slice(0, limit ?? lines.length).map((line, index) => {
    const { question, answer } = JSON.parse(line);
    return createDatasetExample(promptTemplate(question, rest), extractHashAnswer(answer), { split, index, raw_answer: answer, ...metadata });
  });
}

class LocalGsm8kDatasetLoader {
  #options;

  constructor(options = {}) {
    this.#options = { ...options };
  }

  load(split, limit = undefined) {
    return loadLocalGsm8kDataset(split, { ...this.#options, limit });
  }
}

/** The calls of tools in a text, and what stands beside them. */
function parseToolCallsFromText(text) {
  const { text: content, toolCalls } = partsOf(native.textParse(String(text)));
  return { text: content, toolCalls };
}

/** What reward functions get, made of texts: groupSize completions of each prompt. */
function buildRewardOutputs(prompts, completions, answers, tokenCounts = [], finishReasons = [], groupSize = 1) {
  return completions.map((completion, i) => {
    const promptIndex = Math.floor(i / groupSize);
    const answer = answers[promptIndex];
    const parts = partsOf(native.textParse(String(completion)));
    return {
      prompt: prompts[promptIndex],
      completion: {
        text: parts.text, rawText: completion, toolCalls: parts.toolCalls, thinking: parts.thinking, numTokens: tokenCounts[i] ?? 0,
        finishReason: finishReasons[i] ?? (parts.toolCalls.some((call) => call.status === 'ok') ? 'tool_calls' : 'stop'), tokens: new Uint32Array(0),
      },
      ...(answer === undefined || answer === null ? {} : { expectedAnswer: answer }),
      row: { prompt: prompts[promptIndex], ...(answer === undefined ? {} : { answer }) }, promptIndex, completionIndex: i % groupSize,
    };
  });
}

module.exports = {
  parseToolCallsFromText, buildRewardOutputs, SYSTEM_PROMPT, XML_COT_FORMAT, defaultPromptTemplate, extractXmlAnswer, extractXmlReasoning, extractHashAnswer,
  extractGsm8kAnswer: extractHashAnswer, createDatasetExample, validateDatasetExample, loadLocalGsm8kDataset, LocalGsm8kDatasetLoader, initModel,
};

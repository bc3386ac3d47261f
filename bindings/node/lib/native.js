'use strict';
// The addon, the errors that it makes, and the option table that it reads.
const path = require('node:path');

const native = require(path.join(__dirname, '..', 'cohort.node'));

/** What the library failed with: its message, and its status as code ('ERR_COHORT_ARGUMENT', 'ERR_COHORT_IO', ...). */
class CohortError extends Error {
  constructor(code, message) {
    super(message);
    this.name = 'CohortError';
    this.code = code;
  }
}

/** A reward function that did not answer in time (rewardTimeout). */
class RewardTimeoutError extends CohortError {
  constructor(message, timeoutMs) {
    super('ERR_COHORT_REWARD_TIMEOUT', message);
    this.name = 'RewardTimeoutError';
    this.timeoutMs = timeoutMs;
  }
}

native.useErrors((code, message) => (code === 'ERR_COHORT_REWARD_TIMEOUT' ? new RewardTimeoutError(message) : new CohortError(code, inSettings(message))));

const snake = (name) => name.replace(/[A-Z]/g, (letter) => '_' + letter.toLowerCase());
const camel = (name) => name.replace(/_([a-z0-9])/g, (_, letter) => letter.toUpperCase());

const tables = new Map();
/** Every name that a command's options have, in camelCase, with the option's own name and type. */
function optionTable(command) {
  if (!tables.has(command)) {
    const table = new Map();
    for (const option of JSON.parse(native.optionsList(command))) {
      for (const name of [...option.names, option.name]) table.set(camel(name), option);
    }
    tables.set(command, table);
  }
  return tables.get(command);
}

/** Settings with another name than the library's option, of which messages speak. */
const NAMED = { resume: 'resumeFromCheckpoint', out: 'outputDir' };

/** A message of the library's with settings, of the commands that were asked for until now, in place of flags. */
function inSettings(text) {
  return text.replace(/--([a-z][a-z0-9-]*[a-z0-9])/g, (flag, name) => {
    const setting = camel(name.replaceAll('-', '_'));
    return [...tables.values()].some((table) => table.has(setting)) ? NAMED[setting] ?? setting : flag;
  });
}

const noticed = new Set();
/** One line for a person, once in a process. */
function notice(text) {
  if (noticed.has(text)) return;
  noticed.add(text);
  process.emitWarning(text, { type: 'CohortNotice' });
}

function optionText(name, value) {
  if (Array.isArray(value)) return value.map((item) => optionText(name, item)).join(',');
  if (typeof value === 'object' && value !== null) {
    return Object.entries(value).map(([key, item]) => `${key}=${optionText(name, item)}`).join(',');
  }
  if (!['string', 'number', 'boolean', 'bigint'].includes(typeof value)) {
    throw new TypeError(`${name} is a ${value === null ? 'null' : typeof value}; expected a string, number, boolean, or a list of these`);
  }
  return String(value);
}

/**
 * An object of options in camelCase (or with underscores) as the [name, value, ...] of a command. A name that has no meaning here is
 * said in a notice; any other that is no option is a TypeError with what is near.
 */
function optionPairs(command, given) {
  const table = optionTable(command);
  const pairs = [];
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null) continue;
    const option = table.get(camel(name));
    if (option !== undefined) {
      pairs.push(option.name, optionText(name, value));
      continue;
    }
    const { text, needless } = JSON.parse(native.optionsExplain(command, snake(name)));
    if (!needless) throw new TypeError(inSettings(text.replace(/^[a-z0-9_]+(?=: )|'[a-z0-9_]+'/g, camel)));
    notice(`${name}: ${text.split("': ").pop().replace('; leave it out', '')}`);
  }
  return pairs;
}

/** Of the setting signal: an AbortSignal, or one that is made like it. */
function signalIn(value) {
  if (value === undefined || value === null) return undefined;
  if (typeof value.throwIfAborted !== 'function' || typeof value.addEventListener !== 'function') {
    throw new TypeError(`signal is a ${typeof value}; expected an AbortSignal (new AbortController().signal)`);
  }
  return value;
}

module.exports = { native, CohortError, RewardTimeoutError, optionTable, optionPairs, inSettings, signalIn, notice, camel, snake };

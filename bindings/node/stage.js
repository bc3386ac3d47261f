#!/usr/bin/env node
'use strict';
// Puts the package together: stage.js ADDON FOLDER. The modules beside this file, the addon, and the declarations of options, which come out of
// the library's option table.
const fs = require('node:fs');
const path = require('node:path');

const [addon, folder] = process.argv.slice(2);
fs.mkdirSync(path.join(folder, 'lib'), { recursive: true });
for (const name of ['index.js', 'index.d.ts']) fs.copyFileSync(path.join(__dirname, name), path.join(folder, name));
for (const name of fs.readdirSync(path.join(__dirname, 'lib'))) fs.copyFileSync(path.join(__dirname, 'lib', name), path.join(folder, 'lib', name));
fs.copyFileSync(addon, path.join(folder, 'cohort.node'));

const { native, camel } = require(path.resolve(folder, 'lib', 'native.js'));
const manifest = JSON.parse(fs.readFileSync(path.join(__dirname, 'package.json'), 'utf8'));
manifest.version = native.version();
fs.writeFileSync(path.join(folder, 'package.json'), JSON.stringify(manifest, null, 2) + '\n');

const TYPES = { bool: 'boolean', int: 'number | bigint', float: 'number', text: 'string' };
function typeOf(option) {
  const words = option.choices.map((word) => `'${word}'`).join(' | ');
  if (option.type === 'word') return words;
  if (option.type !== 'list') return TYPES[option.type];
  return words === '' ? 'string | number | ReadonlyArray<string | number> | Readonly<Record<string, string | number>>' : `string | ReadonlyArray<${words}>`;
}

let text = '// Made from the option table (stage.js): do not edit.\n';
for (const [name, command, what] of [
  ['GRPOOptions', 'grpo', 'grpo'], ['SFTOptions', 'sft', 'sft'], ['DPOOptions', 'dpo', 'dpo'], ['KTOOptions', 'kto', 'kto'], ['ORPOOptions', 'orpo', 'orpo'],
  ['CPOOptions', 'cpo', 'cpo'], ['RewardOptions', 'reward', 'reward'], ['DistillationOptions', 'distill', 'distill'], ['ModelOptions', 'generate', 'generate'],
]) {
  text += `\n/** Options of \`cohort ${what}\` (docs/OPTIONS.md), in camelCase. */\nexport interface ${name} {\n`;
  for (const option of JSON.parse(native.optionsList(command))) {
    const fallback = option.fallback === null ? '' : ` (${option.fallback})`;
    text += `  /** ${(option.help + fallback).replace(/\*\//g, '* /')} */\n  ${camel(option.name)}?: ${typeOf(option)};\n`;
  }
  text += '}\n';
}
fs.writeFileSync(path.join(folder, 'options.d.ts'), text);

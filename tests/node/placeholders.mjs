// Drives npm's @logto/connector-kit, the very code that Logto fills templates with, from lines of JSON on stdin.
//
//   in   ["Your code is {{code}}", {"code": "314159"}]
//   out  "Your code is 314159"                          null: it threw

import { createInterface } from 'node:readline';

import { replaceSendMessageHandlebars } from '@logto/connector-kit';

const fill = (template, payload) => {
  try {
    return replaceSendMessageHandlebars(template, payload);
  } catch {
    return null;
  }
};

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(fill(...JSON.parse(line)))}\n`);
}

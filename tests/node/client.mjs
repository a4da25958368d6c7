// Drives npm's @logto/connector-http-email, the very code that Logto runs, from lines of JSON on stdin.
//
//   in   {"id": 1, "endpoint": "…", "authorization": "…", "to": "…", "type": "SignIn", "payload": {…}, "ip": "…"}
//   out  {"id": 1, "ok": true, "status": 200, "body": "…", "reused": true}      reused: on a kept-alive connection
//        {"id": 1, "ok": false, "code": "general", "message": "…"}              the endpoint's words: an end user reads them
//        {"id": 1, "ok": false, "code": "general", "dropped": "ECONNRESET"}     the connection broke: the end user reads everything
//
// Every answer also has "seconds", how long the call took, and "leaked", whether what Logto answers its end user (the
// error's data as JSON) holds the authorization.
//
// Lines are handled as they come, side by side, and answered in the order in which they end. Like Logto the process
// keeps one agent, so connections are used again.

import { createInterface } from 'node:readline';

import createConnector from '@logto/connector-http-email';

const call = async ({ id, endpoint, authorization, ...mail }) => {
  const connector = await createConnector({ getConfig: async () => ({ endpoint, authorization }) });
  try {
    const response = await connector.sendMessage(mail);
    return { id, ok: true, status: response.statusCode, body: response.body, reused: response.req.reusedSocket };
  } catch (error) {
    const leaked = (JSON.stringify(error.data) ?? '').includes(authorization);
    if (error.data instanceof Error) {
      return { id, ok: false, leaked, code: error.code, dropped: error.data.code ?? error.data.message };
    }
    return { id, ok: false, leaked, code: error.code, message: error.data?.message ?? String(error) };
  }
};

const send = async (request) => {
  const began = performance.now();
  const answer = await call(request);
  return { ...answer, seconds: (performance.now() - began) / 1000 };
};

for await (const line of createInterface({ input: process.stdin })) {
  send(JSON.parse(line)).then((answer) => process.stdout.write(`${JSON.stringify(answer)}\n`));
}

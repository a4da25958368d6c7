// Runs npm's smtp-server, an SMTP server that shares no line with ours or with Python's, as the first argument says:
//
//   {"tls": "none" | "starttls" | "implicit", "key": "file", "cert": "file", "methods": ["PLAIN"], "users": {"u": "p"},
//    "from": "127.0.0.2", "clientCa": "file"}
//
//   in   {"tokens": {"u": "token"}}     access tokens that are good from now on; each line is answered by {"ok": true}
//   out  {"port": 2525}                 once
//        {"login": "XOAUTH2", "good": true}
//        {"mail": {"user": "…", "from": "…", "to": ["…"], "remote": "127.0.0.1", "secure": true, "content": "base64"}}
//
// With `from` only that address may connect; with `clientCa` only who shows a certificate of that authority.

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

import { SMTPServer } from 'smtp-server';

const options = JSON.parse(process.argv[2]);
let tokens = {};

const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const refusal = () => Object.assign(new Error('Username and Password not accepted'), { responseCode: 535 });

const server = new SMTPServer({
  secure: options.tls === 'implicit',
  hideSTARTTLS: options.tls === 'none',
  allowInsecureAuth: options.tls === 'none',
  authOptional: !options.methods,
  authMethods: options.methods ?? [],
  ...(options.tls !== 'none' && { key: readFileSync(options.key), cert: readFileSync(options.cert) }),
  ...(options.clientCa && { requestCert: true, rejectUnauthorized: true, ca: readFileSync(options.clientCa) }),
  onConnect: ({ remoteAddress }, answer) =>
    answer(
      options.from && remoteAddress !== options.from
        ? Object.assign(new Error(`${remoteAddress} is not on the list`), { responseCode: 554 })
        : undefined
    ),
  onAuth: ({ method, username, password, accessToken }, _session, answer) => {
    const good = method === 'XOAUTH2' ? tokens[username] === accessToken : options.users[username] === password;
    tell({ login: method, good });
    if (good) return answer(undefined, { user: username });
    if (method === 'XOAUTH2') return answer(undefined, { data: { status: '401', schemes: 'bearer mac', scope: 'mail' } });
    return answer(refusal());
  },
  onData: (stream, { user, envelope, remoteAddress, secure }, answer) => {
    const chunks = [];
    stream.on('data', (chunk) => chunks.push(chunk));
    stream.on('end', () => {
      tell({
        mail: {
          user: user ?? '',
          from: envelope.mailFrom.address,
          to: envelope.rcptTo.map(({ address }) => address),
          remote: remoteAddress,
          secure,
          content: Buffer.concat(chunks).toString('base64'),
        },
      });
      answer();
    });
  },
});
server.on('error', () => {}); // a client that goes away is the test's business

server.listen(0, '127.0.0.1', () => tell({ port: server.server.address().port }));

for await (const line of createInterface({ input: process.stdin })) {
  ({ tokens } = JSON.parse(line));
  tell({ ok: true });
}
process.exit();

// Sends mails with npm's @logto/connector-smtp, which opens a connection for each mail. Row c's peer.
//
//   node bench/programs/connector.mjs PORT [MAILS] [CONCURRENCY] [HOST] [starttls]
//   {"mails": 2000, "concurrency": 128, "seconds": 1.54, "mails_per_second": 1298.7}
//
// Every mail must be accepted, or it ends with 1. The packages are those of tests/node (`npm ci` there first).

import { createRequire } from 'node:module';

const require = createRequire(new URL('../../tests/node/package.json', import.meta.url));
const { default: createConnector } = await import(require.resolve('@logto/connector-smtp'));

const [port, mails = '2000', concurrency = '128', host = '127.0.0.1', tls = 'none'] = process.argv.slice(2);
if (!port) {
  console.error('node bench/programs/connector.mjs PORT [MAILS] [CONCURRENCY] [HOST] [starttls]');
  process.exit(2);
}

// About the size that Mailroom's own SignIn mail has: 6 KB on the wire.
const content = `<!doctype html><html><body>${'<p>A line of a mail that is about as long as ours.</p>'.repeat(90)}<b>{{code}}</b></body></html>`;
const templates = ['SignIn', 'Register', 'ForgotPassword', 'Generic'].map((usageType) => ({
  usageType,
  contentType: 'text/html',
  subject: '{{code}} is your code',
  content,
}));

const config = {
  host,
  port: Number(port),
  auth: { type: 'login', user: '', pass: '' }, // empty: nodemailer does not log in
  fromEmail: 'no-reply@acme.example',
  templates,
  ...(tls === 'starttls' ? { requireTLS: true, tls: { rejectUnauthorized: false } } : { ignoreTLS: true }),
};
const connector = await createConnector({ getConfig: async () => config });

let next = 0;
const worker = async () => {
  while (next < Number(mails)) {
    const number = next++;
    await connector.sendMessage({
      to: `user-${number}@acme.example`,
      type: 'SignIn',
      payload: { code: String(number).padStart(6, '0'), locale: 'en' },
    });
  }
};

const start = performance.now();
await Promise.all(Array.from({ length: Number(concurrency) }, worker));
const seconds = (performance.now() - start) / 1000;
console.log(
  JSON.stringify({
    mails: Number(mails),
    concurrency: Number(concurrency),
    seconds: Number(seconds.toFixed(3)),
    mails_per_second: Number((Number(mails) / seconds).toFixed(1)),
  }),
);

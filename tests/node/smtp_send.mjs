// Sends mails by npm's @logto/connector-smtp, what Logto's operators use today, to many servers side by side:
//
//   argument  [{"config": {…the connector's configuration…}, "to": "ada@reader.example", "mails": 2}, …]
//   out       [{"sent": 2, "error": ""}, …]

import createConnector from '@logto/connector-smtp';

const templates = ['SignIn', 'Register', 'ForgotPassword', 'Generic'].map((usageType) => ({
  usageType,
  contentType: 'text/plain',
  subject: 'Your code',
  content: '{{code}}',
}));

const send = async ({ config, to, mails }) => {
  const connector = await createConnector({ getConfig: async () => ({ ...config, templates }) });
  let sent = 0;
  try {
    for (; sent < mails; sent++) {
      await connector.sendMessage({ to, type: 'SignIn', payload: { code: `${sent}` } });
    }
  } catch (error) {
    return { sent, error: String(error.data?.message ?? error.data ?? error) };
  }
  return { sent, error: '' };
};

console.log(JSON.stringify(await Promise.all(JSON.parse(process.argv[2]).map(send))));
process.exit();

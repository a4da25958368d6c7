"""A code is sent by the server even if the operator's templates do not show it, fail, or cannot be read."""

from email import message_from_bytes, policy
from pathlib import Path

import httpx

from tests.rendering.overlays import write_files
from tests.smtp_server import smtp_server
from tests.test_server import SETTINGS, process

TEMPLATES = {
    "SignIn/html.jinja": "<p>Hello</p>",
    "SignIn/text.jinja": "Hello",
    "Register/logto/default.toml": 'subject = "Welcome"\n',
    "Register/logto/default.txt": "Hello",
    "ForgotPassword/html.jinja": "{{ code }} {{ app.toUpperCase() }}",
    "BindMfa/html.jinja": "{{#if app}}{{ code }}{{/if}}",
    "MfaVerification/text.jinja": "{{ code.nothing.at.all() }}",
    "Generic/logto/default.toml": "no TOML",
    "locales/en.toml": "[SignIn]\nsubject =",
}
KINDS = ("SignIn", "Register", "ForgotPassword", "BindMfa", "MfaVerification", "Generic")


async def test_every_code_is_sent_with_the_bundled_template(tmp_path: Path) -> None:
    write_files(tmp_path / "mine", TEMPLATES)
    async with smtp_server(tls="none") as relay:
        provider = f'type = "smtp"\nhost = "127.0.0.1"\nport = {relay.port}\ntls = "none"'
        settings = f'templates = "mine"\n{SETTINGS}'.replace('type = "capture"', provider)
        async with process(tmp_path, settings=settings) as running, httpx.AsyncClient(trust_env=False) as client:
            await running.ready()
            for number, kind in enumerate(KINDS):
                body = {"to": f"{kind}@example.com", "type": kind, "payload": {"code": f"27182{number}"}}
                answer = await client.post(
                    f"{running.url}/email", json=body, headers={"authorization": "Bearer test-token"}, timeout=30
                )
                assert answer.status_code == 200, answer.text
            mails = await relay.received(len(KINDS), within=30)
    sent = {mail.recipient.partition("@")[0]: message_from_bytes(mail.content, policy=policy.default) for mail in mails}
    for number, kind in enumerate(KINDS):
        bodies = [sent[kind].get_body((part,)) for part in ("html", "plain")]
        assert all(f"27182{number}" in body.get_content() for body in bodies if body), kind
        assert all(bodies), f"{kind}: the bundled template has both parts"

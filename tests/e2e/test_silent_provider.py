"""Providers that accept connections and stay silent: codes go out by the one that works, within seconds."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from math import inf
from pathlib import Path

import httpx
import pytest

from tests.e2e.harness import AUTHORIZATION, Server, configuration, smtp_settings
from tests.smtp_server import HANG, smtp_server
from tests.smtp_server import Server as SmtpServer

pytestmark = pytest.mark.alone

AT_ONCE = 60
"""Codes that are posted at the same time."""
OUT_WITHIN = 10.0
"""Seconds in which all of those are handed over: a silent provider is given up after 5."""
NEXT_WITHIN = 1.0
"""Seconds in which a code is handed over that is posted afterwards."""
PROBE_WITHIN = 6.0
"""Seconds for the one code that probes a provider which goes silent in the middle of a mail."""
SILENT_FOR = 12.0
"""Seconds; the breakers open after 5, and 5 later a first probe fails."""
RETURNS_WITHIN = 25.0
"""Seconds in which a provider that speaks again gets mail: 5 until the last probe fails, 10 until the next."""
CONTENT_SECONDS, CONTENT_WITHIN = 15.0, 17.0
"""So long after its content was handed over in vain a code goes to the next provider, at the earliest and latest."""
CONCURRENCY = 10
"""Connections to a provider, unless its settings say otherwise."""

SILENT_AT = {"Register": "greeting", "SignIn": "ehlo", "ForgotPassword": "auth", "Generic": "rcpt"}
"""Template → what the first provider of its route does not answer; the second one works."""
ONLY_WORKING, ONLY_SILENT = "MfaVerification", "BindMfa"
"""Templates that are routed to one provider alone."""


class Sender:
    """Posts codes, and remembers when."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.posted: dict[str, float] = {}
        """Recipient → Unix seconds."""

    async def post(self, template: str, count: int) -> list[str]:
        """Post so many codes at once; return their recipients."""
        first = len(self.posted)
        recipients = [f"{template}+{first + number}@example.com" for number in range(count)]
        self.posted |= dict.fromkeys(recipients, time.time())
        bodies = ({"to": one, "type": template, "payload": {"code": "314159"}} for one in recipients)
        answers = await asyncio.gather(*(self._client.post("/email", json=body) for body in bodies))
        assert {answer.status_code for answer in answers} == {200}
        return recipients

    async def post_steadily(self, templates: Sequence[str], *, until: Callable[[], bool]) -> list[str]:
        """Post a code for each template four times a second until something holds; return the recipients."""
        recipients: list[str] = []
        while not until():
            for template in templates:
                recipients += await self.post(template, 1)
            await asyncio.sleep(0.25)  # the pace of the load, not a wait for something
        return recipients

    async def late(self, recipients: Sequence[str], limit: float, *servers: SmtpServer) -> dict[str, float]:
        """Return which codes no server had so many seconds after they were posted, and how long they took."""
        while missing := [one for one in recipients if one not in (came := _arrivals(servers))]:
            if time.time() > self.posted[missing[-1]] + limit:
                break
            await asyncio.sleep(0.02)  # several servers, each with news of its own
        took = {one: came.get(one, inf) - self.posted[one] for one in recipients}
        return {one: seconds for one, seconds in took.items() if seconds > limit}


def _arrivals(servers: Sequence[SmtpServer]) -> dict[str, float]:
    """Return when each recipient's mail came first."""
    mails = sorted((mail for server in servers for mail in server.mails), key=lambda mail: mail.at, reverse=True)
    return {mail.recipient: mail.at for mail in mails}


@asynccontextmanager
async def mailroom(directory: Path, routes: Mapping[str, list[str]], **servers: SmtpServer) -> AsyncIterator[Sender]:
    """Run the server with these providers, by name; `auth` wants a login."""
    tables = []
    for name, server in servers.items():
        login = {"username": "u", "password": "p"} if name == "auth" else {}
        tables.append(f"[providers.{name}]\n{smtp_settings(server.port, **login)}")
    tables.append("\n".join(["[routes]", *(f"{template} = {names}" for template, names in routes.items())]))
    text = configuration("").replace("[providers.main]\n", "\n".join(tables))
    headers = {"authorization": AUTHORIZATION}
    async with (
        Server(directory, text) as running,
        httpx.AsyncClient(base_url=running.url, headers=headers, trust_env=False, timeout=20) as client,
    ):
        yield Sender(client)


async def test_silent_providers_delay_no_code(tmp_path: Path) -> None:
    """Each variant has a template of its own; all share the provider that works."""
    async with AsyncExitStack() as stack:
        works = await stack.enter_async_context(smtp_server())
        silent = {
            at: await stack.enter_async_context(smtp_server(users={"u": "p"} if at == "auth" else None))
            for at in SILENT_AT.values()
        }
        routes = {template: [at, "works"] for template, at in SILENT_AT.items()}
        routes |= {"default": ["works"], ONLY_SILENT: ["greeting"]}
        sender = await stack.enter_async_context(mailroom(tmp_path, routes, **silent, works=works))
        for at, server in silent.items():
            server.fault(at.upper(), HANG)

        await sender.post(ONLY_SILENT, 200)
        began = time.time()
        bursts = await asyncio.gather(*(sender.post(template, AT_ONCE) for template in SILENT_AT))
        unaffected = await sender.post(ONLY_WORKING, 10)
        assert not await sender.late(unaffected, NEXT_WITHIN, works)
        assert not await sender.late([one for burst in bursts for one in burst], OUT_WITHIN, works)

        templates = (*SILENT_AT, ONLY_WORKING)
        later = await sender.post_steadily(templates, until=lambda: time.time() > began + SILENT_FOR)
        spoke_at = time.time()
        for server in silent.values():
            server.recover()

        def returned() -> dict[str, float]:
            mails = ((at, mail) for at, server in silent.items() for mail in reversed(server.mails))
            return {at: mail.at - spoke_at for at, mail in mails if not mail.recipient.startswith(ONLY_SILENT)}

        later += await sender.post_steadily(
            templates, until=lambda: len(returned()) == len(silent) or time.time() > spoke_at + RETURNS_WITHIN
        )
        late = await sender.late(later, NEXT_WITHIN, works, *silent.values())
        probe, probed_within = late.popitem() if late else ("Generic", 0.0)
        assert probe.startswith("Generic")
        assert probed_within <= PROBE_WITHIN
        assert not late
        assert returned().keys() == silent.keys()


async def test_a_provider_that_is_silent_after_the_content_has_its_time(tmp_path: Path) -> None:
    """A slow filter is no failure: the next provider gets the mails only afterwards, all others at once."""
    async with (
        smtp_server() as silent,
        smtp_server() as works,
        mailroom(tmp_path, {"default": ["silent", "works"]}, silent=silent, works=works) as sender,
    ):
        silent.fault("CONTENT", HANG)
        codes = await sender.post("SignIn", AT_ONCE)
        assert not await sender.late(codes, CONTENT_WITHIN, works)
        twice = {mail.recipient for mail in silent.mails}
        assert len(twice) == CONCURRENCY
        slow = await sender.late(codes, CONTENT_SECONDS, works)
        assert slow.keys() == twice
        assert not await sender.late([code for code in codes if code not in twice], OUT_WITHIN, works)
        assert not await sender.late(await sender.post("SignIn", AT_ONCE), NEXT_WITHIN, works)

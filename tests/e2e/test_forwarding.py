"""A request of Logto is stored and forwarded to a service with its own templates: the same bytes."""

from pathlib import Path

import httpx

from tests.e2e.harness import AUTHORIZATION, Server, configuration
from tests.http_recorder import Answer, Recorder

CAPTURES = Path(__file__).parents[1] / "logto-wire" / "email"


async def test_each_type_that_logto_sends_is_forwarded_byte_for_byte(tmp_path: Path) -> None:
    """Through the endpoint, the sealed outbox and the provider."""
    one_of_each = {file.stem.partition("-")[0]: file for file in sorted(CAPTURES.glob("*.http"))}
    bodies = [file.read_bytes().partition(b"\r\n\r\n")[2] for file in one_of_each.values()]
    assert len(bodies) >= 8
    async with Recorder(Answer(200, b""), tls=False) as service:
        provider = f'type = "http"\nurl = "{service.url}/email"\nforward = true\nheaders = {{ Authorization = "x" }}\n'
        async with (
            Server(tmp_path, configuration(provider)) as server,
            httpx.AsyncClient(base_url=server.url, trust_env=False) as logto,
        ):
            for number, body in enumerate(bodies, 1):
                headers = {"authorization": AUTHORIZATION, "content-type": "application/json"}
                assert (await logto.post("/email", content=body, headers=headers)).status_code == httpx.codes.OK
                # One after the other: of two codes for the same reader the older would be superseded.
                await service.until(lambda number=number: len(service.requests) >= number)
    assert [request.body for request in service.requests] == bodies
    assert {request.header("authorization") for request in service.requests} == {"x"}
    assert len({request.header("idempotency-key") for request in service.requests}) == len(bodies)

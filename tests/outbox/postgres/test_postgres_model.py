"""The model test, on PostgreSQL."""

from typing import Any, ClassVar

import pytest
from hypothesis import settings

from mailroom.outbox.postgres.database_pool import Connection
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox
from tests.outbox.model import OutboxModel
from tests.outbox.postgres.conftest import new_url
from tests.postgres_server import PostgresServer


class PostgresModel(OutboxModel):
    """The model, and a database that is emptied for each example."""

    server: ClassVar[PostgresServer]

    def __init__(self) -> None:
        self.url = new_url(self.server)
        super().__init__()

    def _open(self) -> Any:
        async def read_time(_: Connection) -> float:
            return self.clock.now()

        opening = PostgresOutbox.open(self.url, secret_keys=["x"], clock=self.clock, read_time=read_time)
        return self._run(opening)

    def _count(self) -> tuple[int, int]:
        sql = "SELECT (SELECT count(*) FROM mailroom.history), (SELECT count(rendered) FROM mailroom.messages)"
        [(unsealed, rendered)] = self._run(self.outbox._database.rows(sql))
        return unsealed, rendered


@pytest.fixture(autouse=True)
def _server(postgres: PostgresServer) -> None:
    PostgresModel.server = postgres


TestPostgresModel = PostgresModel.TestCase
TestPostgresModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None, derandomize=True)

"""The endpoint of `bare.py` that stores the body before it responds: `python -m bench.programs.bare_storing PORT DSN`.

Written as an operator would: asyncpg's pool, a statement and a commit a request; nothing is encrypted or compared.
"""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

_CREATE = """
    CREATE TABLE IF NOT EXISTS mails (
        id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        created_at timestamptz NOT NULL DEFAULT now(),
        state      text NOT NULL DEFAULT 'queued',
        body       jsonb NOT NULL
    );
    CREATE INDEX IF NOT EXISTS mails_queued ON mails (created_at) WHERE state = 'queued';
"""
_INSERT = "INSERT INTO mails (body) VALUES ($1) RETURNING id"


async def email(request: Request) -> JSONResponse:
    """Parse, store and respond."""
    body = await request.body()
    json.loads(body)
    id_ = await request.app.state.pool.fetchval(_INSERT, body.decode())
    return JSONResponse({"id": str(id_)})


@asynccontextmanager
async def connected(app: Starlette) -> AsyncIterator[None]:
    """Hold a pool of asyncpg's default size."""
    async with asyncpg.create_pool(sys.argv[2]) as app.state.pool:
        await app.state.pool.execute(_CREATE)
        yield


app = Starlette(routes=[Route("/email", email, methods=["POST"])], lifespan=connected)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, loop="uvloop", http="httptools")

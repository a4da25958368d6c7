"""A bare Starlette endpoint that parses the same body and responds with 200: `python -m bench.programs.bare PORT`."""

import json
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def email(request: Request) -> JSONResponse:
    """Parse and respond."""
    body = json.loads(await request.body())
    return JSONResponse({"id": body["type"]})


app = Starlette(routes=[Route("/email", email, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, loop="uvloop", http="httptools")

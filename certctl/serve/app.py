"""The daemon's HTTP endpoints for nginx, on a unix socket: a handshake, a visit on port 80, metrics and status."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from certctl.serve.answers import Answer, Kind
from certctl.serve.metrics import CONTENT_TYPE
from certctl.serve.ondemand import OnDemand
from certctl.serve.pages import page

HTTPS = "@certctl_https"  # the named location in nginx's base file that redirects to https
_MAX_SHOWN = 253


def application(
    on_demand: OnDemand, metrics: Callable[[], bytes], status: Callable[[], Mapping[str, Any]]
) -> Starlette:
    """Return the ASGI application; ``metrics`` and ``status`` may read the store, so they run on threads."""

    async def certificate(request: Request) -> Response:
        """Answer a TLS handshake (mode lua) whether the mirror has the name now; no key is sent here."""
        answer = await on_demand.answer(request.path_params["name"])
        return PlainTextResponse(f"{answer.kind} {answer.slug or ''}".strip() + "\n", *_for_a_handshake(answer))

    async def show_metrics(_request: Request) -> Response:
        return Response(await asyncio.to_thread(metrics), media_type=CONTENT_TYPE)

    async def show_status(_request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(status))

    async def health(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(
        routes=[
            Route("/certificate/{name:path}", certificate),
            Route("/visit", _Visit(on_demand)),
            Route("/metrics", show_metrics),
            Route("/status", show_status),
            Route("/healthz", health),
        ]
    )


class _Visit:
    """The endpoint for a visit on port 80, by any method: nginx passes on all but ACME challenges."""

    def __init__(self, on_demand: OnDemand) -> None:
        self._on_demand = on_demand

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Request(scope).headers.get("host", "")
        answer = await self._on_demand.answer(host)
        await _for_a_visitor(answer, host)(scope, receive, send)


def _for_a_handshake(answer: Answer) -> tuple[int, dict[str, str]]:
    """Return the status and headers for a handshake: how long nginx may cache a refusal, or when to retry."""
    if answer.kind is Kind.READY:
        return 200, {"Cache-Control": "no-store"}
    if answer.kind in {Kind.REFUSED, Kind.RESTING}:
        return 404, {"Cache-Control": f"max-age={answer.seconds}"}
    return 503, {"Cache-Control": "no-store", "Retry-After": str(answer.seconds)}


def _for_a_visitor(answer: Answer, host: str) -> Response:
    if answer.kind is Kind.READY:
        return Response(headers={"X-Accel-Redirect": HTTPS})
    text, headers = page(answer, host[:_MAX_SHOWN])
    return HTMLResponse(text, 404 if answer.kind is Kind.REFUSED else 503, headers)

"""What a running collector does for `lastword db` when asked: publish now, remove now what is overdue. Neither changes what the collector would do by itself, only when."""

from __future__ import annotations

from typing import Any

import duckdb
from litestar import Response, post
from litestar.datastructures import State

from collector.sql.http import problem
from collector.store.hot import StoreError
from collector.store.publisher import Publisher


@post("/v1/store/publish", status_code=200, summary="Publish what has landed", tags=["store"])
async def publish(state: State) -> Response[Any]:
    """Everything that was acknowledged before this request stands in segments and in the catalog when it is answered."""
    publisher: Publisher = state.publisher

    def run() -> bool:
        return publisher.round() and publisher.round()  # where a publication failed before, two generations hold rows

    if not await state.read(run):
        return problem(503, "Service Unavailable", f"Publishing failed: {publisher.state.last_error}")
    return Response({"segments": publisher.state.segments, "bytes": publisher.state.bytes})


@post("/v1/store/prune", status_code=200, summary="Remove what is overdue", tags=["store"])
async def prune(state: State) -> Response[Any]:
    """Rows that are older than the settings say are removed now. The disk has their bytes back when readers had their grace."""
    publisher: Publisher = state.publisher
    try:
        pruned = await state.read(publisher.prune)
    except (StoreError, duckdb.Error, OSError) as error:
        return problem(503, "Service Unavailable", f"Not everything could be removed: {error}")
    return Response({"rows": pruned.rows, "bytes": pruned.bytes})

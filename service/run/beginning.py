"""The beginning of a turn: auth, precheck, context, route, ack. A failure in here is an HTTP status.

Invariant: when `begin` returns, the `ack` is durable and appended, and the database knows the turn as open.
"""

from __future__ import annotations

import re

from lastword.events import Ack
from lastword.ids import new_conversation_id
from lastword.states import Signal
from service import problems
from service.access.callers import require
from service.access.grants import Scope
from service.access.limits import OverLimit, take_turn
from service.records import accepted_record
from service.run.deps import Deps
from service.run.turn import Turn
from service.store.data import DuplicateKey, NewTurn, Record
from service.turn.timings import NS_PER_MS

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_MAX_LABELS = 16
_MAX_LABEL_CHARS = 256


def begin(turn: Turn, deps: Deps) -> None:
    """Runs a turn up to its `ack`.

    Raises:
        Rejected: the request is answered with an HTTP status.
        Attached: the idempotency key names a turn that exists.
    """
    turn.step(Signal.BEGIN)
    turn.grant = turn.ask.grant or deps.callers.identify(turn.ask.bearer)
    turn.caller = turn.grant.caller
    require(turn.grant, Scope.ASK)
    turn.step(Signal.AUTHORIZED)
    _precheck(turn, deps)
    turn.step(Signal.ADMITTED)
    _load_context(turn, deps)
    turn.step(Signal.CONTEXT_LOADED)
    _choose_route(turn, deps)
    at_ns = turn.step(Signal.ROUTED)
    turn.append_ack(_ack(turn, deps, at_ns))
    turn.step(Signal.ACK_APPENDED)


def _precheck(turn: Turn, deps: Deps) -> None:
    """Size and form of the request; then the turn is claimed in the database."""
    request = turn.ask.request
    if not request.message.strip():
        raise problems.invalid("`message` is empty.")
    if len(request.message) > deps.settings.max_message_chars:
        raise problems.too_large(f"`message` is longer than {deps.settings.max_message_chars} characters.")
    if request.conversation_id is not None and not _ID.fullmatch(request.conversation_id):
        raise problems.invalid("`conversationId` has 1 to 64 of the characters A-Z a-z 0-9 _ . : -")
    if len(request.metadata) > _MAX_LABELS or any(
        len(text) > _MAX_LABEL_CHARS for pair in request.metadata.items() for text in pair
    ):
        raise problems.invalid(f"`metadata` has at most {_MAX_LABELS} entries of at most {_MAX_LABEL_CHARS} characters.")
    turn.conversation_id = request.conversation_id or new_conversation_id()
    route = deps.routes.choose(request.message, turn.route_wish)
    turn.deadline_ms = min(request.deadline_ms or route.deadline_ms, route.deadline_ms)
    now_ns = deps.clock.wall_ns()
    allow = (lambda connection: take_turn(connection, turn.grant, now_ns)) if turn.grant.limits.any else None
    try:
        deps.store.accept_turn(_new_turn(turn, deps), _accepted_record(turn, deps), allow)
    except OverLimit as over:
        raise problems.over_limit(over.detail, over.retry_after_s) from None
    except DuplicateKey as duplicate:
        if duplicate.existing.payload_sha256 != turn.ask.payload_sha256:
            raise problems.Rejected(
                422, "Unprocessable Content", "The Idempotency-Key was used before with another payload."
            ) from None
        raise problems.Attached(duplicate.existing.turn_id) from None
    turn.stored = True
    deps.record_stored()


def _new_turn(turn: Turn, deps: Deps) -> NewTurn:
    return NewTurn(
        turn_id=turn.turn_id,
        caller=turn.caller,
        conversation_id=turn.conversation_id,
        trace_id=turn.trace.trace_id,
        accepted_at=turn.anchor.at,
        deadline_ms=turn.deadline_ms,
        idempotency_key=turn.ask.idempotency_key,
        payload_sha256=turn.ask.payload_sha256,
        labels=turn.ask.request.metadata,
        span_id=turn.trace.span_id,
        owner=deps.info.instance,
        question=turn.ask.request.message,
    )


def _accepted_record(turn: Turn, deps: Deps) -> Record:
    return accepted_record(
        turn.ids,
        started_at=turn.anchor.at,
        deadline_ms=turn.deadline_ms,
        conversation_id=turn.conversation_id,
        service=deps.info,
    )


def _load_context(turn: Turn, deps: Deps) -> None:
    """Earlier messages of the conversation, where the caller named one of its own."""
    if turn.ask.request.conversation_id is None:
        return
    owner = deps.store.conversation_owner(turn.conversation_id)
    if owner is None:
        return  # the client chose the id of a new conversation
    if owner != turn.caller:
        raise problems.not_found("conversation")
    turn.history = deps.store.messages(turn.conversation_id, deps.settings.max_history_messages)


def _choose_route(turn: Turn, deps: Deps) -> None:
    request = turn.ask.request
    turn.route = deps.routes.choose(request.message, turn.route_wish)
    tiers = turn.route.tiers
    if turn.tier_wish in tiers:
        tiers = tiers[tiers.index(turn.tier_wish) :]  # a wish for a cheaper tier; cheaper ones still stand behind it
    turn.tiers = tiers
    turn.tier = tiers[0]
    turn.model = deps.routes.model(turn.tier)


def _ack(turn: Turn, deps: Deps, at_ns: int) -> Ack:
    return Ack(
        turn_id=turn.turn_id,
        seq=1,
        t_ms=at_ns // NS_PER_MS,
        trace_id=turn.trace.trace_id,
        route=turn.chosen_route.name,
        model_tier=turn.tier,
        conversation_id=turn.conversation_id,
        deadline_ms=turn.deadline_ms,
        heartbeat_ms=deps.settings.heartbeat_ms,
        on_disconnect=turn.on_disconnect,
        resume_url=f"/v1/turns/{turn.turn_id}/events",
    )

"""Resume: a turn outlives its connections, and every reader sees the same bytes."""

from __future__ import annotations

import secrets
from functools import partial

from lastword.check.bench import Bench, json_of
from lastword.check.case import Failed, Need, NotTried, case
from lastword.check.exchange import Exchange
from lastword.check.stream import TurnStream

_RESUME = (
    "contract 5: GET /v1/turns/{id}/events, the log from the start or behind a cursor, byte-identical to the first delivery"
)
_IDEMPOTENCY = "contract 5: Idempotency-Key: same key and payload attaches to the running or finished turn"
_VIEWERS = 5
_TWINS = 20
_MAX_RETENTION_S = 20.0


def expect_status(exchange: Exchange, status: int, what: str) -> None:
    """Expects an HTTP status of a whole response."""
    if exchange.status != status:
        raise Failed(f"{what}: answered {exchange.status}, expected {status}", exchange.evidence())


@case(
    "R42",
    "cut after every seq: the joined streams are identical",
    rule=_RESUME,
    why="Mobile networks cut anywhere; a client that resumes must lose and double nothing.",
    limit_s=120,
)
def cut_everywhere(bench: Bench) -> None:
    """A running turn for every place to cut, then the ended log behind every seq; half resume by header, half by query."""
    count = 10
    turns = [bench.open(f"words={count}@0.1, end").head() for _ in range(count)]
    cut: list[tuple[int, list[bytes], TurnStream]] = []
    for place, turn in enumerate(turns, start=1):
        turn.read(partial(_has_events, turn, place), f"event {place}")
        if turn.terminal is not None:
            break  # a server may put words together: then there are fewer places
        seen = turn.blocks[: len(turn.events)]
        turn.leave(reset=place % 3 == 0)
        cut.append((len(seen), seen, _behind(bench, turn, len(seen))))  # all are resumed while they run
    turns[0].expect(cut, "the whole answer came at once: there was no place to cut")
    for place, seen, rest in cut:
        rest.head().finish()
        whole = bench.follow(rest.turn_id).head().finish()
        rest.expect(seen + rest.blocks == whole.blocks, f"cut behind seq {place}, the joined stream differs from the replay")
    whole = bench.follow(turns[0].turn_id).head().finish()
    for place in range(1, len(whole.events)):
        rest = _behind(bench, whole, place).head().finish()
        rest.expect(rest.blocks == whole.blocks[place:], f"behind seq {place}, the ended turn's rest differs from the replay")


def _has_events(turn: TurnStream, count: int) -> bool:
    return len(turn.events) >= count


def _behind(bench: Bench, turn: TurnStream, place: int) -> TurnStream:
    """The events behind a place, asked for in one of the two ways."""
    if place % 2 == 0:
        return bench.follow(turn.turn_id, last_event_id=f"{turn.turn_id}.{place}")
    return bench.follow(turn.turn_id, after=place)


@case(
    "R43",
    "five viewers at once read identical streams",
    rule="contract 5: several viewers; byte-identical",
    why="A second tab, a colleague, a reconnect that overlaps: all are viewers of one turn.",
    needs=Need.NOTHING,
)
def several_viewers(bench: Bench) -> None:
    """Whoever comes later sees what the first saw; `resumeUrl` leads there."""
    first = bench.open("words=20@0.05, end").head().read_events(1)
    url = str(first.ack.get("resumeUrl", ""))
    first.expect(first.turn_id in url, f"resumeUrl is {url!r}")
    viewers = [first]
    for _ in range(_VIEWERS - 1):
        viewers.append(bench.follow(first.turn_id).head())
        bench.budget.pause(0.1)
    for viewer in viewers:
        viewer.finish()
    for viewer in viewers[1:]:
        viewer.expect(viewer.blocks == first.blocks, "a viewer's events differ from the first delivery")
    bench.expect_calls(first, 1)


@case(
    "R44",
    "disconnect before ack, same key again: attached",
    rule=_IDEMPOTENCY,
    why="A client that lost the answer to its question asks again: it must not pay twice.",
    needs=Need.NOTHING,
)
def retry_after_lost_ack(bench: Bench) -> None:
    """The second request gets the turn that the first began."""
    for pause in (0.0, 0.02, 0.3):
        key, mark = secrets.token_hex(8), f"lost{secrets.token_hex(4)}"
        script = "slow=0.5, words=5@0.05, end"
        bench.open(script, headers={"Idempotency-Key": key}, mark=mark).leave()
        bench.budget.pause(pause)
        again = bench.open(script, headers={"Idempotency-Key": key}, mark=mark).head().finish()
        again.expect_status("success")
        bench.expect_calls(again, 1)


@case(
    "R45",
    "twenty simultaneous posts with one key: one turn",
    rule=_IDEMPOTENCY,
    why="Retries of proxies and impatient fingers arrive together.",
    needs=Need.NOTHING,
)
def simultaneous_posts(bench: Bench) -> None:
    """All wait with their last byte, and send it at one moment. They get one turn and the same bytes; the provider is called once."""
    key, mark = secrets.token_hex(8), f"twins{secrets.token_hex(4)}"
    script, headers = "words=5@0.05, end", {"Idempotency-Key": key}
    posts = [bench.open(script, headers={**headers}, mark=mark, held=True) for _ in range(_TWINS)]
    for post in posts:
        post.exchange.release()
    for post in posts:
        post.head().finish()
    named = {post.turn_id for post in posts}
    posts[0].expect(len(named) == 1, f"{len(named)} turns were made for one key")
    replayed = [post.exchange.header("idempotency-replayed") for post in posts]
    posts[0].expect(replayed.count("true") == _TWINS - 1, f"{replayed.count('true')} of {_TWINS - 1} say Idempotency-Replayed")
    for post in posts:
        post.expect(post.blocks == posts[0].blocks, "two readers of one turn got different events")
    bench.expect_calls(posts[0], 1)


@case(
    "R46",
    "same key, other payload: 422",
    rule="contract 5: same key with another payload is 422",
    why="Otherwise a bug in the client hands out the answer to another question.",
    needs=Need.NOTHING,
)
def other_payload(bench: Bench) -> None:
    """A key belongs to one question."""
    key = secrets.token_hex(8)
    first = bench.open(headers={"Idempotency-Key": key}, message="One question").head().finish()
    second = bench.open(headers={"Idempotency-Key": key}, message="Another question").exchange.read_all(10)
    expect_status(second, 422, "another payload with a used Idempotency-Key")
    third = bench.open(headers={"Idempotency-Key": secrets.token_hex(8)}, message="One question").head().finish()
    third.expect(third.turn_id != first.turn_id, "another key got the first key's turn")


@case(
    "R47",
    "a terminal that came while nobody listened is replayed",
    rule="contract 2: the end of a connection ends the connection, never the turn",
    why="The answer to a closed laptop has to be there when it opens.",
)
def unheard_terminal(bench: Bench) -> None:
    """The turn ends unwatched; who comes back gets everything."""
    turn = bench.open("words=10@0.05, end").head().read_chunk(1)
    seen = turn.blocks
    turn.leave()
    terminal = bench.wait_ended(turn.turn_id)
    rest = bench.follow(turn.turn_id, last_event_id=f"{turn.turn_id}.{len(seen)}").head().finish()
    rest.expect(rest.terminal is not None and rest.terminal.data == terminal, "the replayed terminal is not the snapshot's")
    whole = bench.follow(turn.turn_id).head().finish()
    whole.expect(seen + rest.blocks == whole.blocks, "what was read before and after leaving does not join to the whole")
    whole.expect_status("success")


@case(
    "R48",
    "a cursor at the terminal: 204",
    rule="contract 5: 204 where the cursor is at the terminal",
    why="204 is what tells a browser's EventSource to stop reconnecting.",
    needs=Need.NOTHING,
)
def cursor_at_terminal(bench: Bench) -> None:
    """Nothing is left, and that is said."""
    turn = bench.ask()
    cursor = turn.events[-1].id or ""
    expect_status(bench.follow(turn.turn_id, last_event_id=cursor).exchange.read_all(5), 204, "a cursor at the terminal")


@case(
    "R49",
    "foreign, malformed and future cursors: 400, 400, 409",
    rule="contract 5: cursors are {turnId}.{seq} of this turn",
    why="A wrong cursor that is taken for none replays everything, and the reader sees it double.",
    needs=Need.NOTHING,
)
def wrong_cursors(bench: Bench) -> None:
    """What is no cursor of this turn is refused, in the header and in the query."""
    turn, other = bench.ask(), bench.ask()
    for cursor, status, what in (
        (f"{other.turn_id}.1", 400, "another turn's cursor"),
        ("not a cursor", 400, "a malformed cursor"),
        (f"{turn.turn_id}.x", 400, "a cursor without a number"),
        (f"{turn.turn_id}.99999", 409, "a cursor in the future"),
    ):
        expect_status(bench.follow(turn.turn_id, last_event_id=cursor).exchange.read_all(5), status, what)
    for after, status in (("x", 400), (99999, 409)):
        expect_status(bench.follow(turn.turn_id, after=after).exchange.read_all(5), status, f"?after={after}")


@case(
    "R50",
    "an expired log is 410, the snapshot lives",
    rule="contract 5: 410 once expired; GET /v1/turns/{id} lives longer than the log",
    why="'Gone' and 'never was' are different answers to a client that was away.",
    needs=Need.NOTHING,
)
def expired_log(bench: Bench) -> None:
    """Tried where the server says that it keeps logs for a short time only."""
    kept = bench.facts.retention_log_ms
    if kept is None or kept > _MAX_RETENTION_S * 1000:
        told = "does not tell" if kept is None else f"is {kept / 1000:g} s"
        raise NotTried(f"retention.logMs {told}; start the server with at most {_MAX_RETENTION_S:g} s to try this")
    turn = bench.ask()

    def gone() -> bool:
        bench.budget.pause(0.2)
        return bench.follow(turn.turn_id).exchange.read_all(5).status == 410

    bench.budget.wait_for(gone, kept / 1000 + bench.options.patience_s, "410 for an expired log")
    found = bench.snapshot(turn.turn_id).get("terminal")
    turn.expect(isinstance(found, dict), "the snapshot has lost its terminal with the log")


@case(
    "R51",
    "another caller: 404",
    rule="contract 5: a caller never sees another caller's turn: 404",
    why="Turn ids travel in logs and links; they are no keys.",
    needs=Need.NOTHING,
)
def another_caller(bench: Bench) -> None:
    """Neither events nor snapshot nor cancel; 403 would say that the turn exists."""
    if not bench.options.api_key or not bench.options.other_key:
        raise NotTried("needs --api-key and --other-key, keys of two callers")
    turn = bench.ask()
    stranger: dict[str, str | None] = {"Authorization": f"Bearer {bench.options.other_key}"}
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
        got = bench.request(method, f"/v1/turns/{turn.turn_id}{path}", headers=stranger)
        expect_status(got, 404, f"another caller's {method} /v1/turns/{{id}}{path}")
        if json_of(got).get("terminal"):
            raise Failed("another caller's turn is in the answer", got.evidence())
    conversation = str(turn.ack.get("conversationId"))
    expect_status(
        bench.request("GET", f"/v1/conversations/{conversation}", headers=stranger), 404, "another caller's conversation"
    )
    key = {"Idempotency-Key": secrets.token_hex(8)}
    mark = f"both{secrets.token_hex(4)}"
    mine, theirs = bench.ask(headers={**key}, mark=mark), bench.ask(headers={**key, **stranger}, mark=mark)
    theirs.expect(theirs.turn_id != mine.turn_id, "another caller's Idempotency-Key leads to the first caller's turn")

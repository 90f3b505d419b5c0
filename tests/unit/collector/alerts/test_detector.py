"""The detector and its episodes on counted minutes: no store, no clock."""

import numpy as np
import pyarrow as pa
import pytest

from collector.alerts.conditions import burning, silent
from collector.alerts.detector import ALL, BASE_NATS, Detector, Series, threshold
from collector.alerts.watch import Episode, Watch

FIRST = 29_000_160 - 29_000_160 % 1440
DAYS = 3
START = FIRST + DAYS * 1440
DOCS, CHAT = Series("route", route="docs"), Series("route", route="chat")


def minutes(*, rate=0.02, n=200, length=1440, changed=(), routes=("chat", "docs"), seed=1):
    """Minutes of two routes from FIRST on: `changed` has (route, first minute behind START, last, rate)."""
    rng = np.random.default_rng(seed)
    tables = []
    count = DAYS * 1440 + length
    for route in routes:
        rates = np.full(count, rate)
        for name, first, last, other in changed:
            if name in (route, "*"):
                rates[DAYS * 1440 + first : DAYS * 1440 + last + 1] = other
        tables.append(
            pa.table(
                {
                    "minute": FIRST + np.arange(count),
                    "route": [route] * count,
                    "tier": ["smart"] * count,
                    "n": np.full(count, n),
                    "k": rng.binomial(n, rates),
                }
            )
        )
    return pa.concat_tables(tables)


def watching(table):
    """A watch that has learned the days before START."""
    detector = Detector(0.05)
    detector.load(table, FIRST, START + 1440)
    watch = Watch(detector, "partial_rate")
    watch.warm_up(START, FIRST)
    return watch


def story(changes):
    """Changes as they can be compared: minute behind START, kind, series."""
    return [(change.minute - START, change.kind, change.episode.series) for change in changes]


def test_series_are_named_once():
    """A series with the same turns as a wider one is left out: here every turn has one tier."""
    assert watching(minutes()).detector.series == [ALL, CHAT, DOCS]


def test_calm_minutes_fire_nothing():
    """Half a day at the usual rate."""
    assert watching(minutes()).advance(START, START + 719) == []


def test_a_route_that_breaks_is_one_incident_and_the_whole_its_symptom():
    """The route fires within minutes; the whole joins; both end within minutes of the end."""
    changes = watching(minutes(changed=[("docs", 60, 119, 0.3)])).advance(START, START + 239)
    fired = [one for one in story(changes) if one[1] == "fired"]
    assert [one[2] for one in fired] == [DOCS]
    assert 60 < fired[0][0] <= 63
    assert all(episode.why == "recovered" for episode in {change.episode.id: change.episode for change in changes}.values())
    assert all(120 <= minute <= 128 for minute, kind, _ in story(changes) if kind == "resolved")


def test_a_fault_of_everything_is_one_page():
    """All routes break: the whole fires first, and its routes are symptoms."""
    changes = watching(minutes(changed=[("*", 60, 119, 0.2)])).advance(START, START + 239)
    assert [one[1:] for one in story(changes) if one[1] == "fired"] == [("fired", ALL)]
    assert len({change.episode.incident for change in changes}) == 1


def test_a_route_that_follows_in_minutes_widens_the_incident():
    """First one route, five minutes later the other: what the other breaks is no second page where the whole tells it."""
    changes = watching(minutes(changed=[("docs", 60, 119, 0.3), ("chat", 63, 119, 0.3)])).advance(START, START + 118)
    kinds = [kind for _, kind, _ in story(changes)]
    assert kinds.count("fired") <= 2
    assert "resolved" not in kinds


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_one_minute_alone_fires_nothing(rate):
    """A burst of a minute, and another one an hour later."""
    changed = [("*", 60, 60, rate), ("*", 110, 110, rate)]
    assert watching(minutes(changed=changed)).advance(START, START + 239) == []


def test_traffic_that_moves_to_a_worse_route_fires_nothing():
    """The whole breaks more because the turns took another route, each of which is as it was."""
    rng = np.random.default_rng(3)
    tables = []
    for route, rate, before, after in (("chat", 0.01, 180, 20), ("docs", 0.1, 20, 180)):
        n = np.full(DAYS * 1440 + 240, before)
        n[DAYS * 1440 + 60 :] = after
        columns = {"minute": FIRST + np.arange(len(n)), "n": n, "k": rng.binomial(n, rate)}
        tables.append(pa.table(columns | {"route": [route] * len(n), "tier": ["smart"] * len(n)}))
    assert watching(pa.concat_tables(tables)).advance(START, START + 239) == []


def test_a_silent_episode_ends():
    """No turns any more: the episode ends an hour later, and says so."""
    table = minutes(changed=[("*", 60, 79, 0.3)])
    table = table.filter(pa.compute.less(table["minute"], START + 80))
    changes = watching(table).advance(START, START + 239)
    ends = [change for change in changes if change.kind == "resolved"]
    assert {change.episode.why for change in ends} == {"silent"}
    assert {change.minute - START for change in ends} == {79 + 60}


@pytest.mark.parametrize("cut", [61, 63, 90, 121, 180])
def test_minute_by_minute_and_after_a_restart_is_the_same_story(cut):
    """Whether minutes are walked at once, one by one, or by two processes: the same episodes at the same minutes."""
    table = minutes(changed=[("docs", 60, 119, 0.3), ("*", 150, 170, 0.2)])
    whole = story(watching(table).advance(START, START + 239))
    first = watching(table)
    told = [one for minute in range(START, START + cut) for one in story(first.advance(minute, minute, least=0.0))]
    second = Watch(Detector(0.05), "partial_rate")
    second.detector.load(table, FIRST, START + 1440)
    second.restore([copy(episode) for episode in first.episodes])
    second.warm_up(START + cut, FIRST)
    told += story(second.advance(START + cut, START + 239))
    assert told == whole


def copy(episode):
    """An episode as a store gives it back: without what only the process knew."""
    values = {name: getattr(episode, name) for name in Episode.__struct_fields__}
    return Episode(**values | {"latest": None})


def test_what_is_usual_follows_the_hour_and_not_the_incident():
    """After an incident of hours the baseline is what it was."""
    watch = watching(minutes(changed=[("docs", 60, 240, 0.3)]))
    before = watch.detector.counts(START, START + 59)[DOCS]
    watch.advance(START, START + 1000)
    after = watch.detector.counts(START + 900, START + 959)[DOCS]
    assert after.e / after.n == pytest.approx(before.e / before.n, rel=0.15)


def test_a_new_route_is_judged_by_what_is_usual_elsewhere():
    """A route that was never seen fires where it breaks far more than the others, and not where it breaks like them."""
    for rate, fires in ((0.02, False), (0.4, True)):
        old = minutes(routes=("chat", "docs"))
        new = minutes(routes=("news",), rate=rate, seed=5)
        new = new.filter(pa.compute.greater_equal(new["minute"], START + 100))
        changes = watching(pa.concat_tables([old, new])).advance(START, START + 160)
        assert any(kind == "fired" for _, kind, _ in story(changes)) is fires


def part(table, first, last):
    """The minutes of a table from `first` to `last` behind START."""
    at = pa.compute.subtract(table["minute"], START)
    return table.filter(pa.compute.and_(pa.compute.greater_equal(at, first), pa.compute.less_equal(at, last)))


def advanced(watch, table, minute):
    """A minute as the evaluator walks it: the last hours are loaded anew before it. What fired."""
    watch.detector.load(part(table, minute - 130, minute), START + minute - 130, START + minute)
    return [series for _, kind, series in story(watch.advance(START + minute, START + minute)) if kind == "fired"]


def test_turns_that_come_when_their_hour_is_over_are_judged():
    """A store that was empty until the minute behind the hour: the incident that began before it fires at once, as it would had its turns been there."""
    table = minutes(routes=("docs",), n=8, rate=0.4)
    watch = watching(minutes().slice(0, 0))
    assert advanced(watch, table.slice(0, 0), 60) == []
    assert advanced(watch, part(table, 56, 61), 61) == [ALL]
    known = watching(part(table, 56, 61))
    (change,) = known.advance(START + 61, START + 61)
    assert change.episode.evidence == watch.episodes[0].evidence
    assert change.episode.evidence.n == 6 * 8


def test_a_route_that_comes_back_after_days_is_judged_in_its_first_hour():
    """Its minutes of before were let go of; its turns count all the same."""
    weekly = minutes(routes=("weekly",), changed=[("weekly", 70, 80, 0.4)])
    table = pa.concat_tables([minutes(), part(weekly, -3 * 1440, -3 * 1440 + 60), part(weekly, 70, 80)])
    watch = watching(part(table, -3 * 1440, 65))
    watch.detector.forget(START - 2 * 1440)
    watch.advance(START, START + 65)
    fired = [series for minute in range(66, 81) for series in advanced(watch, table, minute)]
    assert fired == [Series("route", route="weekly")]


def test_more_series_ask_for_more_evidence():
    """The budget of false pages is one for all of them."""
    assert threshold(1) == BASE_NATS
    assert threshold(40) == pytest.approx(BASE_NATS + 1.5 * np.log(40))


@pytest.mark.parametrize(("rate", "tickets"), [(0.02, []), (0.08, ["3 d"]), (0.4, ["3 d", "6 h"])])
def test_a_budget_that_burns_is_a_ticket_though_it_is_usual(rate, tickets):
    """An objective of 95%: a rate that was always too high is no spike, and a ticket all the same."""
    watch = watching(minutes(rate=rate))
    assert watch.advance(START, START + 10) == []
    assert sorted(one.labels["window"] for one in burning(watch.detector, START + 10, 0.95)) == tickets


def test_a_young_store_says_nothing_of_days():
    """A burnt budget of three days needs turns of more than the last minutes."""
    table = minutes(rate=0.4)
    table = table.filter(pa.compute.greater_equal(table["minute"], START - 60))
    assert burning(watching(table).detector, START + 10, 0.95) == []


def test_traffic_that_stops_is_a_ticket():
    """Far fewer turns than at this time on the days before; fewer turns of a quiet night are not."""
    table = minutes()
    stopped = table.filter(pa.compute.less(table["minute"], START + 50))
    assert silent(watching(table).detector, START + 60) == []
    (ticket,) = silent(watching(stopped).detector, START + 60)
    assert (ticket.rule, ticket.value) == ("no_data", 0)
    quiet = minutes(n=1)
    assert silent(watching(quiet.filter(pa.compute.less(quiet["minute"], START + 50))).detector, START + 53) == []


def test_traffic_that_stays_low_over_the_hour_is_one_ticket():
    """Two turns of five are missing from half past on: what was usual three days ago is still known when the hour turns, minute for minute."""
    table = minutes(n=20)
    late = pa.compute.greater_equal(table["minute"], START + 30)
    n = pa.compute.if_else(late, 8, table["n"])
    watch = watching(table.set_column(table.schema.get_field_index("n"), "n", n))
    fires = []
    for minute in range(START + 25, START + 100):
        watch.advance(minute, minute)
        fires.append(bool(silent(watch.detector, minute, firing=bool(fires) and fires[-1])))
    assert True in fires
    assert False not in fires[fires.index(True) :]


def with_lost(*, usual, lost, first, last):
    """Calm minutes with turns that were lost before they had a route: so many a minute as usual, and in some minutes."""
    calm = minutes()
    rng = np.random.default_rng(9)
    count = DAYS * 1440 + 1440
    k = rng.poisson(usual, count)
    k[DAYS * 1440 + first : DAYS * 1440 + last + 1] = rng.poisson(lost, last - first + 1)
    rows = {"minute": FIRST + np.arange(count), "route": [""] * count, "tier": [""] * count, "n": k, "k": k}
    return pa.concat_tables([calm, pa.table(rows).filter(pa.array(k > 0))])


def test_turns_that_are_lost_as_usual_fire_nothing():
    """They are all broken, which they always are: no series of their own, and expected as part of the whole."""
    watch = watching(with_lost(usual=0.3, lost=0.3, first=60, last=119))
    assert watch.advance(START, START + 719) == []
    assert watch.detector.series == [ALL, CHAT, DOCS]


def test_many_more_lost_turns_are_an_incident_of_the_whole():
    """Lost turns are no shift of traffic to a route that always breaks."""
    changes = watching(with_lost(usual=0.3, lost=30, first=60, last=119)).advance(START, START + 119)
    assert [one[1:] for one in story(changes)] == [("fired", ALL)]

"""What is different about turns that broke: the query that ranks slices of turns, shared by alerts and dashboard. Pure: SQL goes in, SQL comes out.

A slice is a value of one attribute or of two. It is weighed by the Poisson scan statistic of Kulldorff (1997, "A spatial scan statistic"): how much likelier the
counts are if the slice has a rate of its own than if it breaks like the rest, with the expected counts taken from turns of before. The logarithm of the number of slices
is subtracted, since the best of many always looks like something, and two nats for a second attribute, so that the shorter answer wins where both tell the same.
"""

from __future__ import annotations

from itertools import combinations

ATTRIBUTES = ("route", "model_tier", "model", "tool", "service_version", "service_instance")
"""What turns are sliced by. The reason is none of them: it is the way in which a turn broke, and is told beside the slices."""
NONE = "(none)"
"""The value of an attribute that a turn does not have."""
PSEUDO_BROKEN = 4
"""With so many broken turns of before a slice's own rate weighs as much as the rate of all: rates of slices differ by about half as a rule (a gamma
distribution of that shape), and one broken turn of a quiet hour says nothing of the slice that it fell into."""
PAIR_NATS = 2.0

MARKED_COLUMNS = "route, model_tier, model, array_to_string(list_sort(tools_used), ', ') AS tool, service_version, service_instance, broken, focus"
"""Select list that `ranking` expects, over the view `turns` with a column `focus`."""


def ranking(marked: str, limit: int, *, weight: str = "1") -> str:
    """The query for the slices that stand out, the first cause first.

    Args:
        marked: a query with the attributes, `broken`, and `focus`: true for turns to be explained, false for those of before that they are compared with.
        limit: slices at most.
        weight: how many turns a row of that query stands for, as an expression over its columns.

    Returns:
        A query for `attributes` (a JSON object of name and value), `turns`, `broken`, `expected`, `rate`, `usual` and `evidence` in nats.
    """
    sets = [(name,) for name in ATTRIBUTES] + list(combinations(ATTRIBUTES, 2))
    grouping = ", ".join("()" if not one else f"({', '.join(one)})" for one in [(), *sets])
    values = ", ".join(f"coalesce(nullif(CAST({name} AS VARCHAR), ''), '{NONE}') AS {name}" for name in ATTRIBUTES)
    used = ", ".join(f"CASE WHEN grouping({name}) = 0 THEN '{name}' END" for name in ATTRIBUTES)
    shown = ", ".join(f"'{name}', {name}" for name in ATTRIBUTES)
    order = ", ".join(f"'{name}'" for name in ATTRIBUTES)
    kinds = {"n": "focus", "k": "focus AND broken", "n0": "NOT focus", "k0": "NOT focus AND broken"}
    counted = ", ".join(f"CAST(coalesce(sum(weight) FILTER ({kind}), 0) AS BIGINT) AS {name}" for name, kind in kinds.items())
    # Slices of the same counts are the same turns: the shorter name tells it.
    return f"""
WITH marked AS ({marked}), valued AS (
    -- Turns of the same values are counted once for all the ways to slice them.
    SELECT {values}, broken, focus, sum({weight}) AS weight FROM marked GROUP BY ALL
), counted AS (
    SELECT
        {", ".join(ATTRIBUTES)}, list_filter([{used}], lambda x: x IS NOT NULL) AS used,
        {counted}
    FROM valued GROUP BY GROUPING SETS ({grouping})
), whole AS (
    SELECT n AS all_n, k AS all_k, greatest(k0, 0.5) / greatest(n0, 1) AS p0 FROM counted WHERE len(used) = 0
), slices AS (
    SELECT c.*, w.*, c.n * (c.k0 + {PSEUDO_BROKEN}) / (c.n0 + {PSEUDO_BROKEN} / w.p0) AS e
    FROM counted AS c CROSS JOIN whole AS w WHERE len(c.used) > 0 AND c.n > 0
), expected AS (
    -- What is expected of the rest is what is expected of the attribute's other values.
    SELECT *, sum(e) OVER (PARTITION BY used) AS all_e, count(*) OVER () AS many FROM slices
), weighed AS (
    SELECT *, CASE
        WHEN n = all_n OR k = 0 OR k * (all_e - e) <= (all_k - k) * e THEN NULL
        ELSE k * ln(k / e) + CASE WHEN all_k > k THEN (all_k - k) * ln((all_k - k) / (all_e - e)) ELSE 0 END - all_k * ln(all_k / all_e)
            - ln(many) - {PAIR_NATS} * (len(used) - 1)
        END AS evidence
    FROM expected
)
SELECT
    to_json(map_from_entries(list_transform(list_filter(map_entries(MAP {{{shown.replace("', ", "': ")}}}), lambda x: list_contains(used, x.key)),
        lambda x: {{'k': x.key, 'v': x.value}}))) AS attributes,
    n AS turns, k AS broken, e AS expected, k / n AS rate, e / n AS usual, evidence
FROM weighed WHERE evidence > 0
QUALIFY row_number() OVER (PARTITION BY n, k, n0, k0 ORDER BY len(used), list_transform(used, lambda x: list_position([{order}], x))) = 1
ORDER BY evidence DESC, attributes LIMIT {limit}
"""

-- How far rates of w minutes lay from what was expected of them, on one day. Minutes that stand out are reset first: they are incidents, not the usual restlessness.
, calm AS (
    SELECT
        s.minute, s.scope, s.route, s.tier, s.n, s.e,
        CASE WHEN s.k > 1.1 * s.e AND s.k * ln(s.k / (1.1 * s.e)) - (s.k - 1.1 * s.e) > 5 THEN 1.1 * s.e ELSE s.k END AS k
    FROM summed AS s
    WHERE s.age >= 24 AND NOT EXISTS (
        SELECT 1 FROM excluded AS x WHERE s.minute BETWEEN x.first AND x.last AND s.route IN ('*', x.route) AND s.tier IN ('*', x.tier))
), blocked AS (
    SELECT scope, route, tier, w, minute // w AS block, sum(n) AS n, sum(k) AS k, sum(e) AS e FROM calm, windows GROUP BY ALL
)
SELECT $first // 1440, scope, route, tier, w, sum((k - e) ** 2), sum(e * (1 - e / n)), sum(e ** 2), sum(e) FROM blocked GROUP BY ALL

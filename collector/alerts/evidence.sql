-- The evidence of each series in each minute from $from to $last: the best of its windows that end there. The excess of a window's worst minute counts for nothing, so that no
-- minute pages alone; in long windows neither does that of a few more, where they stand out of the others by five nats: bursts that have nothing to do with each other.
, counted AS (
    SELECT
        s.minute, s.scope, s.route, s.tier, s.n, s.k, s.e, greatest(0, s.k - 1.1 * s.e) AS excess,
        CASE WHEN s.k > 1.1 * s.e AND s.k * ln(s.k / (1.1 * s.e)) - (s.k - 1.1 * s.e) > 5 THEN s.k - 1.1 * s.e ELSE 0 END AS burst
    FROM summed AS s LEFT JOIN restarts AS r USING (scope, route, tier)
    WHERE s.minute > coalesce(r.after, 0) AND ($only IS NULL OR list_contains($only, scope || chr(31) || route || chr(31) || tier))
), reach AS (
    SELECT ends, w, bursts, ends - unnest(range(w)) AS minute FROM (SELECT unnest(range($from, $last + 1)) AS ends) CROSS JOIN windows
), windowed AS (
    SELECT c.scope, c.route, c.tier, r.ends, r.w, sum(c.n) AS n, sum(c.k) AS k, sum(c.e) AS e, sum(c.k) - greatest(max(c.excess), list_sum(list_slice(max(c.burst, 4), 1, any_value(r.bursts)))) AS rest
    FROM counted AS c JOIN reach AS r USING (minute) GROUP BY c.scope, c.route, c.tier, r.ends, r.w
), weighed AS (
    SELECT
        *, CASE WHEN rest >= 2 AND rest > 1.1 * e AND 1.1 * e < n
            THEN rest * ln(rest / (1.1 * e)) + CASE WHEN rest < n THEN (n - rest) * ln((n - rest) / (n - 1.1 * e)) ELSE 0 END ELSE 0 END AS plain
    FROM windowed
), judged AS (
    SELECT w.*, w.plain / (1 + w.e * coalesce(s.phi, $phi) ** 2) AS evidence
    FROM weighed AS w LEFT JOIN spreads AS s ON s.scope = w.scope AND s.route = w.route AND s.tier = w.tier AND s.w = w.w
)
SELECT ends, scope, route, tier, max(evidence) AS evidence, unnest(arg_max({'plain': plain, 'window': w, 'n': n, 'k': k, 'e': e}, evidence))
FROM judged GROUP BY ends, scope, route, tier HAVING max(evidence) >= $least ORDER BY ends, scope, route, tier

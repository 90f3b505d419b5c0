-- Turns, broken turns and expected broken turns of each series by the minute, from $first to $last. What is expected of a series is the sum of what is expected of its
-- routes and tiers, so that turns which move from one to another are no spike of the whole.
WITH leaves AS (
    SELECT m.minute, m.route, m.tier, m.n, m.k, m.exposed * r.p0 AS e, r.age
    FROM minutes AS m JOIN rates AS r ON r.hour = m.minute // 60 AND r.route = m.route AND r.tier = m.tier
    WHERE m.minute BETWEEN $first AND $last AND NOT list_contains($without, m.route || chr(31) || m.tier)
), grouped AS (
    SELECT
        minute, CASE grouping(route, tier) WHEN 0 THEN 'route_tier' WHEN 1 THEN 'route' WHEN 2 THEN 'tier' ELSE 'all' END AS scope,
        CASE WHEN grouping(route) = 1 THEN '*' ELSE route END AS route, CASE WHEN grouping(tier) = 1 THEN '*' ELSE tier END AS tier,
        sum(n) AS n, sum(k) AS k, sum(e) AS e, min(age) AS age
    FROM leaves GROUP BY GROUPING SETS ((minute), (minute, route), (minute, tier), (minute, route, tier))
), summed AS (
    SELECT * FROM grouped SEMI JOIN series USING (scope, route, tier)
)

-- The rate that is usual in each hour from $first to $last, from hours that ended at least two hours before it:
-- crude rate of the history, times the hour of day's share of it, times the level of the last day. Each is drawn to 1, or to the parent's, by pseudo-counts.
INSERT INTO rates
WITH wanted AS (
    SELECT unnest(range($first, $last + 1)) AS target
), history AS (
    SELECT
        w.target, h.hour, CASE grouping(h.route, h.tier) WHEN 0 THEN 'leaf' WHEN 1 THEN 'route' ELSE 'all' END AS grain,
        CASE WHEN grouping(h.route) = 1 THEN '*' ELSE h.route END AS route, CASE WHEN grouping(h.tier) = 1 THEN '*' ELSE h.tier END AS tier,
        CASE WHEN grouping(h.tier) = 0 AND h.route = '' THEN sum(h.exposed) ELSE sum(h.n) END AS n, sum(h.k) AS k
    FROM wanted AS w JOIN hours AS h ON h.hour BETWEEN w.target - $history AND w.target - $embargo
    GROUP BY GROUPING SETS ((w.target, h.hour, h.route, h.tier), (w.target, h.hour, h.route), (w.target, h.hour))
), sums AS (
    SELECT target, grain, route, tier, sum(n) AS n, sum(k) AS k, min(hour) AS since FROM history GROUP BY ALL
), crude_all AS (
    SELECT target, grain, route, tier, k, since, (k + 50 * $prior) / (n + 50) AS crude FROM sums WHERE grain = 'all'
), crude_routes AS (
    SELECT s.target, s.grain, s.route, s.tier, s.k, s.since, (s.k + 50 * a.crude) / (s.n + 50) AS crude
    FROM sums AS s JOIN crude_all AS a USING (target) WHERE s.grain = 'route'
), crude_leaves AS (
    -- Turns without a route are counted among all turns, and are no route that breaks like the others.
    SELECT s.target, s.grain, s.route, s.tier, s.k, s.since, (s.k + CASE WHEN s.route = '' THEN 0.05 ELSE 50 * r.crude END) / (s.n + 50) AS crude
    FROM sums AS s JOIN crude_routes AS r USING (target, route) WHERE s.grain = 'leaf'
), crude AS (
    SELECT * FROM crude_all UNION ALL SELECT * FROM crude_routes UNION ALL SELECT * FROM crude_leaves
), profile AS (
    SELECT h.target, h.grain, h.route, h.tier, (h.hour + near.o) % 24 AS of_day, (sum(near.weight * h.k) + 20) / (sum(near.weight * h.n * c.crude) + 20) AS ratio
    FROM history AS h JOIN crude AS c USING (target, grain, route, tier), (VALUES (23, 0.5), (0, 1.0), (1, 0.5)) AS near (o, weight)
    GROUP BY ALL
), level AS (
    SELECT h.target, h.grain, h.route, h.tier, (sum(h.k) + 30) / (sum(h.n * c.crude * p.ratio) + 30) AS level
    FROM history AS h JOIN crude AS c USING (target, grain, route, tier)
    JOIN profile AS p ON p.target = h.target AND p.grain = h.grain AND p.route = h.route AND p.tier = h.tier AND p.of_day = h.hour % 24
    WHERE h.hour >= h.target - 26
    GROUP BY ALL
), usual AS (
    -- A series that is new is not judged by itself: too little is known of it.
    SELECT c.target, c.grain, c.route, c.tier, c.since, least(0.95, greatest(1e-6, c.crude * coalesce(p.ratio, 1) * coalesce(l.level, 1))) AS p0
    FROM crude AS c LEFT JOIN profile AS p ON p.target = c.target AND p.grain = c.grain AND p.route = c.route AND p.tier = c.tier AND p.of_day = c.target % 24
    LEFT JOIN level AS l ON l.target = c.target AND l.grain = c.grain AND l.route = c.route AND l.tier = c.tier
    WHERE c.k >= 50 OR c.target - c.since >= 72 OR (c.grain = 'leaf' AND c.route = '')
), leaves AS (
    SELECT DISTINCT route, tier FROM minutes
)
SELECT w.target, x.route, x.tier, coalesce(u.p0, CASE WHEN x.route = '' THEN 0.001 END, r.p0, a.p0, $prior), w.target - coalesce(u.since, r.since, a.since, w.target)
FROM wanted AS w CROSS JOIN leaves AS x
ANTI JOIN rates AS known ON known.hour = w.target AND known.route = x.route AND known.tier = x.tier
LEFT JOIN usual AS u ON u.grain = 'leaf' AND u.target = w.target AND u.route = x.route AND u.tier = x.tier
LEFT JOIN usual AS r ON r.grain = 'route' AND r.target = w.target AND r.route = x.route
LEFT JOIN usual AS a ON a.grain = 'all' AND a.target = w.target;

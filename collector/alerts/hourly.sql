-- Counts by the hour, without the minutes of incidents. A minute that stands out of its own hour (five nats over what the rest of the hour tells) counts like the rest: a cluster
-- of a minute says nothing of what is usual, and a rate that stays higher is no cluster.
INSERT INTO hours
WITH kept AS (
    SELECT m.minute // 60 AS hour, m.route, m.tier, m.n, m.k, m.exposed
    FROM minutes AS m
    WHERE m.minute >= $first * 60 AND m.minute < ($last + 1) * 60
        AND NOT EXISTS (SELECT 1 FROM excluded AS x WHERE x.route = m.route AND x.tier = m.tier AND m.minute BETWEEN x.first AND x.last)
), beside AS (
    SELECT *, exposed * (sum(k) OVER whole - k + 1) / (sum(exposed) OVER whole - exposed) AS e FROM kept WINDOW whole AS (PARTITION BY hour, route, tier)
)
SELECT hour, route, tier, sum(n), sum(CASE WHEN k >= 5 AND k > 1.1 * e AND k * ln(k / (1.1 * e)) - (k - 1.1 * e) > 5 THEN e ELSE k END), sum(exposed)
FROM beside GROUP BY ALL;

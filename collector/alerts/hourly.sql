-- Counts by the hour, without the minutes of incidents.
INSERT INTO hours
SELECT m.minute // 60, m.route, m.tier, sum(m.n), sum(m.k)
FROM minutes AS m
WHERE m.minute >= $first * 60 AND m.minute < ($last + 1) * 60
    AND NOT EXISTS (SELECT 1 FROM excluded AS x WHERE x.route = m.route AND x.tier = m.tier AND m.minute BETWEEN x.first AND x.last)
GROUP BY ALL;

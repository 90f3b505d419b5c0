-- The first minute at which the end of an episode is sure: some stretch since it fired whose rate lies below the limit by three nats.
, upto AS (
    SELECT minute, sum(n) OVER before AS n, sum(k) OVER before AS k, sum(e) OVER before AS e
    FROM summed WHERE scope = $scope AND route = $route AND tier = $tier WINDOW before AS (ORDER BY minute)
    UNION ALL SELECT $first - 1, 0, 0, 0
), stretches AS (
    SELECT b.minute AS ends, b.n - a.n AS n, b.k - a.k AS k, least(0.999, greatest($limit, 1.1 * (b.e - a.e) / (b.n - a.n))) AS bound
    FROM upto AS b JOIN upto AS a ON b.minute - a.minute >= 3 AND b.n > a.n
    WHERE b.minute >= $from
)
SELECT min(ends) FROM stretches
WHERE k < n * bound AND CASE WHEN k > 0 THEN k * ln(k / (n * bound)) ELSE 0 END + (n - k) * ln((n - k) / (n * (1 - bound))) >= 3

-- One row: how many turns are stored, and when the oldest and the newest of them ended. Tells an empty window from an empty store.
SELECT
    (SELECT CAST(sum(n) AS BIGINT) FROM turn_steps) AS turns,
    -- The counts say where to look: of all turns, only those of the first and of the last step are read. Counts may be kept longer than turns.
    coalesce(
        (SELECT min(ended_at) FROM turns WHERE ended_at < (SELECT min(step) + INTERVAL 5 MINUTE FROM turn_steps)),
        (SELECT min(step) FROM turn_steps)
    ) AS oldest,
    coalesce(
        (SELECT max(ended_at) FROM turns WHERE ended_at >= (SELECT max(step) FROM turn_steps)),
        (SELECT max(step) FROM turn_steps)
    ) AS newest

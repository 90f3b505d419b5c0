-- One row: when the oldest and the newest stored turn ended. Tells an empty window from an empty store.
SELECT count(*) AS turns, min(ended_at) AS oldest, max(ended_at) AS newest
FROM turns

-- The turn itself.
FROM turns WHERE turn_id = $turn_id;

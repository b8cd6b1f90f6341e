DROP TABLE IF EXISTS process_attempts, projection_failures, workers, leases, checkpoints, projections;
DROP FUNCTION IF EXISTS move_checkpoints(text, integer, text, smallint[], bigint[], bigint[]);

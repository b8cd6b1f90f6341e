-- Which server, and which timeline of it, the log's epoch was begun on; null: not noted yet. PostgreSQL begins a timeline wherever it goes on from what may
-- not be the end: where a replica is promoted, or a backup restored to a point in time.
ALTER TABLE log ADD COLUMN IF NOT EXISTS server text;

-- log_server names this server and its timeline; null on a standby, and where the server does not tell.
CREATE OR REPLACE FUNCTION log_server() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  IF pg_is_in_recovery() THEN RETURN NULL; END IF;
  RETURN (SELECT system_identifier FROM pg_control_system()) || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8);
EXCEPTION WHEN insufficient_privilege OR feature_not_supported THEN
  RETURN NULL;
END $$;

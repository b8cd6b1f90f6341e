-- Which server, and which timeline of it, the log's epoch was begun on; null: not noted yet. PostgreSQL begins a timeline wherever it goes on from what may
-- not be the end: where a replica is promoted, or a backup restored to a point in time.
ALTER TABLE log ADD COLUMN IF NOT EXISTS server text;

-- log_server names this server and its timeline; null on a standby, and where the server does not tell, for whatever reason.
CREATE OR REPLACE FUNCTION log_server() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  IF pg_is_in_recovery() THEN RETURN NULL; END IF;
  RETURN (SELECT system_identifier FROM pg_control_system()) || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8);
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END $$;

-- next_epoch follows an epoch, and any that was begun before, also by what a backup does not know of: it is the time, in seconds since 2020.
CREATE OR REPLACE FUNCTION next_epoch(epoch integer) RETURNS integer LANGUAGE sql AS $$
  SELECT greatest(epoch + 1, extract(epoch FROM clock_timestamp() - timestamptz '2020-01-01 00:00:00+00')::integer)
$$;

UPDATE log SET server = log_server() WHERE server IS NULL;

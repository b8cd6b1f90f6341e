-- What the projection engine keeps beside the read models themselves.

-- One row a generation of a projection. Readers read the live generation of their own version. A generation that is
-- being built is fed by the process of a rebuild (owner), or by workers (no owner). Its tables are listed so that it is noticed
-- when they are gone.
CREATE TABLE IF NOT EXISTS projections (
  name        text NOT NULL,
  generation  integer NOT NULL,
  version     integer NOT NULL,
  status      text NOT NULL CHECK (status IN ('building', 'live', 'previous', 'dropped')),
  owner       text,
  tables      text[] NOT NULL DEFAULT '{}',
  log_id      uuid NOT NULL,
  log_epoch   integer NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  switched_at timestamptz,
  PRIMARY KEY (name, generation)
);
CREATE UNIQUE INDEX IF NOT EXISTS projections_live ON projections (name, version) WHERE status = 'live';

-- A partition's checkpoint: everything of the partition at or below position is in the rows. For models in
-- Postgres it moves in the commit of the rows, by compare-and-set. For models in Redis the checkpoint
-- beside the documents counts, and this row remembers how far it is known to have come.
CREATE TABLE IF NOT EXISTS checkpoints (
  projection text NOT NULL,
  generation integer NOT NULL,
  store      text NOT NULL CHECK (store IN ('postgres', 'redis')),
  partition  smallint NOT NULL,
  position   bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (projection, generation, store, partition)
) WITH (fillfactor = 50);

-- move_checkpoints is the compare-and-set of several partitions, all or nothing: rows written in the same
-- transaction are written once. The rows are locked in order, so that two workers cannot wait for each other. The commit
-- need not reach the disk at once: rows and checkpoints are lost together, and are folded again. Folding finds rows by their
-- keys: without statistics yet, the planner takes a new table for a small one and would rather read all of it.
CREATE OR REPLACE FUNCTION move_checkpoints(
  of_projection text, of_generation integer, of_store text, of_partitions smallint[], from_positions bigint[], to_positions bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  moved bigint;
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true), set_config('enable_seqscan', 'off', true);
  PERFORM FROM checkpoints c
    WHERE c.projection = of_projection AND c.generation = of_generation AND c.store = of_store AND c.partition = ANY (of_partitions)
    ORDER BY c.partition FOR NO KEY UPDATE;
  UPDATE checkpoints c SET position = m.to_position
    FROM unnest(of_partitions, from_positions, to_positions) AS m(partition, from_position, to_position)
    WHERE c.projection = of_projection AND c.generation = of_generation AND c.store = of_store
      AND c.partition = m.partition AND c.position = m.from_position;
  GET DIAGNOSTICS moved = ROW_COUNT;
  IF moved <> cardinality(of_partitions) THEN
    RAISE EXCEPTION 'checkpoints of % generation % were moved by somebody else', of_projection, of_generation USING ERRCODE = 'MR001';
  END IF;
END $$;

-- Which worker folds which partition. A lease saves work; the checkpoint's compare-and-set is what is relied upon.
-- Workers of two versions of a projection work side by side, each on generations of its own.
CREATE TABLE IF NOT EXISTS leases (
  projection text NOT NULL,
  version    integer NOT NULL,
  partition  smallint NOT NULL,
  worker     text,
  expires_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (projection, version, partition)
) WITH (fillfactor = 50);

-- The workers there are, and the projections that each takes its share of, as "<name>@<version>".
CREATE TABLE IF NOT EXISTS workers (
  id          text PRIMARY KEY,
  projections text[] NOT NULL,
  seen_at     timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Events that a projection could not apply; the partition stands still at them.
CREATE TABLE IF NOT EXISTS projection_failures (
  projection text NOT NULL,
  generation integer NOT NULL,
  store      text NOT NULL,
  partition  smallint NOT NULL,
  position   bigint NOT NULL,
  stream     text NOT NULL,
  type       text NOT NULL,
  error      text NOT NULL,
  attempts   integer NOT NULL DEFAULT 1,
  failed_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (projection, generation, store, partition)
);

-- How often a process has tried something, and when it tries again.
CREATE TABLE IF NOT EXISTS process_attempts (
  process    text NOT NULL,
  task       text NOT NULL,
  attempts   integer NOT NULL DEFAULT 0,
  next_at    timestamptz NOT NULL,
  last_error text,
  PRIMARY KEY (process, task)
);

-- Rebuilds that several workers share, that tell how far they are, and that end in the past.

-- "past" is a generation of a model as it was at the position that is its number: nobody feeds it.
ALTER TABLE projections DROP CONSTRAINT IF EXISTS projections_status_check;
ALTER TABLE projections ADD CONSTRAINT projections_status_check
  CHECK (status IN ('building', 'live', 'previous', 'past', 'dropped'));

-- What a rebuild tells of itself: how far it has come, where it ends, in positions, and events a second.
ALTER TABLE projections ADD COLUMN IF NOT EXISTS reached bigint;
ALTER TABLE projections ADD COLUMN IF NOT EXISTS target bigint;
ALTER TABLE projections ADD COLUMN IF NOT EXISTS rate double precision;
ALTER TABLE projections ADD COLUMN IF NOT EXISTS told_at timestamptz;

-- Whether a worker takes shares of rebuilds.
ALTER TABLE workers ADD COLUMN IF NOT EXISTS helps boolean NOT NULL DEFAULT false;

-- The shares of a rebuild: some partitions, to be folded up to a position into generations of projections, named as in
-- workers. A share whose worker has fallen silent is free again; one that a worker failed at is left to the rebuild itself.
-- As with leases, the compare-and-set of the checkpoints is what is relied upon.
CREATE TABLE IF NOT EXISTS rebuild_shares (
  rebuild     uuid NOT NULL,
  share       smallint NOT NULL,
  projections text[] NOT NULL,
  generations integer[] NOT NULL,
  log_id      uuid NOT NULL,
  log_epoch   integer NOT NULL,
  partitions  smallint[] NOT NULL,
  until       bigint NOT NULL,
  position    bigint NOT NULL DEFAULT 0,
  offered     boolean NOT NULL DEFAULT true,
  done        boolean NOT NULL DEFAULT false,
  worker      text,
  expires_at  timestamptz,
  PRIMARY KEY (rebuild, share)
) WITH (fillfactor = 50);

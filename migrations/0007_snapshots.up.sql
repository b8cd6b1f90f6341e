-- States of long streams, so that they are not folded from their first event again. Derived from the log: any row, or all, can be deleted
-- at any time. A snapshot is of one shape of its kind's state, so that two releases each find their own; position and batch are those of the
-- stream's event at version, and a snapshot whose event is not in the log is not believed.
CREATE TABLE IF NOT EXISTS snapshots (
  stream   text COLLATE "C" NOT NULL,
  shape    integer NOT NULL,
  version  bigint NOT NULL,
  position bigint NOT NULL,
  batch    uuid NOT NULL,
  state    json NOT NULL,
  taken_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (stream, shape)
) WITH (fillfactor = 50);

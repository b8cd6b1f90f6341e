-- Events that a projection cannot apply, set aside by an operator.

-- What a store goes without: the streams of the partition that are parked, each with the position of its first event that is
-- not in the rows. It moves together with position, by the same compare-and-set. Null: nothing. For models in Redis what
-- stands beside the documents counts.
ALTER TABLE checkpoints ADD COLUMN IF NOT EXISTS held jsonb;

-- An operator wants the event tried again now.
ALTER TABLE projection_failures ADD COLUMN IF NOT EXISTS retry_asked boolean NOT NULL DEFAULT false;

-- The list of what is parked: what operators wish, whatever store the projection has. position is the first event of the
-- stream that is not applied; the later ones wait behind it. What workers have made of it stands in checkpoints.held.
CREATE TABLE IF NOT EXISTS parked_events (
  projection  text NOT NULL,
  generation  integer NOT NULL,
  store       text NOT NULL,
  stream      text COLLATE "C" NOT NULL,
  partition   smallint NOT NULL,
  position    bigint NOT NULL,
  type        text NOT NULL,
  error       text NOT NULL,
  attempts    integer NOT NULL DEFAULT 1,
  failed_at   timestamptz NOT NULL DEFAULT now(),
  parked_at   timestamptz NOT NULL DEFAULT now(),
  retry_asked boolean NOT NULL DEFAULT false,
  PRIMARY KEY (projection, generation, store, stream)
);

-- move_checkpoints as before, for partitions that go without nothing. A worker of the release before knows of nothing else: it
-- stands still where something is parked.
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
      AND c.partition = m.partition AND c.position = m.from_position AND c.held IS NULL;
  GET DIAGNOSTICS moved = ROW_COUNT;
  IF moved <> cardinality(of_partitions) THEN
    RAISE EXCEPTION 'checkpoints of % generation % were moved by somebody else', of_projection, of_generation USING ERRCODE = 'MR001';
  END IF;
END $$;

-- The same where some of the partitions go without something, before or afterwards; '' is nothing.
CREATE OR REPLACE FUNCTION move_checkpoints(
  of_projection text, of_generation integer, of_store text, of_partitions smallint[], from_positions bigint[], to_positions bigint[],
  from_held text[], to_held text[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  moved bigint;
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true), set_config('enable_seqscan', 'off', true);
  PERFORM FROM checkpoints c
    WHERE c.projection = of_projection AND c.generation = of_generation AND c.store = of_store AND c.partition = ANY (of_partitions)
    ORDER BY c.partition FOR NO KEY UPDATE;
  UPDATE checkpoints c SET position = m.to_position, held = nullif(m.to_held, '')::jsonb
    FROM unnest(of_partitions, from_positions, to_positions, from_held, to_held)
      AS m(partition, from_position, to_position, from_held, to_held)
    WHERE c.projection = of_projection AND c.generation = of_generation AND c.store = of_store
      AND c.partition = m.partition AND c.position = m.from_position
      AND c.held IS NOT DISTINCT FROM nullif(m.from_held, '')::jsonb;
  GET DIAGNOSTICS moved = ROW_COUNT;
  IF moved <> cardinality(of_partitions) THEN
    RAISE EXCEPTION 'checkpoints of % generation % were moved by somebody else', of_projection, of_generation USING ERRCODE = 'MR001';
  END IF;
END $$;

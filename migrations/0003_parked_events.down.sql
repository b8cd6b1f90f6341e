-- Rows that go without something would be taken for whole ones: their generations are built again.
UPDATE projections p SET status = 'dropped' WHERE status <> 'dropped'
  AND EXISTS (SELECT FROM parked_events k WHERE k.projection = p.name AND k.generation = p.generation);
DROP TABLE IF EXISTS parked_events;
DROP FUNCTION IF EXISTS move_checkpoints(text, integer, text, smallint[], bigint[], bigint[], text[], text[]);
ALTER TABLE projection_failures DROP COLUMN IF EXISTS retry_asked;
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
ALTER TABLE checkpoints DROP COLUMN IF EXISTS held;

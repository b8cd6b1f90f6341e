-- The log. Every statement can be run again: a migration that was killed is simply run once more.

CREATE TABLE IF NOT EXISTS log (
  only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  id             uuid NOT NULL DEFAULT gen_random_uuid(),
  epoch          integer NOT NULL DEFAULT 1,
  partitions     smallint NOT NULL CHECK (partitions BETWEEN 1 AND 256),
  currency       text NOT NULL,
  time_zone      text NOT NULL,
  range_size     bigint NOT NULL CHECK (range_size > 0),
  created_at     timestamptz NOT NULL DEFAULT now()
);

-- position as the primary key is the compare-and-set of an append: it inserts at head + 1, if head exists.
-- Each range has a unique index on (stream, version), a second line of defence. (partition, position) finds the end of a
-- partition. json, not jsonb: it is appended faster, read back faster, and kept as it was written.
CREATE TABLE IF NOT EXISTS events (
  position    bigint NOT NULL PRIMARY KEY,
  stream      text COLLATE "C" NOT NULL,
  version     bigint NOT NULL,
  type        text COLLATE "C" NOT NULL,
  data        json NOT NULL,
  metadata    json NOT NULL,
  occurred_at timestamptz NOT NULL,
  recorded_at timestamptz NOT NULL,
  partition   smallint NOT NULL,
  ordinal     bigint NOT NULL,
  batch       uuid NOT NULL
) PARTITION BY RANGE (position);
CREATE INDEX IF NOT EXISTS events_partition ON events (partition, position);

CREATE OR REPLACE FUNCTION events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the log is append-only: % of events is refused', TG_OP USING ERRCODE = 'restrict_violation';
END $$;
CREATE OR REPLACE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
  FOR EACH STATEMENT EXECUTE FUNCTION events_are_append_only();

-- One row a range of positions. A closed range is one that the log's head has left behind and whose streams
-- stand in stream_ranges, so that finding a stream looks at the ranges that hold it and at no others.
CREATE TABLE IF NOT EXISTS event_ranges (
  first_position bigint PRIMARY KEY,
  last_position  bigint NOT NULL,
  closed         boolean NOT NULL DEFAULT false
);
CREATE TABLE IF NOT EXISTS stream_ranges (
  stream         text COLLATE "C" NOT NULL,
  first_position bigint NOT NULL,
  PRIMARY KEY (stream, first_position)
);

-- add_event_range makes room behind the last range. ATTACH locks the parent less than PARTITION OF would.
CREATE OR REPLACE FUNCTION add_event_range() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  size bigint; first bigint; last bigint; name text;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('millrace.event_ranges'));
  SELECT range_size INTO STRICT size FROM log;
  SELECT coalesce(max(last_position), 0) + 1 INTO first FROM event_ranges;
  last := first + size - 1;
  name := 'events_' || lpad(first::text, 19, '0');
  EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION)', name);
  EXECUTE format('ALTER TABLE %I ADD CONSTRAINT in_range CHECK (position >= %s AND position <= %s)', name, first, last);
  EXECUTE format('CREATE UNIQUE INDEX ON %I (stream, version)', name);
  EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION events_are_append_only()', name);
  EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', name, first, last + 1);
  INSERT INTO event_ranges (first_position, last_position) VALUES (first, last);
  RETURN last;
END $$;

-- close_event_ranges writes the directory of the ranges that the head has left behind.
CREATE OR REPLACE FUNCTION close_event_ranges() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  r record; closed_now integer := 0; head bigint;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('millrace.close_event_ranges')) THEN RETURN 0; END IF;
  SELECT coalesce(max(position), 0) INTO head FROM events;
  FOR r IN SELECT * FROM event_ranges WHERE NOT closed AND last_position < head ORDER BY first_position LOOP
    INSERT INTO stream_ranges
      SELECT DISTINCT stream, r.first_position FROM events WHERE position BETWEEN r.first_position AND r.last_position
      ON CONFLICT DO NOTHING;
    UPDATE event_ranges SET closed = true WHERE first_position = r.first_position;
    closed_now := closed_now + 1;
  END LOOP;
  RETURN closed_now;
END $$;

-- What a client asked for under a key, and where the answer is to be folded from. No answer, no secret.
CREATE TABLE IF NOT EXISTS idempotency (
  key        bytea PRIMARY KEY,
  request    bytea NOT NULL,
  streams    text[] NOT NULL,
  position   bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS idempotency_created_at ON idempotency (created_at);

-- The keys under which personal data is sealed, wrapped by the master key. Forgetting somebody deletes a row.
CREATE TABLE IF NOT EXISTS subject_keys (
  id         text PRIMARY KEY,
  subject    text NOT NULL UNIQUE,
  wrapped    bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

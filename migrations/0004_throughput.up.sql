-- How much a worker gets done when it has something to do: events that workers have folded into a store, over the seconds that
-- they were busy with them, added up over all workers. What is new counts in full, what was before it half as much after every
-- two busy seconds. It is kept here so that it is known while no worker is there.
CREATE TABLE IF NOT EXISTS throughput (
  projection   text NOT NULL,
  version      integer NOT NULL,
  store        text NOT NULL CHECK (store IN ('postgres', 'redis')),
  events       double precision NOT NULL,
  busy_seconds double precision NOT NULL CHECK (busy_seconds > 0),
  PRIMARY KEY (projection, version, store)
) WITH (fillfactor = 50);

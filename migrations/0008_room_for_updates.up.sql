-- Checkpoints and leases are rewritten many times a second, and what a replica may still read, of about the last second, cannot be pruned before. A page that
-- has no room for that sends the row elsewhere with an entry of its own in the index, so that each reader of a model goes through dozens of dead ones: the
-- pages are nearly empty to begin with.
ALTER TABLE checkpoints SET (fillfactor = 10);
ALTER TABLE leases SET (fillfactor = 10);
CLUSTER checkpoints USING checkpoints_pkey;
CLUSTER leases USING leases_pkey;

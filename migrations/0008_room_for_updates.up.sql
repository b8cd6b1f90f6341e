-- Checkpoints and leases are rewritten many times a second, and what a replica may still read, of about the last second, cannot be pruned before. A page that
-- has no room for that sends the row elsewhere with an entry of its own in the index, so that each reader of a model goes through dozens of dead ones: new
-- pages are nearly empty to begin with. Rows that are there move to such ones as they are rewritten.
ALTER TABLE checkpoints SET (fillfactor = 10);
ALTER TABLE leases SET (fillfactor = 10);

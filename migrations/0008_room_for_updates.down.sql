ALTER TABLE checkpoints SET (fillfactor = 50);
ALTER TABLE leases SET (fillfactor = 50);

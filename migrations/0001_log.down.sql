-- The log is the only truth: it is not taken away by a migration.
SELECT 1;

-- A record is as old as the statement that wrote it: its transaction may have waited in line before that.
ALTER TABLE idempotency ALTER created_at SET DEFAULT statement_timestamp();

ALTER TABLE idempotency ALTER created_at SET DEFAULT now();

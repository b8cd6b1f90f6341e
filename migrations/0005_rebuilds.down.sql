DROP TABLE IF EXISTS rebuild_shares;
ALTER TABLE workers DROP COLUMN IF EXISTS helps;
ALTER TABLE projections DROP COLUMN IF EXISTS reached;
ALTER TABLE projections DROP COLUMN IF EXISTS target;
ALTER TABLE projections DROP COLUMN IF EXISTS rate;
ALTER TABLE projections DROP COLUMN IF EXISTS told_at;
UPDATE projections SET status = 'dropped' WHERE status = 'past';
ALTER TABLE projections DROP CONSTRAINT IF EXISTS projections_status_check;
ALTER TABLE projections ADD CONSTRAINT projections_status_check CHECK (status IN ('building', 'live', 'previous', 'dropped'));

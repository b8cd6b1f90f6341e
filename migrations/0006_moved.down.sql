DROP FUNCTION IF EXISTS checkpoints_moved(text, integer);

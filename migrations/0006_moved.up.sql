-- What a statement that moves checkpoints itself calls where they were not all where it left them; see move_checkpoints, which
-- workers of releases before this one call.
CREATE OR REPLACE FUNCTION checkpoints_moved(of_projection text, of_generation integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'checkpoints of % generation % were moved by somebody else', of_projection, of_generation USING ERRCODE = 'MR001';
END $$;

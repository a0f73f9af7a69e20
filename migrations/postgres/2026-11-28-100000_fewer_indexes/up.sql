-- How many an actor started within the hour is counted by `impersonations_by_actor`: an id says when it was made (UUIDv7).
DROP INDEX impersonations_by_start;

-- Only those that are open are looked for by what they were started from: the index of them all grew at places far apart.
DROP INDEX impersonations_by_original;
CREATE INDEX impersonations_open_by_original ON sessions (original_session_id) WHERE original_session_id IS NOT NULL AND ended_at IS NULL;

-- Which key signs: the newest of an algorithm that was not retired.
CREATE INDEX keys_by_use ON keys (purpose, algorithm, created_at, kid);
-- Whose way back leads to a token of a key.
CREATE INDEX ways_back_by_kid ON ways_back (kid);

CREATE TRIGGER keys_check_insert BEFORE INSERT ON keys
WHEN EXISTS (SELECT 1 FROM keys WHERE kid = NEW.kid OR rowid = NEW.rowid) OR NEW.retired_at IS NOT NULL
    OR NOT EXISTS (
        SELECT 1 FROM entries WHERE resource_id = NEW.kid AND resource_type = 'key' AND action IN ('key.created', 'key.imported'))
BEGIN SELECT RAISE(ABORT, 'actas: a new key must be new, not retired, and have its entry'); END;
-- Only how a key is stored may change, and it may be retired, once and for good. A retired key has no private half.
CREATE TRIGGER keys_check_update BEFORE UPDATE ON keys
WHEN OLD.retired_at IS NOT NULL OR NEW.kid <> OLD.kid OR NEW.rowid <> OLD.rowid OR NEW.purpose <> OLD.purpose
    OR NEW.algorithm <> OLD.algorithm OR NEW.created_at <> OLD.created_at
    OR (NEW.retired_at IS NOT NULL AND (NEW.private_key <> '' OR NOT EXISTS (
        SELECT 1 FROM entries WHERE resource_id = NEW.kid AND resource_type = 'key' AND action = 'key.retired')))
BEGIN SELECT RAISE(ABORT, 'actas: a key stays what it is, is retired only with the entry of it, and never comes back'); END;
CREATE TRIGGER keys_refuse_delete BEFORE DELETE ON keys
BEGIN SELECT RAISE(ABORT, 'actas: keys are retired, never deleted'); END;

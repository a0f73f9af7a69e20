-- As they were, but for `ROLLBACK` where they had `ABORT`: for a trigger that may undo a statement alone, SQLite keeps a copy of every page that the statement changes. Who
-- tries to bend the history loses the whole transaction.
DROP TRIGGER entries_refuse_replace;
CREATE TRIGGER entries_refuse_replace BEFORE INSERT ON entries
WHEN EXISTS (SELECT 1 FROM entries WHERE seq = NEW.seq) OR EXISTS (SELECT 1 FROM entries WHERE id = NEW.id)
BEGIN SELECT RAISE(ROLLBACK, 'actas: an entry of the history can not be replaced'); END;
DROP TRIGGER entries_refuse_gap;
CREATE TRIGGER entries_refuse_gap BEFORE INSERT ON entries
WHEN NEW.resource_version IS NOT NULL AND (NEW.resource_type NOT IN ('article', 'user') OR NEW.resource_version
    <> 1 + COALESCE((SELECT MAX(resource_version) FROM entries WHERE resource_id = NEW.resource_id), 0))
BEGIN SELECT RAISE(ROLLBACK, 'actas: an entry of a row must carry the version after the last one, and no other entry any'); END;
DROP TRIGGER entries_refuse_backdating;
CREATE TRIGGER entries_refuse_backdating AFTER INSERT ON entries
WHEN EXISTS (SELECT 1 FROM entries WHERE seq > NEW.seq)
BEGIN SELECT RAISE(ROLLBACK, 'actas: an entry must come after the last one'); END;
DROP TRIGGER entries_check_people;
CREATE TRIGGER entries_check_people BEFORE INSERT ON entries
WHEN (NEW.subject_id IS NULL) <> (NEW.subject_email IS NULL) OR (NEW.subject_id IS NULL) <> (NEW.subject_name IS NULL)
    OR (NEW.actor_id IS NULL) <> (NEW.actor_email IS NULL) OR (NEW.actor_id IS NULL) <> (NEW.actor_name IS NULL)
    OR (NEW.actor_id IS NULL) <> (NEW.impersonation_id IS NULL)
    OR (NEW.actor_id IS NOT NULL AND (NEW.subject_id IS NULL OR NEW.actor_id = NEW.subject_id OR COALESCE(NEW.note, '') = ''))
    OR (NEW.origin <> 'api' AND NEW.origin <> 'cli' AND NEW.origin <> 'system')
    OR (NEW.origin <> 'api' AND (NEW.subject_id IS NOT NULL OR COALESCE(NEW.note, '') = ''))
BEGIN SELECT RAISE(ROLLBACK, 'actas: an entry must name its people, and say so where an actor acts or nobody asked'); END;

-- As it was, but for the list of origins: for one of more than two SQLite makes a table at every insertion.
DROP TRIGGER entries_check_people;
CREATE TRIGGER entries_check_people BEFORE INSERT ON entries
WHEN (NEW.subject_id IS NULL) <> (NEW.subject_email IS NULL) OR (NEW.subject_id IS NULL) <> (NEW.subject_name IS NULL)
    OR (NEW.actor_id IS NULL) <> (NEW.actor_email IS NULL) OR (NEW.actor_id IS NULL) <> (NEW.actor_name IS NULL)
    OR (NEW.actor_id IS NULL) <> (NEW.impersonation_id IS NULL)
    OR (NEW.actor_id IS NOT NULL AND (NEW.subject_id IS NULL OR NEW.actor_id = NEW.subject_id OR COALESCE(NEW.note, '') = ''))
    OR (NEW.origin <> 'api' AND NEW.origin <> 'cli' AND NEW.origin <> 'system')
    OR (NEW.origin <> 'api' AND (NEW.subject_id IS NOT NULL OR COALESCE(NEW.note, '') = ''))
BEGIN SELECT RAISE(ABORT, 'actas: an entry must name its people, and say so where an actor acts or nobody asked'); END;

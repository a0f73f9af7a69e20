-- As `entries_roll_back` did for the entries, now for new sessions: SQLite keeps a copy of every page that a statement changes where something may undo the statement alone.
-- That is a trigger with `RAISE(ABORT)`, and a foreign key that is looked at before the transaction ends.
DROP TRIGGER sessions_check_insert;
CREATE TRIGGER sessions_check_insert BEFORE INSERT ON sessions
WHEN EXISTS (SELECT 1 FROM sessions WHERE id = NEW.id OR rowid = NEW.rowid)
    OR (NEW.actor_id IS NULL) <> (NEW.original_session_id IS NULL) OR NEW.actor_id = NEW.subject_id
    OR (NEW.actor_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM sessions WHERE id = NEW.original_session_id AND subject_id = NEW.actor_id AND actor_id IS NULL AND ended_at IS NULL))
BEGIN SELECT RAISE(ROLLBACK, 'actas: a new session must be new, and an impersonation needs a live own session of its actor'); END;
DROP TRIGGER sessions_check_new_terms;
CREATE TRIGGER sessions_check_new_terms BEFORE INSERT ON sessions
WHEN (NEW.client_id IS NULL) <> (NEW.scope IS NULL) OR (NEW.client_id IS NULL) <> (NEW.audience IS NULL)
    OR (NEW.client_id IS NOT NULL AND (NEW.actor_id IS NULL OR NOT EXISTS (SELECT 1 FROM clients WHERE id = NEW.client_id)))
BEGIN SELECT RAISE(ROLLBACK, 'actas: only an impersonation has a client, and then a scope and an audience too'); END;
DROP TRIGGER sessions_check_freeze;
CREATE TRIGGER sessions_check_freeze BEFORE INSERT ON sessions
WHEN NEW.actor_id IS NOT NULL AND EXISTS (SELECT 1 FROM policies WHERE frozen_at IS NOT NULL)
BEGIN SELECT RAISE(ROLLBACK, 'actas: impersonation is frozen'); END;
DROP TRIGGER sessions_check_new_bounds;
CREATE TRIGGER sessions_check_new_bounds BEFORE INSERT ON sessions
WHEN NEW.actor_id IS NULL AND (NEW.bound_permissions IS NOT NULL OR NEW.bound_resources IS NOT NULL)
BEGIN SELECT RAISE(ROLLBACK, 'actas: only an impersonation has bounds'); END;

-- What a table's text says of its foreign keys is not in its rows, so it can be changed where it stands (https://www.sqlite.org/lang_altertable.html, section 8).
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(replace(replace(sql,
        'REFERENCES users (id)', 'REFERENCES users (id) DEFERRABLE INITIALLY DEFERRED'),
        'REFERENCES sessions (id)', 'REFERENCES sessions (id) DEFERRABLE INITIALLY DEFERRED'),
        'REFERENCES clients (id)', 'REFERENCES clients (id) DEFERRABLE INITIALLY DEFERRED')
    WHERE type = 'table' AND name = 'sessions';
PRAGMA writable_schema = RESET;

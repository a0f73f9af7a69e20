-- What is written about one thing is few of all entries; but SQLite, which knows nothing of the values, looked through those of one kind or of one action for it. A `+` keeps it from that
-- (https://sqlite.org/optoverview.html, section 4).
DROP TRIGGER exchanged_sessions_check_insert;
CREATE TRIGGER exchanged_sessions_check_insert BEFORE INSERT ON exchanged_sessions
WHEN EXISTS (SELECT 1 FROM exchanged_sessions WHERE id = NEW.id OR entry_id = NEW.entry_id OR rowid = NEW.rowid)
    OR NOT EXISTS (SELECT 1 FROM entries WHERE id = NEW.entry_id AND action = 'session.exchanged' AND resource_type = 'session' AND resource_id = NEW.id)
    -- Nothing has become of it yet.
    OR EXISTS (SELECT 1 FROM entries WHERE +resource_type = 'session' AND resource_id = NEW.id AND +id <> NEW.entry_id)
    OR EXISTS (SELECT 1 FROM sessions WHERE id = NEW.id)
    OR NOT EXISTS (SELECT 1 FROM sessions WHERE id = NEW.session_id AND ended_at IS NULL AND expires_at >= NEW.expires_at)
    OR (NEW.parent_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM exchanged_sessions WHERE id = NEW.parent_id AND session_id = NEW.session_id AND ended_at IS NULL
            AND expires_at >= NEW.expires_at))
BEGIN SELECT RAISE(ABORT, 'actas: an exchanged session must be new, have its entry and a live parent, and end no later'); END;
DROP TRIGGER client_sessions_check_insert;
CREATE TRIGGER client_sessions_check_insert BEFORE INSERT ON client_sessions
WHEN EXISTS (SELECT 1 FROM client_sessions WHERE id = NEW.id OR entry_id = NEW.entry_id OR rowid = NEW.rowid)
    OR NOT EXISTS (SELECT 1 FROM entries WHERE id = NEW.entry_id AND action = 'session.started' AND resource_type = 'session' AND resource_id = NEW.id)
    -- Nothing has become of it yet.
    OR EXISTS (SELECT 1 FROM entries WHERE +resource_type = 'session' AND resource_id = NEW.id AND +id <> NEW.entry_id)
    OR EXISTS (SELECT 1 FROM sessions WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'actas: a session begins only with its entry, and must be new'); END;
DROP TRIGGER keys_check_insert;
CREATE TRIGGER keys_check_insert BEFORE INSERT ON keys
WHEN EXISTS (SELECT 1 FROM keys WHERE kid = NEW.kid OR rowid = NEW.rowid) OR NEW.retired_at IS NOT NULL
    OR NOT EXISTS (
        SELECT 1 FROM entries WHERE resource_id = NEW.kid AND +resource_type = 'key' AND +action IN ('key.created', 'key.imported'))
BEGIN SELECT RAISE(ABORT, 'actas: a new key must be new, not retired, and have its entry'); END;
DROP TRIGGER keys_check_update;
CREATE TRIGGER keys_check_update BEFORE UPDATE ON keys
WHEN OLD.retired_at IS NOT NULL OR NEW.kid <> OLD.kid OR NEW.rowid <> OLD.rowid OR NEW.purpose <> OLD.purpose
    OR NEW.algorithm <> OLD.algorithm OR NEW.created_at <> OLD.created_at
    OR (NEW.retired_at IS NOT NULL AND (NEW.private_key <> '' OR NOT EXISTS (
        SELECT 1 FROM entries WHERE resource_id = NEW.kid AND +resource_type = 'key' AND +action = 'key.retired')))
BEGIN SELECT RAISE(ABORT, 'actas: a key stays what it is, is retired only with the entry of it, and never comes back'); END;

-- Of one thing, the entries that carry a version are in the order of their versions, and those that carry none in that of their places: both as the UNIQUE constraint's index has them.
-- So there was a second one for nothing, which grew at a place of its own for each thing.
DROP INDEX entries_by_resource;

-- The programs that may ask for tokens at the token endpoint. Lists are words with a space between them.
CREATE TABLE clients (
    -- A UUID, or `actas`: the first-party client, which is public and has no secret.
    id                    TEXT      PRIMARY KEY NOT NULL,
    name                  TEXT      NOT NULL,
    status                TEXT      NOT NULL CHECK (status IN ('active', 'disabled')),
    secret_hash           TEXT,
    -- The one before, while it still counts.
    old_secret_hash       TEXT,
    old_secret_expires_at TIMESTAMP,
    grants                TEXT      NOT NULL,
    scope                 TEXT      NOT NULL,
    audiences             TEXT      NOT NULL,
    presenters            TEXT      NOT NULL,
    version               BIGINT    NOT NULL CHECK (version >= 1),
    created_at            TIMESTAMP NOT NULL,
    updated_at            TIMESTAMP NOT NULL,
    -- No state of a row without the entry of its last change.
    entry_id              TEXT      NOT NULL UNIQUE REFERENCES entries (id),
    CHECK ((id = 'actas') = (secret_hash IS NULL)),
    CHECK (id <> 'actas' OR status = 'active'),
    CHECK ((old_secret_hash IS NULL) = (old_secret_expires_at IS NULL)),
    CHECK (old_secret_hash IS NULL OR secret_hash IS NOT NULL)
);

CREATE TRIGGER clients_check_insert BEFORE INSERT ON clients
WHEN NEW.version <> 1 OR EXISTS (SELECT 1 FROM clients WHERE id = NEW.id OR entry_id = NEW.entry_id OR rowid = NEW.rowid)
    OR NOT EXISTS (
        SELECT 1 FROM entries WHERE id = NEW.entry_id AND resource_type = 'client' AND resource_id = NEW.id AND action = 'client.created')
BEGIN SELECT RAISE(ABORT, 'actas: a new client must be new, have version 1, and have its entry'); END;
CREATE TRIGGER clients_check_update BEFORE UPDATE ON clients
WHEN NEW.version <> OLD.version + 1 OR NEW.id <> OLD.id OR NEW.rowid <> OLD.rowid OR NEW.created_at <> OLD.created_at
    -- The entry of an earlier change tells of that one.
    OR (SELECT seq FROM entries WHERE id = NEW.entry_id) <= (SELECT seq FROM entries WHERE id = OLD.entry_id) OR NOT EXISTS (
        SELECT 1 FROM entries WHERE id = NEW.entry_id AND resource_type = 'client' AND resource_id = NEW.id AND action <> 'client.created')
BEGIN SELECT RAISE(ABORT, 'actas: a client changes only with its version raised by one, and with the entry of it'); END;
-- The CHECKs once more, for who turns them off.
CREATE TRIGGER clients_check_new_terms BEFORE INSERT ON clients
WHEN (NEW.id = 'actas') <> (NEW.secret_hash IS NULL) OR (NEW.id = 'actas' AND NEW.status <> 'active') OR NEW.status NOT IN ('active', 'disabled')
BEGIN SELECT RAISE(ABORT, 'actas: the first-party client is public and active, and all others have a secret'); END;
CREATE TRIGGER clients_check_terms BEFORE UPDATE ON clients
WHEN (NEW.id = 'actas') <> (NEW.secret_hash IS NULL) OR (NEW.id = 'actas' AND NEW.status <> 'active') OR NEW.status NOT IN ('active', 'disabled')
BEGIN SELECT RAISE(ABORT, 'actas: the first-party client is public and active, and all others have a secret'); END;
CREATE TRIGGER clients_refuse_delete BEFORE DELETE ON clients
BEGIN SELECT RAISE(ABORT, 'actas: clients are disabled, never deleted'); END;

-- An impersonation that a client started carries the client, and how far its token reaches. All others have none of these.
ALTER TABLE sessions ADD COLUMN client_id TEXT REFERENCES clients (id) CHECK (client_id IS NULL OR actor_id IS NOT NULL);
ALTER TABLE sessions ADD COLUMN scope TEXT CHECK ((client_id IS NULL) = (scope IS NULL));
ALTER TABLE sessions ADD COLUMN audience TEXT CHECK ((client_id IS NULL) = (audience IS NULL));
CREATE INDEX sessions_open_by_client ON sessions (client_id) WHERE client_id IS NOT NULL AND ended_at IS NULL;
CREATE TRIGGER sessions_check_terms BEFORE UPDATE ON sessions
WHEN NEW.client_id IS NOT OLD.client_id OR NEW.scope IS NOT OLD.scope OR NEW.audience IS NOT OLD.audience
BEGIN SELECT RAISE(ABORT, 'actas: what a session was started with does not change'); END;

CREATE TRIGGER sessions_check_new_terms BEFORE INSERT ON sessions
WHEN (NEW.client_id IS NULL) <> (NEW.scope IS NULL) OR (NEW.client_id IS NULL) <> (NEW.audience IS NULL)
    OR (NEW.client_id IS NOT NULL AND (NEW.actor_id IS NULL OR NOT EXISTS (SELECT 1 FROM clients WHERE id = NEW.client_id)))
BEGIN SELECT RAISE(ABORT, 'actas: only an impersonation has a client, and then a scope and an audience too'); END;

-- Narrower tokens, each made from another one. A row hangs on a session of `sessions`, own or impersonation, and can be no other's original, have no refresh
-- token and no way back: those refer to `sessions`. Rows past their expiry are deleted.
CREATE TABLE exchanged_sessions (
    id         TEXT      PRIMARY KEY NOT NULL,
    session_id TEXT      NOT NULL REFERENCES sessions (id),
    -- The exchanged session whose token was presented, where it was one.
    parent_id  TEXT,
    client_id  TEXT      NOT NULL REFERENCES clients (id),
    -- The key of the token that was presented: when it is retired, this ends too.
    source_kid TEXT      NOT NULL,
    scope      TEXT      NOT NULL,
    audience   TEXT      NOT NULL,
    started_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    ended_at   TIMESTAMP,
    entry_id   TEXT      NOT NULL UNIQUE REFERENCES entries (id)
);
CREATE INDEX exchanged_sessions_by_session ON exchanged_sessions (session_id);
CREATE INDEX exchanged_sessions_by_parent ON exchanged_sessions (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX exchanged_sessions_open_by_client ON exchanged_sessions (client_id) WHERE ended_at IS NULL;
CREATE INDEX exchanged_sessions_open_by_key ON exchanged_sessions (source_kid) WHERE ended_at IS NULL;
CREATE INDEX exchanged_sessions_by_expiry ON exchanged_sessions (expires_at);

-- Tokens of clients themselves, without a user. Rows past their expiry are deleted.
CREATE TABLE client_sessions (
    id         TEXT      PRIMARY KEY NOT NULL,
    client_id  TEXT      NOT NULL REFERENCES clients (id),
    scope      TEXT      NOT NULL,
    audience   TEXT      NOT NULL,
    started_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    ended_at   TIMESTAMP,
    entry_id   TEXT      NOT NULL UNIQUE REFERENCES entries (id)
);
CREATE INDEX client_sessions_by_client ON client_sessions (client_id);
CREATE INDEX client_sessions_by_expiry ON client_sessions (expires_at);

CREATE TRIGGER exchanged_sessions_check_insert BEFORE INSERT ON exchanged_sessions
WHEN EXISTS (SELECT 1 FROM exchanged_sessions WHERE id = NEW.id OR entry_id = NEW.entry_id OR rowid = NEW.rowid)
    OR NOT EXISTS (SELECT 1 FROM entries WHERE id = NEW.entry_id AND action = 'session.exchanged' AND resource_type = 'session' AND resource_id = NEW.id)
    -- Nothing has become of it yet.
    OR EXISTS (SELECT 1 FROM entries WHERE resource_type = 'session' AND resource_id = NEW.id AND id <> NEW.entry_id)
    OR EXISTS (SELECT 1 FROM sessions WHERE id = NEW.id)
    OR NOT EXISTS (SELECT 1 FROM sessions WHERE id = NEW.session_id AND ended_at IS NULL AND expires_at >= NEW.expires_at)
    OR (NEW.parent_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM exchanged_sessions WHERE id = NEW.parent_id AND session_id = NEW.session_id AND ended_at IS NULL
            AND expires_at >= NEW.expires_at))
BEGIN SELECT RAISE(ABORT, 'actas: an exchanged session must be new, have its entry and a live parent, and end no later'); END;
CREATE TRIGGER exchanged_sessions_check_update BEFORE UPDATE ON exchanged_sessions
WHEN OLD.ended_at IS NOT NULL OR NEW.id <> OLD.id OR NEW.rowid <> OLD.rowid OR NEW.session_id <> OLD.session_id
    OR NEW.parent_id IS NOT OLD.parent_id OR NEW.client_id <> OLD.client_id OR NEW.scope <> OLD.scope OR NEW.audience <> OLD.audience
    OR NEW.started_at <> OLD.started_at OR NEW.expires_at <> OLD.expires_at OR NEW.entry_id <> OLD.entry_id OR NEW.source_kid <> OLD.source_kid
BEGIN SELECT RAISE(ABORT, 'actas: a session that ended stays so, and what it was started with does not change'); END;
CREATE TRIGGER client_sessions_check_insert BEFORE INSERT ON client_sessions
WHEN EXISTS (SELECT 1 FROM client_sessions WHERE id = NEW.id OR entry_id = NEW.entry_id OR rowid = NEW.rowid)
    OR NOT EXISTS (SELECT 1 FROM entries WHERE id = NEW.entry_id AND action = 'session.started' AND resource_type = 'session' AND resource_id = NEW.id)
    -- Nothing has become of it yet.
    OR EXISTS (SELECT 1 FROM entries WHERE resource_type = 'session' AND resource_id = NEW.id AND id <> NEW.entry_id)
    OR EXISTS (SELECT 1 FROM sessions WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'actas: a session begins only with its entry, and must be new'); END;
CREATE TRIGGER client_sessions_check_update BEFORE UPDATE ON client_sessions
WHEN OLD.ended_at IS NOT NULL OR NEW.id <> OLD.id OR NEW.rowid <> OLD.rowid OR NEW.client_id <> OLD.client_id OR NEW.scope <> OLD.scope
    OR NEW.audience <> OLD.audience OR NEW.started_at <> OLD.started_at OR NEW.expires_at <> OLD.expires_at OR NEW.entry_id <> OLD.entry_id
BEGIN SELECT RAISE(ABORT, 'actas: a session that ended stays so, and what it was started with does not change'); END;

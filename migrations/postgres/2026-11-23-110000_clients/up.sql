-- The programs that may ask for tokens at the token endpoint. Lists are words with a space between them.
CREATE TABLE clients (
    -- A UUID, or `actas`: the first-party client, which is public and has no secret.
    id                    TEXT COLLATE "C" PRIMARY KEY NOT NULL,
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
    entry_id              TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES entries (id),
    CHECK ((id = 'actas') = (secret_hash IS NULL)),
    CHECK (id <> 'actas' OR status = 'active'),
    CHECK ((old_secret_hash IS NULL) = (old_secret_expires_at IS NULL)),
    CHECK (old_secret_hash IS NULL OR secret_hash IS NOT NULL)
);

CREATE FUNCTION actas_check_client() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM entries WHERE id = NEW.entry_id AND resource_type = 'client' AND resource_id = NEW.id
            AND (action = 'client.created') = (TG_OP = 'INSERT')) THEN
        RAISE EXCEPTION 'actas: a client changes only with the entry of it' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF TG_OP = 'UPDATE' THEN
        -- The entry of an earlier change tells of that one.
        IF NEW.version <> OLD.version + 1 OR NEW.id <> OLD.id OR NEW.created_at <> OLD.created_at
            OR (SELECT seq FROM entries WHERE id = NEW.entry_id) <= (SELECT seq FROM entries WHERE id = OLD.entry_id) THEN
            RAISE EXCEPTION 'actas: a client changes only with its version raised by one' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    ELSIF NEW.version <> 1 THEN
        RAISE EXCEPTION 'actas: a new client has version 1' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER clients_check BEFORE INSERT OR UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION actas_check_client();
CREATE TRIGGER clients_refuse_delete BEFORE DELETE ON clients
FOR EACH ROW EXECUTE FUNCTION actas_refuse('clients are disabled, never deleted');
CREATE TRIGGER clients_refuse_truncate BEFORE TRUNCATE ON clients
FOR EACH STATEMENT EXECUTE FUNCTION actas_refuse('clients are disabled, never deleted');

-- An impersonation that a client started carries the client, and how far its token reaches. All others have none of these.
ALTER TABLE sessions ADD COLUMN client_id TEXT COLLATE "C" REFERENCES clients (id);
ALTER TABLE sessions ADD COLUMN scope TEXT;
ALTER TABLE sessions ADD COLUMN audience TEXT;
ALTER TABLE sessions ADD CONSTRAINT sessions_client_check CHECK (client_id IS NULL OR actor_id IS NOT NULL);
ALTER TABLE sessions ADD CONSTRAINT sessions_terms_check CHECK ((client_id IS NULL) = (scope IS NULL) AND (client_id IS NULL) = (audience IS NULL));
CREATE INDEX sessions_open_by_client ON sessions (client_id) WHERE client_id IS NOT NULL AND ended_at IS NULL;
CREATE TRIGGER sessions_check_terms BEFORE UPDATE ON sessions FOR EACH ROW
WHEN (NEW.client_id IS DISTINCT FROM OLD.client_id OR NEW.scope IS DISTINCT FROM OLD.scope OR NEW.audience IS DISTINCT FROM OLD.audience)
EXECUTE FUNCTION actas_refuse('what a session was started with does not change');

-- Narrower tokens, each made from another one. A row hangs on a session of `sessions`, own or impersonation, and can be no other's original, have no refresh
-- token and no way back: those refer to `sessions`. Rows past their expiry are deleted.
CREATE TABLE exchanged_sessions (
    id         TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL REFERENCES sessions (id),
    -- The exchanged session whose token was presented, where it was one.
    parent_id  TEXT COLLATE "C",
    client_id  TEXT COLLATE "C" NOT NULL REFERENCES clients (id),
    -- The key of the token that was presented: when it is retired, this ends too.
    source_kid TEXT COLLATE "C" NOT NULL,
    scope      TEXT      NOT NULL,
    audience   TEXT      NOT NULL,
    started_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    ended_at   TIMESTAMP,
    entry_id   TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES entries (id)
);
CREATE INDEX exchanged_sessions_by_session ON exchanged_sessions (session_id);
CREATE INDEX exchanged_sessions_by_parent ON exchanged_sessions (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX exchanged_sessions_open_by_client ON exchanged_sessions (client_id) WHERE ended_at IS NULL;
CREATE INDEX exchanged_sessions_open_by_key ON exchanged_sessions (source_kid) WHERE ended_at IS NULL;
CREATE INDEX exchanged_sessions_by_expiry ON exchanged_sessions (expires_at);

-- Tokens of clients themselves, without a user. Rows past their expiry are deleted.
CREATE TABLE client_sessions (
    id         TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    client_id  TEXT COLLATE "C" NOT NULL REFERENCES clients (id),
    scope      TEXT      NOT NULL,
    audience   TEXT      NOT NULL,
    started_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    ended_at   TIMESTAMP,
    entry_id   TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES entries (id)
);
CREATE INDEX client_sessions_by_client ON client_sessions (client_id);
CREATE INDEX client_sessions_by_expiry ON client_sessions (expires_at);

CREATE FUNCTION actas_check_new_token_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Nothing has become of it yet.
    IF NOT EXISTS (SELECT 1 FROM entries WHERE id = NEW.entry_id AND action = TG_ARGV[0] AND resource_type = 'session' AND resource_id = NEW.id)
        OR EXISTS (SELECT 1 FROM entries WHERE resource_type = 'session' AND resource_id = NEW.id AND id <> NEW.entry_id)
        OR EXISTS (SELECT 1 FROM sessions WHERE id = NEW.id) THEN
        RAISE EXCEPTION 'actas: a session begins only with its entry, and once' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION actas_check_new_exchange() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM sessions WHERE id = NEW.session_id AND ended_at IS NULL AND expires_at >= NEW.expires_at)
        OR (NEW.parent_id IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM exchanged_sessions WHERE id = NEW.parent_id AND session_id = NEW.session_id AND ended_at IS NULL
                AND expires_at >= NEW.expires_at)) THEN
        RAISE EXCEPTION 'actas: an exchanged session needs a live parent, and ends no later' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER exchanged_sessions_check_entry BEFORE INSERT ON exchanged_sessions
FOR EACH ROW EXECUTE FUNCTION actas_check_new_token_session('session.exchanged');
CREATE TRIGGER exchanged_sessions_check_parent BEFORE INSERT ON exchanged_sessions FOR EACH ROW EXECUTE FUNCTION actas_check_new_exchange();
CREATE TRIGGER exchanged_sessions_check_update BEFORE UPDATE ON exchanged_sessions FOR EACH ROW
WHEN (OLD.ended_at IS NOT NULL OR NEW.id <> OLD.id OR NEW.session_id <> OLD.session_id OR NEW.parent_id IS DISTINCT FROM OLD.parent_id
    OR NEW.client_id <> OLD.client_id OR NEW.scope <> OLD.scope OR NEW.audience <> OLD.audience OR NEW.started_at <> OLD.started_at
    OR NEW.expires_at <> OLD.expires_at OR NEW.entry_id <> OLD.entry_id OR NEW.source_kid <> OLD.source_kid)
EXECUTE FUNCTION actas_refuse('a session that ended stays so, and what it was started with does not change');
CREATE TRIGGER client_sessions_check_entry BEFORE INSERT ON client_sessions
FOR EACH ROW EXECUTE FUNCTION actas_check_new_token_session('session.started');
CREATE TRIGGER client_sessions_check_update BEFORE UPDATE ON client_sessions FOR EACH ROW
WHEN (OLD.ended_at IS NOT NULL OR NEW.id <> OLD.id OR NEW.client_id <> OLD.client_id OR NEW.scope <> OLD.scope OR NEW.audience <> OLD.audience
    OR NEW.started_at <> OLD.started_at OR NEW.expires_at <> OLD.expires_at OR NEW.entry_id <> OLD.entry_id)
EXECUTE FUNCTION actas_refuse('a session that ended stays so, and what it was started with does not change');

-- What must hold is said twice here, as constraints and as triggers: foreign keys, checks and the delete triggers of REPLACE are each
-- client's own choice in SQLite, and a client that is not Actas makes another one. A rowid can be replaced as an id can.

-- The history. Written first, by everything that changes, in the same transaction; never changed, never deleted.
CREATE TABLE entries (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    id               TEXT      NOT NULL UNIQUE,
    occurred_at      TIMESTAMP NOT NULL,
    origin           TEXT      NOT NULL CHECK (origin IN ('api', 'cli', 'system')),
    action           TEXT      NOT NULL,
    resource_type    TEXT      NOT NULL,
    resource_id      TEXT      NOT NULL,
    resource_version BIGINT    CHECK (resource_version >= 1),
    subject_id       TEXT,
    subject_email    TEXT,
    subject_name     TEXT,
    actor_id         TEXT,
    actor_email      TEXT,
    actor_name       TEXT,
    impersonation_id TEXT,
    note             TEXT,
    changes          TEXT      NOT NULL,
    request_id       TEXT,
    UNIQUE (resource_id, resource_version),
    -- Only entries of a row's change carry a version.
    CHECK (resource_version IS NULL OR resource_type IN ('article', 'user')),
    CHECK ((subject_id IS NULL) = (subject_email IS NULL) AND (subject_id IS NULL) = (subject_name IS NULL)),
    CHECK ((actor_id IS NULL) = (actor_email IS NULL) AND (actor_id IS NULL) = (actor_name IS NULL)),
    -- An actor acts as someone else, in an impersonation, and the note says so.
    CHECK ((actor_id IS NULL) = (impersonation_id IS NULL)),
    CHECK (actor_id IS NULL OR (subject_id IS NOT NULL AND note IS NOT NULL AND note <> '' AND actor_id <> subject_id)),
    -- What nobody asked for by a request names nobody, and says why.
    CHECK (origin = 'api' OR (subject_id IS NULL AND note IS NOT NULL AND note <> ''))
);
CREATE INDEX entries_by_resource ON entries (resource_id, seq);
CREATE INDEX entries_by_resource_type ON entries (resource_type, seq);
CREATE INDEX entries_by_subject ON entries (subject_id, seq);
CREATE INDEX entries_by_actor ON entries (actor_id, seq) WHERE actor_id IS NOT NULL;
CREATE INDEX entries_by_impersonation ON entries (impersonation_id, seq) WHERE impersonation_id IS NOT NULL;
CREATE INDEX entries_by_action ON entries (action, seq);
CREATE INDEX entries_impersonated ON entries (seq) WHERE actor_id IS NOT NULL;
CREATE INDEX entries_by_time ON entries (occurred_at, seq);

CREATE TRIGGER entries_refuse_update BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'actas: an entry of the history can not be changed'); END;
CREATE TRIGGER entries_refuse_delete BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'actas: an entry of the history can not be deleted'); END;
-- REPLACE deletes without firing delete triggers, so an existing key is refused before it gets there.
CREATE TRIGGER entries_refuse_replace BEFORE INSERT ON entries
WHEN EXISTS (SELECT 1 FROM entries WHERE seq = NEW.seq) OR EXISTS (SELECT 1 FROM entries WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'actas: an entry of the history can not be replaced'); END;
CREATE TRIGGER entries_check_people BEFORE INSERT ON entries
WHEN (NEW.subject_id IS NULL) <> (NEW.subject_email IS NULL) OR (NEW.subject_id IS NULL) <> (NEW.subject_name IS NULL)
    OR (NEW.actor_id IS NULL) <> (NEW.actor_email IS NULL) OR (NEW.actor_id IS NULL) <> (NEW.actor_name IS NULL)
    OR (NEW.actor_id IS NULL) <> (NEW.impersonation_id IS NULL)
    OR (NEW.actor_id IS NOT NULL AND (NEW.subject_id IS NULL OR NEW.actor_id = NEW.subject_id OR COALESCE(NEW.note, '') = ''))
    OR NEW.origin NOT IN ('api', 'cli', 'system')
    OR (NEW.origin <> 'api' AND (NEW.subject_id IS NOT NULL OR COALESCE(NEW.note, '') = ''))
BEGIN SELECT RAISE(ABORT, 'actas: an entry must name its people, and say so where an actor acts or nobody asked'); END;
CREATE TRIGGER entries_refuse_gap BEFORE INSERT ON entries
WHEN NEW.resource_version IS NOT NULL AND (NEW.resource_type NOT IN ('article', 'user') OR NEW.resource_version
    <> 1 + COALESCE((SELECT MAX(resource_version) FROM entries WHERE resource_id = NEW.resource_id), 0))
BEGIN SELECT RAISE(ABORT, 'actas: an entry of a row must carry the version after the last one, and no other entry any'); END;
CREATE TRIGGER entries_refuse_backdating AFTER INSERT ON entries
WHEN EXISTS (SELECT 1 FROM entries WHERE seq > NEW.seq)
BEGIN SELECT RAISE(ABORT, 'actas: an entry must come after the last one'); END;

CREATE TABLE users (
    id           TEXT      PRIMARY KEY NOT NULL,
    email        TEXT      NOT NULL,
    email_key    TEXT      NOT NULL UNIQUE,
    display_name TEXT      NOT NULL,
    -- E-mail address and name in lower case, for searching.
    search       TEXT      NOT NULL,
    role         TEXT      NOT NULL CHECK (role IN ('administrator', 'support', 'editor', 'author')),
    status       TEXT      NOT NULL CHECK (status IN ('active', 'disabled')),
    version      BIGINT    NOT NULL,
    created_at   TIMESTAMP NOT NULL,
    updated_at   TIMESTAMP NOT NULL,
    -- No state of a row without the entry of its version.
    FOREIGN KEY (id, version) REFERENCES entries (resource_id, resource_version)
);
CREATE INDEX users_by_role ON users (role, id);
CREATE INDEX users_by_status ON users (status, id);

CREATE TRIGGER users_check_insert BEFORE INSERT ON users
WHEN NEW.version <> 1 OR EXISTS (SELECT 1 FROM users WHERE id = NEW.id OR email_key = NEW.email_key OR rowid = NEW.rowid)
    OR EXISTS (SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version > 1)
    OR NOT EXISTS (SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version = 1 AND resource_type = 'user')
BEGIN SELECT RAISE(ABORT, 'actas: a new user must be new, have version 1, and have its entry'); END;
CREATE TRIGGER users_check_update BEFORE UPDATE ON users
WHEN NEW.version <> OLD.version + 1 OR NEW.id <> OLD.id OR NEW.rowid <> OLD.rowid OR NEW.created_at <> OLD.created_at
    OR EXISTS (SELECT 1 FROM users WHERE email_key = NEW.email_key AND id <> OLD.id)
    OR NOT EXISTS (SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version = NEW.version AND resource_type = 'user')
BEGIN SELECT RAISE(ABORT, 'actas: a user changes only with its version raised by one, and with the entry of it'); END;
CREATE TRIGGER users_refuse_delete BEFORE DELETE ON users
BEGIN SELECT RAISE(ABORT, 'actas: users are disabled, never deleted'); END;

-- Apart from the users, so that no listing ever reads a hash, and a renewed hash is no change of the user.
CREATE TABLE credentials (
    user_id          TEXT      PRIMARY KEY NOT NULL REFERENCES users (id),
    password_hash    TEXT,
    setup_token_hash TEXT      UNIQUE,
    setup_expires_at TIMESTAMP,
    CHECK ((setup_token_hash IS NULL) = (setup_expires_at IS NULL))
);

CREATE TABLE sessions (
    id                  TEXT      PRIMARY KEY NOT NULL,
    subject_id          TEXT      NOT NULL REFERENCES users (id),
    -- These are an impersonation's; an own session has none of them.
    actor_id            TEXT      REFERENCES users (id),
    original_session_id TEXT      REFERENCES sessions (id),
    mode                TEXT      CHECK (mode IN ('full', 'read_only')),
    reason              TEXT,
    ticket              TEXT,
    client_ip           TEXT,
    user_agent          TEXT,
    started_at          TIMESTAMP NOT NULL,
    expires_at          TIMESTAMP NOT NULL,
    last_used_at        TIMESTAMP NOT NULL,
    ended_at            TIMESTAMP,
    end_cause           TEXT,
    ended_by_id         TEXT      REFERENCES users (id),
    CHECK ((actor_id IS NULL) = (original_session_id IS NULL) AND (actor_id IS NULL) = (mode IS NULL)),
    CHECK (actor_id IS NOT NULL OR (reason IS NULL AND ticket IS NULL)),
    CHECK (actor_id IS NULL OR actor_id <> subject_id),
    CHECK ((ended_at IS NULL) = (end_cause IS NULL)),
    CHECK (ended_by_id IS NULL OR ended_at IS NOT NULL)
);
CREATE INDEX sessions_own_open ON sessions (subject_id, id) WHERE actor_id IS NULL AND ended_at IS NULL;
CREATE INDEX sessions_own_address ON sessions (subject_id, client_ip) WHERE actor_id IS NULL;
CREATE INDEX impersonations ON sessions (id) WHERE actor_id IS NOT NULL;
CREATE INDEX impersonations_live ON sessions (id) WHERE actor_id IS NOT NULL AND ended_at IS NULL;
CREATE INDEX impersonations_by_subject ON sessions (subject_id, id) WHERE actor_id IS NOT NULL;
CREATE INDEX impersonations_by_actor ON sessions (actor_id, id) WHERE actor_id IS NOT NULL;
CREATE INDEX impersonations_open_by_subject ON sessions (subject_id, id) WHERE actor_id IS NOT NULL AND ended_at IS NULL;
CREATE INDEX impersonations_open_by_actor ON sessions (actor_id, id) WHERE actor_id IS NOT NULL AND ended_at IS NULL;
CREATE INDEX impersonations_by_original ON sessions (original_session_id) WHERE original_session_id IS NOT NULL;
CREATE INDEX sessions_open ON sessions (expires_at) WHERE ended_at IS NULL;

-- An impersonation starts from a live own session of its actor: nesting can't be written down.
CREATE TRIGGER sessions_check_insert BEFORE INSERT ON sessions
WHEN EXISTS (SELECT 1 FROM sessions WHERE id = NEW.id OR rowid = NEW.rowid)
    OR (NEW.actor_id IS NULL) <> (NEW.original_session_id IS NULL) OR NEW.actor_id = NEW.subject_id
    OR (NEW.actor_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM sessions WHERE id = NEW.original_session_id AND subject_id = NEW.actor_id AND actor_id IS NULL AND ended_at IS NULL))
BEGIN SELECT RAISE(ABORT, 'actas: a new session must be new, and an impersonation needs a live own session of its actor'); END;
CREATE TRIGGER sessions_check_update BEFORE UPDATE ON sessions
WHEN OLD.ended_at IS NOT NULL OR NEW.id <> OLD.id OR NEW.rowid <> OLD.rowid OR NEW.subject_id <> OLD.subject_id
    OR NEW.actor_id IS NOT OLD.actor_id OR NEW.original_session_id IS NOT OLD.original_session_id OR NEW.mode IS NOT OLD.mode
    OR NEW.reason IS NOT OLD.reason OR NEW.ticket IS NOT OLD.ticket OR NEW.started_at <> OLD.started_at
    OR NEW.expires_at > OLD.expires_at
BEGIN SELECT RAISE(ABORT, 'actas: a session that ended stays so, and its people, terms and expiry do not change'); END;
CREATE TRIGGER sessions_refuse_delete BEFORE DELETE ON sessions
BEGIN SELECT RAISE(ABORT, 'actas: sessions are ended, never deleted'); END;

-- What logout gives back: the exact bytes that were signed, and never the signature. A row is the way back still open; whoever
-- deletes it gets the token.
CREATE TABLE ways_back (
    impersonation_id TEXT      PRIMARY KEY NOT NULL REFERENCES sessions (id),
    kid              TEXT      NOT NULL REFERENCES keys (kid),
    signing_input    TEXT      NOT NULL,
    challenge        TEXT,
    expires_at       TIMESTAMP NOT NULL
);
CREATE INDEX ways_back_by_expiry ON ways_back (expires_at);

CREATE TABLE refresh_tokens (
    hash        TEXT      PRIMARY KEY NOT NULL,
    session_id  TEXT      NOT NULL REFERENCES sessions (id),
    expires_at  TIMESTAMP NOT NULL,
    replaced_at TIMESTAMP
);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

CREATE TABLE keys (
    kid         TEXT      PRIMARY KEY NOT NULL,
    purpose     TEXT      NOT NULL,
    algorithm   TEXT      NOT NULL,
    private_key TEXT      NOT NULL,
    sealed      BOOLEAN   NOT NULL,
    created_at  TIMESTAMP NOT NULL,
    retired_at  TIMESTAMP
);

-- How often a start was refused in a minute, beside the one entry that says so.
CREATE TABLE refusals (
    caller_id  TEXT      NOT NULL,
    subject_id TEXT      NOT NULL,
    minute     TIMESTAMP NOT NULL,
    entry_id   TEXT      NOT NULL UNIQUE REFERENCES entries (id),
    count      BIGINT    NOT NULL,
    PRIMARY KEY (caller_id, subject_id, minute)
);

CREATE TABLE articles (
    id         TEXT      PRIMARY KEY NOT NULL,
    title      TEXT      NOT NULL,
    abstract   TEXT      NOT NULL,
    body       TEXT      NOT NULL,
    -- Title and abstract in lower case, for searching.
    search     TEXT      NOT NULL,
    status     TEXT      NOT NULL CHECK (status IN
        ('draft', 'submitted', 'under_review', 'revision_requested', 'accepted', 'rejected', 'published', 'withdrawn')),
    author_id  TEXT      NOT NULL REFERENCES users (id),
    editor_id  TEXT      REFERENCES users (id) CHECK (editor_id <> author_id),
    version    BIGINT    NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    FOREIGN KEY (id, version) REFERENCES entries (resource_id, resource_version)
);
CREATE INDEX articles_by_author ON articles (author_id, id);
CREATE INDEX articles_by_editor ON articles (editor_id, id);
CREATE INDEX articles_by_status ON articles (status, id);

CREATE TRIGGER articles_check_insert BEFORE INSERT ON articles
WHEN NEW.version <> 1 OR EXISTS (SELECT 1 FROM articles WHERE id = NEW.id OR rowid = NEW.rowid) OR NEW.editor_id = NEW.author_id
    OR EXISTS (SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version > 1)
    OR NOT EXISTS (SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version = 1 AND resource_type = 'article')
BEGIN SELECT RAISE(ABORT, 'actas: a new article must be new, have version 1, and have its entry'); END;
CREATE TRIGGER articles_check_update BEFORE UPDATE ON articles
WHEN NEW.version <> OLD.version + 1 OR NEW.id <> OLD.id OR NEW.rowid <> OLD.rowid OR NEW.created_at <> OLD.created_at
    OR NEW.author_id <> OLD.author_id OR NEW.editor_id = NEW.author_id
    OR NOT EXISTS (
        SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version = NEW.version AND resource_type = 'article'
            AND action <> 'article.deleted')
BEGIN SELECT RAISE(ABORT, 'actas: an article changes only with its version raised by one, and with the entry of it'); END;
CREATE TRIGGER articles_check_delete BEFORE DELETE ON articles
WHEN NOT EXISTS (
    SELECT 1 FROM entries WHERE resource_id = OLD.id AND resource_version = OLD.version + 1 AND action = 'article.deleted')
BEGIN SELECT RAISE(ABORT, 'actas: an article is deleted only with the entry of its deletion'); END;

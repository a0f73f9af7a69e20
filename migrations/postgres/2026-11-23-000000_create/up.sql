-- The history. Written first, by everything that changes, in the same transaction; never changed, never deleted.
CREATE TABLE entries (
    seq              BIGINT    GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id               TEXT COLLATE "C" NOT NULL UNIQUE,
    occurred_at      TIMESTAMP NOT NULL,
    origin           TEXT      NOT NULL CHECK (origin IN ('api', 'cli', 'system')),
    action           TEXT      NOT NULL,
    resource_type    TEXT      NOT NULL,
    resource_id      TEXT COLLATE "C" NOT NULL,
    resource_version BIGINT    CHECK (resource_version >= 1),
    subject_id       TEXT COLLATE "C",
    subject_email    TEXT,
    subject_name     TEXT,
    actor_id         TEXT COLLATE "C",
    actor_email      TEXT,
    actor_name       TEXT,
    impersonation_id TEXT COLLATE "C",
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

CREATE FUNCTION actas_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'actas: %', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation'; END $$;

CREATE TRIGGER entries_refuse_update BEFORE UPDATE ON entries
FOR EACH ROW EXECUTE FUNCTION actas_refuse('an entry of the history can not be changed');
CREATE TRIGGER entries_refuse_delete BEFORE DELETE ON entries
FOR EACH ROW EXECUTE FUNCTION actas_refuse('an entry of the history can not be deleted');
CREATE TRIGGER entries_refuse_truncate BEFORE TRUNCATE ON entries
FOR EACH STATEMENT EXECUTE FUNCTION actas_refuse('the history can not be truncated');

CREATE FUNCTION actas_check_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.resource_version IS NOT NULL AND NEW.resource_version
        <> 1 + COALESCE((SELECT MAX(resource_version) FROM entries WHERE resource_id = NEW.resource_id), 0) THEN
        RAISE EXCEPTION 'actas: an entry must carry the version after the last one' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    -- OVERRIDING SYSTEM VALUE would put an entry where it likes.
    IF NEW.seq <> currval(pg_get_serial_sequence('entries', 'seq')) THEN
        RAISE EXCEPTION 'actas: an entry must come after the last one' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER entries_refuse_gap BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION actas_check_entry();

CREATE TABLE users (
    id           TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    email        TEXT      NOT NULL,
    email_key    TEXT COLLATE "C" NOT NULL UNIQUE,
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

CREATE FUNCTION actas_check_new_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.version <> 1 OR EXISTS (SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version > 1)
        OR NOT EXISTS (SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version = 1 AND resource_type = TG_ARGV[0]) THEN
        RAISE EXCEPTION 'actas: a new row must be new, have version 1, and have its entry' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION actas_check_changed_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.version <> OLD.version + 1 OR NEW.id <> OLD.id OR NEW.created_at <> OLD.created_at
        OR NOT EXISTS (
            SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version = NEW.version AND resource_type = TG_ARGV[0]
                AND action <> 'article.deleted') THEN
        RAISE EXCEPTION 'actas: a row changes only with its version raised by one, and with the entry of it'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER users_check_insert BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION actas_check_new_row('user');
CREATE TRIGGER users_check_update BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION actas_check_changed_row('user');
CREATE TRIGGER users_refuse_delete BEFORE DELETE ON users
FOR EACH ROW EXECUTE FUNCTION actas_refuse('users are disabled, never deleted');
CREATE TRIGGER users_refuse_truncate BEFORE TRUNCATE ON users
FOR EACH STATEMENT EXECUTE FUNCTION actas_refuse('users are disabled, never deleted');

-- Apart from the users, so that no listing ever reads a hash, and a renewed hash is no change of the user.
CREATE TABLE credentials (
    user_id          TEXT COLLATE "C" PRIMARY KEY NOT NULL REFERENCES users (id),
    password_hash    TEXT,
    setup_token_hash TEXT      UNIQUE,
    setup_expires_at TIMESTAMP,
    CHECK ((setup_token_hash IS NULL) = (setup_expires_at IS NULL))
);

CREATE TABLE sessions (
    id                  TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    subject_id          TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    -- These are an impersonation's; an own session has none of them.
    actor_id            TEXT COLLATE "C" REFERENCES users (id),
    original_session_id TEXT COLLATE "C" REFERENCES sessions (id),
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
    ended_by_id         TEXT COLLATE "C" REFERENCES users (id),
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
CREATE FUNCTION actas_check_new_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.actor_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM sessions WHERE id = NEW.original_session_id AND subject_id = NEW.actor_id AND actor_id IS NULL AND ended_at IS NULL) THEN
        RAISE EXCEPTION 'actas: an impersonation needs a live own session of its actor' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER sessions_check_insert BEFORE INSERT ON sessions FOR EACH ROW EXECUTE FUNCTION actas_check_new_session();
CREATE TRIGGER sessions_check_update BEFORE UPDATE ON sessions FOR EACH ROW
WHEN (OLD.ended_at IS NOT NULL OR NEW.id <> OLD.id OR NEW.subject_id <> OLD.subject_id OR NEW.actor_id IS DISTINCT FROM OLD.actor_id
    OR NEW.original_session_id IS DISTINCT FROM OLD.original_session_id OR NEW.mode IS DISTINCT FROM OLD.mode
    OR NEW.reason IS DISTINCT FROM OLD.reason OR NEW.ticket IS DISTINCT FROM OLD.ticket OR NEW.started_at <> OLD.started_at
    OR NEW.expires_at > OLD.expires_at)
EXECUTE FUNCTION actas_refuse('a session that ended stays so, and its people, terms and expiry do not change');
CREATE TRIGGER sessions_refuse_delete BEFORE DELETE ON sessions
FOR EACH ROW EXECUTE FUNCTION actas_refuse('sessions are ended, never deleted');
CREATE TRIGGER sessions_refuse_truncate BEFORE TRUNCATE ON sessions
FOR EACH STATEMENT EXECUTE FUNCTION actas_refuse('sessions are ended, never deleted');

CREATE TABLE keys (
    kid         TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    purpose     TEXT      NOT NULL,
    algorithm   TEXT      NOT NULL,
    private_key TEXT      NOT NULL,
    sealed      BOOLEAN   NOT NULL,
    created_at  TIMESTAMP NOT NULL,
    retired_at  TIMESTAMP
);

-- What logout gives back: the exact bytes that were signed, and never the signature. A row is the way back still open; whoever
-- deletes it gets the token.
CREATE TABLE ways_back (
    impersonation_id TEXT COLLATE "C" PRIMARY KEY NOT NULL REFERENCES sessions (id),
    kid              TEXT COLLATE "C" NOT NULL REFERENCES keys (kid),
    signing_input    TEXT      NOT NULL,
    challenge        TEXT,
    expires_at       TIMESTAMP NOT NULL
);
CREATE INDEX ways_back_by_expiry ON ways_back (expires_at);

CREATE TABLE refresh_tokens (
    hash        TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    session_id  TEXT COLLATE "C" NOT NULL REFERENCES sessions (id),
    expires_at  TIMESTAMP NOT NULL,
    replaced_at TIMESTAMP
);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

-- How often a start was refused in a minute, beside the one entry that says so.
CREATE TABLE refusals (
    caller_id  TEXT COLLATE "C" NOT NULL,
    subject_id TEXT COLLATE "C" NOT NULL,
    minute     TIMESTAMP NOT NULL,
    entry_id   TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES entries (id),
    count      BIGINT    NOT NULL,
    PRIMARY KEY (caller_id, subject_id, minute)
);

CREATE TABLE articles (
    id         TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    title      TEXT      NOT NULL,
    abstract   TEXT      NOT NULL,
    body       TEXT      NOT NULL,
    -- Title and abstract in lower case, for searching.
    search     TEXT      NOT NULL,
    status     TEXT      NOT NULL CHECK (status IN
        ('draft', 'submitted', 'under_review', 'revision_requested', 'accepted', 'rejected', 'published', 'withdrawn')),
    author_id  TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    editor_id  TEXT COLLATE "C" REFERENCES users (id) CHECK (editor_id <> author_id),
    version    BIGINT    NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    FOREIGN KEY (id, version) REFERENCES entries (resource_id, resource_version)
);
CREATE INDEX articles_by_author ON articles (author_id, id);
CREATE INDEX articles_by_editor ON articles (editor_id, id);
CREATE INDEX articles_by_status ON articles (status, id);

CREATE TRIGGER articles_check_insert BEFORE INSERT ON articles FOR EACH ROW EXECUTE FUNCTION actas_check_new_row('article');
CREATE TRIGGER articles_check_update BEFORE UPDATE ON articles FOR EACH ROW EXECUTE FUNCTION actas_check_changed_row('article');
CREATE TRIGGER articles_check_author BEFORE UPDATE ON articles FOR EACH ROW WHEN (NEW.author_id <> OLD.author_id)
EXECUTE FUNCTION actas_refuse('an article keeps its author');
CREATE FUNCTION actas_check_article_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM entries WHERE resource_id = OLD.id AND resource_version = OLD.version + 1 AND action = 'article.deleted') THEN
        RAISE EXCEPTION 'actas: an article is deleted only with the entry of its deletion' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER articles_check_delete BEFORE DELETE ON articles FOR EACH ROW EXECUTE FUNCTION actas_check_article_delete();
CREATE TRIGGER articles_refuse_truncate BEFORE TRUNCATE ON articles
FOR EACH STATEMENT EXECUTE FUNCTION actas_refuse('articles are not truncated');

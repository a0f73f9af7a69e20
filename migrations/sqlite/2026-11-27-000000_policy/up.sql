-- What the office lays down about impersonation: one row. Its settings are one JSON object, so that a newer version may have more of them.
CREATE TABLE policies (
    id            TEXT      PRIMARY KEY NOT NULL CHECK (id = 'policy'),
    terms         TEXT      NOT NULL,
    -- While it is frozen nobody acts as anybody.
    frozen_at     TIMESTAMP,
    freeze_reason TEXT,
    frozen_by_id  TEXT      REFERENCES users (id),
    version       BIGINT    NOT NULL CHECK (version >= 1),
    updated_at    TIMESTAMP NOT NULL,
    -- No state of the row without the entry of its last change.
    entry_id      TEXT      NOT NULL UNIQUE REFERENCES entries (id),
    CHECK ((frozen_at IS NULL) = (freeze_reason IS NULL)),
    CHECK (frozen_by_id IS NULL OR frozen_at IS NOT NULL)
);

CREATE TRIGGER policies_check_insert BEFORE INSERT ON policies
WHEN NEW.id <> 'policy' OR NEW.version <> 1 OR EXISTS (SELECT 1 FROM policies) OR NEW.frozen_at IS NOT NULL
    OR NOT EXISTS (
        SELECT 1 FROM entries WHERE id = NEW.entry_id AND resource_type = 'policy' AND resource_id = NEW.id AND action = 'policy.created')
BEGIN SELECT RAISE(ABORT, 'actas: there is one policy, which begins with version 1 and its entry'); END;
CREATE TRIGGER policies_check_update BEFORE UPDATE ON policies
WHEN NEW.version <> OLD.version + 1 OR NEW.id <> OLD.id OR NEW.rowid <> OLD.rowid
    OR (NEW.frozen_at IS NULL) <> (NEW.freeze_reason IS NULL) OR (NEW.frozen_at IS NULL AND NEW.frozen_by_id IS NOT NULL)
    -- The entry of an earlier change tells of that one.
    OR (SELECT seq FROM entries WHERE id = NEW.entry_id) <= (SELECT seq FROM entries WHERE id = OLD.entry_id)
    -- A freeze begins and ends with the entry of that, and no other change is beside it.
    OR NOT EXISTS (
        SELECT 1 FROM entries WHERE id = NEW.entry_id AND resource_type = 'policy' AND resource_id = NEW.id AND (
            (action = 'policy.updated' AND NEW.frozen_at IS OLD.frozen_at AND NEW.freeze_reason IS OLD.freeze_reason
                AND NEW.frozen_by_id IS OLD.frozen_by_id)
            OR (action = 'policy.frozen' AND OLD.frozen_at IS NULL AND NEW.frozen_at IS NOT NULL AND NEW.terms = OLD.terms)
            OR (action = 'policy.unfrozen' AND OLD.frozen_at IS NOT NULL AND NEW.frozen_at IS NULL AND NEW.terms = OLD.terms)))
BEGIN SELECT RAISE(ABORT, 'actas: the policy changes only with its version raised by one, and with the entry of it'); END;
CREATE TRIGGER policies_refuse_delete BEFORE DELETE ON policies
BEGIN SELECT RAISE(ABORT, 'actas: the policy is changed, never deleted'); END;

CREATE TRIGGER sessions_check_freeze BEFORE INSERT ON sessions
WHEN NEW.actor_id IS NOT NULL AND EXISTS (SELECT 1 FROM policies WHERE frozen_at IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'actas: impersonation is frozen'); END;

-- How far an impersonation goes, where it was started for less than all that its subject may: permissions, and `article:<id>`, with a space between them.
ALTER TABLE sessions ADD COLUMN bound_permissions TEXT CHECK (bound_permissions IS NULL OR actor_id IS NOT NULL);
ALTER TABLE sessions ADD COLUMN bound_resources TEXT CHECK (bound_resources IS NULL OR actor_id IS NOT NULL);
CREATE TRIGGER sessions_check_bounds BEFORE UPDATE ON sessions
WHEN NEW.bound_permissions IS NOT OLD.bound_permissions OR NEW.bound_resources IS NOT OLD.bound_resources
BEGIN SELECT RAISE(ABORT, 'actas: what a session was started with does not change'); END;
CREATE TRIGGER sessions_check_new_bounds BEFORE INSERT ON sessions
WHEN NEW.actor_id IS NULL AND (NEW.bound_permissions IS NOT NULL OR NEW.bound_resources IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'actas: only an impersonation has bounds'); END;

-- How many an actor started within the hour.
CREATE INDEX impersonations_by_start ON sessions (actor_id, started_at) WHERE actor_id IS NOT NULL;

-- An article that was deleted under an impersonation comes back by undoing that: under its id, after its last version, with the entry of it.
DROP TRIGGER articles_check_insert;
CREATE TRIGGER articles_check_insert BEFORE INSERT ON articles
WHEN NEW.version < 1 OR EXISTS (SELECT 1 FROM articles WHERE id = NEW.id OR rowid = NEW.rowid) OR NEW.editor_id = NEW.author_id
    OR EXISTS (SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version > NEW.version)
    OR NOT EXISTS (
        SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version = NEW.version AND resource_type = 'article'
            AND action = CASE WHEN NEW.version = 1 THEN 'article.created' ELSE 'article.restored' END)
    OR (NEW.version > 1 AND (NEW.status <> 'draft' OR NOT EXISTS (
        SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version = NEW.version - 1 AND action = 'article.deleted')))
BEGIN SELECT RAISE(ABORT, 'actas: an article begins with version 1 and its entry, or comes back with the entry of that'); END;

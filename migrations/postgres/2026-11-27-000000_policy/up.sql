-- What the office lays down about impersonation: one row. Its settings are one JSON object, so that a newer version may have more of them.
CREATE TABLE policies (
    id            TEXT COLLATE "C" PRIMARY KEY NOT NULL CHECK (id = 'policy'),
    terms         TEXT      NOT NULL,
    -- While it is frozen nobody acts as anybody.
    frozen_at     TIMESTAMP,
    freeze_reason TEXT,
    frozen_by_id  TEXT COLLATE "C" REFERENCES users (id),
    version       BIGINT    NOT NULL CHECK (version >= 1),
    updated_at    TIMESTAMP NOT NULL,
    -- No state of the row without the entry of its last change.
    entry_id      TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES entries (id),
    CHECK ((frozen_at IS NULL) = (freeze_reason IS NULL)),
    CHECK (frozen_by_id IS NULL OR frozen_at IS NOT NULL)
);

CREATE FUNCTION actas_check_policy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        -- The entry of an earlier change tells of that one.
        IF NEW.version <> OLD.version + 1 OR NEW.id <> OLD.id
            OR (SELECT seq FROM entries WHERE id = NEW.entry_id) <= (SELECT seq FROM entries WHERE id = OLD.entry_id) THEN
            RAISE EXCEPTION 'actas: the policy changes only with its version raised by one' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        -- A freeze begins and ends with the entry of that, and no other change is beside it.
        IF NOT EXISTS (
            SELECT 1 FROM entries WHERE id = NEW.entry_id AND resource_type = 'policy' AND resource_id = NEW.id AND (
                (action = 'policy.updated' AND NEW.frozen_at IS NOT DISTINCT FROM OLD.frozen_at
                    AND NEW.freeze_reason IS NOT DISTINCT FROM OLD.freeze_reason AND NEW.frozen_by_id IS NOT DISTINCT FROM OLD.frozen_by_id)
                OR (action = 'policy.frozen' AND OLD.frozen_at IS NULL AND NEW.frozen_at IS NOT NULL AND NEW.terms = OLD.terms)
                OR (action = 'policy.unfrozen' AND OLD.frozen_at IS NOT NULL AND NEW.frozen_at IS NULL AND NEW.terms = OLD.terms))) THEN
            RAISE EXCEPTION 'actas: the policy changes only with the entry of it' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    ELSIF NOT EXISTS (
        SELECT 1 FROM entries WHERE id = NEW.entry_id AND resource_type = 'policy' AND resource_id = NEW.id AND action = 'policy.created') THEN
        RAISE EXCEPTION 'actas: the policy begins with the entry of it' USING ERRCODE = 'integrity_constraint_violation';
    ELSIF NEW.version <> 1 OR NEW.frozen_at IS NOT NULL THEN
        RAISE EXCEPTION 'actas: the policy begins with version 1' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER policies_check BEFORE INSERT OR UPDATE ON policies FOR EACH ROW EXECUTE FUNCTION actas_check_policy();
CREATE TRIGGER policies_refuse_delete BEFORE DELETE ON policies
FOR EACH ROW EXECUTE FUNCTION actas_refuse('the policy is changed, never deleted');
CREATE TRIGGER policies_refuse_truncate BEFORE TRUNCATE ON policies
FOR EACH STATEMENT EXECUTE FUNCTION actas_refuse('the policy is changed, never deleted');

CREATE FUNCTION actas_check_freeze() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM policies WHERE frozen_at IS NOT NULL) THEN
        RAISE EXCEPTION 'actas: impersonation is frozen' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER sessions_check_freeze BEFORE INSERT ON sessions FOR EACH ROW WHEN (NEW.actor_id IS NOT NULL) EXECUTE FUNCTION actas_check_freeze();

-- How far an impersonation goes, where it was started for less than all that its subject may: permissions, and `article:<id>`, with a space between them.
ALTER TABLE sessions ADD COLUMN bound_permissions TEXT;
ALTER TABLE sessions ADD COLUMN bound_resources TEXT;
ALTER TABLE sessions ADD CONSTRAINT sessions_bounds_check CHECK (actor_id IS NOT NULL OR (bound_permissions IS NULL AND bound_resources IS NULL));
CREATE TRIGGER sessions_check_bounds BEFORE UPDATE ON sessions FOR EACH ROW
WHEN (NEW.bound_permissions IS DISTINCT FROM OLD.bound_permissions OR NEW.bound_resources IS DISTINCT FROM OLD.bound_resources)
EXECUTE FUNCTION actas_refuse('what a session was started with does not change');

-- How many an actor started within the hour.
CREATE INDEX impersonations_by_start ON sessions (actor_id, started_at) WHERE actor_id IS NOT NULL;

-- An article that was deleted under an impersonation comes back by undoing that: under its id, after its last version, with the entry of it.
CREATE FUNCTION actas_check_new_article() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.version < 1 OR EXISTS (SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version > NEW.version)
        OR NOT EXISTS (
            SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version = NEW.version AND resource_type = 'article'
                AND action = CASE WHEN NEW.version = 1 THEN 'article.created' ELSE 'article.restored' END)
        OR (NEW.version > 1 AND (NEW.status <> 'draft' OR NOT EXISTS (
            SELECT 1 FROM entries WHERE resource_id = NEW.id AND resource_version = NEW.version - 1 AND action = 'article.deleted'))) THEN
        RAISE EXCEPTION 'actas: an article begins with version 1 and its entry, or comes back with the entry of that'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
DROP TRIGGER articles_check_insert ON articles;
CREATE TRIGGER articles_check_insert BEFORE INSERT ON articles FOR EACH ROW EXECUTE FUNCTION actas_check_new_article();

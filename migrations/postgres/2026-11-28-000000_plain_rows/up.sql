-- As in `many_at_once`, with rows as Postgres writes them itself ("(a,b,)") where those had JSON, which takes it three times as long to read; and logging out learns of
-- its original session in the same statement. (The functions with JSON stay for servers that don't know these yet.)

-- Triggers of both tables change below, which waits for whoever uses them and holds off whoever comes. Some write sessions first and some entries, so whoever holds one of the tables must not
-- wait for the other: the first is given back after a moment, and both are asked for again.
DO $$
BEGIN
    LOOP
        BEGIN
            LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE;
            PERFORM set_config('lock_timeout', '50', true);
            LOCK TABLE entries IN ACCESS EXCLUSIVE MODE;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            -- Undone, as is the setting.
            PERFORM pg_sleep(0.01);
        END;
    END LOOP;
    PERFORM set_config('lock_timeout', '0', true);
END $$;

-- Types of their own: a table may get columns of which a server doesn't know yet.
CREATE TYPE actas_new_entry AS (
    id text, occurred_at timestamp, origin text, action text, resource_type text, resource_id text, resource_version bigint,
    subject_id text, subject_email text, subject_name text, actor_id text, actor_email text, actor_name text,
    impersonation_id text, note text, changes text, request_id text);
CREATE TYPE actas_new_impersonation AS (
    id text, subject_id text, actor_id text, original_session_id text, mode text, reason text, ticket text, bound_permissions text, bound_resources text,
    started_at timestamp, expires_at timestamp, way_kid text, way_signing_input text, way_challenge text, way_expires_at timestamp);

-- As it was, but for where a session is looked for among the locked ones: said of the row, all of them were read for each.
CREATE OR REPLACE FUNCTION actas_standing(
    p_locked text[], p_sessions text[], p_kids text[], p_subjects bigint[], p_actors bigint[], p_policies bigint[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    policy_now bigint := (SELECT version FROM policies WHERE id = 'policy');
    good_kids text[] := ARRAY(SELECT kid FROM keys WHERE kid = ANY (p_kids) AND retired_at IS NULL);
BEGIN
    RETURN ARRAY(
        SELECT asked.number
        FROM unnest(p_sessions, p_kids, p_subjects, p_actors, p_policies) WITH ORDINALITY AS asked (session, kid, subject, actor, policy, number)
        JOIN sessions AS own ON own.id = asked.session
        JOIN users AS subject ON subject.id = own.subject_id
        LEFT JOIN users AS actor ON actor.id = own.actor_id
        LEFT JOIN sessions AS original ON original.id = own.original_session_id
        -- Not `IS NULL`: while there are few, the index of open sessions looks as good as the one by id, and it is read whole.
        WHERE COALESCE(own.ended_at, 'infinity') = 'infinity' AND original.ended_at IS NULL
            AND asked.session = ANY (p_locked) AND (own.original_session_id IS NULL OR own.original_session_id = ANY (p_locked))
            AND subject.version = asked.subject AND actor.version IS NOT DISTINCT FROM asked.actor
            AND asked.kid = ANY (good_kids) AND asked.policy IS NOT DISTINCT FROM policy_now
        ORDER BY asked.number);
END $$;

-- Appends those of the entries whose numbers are given, in their order.
CREATE FUNCTION actas_append_rows(p_entries text[], p_numbers bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO entries (
        id, occurred_at, origin, action, resource_type, resource_id, resource_version, subject_id, subject_email, subject_name,
        actor_id, actor_email, actor_name, impersonation_id, note, changes, request_id)
    SELECT
        id, occurred_at, origin, action, resource_type, resource_id, resource_version, subject_id, subject_email, subject_name,
        actor_id, actor_email, actor_name, impersonation_id, note, changes, request_id
    FROM unnest(p_entries::actas_new_entry[]) WITH ORDINALITY AS given (
        id, occurred_at, origin, action, resource_type, resource_id, resource_version, subject_id, subject_email, subject_name,
        actor_id, actor_email, actor_name, impersonation_id, note, changes, request_id, number)
    WHERE given.number = ANY (p_numbers)
    ORDER BY given.number;
END $$;

-- Writes the texts of articles, whose versions are one above the rows', with their entries; answers the numbers of those that it wrote.
CREATE FUNCTION actas_save_rows(
    p_sessions text[], p_kids text[], p_subjects bigint[], p_actors bigint[], p_policies bigint[], p_entries text[],
    p_ids text[], p_versions bigint[], p_titles text[], p_abstracts text[], p_bodies text[], p_searches text[], p_updated_at timestamp[]
) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
DECLARE
    locked text[] := actas_lock_sessions(p_sessions);
    locked_articles text[] := ARRAY(SELECT id FROM articles WHERE id = ANY (p_ids) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED);
    standing bigint[] := actas_standing(locked, p_sessions, p_kids, p_subjects, p_actors, p_policies);
BEGIN
    -- One change of an article at a time.
    standing := ARRAY(
        SELECT DISTINCT ON (asked.id) asked.number
        FROM unnest(p_ids, p_versions) WITH ORDINALITY AS asked (id, version, number)
        JOIN articles ON articles.id = asked.id AND articles.version = asked.version - 1
        WHERE asked.number = ANY (standing) AND asked.id = ANY (locked_articles)
        ORDER BY asked.id, asked.number);
    PERFORM actas_append_rows(p_entries, standing);
    UPDATE articles SET title = asked.title, abstract = asked.abstract, body = asked.body, search = asked.search,
        version = asked.version, updated_at = asked.updated_at
    FROM unnest(p_ids, p_versions, p_titles, p_abstracts, p_bodies, p_searches, p_updated_at) WITH ORDINALITY
        AS asked (id, version, title, abstract, body, search, updated_at, number)
    WHERE articles.id = asked.id AND asked.number = ANY (standing);
    RETURN QUERY SELECT unnest(standing);
END $$;

-- Opens impersonations and their ways back, with their entries, and answers for each that it opened its number and the kid of the key that signs its token. What
-- they depend on stays as it is until this commits.
CREATE FUNCTION actas_start_rows(
    p_sessions text[], p_kids text[], p_subjects bigint[], p_actors bigint[], p_policies bigint[], p_entries text[],
    p_users text[], p_user_versions bigint[], p_impersonations text[], p_algorithm text
) RETURNS TABLE (started bigint, signer text) LANGUAGE plpgsql AS $$
DECLARE
    locked text[] := actas_lock_sessions(p_sessions);
    locked_policies bigint[] := ARRAY(SELECT version FROM policies WHERE id = 'policy' FOR SHARE SKIP LOCKED);
    locked_users text[] := ARRAY(
        SELECT id FROM users WHERE id = ANY (p_users || ARRAY(SELECT subject_id FROM sessions WHERE id = ANY (p_sessions)))
        ORDER BY id FOR SHARE SKIP LOCKED);
    locked_kids text[] := ARRAY(SELECT kid FROM keys WHERE kid = ANY (p_kids) ORDER BY kid FOR SHARE SKIP LOCKED);
    newest text := (
        SELECT kid FROM keys WHERE purpose = 'sign' AND algorithm = p_algorithm AND retired_at IS NULL
        ORDER BY created_at DESC, kid DESC LIMIT 1);
    standing bigint[] := actas_standing(locked, p_sessions, p_kids, p_subjects, p_actors, p_policies);
    opened actas_new_impersonation[] := p_impersonations::actas_new_impersonation[];
BEGIN
    IF newest IS NULL THEN
        RETURN;
    END IF;
    standing := ARRAY(
        SELECT asked.number
        FROM unnest(p_sessions, p_kids, p_users, p_user_versions, p_policies) WITH ORDINALITY
            AS asked (session, kid, subject, version, policy, number)
        JOIN users ON users.id = asked.subject AND users.version = asked.version
        JOIN sessions AS own ON own.id = asked.session
        WHERE asked.number = ANY (standing) AND asked.subject = ANY (locked_users) AND own.subject_id = ANY (locked_users)
            AND asked.kid = ANY (locked_kids) AND asked.policy = ANY (locked_policies)
        ORDER BY asked.number);
    PERFORM actas_append_rows(p_entries, standing);
    INSERT INTO sessions (id, subject_id, actor_id, original_session_id, mode, reason, ticket, bound_permissions, bound_resources,
        started_at, expires_at, last_used_at)
    SELECT id, subject_id, actor_id, original_session_id, mode, reason, ticket, bound_permissions, bound_resources, started_at, expires_at, started_at
    FROM unnest(opened) WITH ORDINALITY AS given (
        id, subject_id, actor_id, original_session_id, mode, reason, ticket, bound_permissions, bound_resources, started_at, expires_at,
        way_kid, way_signing_input, way_challenge, way_expires_at, number)
    WHERE given.number = ANY (standing);
    INSERT INTO ways_back (impersonation_id, kid, signing_input, challenge, expires_at)
    SELECT id, way_kid, way_signing_input, way_challenge, way_expires_at
    FROM unnest(opened) WITH ORDINALITY AS given (
        id, subject_id, actor_id, original_session_id, mode, reason, ticket, bound_permissions, bound_resources, started_at, expires_at,
        way_kid, way_signing_input, way_challenge, way_expires_at, number)
    WHERE given.number = ANY (standing);
    RETURN QUERY SELECT unnest(standing), newest;
END $$;

-- Ends impersonations with their entries, and answers for each that it ended its number, its way back, which is closed then, and what of its original session nobody
-- knows who knows the impersonation.
CREATE FUNCTION actas_leave_rows(
    p_sessions text[], p_kids text[], p_subjects bigint[], p_actors bigint[], p_policies bigint[], p_entries text[],
    p_ended_at timestamp[], p_ended_by text[], p_cause text
) RETURNS TABLE (
    ended bigint, way_kid text, signing_input text, challenge text, expires_at timestamp, original_started_at timestamp, original_last_used_at timestamp
) LANGUAGE plpgsql AS $$
DECLARE
    locked text[] := actas_lock_sessions(p_sessions);
    locked_ways text[] := ARRAY(
        SELECT impersonation_id FROM ways_back WHERE impersonation_id = ANY (p_sessions) ORDER BY impersonation_id FOR UPDATE SKIP LOCKED);
    standing bigint[] := actas_standing(locked, p_sessions, p_kids, p_subjects, p_actors, p_policies);
BEGIN
    -- Of many who end the same one, one does. A way back that somebody is closing is there still, and not locked.
    standing := ARRAY(
        SELECT DISTINCT ON (asked.session) asked.number FROM unnest(p_sessions) WITH ORDINALITY AS asked (session, number)
        WHERE asked.number = ANY (standing) AND (asked.session = ANY (locked_ways)
            OR NOT EXISTS (SELECT 1 FROM ways_back AS way WHERE way.impersonation_id = asked.session))
        ORDER BY asked.session, asked.number);
    PERFORM actas_append_rows(p_entries, standing);
    UPDATE sessions SET ended_at = asked.ended_at, end_cause = p_cause, ended_by_id = asked.ended_by
    FROM unnest(p_sessions, p_ended_at, p_ended_by) WITH ORDINALITY AS asked (session, ended_at, ended_by, number)
    WHERE sessions.id = asked.session AND asked.number = ANY (standing);
    -- Each session by a select of its own: joined, they are read whole while the planner believes that they are few.
    RETURN QUERY
        WITH leaving AS (
            SELECT asked.session, asked.number, (SELECT own.original_session_id FROM sessions AS own WHERE own.id = asked.session) AS original
            FROM unnest(p_sessions) WITH ORDINALITY AS asked (session, number) WHERE asked.number = ANY (standing)
        ),
        taken AS (DELETE FROM ways_back AS way USING leaving WHERE way.impersonation_id = leaving.session RETURNING way.*)
        SELECT leaving.number, taken.kid, taken.signing_input, taken.challenge, taken.expires_at,
            (SELECT original.started_at FROM sessions AS original WHERE original.id = leaving.original),
            (SELECT original.last_used_at FROM sessions AS original WHERE original.id = leaving.original)
        FROM leaving LEFT JOIN taken ON taken.impersonation_id = leaving.session;
END $$;

-- A function of a trigger costs more than what it looks for, so it is called only where there is something to look for, and once.
DROP TRIGGER entries_refuse_gap ON entries;
CREATE FUNCTION actas_check_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.resource_version <> 1 + COALESCE((SELECT MAX(resource_version) FROM entries WHERE resource_id = NEW.resource_id), 0) THEN
        RAISE EXCEPTION 'actas: an entry must carry the version after the last one' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER entries_refuse_gap BEFORE INSERT ON entries FOR EACH ROW WHEN (NEW.resource_version IS NOT NULL) EXECUTE FUNCTION actas_check_version();
-- OVERRIDING SYSTEM VALUE would put an entry where it likes.
CREATE TRIGGER entries_refuse_backdating BEFORE INSERT ON entries FOR EACH ROW WHEN (NEW.seq <> currval('entries_seq_seq'))
EXECUTE FUNCTION actas_refuse('an entry must come after the last one');
DROP FUNCTION actas_check_entry;

DROP TRIGGER sessions_check_insert ON sessions;
DROP TRIGGER sessions_check_freeze ON sessions;
CREATE FUNCTION actas_check_new_impersonation() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    original record;
BEGIN
    -- In one select, for the same reason. Found by its id: the planner takes the index of all open sessions, while there are few, for a condition on their end.
    SELECT subject_id, actor_id, ended_at, EXISTS (SELECT 1 FROM policies WHERE frozen_at IS NOT NULL) AS is_frozen
    INTO original FROM sessions WHERE id = NEW.original_session_id;
    IF NOT FOUND OR original.subject_id <> NEW.actor_id OR original.actor_id IS NOT NULL OR original.ended_at IS NOT NULL THEN
        RAISE EXCEPTION 'actas: an impersonation needs a live own session of its actor' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF original.is_frozen THEN
        RAISE EXCEPTION 'actas: impersonation is frozen' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER sessions_check_insert BEFORE INSERT ON sessions FOR EACH ROW WHEN (NEW.actor_id IS NOT NULL)
EXECUTE FUNCTION actas_check_new_impersonation();
DROP FUNCTION actas_check_new_session;
DROP FUNCTION actas_check_freeze;

-- What is asked for beside an id: of two lists of the same length, the item of the first at the place where the second has it.
CREATE FUNCTION actas_beside(p_items text[], p_ids text[], p_id text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT p_items[array_position(p_ids, p_id)]';

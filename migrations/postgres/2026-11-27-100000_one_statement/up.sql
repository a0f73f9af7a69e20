-- What is done most often, each in one statement: the caller has read everything before, decided by it, and names what it read. Under the locks that every
-- write takes it is looked at once more whether that still holds; if not, nothing is done, and the caller begins again, statement by statement.

-- Locks a session as every write of it does, its original first.
CREATE FUNCTION actas_lock_session(p_session text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM sessions WHERE id = (SELECT original_session_id FROM sessions WHERE id = p_session) FOR NO KEY UPDATE;
    PERFORM 1 FROM sessions WHERE id = p_session FOR NO KEY UPDATE;
END $$;

-- Whether a session is open, its key counts, and its people and the policy are as they were read. Nothing else of it can change but when it was last used.
CREATE FUNCTION actas_stands(p_session text, p_kid text, p_subject bigint, p_actor bigint, p_policy bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN EXISTS (
        SELECT 1 FROM sessions AS own
        JOIN users AS subject ON subject.id = own.subject_id
        LEFT JOIN users AS actor ON actor.id = own.actor_id
        LEFT JOIN sessions AS original ON original.id = own.original_session_id
        WHERE own.id = p_session AND own.ended_at IS NULL AND original.ended_at IS NULL
            AND subject.version = p_subject AND actor.version IS NOT DISTINCT FROM p_actor
            AND EXISTS (SELECT 1 FROM keys WHERE kid = p_kid AND retired_at IS NULL)
            AND (SELECT version FROM policies WHERE id = 'policy') IS NOT DISTINCT FROM p_policy);
END $$;

CREATE FUNCTION actas_append(p_entry json) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO entries (
        id, occurred_at, origin, action, resource_type, resource_id, resource_version, subject_id, subject_email, subject_name,
        actor_id, actor_email, actor_name, impersonation_id, note, changes, request_id)
    SELECT
        id, occurred_at, origin, action, resource_type, resource_id, resource_version, subject_id, subject_email, subject_name,
        actor_id, actor_email, actor_name, impersonation_id, note, changes, request_id
    FROM json_populate_record(NULL::entries, p_entry);
END $$;

-- Writes an article, whose version is one above the row's, with its entry; false where something is no longer as it was read.
CREATE FUNCTION actas_save_article(
    p_session text, p_kid text, p_subject bigint, p_actor bigint, p_policy bigint, p_entry json,
    p_id text, p_version bigint, p_title text, p_abstract text, p_body text, p_search text, p_status text, p_editor text, p_updated_at timestamp
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM actas_lock_session(p_session);
    PERFORM 1 FROM articles WHERE id = p_id AND version = p_version - 1 FOR NO KEY UPDATE;
    IF NOT FOUND OR NOT actas_stands(p_session, p_kid, p_subject, p_actor, p_policy) THEN
        RETURN false;
    END IF;
    PERFORM actas_append(p_entry);
    UPDATE articles SET title = p_title, abstract = p_abstract, body = p_body, search = p_search, status = p_status, editor_id = p_editor,
        version = p_version, updated_at = p_updated_at
    WHERE id = p_id;
    RETURN true;
END $$;

-- Opens an impersonation and its way back, with its entry, and answers the kid of the key that signs its token; nothing where something is no longer as it was
-- read. What it depends on stays as it is until it commits: locked in the order in which every start locks it.
CREATE FUNCTION actas_start(
    p_session text, p_kid text, p_subject bigint, p_actor bigint, p_policy bigint, p_entry json,
    p_user text, p_user_version bigint, p_impersonation json, p_way_back json, p_algorithm text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    signer text;
BEGIN
    PERFORM actas_lock_session(p_session);
    PERFORM 1 FROM policies FOR SHARE;
    PERFORM 1 FROM users WHERE id = (SELECT subject_id FROM sessions WHERE id = p_session) FOR SHARE;
    PERFORM 1 FROM users WHERE id = p_user AND version = p_user_version FOR SHARE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM 1 FROM keys WHERE kid = p_kid FOR SHARE;
    signer := (
        SELECT kid FROM keys WHERE purpose = 'sign' AND algorithm = p_algorithm AND retired_at IS NULL
        ORDER BY created_at DESC, kid DESC LIMIT 1);
    IF signer IS NULL OR NOT actas_stands(p_session, p_kid, p_subject, p_actor, p_policy) THEN
        RETURN NULL;
    END IF;
    PERFORM actas_append(p_entry);
    INSERT INTO sessions (id, subject_id, actor_id, original_session_id, mode, reason, ticket, bound_permissions, bound_resources,
        started_at, expires_at, last_used_at)
    SELECT id, subject_id, actor_id, original_session_id, mode, reason, ticket, bound_permissions, bound_resources,
        started_at, expires_at, last_used_at
    FROM json_populate_record(NULL::sessions, p_impersonation);
    INSERT INTO ways_back (impersonation_id, kid, signing_input, challenge, expires_at)
    SELECT impersonation_id, kid, signing_input, challenge, expires_at FROM json_populate_record(NULL::ways_back, p_way_back);
    RETURN signer;
END $$;

-- Ends an impersonation with its entry, and answers its way back, which is closed then, as one row; no row where something is no longer as it was read.
CREATE FUNCTION actas_leave(
    p_session text, p_kid text, p_subject bigint, p_actor bigint, p_policy bigint, p_entry json, p_ended_at timestamp, p_cause text, p_ended_by text
) RETURNS TABLE (way_kid text, signing_input text, challenge text, expires_at timestamp) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM actas_lock_session(p_session);
    IF NOT actas_stands(p_session, p_kid, p_subject, p_actor, p_policy) THEN
        RETURN;
    END IF;
    PERFORM actas_append(p_entry);
    UPDATE sessions SET ended_at = p_ended_at, end_cause = p_cause, ended_by_id = p_ended_by WHERE sessions.id = p_session;
    RETURN QUERY
        WITH taken AS (DELETE FROM ways_back AS way WHERE way.impersonation_id = p_session RETURNING way.*)
        SELECT taken.kid, taken.signing_input, taken.challenge, taken.expires_at FROM (SELECT 1) AS one LEFT JOIN taken ON true;
END $$;

-- As it was, but for the sequence, which is named: to look for its name took longer than all the rest.
CREATE OR REPLACE FUNCTION actas_check_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.resource_version IS NOT NULL AND NEW.resource_version
        <> 1 + COALESCE((SELECT MAX(resource_version) FROM entries WHERE resource_id = NEW.resource_id), 0) THEN
        RAISE EXCEPTION 'actas: an entry must carry the version after the last one' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    -- OVERRIDING SYSTEM VALUE would put an entry where it likes.
    IF NEW.seq <> currval('entries_seq_seq') THEN
        RAISE EXCEPTION 'actas: an entry must come after the last one' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

-- Which key signs: the newest of an algorithm that was not retired.
CREATE INDEX keys_by_use ON keys (purpose, algorithm, created_at, kid);
-- Whose way back leads to a token of a key.
CREATE INDEX ways_back_by_kid ON ways_back (kid);

CREATE FUNCTION actas_check_new_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.retired_at IS NOT NULL OR NOT EXISTS (
        SELECT 1 FROM entries WHERE resource_id = NEW.kid AND resource_type = 'key' AND action IN ('key.created', 'key.imported')) THEN
        RAISE EXCEPTION 'actas: a new key must not be retired, and have its entry' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
-- Only how a key is stored may change, and it may be retired, once and for good. A retired key has no private half.
CREATE FUNCTION actas_check_changed_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.retired_at IS NOT NULL OR NEW.kid <> OLD.kid OR NEW.purpose <> OLD.purpose OR NEW.algorithm <> OLD.algorithm
        OR NEW.created_at <> OLD.created_at
        OR (NEW.retired_at IS NOT NULL AND (NEW.private_key <> '' OR NOT EXISTS (
            SELECT 1 FROM entries WHERE resource_id = NEW.kid AND resource_type = 'key' AND action = 'key.retired'))) THEN
        RAISE EXCEPTION 'actas: a key stays what it is, is retired only with the entry of it, and never comes back'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keys_check_insert BEFORE INSERT ON keys FOR EACH ROW EXECUTE FUNCTION actas_check_new_key();
CREATE TRIGGER keys_check_update BEFORE UPDATE ON keys FOR EACH ROW EXECUTE FUNCTION actas_check_changed_key();
CREATE TRIGGER keys_refuse_delete BEFORE DELETE ON keys
FOR EACH ROW EXECUTE FUNCTION actas_refuse('keys are retired, never deleted');
CREATE TRIGGER keys_refuse_truncate BEFORE TRUNCATE ON keys
FOR EACH STATEMENT EXECUTE FUNCTION actas_refuse('keys are retired, never deleted');

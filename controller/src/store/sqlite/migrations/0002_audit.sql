-- The audit log. Each hash covers the row before it.
CREATE TABLE audit (
    sequence  INTEGER PRIMARY KEY NOT NULL CHECK (sequence > 0),
    at        INTEGER NOT NULL,
    principal TEXT NOT NULL,
    address   TEXT NOT NULL,
    method    TEXT NOT NULL,
    agent     TEXT NOT NULL,
    target    TEXT NOT NULL,
    outcome   INTEGER NOT NULL,
    code      INTEGER NOT NULL,
    reason    TEXT NOT NULL,
    begun     INTEGER NOT NULL,
    hash      TEXT NOT NULL
) STRICT;

CREATE TRIGGER audit_is_not_edited BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
CREATE TRIGGER audit_is_not_inserted_into BEFORE INSERT ON audit
WHEN NEW.sequence <= (SELECT max(sequence) FROM audit)
BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
CREATE INDEX audit_principal ON audit (principal, sequence);
CREATE INDEX audit_agent ON audit (agent, sequence);

-- Times are unix milliseconds, labels are JSON objects, hashes are SHA-256 in lower-case hex.

CREATE TABLE users (
    id            TEXT PRIMARY KEY NOT NULL,
    name          TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    role          TEXT NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE refresh_tokens (
    hash       TEXT PRIMARY KEY NOT NULL,
    family     TEXT NOT NULL,
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER,
    -- Set on the whole family when one of it was used twice.
    revoked_at INTEGER
) STRICT;
CREATE INDEX refresh_tokens_family ON refresh_tokens (family);
CREATE INDEX refresh_tokens_user_id ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_expires_at ON refresh_tokens (expires_at);

CREATE TABLE join_tokens (
    id          TEXT PRIMARY KEY NOT NULL,
    secret_hash TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    max_uses    INTEGER NOT NULL,
    uses        INTEGER NOT NULL DEFAULT 0 CHECK (uses BETWEEN 0 AND max_uses),
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    labels      TEXT NOT NULL,
    created_by  TEXT NOT NULL
) STRICT;

CREATE TABLE agents (
    id                     TEXT PRIMARY KEY NOT NULL,
    name                   TEXT NOT NULL UNIQUE,
    labels                 TEXT NOT NULL,
    standing               TEXT NOT NULL CHECK (standing IN ('active', 'locked', 'revoked')),
    standing_reason        TEXT NOT NULL,
    -- No foreign key: tokens go, hosts stay. The hash lets a host that lost the answer to its
    -- enrolment ask again however much later, even when the token itself is forgotten.
    join_token_id          TEXT NOT NULL,
    join_secret_hash       TEXT NOT NULL,
    key_fingerprint        TEXT NOT NULL UNIQUE,
    generation_issued      INTEGER NOT NULL,
    generation_confirmed   INTEGER NOT NULL,
    certificate_expires_at INTEGER NOT NULL,
    enrolled_at            INTEGER NOT NULL,
    last_seen_at           INTEGER,
    epoch                  INTEGER NOT NULL,
    version                TEXT NOT NULL,
    platform               TEXT NOT NULL,
    address                TEXT NOT NULL,
    -- Counts the writes to the row, but not those of last_seen_at alone.
    revision               INTEGER NOT NULL,
    CHECK (generation_confirmed <= generation_issued)
) STRICT;

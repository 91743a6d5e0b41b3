-- Who a user is at the OpenID provider: issuer, a space, subject.
ALTER TABLE users ADD COLUMN oidc_subject TEXT;
CREATE UNIQUE INDEX users_oidc_subject ON users (oidc_subject);

-- When a login ends however often it is used.
ALTER TABLE refresh_tokens ADD COLUMN ends_at INTEGER;

-- Domains and their life, certificate versions with their keys, answers, history.
-- Times are RFC 3339 in UTC, so they sort as text.
CREATE TABLE domain (
    name        TEXT PRIMARY KEY,
    state       TEXT NOT NULL,
    since       TEXT NOT NULL,
    version     INTEGER NOT NULL DEFAULT 0,   -- newest certificate version, 0 = none
    attempts    INTEGER NOT NULL DEFAULT 0,   -- failures since the last success
    last_error  TEXT,
    retry_at    TEXT
) STRICT;

CREATE TABLE certificate (
    domain      TEXT NOT NULL REFERENCES domain (name) ON DELETE CASCADE,
    version     INTEGER NOT NULL,
    names       TEXT NOT NULL,                -- JSON array of SANs
    serial      TEXT NOT NULL,
    issuer      TEXT NOT NULL,
    not_before  TEXT NOT NULL,
    not_after   TEXT NOT NULL,
    key_type    TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    PRIMARY KEY (domain, version)
) STRICT;

-- Apart from the facts above, so that listing 10,000 certificates never reads a key.
CREATE TABLE pem (
    domain      TEXT NOT NULL,
    version     INTEGER NOT NULL,
    fullchain   TEXT NOT NULL,
    private_key TEXT NOT NULL,
    PRIMARY KEY (domain, version),
    FOREIGN KEY (domain, version) REFERENCES certificate (domain, version) ON DELETE CASCADE
) STRICT;

CREATE TABLE approval (
    domain      TEXT PRIMARY KEY,
    approved    INTEGER NOT NULL,
    at          TEXT NOT NULL
) STRICT;

CREATE TABLE event (
    id          INTEGER PRIMARY KEY,
    at          TEXT NOT NULL,
    domain      TEXT NOT NULL,
    step        TEXT NOT NULL,
    ok          INTEGER NOT NULL,
    slug        TEXT,
    detail      TEXT NOT NULL
) STRICT;

CREATE INDEX event_domain ON event (domain, id);

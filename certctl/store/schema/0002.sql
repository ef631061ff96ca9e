-- The ledger of what the CA counted, when the CA wants renewals, and how a wildcard proves itself.
CREATE TABLE spend (
    at          TEXT NOT NULL,
    bucket      TEXT NOT NULL,
    key         TEXT NOT NULL
) STRICT;

CREATE INDEX spend_bucket ON spend (bucket, key, at);

-- ARI (RFC 9773): the moment chosen in the CA's window, NULL when it offers none, and when to ask again.
CREATE TABLE suggestion (
    domain      TEXT NOT NULL,
    version     INTEGER NOT NULL,
    renew_at    TEXT,
    ask_at      TEXT NOT NULL,
    PRIMARY KEY (domain, version),
    FOREIGN KEY (domain, version) REFERENCES certificate (domain, version) ON DELETE CASCADE
) STRICT;

ALTER TABLE domain ADD COLUMN solver TEXT;  -- JSON; NULL is HTTP-01

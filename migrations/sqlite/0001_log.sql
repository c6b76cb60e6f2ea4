-- The log. Times are milliseconds since 1970, by this database's clock.

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    -- The name as names are compared.
    folded TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    token_version INTEGER NOT NULL DEFAULT 0,
    -- 0 no, 1 yes, 2 for good: the account is deleted.
    disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1, 2))
) STRICT;

-- A friendship is two rows, one each way. A request is one: `friend` has asked `user`. So whatever concerns a user is
-- found under that user.
CREATE TABLE friends (
    user INTEGER NOT NULL REFERENCES users (id),
    friend INTEGER NOT NULL REFERENCES users (id),
    -- 0 asked, 1 friends.
    state INTEGER NOT NULL CHECK (state IN (0, 1)),
    PRIMARY KEY (user, friend),
    CHECK (user <> friend)
) STRICT, WITHOUT ROWID;

CREATE INDEX friends_asked ON friends (friend) WHERE state = 0;

-- Whom a user has blocked. Most senders are blocked by nobody, and this order tells so with one look.
CREATE TABLE blocks (
    user INTEGER NOT NULL REFERENCES users (id),
    blocked INTEGER NOT NULL REFERENCES users (id),
    PRIMARY KEY (blocked, user),
    CHECK (user <> blocked)
) STRICT, WITHOUT ROWID;

CREATE TABLE conversations (
    id INTEGER PRIMARY KEY,
    -- 0 direct, 1 group.
    kind INTEGER NOT NULL,
    head INTEGER NOT NULL DEFAULT 0,
    changed_at INTEGER NOT NULL,
    owner INTEGER REFERENCES users (id),
    name TEXT NOT NULL DEFAULT '',
    -- A group's name as names are compared.
    folded TEXT NOT NULL DEFAULT '',
    description TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX conversations_changed ON conversations (changed_at);
CREATE INDEX groups_by_name ON conversations (folded) WHERE kind = 1;

-- One direct conversation per pair of users.
CREATE TABLE directs (
    low INTEGER NOT NULL REFERENCES users (id),
    high INTEGER NOT NULL REFERENCES users (id),
    conversation INTEGER NOT NULL REFERENCES conversations (id),
    PRIMARY KEY (low, high),
    CHECK (low < high)
) STRICT, WITHOUT ROWID;

CREATE TABLE members (
    conversation INTEGER NOT NULL REFERENCES conversations (id),
    user INTEGER NOT NULL REFERENCES users (id),
    joined_seq INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    read INTEGER NOT NULL,
    added_at INTEGER NOT NULL,
    PRIMARY KEY (conversation, user)
) STRICT, WITHOUT ROWID;

CREATE INDEX members_by_user ON members (user, conversation);
CREATE INDEX members_added ON members (added_at);

-- Append-only, in the order of id: a table clustered by conversation writes several times as many pages. No foreign
-- keys, because the transaction that inserts has just read the conversation and the membership, and each would cost two
-- more look-ups per message.
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    sender INTEGER NOT NULL,
    key TEXT NOT NULL,
    -- 0 text, 1 join, 2 leave.
    kind INTEGER NOT NULL,
    body TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX messages_by_seq ON messages (conversation, seq);
CREATE UNIQUE INDEX messages_by_key ON messages (sender, key);

-- Which users have sessions on which node, one row for any number of sessions.
CREATE TABLE presence (
    user INTEGER NOT NULL,
    node TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (user, node)
) STRICT, WITHOUT ROWID;

CREATE INDEX presence_by_node ON presence (node);

CREATE TABLE nodes (
    node TEXT NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL,
    holder TEXT NOT NULL,
    tcp TEXT NOT NULL,
    http TEXT NOT NULL,
    weight INTEGER NOT NULL,
    -- starting, ready, draining, stopped or expired.
    state TEXT NOT NULL,
    bus_ok INTEGER NOT NULL,
    heard_at INTEGER,
    dirty_since INTEGER,
    sessions INTEGER NOT NULL,
    beat_at INTEGER NOT NULL,
    lease_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The log. Times are milliseconds since 1970, by this server's clock. What a client may fill with any character at all,
-- zero included, is BYTEA holding UTF-8, because TEXT cannot keep a zero.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BYTEA NOT NULL
);

CREATE TABLE users (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL,
    -- The name as names are compared. The server must not fold it again by a language of its own.
    folded TEXT COLLATE "C" NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    token_version BIGINT NOT NULL DEFAULT 0,
    -- 0 no, 1 yes, 2 for good: the account is deleted.
    disabled BIGINT NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1, 2))
);

-- A friendship is two rows, one each way. A request is one: `friend` has asked `user_id`. So whatever concerns a user is
-- found under that user.
CREATE TABLE friends (
    user_id BIGINT NOT NULL REFERENCES users (id),
    friend BIGINT NOT NULL REFERENCES users (id),
    -- 0 asked, 1 friends.
    state BIGINT NOT NULL CHECK (state IN (0, 1)),
    PRIMARY KEY (user_id, friend),
    CHECK (user_id <> friend)
);

CREATE INDEX friends_asked ON friends (friend) WHERE state = 0;

-- Whom a user has blocked. Most senders are blocked by nobody, and this order tells so with one look.
CREATE TABLE blocks (
    user_id BIGINT NOT NULL REFERENCES users (id),
    blocked BIGINT NOT NULL REFERENCES users (id),
    PRIMARY KEY (blocked, user_id),
    CHECK (user_id <> blocked)
);

-- Named, because new direct conversations are numbered before they are inserted.
CREATE SEQUENCE conversation_ids AS BIGINT;

CREATE TABLE conversations (
    id BIGINT PRIMARY KEY DEFAULT nextval('conversation_ids'),
    -- 0 direct, 1 group.
    kind BIGINT NOT NULL,
    head BIGINT NOT NULL DEFAULT 0,
    changed_at BIGINT NOT NULL,
    owner BIGINT REFERENCES users (id),
    name BYTEA NOT NULL DEFAULT '',
    -- A group's name as names are compared.
    folded BYTEA NOT NULL DEFAULT '',
    description BYTEA NOT NULL DEFAULT ''
);

ALTER SEQUENCE conversation_ids OWNED BY conversations.id;
CREATE INDEX conversations_changed ON conversations (changed_at);
CREATE INDEX groups_by_name ON conversations (folded, id) WHERE kind = 1;

-- One direct conversation per pair of users.
CREATE TABLE directs (
    low BIGINT NOT NULL REFERENCES users (id),
    high BIGINT NOT NULL REFERENCES users (id),
    conversation BIGINT NOT NULL REFERENCES conversations (id),
    PRIMARY KEY (low, high),
    CHECK (low < high)
);

-- Cursors move all the time and are in no index: with room left on the page the new version of a row stays there.
CREATE TABLE members (
    conversation BIGINT NOT NULL REFERENCES conversations (id),
    user_id BIGINT NOT NULL REFERENCES users (id),
    joined_seq BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    read BIGINT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (conversation, user_id)
) WITH (fillfactor = 80);

CREATE INDEX members_by_user ON members (user_id, conversation);
CREATE INDEX members_added ON members (added_at);

-- Append-only. No foreign keys, because the transaction that inserts has just read the conversation and the membership,
-- and each would cost two more look-ups per message.
CREATE TABLE messages (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    sender BIGINT NOT NULL,
    key BYTEA NOT NULL,
    -- 0 text, 1 join, 2 leave.
    kind BIGINT NOT NULL,
    body BYTEA NOT NULL,
    at BIGINT NOT NULL
);

CREATE UNIQUE INDEX messages_by_seq ON messages (conversation, seq);
CREATE UNIQUE INDEX messages_by_key ON messages (sender, key);

-- Which users have sessions on which node, one row for any number of sessions.
CREATE TABLE presence (
    user_id BIGINT NOT NULL,
    node TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (user_id, node)
);

CREATE INDEX presence_by_node ON presence (node);

-- Every node writes its row every second.
CREATE TABLE nodes (
    node TEXT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    holder TEXT NOT NULL,
    tcp TEXT NOT NULL,
    http TEXT NOT NULL,
    weight BIGINT NOT NULL,
    -- starting, ready, draining, stopped or expired.
    state TEXT NOT NULL,
    bus_ok BOOLEAN NOT NULL,
    heard_at BIGINT,
    dirty_since BIGINT,
    sessions BIGINT NOT NULL,
    beat_at BIGINT NOT NULL,
    lease_until BIGINT NOT NULL
) WITH (fillfactor = 10);

-- The log. Times are milliseconds since 1970, by this server's clock. Texts are VARBINARY or BLOB holding UTF-8: compared
-- byte by byte, neither folded nor padded by a collation. Every table is clustered on its primary key, and so is every
-- other index behind it, so that primary keys are narrow.

CREATE TABLE meta (
    name VARBINARY(64) NOT NULL PRIMARY KEY,
    value VARBINARY(1024) NOT NULL
) ENGINE = InnoDB;

CREATE TABLE users (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name VARBINARY(512) NOT NULL,
    -- The name as names are compared.
    folded VARBINARY(512) NOT NULL UNIQUE,
    password_hash VARBINARY(1024) NOT NULL,
    token_version BIGINT NOT NULL DEFAULT 0,
    -- 0 no, 1 yes, 2 for good: the account is deleted.
    disabled BIGINT NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1, 2))
) ENGINE = InnoDB;

-- A friendship is two rows, one each way. A request is one: `friend` has asked `user_id`. So whatever concerns a user is
-- found under that user.
CREATE TABLE friends (
    user_id BIGINT NOT NULL,
    friend BIGINT NOT NULL,
    -- 0 asked, 1 friends.
    state BIGINT NOT NULL CHECK (state IN (0, 1)),
    PRIMARY KEY (user_id, friend),
    KEY friends_asked (friend, state),
    CHECK (user_id <> friend),
    FOREIGN KEY (user_id) REFERENCES users (id),
    FOREIGN KEY (friend) REFERENCES users (id)
) ENGINE = InnoDB;

-- Whom a user has blocked. Most senders are blocked by nobody, and this order tells so with one look.
CREATE TABLE blocks (
    user_id BIGINT NOT NULL,
    blocked BIGINT NOT NULL,
    PRIMARY KEY (blocked, user_id),
    CHECK (user_id <> blocked),
    FOREIGN KEY (user_id) REFERENCES users (id),
    FOREIGN KEY (blocked) REFERENCES users (id)
) ENGINE = InnoDB;

CREATE TABLE conversations (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    -- 0 direct, 1 group.
    kind BIGINT NOT NULL,
    head BIGINT NOT NULL DEFAULT 0,
    changed_at BIGINT NOT NULL,
    owner BIGINT,
    -- The two users of a direct conversation, of which there is one per pair.
    low BIGINT,
    high BIGINT,
    name VARBINARY(1024) NOT NULL DEFAULT '',
    -- A group's name as names are compared.
    folded VARBINARY(2048) NOT NULL DEFAULT '',
    description VARBINARY(8192) NOT NULL DEFAULT '',
    KEY conversations_changed (changed_at),
    KEY groups_by_name (kind, folded, id),
    UNIQUE KEY directs (low, high),
    CHECK (low < high),
    FOREIGN KEY (owner) REFERENCES users (id),
    FOREIGN KEY (low) REFERENCES users (id),
    FOREIGN KEY (high) REFERENCES users (id)
) ENGINE = InnoDB;

CREATE TABLE members (
    conversation BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    joined_seq BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    `read` BIGINT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (conversation, user_id),
    KEY members_by_user (user_id, conversation),
    KEY members_added (added_at),
    FOREIGN KEY (conversation) REFERENCES conversations (id),
    FOREIGN KEY (user_id) REFERENCES users (id)
) ENGINE = InnoDB;

-- Append-only, in the order of id: a table clustered by conversation writes several times as many pages. No foreign
-- keys, because the transaction that inserts has just read the conversation and the membership, and each would cost a
-- look-up and a lock per message.
CREATE TABLE messages (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    sender BIGINT NOT NULL,
    `key` VARBINARY(64) NOT NULL,
    -- 0 text, 1 join, 2 leave.
    kind BIGINT NOT NULL,
    body MEDIUMBLOB NOT NULL,
    at BIGINT NOT NULL,
    UNIQUE KEY messages_by_seq (conversation, seq),
    UNIQUE KEY messages_by_key (sender, `key`)
) ENGINE = InnoDB;

-- Which users have sessions on which node, one row for any number of sessions.
CREATE TABLE presence (
    user_id BIGINT NOT NULL,
    node VARBINARY(64) NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (user_id, node),
    KEY presence_by_node (node)
) ENGINE = InnoDB;

CREATE TABLE nodes (
    node VARBINARY(64) NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    holder VARBINARY(1024) NOT NULL,
    tcp VARBINARY(1024) NOT NULL,
    http VARBINARY(1024) NOT NULL,
    weight BIGINT NOT NULL,
    -- starting, ready, draining, stopped or expired.
    state VARBINARY(16) NOT NULL,
    bus_ok BIGINT NOT NULL,
    heard_at BIGINT,
    dirty_since BIGINT,
    sessions BIGINT NOT NULL,
    beat_at BIGINT NOT NULL,
    lease_until BIGINT NOT NULL
) ENGINE = InnoDB;

-- When an operator asked the process that holds the row to drain; the next claim forgets it.
ALTER TABLE nodes ADD COLUMN drain_asked_at BIGINT;

-- Secrets, encrypted by the server before they come here; and the names of people, which no event holds.

CREATE TABLE vault (
    workspace  text NOT NULL,
    reference  text NOT NULL,
    nonce      bytea NOT NULL,
    ciphertext bytea NOT NULL,
    PRIMARY KEY (workspace, reference)
);

CREATE TABLE people (
    user_id text PRIMARY KEY,
    name    text NOT NULL UNIQUE,
    mail    text
);

"""The tables of ``ownership.db``. Migrations only ever go forward: append, never change one that has been released."""

from typing import Final

_FIRST: Final = (
    """CREATE TABLE association (
        association_id TEXT PRIMARY KEY,
        batches INTEGER NOT NULL DEFAULT 0  -- made so far, also those that are gone
    ) WITHOUT ROWID""",
    """CREATE TABLE owner (
        owner_id INTEGER PRIMARY KEY,
        workflow_id TEXT NOT NULL,
        run_id TEXT NOT NULL,
        group_number INTEGER NOT NULL,
        restart TEXT,                       -- SubmissionInput as JSON
        since_ns INTEGER NOT NULL,
        UNIQUE (workflow_id, run_id, group_number)
    )""",
    """CREATE TABLE batch (
        batch_id TEXT PRIMARY KEY,
        association_id TEXT NOT NULL REFERENCES association,
        number INTEGER NOT NULL,
        workflow_id TEXT NOT NULL,          -- where it is addressed
        receive_input TEXT NOT NULL,        -- ReceiveInput as JSON
        instances INTEGER NOT NULL,         -- when it was made
        made_ns INTEGER NOT NULL,
        handed_over_ns INTEGER,             -- Temporal has accepted the signal
        owner_id INTEGER REFERENCES owner,  -- who has claimed it
        UNIQUE (association_id, number)
    )""",
    "CREATE INDEX batch_owner ON batch (owner_id)",
    "CREATE INDEX batch_workflow ON batch (workflow_id)",
    "CREATE INDEX batch_unhanded ON batch (made_ns) WHERE handed_over_ns IS NULL",
    "CREATE INDEX batch_sender ON batch (json_extract(receive_input, '$.sender_key'))",
    """CREATE TABLE instance (
        association_id TEXT NOT NULL REFERENCES association,
        sequence INTEGER NOT NULL,
        received_ns INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        sop_class_uid TEXT NOT NULL,
        sop_instance_uid TEXT NOT NULL,
        transfer_syntax_uid TEXT NOT NULL,
        study_instance_uid TEXT NOT NULL,
        series_instance_uid TEXT NOT NULL,
        readable INTEGER NOT NULL,
        batch_id TEXT REFERENCES batch,
        released INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (association_id, sequence)
    ) WITHOUT ROWID""",
    "CREATE INDEX instance_batch ON instance (batch_id)",
    "CREATE INDEX instance_released ON instance (association_id) WHERE released",
    """CREATE TABLE told_end (               -- workflows that know that an association has ended
        association_id TEXT NOT NULL REFERENCES association,
        workflow_id TEXT NOT NULL,
        PRIMARY KEY (association_id, workflow_id)
    ) WITHOUT ROWID""",
    """CREATE TABLE moved (                  -- so that a transfer asked for again gives the same answer
        from_owner INTEGER NOT NULL REFERENCES owner,
        to_owner INTEGER NOT NULL REFERENCES owner,
        instances INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (from_owner, to_owner)
    ) WITHOUT ROWID""",
)

MIGRATIONS: Final = (_FIRST,)
"""The statements of each version; ``PRAGMA user_version`` counts how many have been applied."""

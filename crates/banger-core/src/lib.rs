//! Decisions of banger's daemon without effects: VM state machine, request queue, plans, and the ports they act through.

//! Programs that cannot be read or run: one sentence each.

//! Words that must not come back.

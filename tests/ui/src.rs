//! Only its tests matter: see `tests/ui.rs`.

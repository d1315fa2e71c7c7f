//! On whose behalf an administrator does something.

/// The key of [metadata](crate::Call::metadata) by which a call of [`AdminClient`](crate::AdminClient) says on whose behalf it is
/// made: a page with users of its own names them so. The audit log has it as `on_behalf_of`.
pub const ON_BEHALF_OF: &str = "on-behalf-of";

//! Whose a file with a secret is: one that others could have written is nobody's secret.

use std::path::Path;

/// Refuses a file that somebody else owns or can write to. A process of root's has to do with the files of others, so there
/// the owner does not matter; nor does root as the owner.
#[cfg(unix)]
pub(super) fn check_owner(file: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    // Whoever reads it next says what is wrong, if it is not there.
    let Ok(metadata) = std::fs::metadata(file) else { return Ok(()) };
    let user = rustix::process::geteuid();
    let owner = metadata.uid();
    if !user.is_root() && owner != user.as_raw() && owner != 0 {
        return Err(format!("it belongs to user {owner}, who may have put it there; `chown` it to your own"));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err("others than its owner can write to it; `chmod 600` it".to_owned());
    }
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn check_owner(_: &Path) -> Result<(), String> {
    Ok(())
}

/// Warns, at a start, where others than the owner can read it.
pub(crate) fn warn_if_readable(file: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if std::fs::metadata(file).is_ok_and(|metadata| metadata.mode() & 0o044 != 0) {
            tracing::warn!(file = %file.display(), "others than its owner can read this secret; `chmod 600` it");
        }
    }
    #[cfg(not(unix))]
    let _ = file;
}

//! Reads and writes files of secrets and of trust.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::error::FileError;
#[cfg(not(unix))]
use super::other as system;
#[cfg(unix)]
use super::unix as system;

/// More than any file of tokens or authorities takes; a bundle of all public authorities has a quarter of it.
pub(super) const LARGEST: u64 = 1 << 20;

/// The contents of a file when it was read. Wiped from memory when dropped.
pub(crate) struct Contents {
    file: PathBuf,
    bytes: Zeroizing<Vec<u8>>,
    pub(super) others_can_read: bool,
}

impl Contents {
    /// The path by which it was read.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Warns if users other than the owner can read this secret.
    pub(crate) fn warn_if_readable(&self) {
        if self.others_can_read {
            tracing::warn!(file = %self.file.display(), "users other than its owner can read this secret; `chmod 600` it");
        }
    }
}

/// Reads a file, if it can be trusted.
pub(crate) fn read(file: &Path) -> Result<Contents, FileError> {
    let found = system::Place::find(file)?;
    let Some((opened, others_can_read)) = found.file() else {
        return Err(found.missing().into());
    };
    let bytes = read_whole(opened)?;
    Ok(Contents { file: file.to_owned(), bytes, others_can_read })
}

/// Whether the file exists; if not, its folder does. A file that cannot be trusted is an error, as for [`read`].
pub(crate) fn exists(file: &Path) -> Result<bool, FileError> {
    match system::Place::find(file) {
        Ok(found) => Ok(found.file().is_some()),
        Err(error) if error.kind() == Some(io::ErrorKind::NotFound) => {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("{error}; make the folder first")).into())
        }
        Err(error) => Err(error),
    }
}

/// Makes a file that only its owner can read, whole or not at all. If it exists, it is kept, and the error is of the kind
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists).
pub(crate) fn create(file: &Path, bytes: &[u8]) -> Result<(), FileError> {
    system::Place::find(file)?.write(bytes, false)
}

/// Does the same in place of a file that exists. A group that could read the old file can read the new one.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> Result<(), FileError> {
    system::Place::find(file)?.write(bytes, true)
}

fn read_whole(mut file: &File) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let length = file.metadata()?.len();
    if length > LARGEST {
        return Err(FileError::Refused(format!("it has {length} bytes; the limit is {LARGEST}")));
    }
    // As large as the file and one byte more, so that no part of a secret is left where it was before the buffer grew.
    let mut bytes = Zeroizing::new(vec![0; length as usize + 1]);
    let mut filled = 0;
    loop {
        match file.read(&mut bytes[filled..]) {
            Ok(0) if filled < bytes.len() => break,
            Ok(0) => {
                return Err(FileError::Refused("it grew while it was read; it is read again next time".to_owned()));
            }
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

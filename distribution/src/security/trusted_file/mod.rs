//! Files of secrets and of trust: opened once, and used only if nobody but this process's user and root could have put
//! them there or written to them.
//!
//! A file is judged after it was opened, and what is read is what was judged. How it is found is in `unix.rs`. Other
//! systems have no owners and modes that this could ask for; there a file must be a regular one and not too large.

#[cfg(not(unix))]
mod other;
#[cfg(all(test, unix))]
mod tests;
#[cfg(unix)]
mod unix;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

#[cfg(not(unix))]
use self::other as system;
#[cfg(unix)]
use self::unix as system;

/// More than any file of tokens or authorities takes; a bundle of all public authorities has a quarter of it.
const LARGEST: u64 = 1 << 20;

/// What a file held when it was read. Wiped from memory when dropped.
pub(crate) struct Contents {
    file: PathBuf,
    bytes: Zeroizing<Vec<u8>>,
    others_can_read: bool,
}

impl Contents {
    /// The path that it was asked for by.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Warns where others than the owner can read this secret.
    pub(crate) fn warn_if_readable(&self) {
        if self.others_can_read {
            tracing::warn!(file = %self.file.display(), "others than its owner can read this secret; `chmod 600` it");
        }
    }
}

/// Why a file cannot be used.
#[derive(Debug)]
pub(crate) enum FileError {
    /// The system does not give it out, or it is not there.
    Io(io::Error),
    /// What it is, where it is or whose it is: the sentence says what to do.
    Refused(String),
}

impl FileError {
    pub(crate) fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io(error) => Some(error.kind()),
            Self::Refused(_) => None,
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a file that is to be trusted.
pub(crate) fn read(file: &Path) -> Result<Contents, FileError> {
    let found = system::Place::find(file)?;
    let Some((opened, others_can_read)) = found.file() else {
        return Err(found.missing().into());
    };
    let bytes = read_whole(opened)?;
    Ok(Contents { file: file.to_owned(), bytes, others_can_read })
}

/// Whether there is such a file, or else a place to make one. One that must not be trusted is an error, as it is for [`read`].
pub(crate) fn exists(file: &Path) -> Result<bool, FileError> {
    match system::Place::find(file) {
        Ok(found) => Ok(found.file().is_some()),
        Err(error) if error.kind() == Some(io::ErrorKind::NotFound) => {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("{error}; make the folder first")).into())
        }
        Err(error) => Err(error),
    }
}

/// Makes a file that its owner alone can read, whole or not at all. One that is there stays, and is an error of the kind
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists).
pub(crate) fn create(file: &Path, bytes: &[u8]) -> Result<(), FileError> {
    system::Place::find(file)?.write(bytes, false)
}

/// The same in place of what is there. Who could read the old one by its group can read the new one.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> Result<(), FileError> {
    system::Place::find(file)?.write(bytes, true)
}

fn read_whole(mut file: &File) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let length = file.metadata()?.len();
    if length > LARGEST {
        return Err(FileError::Refused(format!(
            "it has {length} bytes, and {LARGEST} are the most that is read of it"
        )));
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

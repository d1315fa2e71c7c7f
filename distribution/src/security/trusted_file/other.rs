//! Finds a file where there are no owners and modes as on Unix: only its kind is looked at.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::error::FileError;

/// Where a path leads, and the file there if there is one.
pub(super) struct Place {
    path: PathBuf,
    file: Option<File>,
}

impl Place {
    pub(super) fn find(path: &Path) -> Result<Self, FileError> {
        let file = match File::open(path) {
            Ok(file) if file.metadata()?.is_file() => Some(file),
            Ok(_) => return Err(FileError::Refused("it must be a regular file".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { path: path.to_owned(), file })
    }

    /// The file, and whether others can read it, which is not known here.
    pub(super) fn file(&self) -> Option<(&File, bool)> {
        self.file.as_ref().map(|file| (file, false))
    }

    /// The error where there is none.
    pub(super) fn missing(&self) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, "there is no such file")
    }

    /// Writes a new file beside it, and gives it the name once it is whole.
    pub(super) fn write(self, bytes: &[u8], replace: bool) -> Result<(), FileError> {
        // An open file cannot be replaced everywhere.
        drop(self.file);
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        let written = if replace { file.persist(&self.path) } else { file.persist_noclobber(&self.path) };
        written.map(drop).map_err(|error| error.error.into())
    }
}

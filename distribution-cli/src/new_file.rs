//! A file that is written as a whole: it has its name once it is complete, and a file that had the name before stays until then.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::failure::{Failure, Kind};

/// A file beside the one that is wanted. It is removed unless it is finished.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: NamedTempFile,
    wanted: PathBuf,
}

impl NewFile {
    /// Creates it, so that a place that cannot be written to is known before any work is done.
    pub(crate) fn create(wanted: &Path) -> Result<Self, Failure> {
        if wanted.is_dir() || wanted.file_name().is_none() {
            return Err(failure(wanted, &io::ErrorKind::IsADirectory.into()));
        }
        let folder = wanted.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As for any new file: the process's mask takes away what it does not allow.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let file = builder.prefix(".").suffix(".part").tempfile_in(folder).map_err(|error| failure(wanted, &error))?;
        Ok(Self { file, wanted: wanted.to_owned() })
    }

    /// Writes it, and gives it its name.
    pub(crate) fn finish(self, content: &[u8]) -> Result<(), Failure> {
        let Self { mut file, wanted } = self;
        let written = file.write_all(content).and_then(|()| file.as_file().sync_all());
        written
            .and_then(|()| file.persist(&wanted).map_err(|error| error.error))
            .map_err(|error| failure(&wanted, &error))?;
        Ok(())
    }
}

fn failure(wanted: &Path, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        io::ErrorKind::IsADirectory => "give the name of a file",
        io::ErrorKind::NotFound if wanted.parent().is_some_and(|folder| !folder.exists()) => "its folder must exist",
        _ => "choose another place with --output",
    };
    // The error itself names the file beside.
    let reason = error.kind();
    Failure::new(Kind::Usage, format!("{} cannot be written: {reason}; {advice}", wanted.display()))
}

//! A file that is written as a whole: it has its name once it is complete, and a file that had the name before stays until then.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::failure::{Failure, Kind};

/// A file beside the one that is wanted. It is removed unless it is finished.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: File,
    wanted: PathBuf,
    temporary: PathBuf,
}

impl NewFile {
    /// Creates it, so that a place that cannot be written to is known before any work is done.
    pub(crate) fn create(wanted: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| failure(wanted, &error);
        let Some(name) = wanted.file_name().filter(|_| !wanted.is_dir()) else {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let temporary = wanted.with_file_name(hidden);
        let file = File::create_new(&temporary).or_else(|error| match error.kind() {
            // A process of the same number has left it when it was killed.
            io::ErrorKind::AlreadyExists => fs::remove_file(&temporary).and_then(|()| File::create_new(&temporary)),
            _ => Err(error),
        });
        let file = file.map_err(failed)?;
        Ok(Self { file, wanted: wanted.to_owned(), temporary })
    }

    /// Writes it, and gives it its name.
    pub(crate) fn finish(mut self, content: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(content).and_then(|()| self.file.sync_all());
        written.and_then(|()| fs::rename(&self.temporary, &self.wanted)).map_err(|error| failure(&self.wanted, &error))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After it has got its name there is none to remove.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn failure(wanted: &Path, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        io::ErrorKind::IsADirectory => "give the name of a file",
        io::ErrorKind::NotFound => "its folder must exist",
        _ => "choose another place with --output",
    };
    Failure::new(Kind::Usage, format!("{} cannot be written: {error}; {advice}", wanted.display()))
}

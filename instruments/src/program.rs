//! The program `distribution`, which some instruments start.

use std::{io, path::PathBuf};

/// The option that says which.
#[derive(clap::Args, Debug)]
pub struct Program {
    /// The program `distribution`; by default the one beside this program.
    #[arg(long)]
    program: Option<PathBuf>,
}

impl Program {
    /// Where it is.
    ///
    /// # Errors
    ///
    /// If it is not there: with the command that builds it.
    pub fn find(self) -> io::Result<PathBuf> {
        let program = match self.program {
            Some(program) => program,
            None => std::env::current_exe()?.with_file_name("distribution"),
        };
        match program.exists() {
            true => Ok(program),
            false => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{} is missing: run `cargo build --release -p distribution-cli`", program.display()),
            )),
        }
    }
}

//! Why a command failed, and the exit code that says so.

use std::{
    fmt,
    io::{self, Write},
    iter,
    process::ExitCode,
};

use distribution::{
    CallError, Error,
    error::{AdminError, Endpoint},
};

/// What kind of failure it was. Documented in the program's help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Other = 1,
    Usage = 2,
    CannotConnect = 3,
    Refused = 4,
    UnknownId = 5,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    message: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self::new(Kind::Other, message)
    }

    /// Whether it may be over by itself: the master may come back.
    pub(crate) fn may_pass(&self) -> bool {
        self.kind == Kind::CannotConnect
    }

    /// Prints it on standard error, and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        // Nobody may read it, and the exit code says it too.
        let _ = writeln!(io::stderr().lock(), "distribution: {}", self.message);
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error with its sources, as one sentence.
fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = iter::successors(error.source(), |&source| source.source());
    iter::once(error.to_string()).chain(sources.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (kind, advice) = match &error {
            Error::Setting { .. }
            | Error::Bind { .. }
            | Error::Token { .. }
            | Error::TokenFile { .. }
            | Error::Certificates { .. } => (Kind::Usage, ""),
            Error::Insecure { end: Endpoint::Master, addr, .. } => {
                let sentence = format!(
                    "a master at {addr} can be reached from other machines, and has no security. Give it --token-file \
                     with a file to make its tokens in, or --authority with --certificate and --key; on a private network \
                     --insecure goes without"
                );
                return Self::new(Kind::Usage, sentence);
            }
            Error::Insecure { addr, .. } => {
                let sentence = format!(
                    "the master's address {addr} is not on loopback, and there is no token. Give --token-file with a file \
                     that has a token for admins, or the token in DISTRIBUTION_TOKEN, or --authority with --certificate \
                     and --key; `distribution token issue --for admins` makes a token where the master's token file is"
                );
                return Self::new(Kind::Usage, sentence);
            }
            Error::ConnectTimeout { .. }
            | Error::MasterLost { .. }
            | Error::Protocol { .. }
            | Error::Untrusted { .. } => (Kind::CannotConnect, ""),
            // The library names its setters, and a program has options.
            Error::NoCredential { master, .. } => {
                let sentence = format!(
                    "the master at {master} requires a token or a certificate that this program was not given. Give \
                     --token-file with a file that has a token for admins, or the token in DISTRIBUTION_TOKEN, or \
                     --authority with --certificate and --key, whichever the master has. `distribution token issue --for \
                     admins`, where the master's token file is, makes such a token. If the master has no security, this \
                     address is that of another server"
                );
                return Self::new(Kind::Refused, sentence);
            }
            Error::Refused { .. } => (
                Kind::Refused,
                ". `distribution token issue --for admins` makes a token for this program, where the master's token file is",
            ),
            _ => (Kind::Other, ""),
        };
        Self::new(kind, sentence(&error) + advice)
    }
}

impl<E: std::error::Error + Into<AdminFault> + Clone + 'static> From<CallError<E>> for Failure {
    fn from(error: CallError<E>) -> Self {
        let kind = match &error {
            CallError::Handler(own) => own.clone().into().0,
            CallError::Denied { .. } => Kind::Refused,
            CallError::MasterLost { .. } | CallError::Shutdown { .. } | CallError::TimedOut { .. } => {
                Kind::CannotConnect
            }
            _ => Kind::Other,
        };
        Self::new(kind, sentence(&error))
    }
}

/// The kind of a method's own error.
pub(crate) struct AdminFault(Kind);

impl From<AdminError> for AdminFault {
    fn from(error: AdminError) -> Self {
        Self(match error {
            AdminError::UnknownNode { .. } | AdminError::UnknownCall { .. } => Kind::UnknownId,
            _ => Kind::Other,
        })
    }
}

impl From<std::convert::Infallible> for AdminFault {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

//! Certificates: where their files are, and what is in them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
};

use super::{
    policy::Access,
    rights::CallerRights,
    trusted_file::{self, Contents},
};
use crate::error::Error;

/// The PEM files by which master and nodes know each other, for mutual TLS with an authority of one's own.
///
/// Both sides need three: the certificates of the authority that they trust, their own certificate (with the
/// intermediate ones behind it), and its key. The files are read again with each new connection if they have changed, so a
/// certificate is renewed by putting another in its place; open connections stay.
///
/// A master looks at the authority by itself: another one counts as soon as it can be read, whether the master's own
/// certificate was replaced or not. Nodes whose certificates it did not issue are disconnected within a heartbeat, and nodes
/// whose certificate expires within a minute. While the authority's file is damaged, no new node can register. A certificate
/// and a key that do not belong together yet change nothing.
///
/// All three must be regular files that belong to the process's user or to root, and so must each folder down to them. Nobody
/// else may be able to write to a file, or to a folder unless it is one like `/tmp` (with the sticky bit), or what is
/// there is not used. Symbolic links are followed where they belong to the same two.
///
/// A node checks that the master's certificate is for the host that it dials. A master takes any certificate of the
/// authority that is good for clients, unless [`peer_name`](Self::peer_name) says more.
///
/// ```no_run
/// # async fn start() -> Result<(), distribution::Error> {
/// use distribution::{Certificates, Master};
///
/// let certificates = Certificates::new("ca.pem", "master.pem", "master.key").peer_name("node.cluster.internal");
/// let master = Master::builder().certificates(certificates).bind("0.0.0.0:3000").await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Certificates {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    peer_name: Option<String>,
    /// Each with the rights of its callers.
    callers: Vec<(String, Arc<CallerRights>)>,
    admins: Vec<String>,
    viewers: Vec<String>,
}

/// What a certificate gives a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertifiedCaller {
    pub(crate) rights: Arc<CallerRights>,
    /// The name in the certificate that the rights are for, in lower case. All certificates for it share its limits.
    pub(crate) name: String,
}

impl Certificates {
    /// Files in PEM: the authority's certificates, one's own with those between it and the authority, and its key.
    pub fn new(authority: impl Into<PathBuf>, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            authority: authority.into(),
            certificate: certificate.into(),
            key: key.into(),
            peer_name: None,
            callers: Vec::new(),
            admins: Vec::new(),
            viewers: Vec::new(),
        }
    }

    /// A name (DNS name or IP address) that the other side's certificate must be for. On a node it takes the place of
    /// the host that is dialled. On a master there is none unless set, and any certificate of the authority will do.
    pub fn peer_name(mut self, name: impl Into<String>) -> Self {
        self.peer_name = Some(name.into());
        self
    }

    /// At a master: accepts peers with a certificate for this DNS name as callers. `*.callers.internal` stands for all names
    /// that end with `.callers.internal`. May be set several times. Without it no caller is accepted. A certificate with
    /// such a name is not accepted from a node.
    pub fn callers(self, name: impl Into<String>) -> Self {
        self.callers_with(name, CallerRights::new())
    }

    /// Does the same, with these rights. If a certificate fits several of the listed names, the most exact one counts: a
    /// name before a pattern, and a long pattern before a short one. The limits hold for each name in a certificate, over
    /// all certificates and connections that come by it: with `*.callers.internal`, `a.callers.internal` and
    /// `b.callers.internal` have limits of their own.
    ///
    /// `bind` fails with [`Error::Setting`] for rights that cannot be, and for a name that is listed twice with different
    /// rights.
    ///
    /// ```
    /// use distribution::{CallerRights, Certificates};
    ///
    /// let certificates = Certificates::new("ca.pem", "master.pem", "master.key")
    ///     .callers("*.callers.internal")
    ///     .callers_with("web.callers.internal", CallerRights::new().service("Search").deny_on().max_calls(200));
    /// # drop(certificates);
    /// ```
    pub fn callers_with(mut self, name: impl Into<String>, rights: CallerRights) -> Self {
        self.callers.push((name.into(), Arc::new(rights)));
        self
    }

    /// At a master: accepts peers with a certificate for this DNS name as administrators. As [`callers`](Self::callers)
    /// otherwise.
    pub fn admins(mut self, name: impl Into<String>) -> Self {
        self.admins.push(name.into());
        self
    }

    /// At a master: accepts peers with a certificate for this DNS name as viewers, who may look through the admin service and
    /// change nothing. As [`callers`](Self::callers) otherwise.
    pub fn viewers(mut self, name: impl Into<String>) -> Self {
        self.viewers.push(name.into());
        self
    }

    /// Whether a peer whose certificate is for these names may come in this role.
    pub(crate) fn allow(&self, role: Access, names: &[String]) -> bool {
        let is_caller = self.caller(names).is_some();
        let is_listed =
            |patterns: &[String]| patterns.iter().any(|pattern| names.iter().any(|name| matches(pattern, name)));
        let (is_admin, is_viewer) = (is_listed(&self.admins), is_listed(&self.viewers));
        match role {
            Access::Callers => is_caller,
            Access::Admins => is_admin,
            Access::Viewers => is_viewer,
            Access::Nodes => !is_caller && !is_admin && !is_viewer,
        }
    }

    /// What a certificate for these names gives a caller: by the most exact of the listed names that fit.
    pub(crate) fn caller(&self, names: &[String]) -> Option<CertifiedCaller> {
        let fitting = self.callers.iter().flat_map(|(pattern, rights)| {
            names.iter().filter(|name| matches(pattern, name)).map(move |name| (pattern, rights, name))
        });
        // Of two that are as exact, the first in the alphabet, so that the order of the setters does not count.
        let exactness = |pattern: &str| (!pattern.starts_with('*'), pattern.len());
        let (_, rights, name) = fitting.max_by(|(one, _, of_one), (other, _, of_other)| {
            exactness(one).cmp(&exactness(other)).then_with(|| of_other.cmp(of_one))
        })?;
        Some(CertifiedCaller { rights: Arc::clone(rights), name: name.to_ascii_lowercase() })
    }

    /// Checks the rights of callers.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`].
    pub(crate) fn check_rights(&self) -> Result<(), Error> {
        for (at, (name, rights)) in self.callers.iter().enumerate() {
            rights.check()?;
            let before = self.callers[..at].iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
            if before.is_some_and(|(_, other)| other != rights) {
                let reason = "it is listed twice with different rights; list it once";
                return Err(Error::setting("callers_with", format_args!("`{name}`"), reason));
            }
        }
        Ok(())
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        [self.authority_files(), self.own_files()].concat()
    }

    pub(crate) fn authority_files(&self) -> Vec<PathBuf> {
        vec![self.authority.clone()]
    }

    pub(crate) fn own_files(&self) -> Vec<PathBuf> {
        vec![self.certificate.clone(), self.key.clone()]
    }

    pub(crate) fn checked_peer_name(&self) -> Result<Option<ServerName<'static>>, Error> {
        let name = self.peer_name.as_ref().map(|name| {
            ServerName::try_from(name.clone()).map_err(|_| {
                Error::setting("peer_name", format_args!("`{name}`"), "it must be a DNS name or an IP address")
            })
        });
        name.transpose()
    }

    /// What the files hold: authority, certificate and key.
    pub(crate) fn read(&self) -> Result<[Contents; 3], Error> {
        let ([authority], [certificate, key]) = (self.read_authority()?, self.read_own()?);
        Ok([authority, certificate, key])
    }

    pub(crate) fn read_authority(&self) -> Result<[Contents; 1], Error> {
        Ok([read(&self.authority)?])
    }

    /// Certificate and key.
    pub(crate) fn read_own(&self) -> Result<[Contents; 2], Error> {
        Ok([read(&self.certificate)?, read(&self.key)?])
    }

    /// What went wrong with one's own certificate and key, which is not about one file alone.
    pub(crate) fn mismatch(&self, reason: impl std::fmt::Display) -> Error {
        failed(&self.certificate, format_args!("with the key in {}: {reason}", self.key.display()))
    }
}

/// Whether a pattern stands for this name. DNS names have no case.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) if end.starts_with('.') => {
            name.len() > end.len() && name.is_char_boundary(name.len() - end.len()) && {
                name[name.len() - end.len()..].eq_ignore_ascii_case(end)
            }
        }
        _ => pattern.eq_ignore_ascii_case(name),
    }
}

fn read(file: &Path) -> Result<Contents, Error> {
    trusted_file::read(file).map_err(|error| failed(file, error))
}

/// The certificates of the authority.
pub(crate) fn authority(contents: &Contents) -> Result<RootCertStore, Error> {
    let mut authority = RootCertStore::empty();
    for certificate in certificates(contents)? {
        authority.add(certificate).map_err(|error| failed(contents.file(), error))?;
    }
    Ok(authority)
}

/// One's own certificate, with those behind it, and its key.
pub(crate) type OwnPair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Makes sense of certificate and key. Warns if others can read the key.
pub(crate) fn own_pair([certificate, key]: [&Contents; 2]) -> Result<OwnPair, Error> {
    let chain = certificates(certificate)?;
    key.warn_if_readable();
    let key = PrivateKeyDer::from_pem_slice(key.bytes()).map_err(|error| failed(key.file(), pem_fault(&error)))?;
    Ok((chain, key))
}

fn certificates(contents: &Contents) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(contents.bytes()).collect();
    let certificates = certificates.map_err(|error| failed(contents.file(), pem_fault(&error)))?;
    if certificates.is_empty() {
        return Err(failed(contents.file(), "there is no `BEGIN CERTIFICATE` in it"));
    }
    Ok(certificates)
}

/// What is wrong with a PEM file. The library's own errors show lines of it, and a line may be a key.
pub(super) fn pem_fault(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::NoItemsFound => "the section that belongs there is missing",
        pem::Error::MissingSectionEnd { .. } => {
            "a section has no `-----END` line of its own; were its line breaks lost?"
        }
        pem::Error::IllegalSectionStart { .. } => "a `-----BEGIN` line is damaged",
        pem::Error::Base64Decode(_) => "the text between `-----BEGIN` and `-----END` is damaged",
        _ => "it cannot be read as PEM",
    }
}

pub(crate) fn failed(file: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Certificates { file: file.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_name_says_what_a_caller_may_do_in_whatever_order_they_are_listed() {
        let rights = |calls| CallerRights::new().max_calls(calls);
        let listed = [("*.internal", 1), ("*.web.internal", 2), ("a.web.internal", 3), ("b", 4)];
        let list = |certificates: Certificates, (name, calls): &(&str, usize)| {
            certificates.callers_with(*name, rights(*calls))
        };
        let forwards = listed.iter().fold(Certificates::new("a", "b", "c"), list);
        let backwards = listed.iter().rev().fold(Certificates::new("a", "b", "c"), list);
        for (names, expected) in [
            (&["x.internal"][..], Some((1, "x.internal"))),
            (&["x.web.internal"], Some((2, "x.web.internal"))),
            (&["A.Web.Internal"], Some((3, "a.web.internal"))),
            (&["x.internal", "a.web.internal"], Some((3, "a.web.internal"))),
            (&["y.internal", "x.internal"], Some((1, "x.internal"))),
            (&["elsewhere"], None),
        ] {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            for certificates in [&forwards, &backwards] {
                let caller = certificates.caller(&names);
                let found = caller.as_ref().map(|caller| (caller.rights.max_calls.expect("is set"), &*caller.name));
                assert_eq!(found, expected, "{names:?}");
            }
        }
        forwards.check_rights().expect("can be");
        let twice = forwards.callers_with("B", rights(5)).check_rights().expect_err("which one?").to_string();
        assert!(twice.contains("`callers_with` cannot be `B`"), "{twice}");
        let none = Certificates::new("a", "b", "c").callers_with("x", rights(0)).check_rights().expect_err("nobody");
        assert!(none.to_string().contains("`max_calls` cannot be 0"), "{none}");
    }

    #[test]
    fn a_certificate_is_for_the_roles_that_its_names_are_listed_for() {
        let files =
            Certificates::new("a", "b", "c").callers("*.callers.internal").callers("web").admins("ops.internal");
        let roles = |name: &str| {
            [Access::Nodes, Access::Callers, Access::Admins].map(|role| files.allow(role, &[name.to_owned()]))
        };
        assert_eq!(roles("n1.internal"), [true, false, false]);
        assert_eq!(roles("a.callers.internal"), [false, true, false]);
        assert_eq!(roles("A.B.Callers.Internal"), [false, true, false]);
        assert_eq!(roles("callers.internal"), [true, false, false]);
        assert_eq!(roles("evilcallers.internal"), [true, false, false]);
        assert_eq!(roles("web"), [false, true, false]);
        assert_eq!(roles("ops.internal"), [false, false, true]);
        assert_eq!(roles("ü"), [true, false, false]);
        let both = ["web".to_owned(), "ops.internal".to_owned()];
        assert!(files.allow(Access::Callers, &both) && files.allow(Access::Admins, &both));
        let none = Certificates::new("a", "b", "c");
        assert!(
            !none.allow(Access::Callers, &both)
                && !none.allow(Access::Admins, &both)
                && none.allow(Access::Nodes, &both)
        );
    }
}

//! The rights and limits of a caller, as its owner sets them for a token or for the names of certificates.
//!
//! `policy.rs` decides by them, and `master/callers/` counts what the limits are about.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use crate::{
    config::LONGEST_TIME,
    error::Error,
    text::{in_one_line, is_plain},
};

/// The most services and methods that can be named, and the bytes of each name.
const MOST_NAMES: usize = 256;
const LONGEST_NAME: usize = 256;

/// The most bytes that an error shows of a value.
const SHOWN: usize = 64;

/// What a caller in another process may do, and how much of it at a time.
///
/// [`new`](Self::new) allows everything, as a token does that [`Token::issue`](crate::Token::issue) makes; each method
/// restricts it. The rights belong to a credential:
/// [`Token::issue_for_caller`](crate::Token::issue_for_caller) writes them into the master's token file, and
/// [`Certificates::callers_with`](crate::Certificates::callers_with) sets them for the names of certificates. The limits hold for all
/// connections that come by the credential together.
///
/// The master refuses a call that is not allowed as [`CallError::Denied`](crate::CallError::Denied), and one beyond a limit
/// as [`CallError::Overloaded`](crate::CallError::Overloaded), with a sentence that says what to do. Neither has run.
///
/// It is printed and parsed as it stands in a token file: `services=Arith,Probe.add deny=on,broadcast max_calls=100`.
///
/// ```
/// use distribution::CallerRights;
/// use std::time::Duration;
///
/// let rights = CallerRights::new().service("Arith").deny_on().max_calls(100).max_timeout(Duration::from_secs(30));
/// assert_eq!(rights.to_string(), "services=Arith deny=on max_calls=100 max_timeout=30s");
/// assert_eq!(rights.to_string().parse::<CallerRights>()?, rights);
/// # Ok::<(), distribution::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerRights {
    /// Services, and methods as `Service.method`; all if it is empty.
    pub(super) services: BTreeSet<String>,
    pub(super) denied: BTreeSet<DeniedOption>,
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_calls: Option<usize>,
    pub(crate) max_bytes: Option<usize>,
    pub(super) max_timeout: Option<Duration>,
}

/// An option of a call that can be denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DeniedOption {
    On,
    Label,
    Broadcast,
}

impl DeniedOption {
    const ALL: [Self; 3] = [Self::On, Self::Label, Self::Broadcast];

    fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Label => "label",
            Self::Broadcast => "broadcast",
        }
    }
}

impl CallerRights {
    /// Every method with every option, and the master's general limits only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows the methods of this service. Once a service or a method is named, those that are not named are denied.
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.services.insert(service.into());
        self
    }

    /// Allows this method of this service. Once a service or a method is named, those that are not named are denied.
    pub fn method(mut self, service: &str, method: &str) -> Self {
        self.services.insert(format!("{service}.{method}"));
        self
    }

    /// Denies [`Call::on`](crate::Call::on), and with it [`broadcast`](crate::Call::broadcast), which chooses nodes too.
    pub fn deny_on(mut self) -> Self {
        self.denied.insert(DeniedOption::On);
        self
    }

    /// Denies [`Call::label`](crate::Call::label).
    pub fn deny_label(mut self) -> Self {
        self.denied.insert(DeniedOption::Label);
        self
    }

    /// Denies [`Call::broadcast`](crate::Call::broadcast). A caller that may use [`Call::on`](crate::Call::on) can still call one node
    /// after the other: [`deny_on`](Self::deny_on) denies that, and [`max_calls`](Self::max_calls) bounds it.
    pub fn deny_broadcast(mut self) -> Self {
        self.denied.insert(DeniedOption::Broadcast);
        self
    }

    /// How many connections there may be at a time; at least 1. A further caller is refused for now, and dials again. A
    /// connection that broke without a goodbye counts until the master has noticed, after 6 silent heartbeats.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// How many calls may be under way at a time, waiting or running; at least 1. A batch of `.distribute()` counts as one, because
    /// it takes one slot. A call that has ended while its handler goes on counts until the handler has returned.
    pub fn max_calls(mut self, calls: usize) -> Self {
        self.max_calls = Some(calls);
        self
    }

    /// How many bytes of arguments the calls under way may have together.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// The longest [`Call::timeout`](crate::Call::timeout), in whole milliseconds. A call with a longer one is refused, and so is
    /// one without, unless the master's [`default_timeout`](crate::MasterBuilder::default_timeout) is short enough.
    pub fn max_timeout(mut self, time: Duration) -> Self {
        self.max_timeout = Some(time);
        self
    }

    /// Whether nothing is restricted.
    pub fn is_unrestricted(&self) -> bool {
        *self == Self::default()
    }

    /// Checks what the methods were given.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for the first value that cannot be.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.services.len() > MOST_NAMES {
            let reason = format!("at most {MOST_NAMES} services and methods can be named");
            return Err(Error::setting("service", self.services.len(), reason));
        }
        if let Some(name) = self.services.iter().find(|name| !is_name(name)) {
            let shown = in_one_line(name, SHOWN);
            let reason = "it must be the name of a service, or `Service.method`";
            return Err(Error::setting("service", format_args!("`{shown}`"), reason));
        }
        for (name, most) in [("max_connections", self.max_connections), ("max_calls", self.max_calls)] {
            if most == Some(0) {
                let reason = "it must be at least 1; to let nobody in, revoke the token or take the name out";
                return Err(Error::setting(name, 0, reason));
            }
        }
        match self.max_timeout {
            Some(time) if !is_timeout(time) => {
                let reason = "it must be from 1 ms to 365 days, in whole milliseconds";
                Err(Error::setting("max_timeout", format_args!("{time:?}"), reason))
            }
            _ => Ok(()),
        }
    }

    /// Reads one part of the text.
    fn read(&mut self, part: &str) -> Result<(), String> {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let number = || value.parse().map(Some).map_err(|_| format!("`{}` is not a number", in_one_line(value, SHOWN)));
        let again = match key {
            "services" => {
                let names = value.split(',').map(str::to_owned);
                !std::mem::replace(&mut self.services, names.collect()).is_empty()
            }
            "deny" => {
                let option = |name| DeniedOption::ALL.into_iter().find(|option| option.name() == name);
                let denied = value.split(',').map(|name| {
                    let reason = || {
                        format!("`{}` cannot be denied; `on`, `label` and `broadcast` can", in_one_line(name, SHOWN))
                    };
                    option(name).ok_or_else(reason)
                });
                !std::mem::replace(&mut self.denied, denied.collect::<Result<_, _>>()?).is_empty()
            }
            "max_connections" => std::mem::replace(&mut self.max_connections, number()?).is_some(),
            "max_calls" => std::mem::replace(&mut self.max_calls, number()?).is_some(),
            "max_bytes" => std::mem::replace(&mut self.max_bytes, number()?).is_some(),
            "max_timeout" => self.max_timeout.replace(read_time(value)?).is_some(),
            _ => {
                return Err(format!(
                    "`{}` is unknown; the rights of a caller are services=, deny=, max_connections=, max_calls=, max_bytes= and \
                     max_timeout=",
                    in_one_line(key, SHOWN)
                ));
            }
        };
        match again {
            true => Err(format!("`{key}=` is there twice")),
            false => Ok(()),
        }
    }

    /// Reads the rights that a text has, which may be none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut rights = Self::default();
        text.split_whitespace().try_for_each(|part| rights.read(part))?;
        rights.check().map_err(|error| error.to_string())?;
        Ok(rights)
    }
}

/// Whether it can be the name of a service, or of a method behind that of its service.
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && is_plain(part)
            && !part.contains(|letter: char| letter.is_whitespace() || ",=.".contains(letter))
    };
    let (service, method) = name.split_once('.').map_or((name, None), |(service, method)| (service, Some(method)));
    name.len() <= LONGEST_NAME && is_part(service) && method.is_none_or(is_part)
}

fn is_timeout(time: Duration) -> bool {
    (Duration::from_millis(1)..=LONGEST_TIME).contains(&time) && time.subsec_nanos() % 1_000_000 == 0
}

/// Reads `30s` or `250ms`.
fn read_time(text: &str) -> Result<Duration, String> {
    let milliseconds = text.strip_suffix("ms").and_then(|number| number.parse().ok()).map(Duration::from_millis);
    let seconds = || text.strip_suffix('s').and_then(|number| number.parse().ok()).map(Duration::from_secs);
    let wrong = || format!("`{}` is not a time: it is written `30s` or `250ms`", in_one_line(text, SHOWN));
    milliseconds.or_else(seconds).ok_or_else(wrong)
}

/// Fails as [`Error::Setting`] for a text that does not say rights.
impl FromStr for CallerRights {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
            .map_err(|reason| Error::setting("rights", format_args!("`{}`", in_one_line(text, SHOWN)), reason))
    }
}

/// Prints the rights as they stand in a token file; nothing where all is allowed.
impl fmt::Display for CallerRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: Vec<&str>| (!names.is_empty()).then(|| names.join(","));
        let parts = [
            ("services", list(self.services.iter().map(String::as_str).collect())),
            ("deny", list(self.denied.iter().map(|option| option.name()).collect())),
            ("max_connections", self.max_connections.map(|most| most.to_string())),
            ("max_calls", self.max_calls.map(|most| most.to_string())),
            ("max_bytes", self.max_bytes.map(|most| most.to_string())),
            (
                "max_timeout",
                self.max_timeout.map(|time| match time.subsec_nanos() {
                    0 => format!("{}s", time.as_secs()),
                    _ => format!("{}ms", time.as_millis()),
                }),
            ),
        ];
        let mut is_first = true;
        for (key, value) in parts {
            if let Some(value) = value {
                let space = if is_first { "" } else { " " };
                write!(f, "{space}{key}={value}")?;
                is_first = false;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_survive_being_written_down() {
        let all = CallerRights::new()
            .service("Arith")
            .method("Probe", "add")
            .deny_on()
            .deny_label()
            .deny_broadcast()
            .max_connections(2)
            .max_calls(10)
            .max_bytes(4096)
            .max_timeout(Duration::from_millis(1500));
        let text = "services=Arith,Probe.add deny=on,label,broadcast max_connections=2 max_calls=10 max_bytes=4096 \
                    max_timeout=1500ms";
        assert_eq!(all.to_string(), text);
        for rights in [all, CallerRights::new(), CallerRights::new().max_bytes(0)] {
            assert_eq!(CallerRights::parse(&rights.to_string()), Ok(rights));
        }
    }

    #[test]
    fn a_text_that_does_not_say_rights_is_an_error_that_says_what_is_wrong() {
        let long = format!("services={}", "s".repeat(257));
        for (text, part) in [
            ("services=", "`Service.method`"),
            ("services=Arith,", "`Service.method`"),
            ("services=a.b.c", "`Service.method`"),
            ("services=Arith.", "`Service.method`"),
            (&long, "`Service.method`"),
            ("deny=all", "`on`, `label` and `broadcast`"),
            ("max_calls=0", "`max_calls` cannot be 0"),
            ("max_connections=0", "at least 1"),
            ("max_calls=-1", "`-1` is not a number"),
            ("max_calls=", "is not a number"),
            ("max_bytes=1MiB", "is not a number"),
            ("max_timeout=30", "`30s` or `250ms`"),
            ("max_timeout=0s", "from 1 ms to 365 days"),
            ("max_timeout=366000000s", "from 1 ms to 365 days"),
            ("max_calls=1 max_calls=2", "twice"),
            ("calls=1", "`calls` is unknown"),
            ("worker", "`worker` is unknown"),
        ] {
            let reason = CallerRights::parse(text).expect_err(text);
            assert!(reason.contains(part), "{text}: {reason}");
        }
        let fraction = CallerRights::new().max_timeout(Duration::from_micros(1500)).check();
        assert!(fraction.expect_err("cannot be written down").to_string().contains("whole milliseconds"));
    }
}

//! Names for nodes, methods and calls: small values that travel, print and compare.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Identifies one registration of a node at one master.
///
/// The master gives it out when a node registers; a node that comes back after its connection broke
/// gets a new one, so an id never means two different sessions. It prints as `5f3a91c2-7`: a number
/// drawn when the master started, then the count of registrations since.
///
/// ```
/// let id: distribution::NodeId = "5f3a91c2-7".parse()?;
/// assert_eq!(id.to_string(), "5f3a91c2-7");
/// # Ok::<(), distribution::error::ParseNodeIdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// The `number`th registration at the master that drew `epoch`.
    pub(crate) fn new(epoch: u32, number: u32) -> Self {
        Self(u64::from(epoch) << 32 | u64::from(number))
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a [`NodeId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a node id: one looks like `5f3a91c2-7`")]
pub struct ParseNodeIdError {
    text: String,
}

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (epoch, number) = text.split_once('-')?;
            let epoch = u32::from_str_radix(epoch, 16).ok()?;
            Some(Self::new(epoch, number.parse().ok()?))
        };
        parse().ok_or_else(|| ParseNodeIdError { text: text.to_owned() })
    }
}

impl Serialize for NodeId {
    /// As text where a person reads it (JSON), else as a number.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_u64(self.0) }
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

/// Which node something happened on: its id with the name and the address a person knows it by.
///
/// Compares equal to its own [`NodeId`], and turns into it wherever an id is asked for.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeIdentity {
    /// The registration.
    pub id: NodeId,
    /// The node's own name for itself.
    pub name: Arc<str>,
    /// Where its connection to the master comes from; `0.0.0.0:0` where a caller in another process is not told.
    pub addr: SocketAddr,
}

/// Stands for an address that is not told.
pub(crate) const NO_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

impl NodeIdentity {
    pub(crate) fn new(id: NodeId, name: &str, addr: SocketAddr) -> Self {
        Self { id, name: name.into(), addr }
    }
}

impl fmt::Display for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr == NO_ADDRESS {
            true => write!(f, "node {} ({})", self.name, self.id),
            false => write!(f, "node {} ({} from {})", self.name, self.id, self.addr),
        }
    }
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<&NodeIdentity> for NodeId {
    fn from(node: &NodeIdentity) -> Self {
        node.id
    }
}

impl From<NodeIdentity> for NodeId {
    fn from(node: NodeIdentity) -> Self {
        node.id
    }
}

impl PartialEq<NodeId> for NodeIdentity {
    fn eq(&self, id: &NodeId) -> bool {
        self.id == *id
    }
}

impl PartialEq<NodeIdentity> for NodeId {
    fn eq(&self, node: &NodeIdentity) -> bool {
        *self == node.id
    }
}

/// A method of a service, as errors and logs name it: `Arith.sum`. A clone is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MethodName {
    /// `service.method`. Only a service's name may have dots of its own.
    text: Arc<str>,
}

impl MethodName {
    pub(crate) fn new(service: &str, method: &str) -> Self {
        Self { text: format!("{service}.{method}").into() }
    }

    /// The service's name on the wire.
    pub fn service(&self) -> &str {
        self.text.rsplit_once('.').map_or("", |(service, _)| service)
    }

    /// The method's name.
    pub fn method(&self) -> &str {
        self.text.rsplit_once('.').map_or(&*self.text, |(_, method)| method)
    }

    /// Both, with a dot between them: `Arith.sum`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for MethodName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for MethodName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self { text: text.into() })
    }
}

/// Identifies a call at one master.
///
/// It prints as `91c2a7-12`: a number, then the count of calls since, from 0. The number was drawn when the master
/// started; calls from another process begin with one that the master gave to that caller's connection. So the calls of
/// a master that was started again have other ids than those before. A batch has as many ids, one after the other, as
/// calls.
///
/// ```
/// let id: distribution::CallId = "91c2a7-12".parse()?;
/// assert_eq!(id.to_string(), "91c2a7-12");
/// # Ok::<(), distribution::error::ParseCallIdError>(())
/// ```
// The upper 24 bits are the master's, the lower 40 count: 10^12 calls, three days of 4,000,000 a second. What goes
// beyond carries into the upper bits, so that no id comes twice at one master; only its text then begins as another
// master's may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(crate) u64);

impl CallId {
    const COUNT_BITS: u32 = 40;

    /// The first call at the master that drew `epoch`, of which the lower 24 bits are taken: those that its node ids
    /// end their first half with.
    pub(crate) fn first(epoch: u32) -> Self {
        Self(u64::from(epoch) << Self::COUNT_BITS)
    }

    /// How many calls its caller (the master's process, or one connection) had made before this one: what the id prints
    /// after its `-`.
    ///
    /// ```
    /// let id: distribution::CallId = "91c2a7-12".parse()?;
    /// assert_eq!(id.number(), 12);
    /// # Ok::<(), distribution::error::ParseCallIdError>(())
    /// ```
    pub fn number(self) -> u64 {
        self.0 & ((1 << Self::COUNT_BITS) - 1)
    }
}

impl CallId {
    /// What the ids of its master, or of its caller, begin with: 24 bits.
    pub(crate) fn prefix(self) -> u32 {
        (self.0 >> Self::COUNT_BITS) as u32
    }

    /// The prefix before this one, in a circle.
    pub(crate) fn prefix_before(prefix: u32) -> u32 {
        prefix.wrapping_sub(1) & ((1 << (64 - Self::COUNT_BITS)) - 1)
    }

    /// Whether it is one of the ids that this caller was given.
    pub(crate) fn is_of(self, caller: CallerId) -> bool {
        CallerId::of_prefix(self.prefix()) == caller
    }
}

/// A caller at a master: the master's own process, or a connection of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallerId(pub(crate) u64);

impl CallerId {
    /// The program in whose process the master is.
    pub(crate) const MASTER: Self = Self(0);

    /// The caller whose calls have ids with this prefix.
    pub(crate) fn of_prefix(prefix: u32) -> Self {
        Self(u64::from(prefix) + 1)
    }

    /// The id of its first call.
    pub(crate) fn first_call(self) -> CallId {
        CallId::first(u32::try_from(self.0.saturating_sub(1)).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}-{}", self.0 >> Self::COUNT_BITS, self.number())
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a [`CallId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a call id: one looks like `91c2a7-12`")]
pub struct ParseCallIdError {
    text: String,
}

impl FromStr for CallId {
    type Err = ParseCallIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (epoch, count) = text.split_once('-')?;
            let epoch = u32::from_str_radix(epoch, 16).ok().filter(|epoch| *epoch < 1 << (64 - Self::COUNT_BITS))?;
            let count = count.parse().ok().filter(|count: &u64| *count < 1 << Self::COUNT_BITS)?;
            Some(Self(Self::first(epoch).0 | count))
        };
        parse().ok_or_else(|| ParseCallIdError { text: text.to_owned() })
    }
}

impl Serialize for CallId {
    /// As text where a person reads it (JSON), else as a number.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_u64(self.0) }
    }
}

impl<'de> Deserialize<'de> for CallId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_prints_and_parses_back() {
        let id = NodeId::new(0x5f3a_91c2, 7);
        assert_eq!(id.to_string(), "5f3a91c2-7");
        assert_eq!("5f3a91c2-7".parse(), Ok(id));
        for wrong in ["", "7", "-", "xyz-1", "1-", "1-99999999999", "100000000-1"] {
            assert!(wrong.parse::<NodeId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ids_are_text_in_json() {
        let (call, node) = (CallId(CallId::first(0x5f91_c2a7).0 + 12), NodeId::new(0x5f3a_91c2, 7));
        let json = serde_json::to_string(&(call, node)).expect("can be written");
        assert_eq!(json, r#"["91c2a7-12","5f3a91c2-7"]"#);
        assert_eq!(serde_json::from_str::<(CallId, NodeId)>(&json).expect("can be read"), (call, node));
        assert!(serde_json::from_str::<CallId>("12").is_err());
    }

    #[test]
    fn a_call_id_prints_and_parses_back() {
        let id = CallId(CallId::first(0x5f91_c2a7).0 + 12);
        assert_eq!(id.to_string(), "91c2a7-12", "as the master's node ids, which begin with 5f91c2a7");
        assert_eq!("91c2a7-12".parse(), Ok(id));
        let last = CallId(u64::MAX);
        assert_eq!(last.to_string(), "ffffff-1099511627775");
        assert_eq!(last.to_string().parse(), Ok(last));
        for wrong in ["", "12", "-", "xyz-1", "1-", "1-1099511627776", "1000000-1", "1--1"] {
            assert!(wrong.parse::<CallId>().is_err(), "{wrong}");
        }
    }
}

//! What a node says about itself when it registers, what the master checks of it, and the reply.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{
    limits::{STRUCTURE_LIMIT, STRUCTURES_LIMIT},
    session::{SessionOfNode, SessionOffer},
};
use crate::{
    administration::MethodKind,
    config::MAX_SLOTS,
    hash::method_id,
    text::{LONGEST_LABEL, check_node_name, in_one_line, is_short},
};

/// The most methods that a node may serve.
const MOST_METHODS: usize = 1024;

/// The most versions and signatures of one method.
const MOST_VERSIONS: usize = 16;

/// The most bytes of all labels of a node.
const LABELS_LIMIT: usize = 4 * 1024;

/// The most bytes of the texts of all its methods: names, signatures and structures.
const TEXTS_LIMIT: usize = 2 * STRUCTURES_LIMIT;

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) name: String,
    /// A random number of the process, the same for all its connections.
    pub(crate) instance: u128,
    /// How many compute handlers it runs at once.
    pub(crate) slots: u32,
    /// Slots that are taken by handlers of an earlier connection.
    pub(crate) busy: u32,
    /// How many async handlers it runs at once.
    pub(crate) async_limit: u32,
    /// The largest frame body that it accepts, in bytes.
    pub(crate) max_message_size: u64,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) methods: Vec<MethodOffer>,
    /// The session that it wants to go on with, after its connection has broken.
    pub(crate) session: Option<SessionOfNode>,
}

/// One method that a node serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MethodOffer {
    /// What calls name the method by: [`method_id`] of the next five fields, which the master checks.
    pub(crate) id: u64,
    pub(crate) service: String,
    pub(crate) version: u32,
    pub(crate) name: String,
    pub(crate) signature: String,
    /// The hash of the structure of its types.
    pub(crate) types: u64,
    /// The structure of its types, for people; the id decides. The first has no name and shows arguments and value, the
    /// others are the named types in it. Bounded by [`STRUCTURE_LIMIT`].
    pub(crate) structure: Vec<Definition>,
    pub(crate) kind: MethodKind,
    /// Whether its calls may be run again, as its trait says.
    pub(crate) idempotent: bool,
    /// Which streams its calls have.
    pub(crate) streams: StreamShape,
}

/// Which streams the calls of a method have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamShape {
    /// The method returns a stream of items.
    pub(crate) items: bool,
    /// Its last argument is a stream.
    pub(crate) argument: bool,
}

/// What a type looks like: `Params`, `{ rate: f64, l2: f64 }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl MethodOffer {
    /// Checks what a peer says of a method.
    ///
    /// # Errors
    ///
    /// What a correct peer never sends, as a sentence for its log.
    pub(crate) fn check(&self) -> Result<(), String> {
        const LONGEST_SIGNATURE: usize = 8 * 1024;
        const MOST_TYPES: usize = 1024;
        let Self { id, service, version, name, signature, types, structure, .. } = self;
        short("service name", service, LONGEST_NAME)?;
        short("method name", name, LONGEST_NAME * 2)?;
        short("signature", signature, LONGEST_SIGNATURE)?;
        if method_id(service, *version, name, signature, *types) != *id {
            return Err(format!(
                "the id of {service}.{name} is not that of its name, version, signature and types; calls would reach \
                 another method than the peer shows"
            ));
        }
        if structure.iter().map(Definition::size).sum::<usize>() > STRUCTURE_LIMIT || structure.len() > MOST_TYPES {
            return Err(format!("a structure of more than {STRUCTURE_LIMIT} bytes or {MOST_TYPES} types"));
        }
        for definition in structure {
            if !definition.name.is_empty() {
                short("type's name", &definition.name, STRUCTURE_LIMIT)?;
            }
            short("type's structure", &definition.text, STRUCTURE_LIMIT)?;
        }
        Ok(())
    }

    /// The size of its texts in bytes.
    pub(crate) fn size(&self) -> usize {
        let structure: usize = self.structure.iter().map(Definition::size).sum();
        self.service.len() + self.name.len() + self.signature.len() + structure
    }
}

impl Definition {
    /// The size of its texts in bytes.
    pub(crate) fn size(&self) -> usize {
        self.name.len() + self.text.len()
    }

    /// Takes the place of all definitions if the registration would be too long.
    pub(crate) fn left_out() -> Self {
        Self { name: String::new(), text: "left out, because there are too many methods".to_owned() }
    }
}

impl Registration {
    /// Checks what the node says.
    ///
    /// # Errors
    ///
    /// What a correct node never sends, as a sentence for the node's log.
    pub(crate) fn check(&self) -> Result<(), String> {
        const MOST_LABELS: usize = 64;
        check_node_name(&self.name)
            .map_err(|reason| format!("the node name `{}` {reason}", in_one_line(&self.name, 40)))?;
        if !(1..=MAX_SLOTS).contains(&self.slots) {
            return Err(format!("{} slots: a node has from 1 to 65,536", self.slots));
        }
        if self.async_limit == 0 {
            return Err("an async limit of 0: at least one call must fit".to_owned());
        }
        if self.max_message_size < crate::config::SMALLEST_MESSAGE_LIMIT as u64 {
            return Err(format!("a frame limit of {} bytes is too small to work with", self.max_message_size));
        }
        if self.labels.len() > MOST_LABELS || self.methods.len() > MOST_METHODS {
            return Err(format!("more than {MOST_LABELS} labels or {MOST_METHODS} methods"));
        }
        let labels: usize = self.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        if labels > LABELS_LIMIT {
            return Err(format!("{labels} bytes of labels, and {LABELS_LIMIT} is the limit"));
        }
        for (key, value) in &self.labels {
            short("label", key, LONGEST_LABEL)?;
            short("label value", value, LONGEST_LABEL)?;
        }
        let texts: usize = self.methods.iter().map(MethodOffer::size).sum();
        if texts > TEXTS_LIMIT {
            return Err(format!(
                "{texts} bytes of names, signatures and types of methods, and {TEXTS_LIMIT} is the limit"
            ));
        }
        let mut ids = HashSet::new();
        let mut versions = HashMap::<_, usize>::new();
        for method in &self.methods {
            let count = versions.entry((&method.service, &method.name)).or_default();
            *count += 1;
            if !ids.insert(method.id) || *count > MOST_VERSIONS {
                let (service, name) = (in_one_line(&method.service, 40), in_one_line(&method.name, 40));
                return Err(format!("{service}.{name} is there twice, or in more than {MOST_VERSIONS} versions"));
            }
            method.check()?;
        }
        Ok(())
    }
}

/// The most bytes of the name of a service or a label.
const LONGEST_NAME: usize = 128;

/// Checks a text of a peer: what it is, and how long it may be.
fn short(what: &str, text: &str, most: usize) -> Result<(), String> {
    if !is_short(text, most) {
        let shown = in_one_line(text, 40);
        return Err(format!(
            "the {what} `{shown}` must have 1 to {most} bytes, no spaces at its ends, and no control or invisible characters"
        ));
    }
    Ok(())
}

/// The master's reply to a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RegistrationReply {
    Accepted {
        node: u64,
        /// The interval of the node's heartbeats in microseconds.
        heartbeat: u64,
        /// How long either end may be silent before the other gives it up, in microseconds.
        silence: u64,
        /// The largest frame body that the master accepts, in bytes.
        max_message_size: u64,
        /// The session of this connection, if the master waits for nodes whose connection breaks.
        session: Option<SessionOffer>,
    },
    /// The node must not register: for now or for good, and why.
    Refused { reason: String, for_good: bool },
    /// Too many other nodes register at the moment. The node should come again after this many microseconds.
    Busy { retry_after: u64 },
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::{codec::encode_payload, handshake::SessionId};

    pub(in crate::wire::handshake) fn registration() -> Registration {
        Registration {
            name: "n1".to_owned(),
            instance: 7,
            slots: 2,
            busy: 0,
            async_limit: 1000,
            max_message_size: 65_536,
            labels: vec![("zone".to_owned(), "eu".to_owned())],
            methods: vec![MethodOffer {
                id: method_id("Arith", 1, "sum", "fn(Vec<i64>) -> i64", 7),
                service: "Arith".to_owned(),
                version: 1,
                name: "sum".to_owned(),
                signature: "fn(Vec<i64>) -> i64".to_owned(),
                types: 7,
                structure: vec![Definition { name: String::new(), text: "fn([i64]) -> i64".to_owned() }],
                kind: MethodKind::Compute,
                idempotent: false,
                streams: StreamShape::default(),
            }],
            session: None,
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_registration_and_its_replies_have_these_bytes() {
        // The id by Python: sha256(b"Arith\xffsum\xfffn(Vec<i64>) -> i64\xff" + pack("<IQ", 1, 7)).digest()[:8],
        // the other way round.
        let bytes = encode_payload(&registration(), 1000).expect("encodes").into_bytes();
        assert_eq!(
            hex(&bytes),
            "026e31070200fbe803fc0000010001047a6f6e6502657501fdbb22ed75b5106d8e05417269746801\
             0373756d13666e285665633c6936343e29202d3e2069363407010010666e285b6936345d29202d3e206936340000000000"
        );
        let session = SessionOfNode { id: SessionId::new(300), computing: 3 };
        let resuming = Registration { methods: Vec::new(), session: Some(session), ..registration() };
        let bytes = encode_payload(&resuming, 1000).expect("encodes").into_bytes();
        assert_eq!(hex(&bytes), "026e31070200fbe803fc0000010001047a6f6e650265750001fb2c0103");
        let accepted = |session| RegistrationReply::Accepted {
            node: 5,
            heartbeat: 1_000_000,
            silence: 6_000_000,
            max_message_size: 300,
            session,
        };
        assert_eq!(
            hex(&encode_payload(&accepted(None), 1000).expect("encodes").into_bytes()),
            "0005fc40420f00fc808d5b00fb2c0100"
        );
        let session = SessionOffer::new(SessionId::new(300), Duration::from_micros(200), true);
        assert_eq!(
            hex(&encode_payload(&accepted(Some(session)), 1000).expect("encodes").into_bytes()),
            "0005fc40420f00fc808d5b00fb2c0101fb2c01c801"
        );
        let refused = RegistrationReply::Refused { reason: "no".to_owned(), for_good: true };
        assert_eq!(hex(&encode_payload(&refused, 1000).expect("encodes").into_bytes()), "01026e6f01");
        let busy = RegistrationReply::Busy { retry_after: 300 };
        assert_eq!(hex(&encode_payload(&busy, 1000).expect("encodes").into_bytes()), "02fb2c01");
    }

    fn method(signature: &str) -> MethodOffer {
        let [method] = &registration().methods[..] else { panic!("it serves one") };
        let MethodOffer { service, version, name, types, .. } = method;
        let signature = if signature.is_empty() { &method.signature } else { signature };
        let id = method_id(service, *version, name, signature, *types);
        MethodOffer { id, signature: signature.to_owned(), ..method.clone() }
    }

    /// Methods of these many names, with signatures of this length.
    fn named(count: usize, length: usize) -> Vec<MethodOffer> {
        let signature = "x".repeat(length);
        let one = |number: usize| {
            let name = format!("m{number}");
            let id = method_id("Arith", 1, &name, &signature, 7);
            MethodOffer { id, name, signature: signature.clone(), ..method("") }
        };
        (0..count).map(one).collect()
    }

    fn versions(count: u32) -> Vec<MethodOffer> {
        let one = |version: u32| {
            let MethodOffer { service, name, signature, types, .. } = method("");
            MethodOffer { id: method_id(&service, version, &name, &signature, types), version, ..method("") }
        };
        (1..=count).map(one).collect()
    }

    #[test]
    fn a_registration_that_lies_is_refused() {
        let bad = [
            Registration { name: "a\nforged log line".to_owned(), ..registration() },
            Registration { name: String::new(), ..registration() },
            Registration { name: "x".repeat(200), ..registration() },
            Registration { slots: 0, ..registration() },
            Registration { slots: u32::MAX, ..registration() },
            Registration { async_limit: 0, ..registration() },
            Registration { max_message_size: 3, ..registration() },
            Registration { labels: vec![("a".to_owned(), "b".to_owned()); 65], ..registration() },
            Registration { name: "abc\u{202e}fed".to_owned(), ..registration() },
            Registration { labels: vec![("zone".to_owned(), "a\u{2028}b".to_owned())], ..registration() },
            Registration { methods: vec![method(""); 2], ..registration() },
            Registration { methods: named(MOST_METHODS + 1, 10), ..registration() },
            Registration { methods: named(70, 8000), ..registration() },
            Registration { methods: versions(MOST_VERSIONS as u32 + 1), ..registration() },
            Registration { name: "node-1 joined by token 1a2b3c4d".to_owned(), ..registration() },
            Registration { labels: vec![("zone".to_owned(), " eu".to_owned())], ..registration() },
            Registration { labels: vec![("a".repeat(100), "b".repeat(100)); 21], ..registration() },
            Registration { methods: vec![method(&"x".repeat(STRUCTURE_LIMIT + 1))], ..registration() },
        ];
        for registration in bad {
            assert!(registration.check().is_err(), "{registration:?}");
        }
        let definition = |name: &str, text: &str| Definition { name: name.to_owned(), text: text.to_owned() };
        let bad = [
            vec![definition("A\nforged log line", "()")],
            vec![definition("A", "forged\x1b[31m")],
            vec![definition("A", "")],
            vec![definition("A", &"x".repeat(STRUCTURE_LIMIT))],
            vec![definition("A", "()"); STRUCTURE_LIMIT / 3 + 1],
        ];
        for structure in bad {
            let methods = vec![MethodOffer { structure, ..registration().methods[0].clone() }];
            assert!(Registration { methods, ..registration() }.check().is_err());
        }
        assert_eq!(registration().check(), Ok(()));
        assert_eq!(Registration { methods: named(MOST_METHODS, 10), ..registration() }.check(), Ok(()));
        assert_eq!(Registration { methods: versions(MOST_VERSIONS as u32), ..registration() }.check(), Ok(()));
    }
}

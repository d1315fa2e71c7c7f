//! What differs between a caller's method and those that nodes serve under its name, in words.
//!
//! Pure functions over what registrations say. A peer wrote that, so each text is cut; registrations with control
//! characters were refused before.

use std::sync::Arc;

use super::method::MethodInfo;
use crate::wire::handshake::{Definition, MethodOffer};

/// How many nodes or differences one text tells of.
const MOST_ENTRIES: usize = 8;

/// How many bytes of each.
const LONGEST_ENTRY: usize = 200;

/// Why no node can run a call, although nodes serve its service: the texts of
/// [`CallError::Incompatible`](crate::CallError::Incompatible).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incompatibility {
    /// The caller's signature and version.
    pub(crate) expected: String,
    /// Those of the nodes.
    pub(crate) found: String,
    /// What differs, and where.
    pub(crate) difference: String,
}

/// A method that a node serves and nobody can call there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uncallable {
    /// Service and method: `Arith.sum`.
    pub(crate) method: String,
    /// What differs.
    pub(crate) why: String,
}

/// What one side says of a method.
#[derive(Clone, Copy)]
struct MethodView<'a> {
    version: u32,
    signature: &'a str,
    structure: &'a [Definition],
}

impl<'a> From<&'a MethodInfo> for MethodView<'a> {
    fn from(method: &'a MethodInfo) -> Self {
        Self { version: method.version(), signature: method.signature(), structure: method.definitions() }
    }
}

impl<'a> From<&'a MethodOffer> for MethodView<'a> {
    fn from(offer: &'a MethodOffer) -> Self {
        Self { version: offer.version, signature: &offer.signature, structure: &offer.structure }
    }
}

/// Compares a caller's method with what nodes offer: of nodes that offer the same, the name of one, and how many they are.
/// `None` where none of them serves the service, or those that do have exactly this method, so that something else is the
/// matter.
pub(crate) fn explain<'a>(
    method: &MethodInfo,
    nodes: impl IntoIterator<Item = (&'a str, usize, &'a [MethodOffer])>,
) -> Option<Incompatibility> {
    let (service, name) = (method.name().service(), method.name().method());
    let mut others = Grouped::<&MethodOffer>::default();
    let mut without = Grouped::<()>::default();
    for (node, count, offers) in nodes {
        let mut of_service = offers.iter().filter(|offer| offer.service == service).peekable();
        if of_service.peek().is_none() {
            continue;
        }
        let of_name = of_service.filter(|offer| offer.name == name);
        // It can be called there, whatever else the node serves under this name.
        if of_name.clone().any(|offer| offer.id == method.id().0) {
            continue;
        }
        let mut has_it = false;
        for offer in of_name {
            has_it = true;
            others.add(offer, (node, count), |known| known.id == offer.id);
        }
        if !has_it {
            without.add((), (node, count), |()| true);
        }
    }
    let expected = cut(&describe_signature(method.signature(), method.version()));
    if others.entries.is_empty() {
        let nodes = &without.entries.first()?.nodes;
        let difference = format!("the nodes serve `{service}` without `{name}` ({})", nodes.list());
        return Some(Incompatibility { expected, found: format!("`{service}` without `{name}`"), difference });
    }
    let mut found: Vec<String> = Vec::new();
    let mut differences = Vec::new();
    for entry in &others.entries {
        let text = cut(&describe_signature(&entry.what.signature, entry.what.version));
        if !found.contains(&text) {
            found.push(text);
        }
        let place = format!("on {}", entry.nodes.short());
        differences.extend(compare(method.into(), entry.what.into(), "here", &place));
    }
    let more = others.more + differences.len().saturating_sub(MOST_ENTRIES);
    differences.truncate(MOST_ENTRIES);
    if more > 0 {
        differences.push(format!("and {more} more differences"));
    }
    found.sort();
    Some(Incompatibility { expected, found: found.join("`, `"), difference: differences.join("; ") })
}

/// Which methods of a node none of these can call, which are called at this master: each is called with another
/// version, signature or structure, and none of them as this node has it.
pub(crate) fn uncallable_for_callers(
    node: &str,
    offers: &[MethodOffer],
    called: &[Arc<MethodInfo>],
) -> Vec<Uncallable> {
    let mut found = Vec::new();
    for offer in offers {
        let mut of_name = called
            .iter()
            .filter(|method| method.name().service() == offer.service && method.name().method() == offer.name)
            .peekable();
        let Some(first) = of_name.peek().copied() else { continue };
        if !of_name.any(|method| method.id().0 == offer.id) {
            let differences =
                compare((&**first).into(), offer.into(), "by the callers here", &format!("on {}", cut(node)));
            push(&mut found, offer, differences);
        }
    }
    found
}

/// Which methods of a node differ from those of all other nodes that have the service in this version. Another version
/// beside it is how a rolling upgrade is done, and nothing to tell of.
pub(crate) fn uncallable_beside_nodes<'a>(
    node: &str,
    offers: &[MethodOffer],
    others: impl Iterator<Item = (&'a str, &'a [MethodOffer])> + Clone,
) -> Vec<Uncallable> {
    let mut found = Vec::new();
    for offer in offers {
        let is_same = |other: &&MethodOffer| {
            other.service == offer.service && other.version == offer.version && other.name == offer.name
        };
        let same =
            others.clone().flat_map(|(name, offers)| offers.iter().filter(is_same).map(move |other| (name, other)));
        let Some((name, other)) = same.clone().next() else { continue };
        if same.clone().all(|(_, other)| other.id != offer.id) {
            let places = (format!("on {}", cut(name)), format!("on {}", cut(node)));
            push(&mut found, offer, compare(other.into(), offer.into(), &places.0, &places.1));
        }
    }
    found
}

fn push(found: &mut Vec<Uncallable>, offer: &MethodOffer, mut differences: Vec<String>) {
    if found.len() < MOST_ENTRIES {
        differences.truncate(MOST_ENTRIES);
        let method = format!("{}.{}", cut(&offer.service), cut(&offer.name));
        found.push(Uncallable { method, why: differences.join("; ") });
    }
}

/// A signature with the version of its service, where that is not the first.
pub(crate) fn describe_signature(signature: &str, version: u32) -> String {
    if version == 1 { signature.to_owned() } else { format!("{signature} (version {version})") }
}

/// What differs between two, the plainest first.
fn compare(one: MethodView<'_>, other: MethodView<'_>, here: &str, there: &str) -> Vec<String> {
    if one.signature != other.signature {
        let [one, other] = [one, other].map(|view| cut(&describe_signature(view.signature, view.version)));
        return vec![format!("`{one}` {here}, `{other}` {there}")];
    }
    if one.version != other.version {
        return vec![format!("version {} {here}, version {} {there}", one.version, other.version)];
    }
    let mut differences = Vec::new();
    // The first says what goes in and comes out, by the names of types. It differs where a name does.
    let named = one.structure.iter().filter(|definition| !definition.name.is_empty());
    let nameless = one.structure.iter().filter(|definition| definition.name.is_empty());
    for definition in named {
        let same = other.structure.iter().find(|other| other.name == definition.name);
        if let Some(other) = same.filter(|other| other.text != definition.text) {
            let (name, text) = (cut(&definition.name), cut(&definition.text));
            differences.push(format!("`{name}`: {text} {here}, {} {there}", cut(&other.text)));
        }
    }
    if differences.is_empty() {
        for definition in nameless {
            let same = other.structure.iter().find(|other| other.name.is_empty());
            if let Some(other) = same.filter(|other| other.text != definition.text) {
                differences.push(format!("{} {here}, {} {there}", cut(&definition.text), cut(&other.text)));
            }
        }
    }
    if differences.is_empty() {
        differences.push(format!("types of `{}` differ {here} and {there}", cut(one.signature)));
    }
    differences
}

/// What was met, each once with the nodes that have it.
struct Grouped<T> {
    entries: Vec<Entry<T>>,
    /// Kinds beyond those.
    more: usize,
}

impl<T> Default for Grouped<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), more: 0 }
    }
}

struct Entry<T> {
    what: T,
    nodes: NodeNames,
}

#[derive(Default)]
struct NodeNames {
    names: Vec<String>,
    count: usize,
}

impl<T> Grouped<T> {
    fn add(&mut self, what: T, (node, count): (&str, usize), is_same: impl Fn(&T) -> bool) {
        let known = self.entries.iter().position(|entry| is_same(&entry.what));
        let at = match known {
            Some(at) => at,
            None if self.entries.len() == MOST_ENTRIES => return self.more += 1,
            None => {
                self.entries.push(Entry { what, nodes: NodeNames::default() });
                self.entries.len() - 1
            }
        };
        let nodes = &mut self.entries[at].nodes;
        nodes.count += count;
        if nodes.names.len() < MOST_ENTRIES {
            nodes.names.push(cut(node));
        }
    }
}

impl NodeNames {
    fn list(&self) -> String {
        match self.count - self.names.len() {
            0 => self.names.join(", "),
            more => format!("{} and {more} more", self.names.join(", ")),
        }
    }

    fn short(&self) -> String {
        let first = self.names.first().map(String::as_str).unwrap_or_default();
        match self.count {
            0 | 1 => first.to_owned(),
            2 => format!("{first} and 1 other"),
            count => format!("{first} and {} others", count - 1),
        }
    }
}

fn cut(text: &str) -> String {
    if text.len() <= LONGEST_ENTRY {
        return text.to_owned();
    }
    let mut end = LONGEST_ENTRY;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::method::Method;

    static METHOD: Method = Method::new("Train", 1, "fit", "fn(Params) -> f64", false);

    fn offer(id: u64, version: u32, name: &str, signature: &str, structure: &[(&str, &str)]) -> MethodOffer {
        let definition =
            |(name, text): &(&str, &str)| Definition { name: (*name).to_owned(), text: (*text).to_owned() };
        MethodOffer {
            id,
            service: "Train".to_owned(),
            version,
            name: name.to_owned(),
            signature: signature.to_owned(),
            types: 0,
            structure: structure.iter().map(definition).collect(),
            kind: crate::administration::MethodKind::Compute,
            idempotent: false,
            streams: crate::wire::handshake::StreamShape::default(),
        }
    }

    const SIGNATURE: &str = "fn(Params) -> f64";
    const OLD: &[(&str, &str)] = &[("", "fn(Params) -> f64"), ("Params", "{ l2: f64, rate: f64 }"), ("Same", "(u8)")];
    const NEW: &[(&str, &str)] = &[("", "fn(Params) -> f64"), ("Params", "{ rate: f64, l2: f64 }"), ("Same", "(u8)")];

    fn view<'a>(offer: &'a MethodOffer) -> MethodView<'a> {
        offer.into()
    }

    #[test]
    fn a_type_that_differs_is_shown_as_it_is_on_both_sides() {
        let (old, new) = (offer(1, 1, "fit", SIGNATURE, OLD), offer(2, 1, "fit", SIGNATURE, NEW));
        assert_eq!(
            compare(view(&new), view(&old), "here", "on node-3"),
            ["`Params`: { rate: f64, l2: f64 } here, { l2: f64, rate: f64 } on node-3"]
        );
    }

    #[test]
    fn signature_version_and_nameless_types_are_told_apart() {
        let one = offer(1, 1, "fit", SIGNATURE, &[("", "fn((u8, u16)) -> f64")]);
        let other = offer(2, 1, "fit", SIGNATURE, &[("", "fn((u16, u8)) -> f64")]);
        let differences = compare(view(&one), view(&other), "here", "there");
        assert_eq!(differences, ["fn((u8, u16)) -> f64 here, fn((u16, u8)) -> f64 there"]);
        let later = offer(2, 2, "fit", SIGNATURE, OLD);
        assert_eq!(compare(view(&one), view(&later), "here", "there"), ["version 1 here, version 2 there"]);
        let longer = offer(2, 2, "fit", "fn(u8) -> f64", OLD);
        let differences = compare(view(&one), view(&longer), "here", "there");
        assert_eq!(differences, ["`fn(Params) -> f64` here, `fn(u8) -> f64 (version 2)` there"]);
        let nothing_to_see = offer(2, 1, "fit", SIGNATURE, &[("", "fn((u8, u16)) -> f64")]);
        let differences = compare(view(&one), view(&nothing_to_see), "here", "there");
        assert_eq!(differences, ["types of `fn(Params) -> f64` differ here and there"]);
    }

    #[test]
    fn nodes_with_the_same_difference_are_told_of_once() {
        let old = [offer(1, 1, "fit", "fn(u8) -> f64", OLD)];
        let names: Vec<String> = (1..=30).map(|number| format!("node-{number}")).collect();
        let told = explain(METHOD.info(), names.iter().map(|name| (name.as_str(), 1, &old[..]))).expect("differs");
        assert_eq!(told.difference, "`fn(Params) -> f64` here, `fn(u8) -> f64` on node-1 and 29 others");
        assert_eq!((told.expected.as_str(), told.found.as_str()), ("fn(Params) -> f64", "fn(u8) -> f64"));
    }

    #[test]
    fn a_method_that_the_service_lacks_is_named() {
        let others = [offer(1, 1, "predict", SIGNATURE, OLD)];
        let told = explain(METHOD.info(), [("node-1", 1, &others[..]), ("node-2", 3, &others[..])]).expect("lacks it");
        assert_eq!(told.difference, "the nodes serve `Train` without `fit` (node-1, node-2 and 2 more)");
        assert_eq!(told.found, "`Train` without `fit`");
        assert_eq!(explain(METHOD.info(), [("node-1", 1, &[][..])]), None, "the service is not there at all");
        let same = [offer(METHOD.info().id().0, 1, "fit", SIGNATURE, NEW)];
        assert_eq!(explain(METHOD.info(), [("node-1", 1, &same[..])]), None, "it is there");
    }

    #[test]
    fn what_peers_say_is_bounded() {
        let long = "x".repeat(60_000);
        let offers: Vec<[MethodOffer; 1]> =
            (0..1000).map(|id| [offer(id, 1, "fit", &format!("{id}{long}"), OLD)]).collect();
        let told = explain(METHOD.info(), offers.iter().map(|offer| (long.as_str(), 1, &offer[..]))).expect("differs");
        assert!(told.difference.len() < 6_000 && told.found.len() < 2_000, "{}", told.difference.len());
        assert!(told.difference.ends_with("and 992 more differences"), "{}", told.difference);
    }

    #[test]
    fn a_node_whose_methods_nobody_can_call_is_told_why() {
        let old = [offer(7, 1, "fit", SIGNATURE, OLD)];
        let told = uncallable_for_callers("node-3", &old, &[Arc::clone(METHOD.info())]);
        assert_eq!(told[0].method, "Train.fit");
        assert!(told[0].why.contains("on node-3"), "{told:?}");
        let same = [offer(METHOD.info().id().0, 1, "fit", SIGNATURE, NEW)];
        assert_eq!(uncallable_for_callers("node-3", &same, &[Arc::clone(METHOD.info())]), []);

        let new = [offer(8, 1, "fit", SIGNATURE, NEW)];
        let told = uncallable_beside_nodes("node-3", &old, [("node-1", &new[..])].into_iter());
        let why = "`Params`: { rate: f64, l2: f64 } on node-1, { l2: f64, rate: f64 } on node-3";
        assert_eq!(told, [Uncallable { method: "Train.fit".to_owned(), why: why.to_owned() }]);
        let beside = [("node-1", &new[..]), ("node-2", &old[..])];
        assert_eq!(uncallable_beside_nodes("node-3", &old, beside.into_iter()), [], "another one has it too");
        let later = [offer(9, 2, "fit", SIGNATURE, NEW)];
        assert_eq!(uncallable_beside_nodes("node-3", &later, [("node-1", &old[..])].into_iter()), [], "an upgrade");
    }
}

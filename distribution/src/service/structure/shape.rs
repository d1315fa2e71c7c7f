//! The parts of a structure: a table of nodes that name one another by their index, so that a recursive type is finite.

/// What a type asks serde for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Leaf(Leaf),
    /// One part.
    Option,
    /// A sequence whose length is not known: a vector, a set. One part, or several where elements differ.
    List,
    /// Two parts: key and value.
    Map,
    /// A tuple, an array, a tuple struct, the data of a tuple variant.
    Tuple,
    /// One part that travels as if it were alone.
    Newtype,
    /// A part for each field.
    Struct,
    /// A part for each variant: `Leaf(Unit)`, `Newtype`, `Tuple` or `Struct`.
    Enum,
}

/// What has no parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Leaf {
    Unit,
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Text,
    Bytes,
}

impl Leaf {
    /// As Rust calls it. Part of the hash, so it stays as it is.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unit => "()",
            Self::Bool => "bool",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::I128 => "i128",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::U128 => "u128",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Char => "char",
            Self::Text => "String",
            Self::Bytes => "bytes",
        }
    }
}

/// One node of the table.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    /// The type's own name, as serde knows it; empty where it has none.
    pub(super) name: &'static str,
    /// Of fields or variants, in order.
    pub(super) names: &'static [&'static str],
    /// By position; `None` where nothing was seen.
    pub(super) parts: Vec<Option<usize>>,
    /// How long a tuple is. Parts beyond the last one are like that.
    pub(super) length: usize,
    /// Something in it may be hidden: the type refused all values that were tried, or asked for different things.
    pub(super) unsure: bool,
}

impl Shape {
    /// Whether all of its own parts were seen.
    pub(super) fn is_whole(&self) -> bool {
        !self.unsure && self.parts.iter().all(Option::is_some)
    }

    /// What a field or variant is called.
    pub(super) fn part_name(&self, part: usize) -> &'static str {
        self.names.get(part).copied().unwrap_or_default()
    }
}

/// Follows types that travel as if they were what they hold. `None` where nothing was seen, or where a type holds nothing
/// but itself.
pub(super) fn resolve_index(shapes: &[Shape], part: Option<usize>) -> Option<usize> {
    let mut index = part?;
    for _ in 0..=shapes.len() {
        let shape = shapes.get(index)?;
        if shape.kind != Kind::Newtype {
            return Some(index);
        }
        index = (*shape.parts.first()?)?;
    }
    None
}

//! The deserializer that counts.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::{ALLOCATION, Budget, EMPTY_ELEMENT, FIRST_ENTRIES, Stack, TooDeep, TooMuchStack};

/// The limits of one value.
pub(crate) struct Bounds<'b> {
    budget: &'b Budget,
    most_levels: u16,
    stack: Stack,
}

impl<'b> Bounds<'b> {
    /// Call it where decoding begins: the stack is measured from here.
    #[inline]
    pub(crate) fn new(budget: &'b Budget, most_levels: u16) -> Self {
        Self { budget, most_levels, stack: Stack::here() }
    }

    /// Wraps the deserializer of a value. Only what the value holds elsewhere is counted: its own size has a place already.
    #[inline]
    pub(crate) fn around<T, D>(&self, inner: D) -> Bounded<'_, D> {
        Bounded { inner, bounds: self, levels: self.most_levels, counted: size_of::<T>(), each: PARTS }
    }
}

/// Wraps deserializers, accesses and visitors on the way down into a value.
pub(crate) struct Bounded<'b, D> {
    inner: D,
    bounds: &'b Bounds<'b>,
    /// How many levels may follow.
    levels: u16,
    /// How many bytes have been counted for the next value, as part of the value around it.
    counted: usize,
    /// How many times the size of each part or element is counted: [`PARTS`], [`ELEMENTS`], or [`FIRST_ENTRIES`] for the
    /// first entry of a map.
    each: u8,
}

/// The parts of a value are not counted: its own size includes them.
const PARTS: u8 = 0;

/// Elements are counted: the message says how many there are.
const ELEMENTS: u8 = 1;

impl<'b, D> Bounded<'b, D> {
    #[inline]
    fn around<I>(&self, inner: I) -> Bounded<'b, I> {
        let Self { bounds, levels, counted, each, .. } = *self;
        Bounded { inner, bounds, levels, counted, each }
    }

    /// Counts a part or an element of this value, and wraps it.
    #[inline]
    fn part<S, E: Error>(&self, inner: S, size: usize) -> Result<Bounded<'b, S>, E> {
        if self.each != PARTS {
            let cost = if size == 0 { EMPTY_ELEMENT } else { size };
            self.bounds.budget.take(cost.saturating_mul(self.each.into()))?;
        }
        Ok(Bounded { counted: size, ..self.around(inner) })
    }

    /// Counts an element of this collection, if one is left, and wraps it.
    #[inline]
    fn element<S, E: Error>(&self, inner: S, size: usize, left: Option<usize>) -> Result<Bounded<'b, S>, E> {
        // serde asks for one element more than there are.
        if left == Some(0) { Ok(Bounded { counted: size, ..self.around(inner) }) } else { self.part(inner, size) }
    }

    /// Goes one level down, into a value of this size. If that is more than was counted for it, it is in a box, whose
    /// memory is counted here.
    #[inline]
    fn descend<I, E: Error>(&self, inner: I, size: usize, each: u8) -> Result<Bounded<'b, I>, E> {
        let Some(levels) = self.levels.checked_sub(1) else {
            return Err(E::custom(TooDeep { most: self.bounds.most_levels }));
        };
        if !self.bounds.stack.has_room() {
            return Err(E::custom(TooMuchStack));
        }
        if size > self.counted {
            self.bounds.budget.take_allocation(size)?;
        }
        Ok(Bounded { levels, counted: size, each, ..self.around(inner) })
    }

    /// Counts the allocation of a collection, unless it is known to be empty.
    #[inline]
    fn begin<E: Error>(&self, elements: Option<usize>) -> Result<(), E> {
        if self.each == PARTS || elements == Some(0) { Ok(()) } else { self.bounds.budget.take(ALLOCATION) }
    }

    #[inline]
    fn hint(&self, elements: Option<usize>) -> Option<usize> {
        // The number of parts comes from the type, not from the message.
        if self.each == PARTS { elements } else { elements.map(|claimed| self.bounds.budget.hint(claimed)) }
    }
}

/// For numbers and the like, which hold nothing elsewhere.
macro_rules! pass {
    ($($name:ident)*) => { $(
        #[inline]
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            self.inner.$name(visitor)
        }
    )* };
}

macro_rules! descend {
    ($each:ident: $($name:ident($($argument:ident: $kind:ty),*))*) => { $(
        #[inline]
        fn $name<V: Visitor<'de>>(self $(, $argument: $kind)*, visitor: V) -> Result<V::Value, Self::Error> {
            let visitor = self.descend(visitor, size_of::<V::Value>(), $each)?;
            self.inner.$name($($argument,)* visitor)
        }
    )* };
}

/// Asks the codec for a borrowed text or borrowed bytes, even if the visitor wants its own. For owned ones the codec would
/// reserve as much memory as the message claims; for borrowed ones it first checks that the bytes are there.
macro_rules! lend {
    ($($name:ident: $lent:ident $is_owned:literal)*) => { $(
        #[inline]
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            self.inner.$lent(Lent::<V, $is_owned> { inner: visitor, budget: self.bounds.budget })
        }
    )* };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bounded<'_, D> {
    type Error = D::Error;

    pass! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_unit deserialize_identifier
    }

    lend! {
        deserialize_str: deserialize_str false
        deserialize_string: deserialize_str true
        deserialize_bytes: deserialize_bytes false
        deserialize_byte_buf: deserialize_bytes true
    }

    descend! {
        ELEMENTS:
        deserialize_any()
        deserialize_ignored_any()
        deserialize_seq()
    }

    descend! {
        FIRST_ENTRIES:
        deserialize_map()
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Self::Error> {
        let size = size_of::<V::Value>();
        // A value with more parts than bytes holds them elsewhere.
        let visitor = self.descend(visitor, size, if length > size { ELEMENTS } else { PARTS })?;
        self.inner.deserialize_tuple(length, visitor)
    }

    descend! {
        PARTS:
        deserialize_option()
        deserialize_newtype_struct(name: &'static str)
        deserialize_tuple_struct(name: &'static str, length: usize)
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Self::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit {
    ($($name:ident: $kind:ty)*) => { $(
        #[inline]
        fn $name<E: Error>(self, value: $kind) -> Result<Self::Value, E> {
            self.inner.$name(value)
        }
    )* };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Bounded<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit! {
        visit_bool: bool visit_i8: i8 visit_i16: i16 visit_i32: i32 visit_i64: i64 visit_i128: i128
        visit_u8: u8 visit_u16: u16 visit_u32: u32 visit_u64: u64 visit_u128: u128 visit_f32: f32 visit_f64: f64
        visit_char: char visit_str: &str visit_borrowed_str: &'de str visit_string: String
        visit_bytes: &[u8] visit_borrowed_bytes: &'de [u8] visit_byte_buf: Vec<u8>
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        self.inner.visit_none()
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        self.inner.visit_unit()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let deserializer = self.around(deserializer);
        self.inner.visit_some(deserializer)
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let deserializer = self.around(deserializer);
        self.inner.visit_newtype_struct(deserializer)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
        self.begin(access.size_hint())?;
        let access = self.around(access);
        self.inner.visit_seq(access)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
        self.begin(access.size_hint())?;
        let access = self.around(access);
        self.inner.visit_map(access)
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
        let access = self.around(access);
        self.inner.visit_enum(access)
    }
}

/// Wraps the visitor of a text or of bytes. The visitor borrows them from the message, or gets a copy if it asked for its
/// own.
struct Lent<'b, V, const IS_OWNED: bool> {
    inner: V,
    budget: &'b Budget,
}

impl<'de, V: Visitor<'de>, const IS_OWNED: bool> Visitor<'de> for Lent<'_, V, IS_OWNED> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit! {
        visit_bool: bool visit_i8: i8 visit_i16: i16 visit_i32: i32 visit_i64: i64 visit_i128: i128
        visit_u8: u8 visit_u16: u16 visit_u32: u32 visit_u64: u64 visit_u128: u128 visit_f32: f32 visit_f64: f64
        visit_char: char visit_str: &str visit_string: String visit_bytes: &[u8] visit_byte_buf: Vec<u8>
    }

    #[inline]
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        self.budget.take_allocation(text.len())?;
        if IS_OWNED { self.inner.visit_string(text.to_owned()) } else { self.inner.visit_borrowed_str(text) }
    }

    #[inline]
    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        self.budget.take_allocation(bytes.len())?;
        if IS_OWNED { self.inner.visit_byte_buf(bytes.to_owned()) } else { self.inner.visit_borrowed_bytes(bytes) }
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Bounded<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let deserializer = self.around(deserializer);
        self.inner.deserialize(deserializer)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Self::Error> {
        let seed = self.element(seed, size_of::<T::Value>(), self.inner.size_hint())?;
        self.inner.next_element_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.hint(self.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Self::Error> {
        let seed = self.element(seed, size_of::<K::Value>(), self.inner.size_hint())?;
        self.inner.next_key_seed(seed)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Self::Error> {
        let seed = self.part(seed, size_of::<V::Value>())?;
        self.each = self.each.min(ELEMENTS);
        self.inner.next_value_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.hint(self.inner.size_hint())
    }
}

impl<'de, 'b, A: EnumAccess<'de>> EnumAccess<'de> for Bounded<'b, A> {
    type Error = A::Error;
    type Variant = Bounded<'b, A::Variant>;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant), Self::Error> {
        let around = self.around(());
        let (value, variant) = self.inner.variant_seed(seed)?;
        Ok((value, around.around(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), Self::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Self::Error> {
        let seed = self.part(seed, size_of::<T::Value>())?;
        self.inner.newtype_variant_seed(seed)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Self::Error> {
        let visitor = self.around(visitor);
        self.inner.tuple_variant(length, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let visitor = self.around(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}

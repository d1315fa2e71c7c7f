//! The deserializer that types are run against: it answers as the codec does, and notes what it was asked for.
//!
//! As the codec, it is not human-readable, gives structs by position and variants by number, and cannot say what comes
//! next (`deserialize_any`), as there is nothing in the bytes that does.

use std::any::TypeId;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor, value::U32Deserializer,
};

use super::{
    probes,
    recorder::{Key, Place, Reason, Recorder},
    shape::{Kind, Leaf},
    stop::Stop,
};

/// Records a type as the next of a method's types.
pub(super) fn record<T: DeserializeOwned>(recorder: &mut Recorder) {
    recorder.record(&mut |recorder, place| T::deserialize(At { recorder, place }).map(drop));
}

/// Deserializes one part of a node.
struct At<'r> {
    recorder: &'r mut Recorder,
    place: Place,
}

impl At<'_> {
    fn leaf<V, T>(self, leaf: Leaf, visitor: V, visit: impl FnOnce(V, usize) -> Result<T, Stop>) -> Result<T, Stop> {
        let visitor_type = typeid::of::<V>();
        let (node, value) = self.recorder.leaf(self.place, leaf, visitor_type)?;
        let result = visit(visitor, value);
        self.recorder.leaf_visited(node, visitor_type, result.is_ok());
        result
    }

    fn hopeless<T>(self) -> Result<T, Stop> {
        self.recorder.ask()?;
        Err(self.recorder.stop(Reason::Hopeless))
    }

    /// Goes into something with parts and comes out of it.
    fn within<T>(self, key: Key, visit: impl FnOnce(&mut Recorder, usize) -> Result<T, Stop>) -> Result<T, Stop> {
        let node = self.recorder.enter(self.place, key)?;
        let result = visit(self.recorder, node);
        self.recorder.leave(node, result.is_ok());
        result
    }
}

fn key(visitor: TypeId, kind: Kind, name: &'static str, names: &'static [&'static str], length: usize) -> Key {
    Key { visitor, kind, name, names, length }
}

macro_rules! numbers {
    ($($method:ident $leaf:ident $visit:ident)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            self.leaf(Leaf::$leaf, visitor, |visitor, value| {
                visitor.$visit(probes::NUMBERS[value].try_into().unwrap_or_default())
            })
        }
    )* };
}

impl<'de> Deserializer<'de> for At<'_> {
    type Error = Stop;

    numbers! {
        deserialize_i8 I8 visit_i8
        deserialize_i16 I16 visit_i16
        deserialize_i32 I32 visit_i32
        deserialize_i64 I64 visit_i64
        deserialize_i128 I128 visit_i128
        deserialize_u8 U8 visit_u8
        deserialize_u16 U16 visit_u16
        deserialize_u32 U32 visit_u32
        deserialize_u64 U64 visit_u64
        deserialize_u128 U128 visit_u128
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.hopeless()
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::Bool, visitor, |visitor, value| visitor.visit_bool(value == 0))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::F32, visitor, |visitor, value| visitor.visit_f32(probes::FLOATS[value]))
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::F64, visitor, |visitor, value| visitor.visit_f64(probes::FLOATS[value].into()))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::Char, visitor, |visitor, value| visitor.visit_char(probes::CHARACTERS[value]))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::Text, visitor, |visitor, value| visitor.visit_string(probes::TEXTS[value].to_owned()))
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::Bytes, visitor, |visitor, value| visitor.visit_byte_buf(vec![b'1'; probes::SIZES[value]]))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.within(key(typeid::of::<V>(), Kind::Option, "", &[], 1), |recorder, node| match recorder.elements(node) {
            0 => visitor.visit_none(),
            _ => visitor.visit_some(At { recorder, place: Place { node, part: 0 } }),
        })
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf(Leaf::Unit, visitor, |visitor, _| visitor.visit_unit())
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Stop> {
        self.within(key(typeid::of::<V>(), Kind::Tuple, name, &[], 0), |_, _| visitor.visit_unit())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Stop> {
        self.within(key(typeid::of::<V>(), Kind::Newtype, name, &[], 1), |recorder, node| {
            visitor.visit_newtype_struct(At { recorder, place: Place { node, part: 0 } })
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.within(key(typeid::of::<V>(), Kind::List, "", &[], 1), |recorder, node| {
            let length = recorder.elements(node);
            visitor.visit_seq(Elements { recorder, node, position: 0, length })
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_tuple_struct("", length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.within(key(typeid::of::<V>(), Kind::Tuple, name, &[], length), |recorder, node| {
            visitor.visit_seq(Elements { recorder, node, position: 0, length })
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.within(key(typeid::of::<V>(), Kind::Map, "", &[], 2), |recorder, node| {
            let length = recorder.elements(node);
            visitor.visit_map(Elements { recorder, node, position: 0, length })
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let length = fields.len();
        self.within(key(typeid::of::<V>(), Kind::Struct, name, fields, length), |recorder, node| {
            visitor.visit_seq(Elements { recorder, node, position: 0, length })
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.within(key(typeid::of::<V>(), Kind::Enum, name, variants, variants.len()), |recorder, node| {
            let variant = recorder.variant(node)?;
            visitor.visit_enum(Chosen { recorder, place: Place { node, part: variant } })
        })
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.hopeless()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.hopeless()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a list, tuple or map, or the fields of a struct.
struct Elements<'r> {
    recorder: &'r mut Recorder,
    node: usize,
    position: usize,
    length: usize,
}

impl Elements<'_> {
    fn left(&self) -> Option<usize> {
        // Some reserve memory for as many.
        Some(self.length - self.position).filter(|left| *left <= 4096)
    }

    fn at(&mut self, part: usize) -> At<'_> {
        At { recorder: self.recorder, place: Place { node: self.node, part } }
    }
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        self.recorder.ask()?;
        if self.position == self.length {
            return Ok(None);
        }
        let part = self.recorder.element(self.node, self.position);
        self.position += 1;
        seed.deserialize(self.at(part)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.left()
    }
}

impl<'de> MapAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        self.recorder.ask()?;
        if self.position == self.length {
            return Ok(None);
        }
        self.position += 1;
        seed.deserialize(self.at(0)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        self.recorder.ask()?;
        seed.deserialize(self.at(1))
    }

    fn size_hint(&self) -> Option<usize> {
        self.left()
    }
}

/// A variant of an enum.
struct Chosen<'r> {
    recorder: &'r mut Recorder,
    place: Place,
}

impl<'r, 'de> EnumAccess<'de> for Chosen<'r> {
    type Error = Stop;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Stop> {
        let number: U32Deserializer<Stop> = (self.place.part as u32).into_deserializer();
        match seed.deserialize(number) {
            Ok(value) => Ok((value, self)),
            // The codec knows variants by nothing else.
            Err(_) => Err(self.recorder.stop(Reason::Hopeless)),
        }
    }
}

impl<'de> VariantAccess<'de> for Chosen<'_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.recorder.leaf(self.place, Leaf::Unit, TypeId::of::<()>()).map(drop)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Stop> {
        self.recorder.ask()?;
        let node = self.recorder.wrap(self.place);
        seed.deserialize(At { recorder: self.recorder, place: Place { node, part: 0 } })
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Stop> {
        At { recorder: self.recorder, place: self.place }.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Stop> {
        At { recorder: self.recorder, place: self.place }.deserialize_struct("", fields, visitor)
    }
}

//! The serializer that counts levels and the stack that they take.

use std::fmt;

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{Stack, TooDeep, TooMuchStack};

/// Wraps serializers and values on the way down into a value.
#[derive(Clone, Copy)]
pub(crate) struct Leveled<I> {
    inner: I,
    stack: Stack,
    most_levels: u16,
    /// How many levels may follow.
    levels: u16,
}

impl<I> Leveled<I> {
    /// Call it where encoding begins: the stack is measured from here.
    pub(crate) fn new(inner: I, most_levels: u16) -> Self {
        Self { inner, stack: Stack::here(), most_levels, levels: most_levels }
    }

    #[inline]
    fn around<J>(&self, inner: J) -> Leveled<J> {
        Leveled { inner, stack: self.stack, most_levels: self.most_levels, levels: self.levels }
    }

    /// Goes one level down.
    #[inline]
    fn descend<J, E: Error>(&self, inner: J) -> Result<Leveled<J>, E> {
        match self.levels.checked_sub(1) {
            Some(levels) if self.stack.has_room() => Ok(Leveled { levels, ..self.around(inner) }),
            Some(_) => Err(E::custom(TooMuchStack)),
            None => Err(E::custom(TooDeep { most: self.most_levels })),
        }
    }

    /// Begins a sequence, a map or the like, which is a level.
    #[inline]
    fn begun<J, E: Error>(self, begin: impl FnOnce(I) -> Result<J, E>) -> Result<Leveled<J>, E> {
        let within = self.descend::<_, E>(())?;
        Ok(within.around(begin(self.inner)?))
    }
}

impl<T: Serialize + ?Sized> Serialize for Leveled<&T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize(self.around(serializer))
    }
}

macro_rules! pass {
    ($($name:ident($($kind:ty),*))*) => { $(
        pass!(@one $name ($($kind)*));
    )* };
    (@one $name:ident ()) => {
        #[inline]
        fn $name(self) -> Result<Self::Ok, Self::Error> {
            self.inner.$name()
        }
    };
    (@one $name:ident ($kind:ty)) => {
        #[inline]
        fn $name(self, value: $kind) -> Result<Self::Ok, Self::Error> {
            self.inner.$name(value)
        }
    };
}

impl<S: Serializer> Serializer for Leveled<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Leveled<S::SerializeSeq>;
    type SerializeTuple = Leveled<S::SerializeTuple>;
    type SerializeTupleStruct = Leveled<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Leveled<S::SerializeTupleVariant>;
    type SerializeMap = Leveled<S::SerializeMap>;
    type SerializeStruct = Leveled<S::SerializeStruct>;
    type SerializeStructVariant = Leveled<S::SerializeStructVariant>;

    pass! {
        serialize_bool(bool) serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_i128(i128) serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
        serialize_u128(u128) serialize_f32(f32) serialize_f64(f64) serialize_char(char) serialize_str(&str)
        serialize_bytes(&[u8]) serialize_unit() serialize_unit_struct(&'static str)
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.descend::<_, S::Error>(())?;
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_unit_variant(self, name: &'static str, at: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.descend::<_, S::Error>(())?;
        self.inner.serialize_unit_variant(name, at, variant)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let value = self.descend(value)?;
        self.inner.serialize_some(&value)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        let value = self.descend(value)?;
        self.inner.serialize_newtype_struct(name, &value)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        at: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.descend(value)?;
        self.inner.serialize_newtype_variant(name, at, variant, &value)
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.begun(|inner| inner.serialize_seq(length))
    }

    #[inline]
    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.begun(|inner| inner.serialize_tuple(length))
    }

    #[inline]
    fn serialize_tuple_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.begun(|inner| inner.serialize_tuple_struct(name, length))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        at: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.begun(|inner| inner.serialize_tuple_variant(name, at, variant, length))
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.begun(|inner| inner.serialize_map(length))
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.begun(|inner| inner.serialize_struct(name, length))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        at: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.begun(|inner| inner.serialize_struct_variant(name, at, variant, length))
    }

    #[inline]
    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! sequence {
    ($($name:ident::$element:ident)*) => { $(
        impl<S: $name> $name for Leveled<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            #[inline]
            fn $element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                let value = self.around(value);
                self.inner.$element(&value)
            }

            #[inline]
            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )* };
}

macro_rules! fields {
    ($($name:ident)*) => { $(
        impl<S: $name> $name for Leveled<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), S::Error> {
                let value = self.around(value);
                self.inner.serialize_field(key, &value)
            }

            #[inline]
            fn skip_field(&mut self, key: &'static str) -> Result<(), S::Error> {
                self.inner.skip_field(key)
            }

            #[inline]
            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )* };
}

sequence! {
    SerializeSeq::serialize_element
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}

fields! { SerializeStruct SerializeStructVariant }

impl<S: SerializeMap> SerializeMap for Leveled<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        let key = self.around(key);
        self.inner.serialize_key(&key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let value = self.around(value);
        self.inner.serialize_value(&value)
    }

    #[inline]
    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}

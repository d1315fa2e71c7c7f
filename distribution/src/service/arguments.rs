//! The arguments of a method: a tuple, encoded and decoded one element after the other.
//!
//! The bytes are those that serde would make of the tuple. One by one, because the codec has a short way
//! for some types, which it can only take where it sees them.

use serde::{Serialize, de::DeserializeOwned};

use super::{
    stream::{ArgumentSource, ArgumentStream},
    structure::{RecordArguments, Recording},
};
use crate::{
    error::CodecError,
    wire::codec::{Decoder, Encoder},
};

/// Arguments that can be sent.
pub trait EncodeArguments {
    /// Appends them.
    fn encode(&self, encoder: &mut Encoder) -> Result<(), CodecError>;

    /// Takes the stream out, if the last one is a stream.
    fn source(&self) -> Option<ArgumentSource> {
        None
    }
}

/// Arguments that can be received.
pub trait DecodeArguments: RecordArguments + Sized {
    /// Takes them off. `stream` is the last one, if that is a stream.
    fn decode(decoder: &mut Decoder<'_>, stream: Option<ArgumentStream>) -> Result<Self, CodecError>;
}

macro_rules! tuples {
    ($(($($name:ident)*))*) => { $(
        #[allow(non_snake_case, unused_variables, reason = "a type parameter names its value too")]
        impl<$($name: Serialize + 'static),*> EncodeArguments for ($($name,)*) {
            fn encode(&self, encoder: &mut Encoder) -> Result<(), CodecError> {
                let ($($name,)*) = self;
                $(encoder.put($name)?;)*
                Ok(())
            }
        }

        #[allow(unused_variables, reason = "the empty tuple has nothing to record")]
        impl<$($name: DeserializeOwned + 'static),*> RecordArguments for ($($name,)*) {
            fn record(recording: &mut Recording<'_>) {
                $(recording.argument::<$name>();)*
            }
        }

        #[allow(unused_variables, reason = "the empty tuple takes nothing")]
        impl<$($name: DeserializeOwned + 'static),*> DecodeArguments for ($($name,)*) {
            fn decode(decoder: &mut Decoder<'_>, _: Option<ArgumentStream>) -> Result<Self, CodecError> {
                Ok(($(decoder.take::<$name>()?,)*))
            }
        }
    )* };
}

// As many as serde has for tuples.
tuples! {
    ()
    (A)
    (A B)
    (A B C)
    (A B C D)
    (A B C D E)
    (A B C D E F)
    (A B C D E F G)
    (A B C D E F G H)
    (A B C D E F G H I)
    (A B C D E F G H I J)
    (A B C D E F G H I J K)
    (A B C D E F G H I J K L)
    (A B C D E F G H I J K L M)
    (A B C D E F G H I J K L M N)
    (A B C D E F G H I J K L M N O)
    (A B C D E F G H I J K L M N O P)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::ValueLimits,
        id::{CallId, NodeId},
    };

    #[test]
    fn ids_travel_as_numbers() {
        let ids = (CallId::first(7), NodeId::from_bits(9));
        let limits = ValueLimits { bytes: 100, depth: 8 };
        let mut encoder = Encoder::new(limits);
        EncodeArguments::encode(&ids, &mut encoder).expect("can be written");
        let bytes = encoder.finish().expect("fits").into_bytes();
        assert!(bytes.len() <= 18, "{}", bytes.len());
        let decoded = <(CallId, NodeId)>::decode(&mut Decoder::new(&bytes, limits.depth), None);
        assert_eq!(decoded, Ok(ids));
    }
}

//! Services that a macro of the user's makes.

#![deny(warnings, missing_docs)]
#![allow(unused_parens)]

use distribution::{Call, StreamCall, Streaming};
use futures::{Stream, StreamExt};

macro_rules! piecewise {
    ($(#[$outer:meta])* $visibility:vis $name:ident $version:literal $wire:literal {
        $($(#[$inner:meta])* $method:ident($($argument:ident: $kind:ty),*) -> $output:ty;)*
    }) => {
        $(#[$outer])*
        #[distribution::service(name = $wire, version = $version)]
        $visibility trait $name {
            $($(#[$inner])* fn $method(&self, $($argument: $kind),*) -> $output;)*
        }
    };
}

macro_rules! whole {
    ($item:item) => {
        #[distribution::service]
        $item
    };
}

macro_rules! tokens {
    ($($tokens:tt)*) => {
        $($tokens)*
    };
}

macro_rules! numeric {
    ($name:ident, $number:ty, $count:literal) => {
        /// The same service for another number.
        #[distribution::service]
        pub trait $name {
            /// A name from the macro beside one of the user's.
            fn double(&self, value: $number, values: [$number; $count]) -> Result<$number, Vec<($number)>>;
            /// Later.
            async fn later(&self, value: Option<$number>) -> (Option<$number>);
        }
    };
}

/// Two arguments of one name, which differ in where they come from.
macro_rules! hygienic {
    ($name:ident, $argument:ident) => {
        /// A service.
        #[distribution::service]
        pub trait $name {
            /// A method.
            fn both(&self, value: u8, $argument: u16) -> u32;
        }
    };
}

macro_rules! streaming {
    ($name:ident, $value:ty, $error:path, $returned:ty, $taken:ty) => {
        /// Streams whose types come from elsewhere.
        #[distribution::service]
        pub trait $name {
            /// The type of the items.
            fn items(&self, values: Streaming<$value>) -> impl Iterator<Item = $value> + Send;
            /// The types of their results.
            fn results(&self, values: Streaming<Option<$value>>) -> impl Stream<Item = Result<$value, $error>> + Send;
            /// The whole types.
            fn whole(&self, values: $taken) -> $returned;
            /// The same in parentheses.
            fn grouped(&self, values: ($taken)) -> ($returned);
        }
    };
}

piecewise! {
    /// A service in pieces.
    pub Pieces 3 "pieces" {
        /// A method in pieces.
        sum(values: Vec<i64>, more: Option<Vec<i64>>) -> Result<i64, String>;
        /// A call that can be repeated.
        #[rpc(idempotent)]
        count(from: u64) -> u64;
        /// A stream of them.
        counts(from: u64, steps: Streaming<u64>) -> impl Iterator<Item = u64> + Send;
    }
}

whole! {
    /// A service in one piece.
    pub trait Whole {
        /// A method.
        #[rpc(idempotent)]
        async fn answer(&self, value: u8) -> u8;
    }
}

tokens! {
    /// A service token by token.
    #[distribution::service]
    pub trait Tokens {
        /// A method.
        fn answer(&self, value: u8) -> u8;
    }
}

numeric!(Floats, f64, 3);
numeric!(Bytes, u8, 4);
hygienic!(Hygienic, value);
streaming!(Streams, u8, std::string::String, impl Iterator<Item = Result<u8, u16>> + Send, Streaming<Vec<u8>>);

struct Implementation;

impl Pieces for Implementation {
    fn sum(&self, values: Vec<i64>, more: Option<Vec<i64>>) -> Result<i64, String> {
        Ok(values.iter().chain(more.iter().flatten()).sum())
    }
    fn count(&self, from: u64) -> u64 {
        from
    }
    fn counts(&self, from: u64, steps: Streaming<u64>) -> impl Iterator<Item = u64> + Send {
        steps.into_iter().map(move |step| from + step)
    }
}

impl Whole for Implementation {
    async fn answer(&self, value: u8) -> u8 {
        value
    }
}

impl Tokens for Implementation {
    fn answer(&self, value: u8) -> u8 {
        value
    }
}

impl Floats for Implementation {
    fn double(&self, value: f64, _: [f64; 3]) -> Result<f64, Vec<f64>> {
        Ok(value * 2.0)
    }
    async fn later(&self, value: Option<f64>) -> Option<f64> {
        value
    }
}

impl Hygienic for Implementation {
    fn both(&self, one: u8, other: u16) -> u32 {
        u32::from(one) + u32::from(other)
    }
}

impl Streams for Implementation {
    fn items(&self, values: Streaming<u8>) -> impl Iterator<Item = u8> + Send {
        values.into_iter()
    }
    fn results(&self, values: Streaming<Option<u8>>) -> impl Stream<Item = Result<u8, String>> + Send {
        values.map(|value| value.ok_or_else(|| "nothing".to_owned()))
    }
    fn whole(&self, values: Streaming<Vec<u8>>) -> impl Iterator<Item = Result<u8, u16>> + Send {
        values.into_iter().flatten().map(Ok)
    }
    fn grouped(&self, values: Streaming<Vec<u8>>) -> impl Iterator<Item = Result<u8, u16>> + Send {
        self.whole(values)
    }
}

/// What each method of the clients returns; it is compiled and not run.
fn calls(
    pieces: &PiecesClient,
    whole: &WholeClient,
    floats: &FloatsClient,
    bytes: &BytesClient,
    streams: &StreamsClient,
) {
    let _: StreamCall<u64> = pieces.counts(1, Streaming::from_iter([2]));
    let _: StreamCall<u8> = streams.items(Streaming::from_iter([1]));
    let _: StreamCall<u8, String> = streams.results(Streaming::from_iter([None]));
    let _: StreamCall<u8, u16> = streams.whole(Streaming::from_iter([vec![1]]));
    let _: StreamCall<u8, u16> = streams.grouped(Streaming::from_iter([vec![1]]));
    let _: Call<i64, String> = pieces.sum(vec![1], None);
    let _: Call<u64> = pieces.count(1);
    let _: Call<u8> = whole.answer(1);
    let _: Call<f64, Vec<f64>> = floats.double(1.0, [1.0; 3]);
    let _: Call<Option<u8>> = bytes.later(Some(1));
}

fn main() {
    assert_eq!(Implementation.sum(vec![1, 2], Some(vec![3])), Ok(6));
    assert_eq!(Implementation.both(1, 2), 3);
    let _ = (PiecesServer::new(Implementation), WholeServer::new(Implementation), TokensServer::new(Implementation));
    let _ = (FloatsServer::new(Implementation), HygienicServer::new(Implementation));
    let _ = StreamsServer::new(Implementation);
    let _ = calls;
}

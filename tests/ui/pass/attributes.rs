//! Attributes on traits, methods and arguments, and conditions above all.

#![deny(warnings, missing_docs)]
#![allow(unexpected_cfgs, clippy::non_minimal_cfg)]

use distribution::{Call, StreamCall, Streaming};
use futures::{Stream, stream};

/// There only under a condition.
#[distribution::service]
#[cfg(any())]
pub trait Nowhere {
    /// Of a type that does not exist.
    fn nothing(&self, nothing: Nothing) -> Nothing;
}

#[distribution::service]
/// There under a condition that is met.
#[cfg(all())]
pub trait Somewhere {
    /// There on no system.
    #[cfg(any())]
    fn nowhere(&self, nothing: Nothing) -> Nothing;

    /// There on no system.
    #[cfg_attr(all(), cfg(any()))]
    async fn nowhere_later(&self, nothing: Nothing) -> Result<Nothing, Nothing>;

    /// One of two that share a name.
    #[cfg(all())]
    fn either(&self, value: u8) -> u8;

    /// The other one.
    #[cfg(not(all()))]
    fn either(&self, value: u16) -> u16;

    #[cfg_attr(all(), doc = "Documented under a condition.", track_caller)]
    fn somewhere(&self) -> u8;

    /// A stream on no system.
    #[cfg(any())]
    fn streams(&self, nothing: Streaming<Nothing>) -> impl Stream<Item = Result<Nothing, Nothing>> + Send;

    /// The stream that is there instead.
    #[cfg(all())]
    fn streams(&self, values: Streaming<u8>) -> impl Stream<Item = u8> + Send;
}

/// A service all of whose methods are gone.
#[distribution::service]
pub trait Empty {
    /// There on no system.
    #[cfg(any())]
    fn nowhere(&self);
}

/// Attributes that say something about calls.
#[distribution::service]
#[must_use = "a trait object is not of much use otherwise"]
#[doc(alias = "advice")]
pub trait Advice {
    /// Must be used, as every call must be.
    #[must_use]
    fn must_use(&self) -> u8;

    /// Must be used, for a reason.
    #[must_use = "for a reason"]
    async fn must_use_later(&self) -> u8;

    /// A stream is to be used anyway.
    #[must_use = "for a reason"]
    fn must_use_stream(&self) -> impl Iterator<Item = u8> + Send;

    /// An old stream.
    #[deprecated]
    fn old_stream(&self, values: Streaming<u8>) -> impl Stream<Item = u8> + Send;

    /// Old, and served all the same.
    #[deprecated(note = "call `must_use`")]
    fn old(&self) -> u8;

    /// Old, and served all the same.
    #[deprecated]
    async fn old_later(&self) -> u8;

    /// Lints of every level.
    #[allow(non_snake_case)]
    #[warn(unused)]
    #[deny(dead_code)]
    fn Lints(&self, #[allow(non_snake_case)] Value: u8) -> u8;

    /// A lint that comes about in the trait, and may not elsewhere.
    #[expect(non_snake_case)]
    fn Expected(&self) -> u8;

    #[doc(hidden)]
    fn hidden(&self);

    #[doc = concat!("Documented by ", "a macro.")]
    #[doc(alias = "macro")]
    fn documented(&self);

    /// Not
    ///
    /// ```text
    /// a test.
    /// ```
    #[track_caller]
    fn blocks(&self);
}

/// Old as a whole.
#[distribution::service]
#[deprecated]
pub trait Old {
    /// As old.
    fn answer(&self) -> u8;
}

struct Implementation;

impl Somewhere for Implementation {
    fn either(&self, value: u8) -> u8 {
        value
    }
    fn somewhere(&self) -> u8 {
        1
    }
    fn streams(&self, values: Streaming<u8>) -> impl Stream<Item = u8> + Send {
        values
    }
}

impl Empty for Implementation {}

impl Advice for Implementation {
    fn must_use(&self) -> u8 {
        1
    }
    async fn must_use_later(&self) -> u8 {
        2
    }
    fn must_use_stream(&self) -> impl Iterator<Item = u8> + Send {
        [1, 2].into_iter()
    }
    fn old_stream(&self, _: Streaming<u8>) -> impl Stream<Item = u8> + Send {
        stream::empty()
    }
    fn old(&self) -> u8 {
        3
    }
    async fn old_later(&self) -> u8 {
        4
    }
    fn Lints(&self, value: u8) -> u8 {
        value
    }
    fn Expected(&self) -> u8 {
        6
    }
    fn hidden(&self) {}
    fn documented(&self) {}
    fn blocks(&self) {}
}

/// What each method of the clients returns; it is compiled and not run.
fn calls(somewhere: &SomewhereClient, advice: &AdviceClient) {
    let _: Call<u8> = somewhere.either(1);
    let _: StreamCall<u8> = somewhere.streams(Streaming::from_iter([1]));
    let _: StreamCall<u8> = advice.must_use_stream();
    #[expect(deprecated)]
    let _: StreamCall<u8> = advice.old_stream(Streaming::from_iter([1]));
    let _: Call<u8> = advice.must_use();
    let _: Call<u8> = advice.must_use_later();
    #[expect(deprecated)]
    let _: Call<u8> = advice.old();
    let _: Call<u8> = advice.Lints(1);
}

#[expect(deprecated)]
fn old(client: &OldClient) -> Call<u8> {
    client.answer()
}

fn main() {
    assert_eq!(Implementation.either(1), 1);
    assert_eq!(Implementation.must_use(), 1);
    let _ = (SomewhereServer::new(Implementation), EmptyServer::new(Implementation), AdviceServer::new(Implementation));
    let _ = (calls, old);
}

//! Items are what serde needs; where they are not, rustc says so at the method or at the type.

use distribution::Streaming;
use futures::Stream;
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Received(pub u8);

#[distribution::service]
pub trait Unserializable {
    fn iterator(&self) -> impl Iterator<Item = Received> + Send;
    fn stream(&self) -> impl Stream<Item = Result<u8, Received>> + Send;
    fn argument(&self, first: u8, values: Streaming<Received>) -> u8;
}

fn main() {}

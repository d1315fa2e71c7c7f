//! One implementation answers all calls, so methods take `&self`.

use std::sync::Arc;

#[distribution::service]
pub trait Receivers {
    fn mutable(&mut self, value: u8) -> u8;
    async fn mutable_later(&mut self) -> u8;
    fn by_value(self)
    where
        Self: Sized;
    fn by_mutable_value(mut self)
    where
        Self: Sized;
    fn shared(self: Arc<Self>, value: u8) -> u8;
    fn typed(self: &Self) -> u8;
    fn typed_mutable(self: &mut Self) -> u8;
    fn forever(&'static self) -> u8;
    fn none() -> u8;
    fn none_but_an_argument(value: u8) -> u8;
    async fn right(&self, value: u8) -> u8;
}

struct Implementation;

impl Receivers for Implementation {
    fn mutable(&mut self, value: u8) -> u8 {
        value
    }
    async fn mutable_later(&mut self) -> u8 {
        1
    }
    fn by_value(self) {}
    fn by_mutable_value(self) {}
    fn shared(self: Arc<Self>, value: u8) -> u8 {
        value
    }
    fn typed(&self) -> u8 {
        1
    }
    fn typed_mutable(&mut self) -> u8 {
        1
    }
    fn forever(&'static self) -> u8 {
        1
    }
    fn none() -> u8 {
        1
    }
    fn none_but_an_argument(value: u8) -> u8 {
        value
    }
    async fn right(&self, value: u8) -> u8 {
        value
    }
}

fn calls(client: &ReceiversClient) {
    let _: distribution::Call<u8> = client.mutable(1);
    let _: distribution::Call<u8> = client.shared(1);
    let _: distribution::Call<u8> = client.right(1);
}

fn main() {
    let _ = (ReceiversServer::new(Implementation), calls);
}

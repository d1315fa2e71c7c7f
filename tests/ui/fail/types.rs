//! Types that only one of the sides would know.

use distribution::Call;

#[distribution::service]
pub trait Types: Sized {
    fn iterator(&self, values: impl Iterator<Item = u8>) -> u8;
    fn callbacks(&self, callbacks: Vec<Box<dyn Fn(u8) -> u8>>, more: (u8, impl Fn(&str) -> u8)) -> u8;
    fn answer(&self) -> impl Iterator<Item = u8>;
    async fn answer_later(&self) -> impl Iterator<Item = u8>;
    fn same(&self, other: Self) -> u8;
    fn again(&self) -> Option<Self>;
    fn both(&self, first: Vec<Self>, second: <Self as Other>::Item) -> Result<u8, Self>
    where
        Self: Other;
    fn never(&self) -> !;
}

pub trait Other {
    type Item;
}

impl Other for Implementation {
    type Item = u8;
}

pub struct Implementation;

impl Types for Implementation {
    fn iterator(&self, _: impl Iterator<Item = u8>) -> u8 {
        1
    }
    fn callbacks(&self, _: Vec<Box<dyn Fn(u8) -> u8>>, _: (u8, impl Fn(&str) -> u8)) -> u8 {
        1
    }
    fn answer(&self) -> impl Iterator<Item = u8> {
        [].into_iter()
    }
    async fn answer_later(&self) -> impl Iterator<Item = u8> {
        [].into_iter()
    }
    fn same(&self, _: Self) -> u8 {
        1
    }
    fn again(&self) -> Option<Self> {
        None
    }
    fn both(&self, _: Vec<Self>, _: u8) -> Result<u8, Self> {
        Ok(1)
    }
    fn never(&self) -> ! {
        loop {}
    }
}

fn calls(client: &TypesClient) {
    let _: Call<u8> = client.iterator([1].into_iter());
    let _: Call<u8> = client.same(Implementation);
}

fn main() {
    let _ = (TypesServer::new(Implementation), calls);
}

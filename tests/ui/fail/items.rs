//! What a trait may hold beside methods without bodies.

macro_rules! more_methods {
    () => {
        fn from_a_macro(&self);
    };
}

#[distribution::service]
pub trait Items {
    type Item: Send;
    type Generic<T>;
    const LIMIT: usize;
    const DEFAULT: usize = 3;
    more_methods!();
    fn body(&self, value: u8) -> u8 {
        value + 1
    }
    async fn body_later(&self, mut value: u8) -> u8 {
        value += 1;
        value
    }
    fn uses(&self, item: Self::Item) -> u8;
}

#[distribution::service]
pub trait Constant {
    const LIMIT: usize;
}

#[distribution::service]
pub trait Empty {}

#[distribution::service]
pub trait Twice {
    fn method(&self, value: u8) -> u8;
    fn r#method(&self) -> u16;
    async fn method(&self) -> u32;
}

struct Implementation;

impl Items for Implementation {
    type Item = u8;
    type Generic<T> = T;
    const LIMIT: usize = 3;
    fn from_a_macro(&self) {}
    fn uses(&self, item: u8) -> u8 {
        item
    }
}

impl Constant for Implementation {
    const LIMIT: usize = 3;
}

impl Empty for Implementation {}

impl Twice for Implementation {
    fn method(&self, value: u8) -> u8 {
        value
    }
}

fn calls(items: &ItemsClient, twice: &TwiceClient) {
    let _: distribution::Call<u8> = items.body(1);
    let _: distribution::Call<u8> = items.uses(1);
    let _: distribution::Call<u8> = twice.method(1);
}

fn main() {
    let _ = (ItemsServer::new(Implementation), ConstantServer::new(Implementation), EmptyServer::new(Implementation));
    let _ = (TwiceServer::new(Implementation), calls);
}

//! The client has a constructor, which no method may be called like.

#[distribution::service]
pub trait Constructor {
    fn new(&self, value: u8) -> u8;
    fn newer(&self, value: u8) -> u8;
}

#[distribution::service]
trait Raw {
    async fn r#new(&self) -> u8;
}

struct Implementation;

impl Constructor for Implementation {
    fn new(&self, value: u8) -> u8 {
        value
    }
    fn newer(&self, value: u8) -> u8 {
        value
    }
}

impl Raw for Implementation {
    async fn new(&self) -> u8 {
        1
    }
}

fn calls(caller: &impl distribution::Caller) {
    let _: distribution::Call<u8> = ConstructorClient::new(caller).newer(1);
    let _ = RawClient::new(caller);
}

fn main() {
    let _ = (ConstructorServer::new(Implementation), RawServer::new(Implementation));
}

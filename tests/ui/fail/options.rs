//! Options that there are not, or not so.

#[distribution::service(versoin = 2, retries, idempotent, idempotent, name = "a", name = "b")]
pub trait Unknown {
    fn method(&self, value: u8) -> u8;
}

#[distribution::service(version = "2", name = 3, idempotent = true)]
pub trait Kinds {
    fn method(&self, value: u8) -> u8;
}

#[distribution::service(version, name, idempotent(yes))]
pub trait Shapes {
    fn method(&self, value: u8) -> u8;
}

#[distribution::service(version = 4294967296)]
pub trait Large {
    fn method(&self, value: u8) -> u8;
}

#[distribution::service(version = -1)]
pub trait Negative {
    fn method(&self, value: u8) -> u8;
}

#[distribution::service("Arith")]
pub trait Literal {
    fn method(&self, value: u8) -> u8;
}

#[distribution::service(name = "")]
pub trait Nameless {
    fn method(&self, value: u8) -> u8;
}

#[distribution::service(name = "two words")]
pub trait Words {
    fn method(&self, value: u8) -> u8;
}

#[distribution::service(
    name = "a-name-of-129-bytes-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
)]
pub trait Long {
    fn method(&self, value: u8) -> u8;
}

#[distribution::service]
pub trait Größe {
    fn method(&self, value: u8) -> u8;
}

#[distribution::service]
#[rpc(idempotent)]
pub trait Methods {
    #[rpc]
    fn none(&self, value: u8) -> u8;
    #[rpc()]
    fn empty(&self, value: u8) -> u8;
    #[rpc = "idempotent"]
    fn assigned(&self, value: u8) -> u8;
    #[rpc(idempotent, idempotent)]
    fn twice(&self, value: u8) -> u8;
    #[rpc(idempotent)]
    #[rpc(idempotent)]
    fn twice_apart(&self, value: u8) -> u8;
    #[rpc(retry = 3, timeout)]
    fn unknown(&self, value: u8) -> u8;
    #[rpc(idempotent = true)]
    fn value(&self, value: u8) -> u8;
    #[rpc(3)]
    fn number(&self, value: u8) -> u8;
    #[cfg_attr(all(), rpc(idempotent))]
    fn condition(&self, value: u8) -> u8;
}

struct Implementation;

impl Unknown for Implementation {
    fn method(&self, value: u8) -> u8 {
        value
    }
}

fn calls(unknown: &UnknownClient, methods: &MethodsClient) {
    let _: distribution::Call<u8> = unknown.method(1);
    let _: distribution::Call<u8> = methods.unknown(1);
}

fn main() {
    let _ = (UnknownServer::new(Implementation), calls);
}

//! The macro goes on traits.

#[distribution::service]
pub struct Structure;

#[distribution::service]
impl Structure {
    pub fn method(&self) {}
}

#[distribution::service(versoin = 2)]
pub enum Enumeration {
    Variant,
}

#[distribution::service]
pub fn function() {}

#[distribution::service]
pub mod module {}

#[distribution::service]
pub const CONSTANT: u8 = 3;

pub trait Plain {
    #[distribution::service]
    fn method(&self);
}

fn main() {
    Structure.method();
    let _ = Enumeration::Variant;
    function();
}

//! A service and its methods have one name each, and one meaning.

use std::fmt::Debug;

#[distribution::service]
pub trait Generic<T: Send> {
    fn method(&self, value: T) -> u8;
}

#[distribution::service]
pub trait Lifetime<'a> {
    fn method(&self, value: u8) -> u8;
}

#[distribution::service]
pub trait Number<const N: usize> {
    fn method(&self, value: u8) -> u8;
}

#[distribution::service]
pub trait Clause
where
    Self: Debug,
{
    fn method(&self, value: u8) -> u8;
}

#[distribution::service]
pub trait Methods {
    fn kind<T: Debug>(&self, value: T) -> u8;
    fn lifetime<'a>(&'a self, value: u8) -> u8;
    async fn number<const N: usize>(&self, values: [u8; N]) -> u8;
    fn clause(&self) -> u8
    where
        Self: Debug;
}

#[derive(Debug)]
struct Implementation;

impl Generic<u8> for Implementation {
    fn method(&self, value: u8) -> u8 {
        value
    }
}

impl<'a> Lifetime<'a> for Implementation {
    fn method(&self, value: u8) -> u8 {
        value
    }
}

impl Number<3> for Implementation {
    fn method(&self, value: u8) -> u8 {
        value
    }
}

impl Clause for Implementation {
    fn method(&self, value: u8) -> u8 {
        value
    }
}

impl Methods for Implementation {
    fn kind<T: Debug>(&self, _: T) -> u8 {
        1
    }
    fn lifetime<'a>(&'a self, value: u8) -> u8 {
        value
    }
    async fn number<const N: usize>(&self, _: [u8; N]) -> u8 {
        1
    }
    fn clause(&self) -> u8 {
        1
    }
}

fn calls(generic: &GenericClient, clause: &ClauseClient, methods: &MethodsClient) {
    let _: distribution::Call<u8> = generic.method(1);
    let _: distribution::Call<u8> = clause.method(1);
    let _: distribution::Call<u8> = methods.kind(1);
    let _: distribution::Call<u8> = methods.number([1]);
}

fn main() {
    let _ = (GenericServer::new(Implementation), NumberServer::new(Implementation), calls);
}

//! The macro sees names and no types, so both of a `Result`'s have to be there.

#![allow(unused_parens)]

use std::{fmt, io};

use distribution::Call;

type Result<T, E = String> = std::result::Result<T, E>;

mod bare {
    pub type Result = std::result::Result<u8, String>;
}

#[distribution::service]
pub trait Results {
    fn io(&self) -> io::Result<u8>;
    async fn io_later(&self) -> std::io::Result<Vec<u8>>;
    fn formats(&self) -> fmt::Result;
    fn short(&self) -> Result<u8>;
    fn bare(&self) -> bare::Result;
    fn grouped(&self) -> (Result<(u8)>);
    fn right(&self) -> Result<u8, String>;
}

struct Implementation;

impl Results for Implementation {
    fn io(&self) -> io::Result<u8> {
        Ok(1)
    }
    async fn io_later(&self) -> io::Result<Vec<u8>> {
        Ok(vec![])
    }
    fn formats(&self) -> fmt::Result {
        Ok(())
    }
    fn short(&self) -> Result<u8> {
        Ok(1)
    }
    fn bare(&self) -> bare::Result {
        Ok(1)
    }
    fn grouped(&self) -> Result<u8> {
        Ok(1)
    }
    fn right(&self) -> Result<u8, String> {
        Ok(1)
    }
}

fn calls(client: &ResultsClient) {
    let _: Call<u8> = client.io();
    let _: Call<u8, String> = client.right();
}

fn main() {
    let _ = (ResultsServer::new(Implementation), calls);
}

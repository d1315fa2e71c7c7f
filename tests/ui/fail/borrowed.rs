//! Arguments and answers are sent, so they own what they hold.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use distribution::Call;

#[distribution::service]
pub trait Borrowed {
    fn text(&self, text: &str) -> u8;
    fn slice(&self, values: &[u64]) -> u8;
    fn reference(&self, value: &u64, more: &mut Vec<u8>) -> u8;
    fn path(&self, path: &Path) -> u8;
    fn texts(&self, texts: &[&str]) -> u8;
    fn inside(&self, map: HashMap<&str, Option<&[u8]>>, pair: (u8, &'static str)) -> u8;
    async fn later(&self, text: &str) -> Result<u8, &'static str>;
    fn object(&self, object: &dyn Send) -> u8;
    fn answer(&self) -> &str;
    async fn answer_later(&self) -> Option<&[u8]>;
    fn cow(&self, text: Cow<'static, str>, elided: Cow<str>, anonymous: Cow<'_, [u8]>) -> u8;
    fn undeclared(&self, text: Cow<'a, str>, holder: Holder<'b>) -> u8;
    fn lifetime(&self, holder: Holder<'static>, boxed: Box<dyn Fn() + 'static>) -> u8;
}

pub struct Holder<'a>(pub &'a str);

struct Implementation;

impl Borrowed for Implementation {
    fn text(&self, _: &str) -> u8 {
        1
    }
    fn slice(&self, _: &[u64]) -> u8 {
        1
    }
    fn reference(&self, _: &u64, _: &mut Vec<u8>) -> u8 {
        1
    }
    fn path(&self, _: &Path) -> u8 {
        1
    }
    fn texts(&self, _: &[&str]) -> u8 {
        1
    }
    fn inside(&self, _: HashMap<&str, Option<&[u8]>>, _: (u8, &'static str)) -> u8 {
        1
    }
    async fn later(&self, _: &str) -> Result<u8, &'static str> {
        Ok(1)
    }
    fn object(&self, _: &dyn Send) -> u8 {
        1
    }
    fn answer(&self) -> &str {
        ""
    }
    async fn answer_later(&self) -> Option<&[u8]> {
        None
    }
    fn cow(&self, _: Cow<'static, str>, _: Cow<str>, _: Cow<'_, [u8]>) -> u8 {
        1
    }
    fn undeclared<'a, 'b>(&self, _: Cow<'a, str>, _: Holder<'b>) -> u8 {
        1
    }
    fn lifetime(&self, _: Holder<'static>, _: Box<dyn Fn() + 'static>) -> u8 {
        1
    }
}

fn calls(client: &BorrowedClient) {
    let _: Call<u8> = client.text("");
    let _: Call<u8> = client.slice(&[1]);
    let _: Call<u8, String> = client.later("");
    let _: Call<String> = client.answer();
}

fn main() {
    let _ = (BorrowedServer::new(Implementation), calls);
}

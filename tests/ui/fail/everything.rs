//! All that is wrong is said at once, and nothing is said twice.

use distribution::Call;

#[distribution::service(versoin = 2)]
/// Documented, and wrong in many ways.
pub trait Everything<T> {
    type Item;
    fn new(&mut self, text: &str) -> &str;
    #[rpc(retry)]
    async fn generic<U>(self, value: U, (first, second): (u8, impl Send)) -> std::io::Result<U>
    where
        Self: Sized;
    fn body(value: Vec<T>) -> Option<Self>
    where
        Self: Sized,
    {
        drop(value);
        None
    }
    fn right(&self, value: u8) -> Result<u8, String>;
}

fn main() {
    let _ = |client: EverythingClient| -> Call<u8, String> { client.right(1) };
    let _ = EverythingServer::new(3);
}

//! A `Streaming` says what its items are; where it does not, rustc says so.

use distribution::Streaming;

#[distribution::service]
pub trait Untyped {
    fn sum(&self, first: u64, values: Streaming) -> u64;
    async fn doubled(&self, values: Streaming<>) -> Result<u64, String>;
    fn two(&self, values: distribution::Streaming<u64, u64>) -> impl Iterator<Item = u64> + Send;
    fn inside(&self, values: Vec<Streaming>) -> u64;
    fn returned(&self) -> Streaming;
    fn items(&self) -> impl Iterator<Item = Streaming> + Send;
}

struct Implementation;

impl Untyped for Implementation {
    fn sum(&self, first: u64, values: Streaming<u64>) -> u64 {
        first + values.into_iter().sum::<u64>()
    }
    async fn doubled(&self, values: Streaming<u64>) -> Result<u64, String> {
        Ok(2 * values.into_iter().sum::<u64>())
    }
    fn two(&self, values: Streaming<u64>) -> impl Iterator<Item = u64> + Send {
        values.into_iter()
    }
    fn inside(&self, _: Vec<Streaming<u64>>) -> u64 {
        1
    }
    fn returned(&self) -> Streaming<u64> {
        Streaming::from_iter([1])
    }
    fn items(&self) -> impl Iterator<Item = Streaming<u64>> + Send {
        [].into_iter()
    }
}

fn main() {
    let _ = UntypedServer::new(Implementation);
    let _ = |client: UntypedClient| client.sum(1, Streaming::from_iter([1_u64]));
}

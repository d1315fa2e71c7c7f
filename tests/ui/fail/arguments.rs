//! Arguments have one name each, are always there, and are not too many.

use distribution::Call;

pub struct Pair {
    pub first: u8,
    pub second: u8,
}

#[distribution::service]
pub trait Arguments {
    fn condition(&self, first: u8, #[cfg(all())] second: u8) -> u8;
    fn indirect(&self, #[cfg_attr(all(), cfg(all()))] value: u8) -> u8;
    fn mutable(&self, mut value: u8) -> u8;
    fn tuple(&self, (first, second): (u8, u8)) -> u8;
    async fn structure(&self, Pair { first, second }: Pair, _: u8) -> u8;
    fn reference(&self, ref value: u8) -> u8;
    #[allow(clippy::too_many_arguments)]
    fn seventeen(
        &self,
        a: u8,
        b: u8,
        c: u8,
        d: u8,
        e: u8,
        f: u8,
        g: u8,
        h: u8,
        i: u8,
        j: u8,
        k: u8,
        l: u8,
        m: u8,
        n: u8,
        o: u8,
        p: u8,
        q: u8,
    ) -> u8;
}

struct Implementation;

impl Arguments for Implementation {
    fn condition(&self, _: u8, _: u8) -> u8 {
        1
    }
    fn indirect(&self, _: u8) -> u8 {
        1
    }
    fn mutable(&self, mut value: u8) -> u8 {
        value += 1;
        value
    }
    fn tuple(&self, (first, second): (u8, u8)) -> u8 {
        first + second
    }
    async fn structure(&self, Pair { first, second }: Pair, _: u8) -> u8 {
        first + second
    }
    fn reference(&self, ref value: u8) -> u8 {
        *value
    }
    fn seventeen(
        &self,
        _: u8,
        _: u8,
        _: u8,
        _: u8,
        _: u8,
        _: u8,
        _: u8,
        _: u8,
        _: u8,
        _: u8,
        _: u8,
        _: u8,
        _: u8,
        _: u8,
        _: u8,
        _: u8,
        _: u8,
    ) -> u8 {
        1
    }
}

fn calls(client: &ArgumentsClient) {
    let _: Call<u8> = client.mutable(1);
    let _: Call<u8> = client.tuple((1, 2));
    let _: Call<u8> = client.structure(Pair { first: 1, second: 2 }, 3);
    let _: Call<u8> = client.seventeen(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17);
}

fn main() {
    let _ = (ArgumentsServer::new(Implementation), calls);
}

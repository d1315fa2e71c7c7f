//! A method is a plain `fn` or `async fn`, and its trait a plain `trait`.

#[distribution::service]
pub trait Qualifiers {
    unsafe fn danger(&self) -> u8;
    async unsafe fn danger_later(&self) -> u8;
    extern "C" fn foreign(&self) -> u8;
    const fn constant(&self) -> u8;
    pub fn visible(&self) -> u8;
    /// Documented as well.
    #[rpc(idempotent)]
    pub(crate) async fn rather_visible(&self) -> u8;
    unsafe extern "C" fn variadic(&self, value: u8, _: ...) -> u8;
}

#[distribution::service]
pub unsafe trait Unsafe {
    fn method(&self) -> u8;
}

#[distribution::service]
pub auto trait Auto {
    fn method(&self) -> u8;
}

struct Implementation;

impl Qualifiers for Implementation {
    unsafe fn danger(&self) -> u8 {
        1
    }
    async unsafe fn danger_later(&self) -> u8 {
        1
    }
    extern "C" fn foreign(&self) -> u8 {
        1
    }
    fn constant(&self) -> u8 {
        1
    }
    fn visible(&self) -> u8 {
        1
    }
    async fn rather_visible(&self) -> u8 {
        1
    }
    unsafe extern "C" fn variadic(&self, _: u8) -> u8 {
        1
    }
}

unsafe impl Unsafe for Implementation {
    fn method(&self) -> u8 {
        1
    }
}

impl Auto for Implementation {
    fn method(&self) -> u8 {
        1
    }
}

fn calls(qualifiers: &QualifiersClient, auto: &AutoClient) {
    let _: distribution::Call<u8> = qualifiers.danger();
    let _: distribution::Call<u8> = qualifiers.visible();
    let _: distribution::Call<u8> = auto.method();
}

fn main() {
    let _ = (QualifiersServer::new(Implementation), UnsafeServer::new(Implementation), AutoServer::new(Implementation));
    let _ = calls;
}

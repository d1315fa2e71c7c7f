//! Services in modules and in functions' bodies, of any visibility, several on one type.

#![deny(warnings, missing_docs, missing_debug_implementations, unreachable_pub, unused_qualifications)]

use distribution::{Call, StreamCall, Streaming};
use futures::{Stream, stream};

mod outer {
    pub(crate) mod inner {
        #[distribution::service]
        pub(crate) trait Crate {
            fn answer(&self) -> u8;
        }

        #[distribution::service]
        pub(in crate::outer) trait Near {
            fn answer(&self) -> u8;
        }

        #[distribution::service]
        pub(super) trait Parent {
            fn answer(&self) -> u8;
        }

        #[distribution::service]
        trait Private {
            fn answer(&self, value: Hidden) -> Hidden;
        }

        #[derive(serde::Serialize, serde::Deserialize)]
        struct Hidden;

        struct Implementation;

        impl Private for Implementation {
            fn answer(&self, value: Hidden) -> Hidden {
                value
            }
        }

        pub(crate) fn serve_private() -> String {
            format!("{:?}", PrivateServer::new(Implementation))
        }
    }

    pub(crate) struct Implementation;

    impl inner::Near for Implementation {
        fn answer(&self) -> u8 {
            1
        }
    }

    impl inner::Parent for Implementation {
        fn answer(&self) -> u8 {
            2
        }
    }

    pub(crate) fn serve() -> [String; 2] {
        [
            format!("{:?}", inner::NearServer::new(Implementation)),
            format!("{:?}", inner::ParentServer::new(Implementation)),
        ]
    }
}

/// Services that nobody uses are not dead code: a node needs no client, and a master no server.
mod unused {
    use distribution::Streaming;

    #[distribution::service]
    trait Unused {
        fn never(&self) -> u8;
        async fn ever(&self) -> u8;
        fn items(&self, values: Streaming<u8>) -> impl Iterator<Item = u8> + Send;
        fn items_later(&self) -> impl futures::Stream<Item = u8> + Send;
    }
}

/// One of two services with a method of the same name.
#[distribution::service]
pub trait First {
    /// Named like the other's.
    fn answer(&self, value: u8) -> u8;
}

/// The other one.
#[distribution::service]
pub trait Second {
    /// Named like the first one's.
    async fn answer(&self, value: u8) -> u8;
}

/// A service that asks more of its implementations, and what they are anyway.
#[distribution::service]
pub trait Above: First + Send + Sync + std::fmt::Debug + 'static {
    /// Its own.
    fn more(&self) -> u8;
}

#[derive(Debug)]
struct Both;

impl First for Both {
    fn answer(&self, value: u8) -> u8 {
        value
    }
}

impl Second for Both {
    async fn answer(&self, value: u8) -> u8 {
        value
    }
}

impl Above for Both {
    fn more(&self) -> u8 {
        First::answer(self, 1)
    }
}

impl outer::inner::Crate for Both {
    fn answer(&self) -> u8 {
        3
    }
}

fn in_a_body() -> String {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Local(u8);

    #[distribution::service]
    trait Inside {
        fn answer(&self, value: Local) -> Local;
        async fn later(&self) -> Result<Local, Local>;
        fn items(&self, values: Streaming<Local>) -> impl Iterator<Item = Local> + Send;
        fn items_later(&self, end: u8) -> impl Stream<Item = Result<Local, Local>> + Send;
    }

    struct Implementation;

    impl Inside for Implementation {
        fn answer(&self, value: Local) -> Local {
            value
        }
        async fn later(&self) -> Result<Local, Local> {
            Ok(Local(1))
        }
        fn items(&self, values: Streaming<Local>) -> impl Iterator<Item = Local> + Send {
            values.into_iter()
        }
        fn items_later(&self, end: u8) -> impl Stream<Item = Result<Local, Local>> + Send {
            stream::iter((0..end).map(|value| Ok(Local(value))))
        }
    }

    let _ = |client: &InsideClient| -> StreamCall<Local> { client.items(Streaming::from_iter([Local(1)])) };
    let _ = |client: &InsideClient| -> StreamCall<Local, Local> { client.items_later(1) };
    let _ = |client: &InsideClient| -> (Call<Local>, Call<Local, Local>) { (client.answer(Local(1)), client.later()) };
    assert_eq!(Implementation.answer(Local(3)).0, 3);
    format!("{:?}", InsideServer::new(Implementation))
}

fn main() {
    assert_eq!(First::answer(&Both, 4), 4);
    assert_eq!(Both.more(), 1);
    assert_eq!(in_a_body(), "InsideServer { .. }");
    assert_eq!(outer::serve(), ["NearServer { .. }", "ParentServer { .. }"]);
    assert_eq!(outer::inner::serve_private(), "PrivateServer { .. }");
    let _ = (FirstServer::new(Both), SecondServer::new(Both), AboveServer::new(Both));
    let _ = outer::inner::CrateServer::new(Both);
}

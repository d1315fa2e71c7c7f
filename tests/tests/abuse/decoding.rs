//! Values whose own `Deserialize` panics over what a peer sent.

use distribution::{
    CallError, LocalCluster,
    error::{Execution, Part},
    prelude::*,
};
use distribution_tests::{failure, soon};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const UNLUCKY: u8 = 13;

/// Can be sent with any number, and not be received with one of them.
#[derive(Clone, Debug, PartialEq)]
struct Fussy(u8);

impl Serialize for Fussy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.0)
    }
}

impl<'de> Deserialize<'de> for Fussy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u8::deserialize(deserializer)?;
        assert_ne!(number, UNLUCKY, "bad luck");
        Ok(Self(number))
    }
}

#[distribution::service]
trait Luck {
    fn give(&self, number: u8) -> Fussy;
    async fn give_async(&self, number: u8) -> Fussy;
    fn fail(&self, number: u8) -> Result<u8, Fussy>;
    fn take(&self, fussy: Fussy) -> u8;
    async fn take_async(&self, fussy: Fussy) -> u8;
}

struct Giver;

impl Luck for Giver {
    fn give(&self, number: u8) -> Fussy {
        Fussy(number)
    }

    async fn give_async(&self, number: u8) -> Fussy {
        Fussy(number)
    }

    fn fail(&self, number: u8) -> Result<u8, Fussy> {
        Err(Fussy(number))
    }

    fn take(&self, fussy: Fussy) -> u8 {
        fussy.0
    }

    async fn take_async(&self, fussy: Fussy) -> u8 {
        fussy.0
    }
}

/// That decoding this part panicked, and what it said.
#[track_caller]
fn expect_panic(error: &CallError, expected: Part) {
    let CallError::Decode { part, source, .. } = error else { panic!("{error:?}") };
    let said = source.to_string();
    assert!(*part == expected && said.contains("panicked") && said.contains("bad luck"), "{part:?}: {said}");
}

#[tokio::test]
async fn a_panic_while_a_value_is_decoded_is_an_error_of_its_call_alone() {
    let cluster = LocalCluster::builder().nodes(2).serve(|| LuckServer::new(Giver)).start().await.expect("starts");
    let luck = LuckClient::new(&cluster);
    for call in [luck.give(UNLUCKY), luck.give_async(UNLUCKY)] {
        let error = failure(soon("the call", call.into_future()).await);
        assert_eq!(error.execution(), Execution::Ran, "{error:?}");
        expect_panic(&error, Part::Reply);
    }
    for call in [luck.take(Fussy(UNLUCKY)), luck.take_async(Fussy(UNLUCKY))] {
        let error = failure(soon("the call", call.into_future()).await);
        assert_eq!(error.execution(), Execution::NotRun, "{error:?}");
        expect_panic(&error, Part::Arguments);
    }
    match luck.fail(UNLUCKY).await {
        Err(CallError::Decode { part: Part::Reply, source, .. }) => {
            assert!(source.to_string().contains("panicked"), "{source}");
        }
        other => panic!("{other:?}"),
    }
    let answers = soon("all of a broadcast", luck.give(UNLUCKY).broadcast()).await;
    assert_eq!(answers.len(), 2);
    for (_, answer) in answers {
        expect_panic(&failure(answer), Part::Reply);
    }
    // Two hundred of each, and so in batches.
    let numbers = || (0..2_000).map(|number| (number % 10 + 10) as u8);
    let given: Vec<_> = soon("the stream", numbers().map(|number| luck.give(number)).distribute().collect()).await;
    let taken = numbers().map(|number| luck.take(Fussy(number))).distribute();
    let taken: Vec<_> = soon("the stream", taken.collect()).await;
    assert_eq!((given.len(), taken.len()), (2_000, 2_000));
    for ((number, given), taken) in numbers().zip(given).zip(taken) {
        if number == UNLUCKY {
            expect_panic(&failure(given), Part::Reply);
            expect_panic(&failure(taken), Part::Arguments);
        } else {
            assert_eq!((given, taken), (Ok(Fussy(number)), Ok(number)));
        }
    }
    assert_eq!(luck.give(7).await, Ok(Fussy(7)));
}

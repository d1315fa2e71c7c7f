//! Ways to consume a [`Distributed`] without an import of `futures`: `next`, `collect` and the like.

use std::{future::poll_fn, pin::Pin};

use futures::{Stream, StreamExt};

use super::{
    distributable::{Distributable, Yields},
    distributed::Distributed,
    run_state::Item,
};

type Success<C, Y> = <C as Distributable>::Success<<Y as Yields>::Of<<C as Distributable>::Value>>;
type Failure<C> = <C as Distributable>::Failure;
type NextValue<C, Y> = Result<Option<Success<C, Y>>, Failure<C>>;

impl<S: Stream<Item: Distributable>, Y: Yields> Distributed<S, Y> {
    /// Waits for the next result; `None` after the last one.
    ///
    /// # Errors
    ///
    /// The result of a call that failed is yielded like any other, as an `Err`. The stream goes on after it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if the future is dropped, no result is lost and the calls go on.
    ///
    /// ```
    /// # use distribution::{LocalCluster, service};
    /// # #[service]
    /// # pub trait Arith { fn square(&self, number: u64) -> u64; }
    /// # struct Calculator;
    /// # impl Arith for Calculator { fn square(&self, number: u64) -> u64 { number * number } }
    /// # use distribution::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = LocalCluster::builder().nodes(2).serve(|| ArithServer::new(Calculator)).start().await?;
    /// # let arith = ArithClient::new(&cluster);
    /// let mut squares = (0..3).map(|number| arith.square(number)).distribute();
    /// while let Some(square) = squares.next().await {
    ///     match square {
    ///         Ok(square) => println!("{square}"),
    ///         Err(error) => eprintln!("{error}"),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    #[expect(clippy::should_implement_trait, reason = "the name that every asynchronous stream has")]
    pub fn next(&mut self) -> impl Future<Output = Option<Item<S::Item, Y>>> + Unpin {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx))
    }

    /// Waits for the next value; `None` after the last one. Of keyed calls it is a pair of key and value.
    ///
    /// # Errors
    ///
    /// The error of the call, with its key if it has one. The stream can be used further: the next call gives the result
    /// of the next call.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if the future is dropped, no result is lost and the calls go on.
    ///
    /// ```
    /// # use distribution::{LocalCluster, service};
    /// # #[service]
    /// # pub trait Arith { fn square(&self, number: u64) -> u64; }
    /// # struct Calculator;
    /// # impl Arith for Calculator { fn square(&self, number: u64) -> u64 { number * number } }
    /// # use distribution::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = LocalCluster::builder().nodes(2).serve(|| ArithServer::new(Calculator)).start().await?;
    /// # let arith = ArithClient::new(&cluster);
    /// let mut squares = (0..3).map(|number| arith.square(number)).distribute();
    /// while let Some(square) = squares.try_next().await? {
    ///     println!("{square}");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn try_next(&mut self) -> impl Future<Output = NextValue<S::Item, Y>> + Unpin {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx).map(|item| item.map(S::Item::into_result).transpose()))
    }

    /// Collects all results, those of failed calls included, into a `Vec` or another collection.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future loses the results and cancels the calls that have not ended.
    ///
    /// ```
    /// # use distribution::{LocalCluster, service};
    /// # #[service]
    /// # pub trait Arith { fn square(&self, number: u64) -> u64; }
    /// # struct Calculator;
    /// # impl Arith for Calculator { fn square(&self, number: u64) -> u64 { number * number } }
    /// # use distribution::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = LocalCluster::builder().nodes(2).serve(|| ArithServer::new(Calculator)).start().await?;
    /// # let arith = ArithClient::new(&cluster);
    /// let results: Vec<_> = (0..3).map(|number| arith.square(number)).distribute().collect().await;
    /// assert_eq!(results, [Ok(0), Ok(1), Ok(4)]);
    /// # Ok(()) }
    /// ```
    pub async fn collect<B: Default + Extend<Item<S::Item, Y>>>(self) -> B {
        StreamExt::collect(self).await
    }

    /// Collects all values into a `Vec` or another collection. Keyed calls give pairs of key and value, which can be
    /// collected into a map.
    ///
    /// # Errors
    ///
    /// The error of the first call that failed, with its key if it has one. The calls that have not ended are then
    /// cancelled.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future loses the results and cancels the calls that have not ended.
    ///
    /// ```
    /// # use distribution::{LocalCluster, service};
    /// # #[service]
    /// # pub trait Arith { fn square(&self, number: u64) -> u64; }
    /// # struct Calculator;
    /// # impl Arith for Calculator { fn square(&self, number: u64) -> u64 { number * number } }
    /// # use std::collections::HashMap;
    /// # use distribution::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = LocalCluster::builder().nodes(2).serve(|| ArithServer::new(Calculator)).start().await?;
    /// # let arith = ArithClient::new(&cluster);
    /// let calls = (0..3).map(|number| (number, arith.square(number)));
    /// let squares: HashMap<u64, u64> = calls.distribute().try_collect().await?;
    /// assert_eq!(squares[&2], 4);
    /// # Ok(()) }
    /// ```
    pub async fn try_collect<B: Default + Extend<Success<S::Item, Y>>>(mut self) -> Result<B, Failure<S::Item>> {
        let mut all = B::default();
        while let Some(value) = self.try_next().await? {
            all.extend(Some(value));
        }
        Ok(all)
    }

    /// Combines all values into one: calls `fold` with what it returned last, at first `initial`, and the next value.
    ///
    /// # Errors
    ///
    /// The error of the first call that failed, with its key if it has one, or the error that `fold` returned. The calls
    /// that have not ended are then cancelled.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future loses the results and cancels the calls that have not ended.
    ///
    /// ```
    /// # use distribution::{LocalCluster, service};
    /// # #[service]
    /// # pub trait Arith { fn square(&self, number: u64) -> u64; }
    /// # struct Calculator;
    /// # impl Arith for Calculator { fn square(&self, number: u64) -> u64 { number * number } }
    /// # use distribution::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = LocalCluster::builder().nodes(2).serve(|| ArithServer::new(Calculator)).start().await?;
    /// # let arith = ArithClient::new(&cluster);
    /// let squares = (0..4).map(|number| arith.square(number)).distribute().unordered();
    /// let sum = squares.try_fold(0, |sum, square| async move { Ok(sum + square) }).await?;
    /// assert_eq!(sum, 14);
    /// # Ok(()) }
    /// ```
    pub async fn try_fold<A, F, R>(mut self, initial: A, mut fold: F) -> Result<A, Failure<S::Item>>
    where
        F: FnMut(A, Success<S::Item, Y>) -> R,
        R: Future<Output = Result<A, Failure<S::Item>>>,
    {
        let mut all = initial;
        while let Some(value) = self.try_next().await? {
            all = fold(all, value).await?;
        }
        Ok(all)
    }

    /// Calls `each` with every value, one after the other, and waits for the future that it returns.
    ///
    /// # Errors
    ///
    /// The error of the first call that failed, with its key if it has one, or the error that `each` returned. The calls
    /// that have not ended are then cancelled.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future cancels the calls that have not ended.
    ///
    /// ```
    /// # use distribution::{LocalCluster, service};
    /// # #[service]
    /// # pub trait Arith { fn square(&self, number: u64) -> u64; }
    /// # struct Calculator;
    /// # impl Arith for Calculator { fn square(&self, number: u64) -> u64 { number * number } }
    /// # use distribution::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = LocalCluster::builder().nodes(2).serve(|| ArithServer::new(Calculator)).start().await?;
    /// # let arith = ArithClient::new(&cluster);
    /// let squares = (0..4).map(|number| (number, arith.square(number))).distribute().unordered();
    /// squares
    ///     .try_for_each(|(number, square)| async move {
    ///         println!("{number} squared is {square}");
    ///         Ok(())
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub async fn try_for_each<F, R>(mut self, mut each: F) -> Result<(), Failure<S::Item>>
    where
        F: FnMut(Success<S::Item, Y>) -> R,
        R: Future<Output = Result<(), Failure<S::Item>>>,
    {
        while let Some(value) = self.try_next().await? {
            each(value).await?;
        }
        Ok(())
    }
}

//! `.broadcast()`: one call on every node.

use futures::future::join_all;

use crate::{error::CallError, service::Call, view::NodeInfo};

impl<T, E> Call<T, E> {
    /// Makes the call once on each node that serves its method at this moment and has its [labels](Self::label). Returns
    /// each node with the result of its call. The list is empty if there is no such node; nodes that join meanwhile are
    /// not in it.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future cancels the calls that have not ended.
    pub async fn broadcast(self) -> Vec<(NodeInfo, Result<T, CallError<E>>)> {
        let nodes = self.dispatcher.serving(&self.method, &self.options).await;
        let calls: Vec<_> = nodes
            .iter()
            .map(|node| {
                let mut call = self.again().on(node);
                call.options.is_broadcast = true;
                call.send()
            })
            .collect();
        nodes.into_iter().zip(join_all(calls).await).collect()
    }
}

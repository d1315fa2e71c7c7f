//! Starts a node whose master is in the same process.

use super::{builder::NodeBuilder, handle::Node};
use crate::{error::Error, wire::channel::Connector};

impl NodeBuilder {
    /// Starts the node for a master in this process, which it connects to through memory. Async handlers run on the runtime
    /// that this is called on.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`], [`Error::Node`], [`Error::ServedTwice`] and [`Error::Thread`], as of [`spawn`](Self::spawn).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub(crate) fn start_in_process(mut self, connector: Connector) -> Result<Node, Error> {
        self.connector = Some(connector);
        self.start("in this process".to_owned())
    }
}

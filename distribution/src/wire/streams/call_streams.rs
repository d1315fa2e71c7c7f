//! The streams of one call.

use std::sync::Arc;

use super::{pipe::ItemPipe, state::StreamRole};
use crate::wire::handshake::StreamShape;

/// The streams of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallStreams {
    /// What the handler returns.
    pub(crate) items: Option<Arc<ItemPipe>>,
    /// The last argument.
    pub(crate) argument: Option<Arc<ItemPipe>>,
}

impl CallStreams {
    pub(crate) fn new(shape: StreamShape) -> Self {
        Self {
            items: shape.items.then(|| ItemPipe::new(StreamRole::Items)),
            argument: shape.argument.then(|| ItemPipe::new(StreamRole::Argument)),
        }
    }

    /// Whether the call can be made again. Not if the consumer has items of it, or the handler has had items of the argument, or
    /// wanted none. If it can, what its earlier attempts send does not count any more.
    pub(crate) fn begin_again(&self) -> bool {
        self.items.iter().chain(&self.argument).all(|pipe| pipe.begin_again())
    }

    pub(crate) fn is_none(&self) -> bool {
        self.items.is_none() && self.argument.is_none()
    }

    /// The call has ended: nobody wants more of the argument. With `at_once` the consumer gets no items that it has not taken.
    pub(crate) fn on_end(&self, at_once: bool) {
        self.argument.iter().for_each(ItemPipe::stop);
        if at_once {
            self.items.iter().for_each(ItemPipe::stop);
        }
    }

    /// The handler is to end: nobody wants its items, and it gets no more of its argument.
    pub(crate) fn on_handler_stopped(&self) {
        self.items.iter().for_each(ItemPipe::stop);
        self.argument.iter().for_each(ItemPipe::break_off);
    }

    /// There is no connection for them.
    pub(crate) fn break_off(&self) {
        self.items.iter().chain(&self.argument).for_each(ItemPipe::break_off);
    }

    pub(crate) fn are_broken(&self) -> bool {
        self.items.iter().chain(&self.argument).any(|pipe| pipe.is_broken())
    }

    /// Nobody wants the items any more, and the argument has no further ones.
    pub(crate) fn stop(&self) {
        self.items.iter().chain(&self.argument).for_each(ItemPipe::stop);
    }
}

//! Answers the request of a call.

use tarpc::server::{self, InFlightRequest};

use crate::wire::{
    Reply,
    transport::{IncomingRequest, OutgoingReply},
};

/// A request that is to be answered once.
pub(super) type NodeRequest = InFlightRequest<IncomingRequest, OutgoingReply>;

/// A call that has ended, and the reply to send to the master.
pub(super) type Completed = (NodeRequest, Reply);

pub(super) async fn answer(request: NodeRequest, reply: Reply) {
    let key = request.get().message.key();
    request.execute(server::serve(move |_, _| std::future::ready(Ok(OutgoingReply { key, reply })))).await;
}

//! Answers the request of a call.

use tarpc::server::{self, InFlightRequest};

use crate::wire::{Reply, transport::IncomingRequest};

/// A call that has ended, and the reply to send to the master.
pub(super) type Completed = (InFlightRequest<IncomingRequest, Reply>, Reply);

pub(super) async fn answer(request: InFlightRequest<IncomingRequest, Reply>, reply: Reply) {
    request.execute(server::serve(|_, _| std::future::ready(Ok(reply)))).await;
}

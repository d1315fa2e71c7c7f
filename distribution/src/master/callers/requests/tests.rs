//! What a caller of another process asks for, without a connection.

use super::*;
use crate::{
    administration::MethodKind, hash::method_id, master::shared::tests::shared, security::Access,
    wire::handshake::MethodOffer,
};

#[tokio::test]
async fn a_call_that_is_cancelled_with_the_request_for_it_is_never_begun() {
    let shared = shared();
    let caller = shared.callers.insert_open((None, None), None);
    let first = caller.first_call().0;
    let permissions = Permissions::new(&shared, &caller, Access::Callers, None);
    let requests = CallerRequests::new(Arc::clone(&shared), caller, permissions, None);
    requests.on_connected(&shared.new_connection_state(), 65_536, true);
    let id = method_id("S", 1, "m", "fn() -> ()", 0);
    let method = MethodOffer {
        id,
        service: "S".to_owned(),
        version: 1,
        name: "m".to_owned(),
        signature: "fn() -> ()".to_owned(),
        types: 0,
        structure: Vec::new(),
        kind: MethodKind::Compute,
        idempotent: false,
        streams: StreamShape::default(),
    };
    requests.on_control(Control::Declare { method }).expect("may be declared");
    let mut calls: Vec<_> = (first..first + 2)
        .map(|number| {
            let call = CallRequest::bare(id, number);
            let method = requests.method(&call).expect("was declared");
            requests.call(&call, method, (Payload::EMPTY, None), None).expect("is a call of this caller")
        })
        .collect();
    requests.on_control(Control::CancelCall { call: first }).expect("may be cancelled");
    requests.submit(&mut calls);
    assert_eq!(shared.stats().queued, 1, "only the other one");
}

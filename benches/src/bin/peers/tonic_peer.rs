//! The peer tonic: gRPC over HTTP/2 with protobuf messages. What its code generator would write for two unary methods is
//! written by hand here, so that no `protoc` is needed.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    task::{Context, Poll},
};

use bytes::Bytes;
use prost::Message;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    client::Grpc as GrpcClient,
    codegen::{BoxFuture, Service, http, http::uri::PathAndQuery},
    server::{Grpc as GrpcServer, NamedService, UnaryService},
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use crate::{
    failure::{During, Failure},
    load::Echoes,
    process::announce,
};

/// Room for the largest payload and its header; the default of 4 MiB is too little.
const MESSAGE_LIMIT: usize = 1024 * 1024 * 1024;

const NUMBER: &str = "/echo.Echo/Number";
const BLOB: &str = "/echo.Echo/Blob";

/// A small message.
#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(uint64, tag = "1")]
    number: u64,
}

/// A large one, whose bytes are shared rather than copied.
#[derive(Clone, PartialEq, Message)]
struct Blob {
    #[prost(bytes = "bytes", tag = "1")]
    bytes: Bytes,
}

/// Gives any message back.
struct Parrot;

impl<M: Message> UnaryService<M> for Parrot {
    type Response = M;
    type Future = Ready<Result<Response<M>, Status>>;

    fn call(&mut self, request: Request<M>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

/// Brings requests to the method that their path names.
#[derive(Clone)]
struct EchoService;

impl NamedService for EchoService {
    const NAME: &'static str = "echo.Echo";
}

impl Service<http::Request<Body>> for EchoService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            Ok(match request.uri().path() {
                NUMBER => GrpcServer::new(ProstCodec::<Number, Number>::default()).unary(Parrot, request).await,
                BLOB => {
                    GrpcServer::new(ProstCodec::<Blob, Blob>::default())
                        .max_decoding_message_size(MESSAGE_LIMIT)
                        .unary(Parrot, request)
                        .await
                }
                _ => Status::unimplemented("there is no such method").into_http(),
            })
        })
    }
}

/// Serves echoes until the process ends.
pub(crate) async fn serve() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.during("the tonic server cannot listen")?;
    announce(listener.local_addr().during("the tonic server has no address")?)?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().add_service(EchoService);
    server.serve_with_incoming(incoming).await.during("the tonic server ended")
}

/// One connection to the server, for any number of callers.
#[derive(Clone)]
pub(crate) struct Client(GrpcClient<Channel>);

impl Client {
    /// Connects.
    pub(crate) async fn connect(addr: SocketAddr) -> Result<Self, Failure> {
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).during("tonic takes no such address")?;
        let channel = endpoint.tcp_nodelay(true).connect().await.during("the tonic server cannot be reached")?;
        Ok(Self(GrpcClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT)))
    }

    async fn call<M: Message + Default + 'static>(&mut self, path: &'static str, message: M) -> Result<M, Failure> {
        self.0.ready().await.during("the tonic connection is closed")?;
        let codec = ProstCodec::<M, M>::default();
        let answer = self.0.unary(Request::new(message), PathAndQuery::from_static(path), codec).await;
        Ok(answer.during("a call over tonic failed")?.into_inner())
    }
}

impl Echoes<u64> for Client {
    async fn echo(&mut self, payload: u64) -> Result<u64, Failure> {
        Ok(self.call(NUMBER, Number { number: payload }).await?.number)
    }
}

impl Echoes<Bytes> for Client {
    async fn echo(&mut self, payload: Bytes) -> Result<Bytes, Failure> {
        Ok(self.call(BLOB, Blob { bytes: payload }).await?.bytes)
    }
}

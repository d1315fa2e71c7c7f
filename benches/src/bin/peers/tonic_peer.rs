//! The peer tonic: gRPC over HTTP/2 with protobuf messages. What its code generator would write for two unary methods
//! and two that stream is written by hand here, so that no `protoc` is needed.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use prost::Message;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    client::Grpc as GrpcClient,
    codegen::{BoxFuture, Service, http, http::uri::PathAndQuery},
    server::{Grpc as GrpcServer, NamedService, ServerStreamingService, UnaryService},
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use crate::{
    failure::{During, Failure},
    load::Echoes,
    process::announce,
    streams::{self, Streams},
};

/// Room for the largest payload and its header; the default of 4 MiB is too little.
const MESSAGE_LIMIT: usize = 1024 * 1024 * 1024;

const NUMBER: &str = "/echo.Echo/Number";
const BLOB: &str = "/echo.Echo/Blob";
const NUMBERS: &str = "/echo.Echo/Numbers";
const BLOCKS: &str = "/echo.Echo/Blocks";

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

/// Streams the numbers below the one that it is sent.
struct Numbers;

impl ServerStreamingService<Number> for Numbers {
    type Response = Number;
    type ResponseStream = BoxStream<'static, Result<Number, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Number>) -> Self::Future {
        let numbers = streams::numbers(request.into_inner().number);
        ready(Ok(Response::new(stream::iter(numbers.map(|number| Ok(Number { number }))).boxed())))
    }
}

/// Streams as many blocks as it is told.
struct Blocks;

impl ServerStreamingService<Number> for Blocks {
    type Response = Blob;
    type ResponseStream = BoxStream<'static, Result<Blob, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Number>) -> Self::Future {
        let blocks = streams::blocks(request.into_inner().number);
        ready(Ok(Response::new(stream::iter(blocks.map(|bytes| Ok(Blob { bytes }))).boxed())))
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
                NUMBERS => {
                    let codec = ProstCodec::<Number, Number>::default();
                    GrpcServer::new(codec).server_streaming(Numbers, request).await
                }
                BLOCKS => {
                    let codec = ProstCodec::<Blob, Number>::default();
                    GrpcServer::new(codec).server_streaming(Blocks, request).await
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
        Self::connect_with(addr, |endpoint| endpoint).await
    }

    /// Connects over a long way, for which the default window of 2 MiB is too small.
    pub(crate) async fn connect_far(addr: SocketAddr) -> Result<Self, Failure> {
        Self::connect_with(addr, |endpoint| endpoint.http2_adaptive_window(true)).await
    }

    async fn connect_with(addr: SocketAddr, change: impl FnOnce(Endpoint) -> Endpoint) -> Result<Self, Failure> {
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).during("tonic takes no such address")?;
        let endpoint = change(endpoint);
        let channel = endpoint.tcp_nodelay(true).connect().await.during("the tonic server cannot be reached")?;
        Ok(Self(GrpcClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT)))
    }

    async fn call<M: Message + Default + 'static>(&mut self, path: &'static str, message: M) -> Result<M, Failure> {
        self.0.ready().await.during("the tonic connection is closed")?;
        let codec = ProstCodec::<M, M>::default();
        let answer = self.0.unary(Request::new(message), PathAndQuery::from_static(path), codec).await;
        Ok(answer.during("a call over tonic failed")?.into_inner())
    }

    async fn read<M: Message + Default + 'static>(
        &mut self,
        path: &'static str,
        count: u64,
        mut each: impl FnMut(M) + Send,
    ) -> Result<(), Failure> {
        self.0.ready().await.during("the tonic connection is closed")?;
        let codec = ProstCodec::<Number, M>::default();
        let request = Request::new(Number { number: count });
        let answer = self.0.server_streaming(request, PathAndQuery::from_static(path), codec).await;
        let mut items = answer.during("a stream over tonic failed")?.into_inner();
        while let Some(item) = items.message().await.during("a stream over tonic broke off")? {
            each(item);
        }
        Ok(())
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

impl Streams<u64> for Client {
    async fn stream(&mut self, count: u64, mut each: impl FnMut(u64) + Send) -> Result<(), Failure> {
        self.read(NUMBERS, count, |Number { number }| each(number)).await
    }
}

impl Streams<Bytes> for Client {
    async fn stream(&mut self, count: u64, mut each: impl FnMut(Bytes) + Send) -> Result<(), Failure> {
        self.read(BLOCKS, count, |Blob { bytes }| each(bytes)).await
    }
}

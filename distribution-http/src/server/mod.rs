//! The server of a page: accepts connections, with TLS if it has a certificate, and bounds what each of them may cost.

mod stalled;
mod tls;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use self::stalled::Timed;
pub(crate) use self::tls::CertificateFiles;
use crate::{builder::PageBuilder, error::Error};

/// How long a client may take to send the head of a request, also of the next one on its connection.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// How long a handshake of TLS may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// The most bytes of a request's head.
const HEAD: usize = 32 * 1024;

/// The most headers of a request.
const HEADERS: usize = 64;

/// The most connections, and those from one address.
const CONNECTIONS: usize = 512;
const CONNECTIONS_OF_ONE: usize = 128;

/// How long requests may go on when the server ends. Event streams go on until then.
const END_TIME: Duration = Duration::from_secs(2);

/// A server that listens. [`run_until`](Self::run_until) serves the page.
///
/// It speaks HTTP/1.1. It has limits that a program's own server may lack: 10 s for the head of a request, 32 KiB and 64
/// headers; a client that reads nothing for 20 s is disconnected; 512 connections, 128 of them from one address.
#[must_use = "nothing is served until `run_until`"]
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    tls: Option<Certified>,
    router: Router,
}

/// What TLS is served with.
struct Certified {
    acceptor: TlsAcceptor,
    fingerprint: String,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Server {
    pub(crate) async fn bind(page: PageBuilder, addr: &str) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Listen { addr: addr.to_owned(), source };
        let addrs: Vec<SocketAddr> = tokio::net::lookup_host(addr).await.map_err(failed)?.collect();
        let missing = match (page.certificate_files().is_some(), page.demands_tokens()) {
            (true, true) => None,
            (false, true) => Some("TLS"),
            (true, false) => Some("a token"),
            (false, false) => Some("TLS and a token"),
        };
        if let Some(missing) = missing {
            // Before anything listens there.
            if let Some(far) = addrs.iter().find(|addr| !addr.ip().to_canonical().is_loopback()) {
                return Err(Error::Unprotected { addr: *far, missing });
            }
        }
        let tls = page.certificate_files().map(CertificateFiles::load).transpose()?;
        let tls = tls.map(|(acceptor, fingerprint)| Certified { acceptor, fingerprint });
        let listener = TcpListener::bind(&*addrs).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let router = page.app(Some(addr))?.into_router();
        Ok(Self { listener, addr, tls, router })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address of the page, for people.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/", self.addr)
    }

    /// SHA-256 of the certificate, as browsers show it: `12:AB:..`. `None` without TLS. Browsers do not trust certificates of
    /// one's own authority; by this a person can compare what the browser asks about.
    pub fn certificate_fingerprint(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| &*tls.fingerprint)
    }

    /// Serves the page until this future ends; then requests that are under way have 2 s.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, all connections are closed.
    pub async fn run_until(self, end: impl Future<Output = ()>) {
        let (tasks, ended, places) = (TaskTracker::new(), CancellationToken::new(), Arc::new(Places::default()));
        let _ended = ended.clone().drop_guard();
        let aborted = CancellationToken::new();
        let _aborted = aborted.clone().drop_guard();
        let accept = async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, peer)) => {
                        // Without a place the connection is closed: a client that waits would hold one.
                        let Some(place) = places.take(peer.ip()) else { continue };
                        let (router, acceptor) =
                            (self.router.clone(), self.tls.as_ref().map(|tls| tls.acceptor.clone()));
                        let (ended, aborted) = (ended.clone(), aborted.clone());
                        tasks.spawn(async move {
                            let _place = place;
                            let served = serve(stream, peer, router, acceptor, ended);
                            aborted.run_until_cancelled(served).await;
                        });
                    }
                    // Without a descriptor for it the connection stays in the system's queue, and would be tried at once.
                    Err(error) => {
                        tracing::warn!(reason = %error, "the page's server cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accept => {}
            () = end => {}
        }
        ended.cancel();
        tasks.close();
        let _ = tokio::time::timeout(END_TIME, tasks.wait()).await;
        aborted.cancel();
        tasks.wait().await;
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    acceptor: Option<TlsAcceptor>,
    ended: CancellationToken,
) {
    // Events are small and wait for nothing.
    let _ = stream.set_nodelay(true);
    let stream = Timed::new(stream);
    match acceptor {
        None => serve_http(stream, peer, router, ended).await,
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => serve_http(stream, peer, router, ended).await,
            Ok(Err(error)) => {
                tracing::debug!(address = %peer, reason = %error, "a handshake with the page's server has failed")
            }
            Err(_) => tracing::debug!(address = %peer, "a handshake with the page's server took too long"),
        },
    }
}

async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    ended: CancellationToken,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request.map(Body::new))
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(HEAD).max_headers(HEADERS);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = &mut connection => result,
        () = ended.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(address = %peer, reason = %error, "a connection of the page has ended");
    }
}

/// Who has connections.
#[derive(Debug, Default)]
struct Places(Mutex<HashMap<IpAddr, usize>>);

impl Places {
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.get(&address).copied().unwrap_or_default();
        if all >= CONNECTIONS || own >= CONNECTIONS_OF_ONE {
            return None;
        }
        taken.insert(address, own + 1);
        Some(Place { places: Arc::clone(self), address })
    }
}

/// The right to have a connection, until it is dropped.
struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places() {
        let places = Arc::new(Places::default());
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let mut held: Vec<_> = (0..CONNECTIONS_OF_ONE).map(|_| places.take(address(1)).expect("a place")).collect();
        assert!(places.take(address(1)).is_none());
        held.push(places.take(address(2)).expect("a place for others"));
        held.remove(0);
        held.push(places.take(address(1)).expect("one was given back"));
        for last in 3..=255 {
            held.extend((0..CONNECTIONS_OF_ONE).map_while(|_| places.take(address(last))));
        }
        assert_eq!(held.len(), CONNECTIONS);
        drop(held);
        assert!(places.0.lock().expect("works").is_empty());
    }
}

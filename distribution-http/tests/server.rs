//! The page's own server: where it listens, and what it does to clients that hold it up.

use std::{net::SocketAddr, time::Duration};

use distribution::Master;
use distribution_http::{Error, PageBuilder};
use distribution_tests::{
    soon,
    trust::{Authority, Purpose},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

async fn master() -> Master {
    Master::bind("127.0.0.1:0").await.expect("binds")
}

/// A page of this master: where it is, what ends it, and its task.
async fn serve(master: &Master) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let server = PageBuilder::new(master).bind("127.0.0.1:0").await.expect("binds");
    let addr = server.local_addr();
    let (end, ended) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.run_until(async {
        let _ = ended.await;
    }));
    (addr, end, serving)
}

#[tokio::test]
async fn beyond_loopback_it_listens_only_with_tls_and_tokens() {
    let master = master().await;
    let authority = Authority::new("Page");
    let _ = authority.issue("page", Purpose::Server, &["localhost"]);
    let certified = |page: PageBuilder| page.certificate(authority.path("page", "pem"), authority.path("page", "key"));
    let token = "t".repeat(32);
    let page = || PageBuilder::new(&master);
    for (page, missing) in [
        (page(), "without TLS and a token"),
        (page().admin_token(&token), "without TLS"),
        (certified(page()), "without a token"),
    ] {
        let error = page.bind("0.0.0.0:0").await.expect_err("is open to all");
        assert!(matches!(error, Error::Unprotected { .. }), "{error}");
        assert!(error.to_string().contains(missing), "{error}");
    }
    let server = certified(page()).admin_token(&token).bind("0.0.0.0:0").await.expect("is safe");
    assert!(server.url().starts_with("https://"), "{}", server.url());
    assert_eq!(server.certificate_fingerprint().map(str::len), Some(95));
    // On loopback nothing is needed.
    assert!(page().bind("127.0.0.1:0").await.expect("binds").url().starts_with("http://127.0.0.1:"));
    let error = page().certificate("none.pem", "none.key").bind("127.0.0.1:0").await.expect_err("no such file");
    assert!(matches!(error, Error::Certificate { .. }), "{error}");
}

#[tokio::test]
async fn a_request_that_is_never_finished_is_given_up_and_holds_nobody_up() {
    let master = master().await;
    let (addr, end, serving) = serve(&master).await;
    // One byte, and no more.
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(addr).await.expect("connects");
        stream.write_all(b"G").await.expect("is sent");
        slow.push(stream);
    }
    let mut quick = TcpStream::connect(addr).await.expect("connects");
    let request = format!("GET /api/status HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    quick.write_all(request.as_bytes()).await.expect("is sent");
    let mut text = String::new();
    soon("the others are not held up", quick.read_to_string(&mut text)).await.expect("is answered");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    for mut stream in slow {
        let closed = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut Vec::new())).await;
        let _ = closed.expect("is closed by the server");
    }
    let _ = end.send(());
    soon("the server ends", serving).await.expect("ends");
}

#[tokio::test]
async fn it_ends_although_a_viewer_looks() {
    let master = master().await;
    let (addr, end, serving) = serve(&master).await;
    let mut viewer = TcpStream::connect(addr).await.expect("connects");
    viewer.write_all(format!("GET /api/stream HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes()).await.expect("is sent");
    let mut first = [0; 12];
    soon("the stream", viewer.read_exact(&mut first)).await.expect("begins");
    assert_eq!(&first, b"HTTP/1.1 200");
    let _ = end.send(());
    soon("the server ends", serving).await.expect("ends");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let master = master().await;
    let server = PageBuilder::new(&master).bind("127.0.0.1:0").await.expect("binds");
    let addr = server.local_addr();
    let serving = tokio::spawn(server.run_until(std::future::pending()));
    let headers =
        [format!("X-Large: {}\r\n", "x".repeat(100_000)), (0..70).map(|at| format!("X-{at}: 1\r\n")).collect()];
    for headers in headers {
        let mut stream = TcpStream::connect(addr).await.expect("connects");
        let request = format!("GET / HTTP/1.1\r\nHost: {addr}\r\n{headers}\r\n");
        // It may be refused before all of it was sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut bytes = [0; 12];
        soon("the answer", stream.read_exact(&mut bytes)).await.expect("comes");
        assert_eq!(&bytes, b"HTTP/1.1 431", "{} bytes", headers.len());
    }
    serving.abort();
}

//! A place where a test meets the handlers it has called, so that it knows when they run and decides
//! when they end. Works over process boundaries, and needs no sleeping.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{Held, soon};

/// Where handlers come to.
#[derive(Debug)]
pub struct Meeting {
    listener: TcpListener,
    /// Those that came while another was awaited.
    early: HashMap<String, Vec<Guest>>,
}

/// A handler that is running. Dropping this lets it go.
#[derive(Debug)]
#[must_use = "a guest that is dropped lets its handler go"]
pub struct Guest {
    /// What it was called with.
    pub tag: String,
    stream: BufReader<TcpStream>,
}

impl Meeting {
    /// Opens a place on a free port of loopback.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self { listener, early: HashMap::new() }
    }

    /// What handlers are called with.
    ///
    /// # Panics
    ///
    /// Never: a bound socket has an address.
    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("bound")
    }

    /// The next handler to come, whichever it is.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub async fn next(&mut self) -> Guest {
        if let Some(tag) = self.early.keys().next().cloned() {
            return self.take(&tag).expect("there");
        }
        self.accept().await
    }

    /// The handler that was called with this tag.
    ///
    /// # Panics
    ///
    /// If it does not come.
    pub async fn guest(&mut self, tag: &str) -> Guest {
        loop {
            if let Some(guest) = self.take(tag) {
                return guest;
            }
            let guest = self.accept().await;
            self.early.entry(guest.tag.clone()).or_default().push(guest);
        }
    }

    /// Whether nobody is waiting to be met at this moment.
    pub fn is_empty(&mut self) -> bool {
        use futures::FutureExt;
        if let Some(Ok((stream, _))) = self.listener.accept().now_or_never() {
            self.early
                .entry(String::new())
                .or_default()
                .push(Guest { tag: String::new(), stream: BufReader::new(stream) });
        }
        self.early.is_empty()
    }

    fn take(&mut self, tag: &str) -> Option<Guest> {
        let guests = self.early.get_mut(tag)?;
        let guest = guests.pop();
        if guests.is_empty() {
            self.early.remove(tag);
        }
        guest
    }

    async fn accept(&self) -> Guest {
        let (stream, _) = soon("a handler to come", self.listener.accept()).await.expect("accepts");
        let mut stream = BufReader::new(stream);
        let mut tag = String::new();
        soon("its tag", stream.read_line(&mut tag)).await.expect("a tag");
        Guest { tag: tag.trim_end().to_owned(), stream }
    }
}

impl Guest {
    /// Lets the handler return.
    ///
    /// # Panics
    ///
    /// If it is gone.
    pub async fn release(mut self) {
        self.stream.write_all(b"!").await.expect("the handler is there");
    }

    /// The same for a handler that may be gone.
    pub async fn release_if_there(mut self) {
        let _ = self.stream.write_all(b"!").await;
    }

    /// Waits until the handler has ended by itself: it was dropped, noticed its cancellation, or its
    /// process died.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub async fn gone(mut self) {
        let mut rest = Vec::new();
        // A killed process may leave a reset instead of an end.
        let _ = soon("the handler to end", self.stream.read_to_end(&mut rest)).await;
    }
}

/// Comes to a meeting and blocks the thread until released or cancelled.
pub fn hold(at: SocketAddr, tag: &str) -> Held {
    let call = distribution::current();
    let met = || -> io::Result<Held> {
        let mut stream = std::net::TcpStream::connect(at)?;
        writeln!(stream, "{tag}")?;
        // Not to wait for time to pass, but to look up now and then.
        stream.set_read_timeout(Some(Duration::from_millis(5)))?;
        loop {
            match stream.read(&mut [0]) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                    ) =>
                {
                    if call.is_cancelled() {
                        return Ok(Held::Cancelled);
                    }
                }
                Ok(_) => return Ok(Held::Released),
                Err(error) => return Err(error),
            }
        }
    };
    met().unwrap_or_else(|error| panic!("the meeting at {at} failed: {error}"))
}

/// Comes to a meeting and blocks the thread until released, whether or not it is cancelled.
pub fn ignore(at: SocketAddr) {
    let met = || -> io::Result<usize> {
        let mut stream = std::net::TcpStream::connect(at)?;
        writeln!(stream, "stubborn")?;
        stream.read(&mut [0])
    };
    met().unwrap_or_else(|error| panic!("the meeting at {at} failed: {error}"));
}

/// Comes to a meeting and waits until released; being dropped shows there as well.
pub async fn wait(at: SocketAddr, tag: &str) -> Held {
    let mut stream = TcpStream::connect(at).await.expect("the meeting is there");
    stream.write_all(format!("{tag}\n").as_bytes()).await.expect("the test listens");
    let _ = stream.read(&mut [0]).await;
    Held::Released
}

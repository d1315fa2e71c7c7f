//! Viewers of the page's event stream, who count what they get.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use distribution_tests::soon;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};

/// They leave when this is dropped.
pub(crate) struct Viewers {
    _watching: JoinSet<()>,
    bytes: Arc<AtomicU64>,
    /// Updates that the first of them has got.
    updates: watch::Receiver<u64>,
    sizes: Sizes,
}

/// How many events of each part the first viewer has got, and their bytes.
type Sizes = Arc<Mutex<BTreeMap<String, (u64, u64)>>>;

impl Viewers {
    /// Opens the stream this many times.
    pub(crate) async fn open(page: &str, count: usize) -> Self {
        let (bytes, sizes) = (Arc::new(AtomicU64::new(0)), Sizes::default());
        let (told, updates) = watch::channel(0);
        let mut watching = JoinSet::new();
        let mut told = Some(told);
        for _ in 0..count {
            let mut stream = TcpStream::connect(page).await.expect("connects");
            let request = format!("GET /api/stream HTTP/1.1\r\nHost: {page}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("is sent");
            let first = told.take().map(|told| (told, Arc::clone(&sizes)));
            watching.spawn(watch_stream(stream, Arc::clone(&bytes), first));
        }
        Self { _watching: watching, bytes, updates, sizes }
    }

    /// What all of them have got.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Updates that the first of them has got.
    pub(crate) fn updates(&self) -> u64 {
        *self.updates.borrow()
    }

    pub(crate) async fn wait_for_updates(&self, count: u64) {
        let mut updates = self.updates.clone();
        soon("updates of the page", updates.wait_for(|updates| *updates >= count)).await.expect("it watches");
    }

    /// Prints how large the parts are of which updates consist.
    pub(crate) fn print_sizes(&self) {
        let sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        let updates = self.updates().max(1);
        let all: u64 = sizes.values().map(|(_, bytes)| bytes).sum();
        println!("an update has {} KiB on average, of {updates} updates:", all / updates / 1024);
        for (name, (count, bytes)) in sizes.iter() {
            println!(
                "  {name:<20} {count:>4} times, {:>8.1} KiB each",
                *bytes as f64 / (*count).max(1) as f64 / 1024.0
            );
        }
    }
}

/// Reads to the end. The first viewer also looks at what it gets.
async fn watch_stream(mut stream: TcpStream, bytes: Arc<AtomicU64>, first: Option<(watch::Sender<u64>, Sizes)>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut text = Vec::new();
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        bytes.fetch_add(read as u64, Ordering::Relaxed);
        let Some((told, sizes)) = &first else { continue };
        text.extend_from_slice(&buffer[..read]);
        // An event ends with an empty line. Between events there may be the size of a chunk, which is not counted.
        while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
            let event = String::from_utf8_lossy(&text[..end]).into_owned();
            text.drain(..end + 2);
            let Some(at) = event.find("event: ") else { continue };
            let mut name = event[at + 7..].lines().next().unwrap_or_default().to_owned();
            if name == "change" {
                let part = event[at..].split("\"part\":\"").nth(1).and_then(|rest| rest.split('"').next());
                name = format!("{} (change)", part.unwrap_or_default());
            }
            if name == "status" {
                told.send_modify(|updates| *updates += 1);
            }
            let mut sizes = sizes.lock().unwrap_or_else(PoisonError::into_inner);
            let (count, sum) = sizes.entry(name).or_default();
            *count += 1;
            *sum += (event.len() - at + 2) as u64;
        }
    }
}

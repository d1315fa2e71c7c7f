//! A Prometheus that a test starts: Debian's package `prometheus`, which has `promtool` too.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use bytes::Bytes;
use distribution_tests::soon;
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};
use url::Url;

/// How long it may take until a scrape has what there is. Scrapes are a second apart.
const TIME: Duration = Duration::from_secs(60);

/// One with an empty database. It ends with the test.
pub(crate) struct Prometheus {
    /// Where its API is.
    url: Url,
    _process: Child,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one with this configuration, or says that there is none on this machine. Where everything has to be tested, it
    /// has to be there.
    pub(crate) async fn start(configuration: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, configuration).expect("writes");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            // The system gives it a port that is free.
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut process = match process {
            Ok(process) => process,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "prometheus cannot be started: {error}");
                println!("skipped: prometheus cannot be started ({error}); install the package prometheus");
                return None;
            }
        };
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let mut said = String::new();
        let addr = loop {
            let line = soon("prometheus says its port", lines.next_line()).await.expect("can be read");
            let line = line.unwrap_or_else(|| panic!("prometheus has ended:\n{said}"));
            if let Some((_, addr)) = line.split_once("msg=\"Listening on\" address=") {
                break addr.trim().to_owned();
            }
            said.push_str(&line);
            said.push('\n');
        };
        // So that it can go on to log.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let url = Url::parse(&format!("http://{addr}")).expect("an address");
        Some(Self { url, _process: process, _folder: folder })
    }

    /// What its API answers, once it is ready to.
    pub(crate) async fn api(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let mut url = self.url.join(path).expect("a path");
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        let end = Instant::now() + TIME;
        loop {
            let (status, body) = get(url.as_str()).await;
            // It reads its database first.
            if status == 503 && Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{url}: {error}: {body}"));
            assert_eq!((status, answer["status"].as_str()), (200, Some("success")), "{url}: {answer}");
            return answer["data"].clone();
        }
    }

    /// The result of a query: for each time series the value of this label, or nothing if it has none, and the last sample,
    /// in the order of the labels.
    pub(crate) async fn query(&self, label: &str, query: &str) -> Vec<(String, f64)> {
        let data = self.api("/api/v1/query", &[("query", query)]).await;
        let series = data["result"].as_array().unwrap_or_else(|| panic!("{query}: {data}"));
        let mut rows: Vec<(String, f64)> = series
            .iter()
            .map(|series| {
                let label = series["metric"][label].as_str().unwrap_or_default();
                let value = series["value"][1].as_str().and_then(|value| value.parse().ok());
                (label.to_owned(), value.unwrap_or_else(|| panic!("{query}: {series}")))
            })
            .collect();
        rows.sort_by(|first, second| first.0.cmp(&second.0));
        rows
    }

    /// The result of a query that has one time series, or none yet.
    pub(crate) async fn number(&self, query: &str) -> Option<f64> {
        let rows = self.query("", query).await;
        assert!(rows.len() <= 1, "{query}: {rows:?}");
        rows.first().map(|row| row.1)
    }

    /// Waits until the result of a query is so.
    pub(crate) async fn until(&self, query: &str, is_so: impl Fn(f64) -> bool) {
        let end = Instant::now() + TIME;
        loop {
            let number = self.number(query).await;
            if number.is_some_and(&is_so) {
                return;
            }
            assert!(Instant::now() < end, "`{query}` is still {number:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Status and body.
pub(crate) async fn get(url: &str) -> (u16, String) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let asked = client.get(url.parse().expect("an address"));
    let response = soon(url, asked).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    let status = response.status().as_u16();
    let body = soon(url, response.into_body().collect()).await.expect("comes").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("is text"))
}

/// Runs `promtool` in this folder with this on its standard input, and returns whether it was content, and all that it said.
pub(crate) async fn promtool(folder: &Path, arguments: &[&str], input: &str) -> (bool, String) {
    let mut process = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it comes with prometheus");
    let mut stdin = process.stdin.take().expect("piped");
    // A check that reads a file may end without having read this.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = soon("promtool", process.wait_with_output()).await.expect("ends");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

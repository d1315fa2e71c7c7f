//! A browser that a test drives, by its driver: Debian's packages `chromium` and `chromium-driver`.

// It says why a test is skipped.
#![allow(clippy::print_stdout)]

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use fantoccini::{
    Client, ClientBuilder, Locator,
    wd::{Capabilities, WebDriverCompatibleCommand},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// How long the page may take to show something. It is read once a second.
const TIME: Duration = Duration::from_secs(30);

/// A browser with an empty profile. It ends with the test.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    driver: Child,
    profile: TempDir,
}

impl Drop for Browser {
    /// Ends chromium where a test has failed: the driver that would end it is killed.
    fn drop(&mut self) {
        let folder = self.profile.path().display().to_string();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes.map(|entry| entry.path()) {
            let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
            if let Some(id) = process.file_name().filter(|_| String::from_utf8_lossy(&line).contains(&folder)) {
                let _ = std::process::Command::new("kill").arg(id).stderr(Stdio::null()).status();
            }
        }
    }
}

impl Browser {
    /// Starts one, or says that there is none on this machine. Where everything has to be tested, it has to be there.
    pub async fn start() -> Option<Self> {
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut driver = match driver {
            Ok(driver) => driver,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "chromedriver cannot be started: {error}");
                println!("skipped: chromedriver cannot be started ({error}); install chromium and chromium-driver");
                return None;
            }
        };
        let mut lines = BufReader::new(driver.stdout.take().expect("piped")).lines();
        let port = loop {
            let line = lines.next_line().await.expect("can be read").expect("chromedriver says its port");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let profile = tempfile::tempdir().expect("a folder");
        let mut arguments: Vec<String> = [
            "headless",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "disable-dev-shm-usage",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            "window-size=1280,900",
        ]
        .map(|argument| format!("--{argument}"))
        .to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let capabilities = json!({
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("it is an object") };
        let capabilities: Capabilities = capabilities;
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("chromedriver starts chromium");
        Some(Self { client, driver, profile })
    }

    /// Ends it.
    pub async fn close(mut self) {
        self.client.clone().close().await.expect("closes");
        let _ = self.driver.kill().await;
    }

    /// Shows a panel of the page at this address.
    pub async fn show(&self, url: &str, panel: &str) {
        self.client.goto(&format!("{url}#{panel}")).await.expect("loads");
    }

    /// What a script returns.
    pub async fn eval(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// The text of the page, as it is seen.
    pub async fn text(&self) -> String {
        self.eval("return document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows this text.
    pub async fn sees(&self, text: &str) {
        self.until(text, |shown| shown.contains(text)).await;
    }

    /// Waits until the page does not show this text.
    pub async fn sees_no_more(&self, text: &str) {
        self.until(&format!("no {text}"), |shown| !shown.contains(text)).await;
    }

    async fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) {
        let end = Instant::now() + TIME;
        loop {
            let shown = self.text().await;
            if is_so(&shown) {
                return;
            }
            assert!(Instant::now() < end, "waited for `{what}`, and the page shows:\n{shown}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Clicks what has this CSS selector, once it is there.
    pub async fn click(&self, selector: &str) {
        let found = self.client.wait().at_most(TIME).for_element(Locator::Css(selector)).await;
        let element = found.unwrap_or_else(|error| panic!("{selector}: {error}"));
        element.click().await.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Clicks the button with this label, once one can be seen.
    pub async fn press(&self, label: &str) {
        let script = format!(
            "const found = [...document.querySelectorAll('button')].find((button) => button.textContent.trim() === {} && \
             button.offsetParent !== null && !button.disabled); if (found) found.click(); return Boolean(found);",
            json!(label)
        );
        let end = Instant::now() + TIME;
        while self.eval(&script).await != json!(true) {
            assert!(Instant::now() < end, "no button `{label}`:\n{}", self.text().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Types a text into what has this selector.
    pub async fn fill(&self, selector: &str, text: &str) {
        let found = self.client.wait().at_most(TIME).for_element(Locator::Css(selector)).await.expect("a field");
        found.send_keys(text).await.expect("can be typed into");
    }

    /// Uses the browser's own protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) {
        let body = json!({ "cmd": command, "params": parameters });
        self.client.issue_cmd(Vendor { path: "goog/cdp/execute", body }).await.expect("is understood");
    }

    /// As wide and high as this, with this colour scheme.
    pub async fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", scheme).await;
    }

    async fn log(&self, kind: &'static str) -> Vec<Value> {
        let body = json!({ "type": kind });
        let log = self.client.issue_cmd(Vendor { path: "se/log", body }).await.expect("has a log");
        log.as_array().cloned().unwrap_or_default()
    }

    /// Fails if a script or the browser has complained since the last look, but for what has one of these words.
    pub async fn has_no_errors(&self, but: &[&str]) {
        let lines = self.log("browser").await;
        let lines: Vec<_> = lines
            .iter()
            .filter_map(|line| line["message"].as_str())
            .filter(|line| !but.iter().any(|words| line.contains(words)))
            .collect();
        assert!(lines.is_empty(), "the browser's console has: {lines:#?}");
    }

    /// The addresses that the browser has asked for since the last look.
    pub async fn asked(&self) -> Vec<String> {
        let mut urls = Vec::new();
        for line in self.log("performance").await {
            let message: Value = serde_json::from_str(line["message"].as_str().unwrap_or_default()).expect("is JSON");
            if message["message"]["method"] == "Network.requestWillBeSent" {
                urls.push(message["message"]["params"]["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
        }
        urls
    }

    /// Fails if the browser has asked another server for something, and returns how many requests there were.
    pub async fn asked_only(&self, origin: &str) -> usize {
        let mut urls = self.asked().await;
        urls.retain(|url| !["data:", "chrome:", "about:"].iter().any(|scheme| url.starts_with(scheme)));
        for url in &urls {
            assert!(url.starts_with(origin), "the page asked for {url}");
        }
        urls.len()
    }

    /// Writes what the page looks like to a file of `target/screenshots`.
    pub async fn screenshot(&self, name: &str) {
        let folder = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
        let folder = folder.join("screenshots");
        std::fs::create_dir_all(&folder).expect("can be made");
        let picture = self.client.screenshot().await.expect("can be taken");
        std::fs::write(folder.join(format!("{name}.png")), picture).expect("can be written");
    }
}

/// A command that only this browser's driver has.
#[derive(Debug)]
struct Vendor {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(&self, base_url: &url::Url, session_id: Option<&str>) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/{}", session_id.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

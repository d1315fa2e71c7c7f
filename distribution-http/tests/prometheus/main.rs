//! A real Prometheus scrapes a master that is under load, and answers queries with what the load itself has counted.
//!
//! Without Prometheus this test is skipped, with a sentence, unless `CI` is set.

// It says why it is skipped.
#![allow(clippy::print_stdout)]

mod load;
mod server;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use distribution::Master;
use distribution_http::{PageBuilder, router};
use distribution_tests::trust::{Authority, Purpose};
use tokio::{net::TcpListener, task::JoinSet};

use self::{
    load::Load,
    server::{Prometheus, get, promtool},
};

/// As the guide says: with a token for viewers and TLS. The alerts are evaluated along with it.
fn configuration(target: SocketAddr, authority: &Path, token: &Path, alerts: &Path) -> String {
    format!(
        "global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files: [{alerts:?}]
scrape_configs:
  - job_name: distribution
    scheme: https
    authorization: {{ credentials_file: {token:?} }}
    tls_config: {{ ca_file: {authority:?} }}
    static_configs: [{{ targets: [\"{target}\"] }}]
"
    )
}

/// Rows as a query returns them.
fn rows<N: Debug + Copy + Into<u64>>(counted: impl IntoIterator<Item = (&'static str, N)>) -> Vec<(String, f64)> {
    let counted: BTreeMap<_, _> = counted.into_iter().collect();
    counted.into_iter().map(|(label, count)| (label.to_owned(), count.into() as f64)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_has_the_true_numbers_of_a_master_under_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus");
    let authority = Authority::new("Page");
    let _ = authority.issue("page", Purpose::Server, &["127.0.0.1"]);
    let token = folder.path().join("viewer.token");
    std::fs::write(&token, format!("{}\n", "v".repeat(40))).expect("writes");

    let before = Instant::now();
    let master = Master::builder().no_node_timeout(Duration::MAX).bind("127.0.0.1:0").await.expect("binds");
    let page = PageBuilder::new(&master).viewer_token("v".repeat(40));
    let page = page.certificate(authority.path("page", "pem"), authority.path("page", "key"));
    let page = page.bind("127.0.0.1:0").await.expect("listens");
    let configuration = configuration(page.local_addr(), &authority.file(), &token, &alerts.join("alerts.yml"));
    // They end with the test.
    let mut serving = JoinSet::new();
    serving.spawn(page.run_until(std::future::pending()));
    let Some(prometheus) = Prometheus::start(&configuration).await else { return };

    // The load goes on until it was seen to grow by several scrapes.
    let load = Load::on(&master).await;
    let (first, second, third) =
        (load.node("first", 2).await, load.node("second", 3).await, load.node("third", 1).await);
    let end = Instant::now() + Duration::from_secs(60);
    let growths = "max(changes(distribution_calls_total[1h]))";
    while prometheus.number(growths).await.unwrap_or_default() < 3.0 {
        load.round().await;
        load.cancel(first.id()).await;
        assert!(Instant::now() < end, "was not scraped: {}", prometheus.api("/api/v1/targets", &[]).await);
    }
    // What stays: calls that run, calls that wait, and a node that is leaving.
    let runs = [load.runs_on(first.id()).await, load.runs_on(first.id()).await, load.runs_on(third.id()).await];
    let waits = [load.waits().await, load.waits().await];
    master.drain(third.id()).expect("is registered");

    // Cancelled calls are those that nobody waits for.
    let counts = load.counts();
    prometheus.until("sum(distribution_calls_total)", |all| all == counts.all() as f64).await;
    prometheus.until("sum(distribution_calls_running)", |running| running == runs.len() as f64).await;
    prometheus.until("distribution_nodes{state=\"draining\"}", |nodes| nodes == 1.0).await;
    let settled = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64();
    prometheus.until("timestamp(distribution_uptime_seconds)", |scraped| scraped > settled).await;

    let outcomes = ["lost", "not_run", "failed"].map(|none| (none, 0_u64));
    let outcomes = rows(counts.outcomes.clone().into_iter().chain(outcomes));
    let ended = "outcome=~\"answered|error|panicked\"";
    for (label, query, expected) in [
        ("outcome", "sum by (outcome) (distribution_calls_total)", outcomes),
        ("method", "sum by (method) (distribution_calls_total)", rows(counts.methods.clone())),
        ("caller", "sum by (caller) (distribution_caller_calls_total)", rows(counts.callers.clone())),
        (
            "node",
            &format!("sum by (node) (distribution_node_attempts_total{{{ended}}})"),
            rows(counts.handlers.clone()),
        ),
        ("", "distribution_handler_seconds_count{method=\"Work.nap\"}", rows([("", counts.naps.len() as u64)])),
        // All naps take longer than the end of one bucket, and none as long as that of another.
        (
            "le",
            "distribution_handler_seconds_bucket{method=\"Work.nap\",le=~\"0.016384|16.777216|[+]Inf\"}",
            rows([("+Inf", counts.naps.len() as u64), ("0.016384", 0), ("16.777216", counts.naps.len() as u64)]),
        ),
        ("method", "sum by (method) (distribution_calls_waiting) > 0", rows([("Work.nap", waits.len() as u64)])),
        ("method", "sum by (method) (distribution_calls_running) > 0", rows([("Work.forever", runs.len() as u64)])),
        ("state", "distribution_nodes", rows([("alive", 2_u32), ("suspect", 0), ("disconnected", 0), ("draining", 1)])),
        ("node", "distribution_node_slots", rows([("first", 2_u32), ("second", 3), ("third", 1)])),
        // No counter ever fell.
        ("", "sum(resets(distribution_calls_total[1h]))", rows([("", 0_u32)])),
    ] {
        let found = prometheus.query(label, query).await;
        assert_eq!(found, expected, "{query}");
        println!("{query}: {found:?}");
    }

    // Times are between those of the handlers' own clocks and those of their callers.
    let number = async |query: &str| {
        let number = prometheus.number(query).await.unwrap_or_else(|| panic!("{query} has no result"));
        println!("{query}: {number}");
        number
    };
    let sum = number("distribution_handler_seconds_sum{method=\"Work.nap\"}").await;
    let (least, most) = (counts.naps.iter().sum::<Duration>().as_secs_f64(), counts.round_trips.as_secs_f64());
    // The master counts microseconds.
    assert!(sum > least - 1e-6 * counts.naps.len() as f64 && sum < most, "{least} < {sum} < {most}");
    let mut naps = counts.naps.clone();
    naps.sort_unstable();
    let median = naps[naps.len() / 2].as_secs_f64();
    let found = number("histogram_quantile(0.5, distribution_handler_seconds_bucket{method=\"Work.nap\"})").await;
    // Each bucket is four times as long as the one before.
    assert!(found > median / 4.0 && found < median * 4.0, "{found} for {median}");
    let uptime = number("distribution_uptime_seconds").await;
    assert!(uptime > 0.0 && uptime < before.elapsed().as_secs_f64(), "{uptime}");

    // No scrape failed, and each alert can be evaluated.
    assert_eq!(prometheus.number("min_over_time(up[1h])").await, Some(1.0));
    let rules = prometheus.api("/api/v1/rules", &[]).await;
    let rules = rules["groups"][0]["rules"].as_array().expect("alerts");
    assert!(rules.iter().all(|rule| rule["health"] == "ok"), "{rules:?}");

    // `promtool` has nothing to say about the names, the texts and the form, nor about the files for operators.
    let plain = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let addr = plain.local_addr().expect("has an address");
    let service = router(&master).into_make_service_with_connect_info::<SocketAddr>();
    serving.spawn(async move { axum::serve(plain, service).await.expect("serves") });
    let (status, metrics) = get(&format!("http://{addr}/metrics")).await;
    assert_eq!(status, 200, "{metrics}");
    assert_eq!(promtool(&alerts, &["check", "metrics"], &metrics).await, (true, String::new()), "{metrics}");
    for (check, file) in [("rules", "alerts.yml"), ("config", "prometheus.yml")] {
        let (is_content, said) = promtool(&alerts, &["check", check, file], "").await;
        assert!(is_content && said.contains("SUCCESS"), "{said}");
        println!("{}", said.trim());
    }
    drop((runs, waits, second));
}

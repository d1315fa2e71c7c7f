//! What the page answers, and what it refuses: each rule by a request that breaks it.

use std::{fs, net::SocketAddr};

use axum::{Router, body::Body, extract::ConnectInfo};
use distribution::{Access, CallError, Cluster, Master, Node, Token};
use distribution_http::{Error, PageBuilder, router};
use distribution_tests::{ProbeClient, ProbeServer, Prober, log::Log, meeting::Meeting, soon, until};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

const HERE: &str = "127.0.0.1:5000";
const FAR: &str = "10.0.0.9:5000";

async fn master() -> Master {
    Master::bind("127.0.0.1:0").await.expect("binds")
}

/// A request from this machine.
fn request(method: Method, path: &str) -> Request<Body> {
    from(HERE, method, path)
}

fn from(peer: &str, method: Method, path: &str) -> Request<Body> {
    let peer: SocketAddr = peer.parse().expect("an address");
    let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost:3080");
    request.extension(ConnectInfo(peer)).body(Body::empty()).expect("a request")
}

fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().expect("a value"));
    request
}

fn bearer(request: Request<Body>, token: &str) -> Request<Body> {
    with(request, "authorization", &format!("Bearer {token}"))
}

async fn send(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.expect("is answered")
}

/// Status, and the sentence of an error.
async fn answer(router: &Router, request: Request<Body>) -> (u16, String) {
    let response = send(router, request).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("comes").to_bytes();
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    (status, json["error"].as_str().unwrap_or_default().to_owned())
}

async fn json(router: &Router, request: Request<Body>) -> Value {
    let response = send(router, request).await;
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.expect("comes").to_bytes();
    serde_json::from_slice(&body).expect("is JSON")
}

/// A cluster of one node that serves `Probe`.
async fn probed() -> distribution::LocalCluster {
    let cluster = distribution::LocalCluster::builder().nodes(1);
    cluster.serve(|| distribution_tests::ProbeServer::new(distribution_tests::Prober)).start().await.expect("starts")
}

#[tokio::test]
async fn the_page_is_served_also_below_a_prefix() {
    let master = master().await;
    let alone = router(&master);
    let below = Router::new().nest("/cluster", router(&master));
    for (router, path) in [(&alone, "/"), (&alone, "/index.html"), (&below, "/cluster/index.html")] {
        let response = send(router, request(Method::GET, path)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    }
    for path in ["/cluster/js/main.js", "/cluster/api/status", "/cluster/css/base.css"] {
        assert_eq!(answer(&below, request(Method::GET, path)).await.0, 200, "{path}");
    }
    // The page names its files from where it is.
    let response = send(&below, request(Method::GET, "/cluster")).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()[header::LOCATION]),
        (307, &"cluster/index.html".parse().expect("a value"))
    );
    assert_eq!(answer(&alone, request(Method::GET, "/api/nothing")).await.0, 404);
    assert_eq!(answer(&alone, request(Method::GET, "/../Cargo.toml")).await.0, 404);
}

#[tokio::test]
async fn each_answer_tells_the_browser_to_trust_nothing_else() {
    let master = master().await;
    let page = router(&master);
    for path in ["/", "/js/main.js", "/api/status", "/api/nothing", "/nothing"] {
        let response = send(&page, request(Method::GET, path)).await;
        let headers = response.headers();
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().expect("a text");
        assert!(
            policy.starts_with("default-src 'self';") && policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer", "{path}");
        assert!(headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{path}");
        assert!(!headers.contains_key(header::SET_COOKIE), "{path}");
        if path.starts_with("/api") {
            assert_eq!(headers[header::CACHE_CONTROL], "no-store", "{path}");
        }
    }
}

#[tokio::test]
async fn another_host_is_refused_on_loopback_too() {
    let master = master().await;
    let page = router(&master);
    for path in ["/", "/api/nodes", "/js/main.js"] {
        let (status, sentence) = answer(&page, with(request(Method::GET, path), "host", "evil.example")).await;
        assert_eq!(status, 421, "{path}: {sentence}");
    }
    let mut without = request(Method::GET, "/");
    without.headers_mut().remove(header::HOST);
    assert_eq!(answer(&page, without).await.0, 400);
    let named = PageBuilder::new(&master).host("dash.internal").router().expect("can be");
    assert_eq!(answer(&named, with(request(Method::GET, "/api/nodes"), "host", "dash.internal:3080")).await.0, 200);
    let error = PageBuilder::new(&master).host("http://x").router().expect_err("not a name").to_string();
    assert!(error.contains("`host` cannot be `http://x`"), "{error}");
}

#[tokio::test]
async fn other_pages_can_neither_read_nor_change() {
    let master = master().await;
    let page = router(&master);
    let read = || request(Method::GET, "/api/nodes");
    let change = || request(Method::POST, "/api/nodes/00000001-1/drain");
    assert_eq!(answer(&page, with(read(), "sec-fetch-site", "cross-site")).await.0, 403);
    assert_eq!(answer(&page, with(read(), "sec-fetch-site", "same-origin")).await.0, 200);
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "http://evil.example"),
        ("origin", "null"),
    ] {
        let (status, sentence) = answer(&page, with(change(), name, value)).await;
        assert_eq!(status, 403, "{name}: {value}");
        assert!(sentence.contains("comes from another page"), "{sentence}");
    }
    // It passes, and there is no such node.
    let own = with(with(change(), "origin", "http://localhost:3080"), "sec-fetch-site", "same-origin");
    assert_eq!(answer(&page, own).await.0, 404);
}

#[tokio::test]
async fn reading_changes_nothing_and_other_methods_are_refused() {
    let master = master().await;
    let page = router(&master);
    for path in ["/api/nodes/00000001-1/drain", "/api/calls/1-0/cancel"] {
        assert_eq!(answer(&page, request(Method::GET, path)).await.0, 405, "{path}");
    }
    for method in [Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE, Method::PATCH] {
        assert_eq!(answer(&page, request(method.clone(), "/api/nodes")).await.0, 405, "{method}");
    }
    assert_eq!(answer(&page, request(Method::POST, "/")).await.0, 405);
    assert_eq!(answer(&page, request(Method::POST, "/api/nodes/x/drain")).await.0, 400);
    assert_eq!(answer(&page, request(Method::POST, "/api/nodes/00000001-1/explode")).await.0, 404);
}

#[tokio::test]
async fn without_tokens_only_this_machine_is_answered() {
    let master = master().await;
    let page = router(&master);
    for path in ["/", "/api/nodes"] {
        let (status, sentence) = answer(&page, from(FAR, Method::GET, path)).await;
        assert_eq!(status, 403, "{path}");
        assert!(sentence.contains("its own machine only"), "{sentence}");
        let proxied = with(request(Method::GET, path), "x-forwarded-for", "10.0.0.9");
        assert_eq!(answer(&page, proxied).await.0, 403);
        let mut unknown = request(Method::GET, path);
        unknown.extensions_mut().clear();
        let (status, sentence) = answer(&page, unknown).await;
        assert_eq!(status, 403);
        assert!(sentence.contains("into_make_service_with_connect_info"), "{sentence}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let master = master().await;
    let page = router(&master);
    let (parts, _) = request(Method::POST, "/api/calls/1-0/cancel").into_parts();
    let response = send(&page, Request::from_parts(parts, Body::from(vec![b' '; 64 * 1024 + 1]))).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn with_tokens_the_api_needs_one_and_a_viewers_changes_nothing() {
    let master = master().await;
    let (admin, viewer) = ("a".repeat(32), "v".repeat(40));
    let page = PageBuilder::new(&master).admin_token(&admin).viewer_token(&viewer).router().expect("can be");
    // The page itself is not secret: it asks for the token.
    assert_eq!(answer(&page, from(FAR, Method::GET, "/")).await.0, 200);
    for path in ["/api/nodes", "/api/me", "/api/stream", "/api/nothing"] {
        let response = send(&page, from(FAR, Method::GET, path)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    }
    // Neither in the address nor in a cookie.
    assert_eq!(answer(&page, request(Method::GET, &format!("/api/nodes?token={admin}"))).await.0, 401);
    assert_eq!(
        answer(&page, with(request(Method::GET, "/api/nodes"), "cookie", &format!("token={admin}"))).await.0,
        401
    );
    assert_eq!(answer(&page, with(request(Method::GET, "/api/nodes"), "authorization", &admin)).await.0, 401);

    let me = json(&page, bearer(from(FAR, Method::GET, "/api/me"), &viewer)).await;
    assert_eq!((me["role"].as_str(), me["demands_token"].as_bool()), (Some("viewer"), Some(true)));
    let change = || from(FAR, Method::POST, "/api/nodes/00000001-1/kick");
    let (status, sentence) = answer(&page, bearer(change(), &viewer)).await;
    assert_eq!(status, 403);
    assert!(sentence.contains("may change nothing"), "{sentence}");
    assert_eq!(answer(&page, bearer(from(FAR, Method::POST, "/api/calls/1-0/cancel"), &viewer)).await.0, 403);
    assert_eq!(answer(&page, bearer(change(), &admin)).await.0, 404, "it may, and there is no such node");

    for short in ["", "a b", &"x".repeat(31)] {
        let error = PageBuilder::new(&master).admin_token(short).router().expect_err("can be guessed").to_string();
        assert!(error.contains("`admin_token` must have at least 32"), "{error}");
    }
}

#[tokio::test]
async fn what_is_changed_and_what_is_refused_is_in_the_audit_log_once() {
    let (log, _guard) = Log::gather();
    let local = distribution::LocalCluster::builder().nodes(1).start().await.expect("starts");
    let (admin, viewer) = ("a".repeat(32), "v".repeat(40));
    let page = PageBuilder::new(&local).admin_token(&admin).viewer_token(&viewer).router().expect("can be");
    let id = local.nodes()[0].id();
    let cordon = || from(FAR, Method::POST, &format!("/api/nodes/{id}/cordon"));
    assert_eq!(answer(&page, cordon()).await.0, 401);
    assert_eq!(answer(&page, bearer(cordon(), &viewer)).await.0, 403);
    assert_eq!(answer(&page, bearer(cordon(), &admin)).await.0, 200);
    // Who looks is not in it.
    assert_eq!(answer(&page, from(FAR, Method::GET, "/api/me")).await.0, 401);
    assert_eq!(answer(&page, bearer(from(FAR, Method::GET, "/api/nodes"), &viewer)).await.0, 200);
    let text = log.text();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("distribution::audit")).collect();
    let id = format!("on={id}");
    let expected = [
        &["WARN", "without a token", "10.0.0.9:5000"][..],
        &["WARN", "the viewer token", "action=\"cordon\"", "10.0.0.9:5000"],
        &["INFO", &id, "action=\"cordon\"", "on_behalf_of=\"the admin token through the page, from 10.0.0.9:5000\""],
    ];
    for (line, parts) in lines.iter().zip(expected) {
        for part in parts {
            assert!(line.contains(part), "`{part}` is not in: {line}");
        }
    }
    assert_eq!(lines.len(), 3, "{lines:#?}");
}

#[tokio::test]
async fn warnings_runs_events_and_a_report_can_be_asked_for_and_a_viewer_may() {
    let local = distribution::LocalCluster::builder().nodes(1).start().await.expect("starts");
    let viewer = "v".repeat(32);
    let page = PageBuilder::new(&local).viewer_token(&viewer).router().expect("can be");
    let ask = |path: &str| bearer(request(Method::GET, path), &viewer);
    assert_eq!(json(&page, ask("/api/warnings")).await["warnings"], Value::Array(Vec::new()));
    local.master().cordon(local.nodes()[0].id()).expect("is there");
    until("the warning comes", || !local.master().warnings().is_empty()).await;
    let warnings = json(&page, ask("/api/warnings")).await;
    let known = serde_json::to_value(local.master().warnings()).expect("is JSON");
    assert_eq!(
        (&warnings["warnings"][0]["text"], &warnings["warnings"][0]["level"]),
        (&known[0]["text"], &"note".into())
    );
    assert_eq!(json(&page, ask("/api/runs")).await["runs"], Value::Array(Vec::new()));
    let events = json(&page, ask("/api/events")).await;
    let kinds: Vec<_> = events["events"].as_array().expect("a list").iter().map(|event| &event["kind"]).collect();
    assert_eq!(kinds, ["cordoned", "joined"]);
    let response = send(&page, ask("/api/report")).await;
    assert_eq!(response.headers()[header::CONTENT_DISPOSITION], "attachment; filename=\"cluster.html\"");
    let body = response.into_body().collect().await.expect("comes").to_bytes();
    assert!(body.starts_with(b"<!doctype html>") && body.ends_with(b"</html>\n"));
    let of_node = format!("/api/history?node={}", local.nodes()[0].id());
    assert!(json(&page, ask(&of_node)).await["nodes"].as_array().is_some_and(|nodes| nodes.len() <= 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_takes_a_profile_of_a_node_and_a_viewer_does_not() {
    let cluster = probed().await;
    let (admin, viewer) = ("a".repeat(32), "v".repeat(40));
    let page = PageBuilder::new(&cluster).admin_token(&admin).viewer_token(&viewer).router().expect("can be");
    let ask = |node: &str, body: &str| {
        let (parts, _) = request(Method::POST, &format!("/api/nodes/{node}/profile")).into_parts();
        Request::from_parts(parts, Body::from(body.to_owned()))
    };
    let id = cluster.nodes()[0].id().to_string();
    assert_eq!(answer(&page, bearer(ask(&id, ""), &viewer)).await.0, 403);
    for body in ["{\"seconds\":0.5}", "{\"seconds\":31}", "{\"minutes\":1}", "five"] {
        let (status, sentence) = answer(&page, bearer(ask(&id, body), &admin)).await;
        assert_eq!(status, 400, "{body}: {sentence}");
    }
    assert_eq!(answer(&page, bearer(ask("00000001-1", "{\"seconds\":1}"), &admin)).await.0, 404);

    let spinning = ProbeClient::new(&cluster).spin().send();
    until("it runs", || cluster.master().stats().in_flight == 1).await;
    let profile = soon("the profile", json(&page, bearer(ask(&id, "{\"seconds\":1}"), &admin))).await;
    assert_eq!((&profile["node"], &profile["frequency"]), (&id.into(), &99.into()));
    assert_eq!(profile["handlers"][0]["method"], "Probe.spin", "{}", profile["handlers"]);
    spinning.cancel();
}

#[tokio::test]
async fn wrong_tokens_are_slowed_down_and_right_ones_are_not() {
    let master = master().await;
    let admin = "a".repeat(32);
    let page = PageBuilder::new(&master).admin_token(&admin).router().expect("can be");
    let mut seen = Vec::new();
    for _ in 0..12 {
        seen.push(answer(&page, bearer(from(FAR, Method::GET, "/api/me"), &"b".repeat(32))).await.0);
    }
    assert_eq!((&seen[..10], seen[11]), (&[401; 10][..], 429));
    assert_eq!(answer(&page, bearer(from(FAR, Method::GET, "/api/me"), &admin)).await.0, 200);
}

#[tokio::test]
async fn a_token_file_says_who_may_log_in_and_a_token_that_is_removed_may_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cluster.token");
    let [node, caller, admin] =
        [Access::Nodes, Access::Callers, Access::Admins].map(|access| Token::issue(&file, access).expect("writes"));
    let master = master().await;
    let page = PageBuilder::new(&master).token_file(&file).router().expect("can be");
    let status = async |token: &Token| answer(&page, bearer(request(Method::GET, "/api/me"), token.expose())).await.0;
    assert_eq!((status(&node).await, status(&caller).await, status(&admin).await), (401, 401, 200));

    let mut stream = send(&page, bearer(request(Method::GET, "/api/stream"), admin.expose())).await.into_body();
    Token::revoke(&file, &admin.id()).expect("is there");
    soon("it is refused", async { while status(&admin).await == 200 {} }).await;
    // What was open is closed.
    soon("the stream ends", async { while stream.frame().await.is_some() {} }).await;

    // A damaged file lets nobody in.
    let second = Token::issue(&file, Access::Admins).expect("writes");
    soon("it is accepted", async { while status(&second).await != 200 {} }).await;
    let text = fs::read_to_string(&file).expect("reads");
    fs::write(&file, format!("{text}\nrubbish\n")).expect("writes");
    soon("it is refused", async { while status(&second).await == 200 {} }).await;
    let error = PageBuilder::new(&master).token_file(folder.path().join("none")).router().expect_err("is not there");
    assert!(matches!(error, Error::Tokens(_)), "{error}");
}

#[tokio::test]
async fn a_viewer_too_many_is_told_so_and_a_place_is_free_when_one_leaves() {
    let master = master().await;
    let page = PageBuilder::new(&master).max_viewers(2).router().expect("can be");
    let open = || async { send(&page, request(Method::GET, "/api/stream")).await };
    let (first, second) = (open().await, open().await);
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    let (status, sentence) = answer(&page, request(Method::GET, "/api/stream")).await;
    assert_eq!(status, 503);
    assert!(sentence.contains("2 viewers"), "{sentence}");
    drop(first);
    assert_eq!(open().await.status(), StatusCode::OK);
    // Others are not held up by viewers.
    assert_eq!(answer(&page, request(Method::GET, "/api/nodes")).await.0, 200);
    for bad in [0, 5000] {
        PageBuilder::new(&master).max_viewers(bad).router().expect_err("out of range");
    }
}

#[tokio::test]
async fn the_stream_brings_each_part_once_and_then_what_has_changed() {
    let master = master().await;
    let page = router(&master);
    let mut stream = send(&page, request(Method::GET, "/api/stream")).await.into_body();
    let mut text = String::new();
    soon("two looks", async {
        while text.matches("event: status").count() < 2 {
            let frame = stream.frame().await.expect("goes on").expect("comes");
            text.push_str(std::str::from_utf8(&frame.into_data().expect("data")).expect("text"));
        }
    })
    .await;
    assert_eq!(text.matches("event: nodes").count(), 1, "{text}");
    assert!(text.contains("no node is registered"), "{text}");
}

#[tokio::test]
async fn calls_are_listed_with_a_sentence_and_cancelled_from_a_cluster_elsewhere_too() {
    let master = Master::builder().no_node_timeout(std::time::Duration::MAX).bind("127.0.0.1:0").await.expect("binds");
    let cluster = Cluster::connect(master.local_addr()).await.expect("connects");
    let page = router(&cluster);
    let call = ProbeClient::new(&master).add(1, 2).send();
    until("the call waits", || master.stats().queued == 1).await;
    let listed = json(&page, request(Method::GET, "/api/calls?method=Probe&status=waiting&older_than=0")).await;
    let row = &listed["calls"][0];
    assert_eq!((row["method"].as_str(), row["does"].as_str()), (Some("Probe.add"), Some("no node serves it")));
    let id = row["id"].as_str().expect("an id");
    assert_eq!(
        json(&page, request(Method::GET, "/api/calls?status=running")).await["calls"].as_array().map(Vec::len),
        Some(0)
    );
    assert_eq!(answer(&page, request(Method::GET, "/api/calls?stauts=running")).await.0, 400);
    assert_eq!(answer(&page, request(Method::POST, &format!("/api/calls/{id}/cancel"))).await.0, 200);
    let error = soon("the call ends", call).await.expect_err("was cancelled");
    assert!(matches!(error, CallError::Cancelled { .. }), "{error}");
    assert_eq!(answer(&page, request(Method::POST, &format!("/api/calls/{id}/cancel"))).await.0, 404);
}

#[tokio::test]
async fn a_search_finds_all_that_the_list_shows_and_a_node_by_a_name_that_looks_like_an_id() {
    let master = Master::builder().bind("127.0.0.1:0").await.expect("binds");
    let node = Node::builder().serve(ProbeServer::new(Prober)).name("be-1").slots(2);
    let _node = soon("the node", node.spawn(master.local_addr())).await.expect("registers");
    let page = router(&master);
    let (client, mut meeting) = (ProbeClient::new(&master), Meeting::new().await);
    client.add(1, 2).await.expect("answers");
    let held = client.hold(meeting.addr(), "here".to_owned()).send();
    let handler = meeting.next().await;
    until("the node has told what it does", || {
        master.metrics().nodes[0].vitals.is_some_and(|vitals| vitals.busy_slots == 1)
    })
    .await;

    let nodes = json(&page, request(Method::GET, "/api/nodes?q=be-1")).await;
    let node = &nodes["nodes"][0];
    assert_eq!((node["busy"].as_u64(), node["in_flight"].as_u64()), (Some(1), Some(1)), "{node}");
    assert!(node["vitals"]["memory"].as_u64().is_some_and(|bytes| bytes > 0), "{node}");
    let methods = json(&page, request(Method::GET, "/api/methods?q=Probe.add%20")).await;
    assert_eq!(methods["total"], 0, "the blank is part of the text: {methods}");
    let methods = json(&page, request(Method::GET, "/api/methods?q=Probe.add")).await;
    let add = methods["methods"].as_array().into_iter().flatten().find(|method| method["name"] == "add");
    assert_eq!(add.expect("is listed")["ended"], 1, "{methods}");
    let calls = json(&page, request(Method::GET, "/api/calls?node=be-1")).await;
    assert_eq!(calls["calls"][0]["method"], "Probe.hold", "{calls}");
    let id = master.nodes()[0].id;
    let same = json(&page, request(Method::GET, &format!("/api/calls?node={id}"))).await;
    assert_eq!(same["calls"][0]["id"], calls["calls"][0]["id"]);
    assert_eq!(answer(&page, request(Method::GET, "/api/calls?node=nobody")).await.0, 404);
    let (status, sentence) = answer(&page, request(Method::GET, "/api/calls?older_than=-1")).await;
    assert!(status == 400 && sentence.contains("0 or more"), "{status}: {sentence}");
    handler.release().await;
    held.await.expect("answers");
}

#[tokio::test]
async fn prometheus_gets_the_masters_counts_and_needs_a_token_where_the_api_does() {
    let cluster = probed().await;
    for _ in 0..3 {
        ProbeClient::new(&cluster).add(1, 2).await.expect("answers");
    }
    let viewer = "v".repeat(32);
    let page = PageBuilder::new(&cluster).viewer_token(&viewer).router().expect("can be");
    assert_eq!(answer(&page, request(Method::GET, "/metrics")).await.0, 401);
    let other = with(bearer(request(Method::GET, "/metrics"), &viewer), "host", "evil.example");
    assert_eq!(answer(&page, other).await.0, 421);
    let response = send(&page, bearer(request(Method::GET, "/metrics"), &viewer)).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    let body = response.into_body().collect().await.expect("comes").to_bytes();
    let text = std::str::from_utf8(&body).expect("is text");
    for line in [
        "# TYPE distribution_calls_total counter",
        "distribution_calls_total{method=\"Probe.add\",version=\"1\",outcome=\"answered\"} 3",
        "# TYPE distribution_handler_seconds histogram",
        "distribution_handler_seconds_count{method=\"Probe.add\",version=\"1\"} 3",
        "distribution_handler_seconds_bucket{method=\"Probe.add\",version=\"1\",le=\"+Inf\"} 3",
        "distribution_nodes{state=\"alive\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "`{line}` is not in:\n{text}");
    }
    // Each family is announced once, before its lines.
    let types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let mut once = types.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!((types.len(), types.len()), (once.len(), text.matches("# HELP ").count()));
}

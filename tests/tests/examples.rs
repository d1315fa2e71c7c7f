//! The examples as their users run them: as processes.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use distribution_tests::{
    process::{Process, example},
    soon,
};
use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn palindromes_counts_right_with_any_number_of_nodes() {
    for nodes in ["1", "2", "7"] {
        for (up_to, count) in [("0", 1), ("2000", 93), ("1000000", 2000)] {
            let mut run = Process::start(&example("palindromes"), &["--nodes", nodes, "--up-to", up_to]);
            let lines = run.rest().await;
            assert!(run.ended().await.success());
            assert_eq!(lines.last(), Some(&format!("Binary palindromes up to {up_to}: {count}")));
            assert!(lines[0].starts_with("local-") && lines[lines.len() - 2].contains(" ranges in "), "{lines:?}");
        }
    }
}

#[tokio::test]
async fn palindromes_runs_over_processes() {
    let palindromes = example("palindromes");
    let mut master =
        Process::start(&palindromes, &["master", "--listen", "127.0.0.1:0", "--wait", "2", "--up-to", "2000"]);
    let line = master.line_with("Waiting for 2 nodes at ").await;
    let addr = line.trim_start_matches("Waiting for 2 nodes at ").to_owned();
    let node = |name| Process::start(&palindromes, &["node", "--master", &addr, "--name", name]);
    let mut nodes = [node("one"), node("two")];
    master.line_with("Binary palindromes up to 2000: 93").await;
    assert!(master.ended().await.success());
    for node in &mut nodes {
        node.signal("TERM").await;
        assert!(node.ended().await.success());
    }
}

/// Status and body of an HTTP request.
async fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    let request = async {
        let mut stream = TcpStream::connect(addr).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answers");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        (status, body.to_owned())
    };
    soon(path, request).await
}

#[tokio::test]
async fn arith_answers_over_http() {
    let arith = example("arith");
    let mut master = Process::start(&arith, &["master", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let line = master.line_with("Nodes: ").await;
    let (nodes_addr, http) = line.trim_start_matches("Nodes: ").split_once("; HTTP: http://").expect("both addresses");
    let http: SocketAddr = http.parse().expect("an address");

    for path in ["/sum?values=1,x", "/sum?values=", "/palindromes", "/palindromes?n=-1", "/palindromes?n=99999999999"] {
        let (status, sentence) = get(http, path).await;
        assert_eq!(status, 400, "{path}: {sentence}");
        assert!(sentence.trim_end().contains(' '), "{path}: {sentence}");
    }
    assert_eq!(get(http, "/elsewhere").await.0, 404);
    assert_eq!(get(http, "/nodes").await, (200, "[]".to_owned()));
    let (status, sentence) = get(http, "/palindromes?n=5").await;
    assert_eq!(status, 503);
    assert!(sentence.contains("no node is registered"), "{sentence}");

    let start = |name| Process::start(&arith, &["node", "--master", nodes_addr, "--name", name]);
    let mut nodes = ["n1", "n2", "n3", "n4"].map(start);
    for _ in &nodes {
        master.log_with("joined").await;
    }
    assert_eq!(get(http, "/palindromes?n=2000").await, (200, "Binary palindromes up to 2000: 93\n".to_owned()));
    let (_, list) = get(http, "/nodes").await;
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    let mut names: Vec<_> =
        list.as_array().expect("a list").iter().map(|node| node["name"].as_str().expect("a name")).collect();
    names.sort();
    assert_eq!(names, ["n1", "n2", "n3", "n4"]);

    // Each takes a second on one of four slots, so eight take two seconds and not eight.
    let began = Instant::now();
    let answers = join_all((0..8).map(|_| get(http, "/sum"))).await;
    let took = began.elapsed();
    for name in names {
        let line = format!("Reply from node {name}: 12\n");
        assert_eq!(answers.iter().filter(|(status, body)| (*status, body) == (200, &line)).count(), 2, "{answers:?}");
    }
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(6), "{took:?}");
    assert_eq!(get(http, "/sum?values=1,2,3").await.1.split(": ").nth(1), Some("6\n"));
    let (status, sentence) = get(http, "/sum?values=9223372036854775807,1").await;
    assert_eq!((status, sentence.as_str()), (400, "the sum does not fit into 64 bits\n"));
    nodes[0].signal("TERM").await;
    assert!(nodes[0].ended().await.success());
    master.log_with("said goodbye").await;
}

#[tokio::test]
async fn each_example_has_help() {
    for name in ["palindromes", "arith"] {
        let mut run = Process::start(&example(name), &["--help"]);
        let help = run.rest().await.join("\n");
        assert!(run.ended().await.success() && help.contains("Usage:"), "{help}");
    }
}

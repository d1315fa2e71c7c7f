//! The examples, run as processes, as their users run them.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
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

#[tokio::test]
async fn fibonacci_calculates_right_on_one_slot_and_on_several_nodes() {
    // Each number from the 10th on takes two calls, and all of them wait for others.
    for (nodes, of) in [("1", "1 node"), ("3", "3 nodes")] {
        let arguments = ["--nodes", nodes, "--index", "20", "--alone", "10"];
        let mut run = Process::start(&example("fibonacci"), &arguments);
        let lines = run.rest().await;
        assert!(run.ended().await.success());
        let [calls, number] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(number, "Fibonacci number 20: 6765");
        assert!(calls.starts_with(&format!("465 calls on {of} in ")), "{calls}");
    }
}

#[tokio::test]
async fn fibonacci_runs_over_processes() {
    let fibonacci = example("fibonacci");
    let arguments = ["master", "--listen", "127.0.0.1:0", "--wait", "2", "--index", "15", "--alone", "10"];
    let mut master = Process::start(&fibonacci, &arguments);
    let line = master.line_with("Waiting for 2 nodes at ").await;
    let addr = line.trim_start_matches("Waiting for 2 nodes at ").to_owned();
    let node = |name| Process::start(&fibonacci, &["node", "--master", &addr, "--name", name]);
    let mut nodes = [node("one"), node("two")];
    master.line_with("Fibonacci number 15: 610").await;
    assert!(master.ended().await.success());
    for node in &mut nodes {
        node.signal("TERM").await;
        assert!(node.ended().await.success());
    }
}

#[tokio::test]
async fn pipeline_calls_two_services_on_other_nodes() {
    let mut run = Process::start(&example("pipeline"), &["--stations", "3"]);
    let lines = run.rest().await;
    assert!(run.ended().await.success());
    let line = |station: u32| {
        format!("Station {station}: {station}.00 +- 7.21, read on node-1, calculated on node-2, reported by node-3")
    };
    let unusual = |value| format!("Unusual at station 3: {value}.00");
    assert_eq!(lines, [line(1), line(2), line(3), unusual(-9), unusual(-8)]);
}

#[tokio::test]
async fn pipeline_runs_over_processes() {
    let pipeline = example("pipeline");
    let mut master = Process::start(&pipeline, &["master", "--listen", "127.0.0.1:0", "--stations", "1"]);
    let line = master.line_with("Waiting for nodes at ").await;
    let addr = line.trim_start_matches("Waiting for nodes at ").to_owned();
    let node = |service| Process::start(&pipeline, &["node", service, "--master", &addr, "--name", service]);
    let mut nodes = ["measurements", "statistics", "reports"].map(node);
    master.line_with("read on measurements, calculated on statistics, reported by reports").await;
    master.line_with("Unusual at station 1: -11.00").await;
    assert!(master.ended().await.success());
    for node in &mut nodes {
        node.signal("TERM").await;
        assert!(node.ended().await.success());
    }
}

/// Status and body of an HTTP request.
async fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    get_with(addr, path, "Host: localhost\r\n").await
}

/// Status and body of a request with these headers, each with its line break.
async fn get_with(addr: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    let request = async {
        let mut stream = TcpStream::connect(addr).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
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
        master.log_with("registered").await;
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
async fn arith_is_called_from_a_process_of_its_own() {
    let arith = example("arith");
    let folder = folder("arith-call");
    let file = folder.join("cluster.token");
    let files = ["--token-file", utf8(&file)];
    let addresses = ["master", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let mut master = Process::start(&arith, &[&addresses[..], &files].concat());
    let line = master.line_with("Nodes: ").await;
    let (addr, _) = line.trim_start_matches("Nodes: ").split_once(';').expect("both addresses");
    let call = |values: &[&str]| Process::start(&arith, &[&["call", "--cluster", addr], &files[..], values].concat());

    // The file has a token for nodes only.
    let mut refused = call(&[]);
    refused.log_with("error: ").await;
    assert_eq!(refused.ended().await.code(), Some(1));

    let mut token = Process::start(&arith, &[&["token", "--role", "caller"], &files[..]].concat());
    assert!(token.line_with("DISTRIBUTION_TOKEN=").await.starts_with("DISTRIBUTION_TOKEN=dtok1_caller_"));
    let mut node = Process::start(&arith, &[&["node", "--master", addr, "--name", "n1"], &files[..]].concat());
    master.log_with("registered").await;
    for (values, sum) in [(&[][..], 12), (&["1", "-5"], -4)] {
        let mut call = call(values);
        assert_eq!(call.rest().await, [format!("Reply from node n1: {sum}")]);
        assert!(call.ended().await.success());
    }
    let mut failed = call(&["9223372036854775807", "1"]);
    failed.log_with("error: the sum does not fit into 64 bits").await;
    assert_eq!(failed.ended().await.code(), Some(1));
    node.signal("TERM").await;
    assert!(node.ended().await.success());
}

#[tokio::test]
async fn arith_serves_http_in_a_process_of_its_own() {
    let arith = example("arith");
    let folder = folder("arith-http");
    let file = folder.join("cluster.token");
    let files = ["--token-file", utf8(&file)];
    let listen = ["master", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let mut master = Process::start(&arith, &[&listen[..], &files].concat());
    let line = master.line_with("Nodes: ").await;
    let (addr, _) = line.trim_start_matches("Nodes: ").split_once(';').expect("both addresses");
    let mut token = Process::start(&arith, &[&["token", "--role", "caller"], &files[..]].concat());
    token.line_with("DISTRIBUTION_TOKEN=").await;
    let _node = Process::start(&arith, &[&["node", "--master", addr, "--name", "n1"], &files[..]].concat());
    master.log_with("registered").await;

    let options = ["http", "--cluster", addr, "--http", "127.0.0.1:0"];
    let mut server = Process::start(&arith, &[&options[..], &files].concat());
    let line = server.line_with("HTTP: http://").await;
    let http: SocketAddr = line.trim_start_matches("HTTP: http://").parse().expect("an address");
    assert_eq!(get(http, "/sum?values=1,2,3").await, (200, "Reply from node n1: 6\n".to_owned()));
    assert_eq!(get(http, "/palindromes?n=2000").await.0, 200);
    let (status, sentence) = get(http, "/nodes").await;
    assert_eq!(status, 403, "{sentence}");
    assert!(sentence.contains("the admin service is for admins"), "{sentence}");
    assert_eq!(get_with(http, "/nodes", "Host: rebound.example\r\n").await.0, 403);
    server.signal("TERM").await;
    assert!(server.ended().await.success());
    master.log_with("a caller has left").await;
}

/// Starts a master and says where it serves HTTP.
async fn serve_http(options: &[&str]) -> (Process, SocketAddr) {
    let options = [&["master", "--listen", "127.0.0.1:0"], options].concat();
    let mut master = Process::start(&example("arith"), &options);
    let line = master.line_with("HTTP: http://").await;
    let addr = line.split("HTTP: http://").nth(1).and_then(|addr| addr.parse().ok()).expect("an address");
    (master, addr)
}

#[tokio::test]
async fn arith_answers_to_its_own_names_alone() {
    let (_master, http) = serve_http(&["--http", "127.0.0.1:0", "--http-name", "Arith.example"]).await;
    let with = |host: &str| {
        let headers = format!("Host: {host}\r\n");
        async move { get_with(http, "/nodes", &headers).await }
    };
    // Any port is accepted, because a forwarded port has another number.
    for own in
        ["localhost", "LocalHost.:80", "127.0.0.1", &http.to_string(), "[::1]:3001", "arith.example", "ARITH.example:1"]
    {
        assert_eq!(with(own).await, (200, "[]".to_owned()), "{own}");
    }
    // As from a page at rebound.example whose name was made to resolve to 127.0.0.1.
    for foreign in [
        "rebound.example",
        "rebound.example:3001",
        "localhost.rebound.example",
        "10.0.0.1",
        "arith.example.org",
        "",
        "a b",
    ] {
        let (status, sentence) = with(foreign).await;
        assert!(matches!(status, 400 | 403) && !sentence.contains("[]"), "{foreign}: {status} {sentence}");
    }
    let (status, sentence) = with("rebound.example").await;
    assert!(status == 403 && sentence.contains("--http-name"), "{sentence}");
    for headers in ["", "Host: localhost\r\nHost: rebound.example\r\n", "Host: rebound.example\r\nHost: localhost\r\n"]
    {
        assert!(matches!(get_with(http, "/nodes", headers).await.0, 400 | 403), "{headers}");
    }
}

#[tokio::test]
async fn arith_says_that_it_is_reached_from_other_machines() {
    let (mut master, http) = serve_http(&["--http", "0.0.0.0:0"]).await;
    let warning = master.log_with("warning: HTTP on 0.0.0.0").await;
    assert!(warning.contains("anybody who reaches it"), "{warning}");
    let here = SocketAddr::from(([127, 0, 0, 1], http.port()));
    assert_eq!(get_with(here, "/nodes", "Host: 10.0.0.1:3001\r\n").await.0, 200);
    assert_eq!(get_with(here, "/nodes", "Host: rebound.example\r\n").await.0, 403);
    let (mut master, _) = serve_http(&["--http", "127.0.0.1:0"]).await;
    master.kill().await;
    assert!(!master.log().await.contains("warning: HTTP"));
}

/// An empty folder for one test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", folder.display()),
        _ => fs::create_dir_all(&folder).expect("creates"),
    }
    folder
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[tokio::test]
async fn mandelbrot_paints_the_same_with_any_number_of_nodes() {
    let folder = folder("mandelbrot");
    let mut pictures = Vec::new();
    for nodes in ["1", "3"] {
        let output = folder.join(format!("{nodes}.png"));
        // Not multiples of the tile, so that tiles at the edges are smaller.
        let size = ["--width", "50", "--height", "30", "--tile", "16", "--iterations", "100"];
        let mut run = Process::start(
            &example("mandelbrot"),
            &[&size[..], &["--nodes", nodes, "--output", utf8(&output)]].concat(),
        );
        run.log_with("8 of 8 calls in ").await;
        let lines = run.rest().await;
        assert!(run.ended().await.success());
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(line.starts_with(&format!("Wrote {}: 50 x 30 pixels in 8 tiles", output.display())), "{line}");
        assert!(line.contains(&format!(" over {nodes} node")), "{line}");
        pictures.push(fs::read(&output).expect("a picture"));
    }
    let picture = &pictures[0];
    assert_eq!(&picture[..16], b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    assert_eq!(&picture[16..24], [0, 0, 0, 50, 0, 0, 0, 30]);
    assert!(picture == &pictures[1], "the pictures differ; compare those in {}", folder.display());
}

#[tokio::test]
async fn mandelbrot_says_where_it_cannot_write() {
    let small = ["--width", "2", "--height", "2", "--iterations", "10", "--output", "/nonexistent/picture.png"];
    let mut run = Process::start(&example("mandelbrot"), &small);
    let error = run.log_with("error: ").await;
    assert!(error.contains("/nonexistent/picture.png") && error.contains("--output"), "{error}");
    assert_eq!(run.ended().await.code(), Some(1));
}

#[tokio::test]
async fn montecarlo_ends_with_a_good_estimate() {
    // Batches far smaller than the number of samples that is needed, and one far larger.
    for batch in ["100", "200000"] {
        let arguments = ["--error", "0.001", "--batch", batch, "--nodes", "3", "--seed", "7"];
        let mut run = Process::start(&example("montecarlo"), &arguments);
        let lines = run.rest().await;
        assert!(run.ended().await.success());
        let result = lines.last().and_then(|line| line.strip_prefix("Mean distance of two points in a cube: "));
        let (mean, error) = result.and_then(|result| result.split_once(" +- ")).expect("a result");
        let (mean, error): (f64, f64) = (mean.parse().expect("a mean"), error.parse().expect("an error"));
        assert!(error > 0.0 && error <= 0.001, "{lines:?}");
        assert!((mean - 0.661_707_182).abs() < 6.0 * error, "{lines:?}");
        let samples: u64 = lines[0].split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
        // The variance is 0.5 minus the square of the mean.
        assert!((50_000..=400_000).contains(&samples), "{lines:?}");
    }
}

#[tokio::test]
async fn montecarlo_refuses_an_error_that_is_never_reached() {
    for error in ["0", "-1", "NaN", "inf"] {
        let mut run = Process::start(&example("montecarlo"), &[&format!("--error={error}")]);
        run.log_with("above zero").await;
        assert_eq!(run.ended().await.code(), Some(2));
    }
}

/// A folder with 600 words in three files, and files that are not counted: 300 times `the`, 200 times `straße`, 99 times
/// `don't` and once `zebra`.
fn texts(name: &str) -> PathBuf {
    let folder = folder(name);
    fs::create_dir_all(folder.join("below")).expect("creates");
    fs::create_dir_all(folder.join("cache")).expect("creates");
    fs::write(folder.join("one.txt"), "The THE (the)\n".repeat(100)).expect("writes");
    fs::write(folder.join("below/two"), "Straße, STRAßE -- 'don't'\r\n".repeat(99)).expect("writes");
    // On one line without a line break.
    fs::write(folder.join("below/three.md"), "zebra straße/straße").expect("writes");
    fs::write(folder.join("empty"), "").expect("writes");
    fs::write(folder.join(".hidden"), "hidden").expect("writes");
    fs::write(folder.join("cache/CACHEDIR.TAG"), "cached").expect("writes");
    folder
}

#[tokio::test]
async fn wordcount_counts_right_with_any_number_of_nodes_and_any_chunk() {
    let folder = texts("wordcount");
    for nodes in ["1", "4"] {
        for (chunk, chunks) in [("65536", 3), ("100", 49), ("1", 200)] {
            let arguments = [utf8(&folder), "--nodes", nodes, "--chunk", chunk, "--top", "3"];
            let mut run = Process::start(&example("wordcount"), &arguments);
            let lines = run.rest().await;
            assert!(run.ended().await.success());
            let words: Vec<_> = lines[..3].iter().map(|line| line.trim_start()).collect();
            assert_eq!(words, ["300 the", "200 straße", "99 don't"], "{lines:?}");
            assert!(lines[3].starts_with("600 words, 4 different, in 4 files of "), "{lines:?}");
            assert!(lines[4].starts_with(&format!("{chunks} chunks ")), "{lines:?}");
            assert!(lines[4].contains(&format!(" over {nodes} node")), "{lines:?}");
        }
    }
}

#[tokio::test]
async fn wordcount_names_what_it_cannot_read() {
    let folder = folder("wordcount-skips");
    let (text, data, missing) = (folder.join("text"), folder.join("data"), folder.join("missing"));
    fs::write(&text, "one two two").expect("writes");
    fs::write(&data, b"one \xff").expect("writes");
    let mut run = Process::start(&example("wordcount"), &[utf8(&missing), utf8(&data), utf8(&text)]);
    assert!(run.log_with("skipped ").await.starts_with(&format!("skipped {}: ", missing.display())));
    assert!(run.log_with("skipped ").await.starts_with(&format!("skipped {}: it is not text: ", data.display())));
    let lines = run.rest().await;
    assert!(run.ended().await.success());
    assert!(lines[2].starts_with("3 words, 2 different, in 1 file"), "{lines:?}");

    let mut run = Process::start(&example("wordcount"), &[utf8(&missing)]);
    run.log_with("name text files").await;
    assert_eq!(run.ended().await.code(), Some(1));
}

#[tokio::test]
async fn wordcount_runs_over_processes() {
    let wordcount = example("wordcount");
    let folder = texts("wordcount-processes");
    let mut master =
        Process::start(&wordcount, &[utf8(&folder), "master", "--listen", "127.0.0.1:0", "--wait", "2", "--top", "1"]);
    let line = master.line_with("Waiting for 2 nodes at ").await;
    let addr = line.trim_start_matches("Waiting for 2 nodes at ").to_owned();
    let node = |name| Process::start(&wordcount, &["node", "--master", &addr, "--name", name]);
    let mut nodes = [node("one"), node("two")];
    master.line_with("300 the").await;
    master.line_with("600 words, 4 different, in 4 files").await;
    assert!(master.ended().await.success());
    for node in &mut nodes {
        node.signal("TERM").await;
        assert!(node.ended().await.success());
    }
}

#[tokio::test]
async fn wordcount_has_something_to_count_unless_told() {
    let mut run = Process::start(&example("wordcount"), &["--top", "3"]);
    let lines = run.rest().await;
    assert!(run.ended().await.success());
    assert!(lines.len() == 5 && lines[3].contains(" files of "), "{lines:?}");
}

#[tokio::test]
async fn logs_shows_lines_of_all_nodes_unless_told() {
    let mut run = Process::start(&example("logs"), &["--nodes", "3"]);
    let lines = run.rest().await;
    let log = run.log().await;
    assert!(run.ended().await.success(), "{log}");
    assert_eq!(lines.len(), 15, "{lines:?}");
    for node in ["local-1", "local-2", "local-3"] {
        let own: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix(node)?.strip_prefix(": ")).collect();
        assert_eq!(own, [1, 2, 3, 4, 5].map(|round| format!("line {round} of 5")));
        assert!(log.contains(&format!("{node}: there is no file ")), "{log}");
    }
}

#[tokio::test]
async fn logs_follows_a_file_through_all_that_happens_to_it() {
    let folder = folder("logs");
    let (file, other) = (folder.join("followed"), folder.join("other"));
    let mut run = Process::start(&example("logs"), &[utf8(&file), "--nodes", "1"]);
    let append = |bytes: &[u8]| {
        let mut file = fs::OpenOptions::new().append(true).open(&file).expect("opens");
        file.write_all(bytes).expect("writes");
    };

    let error = run.log_with("there is no file").await;
    assert!(error.starts_with(&format!("local-1: there is no file {} here", file.display())), "{error}");
    fs::write(&other, b"one\r\n\ntw\xffo\nlast").expect("writes");
    fs::rename(&other, &file).expect("renames");
    for expected in ["one", "", "tw\u{fffd}o", "last .."] {
        assert_eq!(run.line().await, Some(format!("local-1: {expected}")));
    }
    append(b" one\n");
    assert_eq!(run.line().await.as_deref(), Some("local-1:  one"));

    // Longer than an item. Characters of two bytes at odd places, so that an item cannot end anywhere.
    let long = format!("x{}", "é".repeat(20_000));
    append(format!("{long}\n").as_bytes());
    let mut pieces = String::new();
    loop {
        let line = run.line().await.expect("is not the end");
        let piece = line.strip_prefix("local-1: ").expect("a name");
        pieces += piece.strip_suffix(" ..").unwrap_or(piece);
        if !piece.ends_with(" ..") {
            break;
        }
    }
    assert!(pieces == long, "{} bytes of {}", pieces.len(), long.len());

    // Cut, replaced by a longer one, removed, and no file at all.
    fs::write(&file, "cut\n").expect("writes");
    run.log_with("was cut or replaced").await;
    assert_eq!(run.line().await.as_deref(), Some("local-1: cut"));
    append(b"unfinished");
    assert_eq!(run.line().await.as_deref(), Some("local-1: unfinished .."));
    fs::write(&other, "in its place there is another file\n").expect("writes");
    fs::rename(&other, &file).expect("renames");
    run.log_with("was cut or replaced").await;
    assert_eq!(run.line().await.as_deref(), Some("local-1: in its place there is another file"));
    fs::remove_file(&file).expect("removes");
    run.log_with("there is no file").await;
    fs::create_dir(&file).expect("creates");
    run.log_with("is not a file").await;
    fs::remove_dir(&file).expect("removes");
    run.log_with("there is no file").await;
    fs::write(&file, "again\n").expect("writes");
    assert_eq!(run.line().await.as_deref(), Some("local-1: again"));
    run.signal("INT").await;
    assert!(run.ended().await.success());
}

#[tokio::test]
async fn logs_runs_over_processes_and_goes_on_without_a_node() {
    let logs = example("logs");
    let folder = folder("logs-processes");
    let (one, other) = (folder.join("one"), folder.join("other"));
    fs::write(&one, "first\n").expect("writes");
    fs::write(&other, "second\n").expect("writes");
    let mut master =
        Process::start(&logs, &[utf8(&one), utf8(&other), "master", "--listen", "127.0.0.1:0", "--wait", "2"]);
    let line = master.line_with("Waiting for 2 nodes at ").await;
    let addr = line.trim_start_matches("Waiting for 2 nodes at ").to_owned();
    let node = |name| Process::start(&logs, &["node", "--master", &addr, "--name", name]);
    let (mut here, mut there) = (node("here"), node("there"));
    let mut lines = Vec::new();
    for _ in 0..4 {
        lines.extend(master.line().await);
    }
    lines.sort();
    let line = |node: &str, file: &Path, text: &str| format!("{node} {}: {text}", file.display());
    let both = |node| [line(node, &one, "first"), line(node, &other, "second")];
    assert_eq!(lines, [both("here"), both("there")].concat());

    here.kill().await;
    master.log_with(&format!("here {}: ", one.display())).await;
    fs::write(&other, "more\n").expect("writes");
    assert_eq!(master.line().await, Some(line("there", &other, "more")));
    there.kill().await;
    master.log_with("error: all streams have ended").await;
    assert_eq!(master.ended().await.code(), Some(1));
}

#[tokio::test]
async fn sort_sorts_right_with_any_number_of_nodes_and_runs() {
    // With the last one there are more runs than are merged at a time.
    for (nodes, mib, budget) in [("1", "2", "4"), ("3", "5", "1"), ("1", "18", "1")] {
        let arguments = ["--nodes", nodes, "--mib", mib, "--budget", budget];
        let mut run = Process::start(&example("sort"), &arguments);
        let lines = run.rest().await;
        assert!(run.ended().await.success(), "{}", run.log().await);
        let records = mib.parse::<u64>().expect("a number") * 65_536;
        assert!(lines[0].starts_with(&format!("Sorted {records} records of {mib} MiB over {nodes} node")), "{lines:?}");
        assert!(lines[1].starts_with("All are there, and in order; checksum "), "{lines:?}");
        let memory = format!("Peak memory of process {} (master, local-", run.id());
        assert!(lines.len() == 3 && lines[2].starts_with(&memory), "{lines:?}");
    }
}

#[tokio::test]
async fn sort_runs_over_processes_that_have_less_memory_than_there_is_data() {
    let sort = example("sort");
    let mut master = Process::start(&sort, &["master", "--listen", "127.0.0.1:0", "--wait", "2", "--mib", "64"]);
    let line = master.line_with("Waiting for 2 nodes at ").await;
    let addr = line.trim_start_matches("Waiting for 2 nodes at ").to_owned();
    let node = |name| Process::start(&sort, &["node", "--master", &addr, "--name", name, "--budget", "1"]);
    let mut nodes = [node("one"), node("two")];
    let lines = master.rest().await;
    assert!(master.ended().await.success(), "{}", master.log().await);
    assert!(lines[1].starts_with("All are there, and in order"), "{lines:?}");
    for (name, process) in [("master", &master), ("one", &nodes[0]), ("two", &nodes[1])] {
        let start = format!("Peak memory of process {} ({name}): ", process.id());
        let peak = lines.iter().find_map(|line| line.strip_prefix(&start)).expect("a line for each process");
        if let Some(mib) = peak.strip_suffix(" MiB") {
            assert!(mib.parse::<u64>().is_ok_and(|mib| mib < 64), "{lines:?}");
        }
    }
    for node in &mut nodes {
        node.signal("TERM").await;
        assert!(node.ended().await.success());
    }
}

#[tokio::test]
async fn sort_says_where_it_cannot_write() {
    let mut run = Process::start(&example("sort"), &["--mib", "1", "--folder", "/nonexistent"]);
    let error = run.log_with("error: ").await;
    assert!(error.contains("/nonexistent") && error.contains("--folder"), "{error}");
    assert_eq!(run.ended().await.code(), Some(1));
}

#[tokio::test]
async fn each_example_has_help() {
    let names =
        ["palindromes", "fibonacci", "pipeline", "arith", "mandelbrot", "montecarlo", "wordcount", "logs", "sort"];
    for name in names {
        let mut run = Process::start(&example(name), &["--help"]);
        let help = run.rest().await.join("\n");
        assert!(run.ended().await.success() && help.contains("Usage:"), "{help}");
    }
}

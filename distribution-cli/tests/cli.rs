//! The program `distribution` as people and scripts run it: real processes, what they print, and their exit codes.

use std::{path::Path, process::Stdio, time::Duration};

use distribution::{Access, Cluster, Node, NodeBuilder, Token, prelude::*};
use distribution_tests::{
    ProbeClient, ProbeServer, Prober,
    meeting::Meeting,
    process::Process,
    soon,
    sources::{text, workspace},
    trust::{Authority, Purpose},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_distribution");

/// A master in a process of its own.
struct RunningMaster {
    process: Process,
    addr: String,
}

impl RunningMaster {
    async fn start(options: &[&str]) -> Self {
        let arguments = [&["master", "--listen", "127.0.0.1:0"], options].concat();
        let mut process = Process::start(Path::new(PROGRAM), &arguments);
        let line = process.line_with("listening on ").await;
        Self { addr: line["listening on ".len()..].to_owned(), process }
    }

    /// Runs a command against it.
    async fn run(&self, arguments: &[&str]) -> Ended {
        run(&[arguments, &["--master", &self.addr]].concat()).await
    }

    /// What a command prints that must not fail.
    async fn printed(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!((ended.code, &*ended.stderr), (0, ""), "{arguments:?}");
        ended.stdout
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.printed(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    async fn node(&self, name: &str) -> Node {
        node(name).spawn(&self.addr).await.expect("registers")
    }
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    for name in ["DISTRIBUTION_TOKEN", "DISTRIBUTION_TOKEN_FILE", "DISTRIBUTION_MASTER"] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn output(mut command: Command) -> Ended {
    let output = soon("a command", command.output()).await.expect("starts");
    let text = |bytes| String::from_utf8(bytes).expect("is text");
    Ended { code: output.status.code().expect("ends"), stdout: text(output.stdout), stderr: text(output.stderr) }
}

async fn run(arguments: &[&str]) -> Ended {
    output(command(arguments)).await
}

/// Fails unless the command ends with this code and a sentence that has all these parts.
#[track_caller]
fn assert_fails(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code, code, "{ended:?}");
    assert_eq!(ended.stdout, "", "{ended:?}");
    for part in parts {
        assert!(ended.stderr.contains(part), "`{part}` is not in: {}", ended.stderr);
    }
}

fn node(name: &str) -> NodeBuilder {
    Node::builder().serve(ProbeServer::new(Prober)).slots(1).name(name)
}

fn folder() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cluster.token").display().to_string();
    (folder, file)
}

/// The columns of the first row of a table.
fn row(table: &str) -> Vec<&str> {
    table.lines().nth(1).unwrap_or_default().split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[tokio::test]
async fn a_master_says_what_nodes_and_callers_need_and_ends_in_order() {
    let mut master = RunningMaster::start(&[]).await;
    let needed = format!("the address {}", master.addr);
    assert_eq!(master.process.line().await, Some(format!("a node needs: {needed}")));
    assert_eq!(master.process.line().await, Some(format!("a caller needs: {needed}")));
    let node = node("n1").end_with_master().spawn(&master.addr).await.expect("registers");
    master.process.signal("TERM").await;
    assert!(master.process.ended().await.success());
    // It was told, and did not only lose its connection.
    let _ = soon("the node", node.wait()).await;
}

#[tokio::test]
async fn people_see_tables_and_scripts_see_all_of_it() {
    let master = RunningMaster::start(&[]).await;
    assert_eq!(master.printed(&["nodes"]).await, "no nodes are registered\n");
    let node = master.node("n1").await;
    let cluster = Cluster::builder().name("batch-job").connect(&master.addr).await.expect("connects");
    let mut meeting = Meeting::new().await;
    let probe = ProbeClient::new(&cluster);
    let running = probe.hold(meeting.addr(), "running".to_owned()).send();
    let guest = meeting.guest("running").await;
    let waiting = probe.add(1, 2).metadata("tenant", "north").send();
    let found = async {
        loop {
            let calls = master.json(&["calls"]).await;
            if calls["calls"].as_array().expect("a list").len() == 2 {
                return calls;
            }
        }
    };
    let calls = soon("both calls", found).await;

    let nodes = master.printed(&["nodes"]).await;
    let id = node.id().to_string();
    assert!(nodes.starts_with("ID "), "{nodes}");
    assert_eq!(row(&nodes)[..5], [&*id, "n1", "alive", "1", "1"], "{nodes}");
    let nodes = master.json(&["nodes"]).await;
    assert_eq!((&nodes[0]["id"], &nodes[0]["slots"], &nodes[0]["is_cordoned"]), (&id.into(), &1.into(), &false.into()));

    assert_eq!(calls["has_more"], false);
    let [first, second] = [running.id(), waiting.id()].map(|id| id.expect("was submitted").to_string());
    assert_eq!((&calls["calls"][0]["id"], &calls["calls"][1]["id"]), (&first.clone().into(), &second.clone().into()));
    assert_eq!(calls["calls"][1]["metadata"], serde_json::json!({ "tenant": "north" }));
    let table = master.printed(&["calls"]).await;
    assert_eq!(row(&table)[..3], [&*first, "Probe.hold", "1"], "{table}");
    assert!(table.contains("batch-job") && table.contains("runs on n1 ("), "{table}");
    assert!(table.contains("waits: the only node that may run it is busy"), "{table}");
    let one = master.printed(&["calls", "--limit", "1"]).await;
    assert!(one.ends_with("there are more; --limit says how many are listed\n"), "{one}");
    for only in [&["--status", "waiting"][..], &["--method", "Probe.add"]] {
        let listed = master.json(&[&["calls"], only].concat()).await;
        assert_eq!(listed["calls"].as_array().map(Vec::len), Some(1), "{only:?}");
        assert_eq!(listed["calls"][0]["id"], *second, "{only:?}");
    }
    assert_eq!(master.json(&["calls", "--node", "n1"]).await["calls"][0]["id"], *first);
    assert_eq!(master.printed(&["calls", "--older-than", "1d"]).await, "no such calls wait or run\n");

    let callers = master.printed(&["callers"]).await;
    let prefix = first.split('-').next().expect("an id");
    assert_eq!(row(&callers)[..4], [prefix, "batch-job", "caller", "2"], "{callers}");
    assert_eq!(master.json(&["callers"]).await[0]["principal"]["kind"], "open");

    let methods = master.printed(&["methods"]).await;
    assert!(
        methods.lines().any(|line| line.starts_with("Probe.add ") && line.ends_with("fn(i64, i64) -> i64")),
        "{methods}"
    );
    let services = master.printed(&["services"]).await;
    assert_eq!((row(&services)[0], &row(&services)[3..]), ("Probe", &["1", "1", "1"][..]), "{services}");
    let status = master.printed(&["status"]).await;
    assert!(status.contains("security") && status.contains("1, of which 1 get new calls"), "{status}");
    let status = master.json(&["status"]).await;
    assert_eq!((&status["master"]["addr"], &status["stats"]["in_flight"]), (&master.addr.clone().into(), &1.into()));
    guest.release().await;
    soon("the calls", async { (running.await.expect("answers"), waiting.await.expect("answers")) }).await;

    probe.divide(1, 0).await.expect_err("the method's own error");
    probe.panic("oh".to_owned()).await.expect_err("panics");
    let methods = master.json(&["methods"]).await;
    let counted = |name: &str, outcome: &str| {
        let rows = methods.as_array().expect("a list");
        let row = rows.iter().find(|row| row["name"] == name).expect("is listed");
        row["counted"]["outcomes"][outcome].clone()
    };
    let counts = [counted("add", "answered"), counted("divide", "errors"), counted("panic", "panicked")];
    assert_eq!(counts, [1, 1, 1].map(Value::from), "{methods}");
    let methods = master.printed(&["methods"]).await;
    let panics = methods.lines().find(|line| line.starts_with("Probe.panic ")).expect("is listed");
    assert!(panics.contains("1 (1 panicked)"), "{panics}");
    let nodes = master.printed(&["nodes"]).await;
    assert!(nodes.contains("1 (1 panicked)") && nodes.contains("P99"), "{nodes}");
    assert_eq!(master.json(&["nodes"]).await[0]["counted"]["outcomes"]["panicked"], 1);
    let status = master.printed(&["status"]).await;
    assert!(status.contains("1 (1 panicked)") && status.contains("99 of 100 within"), "{status}");
}

#[tokio::test]
async fn nodes_and_calls_are_acted_on_and_the_masters_log_says_by_whom() {
    let mut master = RunningMaster::start(&[]).await;
    let (first, second) = (master.node("blue-1").await, master.node("green-1").await);
    let said = master.printed(&["cordon", "blue-1"]).await;
    assert!(said.starts_with("node blue-1 (") && said.ends_with(" is cordoned\n"), "{said}");
    let nodes = master.json(&["nodes"]).await;
    let blue = nodes.as_array().expect("a list").iter().find(|node| node["name"] == "blue-1").expect("is listed");
    assert_eq!(blue["is_cordoned"], true);
    let log = master.process.log_with("distribution::audit").await;
    for part in ["action=\"cordon\"", "no credential", "caller=", &first.id().to_string()] {
        assert!(log.contains(part), "`{part}` is not in: {log}");
    }

    let cluster = Cluster::connect(&master.addr).await.expect("connects");
    let waiting = ProbeClient::new(&cluster).add(1, 2).on(first.id()).send();
    let id = waiting.id().expect("was submitted").to_string();
    let cancelled = async {
        // It may not have arrived.
        while master.run(&["cancel", &id]).await.code != 0 {}
    };
    soon("to cancel", cancelled).await;
    let error = soon("the call", waiting).await.expect_err("is cancelled").to_string();
    assert!(error.contains("was cancelled by an administrator (caller "), "{error}");
    assert_fails(&master.run(&["cancel", &id]).await, 5, &["no call ", "list the calls"]);

    let uncordoned = master.json(&["uncordon", "blu"]).await;
    assert_eq!((&uncordoned["action"], &uncordoned["node"]["name"]), (&"uncordon".into(), &"blue-1".into()));
    let kicked = second.id();
    master.printed(&["kick", &kicked.to_string()]).await;
    distribution_tests::until("it registers again", || second.id() != kicked).await;
    assert_fails(&master.run(&["kick", &kicked.to_string()]).await, 5, &["no node has the id", "`distribution nodes`"]);
    master.printed(&["drain", "green"]).await;
    soon("the node", second.wait()).await.expect("ends in order");
}

#[tokio::test]
async fn a_report_is_one_file_that_replaces_an_older_one_when_it_is_complete() {
    let master = RunningMaster::start(&[]).await;
    let _node = master.node("n1").await;
    let cluster = Cluster::connect(&master.addr).await.expect("connects");
    ProbeClient::new(&cluster).add(1, 2).await.expect("answers");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("run.html").display().to_string();
    let said = master.printed(&["report", "-o", &file]).await;
    assert!(said.starts_with(&format!("wrote {file} (")) && said.ends_with("KiB)\n"), "{said}");
    let html = std::fs::read_to_string(&file).expect("is there");
    for part in ["\"name\":\"add\"", "\"n1\"", "id=\"report\"", "Content-Security-Policy"] {
        assert!(html.contains(part), "{part}");
    }
    std::fs::write(&file, "older").expect("writes");
    master.printed(&["report", "--output", &file]).await;
    assert!(std::fs::read_to_string(&file).expect("is there").starts_with("<!doctype html>"));

    // Nothing is left of one that fails, and the older file stays.
    let ended = run(&["report", "-o", &file, "--master", "127.0.0.1:1", "--connect-timeout", "100ms"]).await;
    assert_fails(&ended, 3, &["127.0.0.1:1"]);
    assert!(std::fs::read_to_string(&file).expect("is there").starts_with("<!doctype html>"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("is there").count(), 1);
    let nowhere = folder.path().join("none").join("run.html").display().to_string();
    assert_fails(&master.run(&["report", "-o", &nowhere]).await, 2, &[&nowhere, "its folder must exist"]);
    let of_folder = folder.path().display().to_string();
    assert_fails(&master.run(&["report", "-o", &of_folder]).await, 2, &["give the name of a file"]);
    assert_fails(&master.run(&["report"]).await, 2, &["--output"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_a_summary_or_a_file_for_people_or_for_other_programs() {
    let master = RunningMaster::start(&[]).await;
    let node = master.node("n1").await;
    let cluster = Cluster::connect(&master.addr).await.expect("connects");
    let spinning = ProbeClient::new(&cluster).spin().send();
    let running =
        async { while master.json(&["calls", "--status", "running"]).await["calls"] == Value::Array(Vec::new()) {} };
    soon("it runs", running).await;
    let said = master.printed(&["profile", "n1", "--seconds", "1"]).await;
    assert!(said.starts_with(&format!("node n1 ({}): ", node.id())), "{said}");
    assert!(said.contains("Probe.spin") && said.contains("running"), "{said}");
    assert!(said.contains("multiply_until_cancelled"), "{said}");

    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let folded = file("n1.folded");
    assert!(master.printed(&["profile", "n1", "--seconds", "1", "-o", &folded]).await.starts_with("wrote "));
    let text = std::fs::read_to_string(&folded).expect("is there");
    for line in text.lines() {
        assert!(line.rsplit_once(' ').is_some_and(|(_, samples)| samples.parse::<u64>().is_ok()), "{line}");
    }
    let html = file("n1.html");
    master.printed(&["profile", "n1", "--seconds", "1", "-o", &html]).await;
    let text = std::fs::read_to_string(&html).expect("is there");
    assert!(text.starts_with("<!doctype html>") && text.contains("Probe.spin"));

    let ended = master.run(&["profile", "n1", "-o", &file("n1.svg")]).await;
    assert_fails(&ended, 2, &["n1.svg says no format", ".html", ".folded"]);
    assert_fails(&master.run(&["profile", "n1", "--seconds", "31"]).await, 2, &["31"]);
    assert_fails(&master.run(&["profile", "n2"]).await, 5, &["`n2`"]);
    assert_eq!(std::fs::read_dir(folder.path()).expect("is there").count(), 2, "nothing is left of one that fails");
    spinning.cancel();
}

#[tokio::test]
async fn a_name_that_several_nodes_have_is_refused_with_their_ids() {
    let master = RunningMaster::start(&[]).await;
    let nodes = [master.node("n1").await, master.node("n10").await];
    let ended = master.run(&["kick", "n"]).await;
    let [first, second] = nodes.each_ref().map(|node| node.id().to_string());
    assert_fails(&ended, 5, &["2 nodes are meant by `n`", &first, &second]);
    // The whole name of one is the beginning of the other's.
    assert!(master.printed(&["cordon", "n1"]).await.contains(&first));
}

#[tokio::test]
async fn each_kind_of_failure_has_its_exit_code() {
    let help = run(&["--help"]).await;
    for code in ["1  another failure", "2  wrong", "3  the master", "4  not allowed", "5  no such"] {
        assert!(help.stdout.contains(code), "{}", help.stdout);
    }
    assert_fails(&run(&["nodes", "--colour"]).await, 2, &["--colour"]);
    assert_fails(&run(&["cancel", "12"]).await, 2, &["`12` is not a call id: one looks like `91c2a7-12`"]);
    assert_fails(&run(&["nodes", "--master", "nowhere"]).await, 2, &["host:port"]);
    assert_fails(&run(&["nodes", "--master", "192.0.2.1:3000"]).await, 2, &["not on loopback", "--token-file"]);
    assert_fails(&run(&["nodes", "--token-file", "/nonexistent/token"]).await, 2, &["/nonexistent/token"]);
    assert_fails(&run(&["master", "--heartbeat", "soon"]).await, 2, &["5s"]);
    let ended = run(&["master", "--listen", "0.0.0.0:0", "--log", "off"]).await;
    assert_fails(&ended, 2, &["can be reached from other machines", "--token-file"]);

    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let addr = free.local_addr().expect("has one").to_string();
    assert_fails(&run(&["master", "--listen", &addr, "--log", "off"]).await, 2, &["cannot listen on", "in use"]);
    let page = run(&["master", "--listen", "127.0.0.1:0", "--http", &addr, "--log", "off"]).await;
    assert_fails(&page, 2, &[&addr, "in use"]);
    drop(free);
    let ended = run(&["nodes", "--master", &addr, "--connect-timeout", "300ms"]).await;
    assert_fails(&ended, 3, &[&addr, "check the address"]);

    let (_folder, file) = folder();
    for access in [Access::Nodes, Access::Callers] {
        Token::issue(&file, access).expect("writes");
    }
    let master = RunningMaster::start(&["--token-file", &file]).await;
    let ended = master.run(&["nodes"]).await;
    assert_fails(
        &ended,
        4,
        &["requires a token or a certificate", "--token-file with a file that has a token for admins"],
    );
    let ended = master.run(&["nodes", "--token-file", &file]).await;
    assert_fails(&ended, 2, &["no token for admins"]);
    let elsewhere = folder();
    let other = Token::issue(&elsewhere.1, Access::Admins).expect("writes");
    let admin = Token::issue(&file, Access::Admins).expect("writes");
    assert_ne!(other.id(), admin.id());
    assert_eq!(master.printed(&["nodes", "--token-file", &file]).await, "no nodes are registered\n");
    Token::revoke(&file, &admin.id()).expect("writes");
    let mut revoked = command(&["nodes", "--master", &master.addr]);
    revoked.env("DISTRIBUTION_TOKEN", admin.expose());
    assert_fails(&output(revoked).await, 4, &["refused this caller"]);
    assert_fails(&master.run(&["kick", "n1", "--token-file", &file]).await, 2, &["no token for admins"]);
}

#[tokio::test]
async fn certificates_of_ones_own_are_given_by_their_files() {
    let authority = Authority::new("ours");
    let files = |holder: &str, purpose, names: &[&str]| {
        authority.issue(holder, purpose, names);
        let [authority, certificate, key] =
            [authority.file(), authority.path(holder, "pem"), authority.path(holder, "key")]
                .map(|file| file.display().to_string());
        ["--authority".to_owned(), authority, "--certificate".to_owned(), certificate, "--key".to_owned(), key]
    };
    let masters = files("master", Purpose::Server, &["localhost", "127.0.0.1"]);
    let options: Vec<_> =
        masters.iter().map(String::as_str).chain(["--admins", "ops.example", "--callers", "app.example"]).collect();
    let master = RunningMaster::start(&options).await;
    // The certificate is for this name, and not for the address.
    let addr = format!("localhost:{}", master.addr.rsplit_once(':').expect("an address").1);
    let run = async |files: &[String]| {
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        run(&[&["nodes", "--master", &addr], &files[..]].concat()).await
    };
    let ops = files("ops", Purpose::Client, &["ops.example"]);
    let ended = run(&ops).await;
    assert_eq!((ended.code, &*ended.stdout), (0, "no nodes are registered\n"), "{ended:?}");
    let named = [&ops[..], &["--peer-name".to_owned(), "elsewhere.example".to_owned()]].concat();
    assert_fails(&run(&named).await, 3, &["has not proven that it is"]);
    let app = run(&files("app", Purpose::Client, &["app.example"])).await;
    assert_fails(&app, 4, &["refused this caller"]);
    assert_fails(&run(&[]).await, 4, &["requires a token or a certificate", "--authority"]);
    assert_fails(&run(&ops[..2]).await, 2, &["--certificate", "--key"]);
    let mut by_environment = command(&["status", "--json", "--master", &addr]);
    for (name, file) in ["DISTRIBUTION_AUTHORITY", "DISTRIBUTION_CERTIFICATE", "DISTRIBUTION_KEY"].iter().zip([1, 3, 5])
    {
        by_environment.env(name, &ops[file]);
    }
    let status: Value = serde_json::from_str(&output(by_environment).await.stdout).expect("is JSON");
    assert_eq!(status["master"]["security"], "certificates");
}

#[tokio::test]
async fn nobody_administers_an_open_master_that_other_machines_reach() {
    let mut process = Process::start(Path::new(PROGRAM), &["master", "--listen", "0.0.0.0:0", "--insecure"]);
    let line = process.line_with("listening on ").await;
    let port = line.rsplit_once(':').expect("an address").1;
    let ended = run(&["nodes", "--master", &format!("127.0.0.1:{port}")]).await;
    assert_fails(&ended, 4, &["listens beyond loopback", "token file"]);
}

#[tokio::test]
async fn tokens_are_issued_listed_and_revoked() {
    let (_folder, file) = folder();
    let issue = async |role: &str| {
        let ended = run(&["token", "issue", "--token-file", &file, "--for", role]).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stdout.trim().parse::<Token>().expect("is a token")
    };
    let (nodes, admins) = (issue("nodes").await, issue("admins").await);
    let again = run(&["token", "issue", "--token-file", &file, "--for", "viewers"]).await;
    assert_eq!(again.stderr, "");
    let mistyped = format!("{file}s");
    let elsewhere = run(&["token", "issue", "--token-file", &mistyped, "--for", "nodes"]).await;
    assert!(elsewhere.stderr.contains(&format!("made a new token file, {mistyped};")), "{elsewhere:?}");
    assert_eq!((nodes.access(), admins.access()), (Access::Nodes, Access::Admins));
    let named = run(&["token", "issue", "--token-file", &file, "--for", "nodes", "--node", "n1", "--json"]).await;
    let named: Value = serde_json::from_str(&named.stdout).expect("is JSON");
    assert_eq!((&named["for"], &named["node"]), (&"node".into(), &"n1".into()));
    let wrong = run(&["token", "issue", "--token-file", &file, "--for", "admins", "--node", "n1"]).await;
    assert_fails(&wrong, 2, &["--for nodes"]);

    let listed = run(&["token", "list", "--token-file", &file]).await.stdout;
    assert!(!listed.contains("dtok1_"), "no secrets: {listed}");
    assert_eq!(row(&listed), [named["id"].as_str().expect("an id"), "nodes", "n1", "-"]);
    assert_eq!(listed.lines().count(), 5, "{listed}");

    let mut master = RunningMaster::start(&["--token-file", &file]).await;
    let node_line = master.process.line().await.expect("says what a node needs");
    let needed = format!("the address {}, and DISTRIBUTION_TOKEN_FILE={file} ", master.addr);
    assert!(node_line.starts_with(&format!("a node needs: {needed}")), "{node_line}");
    let caller_line = master.process.line().await.expect("says what a caller needs");
    assert!(caller_line.contains("token issue") && caller_line.ends_with("--for callers"), "{caller_line}");
    let node = node("n2").token(nodes.expose()).spawn(&master.addr).await.expect("registers");
    let revoked = run(&["token", "revoke", "--token-file", &file, &nodes.id()]).await;
    assert_eq!(revoked.stdout, format!("revoked {} (for nodes)\n", nodes.id()), "{revoked:?}");
    soon("the node", node.wait()).await.expect_err("its token is not valid any more");
    let unknown = run(&["token", "revoke", "--token-file", &file, &nodes.id()]).await;
    assert_fails(&unknown, 5, &["`distribution token list`"]);
    assert_eq!(master.printed(&["nodes", "--token-file", &file]).await, "no nodes are registered\n");

    let other = issue("nodes").await;
    let _late = self::node("n3").token(other.expose()).spawn(&master.addr).await.expect("registers");
    let listed = master.printed(&["nodes", "--token-file", &file]).await;
    assert!(listed.contains(&format!("token {}", other.id())), "{listed}");
    let listed = master.printed(&["callers", "--token-file", &file]).await;
    assert_eq!(row(&listed)[2], "admin", "the command itself: {listed}");
    assert!(listed.contains(&format!("token {}", admins.id())), "{listed}");
}

#[tokio::test]
async fn a_token_for_callers_is_issued_with_rights() {
    let (_folder, file) = folder();
    let issue = async |more: &[&str]| {
        run(&[&["token", "issue", "--json", "--token-file", &file, "--for"], more].concat()).await
    };
    let restricted = issue(&[
        "callers",
        "--service",
        "Arith,Probe.add",
        "--deny",
        "on",
        "--max-connections",
        "3",
        "--max-calls",
        "10",
        "--max-bytes",
        "1MiB",
        "--max-timeout",
        "2m",
    ]);
    let token: Value = serde_json::from_str(&restricted.await.stdout).expect("is JSON");
    let rights = "services=Arith,Probe.add deny=on max_connections=3 max_calls=10 max_bytes=1048576 max_timeout=120s";
    assert_eq!(token["rights"], rights);
    let all: Value = serde_json::from_str(&issue(&["callers"]).await.stdout).expect("is JSON");
    assert_eq!(all["rights"], "");
    let listed = run(&["token", "list", "--token-file", &file]).await.stdout;
    assert!(listed.contains(rights), "{listed}");
    assert_eq!(row(&listed), [all["id"].as_str().expect("an id"), "callers", "-", "all"]);
    assert_fails(&issue(&["nodes", "--max-calls", "1"]).await, 2, &["--for callers"]);
    assert_fails(&issue(&["callers", "--max-calls", "0"]).await, 2, &["`max_calls` cannot be 0", "at least 1"]);
    let misread = run(&["master", "--caller-rights", "web calls=1"]).await;
    assert_fails(&misread, 2, &["`calls` is unknown", "max_calls="]);
}

#[tokio::test]
async fn a_watched_list_is_printed_again_and_again() {
    let master = RunningMaster::start(&[]).await;
    let arguments = ["nodes", "--json", "--watch=100ms", "--master", &master.addr];
    let mut watching = Process::start(Path::new(PROGRAM), &arguments);
    assert_eq!(watching.line().await.as_deref(), Some("[]"));
    let _node = master.node("n1").await;
    watching.line_with(r#""name":"n1""#).await;
    watching.signal("INT").await;
    assert!(watching.ended().await.success());
}

#[tokio::test]
async fn runs_are_listed_by_their_names() {
    let master = RunningMaster::start(&[]).await;
    assert_eq!(master.printed(&["runs"]).await, "no runs of many calls with a name are known\n");
    let _node = master.node("n1").await;
    let cluster = Cluster::builder().name("batch-job").connect(&master.addr).await.expect("connects");
    let probe = ProbeClient::new(&cluster);
    let sums = (0..100).map(|number| probe.add(number, 1)).distribute().name("sweep");
    let sums: Vec<i64> = soon("the run", sums.try_collect()).await.expect("adds");
    assert_eq!(sums.len(), 100);
    let told = async {
        // Its last report is on the way.
        while master.json(&["runs"]).await[0]["status"] != "finished" {}
    };
    soon("its end is told", told).await;
    let table = master.printed(&["runs"]).await;
    assert_eq!(row(&table)[..5], ["sweep", "batch-job", "finished", "100 of 100", "0"], "{table}");
}

#[tokio::test]
async fn top_is_printed_once_where_there_is_no_terminal() {
    let master = RunningMaster::start(&[]).await;
    let node = master.node("n1").await;
    let text = master.printed(&["top", "--once", "--interval", "100ms"]).await;
    assert!(text.starts_with(&format!("master {}, version ", master.addr)), "{text}");
    for part in ["0 calls/s, 0 waiting, 0 running", "1 node, 1 slot", &node.id().to_string(), "no calls wait or run"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    assert_fails(&master.run(&["top"]).await, 2, &["needs a terminal", "--once"]);
    drop(node);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let addr = free.local_addr().expect("has one").to_string();
    drop(free);
    let ended = run(&["top", "--once", "--master", &addr, "--connect-timeout", "300ms"]).await;
    assert_fails(&ended, 3, &[&addr]);
}

#[tokio::test]
async fn events_are_followed_one_on_each_line() {
    let master = RunningMaster::start(&[]).await;
    let first = master.node("n1").await;
    let mut people = Process::start(Path::new(PROGRAM), &["events", "--master", &master.addr]);
    let mut scripts = Process::start(Path::new(PROGRAM), &["events", "--json", "--master", &master.addr]);
    let line = people.line().await.expect("the nodes that are there");
    let (time, text) = line.split_once("  ").expect("a time, and a text");
    assert!(time.ends_with('Z') && time.contains("-") && time.contains(":"), "{line}");
    let expected = format!("node n1 ({} from ", first.id());
    assert!(text.starts_with(&expected) && text.ends_with("is alive"), "{line}");
    let json = |line: Option<String>| serde_json::from_str::<Value>(&line.expect("goes on")).expect("is JSON");
    let line = json(scripts.line().await);
    assert_eq!(line["event"]["present"]["node"]["name"], "n1");
    assert!(line["at"].as_f64().is_some_and(|at| at > 1e9), "{line}");

    master.printed(&["cordon", "n1"]).await;
    assert!(
        people
            .line()
            .await
            .expect("goes on")
            .ends_with("is cordoned: it gets no new calls and keeps those that it has")
    );
    assert_eq!(json(scripts.line().await)["event"]["cordoned"]["node"]["name"], "n1");
    master.printed(&["drain", "n1"]).await;
    soon("the node", first.wait()).await.expect("ends in order");
    people.line_with("is gone: it said goodbye").await;
    // Who comes later sees what has happened.
    let past = master.printed(&["events", "--past", "3", "--once"]).await;
    let past: Vec<&str> = past.lines().collect();
    assert!(past.len() == 3 && past[0].contains("is cordoned") && past[2].contains("is gone"), "{past:?}");
    let mut late = Process::start(Path::new(PROGRAM), &["events", "-n", "1", "--master", &master.addr]);
    assert!(late.line().await.expect("the last event").contains("is gone"));
    let _second = master.node("n2").await;
    late.line_with("node n2 ").await;
    while json(scripts.line().await)["event"]["gone"]["reason"] != "left" {}
    for mut following in [people, scripts] {
        following.signal("INT").await;
        assert!(following.ended().await.success());
    }
}

#[tokio::test]
async fn what_nodes_have_logged_is_printed_and_followed() {
    let master = RunningMaster::start(&[]).await;
    assert_eq!(master.printed(&["logs"]).await, "");
    let node = master.node("n1").await;
    let mut people = Process::start(Path::new(PROGRAM), &["logs", "-f", "--master", &master.addr]);
    let mut scripts = Process::start(Path::new(PROGRAM), &["logs", "--follow", "--json", "--master", &master.addr]);
    let cluster = Cluster::connect(&master.addr).await.expect("connects");
    let call = ProbeClient::new(&cluster).panic("oh\u{1b}[2J".to_owned()).send();
    let id = call.id().expect("is sent").to_string();
    assert!(soon("the call", call).await.is_err());
    let line = people.line().await.expect("goes on");
    let (time, text) = line.split_once("  ").expect("a time, and a text");
    assert!(time.ends_with('Z') && time.contains('.'), "{line}");
    let begins = format!("error n1 Probe.panic {id}: the handler panicked: oh\\u{{1b}}[2J at=");
    assert!(text.starts_with(&begins), "{line}");
    let frame = people.line().await.expect("a backtrace");
    assert!(frame.starts_with("    "), "{frame}");
    let record: Value = serde_json::from_str(&scripts.line().await.expect("goes on")).expect("is JSON");
    assert_eq!((&record["level"], &record["node"]["name"]), (&Value::from("error"), &Value::from("n1")));
    assert_eq!((&record["call"], &record["attempt"]), (&Value::from(&*id), &Value::from(1)));
    for mut following in [people, scripts] {
        following.signal("INT").await;
        assert!(following.ended().await.success());
    }
    // The node may be gone.
    soon("the node", node.drain()).await;
    for some in
        [["--node", "n1"], ["--method", "Probe"], ["--call", &id], ["--level", "error"], ["--since", "1h"], ["-n", "1"]]
    {
        let printed = master.printed(&[&["logs"][..], &some].concat()).await;
        assert!(printed.contains("the handler panicked"), "{some:?}: {printed}");
    }
    for none in [["--method", "Probe.add"], ["--contains", "ah"], ["--since", "0ms"], ["-n", "0"]] {
        assert_eq!(master.printed(&[&["logs"][..], &none].concat()).await, "", "{none:?}");
    }
    let unknown = master.run(&["logs", "--node", "n2"]).await;
    assert_fails(&unknown, 5, &["no node n2 is registered", "no record of one", "`distribution nodes`"]);
    let mut early = Process::start(Path::new(PROGRAM), &["logs", "-f", "--node", "n2", "--master", &master.addr]);
    early.log_with("there is no node n2").await;
    let quiet = master.node("n3").await;
    assert_eq!(master.printed(&["logs", "--node", "n3"]).await, "", "it has logged nothing");
    drop(quiet);
    assert_fails(&master.run(&["logs", "--call", "x"]).await, 2, &["`x` is not a call id"]);
    assert_fails(&run(&["logs", "--master", "127.0.0.1:1", "--connect-timeout", "1s"]).await, 3, &["127.0.0.1:1"]);
}

#[tokio::test]
async fn those_that_follow_events_go_on_at_a_master_that_was_started_again() {
    let mut master = RunningMaster::start(&[]).await;
    let arguments = ["events", "--connect-timeout", "1h", "--master", &master.addr];
    let mut following = Process::start(Path::new(PROGRAM), &arguments);
    let _node = master.node("n1").await;
    following.line_with("node n1 (").await;
    master.process.kill().await;
    let _again = Process::start(Path::new(PROGRAM), &["master", "--listen", &master.addr]);
    following.line_with("the master was started again").await;
}

#[tokio::test]
async fn colours_are_for_terminals_unless_the_user_says_otherwise() {
    let master = RunningMaster::start(&[]).await;
    let _node = master.node("n1").await;
    let is_coloured = |text: &str| text.contains('\u{1b}');
    assert!(!is_coloured(&master.printed(&["nodes"]).await), "a pipe is not a terminal");
    let mut always = command(&["nodes", "--color", "always", "--master", &master.addr]);
    always.env("NO_COLOR", "1");
    let table = output(always).await.stdout;
    assert!(is_coloured(&table) && table.contains("alive"), "the option is stronger than the variable: {table:?}");
    assert!(!is_coloured(&master.printed(&["--color", "never", "nodes"]).await));
    let json = master.printed(&["nodes", "--json", "--color=always"]).await;
    assert!(!is_coloured(&json), "{json}");
    assert_fails(&master.run(&["nodes", "--color", "sometimes"]).await, 2, &["auto", "always", "never"]);
}

#[tokio::test]
async fn every_setting_of_a_master_is_an_option_and_an_environment_variable() {
    let help = run(&["master", "--help"]).await.stdout;
    let builder = text(&workspace().join("distribution/src/master/builder.rs"));
    // A setter takes the builder and returns it; its arguments may be on lines of their own.
    let setters: Vec<_> = builder
        .split("\n    pub fn ")
        .skip(1)
        .filter_map(|function| function.split_once(" {\n"))
        .filter(|(signature, _)| signature.ends_with("-> Self") && signature.contains("self"))
        .filter_map(|(signature, _)| signature.split(['(', '<']).next())
        .collect();
    for known in ["certificates", "restrict_label", "seed", "heartbeat", "insecure"] {
        assert!(setters.contains(&known), "{known} is not among {setters:?}");
    }
    assert!(setters.len() >= 30, "{setters:?}");
    // As whole words: the name of one setting may begin that of another.
    let words: Vec<_> = help.split_whitespace().collect();
    let has_variable = |name: &str| {
        help.contains(&format!("[env: DISTRIBUTION_{name}=")) || help.contains(&format!("[env: DISTRIBUTION_{name}]"))
    };
    for setter in setters {
        // Certificates are several files.
        let options = if setter == "certificates" {
            vec!["authority", "certificate", "key", "peer_name", "callers", "admins"]
        } else {
            vec![setter]
        };
        for option in options {
            assert!(words.contains(&&*format!("--{}", option.replace('_', "-"))), "no option for `{option}`");
            assert!(has_variable(&option.to_uppercase()), "no variable for `{option}`");
        }
    }
    let mut master = command(&["master", "--listen", "127.0.0.1:0", "--log", "off"]);
    master.env("DISTRIBUTION_MAX_NODES", "0");
    assert_fails(&output(master).await, 2, &["`max_nodes` cannot be 0"]);
}

#[tokio::test]
async fn options_reach_the_master() {
    let master = RunningMaster::start(&["--max-slots-per-node", "2", "--no-node-timeout", "0s"]).await;
    let error = node("n1").slots(3).spawn(&master.addr).await.expect_err("has too many slots").to_string();
    assert!(error.contains("`max_slots_per_node` allows 2"), "{error}");
    let cluster = Cluster::connect(&master.addr).await.expect("connects");
    let call = ProbeClient::new(&cluster).add(1, 2);
    let ended = tokio::time::timeout(Duration::from_secs(4), call).await.expect("it does not wait the default 5 s");
    assert!(ended.is_err());
}

#[tokio::test]
async fn shells_get_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).await.stdout;
        assert!(script.contains("uncordon") && script.contains("token-file"), "{shell}");
    }
    assert_fails(&run(&["completions", "tcsh"]).await, 2, &["bash"]);
}

/// Status and body of a request, as curl would make it.
async fn http(addr: &str, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut stream = tokio::net::TcpStream::connect(addr).await.expect("connects");
    stream.write_all(format!("{request}Host: {addr}\r\nConnection: close\r\n\r\n").as_bytes()).await.expect("is sent");
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.expect("comes");
    answer
}

#[tokio::test]
async fn a_master_serves_its_page_and_demands_tokens_where_the_wire_does() {
    let mut open = RunningMaster::start(&["--http", "127.0.0.1:0"]).await;
    let line = open.process.line_with("the page: http://").await;
    let addr = line["the page: http://".len()..].trim_end_matches('/').to_owned();
    assert!(http(&addr, "GET /api/nodes HTTP/1.1\r\n").await.starts_with("HTTP/1.1 200"));

    let (_folder, file) = folder();
    let mut secure = RunningMaster::start(&["--http", "127.0.0.1:0", "--token-file", &file]).await;
    let line = secure.process.line_with("the page: http://").await;
    let addr = line["the page: http://".len()..].trim_end_matches('/').to_owned();
    assert!(http(&addr, "GET / HTTP/1.1\r\n").await.starts_with("HTTP/1.1 200"));
    assert!(http(&addr, "GET /api/nodes HTTP/1.1\r\n").await.starts_with("HTTP/1.1 401"));
    let token = run(&["token", "issue", "--token-file", &file, "--for", "viewers"]).await.stdout;
    let with_token = format!("GET /api/me HTTP/1.1\r\nAuthorization: Bearer {}\r\n", token.trim());
    let answer = http(&addr, &with_token).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""role":"viewer""#), "{answer}");

    // Beyond loopback it does not start without TLS and tokens.
    let ended = run(&["master", "--listen", "127.0.0.1:0", "--http", "0.0.0.0:0"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("without TLS and a token"), "{ended:?}");
    // A place that is taken stops a master only if somebody has asked for it.
    let ended = run(&["master", "--listen", "127.0.0.1:0", "--http", &addr]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
}

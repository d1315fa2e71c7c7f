//! The program in a real terminal, driven by keys and read back from the screen.

mod tmux;

use std::path::Path;

use distribution::{Cluster, Node};
use distribution_tests::{ProbeClient, ProbeServer, Prober, meeting::Meeting, process::Process, soon};
use tmux::Terminal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_distribution");

async fn master(listen: &str) -> (Process, String) {
    let mut process = Process::start(Path::new(PROGRAM), &["master", "--listen", listen]);
    let line = process.line_with("listening on ").await;
    let addr = line["listening on ".len()..].to_owned();
    (process, addr)
}

async fn node(name: &str, addr: &str) -> Node {
    let node = Node::builder().serve(ProbeServer::new(Prober)).slots(1).name(name).spawn(addr).await;
    node.expect("registers")
}

/// No line is wider than this.
fn assert_fits(screen: &str, columns: usize) {
    for line in screen.lines() {
        assert!(line.chars().count() <= columns, "{screen}");
    }
}

#[tokio::test]
async fn top_shows_a_cluster_and_acts_on_it_by_keys() {
    if !tmux::is_there() {
        return;
    }
    let (mut process, addr) = master("127.0.0.1:0").await;
    let node = node("worker-1", &addr).await;
    let cluster = Cluster::builder().name("batch-job").connect(&addr).await.expect("connects");
    let mut meeting = Meeting::new().await;
    let probe = ProbeClient::new(&cluster);
    let running = probe.hold(meeting.addr(), "running".to_owned()).send();
    let guest = meeting.guest("running").await;
    let waiting = probe.add(1, 2).send();
    let id = waiting.id().expect("was submitted").to_string();

    let command = format!("{PROGRAM} top --interval 100ms --connect-timeout 1h --master {addr}");
    let terminal = Terminal::open(120, 30, &command).await;
    terminal.shows_all(&[&format!("master {addr}"), "worker-1", "alive", "1 waiting", "1 running"]).await;
    terminal.press(&["2"]).await;
    let screen = terminal.shows_all(&["runs on worker-1", &id, "the only node that may run it is busy"]).await;
    assert!(screen.find("runs on") < screen.find("is busy"), "the oldest is first:\n{screen}");

    terminal.press(&["Down", "c"]).await;
    terminal.shows_all(&[&format!("cancel call {id} of Probe.add? (y/n)")]).await;
    terminal.press(&["y"]).await;
    let error = soon("the call", waiting).await.expect_err("is cancelled").to_string();
    assert!(error.contains("was cancelled by an administrator"), "{error}");
    terminal.shows_all(&[&format!("done: cancel call {id}"), "0 waiting"]).await;

    terminal.resize(40, 15).await;
    let screen =
        terminal.shows("fewer columns", |screen| screen.contains("METHOD") && !screen.contains("CALLER")).await;
    assert_fits(&screen, 40);
    terminal.press(&["/", "nothing", "Enter"]).await;
    terminal.shows_all(&["no line has this text"]).await;
    terminal.press(&["Escape"]).await;
    terminal.shows_all(&["runs on"]).await;
    terminal.resize(120, 30).await;

    terminal.press(&["BTab", "o"]).await;
    terminal.shows_all(&["cordon worker-1 ("]).await;
    terminal.press(&["y"]).await;
    terminal.shows_all(&["cordoned"]).await;
    guest.release().await;
    soon("the call", running).await.expect("answers");
    terminal.press(&["d"]).await;
    terminal.shows_all(&["drain worker-1 ("]).await;
    terminal.press(&["y"]).await;
    soon("the node", node.wait()).await.expect("ends in order");
    terminal.shows_all(&["no nodes are registered"]).await;

    process.kill().await;
    terminal.shows_all(&["NO ANSWER for "]).await;
    let _again = master(&addr).await;
    let _node = self::node("worker-2", &addr).await;
    terminal.shows_all(&[&format!("master {addr}"), "worker-2"]).await;
    terminal.press(&["?"]).await;
    terminal.shows_all(&["cordon the selected node, or uncordon it"]).await;
    terminal.press(&["x", "q"]).await;
    let screen = terminal.shows_all(&["ended with 0"]).await;
    assert!(!screen.contains("worker-2"), "the screen of the shell is back:\n{screen}");
}

#[tokio::test]
async fn top_gives_the_terminal_back_when_it_is_told_to_end() {
    if !tmux::is_there() {
        return;
    }
    let (_process, addr) = master("127.0.0.1:0").await;
    for keys in ["C-c", "q", "Escape"] {
        let terminal = Terminal::open(80, 24, &format!("{PROGRAM} top --master {addr}")).await;
        terminal.shows_all(&["no nodes are registered"]).await;
        terminal.press(&[keys]).await;
        let screen = terminal.shows_all(&["ended with 0"]).await;
        assert!(!screen.contains("no nodes"), "{screen}");
        // The terminal shows what is typed again, and breaks lines at its end.
        terminal.press(&["typed", "Enter"]).await;
        terminal
            .shows("what is typed, and what `cat` says to it", |screen| screen.matches("typed\n").count() == 2)
            .await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("process");
    // The shell becomes the program, and keeps its number.
    let command = format!("sh -c 'echo $$ > {}; exec {PROGRAM} top --master {addr}'", file.display());
    let terminal = Terminal::open(80, 24, &command).await;
    terminal.shows_all(&["no nodes are registered"]).await;
    let process = std::fs::read_to_string(&file).expect("is written");
    let killed = tokio::process::Command::new("kill").arg("-TERM").arg(process.trim()).status().await;
    assert!(killed.is_ok_and(|killed| killed.success()));
    let screen = terminal.shows_all(&["ended with 0"]).await;
    assert!(!screen.contains("no nodes"), "{screen}");
}

#[tokio::test]
async fn watched_lists_fit_into_their_terminal() {
    if !tmux::is_there() {
        return;
    }
    let (_process, addr) = master("127.0.0.1:0").await;
    let _nodes = [node("worker-1", &addr).await, node("a-node-with-a-longer-name-17", &addr).await];
    let cluster = Cluster::builder().name("batch-job").connect(&addr).await.expect("connects");
    let mut meeting = Meeting::new().await;
    let probe = ProbeClient::new(&cluster);
    let _running = [(); 2].map(|()| probe.hold(meeting.addr(), "running".to_owned()).send());
    let _guests = [meeting.guest("running").await, meeting.guest("running").await];
    let _waiting = probe.add(1, 2).send();
    let watch = |list: &str| format!("{PROGRAM} {list} --watch=100ms --master {addr}");

    // Each has this in all widths, and that only where there is room.
    for (list, always, wide) in [
        ("nodes", ["NAME", "a-node-with-a-longer-name-17", "alive"], "SHARE"),
        ("calls", ["Probe.hold", "STATUS", "runs on"], "SIZE"),
        ("callers", ["batch-job", "connected", "STATE"], "CREDENTIAL"),
    ] {
        let terminal = Terminal::open(120, 30, &watch(list)).await;
        terminal.shows_all(&[&always[..], &[wide]].concat()).await;
        assert!(!terminal.has_broken_lines().await, "{list} in 120 columns:\n{}", terminal.screen().await);
        let narrow = Terminal::open(60, 30, &watch(list)).await;
        let screen = narrow.shows_all(&[&always[..], &["too narrow for: "]].concat()).await;
        let heading = screen.lines().next().unwrap_or_default();
        assert!(!heading.contains(wide) && screen.contains(wide), "{screen}");
        assert!(!narrow.has_broken_lines().await, "{list} in 60 columns:\n{}", narrow.screen().await);
        // It follows the size of its terminal.
        narrow.resize(120, 30).await;
        narrow.shows(wide, |screen| screen.lines().next().is_some_and(|heading| heading.contains(wide))).await;
        terminal.press(&["C-c"]).await;
        terminal.shows_all(&["ended with 0"]).await;
    }

    // A list that is longer than the terminal begins at its top.
    let terminal = Terminal::open(120, 10, &watch("methods")).await;
    let screen = terminal.shows_all(&["METHOD", "more lines; without --watch all are printed"]).await;
    assert!(screen.starts_with("METHOD"), "{screen}");
}

//! The README's two commands for two machines, run as they stand there, each in a network namespace of its own.

use std::path::Path;

use distribution_instruments::network::Network;
use distribution_tests::{
    process::{Process, example},
    soon,
};

/// The commands, as people would copy them.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).expect("reads");
    let section = readme.split("\n## Over machines\n").nth(1).expect("has this section");
    let block =
        section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("has a block of commands");
    block.lines().map(str::to_owned).collect()
}

/// Types a command in a folder on a machine.
fn type_in(machine: &str, folder: &Path, command: &str) -> Process {
    let programs = example("arith");
    let programs = programs.parent().expect("a folder").display();
    let typed = format!("cd {}; PATH={programs}:$PATH; {command}", folder.display());
    Process::start(Path::new("ip"), &["netns", "exec", machine, "bash", "-c", &typed])
}

#[tokio::test]
async fn two_machines_take_two_commands() {
    let Some(network) = Network::for_test(1).await else { return };
    let [one, other] = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let address = network.master_addr(0, 3000);
    let commands = commands();
    let [first, second] = &commands[..] else { panic!("two commands, not {commands:?}") };
    let mut master = type_in(&network.master(), one.path(), &first.replace("10.0.0.1:3000", &address));
    let printed = master.log_with("DISTRIBUTION_TOKEN=").await;
    assert!(printed.starts_with("DISTRIBUTION_TOKEN=dtok1_node_"), "a line of its own: {printed}");
    let second = second.replace("DISTRIBUTION_TOKEN=dtok1_node_…", &printed).replace("10.0.0.1:3000", &address);
    let mut node = type_in(&network.node(0), other.path(), &second);
    node.log_with("registered").await;
    let ask =
        "exec 3<>/dev/tcp/127.0.0.1/3001; printf 'GET /sum HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3; cat <&3";
    let mut asked = type_in(&network.master(), one.path(), ask);
    asked.line_with("Reply from node").await;
    // Without the token, nobody gets in; nor does a master without one start.
    let bare = second.split_once(' ').expect("the token comes first").1;
    let mut tokenless = type_in(&network.node(0), other.path(), bare);
    tokenless.log_with("without security").await;
    assert!(!soon("the node without a token", tokenless.ended()).await.success());
    let open = first.replace("10.0.0.1:3000", &network.master_addr(0, 3009)).replace("--token-file cluster.token", "");
    let mut open = type_in(&network.master(), one.path(), &open);
    open.log_with("There are three ways to go on").await;
    open.log_with("Here these are --token-file").await;
    assert!(!soon("the open master", open.ended()).await.success());
    node.signal("TERM").await;
    assert!(soon("the node", node.ended()).await.success());
    master.signal("TERM").await;
    assert!(soon("the master", master.ended()).await.success());
    let token = std::fs::read_to_string(one.path().join("cluster.token")).expect("is there");
    assert!(token.contains(printed.trim_start_matches("DISTRIBUTION_TOKEN=")), "{token}");
}
